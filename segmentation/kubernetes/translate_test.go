package kubernetes

import (
	"os"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The translation of the example, as it is printed:
//
//	UPDATE=1 go test ./segmentation/kubernetes -run TestExample
func TestExample(t *testing.T) {
	raw, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src, notes, err := Translate(Options{Mode: policy.ModeStaged}, policy.Source{Name: "shop.yaml", Data: raw})
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	set, err := policy.Read(src)
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const path = "testdata/shop.translated.yaml"
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != string(got) {
		t.Errorf("%v: translated otherwise than %s:\n%s", err, path, got)
	}
	for id, want := range map[policy.RuleID]string{
		{Policy: "np/shop/frontend", Direction: policy.Ingress, Rule: "in-0"}:              "shop.yaml:29:5",
		{Policy: "np/shop/default-deny/isolate", Direction: policy.Egress, Rule: "out"}:    "shop.yaml:3:1",
		{Policy: "anp/monitoring", Direction: policy.Ingress, Rule: "in-0-prometheus"}:     "shop.yaml:41:5",
		{Policy: "banp/default", Direction: policy.Ingress, Rule: "in-0-tenants"}:          "shop.yaml:52:5",
		{Policy: "np/shop/frontend", Direction: policy.Egress, Rule: "out-0"}:              "shop.yaml:32:5",
		{Policy: "np/shop/no-such-policy", Direction: policy.Egress, Rule: "out-0"}:        ":0:0",
		{Policy: "np/shop/frontend/isolate", Direction: policy.Ingress, Rule: "not-there"}: "shop.yaml:22:1",
	} {
		if at := set.RuleAt(id).String(); at != want {
			t.Errorf("%s at %s, want %s", id, at, want)
		}
	}
	if at := set.GroupAt("np.shop.frontend.out-0.to-0").String(); at != "shop.yaml:32:10" {
		t.Errorf("group at %s", at)
	}
}

const goodNetwork = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: n}
spec:
  podSelector: {matchLabels: {app: a}}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
    ports: [{protocol: TCP, port: 80, endPort: 90}]
`

const goodAdmin = `apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: a}
spec:
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Deny, from: [{namespaces: {}}], ports: [{portNumber: {protocol: TCP, port: 80}}]}]
  egress: [{action: Pass, to: [{networks: [10.0.0.0/8]}]}]
