package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// A good file, of which the tests break one thing each.
const good = `apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  corp: {cidrs: [10.20.0.0/16]}
  both: {groups: [web, corp]}
services:
  http: [{proto: tcp, ports: [80]}]
protected: [dns, corp]
policies:
- name: one
  tier: application
  priority: 1
  mode: enforce
  appliesTo: [web]
  ingress:
  - {name: a, action: allow, from: [corp], services: [http]}
  - {name: b, action: deny, from: [any]}
sourceGuards:
- {name: own, mode: staged, appliesTo: [web]}
`

// faults by class: what in the good file is replaced by what, and how the
// fault is told. schema tells whether an editor with the JSON Schema sees it
// too; names that must exist are beyond it.
var faults = []struct {
	class, old, new, want string
	schema                bool
}{
	{"version", "segmentation/v1", "segmentation/v2", `p.yaml:1:13: apiVersion: "segmentation/v2" is not segmentation/v1`, true},
	{"no version", "apiVersion: segmentation/v1", "", `p.yaml:2:1: apiVersion: "" is not segmentation/v1`, true},
	{"unknown key", "mode: enforce", "mod: enforce", `p.yaml:13:3: unknown key "mod" in policies[0] (did you mean "mode"?)`, true},
	{"duplicate key", "priority: 1", "priority: 1\n  priority: 2", `p.yaml:13:3: policies[0]: key "priority" is already in line 12`, false},
	{"mode", "enforce", "enforced", `p.yaml:13:9: policies[0].mode: unknown mode "enforced" (did you mean "enforce"?)`, true},
	{"no mode", "  mode: enforce\n", "", `p.yaml:10:3: policies[0].mode: is missing (valid: staged, enforce)`, true},
	{"tier", "application", "aplication", `p.yaml:11:9: policies[0].tier: unknown tier "aplication" (did you mean "application"?)`, true},
	{"no tier", "  tier: application\n", "", `p.yaml:10:3: policies[0].tier: is missing`, true},
	{"priority", "priority: 1", "priority: -1", `p.yaml:12:13: policies[0].priority: -1 is outside 0 to 2147483647`, true},
	{"policy name", "name: one", "name: one two", `p.yaml:10:9: policies[0].name: "one two" is not a name`, true},
	{"no policy name", "name: one\n  tier", "tier", `p.yaml:10:3: policies[0].name: "" is not a name`, true},
	{"applies to nobody", "  appliesTo: [web]\n", "", `p.yaml:10:3: policies[0].appliesTo: needs those whose connections the rules are about`, true},
	{"applies to an empty list", "appliesTo: [web]", "appliesTo: []", `p.yaml:14:14: policies[0].appliesTo: needs those`, true},
	{"applies to an unknown group", "appliesTo: [web]", "appliesTo: [wep]", `p.yaml:14:15: policies[0].appliesTo[0]: there is no group "wep" (did you mean "web"?)`, false},
	{"unknown peer", "from: [corp]", "from: [crop]", `p.yaml:16:37: policies[0].ingress[0].from[0]: there is no group "crop" (did you mean "corp"?)`, false},
	{"unknown service", "services: [http]", "services: [htpp]", `p.yaml:16:55: policies[0].ingress[0].services[0]: there is no service "htpp" (did you mean "http"?)`, false},
	{"peer with two keys", "from: [corp]", "from: [{group: corp, ip: 10.0.0.1}]", `p.yaml:16:37: policies[0].ingress[0].from[0]: a peer has one of the keys`, true},
	{"peer of host bits", "from: [corp]", "from: [10.0.0.1/8]", `has bits outside its mask (did you mean 10.0.0.0/8?)`, false},
	{"peer that is no CIDR", "from: [corp]", "from: [10.0.0.0/33]", `"10.0.0.0/33" is not a CIDR`, false},
	{"to in ingress", "from: [any]", "to: [any]", `p.yaml:17:33: policies[0].ingress[1].to: an ingress rule is about what comes from somewhere: use from`, true},
	{"no peer", ", from: [any]", "", `p.yaml:17:5: policies[0].ingress[1].from: needs a peer; [any] is everybody`, true},
	{"from in egress", "ingress:", "egress:", `p.yaml:16:36: policies[0].egress[0].from: an egress rule is about what goes to somewhere: use to`, true},
	{"rule name", "name: b", "name: b/c", `p.yaml:17:12: policies[0].ingress[1].name: "b/c" is not a name`, true},
	{"rule name twice", "name: b", "name: a", `p.yaml:17:12: policies[0].ingress[1].name: the name a is taken by ingress[0]`, false},
	{"action", "action: deny", "action: drop", `p.yaml:17:23: policies[0].ingress[1].action: unknown action "drop"`, true},
	{"no action", "action: deny, ", "", `policies[0].ingress[1].action: is missing`, true},
	{"no rules", "  ingress:\n  - {name: a, action: allow, from: [corp], services: [http]}\n  - {name: b, action: deny, from: [any]}\n", "", `p.yaml:10:3: policies[0]: has neither ingress nor egress rules`, true},
	{"services that are none", "services: [http]}\n  -", "services: []}\n  -", `policies[0].ingress[0].services: an empty list; leave it out`, true},
	{"rate of a deny", "action: deny", "action: deny, rate: {pktps: 1}", `policies[0].ingress[1].rate: rate-limit needs a rate, and nothing else has one`, true},
	{"rate limit without", "action: deny", "action: rate-limit", `policies[0].ingress[1].rate: rate-limit needs a rate, and nothing else has one`, true},
	{"rate of nothing", "action: deny", "action: rate-limit, rate: {burst: 1}", `rate: needs one of pktps and kbps, above 0`, true},
	{"rate of two", "action: deny", "action: rate-limit, rate: {pktps: 1, kbps: 1}", `rate: needs one of pktps and kbps, above 0`, true},
	{"rate of zero", "action: deny", "action: rate-limit, rate: {pktps: 0}", `rate: needs one of pktps and kbps, above 0`, true},
	{"mirror", "action: deny", "action: deny, mirror: a/b/c", `mirror: "a/b/c" is not "port" or "switch/port"`, true},
	{"guard without a mode", "mode: staged, ", "", `p.yaml:19:3: sourceGuards[0].mode: is missing (valid: staged, enforce)`, true},
	{"guard of an unknown group", "staged, appliesTo: [web]", "staged, appliesTo: [wep]", `p.yaml:19:41: sourceGuards[0].appliesTo[0]: there is no group "wep" (did you mean "web"?)`, false},
	{"guard of nobody", "staged, appliesTo: [web]", "staged", `sourceGuards[0].appliesTo: needs those whose sources are guarded`, true},
	{"guard name twice", "appliesTo: [web]}", "appliesTo: [web]}\n- {name: own, mode: enforce, appliesTo: [corp]}", `p.yaml:20:10: sourceGuards[1].name: the name own is taken in p.yaml:19:3`, false},
	{"guard by what is learned of everybody", "staged, appliesTo: [web]", "enforce, learned: true, appliesTo: [any]", `sourceGuards[0].learned: would be enforced at every port`, false},
	{"no proto", "[{proto: tcp, ports: [80]}]", "[{ports: [80]}]", `p.yaml:7:10: services.http[0]: proto is missing`, true},
	{"proto", "proto: tcp", "proto: tpc", `unknown protocol "tpc" (did you mean "tcp"?)`, true},
	{"ports of icmp", "proto: tcp", "proto: icmp", `p.yaml:7:31: services.http[0].ports: icmp has no ports`, true},
	{"type of tcp", "ports: [80]", "type: 8", `services.http[0].type: tcp has no types`, true},
	{"code without type", "proto: tcp, ports: [80]", "proto: icmp, code: 0", `services.http[0].code: a code needs a type`, true},
	{"port beyond", "ports: [80]", "ports: [65536]", `"65536" is neither a port nor a range`, true},
	{"range backwards", "ports: [80]", "ports: [90-80]", `range "90-80" ends before it begins`, false},
	{"service of nothing", "[{proto: tcp, ports: [80]}]", "[]", `services.http: has 0 entries`, true},
	{"group of nothing", "{cidrs: [10.20.0.0/16]}", "{}", `p.yaml:4:9: groups.corp: says of nobody that it belongs to the group`, true},
	{"group of exceptions", "{cidrs: [10.20.0.0/16]}", "{except: [10.20.0.0/16]}", `groups.corp: says of nobody`, true},
	{"group of an empty list", "{cidrs: [10.20.0.0/16]}", "{cidrs: []}", `groups.corp.cidrs: an empty list`, true},
	{"group that joins and selects", "{groups: [web, corp]}", "{groups: [web], selector: {a: b}}", `groups.both.groups: stands alone but for except`, true},
	{"group in itself", "{groups: [web, corp]}", "{groups: [both]}", `groups.both.groups: both is joined into itself`, false},
	{"unknown joined group", "{groups: [web, corp]}", "{groups: [wbe]}", `p.yaml:5:19: groups.both.groups[0]: there is no group "wbe" (did you mean "web"?)`, false},
	{"group's name", "  corp: {", "  co/rp: {", `groups.co/rp: "co/rp" is not a name`, true},
	{"group called any", "  corp: {", "  any: {", `groups.any: the name any stands for every address`, true},
	{"group called an asset", "  corp: {", "  dns: {", `groups.dns: the name dns stands for what the controller protects`, true},
	{"group called an address", "  corp: {", "  10.1.2.3: {", `groups.10.1.2.3: the name 10.1.2.3 is an address`, false},
	{"selector", "{app: web}", "{app: 'a!b'}", `groups.web.selector.app: "a!b": a value is`, true},
	{"risk", "selector: {app: web}", "risk: hihg", `unknown risk "hihg" (did you mean "high"?)`, true},
	{"day", "cidrs: [10.20.0.0/16]", "cidrs: [10.20.0.0/16], during: {days: [mo]}", `unknown day "mo" (did you mean "mon"?)`, true},
	{"day twice", "cidrs: [10.20.0.0/16]", "cidrs: [10.20.0.0/16], during: {days: [mon, mon]}", `groups.corp.during.days[1]: mon is there twice`, true},
	{"window of nothing", "cidrs: [10.20.0.0/16]", "cidrs: [10.20.0.0/16], during: {zone: UTC}", `neither days nor times`, true},
	{"window that ends as it begins", "cidrs: [10.20.0.0/16]", "cidrs: [10.20.0.0/16], during: {from: '08:00', to: '08:00'}", `groups.corp.during.to: is when it begins`, false},
	{"zone", "cidrs: [10.20.0.0/16]", "cidrs: [10.20.0.0/16], during: {days: [mon], zone: Mars}", `"Mars" is no time zone`, false},
	{"emergency for ever", "tier: application", "tier: emergency", `p.yaml:10:3: policies[0].expiresAt: is missing: nothing of the emergency tier stays for ever`, true},
	{"expiry", "mode: enforce", "mode: enforce\n  expiresAt: tomorrow", `policies[0].expiresAt: parsing time`, true},
	{"protected is all", "protected: [dns, corp]", "protected: [any]", `p.yaml:8:13: protected[0]: a network in which everything is protected`, true},
	{"protected is unknown", "protected: [dns, corp]", "protected: [dnss]", `protected[0]: there is no group "dnss" (did you mean "dns"?)`, false},
	{"origin", "mode: enforce", "mode: enforce\n  origin: {}", `policies[0].origin.decision: is missing`, true},
	{"description", "mode: enforce", "mode: enforce\n  description: \"a\\nb\"", `policies[0].description: is longer than 2000 bytes, or not text of one line`, true},
}

