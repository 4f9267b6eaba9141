// Package policytest draws random policies, inventories and connections for
// property tests. Everything comes from a small world, so that groups overlap,
// rules hide each other and connections hit the edges of what is named.
package policytest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Now is the time at which the drawn worlds are looked at, a Monday.
func Now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// World is what a property is about.
type World struct {
	Set       *policy.Set
	Inventory policy.Inventory
}

// Worlds draws sets of policies that the reader accepts, with an inventory.
// They hold 1 to 8 policies; some policies are staged, out of their schedule
// or past their end at Now.
func Worlds() *rapid.Generator[World] {
	return rapid.Custom(func(t *rapid.T) World {
		inv := Inventories().Draw(t, "inventory")
		return World{Set: Sets().Draw(t, "set"), Inventory: inv}
	})
}

func feeds() []string { return []string{"feodo", "tor"} }

// Inventories draws workloads with addresses, labels, places and risks.
func Inventories() *rapid.Generator[policy.Inventory] {
	return rapid.Custom(func(t *rapid.T) policy.Inventory {
		inv := policy.Inventory{Feeds: map[string][]netip.Prefix{}, Assets: map[string][]netip.Prefix{}}
		for i := range rapid.IntRange(2, 12).Draw(t, "workloads") {
			w := policy.Workload{
				Name: fmt.Sprintf("w%d", i), Addrs: rapid.SliceOfN(Addresses(), 1, 3).Draw(t, "addrs"), MAC: flow.MAC{2, 0, 0, 0, 0, byte(i)},
				Switch: rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "switch"), Port: fmt.Sprintf("p%d", rapid.IntRange(1, 4).Draw(t, "port")),
				Labels: map[string]string{}, Risk: rapid.SampledFrom([]policy.Risk{0, 0, 0, policy.RiskLow, policy.RiskHigh, policy.RiskCritical}).Draw(t, "risk"),
			}
			for _, l := range labels() {
				if v := rapid.SampledFrom(append(l.values, "")).Draw(t, l.key); v != "" {
					w.Labels[l.key] = v
				}
			}
			inv.Workloads = append(inv.Workloads, w)
		}
		for _, f := range feeds() {
			inv.Feeds[f] = drawPlain(t, f)
		}
		inv.Assets["dns"] = drawPlain(t, "dns")
		return inv
	})
}

func drawPlain(t *rapid.T, what string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range rapid.SliceOfN(Prefixes(), 0, 3).Draw(t, what) {
		if p.Bits() > 8 { // not everybody
			out = append(out, p.Prefix)
		}
	}
	return out
}

type label struct {
	key    string
	values []string
}

func labels() []label {
	return []label{{"app", []string{"web", "db", "plc"}}, {"env", []string{"prod", "dev"}}}
}

// Addresses draws from two small subnets of each family, and from elsewhere.
func Addresses() *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		base := rapid.SampledFrom([]string{"10.0.0.0", "10.0.1.0", "192.0.2.0", "fd00::", "fd00:0:0:1::", "2001:db8::"}).Draw(t, "base")
		b := netip.MustParseAddr(base).AsSlice()
		b[len(b)-1] = byte(rapid.IntRange(0, 15).Draw(t, "host"))
		a, _ := netip.AddrFromSlice(b)
		return a
	})
}

// Prefixes draws prefixes of all lengths around Addresses.
func Prefixes() *rapid.Generator[policy.Prefix] {
	return rapid.Custom(func(t *rapid.T) policy.Prefix {
		a := Addresses().Draw(t, "addr")
		lengths := []int{0, 0, 8, 16, 23, 24, 28, 29, 30, 31, 32, 32}
		if a.Is6() {
			lengths = []int{0, 0, 16, 32, 63, 64, 124, 125, 126, 127, 128, 128}
		}
		p, err := a.Prefix(rapid.SampledFrom(lengths).Draw(t, "length"))
		if err != nil {
			t.Fatal(err)
		}
		return policy.Prefix{Prefix: p}
	})
}

// Guards draws up to three source guards for a set.
func Guards(s *policy.Set) *rapid.Generator[[]policy.SourceGuard] {
	return rapid.Custom(func(t *rapid.T) (out []policy.SourceGuard) {
		for i := range rapid.IntRange(0, 3).Draw(t, "guards") {
			out = append(out, drawGuard(t, s, i))
		}
		return out
	})
}

