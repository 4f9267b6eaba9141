package policy_test

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// What is printed as implied is what the oracle takes for it.
func TestImpliedRules(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	told := ""
	for _, r := range policy.ImpliedRules() {
		told += r.Name + ": " + r.What + "\n"
	}
	var types []uint8
	for n := range 256 {
		if oracle.Implied(oracle.Connection{Src: v6, Dst: v6, Proto: 58, Type: uint8(n)}) != "" {
			types = append(types, uint8(n))
		}
	}
	if want := []uint8{130, 131, 132, 133, 134, 135, 136, 137, 143}; !reflect.DeepEqual(types, want) ||
		!strings.Contains(told, "icmp6 types 133 to 137") || !strings.Contains(told, "icmp6 types 130 to 132, 143") {
		t.Errorf("implied are icmp6 types %v, told is\n%s", types, told)
	}
	for _, c := range []struct {
		a        netip.Addr
		from, to uint16
		want     bool
	}{{v4, 68, 67, true}, {v4, 67, 68, true}, {v4, 67, 67, true}, {v4, 68, 68, false}, {v6, 68, 67, false}, {v6, 546, 547, true}, {v6, 547, 546, true}, {v6, 547, 547, true}, {v4, 546, 547, false}} {
		if got := oracle.Implied(oracle.Connection{Src: c.a, Dst: c.a, Proto: 17, SrcPort: c.from, DstPort: c.to}) != ""; got != c.want {
			t.Errorf("udp %d to %d of %s: implied %v", c.from, c.to, c.a, got)
		}
	}
}

func TestDefaults(t *testing.T) {
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte(`apiVersion: segmentation/v1
groups: {a: {cidrs: [10.0.0.0/24]}, b: {cidrs: [10.0.1.0/24]}, c: {cidrs: [10.0.2.0/24]}}
policies:
- {name: open, tier: admin, mode: enforce, appliesTo: [c], egress: [{name: all, action: allow, to: [any]}]}
- {name: hand, tier: admin, priority: 1, mode: enforce, appliesTo: [a], ingress: [{name: on, action: pass, from: [any]}]}
- {name: shut, tier: baseline, mode: enforce, appliesTo: [a, c], ingress: [{name: some, action: deny, from: [b]}, {name: in, action: reject, from: [any]}], egress: [{name: out, action: deny, to: [any]}]}
- {name: try, tier: baseline, priority: 1, mode: staged, appliesTo: [b], ingress: [{name: in, action: deny, from: [any]}]}
- {name: web, tier: baseline, priority: 2, mode: enforce, appliesTo: [b], ingress: [{name: in, action: deny, from: [any], services: [{proto: tcp, ports: [80]}]}]}
`)})
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Default{{"a", "shut/in", "shut/out"}, {"any", "", ""}, {"b", "", ""}, {"c", "shut/in", ""}} //nolint:govet // of this test
	if got := set.Defaults(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
