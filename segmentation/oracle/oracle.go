// Package oracle says what policies mean for a connection, slowly and
// obviously: it asks every rule in turn, and every group for its definition.
//
// Whatever is fast is held against it: the compiled tables, the proofs, the
// switch. So it shares nothing with them but the model.
package oracle

import (
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Connection is what is judged: the first packet of whoever opens it. What
// comes back, and ICMP errors about it, share its fate.
type Connection struct {
	// Src opens it and Dst is whom it is opened to; both of one family.
	Src, Dst netip.Addr
	Proto    policy.Proto // never any
	// SrcPort and DstPort are for protocols with ports. No rule names the
	// former; it tells DHCP from what only uses its ports.
	SrcPort, DstPort uint16
	// Type and Code are those of the question, for icmp and icmp6.
	Type, Code uint8
}

// Oracle answers for a set of policies, an inventory and a time.
type Oracle struct {
	set       *policy.Set
	policies  []policy.Policy // in force, in the order in which they decide
	workloads []policy.Workload
	feeds     map[string][]netip.Prefix
	assets    map[string][]netip.Prefix
	now       time.Time
}

// New returns an oracle. The set and the inventory must not change while it
// is used. Policies outside their schedule or past their end have no say.
func New(set *policy.Set, inv policy.Inventory, now time.Time) *Oracle {
	o := &Oracle{set: set, workloads: inv.Workloads, feeds: inv.Feeds, assets: inv.Assets, now: now}
	for _, p := range set.Policies {
		if p.Active(now) {
			o.policies = append(o.policies, p)
		}
	}
	slices.SortStableFunc(o.policies, func(a, b policy.Policy) int {
		if a.Tier != b.Tier {
			return int(a.Tier) - int(b.Tier)
		}
		return a.Priority - b.Priority
	})
	return o
}

// Verdict judges a connection, and tells what would be different if the
// staged policies were enforced.
func (o *Oracle) Verdict(c Connection) Verdict {
	c.Src, c.Dst = c.Src.Unmap(), c.Dst.Unmap()
	if what := Implied(c); what != "" {
		return Verdict{Outcome: Outcome{Action: policy.ActionAllow, Why: what + " is always allowed"}}
	}
	v := Verdict{Outcome: o.outcome(c, false)}
	if staged := o.outcome(c, true); !staged.same(v.Outcome) {
		v.Staged = &staged
	}
	return v
}

// outcome asks both sides, the opener's first.
func (o *Oracle) outcome(c Connection, staged bool) Outcome {
	return conclude(o.side(policy.Egress, c, staged), o.side(policy.Ingress, c, staged))
}

// side finds the rule that decides for one end of a connection.
func (o *Oracle) side(d policy.Direction, c Connection, staged bool) Side {
	own, other := c.Dst, c.Src
	if d == policy.Egress {
		own, other = c.Src, c.Dst
	}
	s := Side{Action: policy.ActionAllow}
	if p, ok := o.Protected(own); ok {
		s.Protected = p.String()
		return s
	}
	var leftTo policy.Tier // tiers before this one have passed
	for i := range o.policies {
		p := &o.policies[i]
		if p.Tier < leftTo || p.Mode == policy.ModeStaged && !staged || !o.anyHolds(p.AppliesTo, own) {
			continue
		}
		for _, r := range p.Rules(d) {
			if !o.anyHolds(r.Peers(d), other) || !o.fitsAny(r.Services, c) {
				continue
			}
			id := policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}
			if r.Action == policy.ActionPass {
				s.Passed = append(s.Passed, id)
				leftTo = p.Tier + 1
				break
			}
			s.ID, s.Tier, s.Action = id, p.Tier, r.Action
			return s
		}
	}
	return s
}

// anyHolds reports whether an address is one of the peers.
func (o *Oracle) anyHolds(peers []policy.Peer, a netip.Addr) bool {
	return slices.ContainsFunc(peers, func(p policy.Peer) bool { return o.Holds(p, a) })
}

