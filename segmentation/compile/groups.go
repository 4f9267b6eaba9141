package compile

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// groups answers which groups an address is in.
type groups struct {
	now    time.Time
	list   []group
	index  map[string]int // by name; prefixes of rules are groups of their own
	joined []int          // those that join others, a member before what joins it
	// workload groups by a label that they insist on, and the others.
	byLabel map[[2]string][]int
	byOther []int
	always  bitset.Set // groups by address that name no prefix
	narrow  bitset.Set // groups that hold only what they name by prefix or feed
	feeds   bitset.Set // groups that hold only addresses of a feed, or of assets
	static  map[netip.Prefix]*named
	lengths [2][]int // of the static prefixes of IPv4 and IPv6, falling
}

type group struct {
	policy.Group
	members []int // joined groups
	// asset is the class of the controller's assets that it holds, if any.
	asset string
}

// named says which groups name a prefix or one that holds it.
type named struct{ cidr, except, feed bitset.Set }

// newGroups prepares the groups of a set, and of the prefixes that its rules
// name.
func newGroups(pol *policy.Set, inv *policy.Inventory, now time.Time) (*groups, error) {
	g := &groups{now: now, index: map[string]int{}, byLabel: map[[2]string][]int{}, static: map[netip.Prefix]*named{}}
	for _, name := range slices.Sorted(maps.Keys(pol.Groups)) {
		g.index[name] = len(g.list)
		g.list = append(g.list, group{Group: pol.Groups[name]})
	}
	for p := range peers(pol) {
		if _, ok := g.index[p.String()]; p.Group == "" && !ok {
			g.index[p.String()] = len(g.list)
			g.list = append(g.list, group{Group: policy.Group{CIDRs: []policy.Prefix{{Prefix: p.Prefix.Masked()}}}})
		}
	}
	for _, name := range policy.AssetClasses() {
		if slices.Contains(pol.Protected, policy.Peer{Group: name}) {
			g.index[name] = len(g.list)
			g.list = append(g.list, group{asset: name})
		}
	}
	g.always, g.narrow, g.feeds = bitset.New(len(g.list)), bitset.New(len(g.list)), bitset.New(len(g.list))
	for _, p := range everything() {
		g.name(p)
	}
	for i := range g.list {
		if err := g.prepare(i, inv); err != nil {
			return nil, err
		}
	}
	g.inherit()
	return g, nil
}

// peers yields every peer that the set names in policies.
func peers(pol *policy.Set) func(yield func(policy.Peer) bool) {
	return func(yield func(policy.Peer) bool) {
		lists := [][]policy.Peer{pol.Protected}
		for i := range pol.Policies {
			p := &pol.Policies[i]
			lists = append(lists, p.AppliesTo)
			for j := range p.Ingress {
				lists = append(lists, p.Ingress[j].From)
			}
			for j := range p.Egress {
				lists = append(lists, p.Egress[j].To)
			}
		}
		for _, l := range lists {
			for _, p := range l {
				if !yield(p) {
					return
				}
			}
		}
	}
}

func (g *groups) prepare(i int, inv *policy.Inventory) error {
	gr := &g.list[i]
	for _, p := range gr.CIDRs {
		g.name(p.Prefix).cidr.Add(i)
	}
	for _, p := range gr.Except {
		g.name(p.Prefix).except.Add(i)
	}
	if len(gr.CIDRs) > 0 {
		g.narrow.Add(i)
	}
	if gr.Intel != "" {
		g.feeds.Add(i)
		for _, p := range inv.Feeds[gr.Intel] {
			g.name(p).feed.Add(i)
		}
	}
	if gr.asset != "" {
		g.feeds.Add(i)
		for _, p := range inv.Assets[gr.asset] {
			g.name(p).feed.Add(i)
		}
	}
	switch {
	case len(gr.Groups) > 0:
		return g.join(i, nil)
	case gr.ByWorkload():
		g.file(i)
	case gr.During == nil || gr.During.Covers(g.now):
		g.always.Add(i)
	}
	return nil
}

