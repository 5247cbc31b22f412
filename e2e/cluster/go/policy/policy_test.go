package policy

import (
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const web = "10.0.0.1"
const client = "10.0.0.2"
const foreign = "10.0.0.3"

func pod(namespace, app, address string) *core.Pod {
	return &core.Pod{
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: app, Labels: map[string]string{"app": app}},
		Spec:       core.PodSpec{Containers: []core.Container{{Ports: []core.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
		Status:     core.PodStatus{Phase: core.PodRunning, PodIP: address},
	}
}

func chainOf(t *testing.T, spec, name string) string {
	t.Helper()
	policy := &networking.NetworkPolicy{ObjectMeta: meta.ObjectMeta{Namespace: "ours", Name: "policy"}}
	if err := yaml.UnmarshalStrict([]byte(spec), &policy.Spec); err != nil {
		t.Fatal(err)
	}
	ended := pod("ours", "web", "10.0.0.9")
	ended.Status.Phase = core.PodFailed
	pods := []*core.Pod{pod("ours", "client", client), pod("ours", "web", web), pod("theirs", "client", foreign), ended}
	namespaces := []*core.Namespace{
		{ObjectMeta: meta.ObjectMeta{Name: "ours", Labels: map[string]string{"name": "ours"}}},
		{ObjectMeta: meta.ObjectMeta{Name: "theirs", Labels: map[string]string{"name": "theirs"}}},
	}
	table, err := Table(pods, namespaces, []*networking.NetworkPolicy{policy})
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(table, "chain "+name+" {\n")
	if !found {
		t.Fatalf("no chain %s in\n%s", name, table)
	}
	if strings.Contains(table, ended.Status.PodIP) {
		t.Errorf("a pod that ended still has rules:\n%s", table)
	}
	body, _, _ := strings.Cut(after, "  }\n")
	var lines []string
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); !strings.Contains(line, "saddr "+web+" ip daddr "+web) && !strings.Contains(line, "daddr "+web+" ip saddr "+web) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

func TestWhatAPolicyAllows(t *testing.T) {
	const selected = "podSelector: {matchLabels: {app: web}}\n"
	cases := []struct{ name, spec, chain, want string }{
		{"nothing", "policyTypes: [Ingress]", "in-10-0-0-1", "counter drop"},
		{"everyone", "policyTypes: [Ingress]\ningress: [{}]", "in-10-0-0-1", "return; counter drop"},
		{"pods of the same namespace only", "policyTypes: [Ingress]\ningress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]",
			"in-10-0-0-1", "ip saddr { 10.0.0.2 } return; counter drop"},
		{"pods of another namespace", "policyTypes: [Ingress]\ningress: [{from: [{namespaceSelector: {matchLabels: {name: theirs}}}], ports: [{port: 80}]}]",
			"in-10-0-0-1", "ip saddr { 10.0.0.3 } tcp dport 80 return; counter drop"},
		{"nobody is selected", "policyTypes: [Ingress]\ningress: [{from: [{podSelector: {matchLabels: {app: none}}}]}]",
			"in-10-0-0-1", "counter drop"},
		{"a named port of the pod itself", "policyTypes: [Ingress]\ningress: [{ports: [{port: http}]}]",
			"in-10-0-0-1", "tcp dport 8080 return; counter drop"},
		{"a named port of each destination", "policyTypes: [Egress]\negress: [{to: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]",
			"out-10-0-0-1", "ip daddr { 10.0.0.2 } tcp dport 8080 return; counter drop"},
		{"a block without a part of it", "policyTypes: [Egress]\negress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}], ports: [{port: 1, endPort: 9, protocol: UDP}]}]",
			"out-10-0-0-1", "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } udp dport 1-9 return; counter drop"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := chainOf(t, selected+c.spec, c.chain); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
