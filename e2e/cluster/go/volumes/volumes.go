// Package volumes makes persistent volumes for the test cluster: a folder on the node for each claim of the
// storage class that names it as provisioner, and its removal when the claim is gone and the class says so.
package volumes

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// provisioner is what a storage class names to get its volumes from here.
const (
	provisioner    = "smallest.test/node-folder"
	requestTimeout = 10 * time.Second
)

type maker struct {
	client  kubernetes.Interface
	dir     string
	claims  cache.Indexer
	volumes cache.Indexer
	classes cache.Indexer
}

// key names one object of one kind in the work queue.
type key struct {
	claim bool
	name  string
}

// Main works until it is killed.
func Main() int {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the apiserver")
	dir := flag.String("dir", "", "where the folders are made")
	flag.Parse()
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		log.Printf("failed to read %s: %v", *kubeconfig, err)
		return 1
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Printf("failed to make a client: %v", err)
		return 1
	}
	run(client, *dir)
	return 0
}

func run(client kubernetes.Interface, dir string) {
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims().Informer()
	volumes := factory.Core().V1().PersistentVolumes().Informer()
	classes := factory.Storage().V1().StorageClasses().Informer()
	m := &maker{client, dir, claims.GetIndexer(), volumes.GetIndexer(), classes.GetIndexer()}

	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[key]())
	watch := func(informer cache.SharedIndexInformer, claim bool) {
		push := func(object any) {
			if name, err := cache.MetaNamespaceKeyFunc(object); err == nil {
				queue.Add(key{claim, name})
			}
		}
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: push, UpdateFunc: func(_, object any) { push(object) },
		})
		if err != nil {
			log.Printf("failed to watch: %v", err)
		}
	}
	watch(claims, true)
	watch(volumes, false)
	factory.Start(context.Background().Done())
	factory.WaitForCacheSync(context.Background().Done())

	for {
		item, _ := queue.Get()
		if err := m.sync(item); err != nil {
			log.Printf("%s: %v; it is tried again", item.name, err)
			queue.AddRateLimited(item)
		} else {
			queue.Forget(item)
		}
		queue.Done(item)
	}
}

func (m *maker) sync(item key) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	indexer := m.volumes
	if item.claim {
		indexer = m.claims
	}
	switch object, exists, err := indexer.GetByKey(item.name); {
	case err != nil || !exists:
		return err
	case item.claim:
		return m.provide(ctx, object.(*core.PersistentVolumeClaim))
	default:
		return m.reclaim(ctx, object.(*core.PersistentVolume))
	}
}

// provide makes the volume of a claim that waits for one of our class.
func (m *maker) provide(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Spec.StorageClassName == nil || claim.Spec.VolumeName != "" || claim.DeletionTimestamp != nil {
		return nil
	}
	object, exists, err := m.classes.GetByKey(*claim.Spec.StorageClassName)
	if err != nil || !exists {
		return err
	}
	class := object.(*storage.StorageClass)
	if class.Provisioner != provisioner {
		return nil
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(m.dir, name)
	// Any user: folders on the node get no group of the pod's, and pods here run as whom they like.
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	_, err = m.client.CoreV1().PersistentVolumes().Create(ctx, volume(name, path, claim, class), meta.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	log.Printf("%s for %s/%s: %v", path, claim.Namespace, claim.Name, err)
	return err
}

func volume(name, path string, claim *core.PersistentVolumeClaim, class *storage.StorageClass) *core.PersistentVolume {
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	return &core.PersistentVolume{
		// The annotation keeps the controller manager from deleting the volume itself.
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}},
		Spec: core.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			StorageClassName:              class.Name,
			PersistentVolumeReclaimPolicy: policy,
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: types.UID(claim.UID),
			},
			PersistentVolumeSource: core.PersistentVolumeSource{HostPath: &core.HostPathVolumeSource{Path: path}},
		},
	}
}

// reclaim removes a volume of ours whose claim is gone, when its class asked for that.
func (m *maker) reclaim(ctx context.Context, volume *core.PersistentVolume) error {
	ours := volume.Annotations["pv.kubernetes.io/provisioned-by"] == provisioner && volume.Spec.HostPath != nil
	unused := volume.Status.Phase == core.VolumeReleased && volume.Spec.PersistentVolumeReclaimPolicy == core.PersistentVolumeReclaimDelete
	if !ours || !unused {
		return nil
	}
	// The path was made here from a name made here; anything else is not removed.
	path := filepath.Join(m.dir, volume.Name)
	if volume.Spec.HostPath.Path != path {
		return fmt.Errorf("%s is not %s: left alone", volume.Spec.HostPath.Path, path)
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	err := m.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