// file files a group of workloads under a label that all of them have, if
// it insists on one: so a workload is held against few groups.
func (g *groups) file(i int) {
	for key, value := range g.list[i].Selector {
		if value != "*" && !strings.ContainsAny(value, "!|") {
			g.byLabel[[2]string{key, value}] = append(g.byLabel[[2]string{key, value}], i)
			return
		}
	}
	g.byOther = append(g.byOther, i)
}

// join resolves what a group joins, depth first.
func (g *groups) join(i int, path []int) error {
	gr := &g.list[i]
	if slices.Contains(path, i) {
		return errors.New("a group joins itself")
	}
	if len(gr.members) > 0 || len(gr.Groups) == 0 {
		return nil
	}
	for _, name := range gr.Groups {
		m, ok := g.index[name]
		if !ok {
			return fmt.Errorf("unknown group %q", name)
		}
		if err := g.join(m, append(path, i)); err != nil {
			return fmt.Errorf("group %q: %w", name, err)
		}
		gr.members = append(gr.members, m)
	}
	g.joined = append(g.joined, i)
	return nil
}

// name returns what names a prefix, for writing.
func (g *groups) name(p netip.Prefix) *named {
	p = p.Masked()
	n := g.static[p]
	if n == nil {
		n = &named{bitset.New(len(g.list)), bitset.New(len(g.list)), bitset.New(len(g.list))}
		g.static[p] = n
	}
	return n
}

// inherit lets prefixes have what those that hold them have.
func (g *groups) inherit() {
	seen := map[int]bool{}
	for p := range g.static {
		length := p.Bits()
		if p.Addr().Is6() {
			length += 1 << 8
		}
		if !seen[length] {
			seen[length] = true
			g.lengths[length>>8] = append(g.lengths[length>>8], length&0xff)
		}
	}
	for f := range g.lengths {
		slices.SortFunc(g.lengths[f], func(a, b int) int { return b - a })
	}
	for _, p := range g.prefixes() {
		if up, ok := g.holder(p.Addr(), p.Bits()-1); ok {
			n, from := g.static[p], g.static[up]
			n.cidr.AddAll(from.cidr)
			n.except.AddAll(from.except)
			n.feed.AddAll(from.feed)
		}
	}
}

// prefixes lists the static prefixes, those that hold others first.
func (g *groups) prefixes() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(g.static), comparePrefix)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// holder returns the longest static prefix of at most a length that holds an
// address.
func (g *groups) holder(a netip.Addr, most int) (netip.Prefix, bool) {
	lengths := g.lengths[0]
	if a.Is6() {
		lengths = g.lengths[1]
	}
	for _, bits := range lengths {
		if bits > most {
			continue
		}
		if p, err := a.Prefix(bits); err == nil && g.static[p] != nil {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// of returns the groups that an address is in, if the workloads are those
// that have it; none of them for addresses that nobody has.
func (g *groups) of(a netip.Addr, most int, has []*policy.Workload) bitset.Set {
	in := g.always.Clone()
	for _, w := range has {
		for key, value := range w.Labels {
			for _, i := range g.byLabel[[2]string{key, value}] {
				if g.list[i].Selects(w, g.now) {
					in.Add(i)
				}
			}
		}
		for _, i := range g.byOther {
			if g.list[i].Selects(w, g.now) {
				in.Add(i)
			}
		}
	}
	var by *named
	if p, ok := g.holder(a, most); ok {
		by = g.static[p]
	}
	g.narrowed(in, by)
	for _, i := range g.joined {
		gr := &g.list[i]
		if gr.During != nil && !gr.During.Covers(g.now) {
			continue
		}
		if slices.ContainsFunc(gr.members, in.Has) {
			in.Add(i)
		}
		g.narrowed(in, by)
	}
	return in
}

// narrowed takes out the groups whose prefixes or feeds do not hold an
// address.
func (g *groups) narrowed(in bitset.Set, by *named) {
	for i := range in {
		var cidr, except, feed uint64
		if by != nil {
			cidr, except, feed = by.cidr[i], by.except[i], by.feed[i]
		}
		in[i] &= (cidr | ^g.narrow[i]) & (feed | ^g.feeds[i]) &^ except
	}
}