`

func TestFaults(t *testing.T) {
	for _, c := range []struct{ of, old, new, want string }{
		{goodNetwork, "kind: NetworkPolicy", "kind: Ingress", "k.yaml:1:1: Ingress of networking.k8s.io/v1 is not translated"},
		{goodNetwork, "podSelector", "podSelektor", `k.yaml:5:3: unknown key "podSelektor" in spec (did you mean "podSelector"?)`},
		{goodNetwork, "name: n", "name: N", `k.yaml:3:18: metadata.name: "N" is not the name of a resource`},
		{goodNetwork, "name: n", "name: n, namespace: a.b", `k.yaml:3:32: metadata.namespace: "a.b" is not the name of a namespace`},
		{goodNetwork, "app: a", "app: a b", `spec.podSelector.matchLabels.app: "a b" is not the value of a label`},
		{goodNetwork, "matchLabels: {app: a}", "matchExpressions: [{key: app, operator: Gt, values: [a]}]", `operator: "Gt" is not In, NotIn, Exists or DoesNotExist`},
		{goodNetwork, "matchLabels: {app: a}", "matchExpressions: [{key: app, operator: In}]", "In needs values"},
		{goodNetwork, "matchLabels: {app: a}", "matchExpressions: [{key: app, operator: Exists, values: [a]}]", "Exists has no values"},
		{goodNetwork, "10.1.0.0/16", "11.0.0.0/16", "k.yaml:7:50: spec.ingress[0].from[0].ipBlock.except[0]: 11.0.0.0/16 is not within 10.0.0.0/8"},
		{goodNetwork, "cidr: 10.0.0.0/8", "cidr: 10.0.0.0", `ipBlock.cidr: "10.0.0.0" is not a CIDR`},
		{goodNetwork, "except: [10.1.0.0/16]}", "except: [10.1.0.0/16]}, podSelector: {}", "has ipBlock beside selectors"},
		{goodNetwork, "{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}", "{}", "needs podSelector, namespaceSelector or ipBlock"},
		{goodNetwork, "TCP", "ICMP", `protocol: "ICMP" is not TCP, UDP or SCTP`},
		{goodNetwork, "endPort: 90", "endPort: 70", "80 to 70 is not a port or a range"},
		{goodNetwork, "port: 80, ", "", "endPort: needs a port"},
		{goodNetwork, "port: 80", "port: '80'", `needs a whole number, got "80"`},
		{goodNetwork, "port: 80, endPort: 90", "port: http", `k.yaml:8:35: spec.ingress[0].ports[0].port: nothing here knows which port of a pod is called "http"`},
		{goodNetwork, "  ingress:", "  policyTypes: [Both]\n  ingress:", `policyTypes[0]: "Both" is not Ingress or Egress`},
		{goodNetwork, "apiVersion", goodNetwork + "---\napiVersion", "k.yaml:12:18: metadata.name: the name default/n is taken in k.yaml:1:1"},
		{goodAdmin, "priority: 1", "priority: 1001", "spec.priority: needs a number from 0 to 1000"},
		{goodAdmin, "apiVersion", strings.Replace(goodAdmin, "name: a", "name: b", 1) + "---\napiVersion", "1 is taken in k.yaml:10:1, and Kubernetes leaves open which decides first"},
		{goodAdmin, "subject: {namespaces: {}}", "subject: {}", "spec.subject: needs one of namespaces, pods"},
		{goodAdmin, "subject: {namespaces: {}}", "subject: {networks: [10.0.0.0/8]}", "spec.subject.networks: a subject is namespaces or pods"},
		{goodAdmin, "[{networks: [10.0.0.0/8]}]", "[{nodes: {}}]", `unknown key "nodes"`},
		{goodAdmin, "from: [{namespaces: {}}]", "from: [{networks: [10.0.0.0/8]}]", "networks are for egress"},
		{goodAdmin, "from: [{namespaces: {}}]", "to: [{namespaces: {}}]", "to of what is ingress"},
		{goodAdmin, "action: Deny", "action: Drop", `"Drop" is not Allow, Deny or Pass`},
		{goodAdmin, "{portNumber: {protocol: TCP, port: 80}}", "{}", "needs one of portNumber, portRange and namedPort"},
		{goodAdmin, "[{portNumber: {protocol: TCP, port: 80}}]", "[]", "ports: needs 1 to 100 ports"},
		{goodAdmin, "kind: Admin", "kind: BaselineAdmin", "the only one is called default"},
		{goodAdmin, "kind: Admin", "kind: BaselineAdmin", "BaselineAdminNetworkPolicy has none"},
		{goodAdmin, "kind: Admin", "kind: BaselineAdmin", "there is nothing behind the baseline that could decide"},
		{goodAdmin, "name: a", "name: a, namespace: x", "AdminNetworkPolicy belongs to no namespace"},
	} {
		if _, _, err := Translate(Options{}, policy.Source{Name: "k.yaml", Data: []byte(c.of)}); err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(c.of, c.old, c.new, 1)
		_, _, err := Translate(Options{}, policy.Source{Name: "k.yaml", Data: []byte(text)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: got %v, want %s", c.new, c.old, err, c.want)
		}
	}
}

// What kubectl prints is a list, with what the cluster added.
func TestList(t *testing.T) {
	text := `apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: a, namespace: x, uid: 1f, generation: 1, creationTimestamp: "2026-01-01T00:00:00Z", annotations: {a: b}, managedFields: [{a: b}]}
  spec: {podSelector: {matchExpressions: [{key: a, operator: Exists}, {key: a, operator: DoesNotExist}]}}
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {name: b, namespace: x}
  spec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchExpressions: [{key: a, operator: In, values: [b]}, {key: a, operator: NotIn, values: [b]}]}}]}], egress: [{}]}
  status: {}
`
	if !Is([]byte(text)) || Is([]byte("apiVersion: segmentation/v1\n")) {
		t.Error("files are not told apart")
	}
	src, notes, err := Translate(Options{}, policy.Source{Name: "k.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, n := range notes {
		told = append(told, n.String())
	}
	want := "k.yaml:8:23: np/x/a selects no pod\nk.yaml:12:194: the rules have no effect: policyTypes has no Egress\nk.yaml:12:68: selects no pod"
	if got := strings.Join(told, "\n"); got != want {
		t.Errorf("told\n%s\nwant\n%s", got, want)
	}
	if n := len(src.File.Policies); n != 1 || src.File.Policies[0].Name != "np/x/b/isolate" {
		t.Errorf("%d policies: %+v", n, src.File.Policies)
	}
}

// Whatever is translated is a valid policy.
func FuzzTranslate(f *testing.F) {
	shop, err := os.ReadFile("testdata/shop.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{string(shop), goodNetwork, goodAdmin, goodNetwork + "---\n" + goodAdmin} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 16<<10 {
			return
		}
		src, _, err := Translate(Options{Ports: map[string]policy.Service{"http": {Proto: 6, Ports: []policy.PortRange{{First: 80, Last: 80}}}}}, policy.Source{Name: "f", Data: raw})
		if err != nil {
			return
		}
		set, err := policy.Read(src)
		if err != nil {
			t.Fatal(err)
		}
		text, err := set.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Read(policy.Source{Name: "again", Data: text}); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	})
}