// Protected returns the entry of the set's protected that holds an address: no
// policy applies to it, whatever its appliesTo says.
func (o *Oracle) Protected(a netip.Addr) (policy.Peer, bool) {
	i := slices.IndexFunc(o.set.Protected, func(p policy.Peer) bool {
		if slices.Contains(policy.AssetClasses(), p.Group) {
			return slices.ContainsFunc(o.assets[p.Group], func(x netip.Prefix) bool { return x.Contains(a) })
		}
		return o.Holds(p, a)
	})
	if i < 0 {
		return policy.Peer{}, false
	}
	return o.set.Protected[i], true
}

// Holds reports whether an address belongs to a peer.
func (o *Oracle) Holds(p policy.Peer, a netip.Addr) bool {
	a = a.Unmap()
	switch {
	case p.IsAny():
		return true
	case p.Group != "":
		return o.groupHolds(p.Group, a, nil)
	}
	return p.Prefix.Contains(a)
}

// groupHolds asks every key of a group. Within are the groups that led here:
// one that joins itself adds nothing to itself.
func (o *Oracle) groupHolds(name string, a netip.Addr, within []string) bool {
	g, known := o.set.Groups[name]
	if !known || slices.Contains(within, name) {
		return false
	}
	within = append(within[:len(within):len(within)], name)
	joined := func(other string) bool { return o.groupHolds(other, a, within) }
	contains := func(p policy.Prefix) bool { return p.Contains(a) }
	selected := func(w policy.Workload) bool { return slices.Contains(w.Addrs, a) && g.Selects(&w, o.now) }
	switch {
	case g.During != nil && !g.During.Covers(o.now),
		slices.ContainsFunc(g.Except, contains),
		len(g.CIDRs) > 0 && !slices.ContainsFunc(g.CIDRs, contains),
		len(g.Groups) > 0 && !slices.ContainsFunc(g.Groups, joined),
		g.Intel != "" && !slices.ContainsFunc(o.feeds[g.Intel], func(p netip.Prefix) bool { return p.Contains(a) }),
		g.ByWorkload() && !slices.ContainsFunc(o.workloads, selected):
		return false
	}
	return true
}

// fitsAny reports whether a connection fits one of the services; none are
// every service.
func (o *Oracle) fitsAny(refs []policy.ServiceRef, c Connection) bool {
	if len(refs) == 0 {
		return true
	}
	for _, ref := range refs {
		entries := o.set.Services[ref.Name]
		if ref.Inline != nil {
			entries = []policy.Service{*ref.Inline}
		}
		if slices.ContainsFunc(entries, func(s policy.Service) bool { return fits(s, c) }) {
			return true
		}
	}
	return false
}

// fits reports whether a connection fits a service in every key.
func fits(s policy.Service, c Connection) bool {
	if s.Proto != 0 && s.Proto != c.Proto {
		return false
	}
	if len(s.Ports) > 0 {
		within := func(r policy.PortRange) bool { return r.First <= c.DstPort && c.DstPort <= r.Last }
		if !c.Proto.HasPorts() || !slices.ContainsFunc(s.Ports, within) {
			return false
		}
	}
	if s.Type != nil && (!c.Proto.IsICMP() || *s.Type != c.Type) {
		return false
	}
	return s.Code == nil || c.Proto.IsICMP() && *s.Code == c.Code
}

// Implied names what hosts need to have an address and neighbours at all, and
// is allowed whatever the rules say: DHCP (RFC 2131, 8415), neighbour
// discovery (RFC 4861) and multicast listener discovery (RFC 2710, 3810). ARP
// is no connection, and allowed as well. It is "" for everything else.
func Implied(c Connection) string {
	switch uint8(c.Proto) {
	case flow.ProtoUDP:
		ports := [2]uint16{c.SrcPort, c.DstPort}
		v4 := [][2]uint16{{68, 67}, {67, 68}, {67, 67}}
		v6 := [][2]uint16{{546, 547}, {547, 546}, {547, 547}}
		if c.Src.Is4() && slices.Contains(v4, ports) || c.Src.Is6() && slices.Contains(v6, ports) {
			return "DHCP"
		}
	case flow.ProtoICMPv6:
		switch c.Type {
		case 133, 134, 135, 136, 137:
			return "neighbour discovery"
		case 130, 131, 132, 143:
			return "multicast listener discovery"
		}
	}
	return ""
}
