package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ref[T any](v T) *T { return &v }

func drawService(t *rapid.T) policy.Service {
	s := policy.Service{Proto: rapid.SampledFrom([]policy.Proto{6, 17, 1, 58, 47, 0}).Draw(t, "proto")}
	switch {
	case s.Proto.HasPorts() && rapid.Bool().Draw(t, "ports"):
		first := rapid.Uint16().Draw(t, "first")
		s.Ports = []policy.PortRange{{First: first, Last: rapid.Uint16Range(first, 65535).Draw(t, "last")}}
	case s.Proto.IsICMP() && rapid.Bool().Draw(t, "type"):
		s.Type = ref(rapid.Uint8Range(7, 9).Draw(t, "icmp type"))
		if rapid.Bool().Draw(t, "code") {
			s.Code = ref(rapid.Uint8Range(0, 2).Draw(t, "icmp code"))
		}
	}
	return s
}

func drawConnection(t *rapid.T) compile.Connection {
	return compile.Connection{Src: policytest.Addresses().Draw(t, "src"), Dst: policytest.Addresses().Draw(t, "dst"), Proto: rapid.SampledFrom([]policy.Proto{6, 17, 1, 58, 47, 50}).Draw(t, "of proto"),
		DstPort: rapid.Uint16().Draw(t, "port"), Type: rapid.Uint8Range(6, 10).Draw(t, "of type"), Code: rapid.Uint8Range(0, 3).Draw(t, "of code")}
}

// However a compiler came to where it is, it says what one says that begins
// there.
func TestIncrementalIsTheSameAsAnew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		c := compile.New()
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				w = policytest.Worlds().Draw(t, "next world")
			default:
				w.Inventory.Workloads = policytest.Inventories().Draw(t, "next inventory").Workloads
			}
			got, err := c.Compile(w.Set, w.Inventory, policytest.Now())
			if err != nil {
				t.Fatal(err)
			}
			want, err := compile.New().Compile(w.Set, w.Inventory, policytest.Now())
			if err != nil {
				t.Fatal(err)
			}
			agree(t, w, got, want)
		}
	})
}

func agree(t *rapid.T, w policytest.World, got, want *compile.Program) {
	a, b := compile.NewEvaluator(got), compile.NewEvaluator(want)
	for range 40 {
		x := policytest.Connections(w).Draw(t, "connection")
		c := compile.Connection{Src: x.Src, Dst: x.Dst, Proto: x.Proto, DstPort: x.DstPort, Type: x.Type, Code: x.Code}
		ge, gi := a.Verdict(c)
		we, wi := b.Verdict(c)
		if ge != we || gi != wi {
			t.Fatalf("%+v: incremental says %v, %v; anew %v, %v\n%+v\n%+v", c, ge, gi, we, wi, got, want)
		}
		for _, x := range []netip.Addr{c.Src, c.Dst} {
			if g, w := tracked(got, x), tracked(want, x); g != w {
				t.Fatalf("%s: tracked %v incrementally, %v anew", x, g, w)
			}
		}
	}
}

func tracked(p *compile.Program, a netip.Addr) bool {
	for x := range p.Tracked {
		if x.Contains(a) {
			return true
		}
	}
	return false
}

// Services are told apart by what rules name of them.
func TestServicesByTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		services := rapid.SliceOfN(rapid.Custom(drawService), 1, 4).Draw(t, "services")
		pol := &policy.Set{}
		p := policy.Policy{Name: "p", Tier: policy.TierAdmin, Mode: policy.ModeEnforce, AppliesTo: []policy.Peer{{Group: policy.Any}}}
		for i := range services {
			p.Ingress = append(p.Ingress, policy.Rule{Name: fmt.Sprint(i), Action: policy.ActionDeny, From: []policy.Peer{{Group: policy.Any}},
				Services: []policy.ServiceRef{{Inline: &services[i]}}})
		}
		pol.Policies = []policy.Policy{p}
		prog, err := compile.New().Compile(pol, policy.Inventory{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		e := compile.NewEvaluator(prog)
		for range 50 {
			c := drawConnection(t)
			for _, s := range services { // near the edges
				if len(s.Ports) > 0 && rapid.Bool().Draw(t, "at an edge") {
					c.DstPort = rapid.SampledFrom([]uint16{s.Ports[0].First - 1, s.Ports[0].First, s.Ports[0].Last, s.Ports[0].Last + 1}).Draw(t, "edge")
				}
			}
			want := slices.IndexFunc(services, func(s policy.Service) bool { return fits(&s, c) })
			_, got := e.Verdict(c)
			if want < 0 && got.Decided() || want >= 0 && got.Rule.Rule != fmt.Sprint(want) {
				t.Fatalf("%+v: rule %q decides, want %d of %+v", c, got.Rule.Rule, want, services)
			}
		}
	})
}

