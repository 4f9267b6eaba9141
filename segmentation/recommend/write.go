package recommend

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// anyTime is for groups without a schedule.
func anyTime() time.Time { return time.Time{} }

const (
	// step leaves room between priorities for policies of people.
	step = 100
	// lastPriority is that of the default deny.
	lastPriority = 1000
)

// write makes the policy of what was learned.
func (n *network) write(in Input, o Options) *Recommendation {
	r := &Recommendation{Evidence: map[policy.RuleID]Evidence{}, Stats: in.Stats, names: map[string]Group{}}
	r.File = policy.File{APIVersion: policy.APIVersion, Groups: map[string]policy.Group{}, Services: map[string][]policy.Service{}}
	for _, p := range n.parties {
		r.add(Group{Name: p.name, Members: n.namesOf(p.members), Part: p.part}, n.definition(p))
	}
	if len(n.quiet) > 0 {
		r.add(Group{Name: quietName, Members: n.namesOf(n.quiet), Quiet: true}, policy.Group{CIDRs: n.addresses(n.quiet)})
	}
	for _, b := range n.rules {
		r.File.Services[b.service] = n.services[b.service]
	}
	n.policies(r)
	r.deny(n)
	if usesOutside(&r.File) {
		r.add(Group{Name: outsideName}, n.outsideGroup(o))
	}
	for why, l := range n.left {
		out := LeftOut{Why: why, Connections: l.connections}
		for _, e := range l.examples {
			out.Examples = append(out.Examples, e.Key.String())
		}
		r.LeftOut = append(r.LeftOut, out)
	}
	slices.SortFunc(r.LeftOut, func(a, b LeftOut) int { return cmp.Compare(a.Why, b.Why) })
	slices.SortFunc(r.Groups, func(a, b Group) int { return cmp.Compare(a.Name, b.Name) })
	return r
}

func (r *Recommendation) add(g Group, def policy.Group) {
	g.ByLabels = def.Selector != nil
	r.Groups = append(r.Groups, g)
	r.names[g.Name] = g
	r.File.Groups[g.Name] = def
}

func (n *network) namesOf(members []int) []string {
	var out []string
	for _, m := range members {
		out = append(out, n.nodes[m].name)
	}
	return out
}

