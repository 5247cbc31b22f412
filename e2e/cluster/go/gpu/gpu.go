// Package gpu is a device plugin without devices: it tells the kubelet that the node has some
// `nvidia.com/gpu`, so that scheduling by GPU can be tested where there is none. A container that gets one
// finds its ids in NVIDIA_VISIBLE_DEVICES, as with NVIDIA's own plugin.
package gpu

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	socketName      = "fake-gpu.sock"
	registerTimeout = 5 * time.Second
)

type plugin struct {
	api.UnimplementedDevicePluginServer
	devices []*api.Device
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

// ListAndWatch reports the devices once: they never change.
func (p *plugin) ListAndWatch(_ *api.Empty, stream api.DevicePlugin_ListAndWatchServer) error {
	if err := stream.Send(&api.ListAndWatchResponse{Devices: p.devices}); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func (p *plugin) Allocate(_ context.Context, request *api.AllocateRequest) (*api.AllocateResponse, error) {
	response := &api.AllocateResponse{}
	for _, container := range request.ContainerRequests {
		ids := strings.Join(container.DevicesIds, ",")
		log.Printf("allocated %s", ids)
		response.ContainerResponses = append(response.ContainerResponses,
			&api.ContainerAllocateResponse{Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": ids}})
	}
	return response, nil
}

// Main serves until it is killed; a kubelet that starts anew empties its folder and is registered with again.
func Main() int {
	count := flag.Int("count", 2, "how many GPUs the node has")
	resource := flag.String("resource", "nvidia.com/gpu", "the resource's name")
	dir := flag.String("dir", api.DevicePluginPath, "the kubelet's folder for device plugins")
	flag.Parse()
	devices := make([]*api.Device, *count)
	for i := range devices {
		devices[i] = &api.Device{ID: fmt.Sprintf("GPU-fake-%d", i), Health: api.Healthy}
	}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		err = watcher.Add(*dir)
	}
	if err != nil {
		log.Printf("failed to watch %s: %v", *dir, err)
		return 1
	}
	for {
		server, err := serve(*dir, &plugin{devices: devices})
		if err != nil {
			log.Printf("failed to serve: %v", err)
			return 1
		}
		if err := register(*dir, *resource); err != nil {
			log.Printf("not registered yet: %v", err)
		} else {
			log.Printf("registered %d %s", *count, *resource)
		}
		awaitKubelet(watcher)
		server.Stop()
	}
}

func serve(dir string, p *plugin) (*grpc.Server, error) {
	socket := filepath.Join(dir, socketName)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer()
	api.RegisterDevicePluginServer(server, p)
	go func() {
		if err := server.Serve(listener); err != nil {
			log.Printf("stopped serving: %v", err)
		}
	}()
	return server, nil
}

func register(dir, resource string) error {
	kubelet := filepath.Join(dir, filepath.Base(api.KubeletSocket))
	connection, err := grpc.NewClient("unix:"+kubelet, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), registerTimeout)
	defer cancel()
	_, err = api.NewRegistrationClient(connection).Register(ctx,
		&api.RegisterRequest{Version: api.Version, Endpoint: socketName, ResourceName: resource})
	return err
}

// awaitKubelet returns when the kubelet has made its socket anew, which is when it knows no plugins.
func awaitKubelet(watcher *fsnotify.Watcher) {
	for event := range watcher.Events {
		if event.Has(fsnotify.Create) && filepath.Base(event.Name) == filepath.Base(api.KubeletSocket) {
			return
		}
	}
}