func TestFaults(t *testing.T) {
	if _, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(good)}); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		text := strings.Replace(good, f.old, f.new, 1)
		if text == good {
			t.Fatalf("%s: nothing was replaced", f.class)
		}
		_, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(text)})
		var bad strictyaml.Errors
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: got %v, want %s", f.class, err, f.want)
		}
	}
}

// Files know each other: names and ranks are taken once, groups may be shared
// as long as they are the same.
func TestSeveralFiles(t *testing.T) {
	second := strings.NewReplacer("name: one", "name: two", "name: own", "name: owned", "priority: 1", "priority: 2").Replace(good)
	set, err := policy.Read(policy.Source{Name: "a.yaml", Data: []byte(good)}, policy.Source{Name: "b.yaml", Data: []byte(second)})
	if err != nil || len(set.Policies) != 2 || len(set.Groups) != 3 || len(set.Protected) != 2 {
		t.Fatalf("%v: %+v", err, set)
	}
	if at := set.PolicyAt("two").String(); at != "b.yaml:10:3" {
		t.Errorf("two at %s", at)
	}
	for _, c := range []struct{ text, want string }{
		{good, "b.yaml:10:9: policies[0].name: the name one is taken in a.yaml:10:3"},
		{good, "b.yaml:12:13: policies[0].priority: priority 1 of tier application is taken by one in a.yaml:10:3"},
		{strings.Replace(second, "{selector: {app: web}}", "{selector: {app: wob}}", 1), "b.yaml:3:8: groups.web: is something else in a.yaml:3:8"},
		{strings.Replace(second, "ports: [80]", "ports: [81]", 1), "b.yaml:7:9: services.http: is something else in a.yaml:7:9"},
	} {
		if _, err := policy.Read(policy.Source{Name: "a.yaml", Data: []byte(good)}, policy.Source{Name: "b.yaml", Data: []byte(c.text)}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
	part := "apiVersion: segmentation/v1\npolicies:\n- {name: x, tier: admin, mode: staged, appliesTo: [web], egress: [{name: r, action: pass, to: [both], services: [http]}]}\n"
	if _, err := policy.Read(policy.Source{Name: "b.yaml", Data: []byte(part)}, policy.Source{Name: "a.yaml", Data: []byte(good)}); err != nil {
		t.Errorf("a group of another file: %v", err)
	}
	if _, err := policy.Read(policy.Source{Name: "b.yaml", Data: []byte(part)}); err == nil {
		t.Error("a group of a file that is not there")
	}
}
