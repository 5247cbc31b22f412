package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// network is who has which address, and what a policy can select by.
type network struct {
	pods       []*core.Pod // with an address of their own, sorted by it
	namespaces map[string]labels.Set
}

func newNetwork(pods []*core.Pod, namespaces []*core.Namespace) *network {
	n := &network{namespaces: map[string]labels.Set{}}
	for _, namespace := range namespaces {
		n.namespaces[namespace.Name] = namespace.Labels
	}
	for _, pod := range pods {
		// A pod that ended may have left its address to another one.
		ended := pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed
		if pod.Status.PodIP != "" && !pod.Spec.HostNetwork && !ended {
			n.pods = append(n.pods, pod)
		}
	}
	slices.SortFunc(n.pods, func(a, b *core.Pod) int { return cmp.Compare(a.Status.PodIP, b.Status.PodIP) })
	return n
}

func sorted(policies []*networking.NetworkPolicy) []*networking.NetworkPolicy {
	policies = slices.Clone(policies)
	slices.SortFunc(policies, func(a, b *networking.NetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return policies
}

// add writes what one policy allows its pods; in a direction that it names, all else is dropped.
func (n *network) add(rules *rules, policy *networking.NetworkPolicy) error {
	selected, err := n.selectPods(policy.Namespace, &policy.Spec.PodSelector, nil)
	if err != nil {
		return err
	}
	for _, direction := range policy.Spec.PolicyTypes { // the apiserver always fills them in
		for _, pod := range selected {
			chain := rules.chain(direction, pod.Status.PodIP)
			if direction == networking.PolicyTypeIngress {
				for _, rule := range policy.Spec.Ingress {
					err = cmp.Or(err, n.allow(chain, exchange{pod, policy.Namespace, rule.From, rule.Ports}))
				}
			} else {
				for _, rule := range policy.Spec.Egress {
					err = cmp.Or(err, n.allow(chain, exchange{pod, policy.Namespace, rule.To, rule.Ports}))
				}
			}
		}
	}
	return err
}

// exchange is one rule of a policy for one of its pods.
type exchange struct {
	pod       *core.Pod
	namespace string
	peers     []networking.NetworkPolicyPeer
	ports     []networking.NetworkPolicyPort
}

func (n *network) allow(chain *chain, e exchange) error {
	if len(e.peers) == 0 {
		return n.allowPorts(chain, e, "", n.pods)
	}
	for _, peer := range e.peers {
		if block := peer.IPBlock; block != nil {
			match := fmt.Sprintf("ip %s %s", chain.other, block.CIDR)
			if len(block.Except) > 0 {
				match += fmt.Sprintf(" ip %s != { %s }", chain.other, strings.Join(block.Except, ", "))
			}
			if err := n.allowPorts(chain, e, match, n.pods); err != nil {
				return err
			}
			continue
		}
		selector := peer.PodSelector
		if selector == nil {
			selector = &meta.LabelSelector{}
		}
		pods, err := n.selectPods(e.namespace, selector, peer.NamespaceSelector)
		if err != nil {
			return err
		}
		if len(pods) == 0 {
			continue
		}
		if err := n.allowPorts(chain, e, chain.otherIn(pods), pods); err != nil {
			return err
		}
	}
	return nil
}

// allowPorts writes one rule a port, or one for all; match names the other end, which may be one of peers.
func (n *network) allowPorts(chain *chain, e exchange, match string, peers []*core.Pod) error {
	if len(e.ports) == 0 {
		chain.allow(match, "")
	}
	for _, port := range e.ports {
		protocol := core.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		name := strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			chain.allow(match, "meta l4proto "+name)
		case port.Port.Type == intstr.Int && port.EndPort != nil:
			chain.allow(match, fmt.Sprintf("%s dport %d-%d", name, port.Port.IntVal, *port.EndPort))
		case port.Port.Type == intstr.Int:
			chain.allow(match, fmt.Sprintf("%s dport %d", name, port.Port.IntVal))
		case chain.direction == networking.PolicyTypeIngress:
			for _, number := range namedPorts(e.pod, port.Port.StrVal, protocol) {
				chain.allow(match, fmt.Sprintf("%s dport %d", name, number))
			}
		default: // the name stands for another number in each destination
			for _, peer := range peers {
				for _, number := range namedPorts(peer, port.Port.StrVal, protocol) {
					chain.allow(chain.otherIn([]*core.Pod{peer}), fmt.Sprintf("%s dport %d", name, number))
				}
			}
		}
	}
	return nil
}

func (n *network) selectPods(namespace string, pods, namespaces *meta.LabelSelector) ([]*core.Pod, error) {
	byPod, err := meta.LabelSelectorAsSelector(pods)
	if err != nil {
		return nil, err
	}
	byNamespace, err := meta.LabelSelectorAsSelector(namespaces)
	if err != nil {
		return nil, err
	}
	var found []*core.Pod
	for _, pod := range n.pods {
		inNamespace := pod.Namespace == namespace
		if namespaces != nil {
			inNamespace = byNamespace.Matches(n.namespaces[pod.Namespace])
		}
		if inNamespace && byPod.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found, nil
}

func namedPorts(pod *core.Pod, name string, protocol core.Protocol) []int32 {
	var numbers []int32
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.Name == name && cmp.Or(port.Protocol, core.ProtocolTCP) == protocol {
				numbers = append(numbers, port.ContainerPort)
			}
		}
	}
	return numbers
}
