package prove

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// place finds the classes of a connection; every class holds it once at most.
func (s *space) place(t *rapid.T, c oracle.Connection) (src, dst, service int) {
	find := func(a netip.Addr) int {
		var in []int
		for i := range s.addresses {
			for _, x := range s.addresses[i].spans {
				if x.holds(a) {
					in = append(in, i)
				}
			}
		}
		if len(in) != 1 {
			t.Fatalf("%s is in the classes %v", a, in)
		}
		return in[0]
	}
	at := atom{proto: c.Proto}
	switch {
	case c.Proto.HasPorts():
		at.first = c.DstPort
	case c.Proto.IsICMP():
		at.first = uint16(c.Type)<<8 | uint16(c.Code)
	default:
		at = atom{first: uint16(c.Proto)}
	}
	var in []int
	for i := range s.services {
		for _, a := range s.services[i].atoms {
			if a.proto == at.proto && a.holds(at.first) {
				in = append(in, i)
			}
		}
	}
	if len(in) != 1 {
		t.Fatalf("%+v is in the service classes %v", c, in)
	}
	return find(c.Src), find(c.Dst), in[0]
}

// says finds the rule that decides for one side; exactly one rect speaks of
// every connection.
func (s *side) says(t *rapid.T, own, other, service int) int {
	p := s.profiles[s.of[own]]
	if !p.members.Has(own) {
		t.Fatalf("class %d is not in its profile", own)
	}
	by, n := nobody, 0
	for _, r := range s.rects(s.of[own]) {
		if r.services.Has(service) && r.others.Has(other) {
			by, n = r.by, n+1
		}
	}
	if n != 1 {
		t.Fatalf("%d rects speak of %d, %d, %d", n, own, other, service)
	}
	return by
}

// The same rule decides for a connection as for all of its classes.
func TestClassesAreWhatTheOracleTellsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		d := &dimensions{}
		all := collect(newResolver(w.Set, w.Inventory, policytest.Now()), d).enforced()
		truth := oracle.New(w.Set, w.Inventory, policytest.Now())
		var spaces [families]*judged
		for f := range spaces {
			spaces[f] = newJudged(newSpace(f, d), all)
		}
		for _, c := range rapid.SliceOfN(policytest.Connections(w), 20, 40).Draw(t, "connections") {
			j := spaces[familyOf(c.Src)]
			src, dst, service := j.place(t, c)
			v := truth.Verdict(c)
			for _, x := range []struct {
				side *side
				by   int
				want oracle.Side
			}{{j.sides[policy.Egress], j.sides[policy.Egress].says(t, src, dst, service), v.Egress},
				{j.sides[policy.Ingress], j.sides[policy.Ingress].says(t, dst, src, service), v.Ingress}} {
				var id policy.RuleID
				if x.by != nobody {
					id = x.side.rules[x.by].id
				}
				if id != x.want.ID || x.side.action(x.by) != x.want.Action {
					t.Fatalf("%+v: %s by %s, the oracle says %s", c, x.side.action(x.by), id, x.want)
				}
			}
		}
	})
}

func TestSpans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(what string) (out addresses) {
			var list []netip.Prefix
			for _, p := range rapid.SliceOfN(policytest.Prefixes(), 0, 6).Draw(t, what) {
				list = append(list, p.Prefix)
			}
			return ofPrefixes(list)
		}
		a, b := draw("a"), draw("b")
		holds := func(x addresses, addr netip.Addr) bool {
			return slices.ContainsFunc(x[familyOf(addr)], func(s span) bool { return s.holds(addr) })
		}
		both, diff, all := a.intersect(b), a.without(b), union(a, b)
		for _, addr := range rapid.SliceOfN(policytest.Addresses(), 1, 20).Draw(t, "addresses") {
			for _, addr := range []netip.Addr{addr, addr.Prev(), addr.Next()} {
				if !addr.IsValid() {
					continue
				}
				inA, inB := holds(a, addr), holds(b, addr)
				if holds(both, addr) != (inA && inB) || holds(diff, addr) != (inA && !inB) || holds(all, addr) != (inA || inB) {
					t.Fatalf("%s in %v %v: both %v, without %v, union %v", addr, a, b, both, diff, all)
				}
			}
		}
		for _, x := range []addresses{both, diff, all} {
			for f := range x {
				if !slices.Equal(normal(slices.Clone(x[f])), x[f]) {
					t.Fatalf("%v overlap or touch", x[f])
				}
			}
		}
	})
}

func TestSpansInWords(t *testing.T) {
	for text, want := range map[string]string{"10.0.0.0 10.0.0.255": "10.0.0.0/24", "10.0.0.0 10.0.0.0": "10.0.0.0", "10.0.0.1 10.0.0.4": "10.0.0.1-10.0.0.4",
		"0.0.0.0 255.255.255.255": "0.0.0.0/0", "fd00:: fd00::1": "fd00::/127", "10.0.0.0 10.0.0.2": "10.0.0.0-10.0.0.2"} {
		first, last, _ := strings.Cut(text, " ")
		if got := (span{netip.MustParseAddr(first), netip.MustParseAddr(last)}).String(); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
