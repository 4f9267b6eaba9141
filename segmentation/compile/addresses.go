package compile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// addressSets numbers the distinct unions of groups that rules name.
type addressSets struct {
	index map[string]int
	lists []addressSet
}

// addressSet is a union of groups, without the protected if it is about those
// that a policy applies to.
type addressSet struct {
	any    bool
	groups []int
	spares []int
}

// add returns the number of a union. any is true where it is every address.
func (s *addressSets) add(g *groups, list []policy.Peer, spared []policy.Peer) (n int, any bool, err error) {
	var x addressSet
	if x.groups, x.any, err = g.numbers(list); err != nil {
		return 0, false, err
	}
	var all bool
	spared = slices.DeleteFunc(slices.Clone(spared), func(p policy.Peer) bool { // classes of assets are the controller's to name
		_, ok := g.index[p.String()]
		return !ok && slices.Contains(policy.AssetClasses(), p.Group)
	})
	if x.spares, all, err = g.numbers(spared); err != nil {
		return 0, false, err
	}
	if all { // nothing is left
		x = addressSet{}
	}
	if x.any && len(x.spares) == 0 {
		return 0, true, nil
	}
	key := fmt.Sprint(x)
	n, ok := s.index[key]
	if !ok {
		n = len(s.lists)
		s.index[key] = n
		s.lists = append(s.lists, x)
	}
	return n, false, nil
}

// numbers resolves peers.
func (g *groups) numbers(list []policy.Peer) (out []int, any bool, err error) {
	for _, p := range list {
		if p.IsAny() {
			return nil, true, nil
		}
		i, ok := g.index[p.String()]
		if !ok {
			return nil, false, fmt.Errorf("unknown group %q", p)
		}
		out = append(out, i)
	}
	slices.Sort(out)
	return slices.Compact(out), false, nil
}

// of returns the unions that hold an address which is in some groups.
func (s *addressSets) of(in bitset.Set) bitset.Set {
	out := bitset.New(len(s.lists))
	holds := func(i int) bool { return in.Has(i) }
	for n := range s.lists {
		l := &s.lists[n]
		if (l.any || slices.ContainsFunc(l.groups, holds)) && !slices.ContainsFunc(l.spares, holds) {
			out.Add(n)
		}
	}
	return out
}

// sameWorkload reports whether nothing that groups can see differs.
func sameWorkload(a, b *policy.Workload) bool {
	if a.MAC != b.MAC || a.Switch != b.Switch || a.Port != b.Port || a.Risk != b.Risk || len(a.Labels) != len(b.Labels) || !slices.Equal(a.Addrs, b.Addrs) {
		return false
	}
	for k, v := range a.Labels {
		if w, ok := b.Labels[k]; !ok || w != v {
			return false
		}
	}
	return true
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// everything is both families' whole space.
func everything() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
}

// feedKey is equal while feeds and assets are. An inventory is not changed once made, so
// a feed is told by where it stands.
func feedKey(inv *policy.Inventory, pol *policy.Set) string {
	var out []byte
	for _, name := range slices.Sorted(maps.Keys(pol.Groups)) {
		if intel := pol.Groups[name].Intel; intel != "" {
			feed := inv.Feeds[intel]
			out = fmt.Appendf(out, "%s %d %p\n", intel, len(feed), feed)
		}
	}
	for _, p := range pol.Protected {
		if assets := inv.Assets[p.Group]; slices.Contains(policy.AssetClasses(), p.Group) {
			out = fmt.Appendf(out, "%s %d %p\n", p.Group, len(assets), assets)
		}
	}
	return string(out)
}