func drawGuard(t *rapid.T, s *policy.Set, i int) policy.SourceGuard {
	g := policy.SourceGuard{Name: fmt.Sprintf("guard%d", i), Mode: rapid.SampledFrom([]policy.Mode{policy.ModeStaged, policy.ModeEnforce}).Draw(t, "mode"),
		AppliesTo: []policy.Peer{{Group: rapid.SampledFrom(slices.Sorted(maps.Keys(s.Groups))).Draw(t, "guarded")}}}
	if rapid.IntRange(0, 3).Draw(t, "prefix") == 0 {
		g.AppliesTo = append(g.AppliesTo, policy.Peer{Prefix: Prefixes().Draw(t, "prefix").Prefix})
	}
	g.Learned = rapid.Bool().Draw(t, "learned")
	return g
}

// Sets draws what the reader would make of valid files.
func Sets() *rapid.Generator[*policy.Set] {
	return rapid.Custom(func(t *rapid.T) *policy.Set {
		s := &policy.Set{Groups: map[string]policy.Group{}, Services: map[string][]policy.Service{}}
		for i := range rapid.IntRange(1, 6).Draw(t, "groups") {
			s.Groups[fmt.Sprintf("g%d", i)] = drawGroup(t, i)
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "services") {
			s.Services[fmt.Sprintf("s%d", i)] = rapid.SliceOfN(Services(), 1, 3).Draw(t, "service")
		}
		if rapid.IntRange(0, 3).Draw(t, "protects") == 0 {
			s.Protected = []policy.Peer{drawProtected(t, s)}
		}
		taken := map[[2]int]bool{}
		for i := range rapid.SampledFrom([]int{1, 2, 3, 4, 6, 8}).Draw(t, "policies") {
			p := drawPolicy(t, s, i)
			for taken[[2]int{int(p.Tier), p.Priority}] {
				p.Priority++
			}
			taken[[2]int{int(p.Tier), p.Priority}] = true
			s.Policies = append(s.Policies, p)
		}
		for i := range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "invariants") {
			x := Invariants(s).Draw(t, "invariant")
			x.Name = fmt.Sprintf("i%d", i)
			s.Invariants = append(s.Invariants, x)
		}
		slices.SortFunc(s.Policies, func(a, b policy.Policy) int {
			if a.Tier != b.Tier {
				return int(a.Tier) - int(b.Tier)
			}
			return a.Priority - b.Priority
		})
		return s
	})
}

// drawProtected draws who is spared: a class of assets, a group or a prefix.
func drawProtected(t *rapid.T, s *policy.Set) policy.Peer {
	for {
		p := Peers(s).Draw(t, "protected")
		if p.IsAny() {
			p.Group = rapid.SampledFrom([]string{"dns", "gateways"}).Draw(t, "asset")
		}
		if p.Group != "" || p.Prefix.Bits() > 8 {
			return p
		}
	}
}

// drawGroup draws the group number i, which may join those before it.
func drawGroup(t *rapid.T, i int) policy.Group {
	var g policy.Group
	if i > 0 && rapid.IntRange(0, 4).Draw(t, "joins") == 0 {
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 1, min(i, 3), rapid.ID).Draw(t, "joined") {
			g.Groups = append(g.Groups, fmt.Sprintf("g%d", n))
		}
		g.Except = rapid.SliceOfN(Prefixes(), 0, 2).Draw(t, "except")
		if len(g.Except) == 0 {
			g.Except = nil // the reader takes an empty list for a mistake
		}
		return g
	}
	for {
		drawKeys(t, &g)
		if g.ByWorkload() || len(g.CIDRs) > 0 || g.Intel != "" {
			break
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "has except") == 0 {
		g.Except = rapid.SliceOfN(Prefixes(), 1, 2).Draw(t, "except")
	}
	if rapid.IntRange(0, 9).Draw(t, "has during") == 0 {
		g.During = Schedules().Draw(t, "during")
	}
	return g
}