func (n *network) addresses(members []int) []policy.Prefix {
	var out []policy.Prefix
	for _, m := range members {
		for _, a := range n.nodes[m].addrs {
			out = append(out, policy.Prefix{Prefix: netip.PrefixFrom(a, a.BitLen())})
		}
	}
	slices.SortFunc(out, func(a, b policy.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}

// definition says whom a party holds: by labels if they explain it, else by
// address. Of a network in which nobody else was seen, a whole group has all.
func (n *network) definition(p *party) policy.Group {
	if selector, ok := n.explain(p.members); ok {
		return policy.Group{Selector: selector}
	}
	g := policy.Group{CIDRs: n.addresses(p.members)}
	if p.part {
		return g
	}
	own, others := map[netip.Prefix]int{}, map[netip.Prefix]bool{}
	for i := range n.nodes {
		for _, a := range n.nodes[i].addrs {
			if n.group[i] == p.group {
				own[near(a)]++
			} else {
				others[near(a)] = true
			}
		}
	}
	var out []policy.Prefix
	for _, a := range g.CIDRs {
		if x := near(a.Addr()); own[x] >= nearby && !others[x] {
			a = policy.Prefix{Prefix: x}
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	g.CIDRs = out
	for _, e := range n.edges { // to the broadcast address of a network go packets for others than the group
		a := policy.Prefix{Prefix: netip.PrefixFrom(e.conn.Responder, e.conn.Responder.BitLen())}
		within := func(p policy.Prefix) bool { return p.Contains(e.conn.Responder) }
		if e.to == everybody && slices.ContainsFunc(out, within) && !slices.Contains(g.Except, a) {
			g.Except = append(g.Except, a)
		}
	}
	return g
}

// outsideGroup is everybody who is not inside.
func (n *network) outsideGroup(o Options) policy.Group {
	g := policy.Group{CIDRs: []policy.Prefix{{Prefix: netip.MustParsePrefix("0.0.0.0/0")}, {Prefix: netip.MustParsePrefix("::/0")}}}
	inside := slices.Clone(o.Internal)
	for i := range n.nodes {
		for _, a := range n.nodes[i].addrs {
			if !slices.ContainsFunc(o.Internal, func(p netip.Prefix) bool { return p.Contains(a) }) {
				inside = append(inside, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	for _, p := range inside {
		g.Except = append(g.Except, policy.Prefix{Prefix: p.Masked()})
	}
	return g
}

// peers are how a party stands in a rule.
func (p *party) peers() []policy.Peer {
	switch {
	case isHost(p.group):
		return []policy.Peer{{Group: p.name}}
	case p.group == outside && p.prefixes == nil:
		return []policy.Peer{{Group: outsideName}}
	}
	var out []policy.Peer
	for _, x := range p.prefixes {
		out = append(out, policy.Peer{Prefix: x})
	}
	return out
}

// policies writes a policy for every party, with a rule for every service
// that it offers or uses.
func (n *network) policies(r *Recommendation) {
	parties := slices.Clone(n.parties)
	slices.SortFunc(parties, func(a, b *party) int { return cmp.Compare(a.name, b.name) })
	for _, p := range parties {
		pol := policy.Policy{Name: p.name, Tier: policy.TierApplication, Priority: step * (len(r.File.Policies) + 1), Mode: policy.ModeStaged,
			AppliesTo: []policy.Peer{{Group: p.name}}}
		pol.Ingress = n.direction(r, p, policy.Ingress)
		pol.Egress = n.direction(r, p, policy.Egress)
		if len(pol.Ingress)+len(pol.Egress) > 0 {
			r.File.Policies = append(r.File.Policies, pol)
		}
	}
}

func (n *network) direction(r *Recommendation, p *party, d policy.Direction) []policy.Rule {
	type learned struct {
		peers []policy.Peer
		of    Evidence
	}
	by := map[string]*learned{}
	for _, b := range n.rules {
		own, other := b.to, b.from
		if d == policy.Egress {
			own, other = b.from, b.to
		}
		if own != p {
			continue
		}
		l := by[b.service]
		if l == nil {
			l = &learned{}
			by[b.service] = l
		}
		l.peers = append(l.peers, other.peers()...)
		l.of.add(b.evidence)
	}
	var rules []policy.Rule
	for _, s := range slices.Sorted(maps.Keys(by)) {
		l := by[s]
		slices.SortFunc(l.peers, func(a, b policy.Peer) int {
			return cmp.Or(cmp.Compare(a.Group, b.Group), a.Prefix.Addr().Compare(b.Prefix.Addr()), cmp.Compare(a.Prefix.Bits(), b.Prefix.Bits()))
		})
		rule := policy.Rule{Name: "in-" + s, Action: policy.ActionAllow, Services: []policy.ServiceRef{{Name: s}}}
		if d == policy.Egress {
			rule.Name, rule.To = "out-"+s, slices.Compact(l.peers)
		} else {
			rule.From = slices.Compact(l.peers)
		}
		rules = append(rules, rule)
		r.Evidence[policy.RuleID{Policy: p.name, Direction: d, Rule: rule.Name}] = l.of
	}
	return rules
}

// deny ends the policy with the default: nothing else, for all that are here.
func (r *Recommendation) deny(n *network) {
	deny := policy.Policy{Name: "default-deny", Tier: policy.TierBaseline, Priority: lastPriority, Mode: policy.ModeStaged,
		Ingress: []policy.Rule{{Name: "deny-in", Action: policy.ActionDeny, From: []policy.Peer{{Group: policy.Any}}}},
		Egress:  []policy.Rule{{Name: "deny-out", Action: policy.ActionDeny, To: []policy.Peer{{Group: policy.Any}}}}}
	for _, p := range n.parties {
		if !p.part {
			deny.AppliesTo = append(deny.AppliesTo, policy.Peer{Group: p.name})
		}
	}
	if len(n.quiet) > 0 {
		deny.AppliesTo = append(deny.AppliesTo, policy.Peer{Group: quietName})
	}
	slices.SortFunc(deny.AppliesTo, func(a, b policy.Peer) int { return cmp.Compare(a.Group, b.Group) })
	if len(deny.AppliesTo) > 0 {
		r.File.Policies = append(r.File.Policies, deny)
	}
}

func usesOutside(f *policy.File) bool {
	is := func(p policy.Peer) bool { return p.Group == outsideName }
	for i := range f.Policies {
		for _, r := range slices.Concat(f.Policies[i].Ingress, f.Policies[i].Egress) {
			if slices.ContainsFunc(r.From, is) || slices.ContainsFunc(r.To, is) {
				return true
			}
		}
	}
	return false
}
