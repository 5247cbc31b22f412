package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
)

const tableName = "smallest-network-policy"

// rules holds a chain for every pod and direction that some policy isolates.
type rules struct {
	ingress, egress map[string]*chain // by the pod's address
}

// chain is what one pod may receive, or send. What no rule returns is dropped.
type chain struct {
	direction networking.PolicyType
	other     string // where the other end's address stands in the packet
	allowed   []string
}

func newRules() *rules {
	return &rules{map[string]*chain{}, map[string]*chain{}}
}

func (r *rules) chain(direction networking.PolicyType, address string) *chain {
	chains, own, other := r.ingress, "daddr", "saddr"
	if direction == networking.PolicyTypeEgress {
		chains, own, other = r.egress, "saddr", "daddr"
	}
	if chains[address] == nil {
		chains[address] = &chain{direction: direction, other: other}
		// A pod always reaches itself, through a Service too.
		chains[address].allow(fmt.Sprintf("ip %s %s ip %s %s", own, address, other, address), "")
	}
	return chains[address]
}

func (c *chain) otherIn(pods []*core.Pod) string {
	addresses := make([]string, len(pods))
	for i, pod := range pods {
		addresses[i] = pod.Status.PodIP
	}
	return fmt.Sprintf("ip %s { %s }", c.other, strings.Join(addresses, ", "))
}

func (c *chain) allow(match, port string) {
	rule := strings.Join(strings.Fields(match+" "+port+" return"), " ")
	if !slices.Contains(c.allowed, rule) {
		c.allowed = append(c.allowed, rule)
	}
}

// render gives a transaction: the old table goes, whether there is one or not, and the new one comes.
func (r *rules) render() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table ip %s\ndelete table ip %s\ntable ip %s {\n", tableName, tableName, tableName)
	jumps := r.writeChains(&b, "out", "saddr", r.egress)
	toPods := r.writeChains(&b, "in", "daddr", r.ingress)
	// Pods to pods and to the outside; the node itself is reached through the input hook.
	fmt.Fprintf(&b, "  chain forward {\n    type filter hook forward priority -5; policy accept;\n"+
		"    ct state established,related accept\n%s%s  }\n", jumps, toPods)
	fmt.Fprintf(&b, "  chain input {\n    type filter hook input priority -5; policy accept;\n"+
		"    ct state established,related accept\n%s  }\n}\n", jumps)
	return b.String()
}

// writeChains writes one chain a pod and returns the rule that leads into them by the pod's address.
func (r *rules) writeChains(b *strings.Builder, prefix, field string, chains map[string]*chain) string {
	var jumps []string
	for _, address := range slices.Sorted(maps.Keys(chains)) {
		name := prefix + "-" + strings.ReplaceAll(address, ".", "-")
		fmt.Fprintf(b, "  chain %s {\n    %s\n    counter drop\n  }\n", name, strings.Join(chains[address].allowed, "\n    "))
		jumps = append(jumps, fmt.Sprintf("%s : jump %s", address, name))
	}
	if len(jumps) == 0 {
		return ""
	}
	return fmt.Sprintf("    ip %s vmap { %s }\n", field, strings.Join(jumps, ", "))
}
