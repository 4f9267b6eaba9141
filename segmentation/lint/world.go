package lint

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// world is everybody who can be a side of a connection, as kinds of which
// rules cannot tell two members apart.
type world struct {
	set    *policy.Set
	names  []string // of groups
	index  map[string]int
	kinds  []kind
	open   bool // the workloads are not known
	narrow bool // some of them are left out
	guards []guard
	// literals are the prefixes that stand as peers, or protected, and feeds
	// the names of feeds.
	literals map[netip.Prefix]int
	feeds    []string
}

// kind is a set of addresses with what holds for all of them. During is left
// to the time.
type kind struct {
	v6       bool
	workload bool       // somebody has the address
	literals bitset.Set // that hold it, by index
	could    bitset.Set // groups whose addresses, labels and places fit, by index
	risk     policy.Risk
	feeds    bitset.Set // that list it, by index into world.feeds
}

// guard is something protected.
type guard struct {
	name     string
	class    bool // an asset class, whose addresses may be unknown
	listed   bool // in the files: no policy applies to it
	peers    []policy.Peer
	anywhere bool // nothing is known of its addresses
}

const (
	maxStates = 5_000   // kinds of workloads that labels tell apart
	maxKinds  = 200_000 // before they are merged
)

// newWorld partitions the addresses; ok is false when there are too many
// kinds.
func newWorld(s *policy.Set, opt Options) (*world, bool) {
	inv := opt.Inventory
	w := &world{set: s, names: slices.Sorted(maps.Keys(s.Groups)), index: map[string]int{}, open: inv == nil}
	for i, name := range w.names {
		w.index[name] = i
	}
	w.guards = guards(s, opt)
	w.literals, w.feeds = w.prefixPeers(), w.feedNames()
	b := builder{w: w, seen: map[string]bool{}}
	if inv == nil {
		states, ok := b.states()
		return w, ok && b.open(states, func(netip.Addr) bool { return true })
	}
	owners := map[netip.Addr][]*policy.Workload{}
	for i := range inv.Workloads {
		for _, a := range inv.Workloads[i].Addrs {
			owners[a.Unmap()] = append(owners[a.Unmap()], &inv.Workloads[i])
		}
	}
	for _, a := range b.addresses(slices.Collect(maps.Keys(owners))) {
		selected := bitset.New(len(w.names))
		for i, name := range w.names {
			g := s.Groups[name]
			g.Risk, g.During = 0, nil
			if slices.ContainsFunc(owners[a], func(x *policy.Workload) bool { return g.Selects(x, time.Time{}) }) {
				selected.Add(i)
			}
		}
		b.put(a, selected, len(owners[a]) > 0)
		if len(w.kinds) > maxKinds {
			return nil, false
		}
	}
	return w, true
}

// newNarrowWorld is a world without an inventory that is never too large: only
// protected addresses may be anybody's, or, where that is too much as well,
// nobody's.
func newNarrowWorld(s *policy.Set, opt Options) *world {
	for _, anybody := range []bool{true, false} {
		w := &world{set: s, names: slices.Sorted(maps.Keys(s.Groups)), index: map[string]int{}, open: true, narrow: true, guards: guards(s, opt)}
		for i, name := range w.names {
			w.index[name] = i
		}
		w.literals, w.feeds = w.prefixPeers(), w.feedNames()
		b := builder{w: w, seen: map[string]bool{}}
		var states []bitset.Set
		ok := true
		if anybody {
			states, ok = b.states()
		}
		if ok && b.open(states, w.guardedAddr) || !anybody {
			return w
		}
	}
	return nil // not reached
}

// guardedAddr reports whether an address is protected as such.
func (w *world) guardedAddr(a netip.Addr) bool {
	return slices.ContainsFunc(w.guards, func(g guard) bool {
		return slices.ContainsFunc(g.peers, func(p policy.Peer) bool { return p.Group == "" && p.Prefix.Contains(a) })
	})
}

// open adds every address as nobody's, and some as those of workloads in every
// state; false if that is too much.
func (b *builder) open(states []bitset.Set, some func(netip.Addr) bool) bool {
	for _, a := range b.addresses(nil) {
		b.put(a, bitset.New(len(b.w.names)), false)
		if some(a) {
			for _, s := range states {
				b.put(a, s, true)
			}
		}
		if len(b.w.kinds) > maxKinds {
			return false
		}
	}
	return true
}

// builder merges addresses into kinds.
type builder struct {
	w    *world
	seen map[string]bool
}

// prefixPeers lists the prefixes that stand as peers, or protected.
func (w *world) prefixPeers() map[netip.Prefix]int {
	out := map[netip.Prefix]int{}
	take := func(peers []policy.Peer) {
		for _, p := range peers {
			if _, known := out[p.Prefix]; p.Group == "" && !known {
				out[p.Prefix] = len(out)
			}
		}
	}
	for i := range w.set.Policies {
		p := &w.set.Policies[i]
		take(p.AppliesTo)
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for j := range p.Rules(d) {
				take(p.Rules(d)[j].Peers(d))
			}
		}
	}
	for _, g := range w.guards {
		take(g.peers)
	}
	return out
}

