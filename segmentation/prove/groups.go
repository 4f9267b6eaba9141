package prove

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// addresses are those of both families.
type addresses [families]spans

func everybody() addresses { return addresses{whole(v4), whole(v6)} }

func (a addresses) intersect(o addresses) addresses {
	return addresses{a[v4].intersect(o[v4]), a[v6].intersect(o[v6])}
}

func (a addresses) without(o addresses) addresses {
	return a.intersect(addresses{o[v4].complement(v4), o[v6].complement(v6)})
}

// union of many, in one sort.
func union(all ...addresses) addresses {
	var out addresses
	for f := range out {
		var list []span
		for _, a := range all {
			list = append(list, a[f]...)
		}
		out[f] = normal(list)
	}
	return out
}

func ofPrefixes(list []netip.Prefix) addresses {
	var out addresses
	for _, p := range list {
		f := familyOf(p.Addr())
		out[f] = append(out[f], spanOf(p))
	}
	return union(out)
}

// resolver turns groups into sets of addresses.
type resolver struct {
	set     *policy.Set
	inv     policy.Inventory
	now     time.Time
	known   map[string]addresses
	byLabel map[[2]string][]*policy.Workload
	all     []*policy.Workload
}

func newResolver(set *policy.Set, inv policy.Inventory, now time.Time) *resolver {
	r := &resolver{set: set, inv: inv, now: now, known: map[string]addresses{}, byLabel: map[[2]string][]*policy.Workload{}}
	for i := range inv.Workloads {
		w := &inv.Workloads[i]
		r.all = append(r.all, w)
		for key, value := range w.Labels {
			r.byLabel[[2]string{key, value}] = append(r.byLabel[[2]string{key, value}], w)
		}
	}
	return r
}

// peers is the union of a list.
func (r *resolver) peers(list []policy.Peer) addresses {
	parts := make([]addresses, 0, len(list))
	for _, p := range list {
		parts = append(parts, r.peer(p))
	}
	return union(parts...)
}

func (r *resolver) peer(p policy.Peer) addresses {
	switch {
	case p.IsAny():
		return everybody()
	case p.Group != "":
		return r.group(p.Group)
	}
	return ofPrefixes([]netip.Prefix{p.Prefix})
}

// protected are those whom no policy restricts.
func (r *resolver) protected() addresses {
	var parts []addresses
	for _, p := range r.set.Protected {
		if slices.Contains(policy.AssetClasses(), p.Group) {
			parts = append(parts, ofPrefixes(r.inv.Assets[p.Group]))
		} else {
			parts = append(parts, r.peer(p))
		}
	}
	return union(parts...)
}

// terms are those who are one of the peers and none of the negated ones.
func (r *resolver) terms(list []policy.Term) addresses {
	var in, out []addresses
	for _, t := range list {
		if t.Not {
			out = append(out, r.peer(t.Peer))
		} else {
			in = append(in, r.peer(t.Peer))
		}
	}
	some := everybody()
	if len(in) > 0 {
		some = union(in...)
	}
	return some.without(union(out...))
}

// group narrows everybody by every key. The reader refuses cycles; here a
// group that is being resolved is empty.
func (r *resolver) group(name string) addresses {
	if a, ok := r.known[name]; ok {
		return a
	}
	r.known[name] = addresses{}
	g, ok := r.set.Groups[name]
	if !ok || g.During != nil && !g.During.Covers(r.now) {
		return addresses{}
	}
	a := everybody()
	if len(g.CIDRs) > 0 {
		a = a.intersect(ofPrefixes(plain(g.CIDRs)))
	}
	if g.Intel != "" {
		a = a.intersect(ofPrefixes(r.inv.Feeds[g.Intel]))
	}
	if len(g.Groups) > 0 {
		var parts []addresses
		for _, other := range g.Groups {
			parts = append(parts, r.group(other))
		}
		a = a.intersect(union(parts...))
	}
	if g.ByWorkload() {
		a = a.intersect(r.selected(&g))
	}
	a = a.without(ofPrefixes(plain(g.Except)))
	r.known[name] = a
	return a
}

// selected are the addresses of the workloads that a group speaks of.
func (r *resolver) selected(g *policy.Group) addresses {
	candidates := r.all
	for key, want := range g.Selector {
		if !strings.ContainsAny(want, "*|!") { // insists on one value
			if some := r.byLabel[[2]string{key, want}]; len(some) < len(candidates) {
				candidates = some
			}
		}
	}
	var single []netip.Prefix
	for _, w := range candidates {
		if g.Selects(w, r.now) {
			for _, a := range w.Addrs {
				single = append(single, netip.PrefixFrom(a, a.BitLen()))
			}
		}
	}
	return ofPrefixes(single)
}

func plain(list []policy.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, p := range list {
		out = append(out, p.Prefix)
	}
	return out
}
