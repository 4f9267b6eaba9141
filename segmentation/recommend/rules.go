package recommend

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// party is one side of rules: a group, a part of one, or addresses outside.
type party struct {
	name    string
	group   int // outside for those outside, everybody for who listens
	members []int
	part    bool
	// prefixes are those outside, where they are few, and those to which is
	// sent what is for everybody.
	prefixes []netip.Prefix
}

// block is a service that one party uses of another.
type block struct {
	from, to *party
	service  string
	evidence Evidence
}

// maxOutside is how many prefixes of the outside stand in a rule. Who uses more
// places for the same goes to others tomorrow: that is everybody outside.
const maxOutside = 3

// blockKey is what connections are joined by into a rule.
type blockKey struct {
	from, to int
	service  string
}

// blocks makes what rules are written of.
func (n *network) blocks() {
	group := func(node int) int {
		if !isHost(node) {
			return node
		}
		return n.group[node]
	}
	edges := map[blockKey][]edge{}
	for _, e := range n.edges {
		k := blockKey{group(e.from), group(e.to), e.service}
		edges[k] = append(edges[k], e)
	}
	parties := map[string]*party{}
	for _, k := range slices.SortedFunc(maps.Keys(edges), compareBlocks) {
		list := edges[k]
		b := block{service: k.service}
		b.from = n.party(parties, k.from, list, func(e edge) (int, netip.Addr) { return e.from, e.conn.Opener })
		b.to = n.party(parties, k.to, list, func(e edge) (int, netip.Addr) { return e.to, e.conn.Responder })
		b.evidence = evidence(list)
		b.evidence.fromOf, b.evidence.intoOf = map[*party]bool{b.from: true}, map[*party]bool{b.to: true}
		b.evidence.count()
		share := 1.0
		b.evidence.Announced = k.to == everybody
		if isHost(b.from.group) {
			share = float64(b.evidence.Openers) / float64(len(b.from.members))
		}
		many := float64(b.evidence.Minutes)
		b.evidence.Confidence = many / (many + 1) * (1 + share) / 2
		if b.evidence.Confidence < n.options.MinConfidence {
			for _, e := range list {
				n.leave(tooRare, e.conn)
			}
			continue
		}
		n.rules = append(n.rules, b)
	}
	n.findQuiet()
	n.name()
}

func compareBlocks(a, b blockKey) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.service, b.service))
}

// party finds or makes one side of what was seen.
func (n *network) party(all map[string]*party, g int, list []edge, side func(edge) (int, netip.Addr)) *party {
	nodes, addrs := map[int]bool{}, map[netip.Addr]bool{}
	for _, e := range list {
		node, addr := side(e)
		nodes[node], addrs[addr] = true, true
	}
	p := &party{group: g}
	switch {
	case g == outside:
		if p.prefixes = summarise(slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare)); len(p.prefixes) > maxOutside {
			p.prefixes = nil
		}
	case g == everybody:
		p.prefixes = listeners(slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare))
	case float64(len(nodes)) < partShare*float64(len(n.members[g])):
		p.part = true
		p.members = slices.SortedFunc(maps.Keys(nodes), n.compareNodes)
	default:
		p.members = n.members[g]
	}
	key := fmt.Sprint(g, p.members, p.prefixes)
	if had := all[key]; had != nil {
		return had
	}
	all[key] = p
	return p
}

// evidence sums up what a rule was seen to be needed for.
func evidence(list []edge) Evidence {
	var e Evidence
	from, to := map[int]bool{}, map[int]bool{}
	first, last := list[0].conn.First, list[0].conn.Last
	for _, x := range list {
		from[x.from], to[x.to] = true, true
		e.Conversations += x.conn.Opens()
		e.Minutes += x.conn.Minutes
		e.Days = max(e.Days, x.conn.Days)
		first, last = min(first, x.conn.First), max(last, x.conn.Last)
	}
	delete(from, outside)
	delete(to, outside)
	delete(to, everybody)
	e.from, e.to = from, to
	e.First, e.Last = time.Unix(0, first).UTC(), time.Unix(0, last).UTC()
	return e
}

// findQuiet lists those who are here and of whom nothing was learned.
func (n *network) findQuiet() {
	for i := range n.nodes {
		if n.group[i] == outside && (n.nodes[i].workload != nil || n.nodes[i].opened) {
			n.quiet = append(n.quiet, i)
		}
	}
	slices.SortFunc(n.quiet, n.compareNodes)
}

const (
	// nearby is how many addresses of one /24 or /64 stand for all of it.
	nearby         = 4
	nearV4, nearV6 = 24, 64
)

// summarise joins sorted addresses to prefixes where several are near each
// other.
func summarise(addrs []netip.Addr) []netip.Prefix {
	count := map[netip.Prefix]int{}
	for _, a := range addrs {
		count[near(a)]++
	}
	var out []netip.Prefix
	for _, a := range addrs {
		p := near(a)
		if count[p] < nearby {
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if len(out) == 0 || out[len(out)-1] != p {
			out = append(out, p)
		}
	}
	return out
}

// maxListeners is how many groups, each by its address, stand in a rule. Who
// sends to more takes another one tomorrow: that is all of them.
const maxListeners = 16

// listeners are the multicast groups and broadcast addresses of a rule.
func listeners(addrs []netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		p := netip.PrefixFrom(a, a.BitLen())
		if len(addrs) > maxListeners && a.IsMulticast() {
			bits := map[bool]int{true: 4, false: 8}[a.Is4()] // 224.0.0.0/4, ff00::/8
			p = netip.PrefixFrom(a, bits).Masked()
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

func near(a netip.Addr) netip.Prefix {
	bits := nearV6
	if a.Is4() {
		bits = nearV4
	}
	return netip.PrefixFrom(a, bits).Masked()
}
