package prove

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Change is a region of the header space whose connections have another
// verdict after a change of policies than before: everyone in from, to
// everyone in to, with every service. Regions of one difference are disjoint.
type Change struct {
	// Families are "IPv4" and "IPv6".
	Families []string `json:"families"`
	// From, To and Services are in words: groups, "not" groups, CIDRs, ranges,
	// workloads; services by name, or by protocol and ports.
	From          []string `json:"from"`
	To            []string `json:"to"`
	Services      []string `json:"services"`
	Before, After Fate     `json:"-"`
	// Pairs of addresses of different workloads that are in it.
	Pairs int `json:"pairs"`

	regions []region
}

// Fate is what becomes of connections, and by which rules: the one that
// refuses, or those that consent on each side.
type Fate struct {
	Action policy.Action
	Rules  []policy.RuleID
	// Rates are those of rules that limit.
	Rates []policy.Rate
}

// equal reports whether the fate is the same, whichever rules decide it.
func (f Fate) equal(o Fate) bool { return f.Action == o.Action && slices.Equal(f.Rates, o.Rates) }

// Covers reports whether a connection is in the region.
func (c *Change) Covers(x oracle.Connection) bool {
	return slices.ContainsFunc(c.regions, func(r region) bool {
		return familyOf(x.Src) == r.space.family && r.space.holds(r.from, x.Src) && r.space.holds(r.to, x.Dst) && r.space.fits(r.services, x)
	})
}

// Diff tells which connections have another verdict, or another rate, under
// one set of policies than under another, with the same inventory at the same
// time. Sets of which none has are equivalent. Staged policies have no say.
func Diff(before, after *policy.Set, inv policy.Inventory, now time.Time) []Change {
	d := &dimensions{}
	old, next := newResolver(before, inv, now), newResolver(after, inv, now)
	oldRules, nextRules := collect(old, d), collect(next, d)
	words := newVocabulary(old, next, d)
	var out []Change
	for family := range families {
		s := newSpace(family, d)
		c := comparison{space: s, before: newJudged(s, oldRules), after: newJudged(s, nextRules), found: map[string]*verge{}}
		c.compare()
		out = append(out, c.changes(words.in(s), inv)...)
	}
	return bothFamilies(out)
}

// region is a product of classes.
type region struct {
	space              *space
	from, to, services set
}

// comparison looks for regions in one family.
type comparison struct {
	*space
	before, after *judged
	found         map[string]*verge
}

// verge is from one fate to another, with the regions that go that way.
type verge struct {
	before, after Fate
	regions       []region
}

// jointRect is what one side said to some services with some others, and what
// it says.
type jointRect struct {
	services, others set
	before, after    int
	changed          bool
}

type jointProfile struct {
	members set
	rects   []jointRect
	changed []jointRect // those of them that have
}

// joint puts both judgements of one side together.
func (c *comparison) joint(d policy.Direction) (all []jointProfile, of []int) {
	old, next := c.before.sides[d], c.after.sides[d]
	index := map[[2]int]int{}
	of = make([]int, len(c.addresses))
	for class := range c.addresses {
		key := [2]int{old.of[class], next.of[class]}
		n, known := index[key]
		if !known {
			n = len(all)
			index[key] = n
			all = append(all, jointProfile{members: newSet(len(c.addresses))})
			all[n].join(old, next, key)
		}
		all[n].members.add(class)
		of[class] = n
	}
	return all, of
}

func (p *jointProfile) join(old, next *side, key [2]int) {
	for _, a := range old.profiles[key[0]].rects {
		for _, b := range next.profiles[key[1]].rects {
			if !a.services.meets(b.services) || !a.others.meets(b.others) {
				continue
			}
			r := jointRect{services: a.services.and(b.services), others: a.others.and(b.others), before: a.by, after: b.by}
			r.changed = old.action(a.by) != next.action(b.by) || old.rate(a.by) != next.rate(b.by)
			p.rects = append(p.rects, r)
			if r.changed {
				p.changed = append(p.changed, r)
			}
		}
	}
}

// rate is that of a rect's rule.
func (s *side) rate(by int) policy.Rate {
	if by == nobody {
		return policy.Rate{}
	}
	return s.rules[by].rate
}

func (c *comparison) compare() {
	egress, _ := c.joint(policy.Egress)
	ingress, of := c.joint(policy.Ingress)
	for i := range egress {
		p := &egress[i]
		some := map[string]*verge{} // of this profile: joined before they meet the others
		for _, out := range p.rects {
			if !out.changed && !c.before.sides[policy.Egress].consents(out.before) {
				continue // whatever the other side says, it is refused as it was
			}
			seen := newSet(len(ingress))
			for class := range out.others.all() {
				if seen.has(of[class]) {
					continue
				}
				seen.add(of[class])
				q := &ingress[of[class]]
				rects := q.rects
				if !out.changed {
					rects = q.changed
				}
				for _, in := range rects {
					c.pair(some, p, out, q, in)
				}
			}
		}
		for _, key := range slices.Sorted(maps.Keys(some)) { // the same words every time
			v := some[key]
			into := c.verge(c.found, key, v.before, v.after)
			into.regions = append(into.regions, joined(v.regions)...)
		}
	}
	for _, v := range c.found {
		v.regions = joined(v.regions)
	}
}