// drawKeys narrows a group by some keys, or by none.
func drawKeys(t *rapid.T, g *policy.Group) {
	if rapid.Bool().Draw(t, "has selector") {
		g.Selector = map[string]string{}
		for _, l := range labels() {
			a, b := l.values[0], l.values[1]
			wants := []string{"", a, b, "*", "!" + a, "!*", a + "|" + b, "!" + b + "|" + a, "*!" + a}
			if want := rapid.SampledFrom(wants).Draw(t, l.key); want != "" {
				g.Selector[l.key] = want
			}
		}
		if len(g.Selector) == 0 {
			g.Selector = nil
		}
	}
	if rapid.IntRange(0, 7).Draw(t, "has ports") == 0 {
		g.Ports = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p1", "p2", "s1/p1", "s2/p3"}), 1, 2, rapid.ID).Draw(t, "ports")
	}
	if rapid.IntRange(0, 7).Draw(t, "has macs") == 0 {
		g.MACs = []flow.MAC{{2, 0, 0, 0, 0, byte(rapid.IntRange(0, 3).Draw(t, "mac"))}}
	}
	if rapid.IntRange(0, 2).Draw(t, "has cidrs") > 0 {
		g.CIDRs = rapid.SliceOfN(Prefixes(), 1, 3).Draw(t, "cidrs")
	}
	if rapid.IntRange(0, 7).Draw(t, "has risk") == 0 {
		g.Risk = rapid.SampledFrom([]policy.Risk{policy.RiskLow, policy.RiskMedium, policy.RiskCritical}).Draw(t, "risk")
	}
	if rapid.IntRange(0, 7).Draw(t, "has intel") == 0 {
		g.Intel = rapid.SampledFrom(append(feeds(), "unknown")).Draw(t, "intel")
	}
}

// Schedules draws windows, open or not at Now.
func Schedules() *rapid.Generator[*policy.Schedule] {
	return rapid.Custom(func(t *rapid.T) *policy.Schedule {
		days := []policy.Weekday{policy.Weekday(time.Sunday), policy.Weekday(time.Monday), policy.Weekday(time.Friday)}
		return &policy.Schedule{
			Days: rapid.SliceOfNDistinct(rapid.SampledFrom(days), 1, 2, rapid.ID).Draw(t, "days"),
			From: policy.Clock(rapid.SampledFrom([]int{0, 8 * 60, 12 * 60, 20 * 60}).Draw(t, "from")),
			To:   policy.Clock(rapid.SampledFrom([]int{6 * 60, 11 * 60, 12*60 + 1, 24 * 60}).Draw(t, "to")),
		}
	})
}

// Services draws services of every kind.
func Services() *rapid.Generator[policy.Service] {
	return rapid.Custom(func(t *rapid.T) policy.Service {
		s := policy.Service{Proto: rapid.SampledFrom([]policy.Proto{0, 6, 6, 17, 17, 132, 1, 58, 47}).Draw(t, "proto")}
		switch {
		case s.Proto.HasPorts():
			if s.Ports = rapid.SliceOfN(portRanges(), 0, 3).Draw(t, "ports"); len(s.Ports) == 0 {
				s.Ports = nil
			}
		case s.Proto.IsICMP():
			if rapid.Bool().Draw(t, "has type") {
				v := rapid.SampledFrom(icmpTypes()).Draw(t, "type")
				s.Type = &v
				if rapid.Bool().Draw(t, "has code") {
					v := rapid.SampledFrom([]uint8{0, 1}).Draw(t, "code")
					s.Code = &v
				}
			}
		}
		return s
	})
}

func icmpTypes() []uint8 { return []uint8{0, 8, 13, 128} }

func ports() []uint16 { return []uint16{0, 22, 53, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535} }

func portRanges() *rapid.Generator[policy.PortRange] {
	return rapid.Custom(func(t *rapid.T) policy.PortRange {
		r := policy.PortRange{First: rapid.SampledFrom(ports()).Draw(t, "first")}
		r.Last = r.First
		if rapid.Bool().Draw(t, "range") {
			r.Last = rapid.SampledFrom(ports()).Draw(t, "last")
		}
		if r.First > r.Last {
			r.First, r.Last = r.Last, r.First
		}
		return r
	})
}

