package prove_test

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/prove"
)

// about reports whether an invariant speaks of a connection: every term is
// asked of the oracle, and services of a policy made for that.
func about(w policytest.World, x *policy.Invariant, c oracle.Connection) bool {
	o := oracle.New(w.Set, w.Inventory, policytest.Now())
	a := x.Deny
	if a == nil {
		a = x.Allow
	}
	among := func(terms []policy.Term, end func(policy.Term) bool) bool {
		positive, in := false, false
		for _, t := range terms {
			if t.Not && end(t) {
				return false
			}
			positive, in = positive || !t.Not, in || !t.Not && end(t)
		}
		return in || !positive
	}
	probe := *w.Set
	probe.Protected = nil
	probe.Policies = []policy.Policy{{Name: "x", Tier: policy.TierAdmin, Mode: policy.ModeEnforce, AppliesTo: []policy.Peer{{Group: policy.Any}},
		Ingress: []policy.Rule{{Name: "fits", Action: policy.ActionDeny, From: []policy.Peer{{Group: policy.Any}}, Services: a.Services}}}}
	return among(a.From, func(t policy.Term) bool { return o.Holds(t.Peer, c.Src) }) && among(a.To, func(t policy.Term) bool { return o.Holds(t.Peer, c.Dst) }) &&
		!oracle.New(&probe, w.Inventory, policytest.Now()).Verdict(c).Allowed()
}

// A counterexample is one, and where there is none, none is found by trying
// what lies at the edges.
func TestVerifyAgreesWithTheOracle(t *testing.T) {
	held, broken := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		for range 4 {
			x := policytest.Invariants(w.Set).Draw(t, "invariant")
			w.Set.Invariants = append(w.Set.Invariants, x)
		}
		results, err := prove.Verify(w.Set, w.Inventory, policytest.Now())
		if err != nil {
			t.Fatal(err)
		}
		truth := oracle.New(w.Set, w.Inventory, policytest.Now())
		tried := rapid.SliceOfN(policytest.Connections(w), 20, 40).Draw(t, "connections")
		for i, r := range results {
			x := &w.Set.Invariants[i]
			if r.Invariant != x || r.Holds != (r.Counterexample == nil) {
				t.Fatalf("result %d is about %v: %v", i, r.Invariant, r)
			}
			if c := r.Counterexample; c != nil {
				broken++
				if v := truth.Verdict(c.Connection); v.Allowed() != (x.Deny != nil) || v.Why != c.Verdict.Why || !about(w, x, c.Connection) || c.Src == c.Dst {
					t.Fatalf("%+v is no counterexample of %+v: %s", c, x, v.Why)
				}
				continue
			}
			held++
			for _, c := range tried {
				if c.Src != c.Dst && about(w, x, c) && truth.Verdict(c).Allowed() == (x.Deny != nil) {
					raw, _ := w.Set.Marshal()
					t.Fatalf("%+v holds, but for %+v: %s\n%s", x, c, truth.Verdict(c).Why, raw)
				}
			}
		}
	})
	if held < 20 || broken < 20 {
		t.Errorf("%d invariants held and %d did not: too few of a kind", held, broken)
	}
}

func prefixes(t *testing.T, text ...string) []policy.Prefix {
	var out []policy.Prefix
	for _, s := range text {
		var p policy.Prefix
		if err := p.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func addrs(text ...string) (out []netip.Addr) {
	for _, s := range text {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func read(t *testing.T, text string) *policy.Set {
	t.Helper()
	set, err := policy.Read(policy.Source{Name: "p.yaml", Data: []byte("apiVersion: segmentation/v1\n" + text)})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const plant = `
groups:
  corp: {cidrs: [10.20.0.0/16, "fd20::/16"]}
  plc: {cidrs: [10.50.0.0/24, "fd50::/64"]}
services:
  modbus: [{proto: tcp, ports: [502]}]
policies:
- name: plc
  tier: application
  mode: enforce
  appliesTo: [plc]
  ingress:
  - {name: corp-modbus, action: allow, from: [corp], services: [modbus]}
  - {name: rest, action: deny, from: [any]}
invariants:
- {name: isolated, deny: {from: [not corp], to: [plc]}}
- {name: modbus-works, allow: {from: [corp], to: [plc], services: [modbus]}}
- {name: only-modbus, deny: {from: [corp], to: [plc], services: [{proto: tcp, ports: [0-501, 503-65535]}, {proto: udp}]}}
- {name: plc-stays-home, deny: {from: [plc], to: [not plc]}}
- {name: ping-works, allow: {from: [corp], to: [plc], services: [{proto: icmp, type: 8}]}}
`

// What a single address or port of 2^128 or 2^16 makes false is found.
func TestVerifyFindsTheNeedle(t *testing.T) {
	set := read(t, plant)
	hold := func(set *policy.Set) (names []string) {
		t.Helper()
		results, err := prove.Verify(set, policy.Inventory{}, policytest.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if r.Holds {
				names = append(names, r.Invariant.Name)
			}
		}
		return names
	}
	if got := hold(set); !slices.Equal(got, []string{"isolated", "modbus-works", "only-modbus"}) {
		t.Errorf("true are %v", got)
	}
	rules := &set.Policies[0].Ingress
	*rules = slices.Insert(*rules, 0, policy.Rule{Name: "one", Action: policy.ActionAllow, From: []policy.Peer{{Prefix: prefixes(t, "fd21::17")[0].Prefix}},
		Services: []policy.ServiceRef{{Inline: &policy.Service{Proto: 17, Ports: []policy.PortRange{{First: 7777, Last: 7777}}}}}})
	if got := hold(set); !slices.Equal(got, []string{"modbus-works", "only-modbus"}) {
		t.Errorf("true are %v, with one packet let through", got)
	}
	results, _ := prove.Verify(set, policy.Inventory{}, policytest.Now())
	if c := results[0].Counterexample; c == nil || c.Src.String() != "fd21::17" || c.Proto != 17 || c.DstPort != 7777 || c.Verdict.Ingress.ID.Rule != "one" {
		t.Errorf("the packet is told as %+v", c)
	}
	(*rules)[0].Action = policy.ActionReject
	if got := hold(set); !slices.Equal(got, []string{"isolated", "modbus-works", "only-modbus"}) {
		t.Errorf("true are %v, with one packet rejected", got)
	}
}

// An address's connections to itself are on no wire.
func TestOneCannotReachItself(t *testing.T) {
	set := read(t, `
groups: {a: {cidrs: [10.0.0.1]}, b: {cidrs: [10.0.0.1, 10.0.0.2]}}
policies: []
invariants:
- {name: alone, deny: {from: [a], to: [a]}}
- {name: two, deny: {from: [b], to: [a]}}
- {name: two-back, deny: {from: [a], to: [b]}}
`)
	results, err := prove.Verify(set, policy.Inventory{}, policytest.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !results[0].Holds || results[1].Holds || results[2].Holds {
		t.Errorf("held are %v, %v, %v", results[0].Holds, results[1].Holds, results[2].Holds)
	}
}