// pair compares one rectangle of each side.
func (c *comparison) pair(into map[string]*verge, p *jointProfile, out jointRect, q *jointProfile, in jointRect) {
	if !in.others.meets(p.members) || !in.services.meets(out.services) {
		return
	}
	before, after := c.before.fate(out.before, in.before), c.after.fate(out.after, in.after)
	if before.equal(after) {
		return
	}
	r := region{c.space, p.members.and(in.others), out.others.and(q.members), in.services.and(out.services)}
	if c.itself(r) {
		return
	}
	v := c.verge(into, before.key()+">"+after.key(), before, after)
	v.regions = append(v.regions, r)
}

func (c *comparison) verge(in map[string]*verge, key string, before, after Fate) *verge {
	v, known := in[key]
	if !known {
		v = &verge{before: before, after: after}
		in[key] = v
	}
	return v
}

// itself reports whether a region is of one address alone, to itself.
func (c *comparison) itself(r region) bool {
	if r.from.len() != 1 || r.to.len() != 1 || !r.from.meets(r.to) {
		return false
	}
	for class := range r.from.all() {
		one := c.addresses[class].spans
		return len(one) == 1 && one[0].first == one[0].last
	}
	return false
}

// fate is what two rules make of a connection.
func (j *judged) fate(egress, ingress int) Fate {
	f := Fate{Action: policy.ActionAllow}
	for _, x := range []struct {
		side *side
		by   int
	}{{j.sides[policy.Egress], egress}, {j.sides[policy.Ingress], ingress}} {
		if x.by == nobody {
			continue
		}
		r := &x.side.rules[x.by]
		switch {
		case !r.action.Consents():
			return Fate{Action: r.action, Rules: []policy.RuleID{r.id}}
		case r.action == policy.ActionRateLimit:
			f.Action, f.Rates = r.action, append(f.Rates, r.rate)
		}
		f.Rules = append(f.Rules, r.id)
	}
	return f
}

func (f Fate) key() string {
	key := f.Action.String()
	for _, id := range f.Rules {
		key += " " + id.String()
	}
	return key
}

// joined joins regions that differ in one dimension alone, until none do.
func joined(list []region) []region {
	type view struct {
		key  func(r *region) string
		join func(into, r *region)
	}
	views := []view{
		{func(r *region) string { return r.from.key() + r.services.key() }, func(into, r *region) { into.to = into.to.or(r.to) }},
		{func(r *region) string { return r.to.key() + r.services.key() }, func(into, r *region) { into.from = into.from.or(r.from) }},
		{func(r *region) string { return r.from.key() + r.to.key() }, func(into, r *region) { into.services = into.services.or(r.services) }},
	}
	for {
		before := len(list)
		for _, v := range views {
			at := map[string]int{}
			var out []region
			for i := range list {
				key := v.key(&list[i])
				if n, known := at[key]; known {
					v.join(&out[n], &list[i])
					continue
				}
				at[key] = len(out)
				out = append(out, list[i])
			}
			list = out
		}
		if len(list) == before {
			return list
		}
	}
}

// changes puts the regions of a family into words.
func (c *comparison) changes(words *speaker, inv policy.Inventory) []Change {
	var known []netip.Addr
	for _, w := range inv.Workloads {
		for _, a := range w.Addrs {
			if familyOf(a) == c.family {
				known = append(known, a)
			}
		}
	}
	slices.SortFunc(known, netip.Addr.Compare)
	known = slices.Compact(known)
	classes := c.classesOf(known)
	var out []Change
	for _, key := range slices.Sorted(maps.Keys(c.found)) {
		v := c.found[key]
		for _, r := range v.regions {
			out = append(out, Change{
				Families: []string{familyName(c.family)}, Before: v.before, After: v.after, Pairs: pairs(classes, r), regions: []region{r},
				From: words.addresses(r.from), To: words.addresses(r.to), Services: words.services(r.services),
			})
		}
	}
	return out
}

func familyName(f int) string { return []string{v4: "IPv4", v6: "IPv6"}[f] }

// classesOf counts the known addresses of each class. They are sorted.
func (s *space) classesOf(known []netip.Addr) []int {
	out := make([]int, len(s.addresses))
	for class := range s.addresses {
		for _, x := range s.addresses[class].spans {
			n, _ := slices.BinarySearchFunc(known, x.first, netip.Addr.Compare)
			for ; n < len(known) && known[n].Compare(x.last) <= 0; n++ {
				out[class]++
			}
		}
	}
	return out
}

// pairs counts pairs of different known addresses in a region.
func pairs(classes []int, r region) int {
	from, to, same := 0, 0, 0
	for class := range r.from.all() {
		from += classes[class]
	}
	for class := range r.to.all() {
		to += classes[class]
	}
	for class := range r.from.and(r.to).all() {
		same += classes[class]
	}
	return from*to - same
}

// text is equal for changes that read alike.
func (c *Change) text() string {
	return strings.Join([]string{c.Before.key(), c.After.key(), strings.Join(c.From, ","), strings.Join(c.To, ","), strings.Join(c.Services, ",")}, "|")
}

// bothFamilies makes one of changes that read alike, and orders them.
func bothFamilies(list []Change) []Change {
	at := map[string]int{}
	var out []Change
	for _, c := range list {
		i, known := at[c.text()]
		if !known || slices.Equal(out[i].Families, c.Families) {
			at[c.text()] = len(out)
			out = append(out, c)
			continue
		}
		o := &out[i]
		o.Families, o.Pairs, o.regions = append(o.Families, c.Families...), o.Pairs+c.Pairs, append(o.regions, c.regions...)
	}
	slices.SortStableFunc(out, func(a, b Change) int {
		if a.Pairs != b.Pairs {
			return b.Pairs - a.Pairs
		}
		return strings.Compare(a.text(), b.text())
	})
	return out
}