func fits(s *policy.Service, c compile.Connection) bool {
	if s.Proto == 0 {
		return true
	}
	inPorts := len(s.Ports) == 0 || slices.ContainsFunc(s.Ports, func(r policy.PortRange) bool { return r.First <= c.DstPort && c.DstPort <= r.Last })
	return s.Proto == c.Proto && inPorts && (s.Type == nil || *s.Type == c.Type) && (s.Code == nil || *s.Code == c.Code)
}

// Ranks keep the order, and where a few rules come or go the others keep
// theirs.
func TestRanksStay(t *testing.T) {
	rule := func(i int) policy.Rule {
		return policy.Rule{Name: fmt.Sprint("r", i), Action: policy.ActionAllow, From: []policy.Peer{{Group: policy.Any}}}
	}
	set := func(rules []policy.Rule) *policy.Set {
		return &policy.Set{Policies: []policy.Policy{{Name: "p", Tier: policy.TierAdmin, Mode: policy.ModeEnforce, AppliesTo: []policy.Peer{{Group: policy.Any}}, Ingress: rules}}}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "rules")
		var rules []policy.Rule
		for i := range n {
			rules = append(rules, rule(i))
		}
		c := compile.New()
		before, err := c.Compile(set(rules), policy.Inventory{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		from, to := rapid.IntRange(0, n-1).Draw(t, "from"), rapid.IntRange(0, n-1).Draw(t, "to")
		moved := slices.Clone(rules)
		moved = slices.Insert(slices.Delete(moved, from, from+1), to, rules[from])
		moved = slices.Insert(moved, rapid.IntRange(0, n).Draw(t, "new at"), rule(n))
		after, err := c.Compile(set(moved), policy.Inventory{}, noon)
		if err != nil {
			t.Fatal(err)
		}
		changed := 0
		for i, id := range after.Order() {
			if id.Rule != moved[i].Name {
				t.Fatalf("rule %d is %s, want %s", i, id.Rule, moved[i].Name)
			}
			if old, ok := before.Rules[id]; ok && old.Rank != after.Rules[id].Rank {
				changed++
			}
		}
		if changed > 1 {
			t.Fatalf("%d rules changed their rank where one moved", changed)
		}
	})
}

// What the compiler did before tells in nothing but numbers that stay: a label
// moves one workload, and touches neither rules nor other workloads.
func TestALabelTouchesOneWorkload(t *testing.T) {
	pol, inv := policytest.Large(500, 100)
	c := compile.New()
	before, err := c.Compile(pol, inv, noon)
	if err != nil {
		t.Fatal(err)
	}
	inv.Workloads = slices.Clone(inv.Workloads)
	w := &inv.Workloads[7]
	w.Labels = maps.Clone(inv.Workloads[8].Labels)
	after, err := c.Compile(pol, inv, noon)
	if err != nil {
		t.Fatal(err)
	}
	var touched []netip.Prefix
	for p, id := range after.Endpoints {
		if before.Endpoints[p] != id {
			touched = append(touched, p)
		}
	}
	if len(touched) != 1 || touched[0].Addr() != w.Addrs[0] || len(after.Endpoints) != len(before.Endpoints) {
		t.Errorf("%v changed, of %d and %d endpoints", touched, len(before.Endpoints), len(after.Endpoints))
	}
	for id, r := range after.Rules {
		if fmt.Sprint(r) != fmt.Sprint(before.Rules[id]) {
			t.Errorf("rule %s changed: %v, was %v", id, r, before.Rules[id])
		}
	}
	if !maps.Equal(before.Services, after.Services) || !maps.Equal(before.Tracked, after.Tracked) {
		t.Error("services or tracked prefixes changed")
	}
}

func TestErrorsLeaveTheCompilerAsItWas(t *testing.T) {
	pol, inv := policytest.Large(10, 5)
	c := compile.New()
	if _, err := c.Compile(pol, inv, noon); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*policy.Policy){
		"an unknown group":   func(p *policy.Policy) { p.Ingress[0].From = []policy.Peer{{Group: "nobody"}} },
		"an unknown service": func(p *policy.Policy) { p.Ingress[0].Services = []policy.ServiceRef{{Name: "nothing"}} },
	} {
		bad, _ := policytest.Large(10, 5)
		edit(&bad.Policies[0])
		if _, err := c.Compile(bad, inv, noon); err == nil {
			t.Errorf("%s was compiled", name)
		}
		if p, err := c.Compile(pol, inv, noon); err != nil || len(p.Rules) == 0 {
			t.Errorf("after %s: %d rules, %v", name, len(p.Rules), err)
		}
	}
}
