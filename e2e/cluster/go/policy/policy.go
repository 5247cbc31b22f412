// Package policy enforces NetworkPolicies on the test cluster's one node. Pods, namespaces and policies are
// watched; whenever what they say changes, one nftables table is replaced in one transaction.
//
// Frames between pods cross one bridge, so the rules see them only with net.bridge.bridge-nf-call-iptables=1.
// Service addresses are already pod addresses here: kube-proxy translates them before the forward hook.
// The kubelet's probes leave from the node itself, pass neither hook, and so always get through, as they must.
package policy

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"os/exec"
	"time"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// retryAfter is how long a table that nft refused stays as it was.
const retryAfter = time.Second

type enforcer struct {
	pods       corelisters.PodLister
	namespaces corelisters.NamespaceLister
	policies   networkinglisters.NetworkPolicyLister
	changed    chan struct{} // holds one element while the table may be out of date
}

// Main works until it is killed.
func Main() int {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the apiserver")
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
	if err := run(client); err != nil {
		log.Printf("failed to watch: %v", err)
	}
	return 1
}

func run(client kubernetes.Interface) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods()
	namespaces := factory.Core().V1().Namespaces()
	policies := factory.Networking().V1().NetworkPolicies()
	e := &enforcer{pods.Lister(), namespaces.Lister(), policies.Lister(), make(chan struct{}, 1)}
	for _, informer := range []cache.SharedIndexInformer{pods.Informer(), namespaces.Informer(), policies.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { e.mark() },
			UpdateFunc: func(_, _ any) { e.mark() },
			DeleteFunc: func(any) { e.mark() },
		})
		if err != nil {
			return err
		}
	}
	factory.Start(context.Background().Done())
	factory.WaitForCacheSync(context.Background().Done())

	applied := ""
	for range e.changed {
		table, err := e.table()
		if err == nil && table != applied {
			err = apply(table)
		}
		if err != nil {
			log.Printf("table not applied: %v", err)
			time.AfterFunc(retryAfter, e.mark)
			continue
		}
		applied = table
	}
	return nil
}

// mark asks for a look at the table; marks that come while one is pending are one.
func (e *enforcer) mark() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

func (e *enforcer) table() (string, error) {
	pods, err := e.pods.List(labels.Everything())
	if err != nil {
		return "", err
	}
	namespaces, err := e.namespaces.List(labels.Everything())
	if err != nil {
		return "", err
	}
	policies, err := e.policies.List(labels.Everything())
	if err != nil {
		return "", err
	}
	return Table(pods, namespaces, policies)
}

// Table renders the rules of all policies; equal input gives equal text.
func Table(pods []*core.Pod, namespaces []*core.Namespace, policies []*networking.NetworkPolicy) (string, error) {
	network := newNetwork(pods, namespaces)
	rules := newRules()
	for _, policy := range sorted(policies) {
		if err := network.add(rules, policy); err != nil {
			return "", fmt.Errorf("policy %s/%s: %w", policy.Namespace, policy.Name, err)
		}
	}
	return rules.render(), nil
}

func apply(table string) error {
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = bytes.NewBufferString(table)
	if output, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, output, table)
	}
	return nil
}