// drawPolicy draws the policy number i, about groups and services of the set.
func drawPolicy(t *rapid.T, s *policy.Set, i int) policy.Policy {
	end := Now().Add(time.Hour)
	past := Now().Add(-time.Hour)
	p := policy.Policy{
		Name: fmt.Sprintf("p%d", i), Tier: policy.Tier(rapid.IntRange(1, 4).Draw(t, "tier")), Priority: rapid.IntRange(0, 20).Draw(t, "priority"),
		Mode:        rapid.SampledFrom([]policy.Mode{policy.ModeEnforce, policy.ModeEnforce, policy.ModeEnforce, policy.ModeStaged}).Draw(t, "mode"),
		AppliesTo:   rapid.SliceOfN(Peers(s), 1, 2).Draw(t, "appliesTo"),
		Established: rapid.SampledFrom([]policy.Established{policy.EstablishedRecheck, policy.EstablishedKeep}).Draw(t, "established"),
	}
	switch n := rapid.IntRange(0, 9).Draw(t, "end"); {
	case n == 0:
		p.ExpiresAt = &past
	case p.Tier == policy.TierEmergency || n == 1:
		p.ExpiresAt = &end
	}
	if rapid.IntRange(0, 9).Draw(t, "has schedule") == 0 {
		p.Schedule = Schedules().Draw(t, "schedule")
	}
	for len(p.Ingress)+len(p.Egress) == 0 {
		for n := range rapid.SampledFrom([]int{0, 1, 2, 3, 4}).Draw(t, "ingress") {
			r := drawRule(t, s, fmt.Sprintf("in%d", n))
			r.From = rapid.SliceOfN(Peers(s), 1, 3).Draw(t, "from")
			p.Ingress = append(p.Ingress, r)
		}
		for n := range rapid.SampledFrom([]int{0, 1, 2, 3, 4}).Draw(t, "egress") {
			r := drawRule(t, s, fmt.Sprintf("out%d", n))
			r.To = rapid.SliceOfN(Peers(s), 1, 3).Draw(t, "to")
			p.Egress = append(p.Egress, r)
		}
	}
	return p
}

func drawRule(t *rapid.T, s *policy.Set, name string) policy.Rule {
	r := policy.Rule{Name: name, Action: policy.Action(rapid.IntRange(1, 5).Draw(t, "action"))}
	if r.Action == policy.ActionRateLimit {
		r.Rate = &policy.Rate{PacketsPerSecond: 1000, Burst: 100}
	}
	r.Services = drawRefs(t, s)
	return r
}

func drawRefs(t *rapid.T, s *policy.Set) (out []policy.ServiceRef) {
	names := slices.Sorted(maps.Keys(s.Services))
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "services") {
		if len(names) > 0 && rapid.Bool().Draw(t, "named") {
			out = append(out, policy.ServiceRef{Name: rapid.SampledFrom(names).Draw(t, "name")})
			continue
		}
		inline := Services().Draw(t, "inline")
		out = append(out, policy.ServiceRef{Inline: &inline})
	}
	return out
}

// Invariants draws invariants about the groups and services of a set.
func Invariants(s *policy.Set) *rapid.Generator[policy.Invariant] {
	terms := func(t *rapid.T, what string) (out []policy.Term) {
		for range rapid.SampledFrom([]int{0, 1, 1, 2}).Draw(t, what) {
			x := policy.Term{Not: rapid.Bool().Draw(t, "not"), Peer: Peers(s).Draw(t, "peer")}
			x.Not = x.Not && !x.Peer.IsAny()
			out = append(out, x)
		}
		return out
	}
	return rapid.Custom(func(t *rapid.T) policy.Invariant {
		c := &policy.Connections{From: terms(t, "from"), To: terms(t, "to"), Services: drawRefs(t, s)}
		if rapid.Bool().Draw(t, "deny") {
			return policy.Invariant{Name: "i", Deny: c}
		}
		return policy.Invariant{Name: "i", Allow: c}
	})
}

// Peers draws peers of a set: its groups, prefixes and any.
func Peers(s *policy.Set) *rapid.Generator[policy.Peer] {
	return rapid.Custom(func(t *rapid.T) policy.Peer {
		switch rapid.SampledFrom([]string{"group", "group", "group", "any", "any", "prefix"}).Draw(t, "kind") {
		case "group":
			return policy.Peer{Group: rapid.SampledFrom(slices.Sorted(maps.Keys(s.Groups))).Draw(t, "group")}
		case "any":
			return policy.Peer{Group: policy.Any}
		}
		return policy.Peer{Prefix: Prefixes().Draw(t, "prefix").Prefix}
	})
}