func (w *world) feedNames() []string {
	var out []string
	for _, name := range w.names {
		if feed := w.set.Groups[name].Intel; feed != "" && !slices.Contains(out, feed) {
			out = append(out, feed)
		}
	}
	return out
}

// addresses lists one address of each stretch between which no prefix begins
// or ends.
func (b *builder) addresses(own []netip.Addr) []netip.Addr {
	starts := map[netip.Addr]bool{netip.IPv4Unspecified(): true, netip.IPv6Unspecified(): true}
	add := func(p netip.Prefix) {
		starts[p.Addr()] = true
		if next := last(p).Next(); next.IsValid() {
			starts[next] = true
		}
	}
	for p := range b.w.literals {
		add(p)
	}
	for _, name := range b.w.names {
		g := b.w.set.Groups[name]
		for _, p := range append(slices.Clone(g.CIDRs), g.Except...) {
			add(p.Prefix)
		}
	}
	for _, a := range own {
		add(netip.PrefixFrom(a, a.BitLen()))
	}
	return slices.SortedFunc(maps.Keys(starts), netip.Addr.Compare)
}

// last is the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// put adds an address whose workload, if there is one, is selected by groups.
// Findings may say anything of a workload, and feeds list anything.
func (b *builder) put(a netip.Addr, selected bitset.Set, workload bool) {
	k := kind{v6: a.Is6(), workload: workload, literals: bitset.New(len(b.w.literals)), could: bitset.New(len(b.w.names))}
	for p, i := range b.w.literals {
		if p.Contains(a) {
			k.literals.Add(i)
		}
	}
	contains := func(p policy.Prefix) bool { return p.Contains(a) }
	risks, listed := false, false
	for i, name := range b.w.names {
		g := b.w.set.Groups[name]
		if (!g.ByWorkload() || selected.Has(i) && workload) && !slices.ContainsFunc(g.Except, contains) &&
			(len(g.CIDRs) == 0 || slices.ContainsFunc(g.CIDRs, contains)) {
			k.could.Add(i)
			risks, listed = risks || g.Risk > 0, listed || g.Intel != ""
		}
	}
	levels, lists := 1, 1
	if risks {
		levels = int(policy.RiskCritical) + 1
	}
	if listed {
		lists = 1 << min(len(b.w.feeds), 4)
	}
	for risk := range levels {
		for list := range lists {
			k := k
			k.risk, k.feeds = policy.Risk(risk), bitset.New(len(b.w.feeds))
			for f := range b.w.feeds {
				if list>>min(f, 3)&1 != 0 { // from the fourth on they are one
					k.feeds.Add(f)
				}
			}
			if key := k.key(); !b.seen[key] {
				b.seen[key] = true
				b.w.kinds = append(b.w.kinds, k)
			}
		}
	}
}

// key is equal for kinds that nothing tells apart.
func (k *kind) key() string {
	raw := make([]byte, 0, 8*(len(k.literals)+len(k.could)+len(k.feeds))+3)
	for _, s := range []bitset.Set{k.literals, k.could, k.feeds} {
		for _, w := range s {
			raw = append(raw, byte(w), byte(w>>8), byte(w>>16), byte(w>>24), byte(w>>32), byte(w>>40), byte(w>>48), byte(w>>56))
		}
	}
	flags := byte(0)
	if k.v6 {
		flags |= 1
	}
	if k.workload {
		flags |= 2
	}
	return string(append(raw, flags, byte(k.risk)))
}

// members lists the kinds that belong to a peer at a time.
type members struct {
	w      *world
	now    time.Time
	groups []bitset.Set // by index; nil: not known yet
}

func (w *world) at(now time.Time) *members {
	return &members{w: w, now: now, groups: make([]bitset.Set, len(w.names))}
}

// of lists the kinds of any of some peers.
func (m *members) of(peers []policy.Peer) bitset.Set {
	out := bitset.New(len(m.w.kinds))
	for _, p := range peers {
		switch {
		case p.IsAny():
			for i := range m.w.kinds {
				out.Add(i)
			}
		case p.Group != "":
			out.AddAll(m.group(p.Group))
		default:
			n := m.w.literals[p.Prefix]
			for i := range m.w.kinds {
				if m.w.kinds[i].literals.Has(n) {
					out.Add(i)
				}
			}
		}
	}
	return out
}

func (m *members) group(name string) bitset.Set {
	n, known := m.w.index[name]
	if !known { // an asset class
		return bitset.New(len(m.w.kinds))
	}
	if m.groups[n] != nil {
		return m.groups[n]
	}
	out := bitset.New(len(m.w.kinds))
	m.groups[n] = out
	g := m.w.set.Groups[name]
	if g.During != nil && !g.During.Covers(m.now) {
		return out
	}
	joined := bitset.New(len(m.w.kinds))
	for _, other := range g.Groups {
		joined.AddAll(m.group(other))
	}
	feed := slices.Index(m.w.feeds, g.Intel)
	for i := range m.w.kinds {
		k := &m.w.kinds[i]
		if k.could.Has(n) && k.risk >= g.Risk && (feed < 0 || k.feeds.Has(feed)) && (len(g.Groups) == 0 || joined.Has(i)) {
			out.Add(i)
		}
	}
	return out
}
