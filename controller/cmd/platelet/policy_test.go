package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

const shopPolicies = "../../../segmentation/kubernetes/testdata/shop.yaml"

func TestPolicyPrint(t *testing.T) {
	out, code, err := call(t, "policy", "print", designPolicies)
	if code != 0 {
		t.Fatal(err)
	}
	for _, want := range []string{"icmp6 types 133 to 137", "rate-limit 100 pktps", "default deny, by default-deny/deny-in"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, code, err = call(t, "policy", "print", "-o", "json", designPolicies)
	if code != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, `"implied"`) {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, _ = call(t, "policy", "print", "-o", "yaml", designPolicies, shopPolicies)
	set, err := policy.Read(policy.Source{Name: "printed", Data: []byte(out)})
	if err != nil || set.Policy("np/shop/frontend") == nil || set.Policy("db-ingress") == nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestPolicyLint(t *testing.T) {
	bad := write(t, "p.yaml", `apiVersion: segmentation/v1
protected: [10.0.0.1]
policies:
- {name: p, tier: admin, mode: enforce, appliesTo: [10.0.0.0/24], ingress: [{name: a, action: deny, from: [any]}, {name: b, action: allow, from: [10.0.0.0/8]}]}
`)
	out, code, err := call(t, "policy", "lint", bad)
	if code != 2 || err == nil || !strings.Contains(err.Error(), ":4:77: would deny connections of 10.0.0.1, which is protected") {
		t.Errorf("exit %d: %v", code, err)
	}
	if want := bad + ":4:115: warning: rule p/ingress/b never decides: p/ingress/a decide all of it before [shadowed]\n"; out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	out, code, err = call(t, "policy", "lint", "-o", "json", "--at", designTime, designPolicies)
	var found []struct{ Kind, Rule string }
	if jerr := json.Unmarshal([]byte(out), &found); jerr != nil || code != 0 || len(found) != 1 || found[0].Kind != "cut-off" || found[0].Rule != "egress/deny-out" {
		t.Errorf("exit %d: %v, %v\n%s", code, err, jerr, out)
	}
	if out, code, err = call(t, "policy", "lint", shopPolicies); code != 0 || out != "" {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
}

// Files of policies are checked together, and each is told its own faults.
func TestCheckPolicies(t *testing.T) {
	groups := write(t, "groups.yaml", "apiVersion: segmentation/v1\ngroups: {web: {selector: {app: web}}}\n")
	rules := write(t, "rules.yaml", "apiVersion: segmentation/v1\npolicies: [{name: p, tier: admin, mode: enforce, appliesTo: [web], ingress: [{name: a, action: deny, from: [any]}]}]\n")
	out, code, err := call(t, "check", groups, rules, shopPolicies)
	if code != 0 || strings.Count(out, ": policies, good\n") != 3 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	_, code, err = call(t, "check", rules)
	var bad strictyaml.Errors
	if code != 2 || !errors.As(err, &bad) || bad[0].Line != 2 || !strings.Contains(bad[0].Msg, `there is no group "web"`) {
		t.Errorf("exit %d: %v", code, err)
	}
	out, code, _ = call(t, "check", "-o", "json", rules)
	var reports []checkReport
	if err := json.Unmarshal([]byte(out), &reports); err != nil || code != 2 || reports[0].Good || reports[0].Kind != "policies" || len(reports[0].Faults) != 1 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
}

func TestPolicyImport(t *testing.T) {
	out, code, err := call(t, "policy", "import", "kubernetes", "--mode", "staged", shopPolicies)
	want, rerr := os.ReadFile("../../../segmentation/kubernetes/testdata/shop.translated.yaml")
	if code != 0 || rerr != nil || out != string(want) {
		t.Errorf("exit %d: %v, %v\n%s", code, err, rerr, out)
	}
	named := write(t, "k.yaml", "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: n}\nspec: {podSelector: {}, ingress: [{ports: [{port: http}]}]}\n")
	if _, code, err = call(t, "policy", "import", "kubernetes", named); code != 2 || !strings.Contains(err.Error(), `k.yaml:4:51: spec.ingress[0].ports[0].port: nothing here knows`) {
		t.Errorf("exit %d: %v", code, err)
	}
	if out, _, err = call(t, "policy", "import", "kubernetes", named, "--port", "http=tcp/8080"); err != nil || !strings.Contains(out, "- 8080") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err := call(t, "policy", "schema"); err != nil || out != string(policy.Schema()) {
		t.Errorf("schema: %v", err)
	}
}

// The plant's example holds for the plant's lab: nothing in it is in vain, and
// what it promises is true.
func TestExampleOfThePlant(t *testing.T) {
	const example, lab = "../../../segmentation/policy/testdata/examples/ot-purdue.yaml", "../../../lab/ot.clab.yml"
	if out, code, err := call(t, "policy", "lint", example, "--inventory", lab); code != 0 || out != "" {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	if out, code, err := call(t, "policy", "verify", example, "--inventory", lab); code != 0 || !strings.HasPrefix(out, "true ") {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	for from, want := range map[string]string{"plc2": "allow", "hmi1": "allow", "historian": "deny", "gw": "deny"} {
		out, _, err := call(t, "policy", "trace", example, "--inventory", lab, "--from", from, "--to", "plc1", "--port", "502")
		if err != nil || !strings.HasPrefix(out, want+": ") {
			t.Errorf("from %s: %v\n%s", from, err, out)
		}
	}
}

// A configuration is good when the policies that it names are, and they leave
// alone what it protects; files of Kubernetes are among them.
func TestCheckConfigurationWithPolicies(t *testing.T) {
	rules := write(t, "p.yaml", "apiVersion: segmentation/v1\npolicies: [{name: p, tier: admin, mode: enforce, appliesTo: [10.0.0.0/24], egress: [{name: a, action: deny, to: [any]}]}]\n")
	shop, err := os.ReadFile(shopPolicies)
	if err != nil {
		t.Fatal(err)
	}
	foreign := write(t, "shop.yaml", string(shop))
	conf := write(t, "c.yaml", "protected: [10.9.0.0/24]\nsegmentation: {policies: ["+rules+", "+foreign+"]}\n")
	if out, code, err := call(t, "check", conf); code != 0 {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}
	conf = write(t, "c.yaml", "protected: [10.0.0.1]\nsegmentation: {policies: ["+rules+"]}\n")
	if _, code, err := call(t, "check", conf); code != 2 || err == nil || !strings.Contains(err.Error(), "p.yaml:2:85: would deny connections of 10.0.0.1, which is protected") {
		t.Errorf("exit %d: %v", code, err)
	}
}
