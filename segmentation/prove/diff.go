package prove

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
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
	var changed rules
	for direction := range changed {
		changed[direction] = changedRules(oldRules[direction], nextRules[direction])
	}
	words := newVocabulary(old, next, d)
	var out []Change
	for family := range families {
		s := newSpace(family, d)
		about := s.boxOf(changed)
		if about.empty() {
			continue
		}
		before, after := s.relevant(oldRules, about), s.relevant(nextRules, about)
		l := s.narrow(about, nil, nil, before, after)
		c := comparison{space: s, lens: l, from: l.within(about.from), to: l.within(about.to), before: newJudged(l.space, before), after: newJudged(l.space, after),
			fates: map[[4]int]*change{}, known: map[string]*change{}, found: map[string]*verge{}}
		c.compare()
		out = append(out, c.changes(words.in(s), inv)...)
	}
	return bothFamilies(out)
}

// region is a product of classes.
type region struct {
	space              *space
	from, to, services bitset.Set
}

// comparison looks for regions in one family, where something may have changed.
type comparison struct {
	space         *space
	lens          *lens
	from, to      bitset.Set // of the lens
	before, after *judged
	fates         map[[4]int]*change
	known         map[string]*change // one for each key
	found         map[string]*verge
}

// change is from one fate to another.
type change struct {
	before, after Fate
	same          bool
	key           string
}

// verge is a change with the regions that go that way.
type verge struct {
	*change
	regions []region
}

// jointRect is what one side said to some services with some others, and what
// it says.
type jointRect struct {
	services, others bitset.Set
	before, after    int
	changed          bool
}

type jointProfile struct {
	members bitset.Set
	rects   []jointRect
	changed []jointRect // those of them that have
}

// joint puts both judgements of one side together.
func (c *comparison) joint(d policy.Direction) (all []jointProfile, of []int) {
	old, next := c.before.sides[d], c.after.sides[d]
	index := map[[2]int]int{}
	own := c.to
	if d == policy.Egress {
		own = c.from
	}
	of = make([]int, len(c.lens.addresses))
	for class := range own.All() {
		key := [2]int{old.of[class], next.of[class]}
		n, known := index[key]
		if !known {
			n = len(all)
			index[key] = n
			all = append(all, jointProfile{members: bitset.New(len(c.lens.addresses))})
			all[n].join(old, next, key)
		}
		all[n].members.Add(class)
		of[class] = n
	}
	return all, of
}

func (p *jointProfile) join(old, next *side, key [2]int) {
	if slices.EqualFunc(old.rules, next.rules, func(a, b rule) bool { return a.same(&b) }) {
		for _, r := range old.rects(key[0]) {
			p.rects = append(p.rects, jointRect{services: r.services, others: r.others, before: r.by, after: r.by})
		}
		return
	}
	for _, a := range old.rects(key[0]) {
		for _, b := range next.rects(key[1]) {
			if !a.services.Meets(b.services) || !a.others.Meets(b.others) {
				continue
			}
			r := jointRect{services: a.services.And(b.services), others: a.others.And(b.others), before: a.by, after: b.by}
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
		some := map[spot]*region{} // of this profile: joined before they meet the others
		for n := range p.rects {
			out := &p.rects[n]
			if !out.changed && !c.before.sides[policy.Egress].consents(out.before) {
				continue // whatever the other side says, it is refused as it was
			}
			seen := bitset.New(len(ingress))
			for class := range out.others.And(c.to).All() {
				if seen.Has(of[class]) {
					continue
				}
				seen.Add(of[class])
				q := &ingress[of[class]]
				rects := q.rects
				if !out.changed {
					rects = q.changed
				}
				for m := range rects {
					c.pair(some, p, out, q, &rects[m])
				}
			}
		}
		c.collect(some)
	}
	for _, v := range c.found {
		v.regions = joined(v.regions)
	}
}

// spot is where regions of one profile differ in those to whom they go alone.
type spot struct {
	change         *change
	from, services string // "" for all members of the profile
}

// pair compares one rectangle of each side.
func (c *comparison) pair(into map[spot]*region, p *jointProfile, out *jointRect, q *jointProfile, in *jointRect) {
	if !in.others.Meets(p.members) || !in.services.Meets(out.services) {
		return
	}
	x := c.change([4]int{out.before, in.before, out.after, in.after})
	if x.same {
		return
	}
	from, services := p.members, in.services.And(out.services)
	at := spot{change: x, services: services.Key()}
	if !p.members.Within(in.others) {
		from = p.members.And(in.others)
		at.from = from.Key()
	}
	to := out.others.And(q.members)
	if r, known := into[at]; known {
		r.to = r.to.Or(to)
	} else {
		into[at] = &region{space: c.lens.space, from: from, to: to, services: services}
	}
}

// change returns what becomes of what two pairs of rules decide.
func (c *comparison) change(by [4]int) *change {
	x, known := c.fates[by]
	if !known {
		x = &change{before: c.before.fate(by[0], by[1]), after: c.after.fate(by[2], by[3])}
		x.same, x.key = x.before.equal(x.after), x.before.key()+">"+x.after.key()
		if again, ok := c.known[x.key]; ok && again.same == x.same {
			x = again
		}
		c.known[x.key], c.fates[by] = x, x
	}
	return x
}

// collect takes over the regions of a profile.
func (c *comparison) collect(some map[spot]*region) {
	by := map[*change][]region{}
	for _, at := range slices.SortedFunc(maps.Keys(some), func(a, b spot) int { // the same words every time
		return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.services, b.services), strings.Compare(a.change.key, b.change.key))
	}) {
		by[at.change] = append(by[at.change], *some[at])
	}
	for x, list := range by {
		v, known := c.found[x.key]
		if !known {
			v = &verge{change: x}
			c.found[x.key] = v
		}
		v.regions = append(v.regions, joined(list)...)
	}
}

// itself reports whether a region is of one address alone, to itself.
func (s *space) itself(r region) bool {
	if r.from.Len() != 1 || r.to.Len() != 1 || !r.from.Meets(r.to) {
		return false
	}
	for class := range r.from.All() {
		one := s.addresses[class].spans
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
		{func(r *region) string { return r.from.Key() + r.services.Key() }, func(into, r *region) { into.to = into.to.Or(r.to) }},
		{func(r *region) string { return r.to.Key() + r.services.Key() }, func(into, r *region) { into.from = into.from.Or(r.from) }},
		{func(r *region) string { return r.from.Key() + r.to.Key() }, func(into, r *region) { into.services = into.services.Or(r.services) }},
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
			if familyOf(a) == c.space.family {
				known = append(known, a)
			}
		}
	}
	slices.SortFunc(known, netip.Addr.Compare)
	known = slices.Compact(known)
	classes := c.space.classesOf(known)
	var out []Change
	for _, key := range slices.Sorted(maps.Keys(c.found)) {
		v := c.found[key]
		for _, coarse := range v.regions {
			b := c.lens.whole(c.space, coarse.from, coarse.to, coarse.services)
			r := region{c.space, b.from, b.to, b.services}
			if c.space.itself(r) {
				continue
			}
			out = append(out, Change{
				Families: []string{familyName(c.space.family)}, Before: v.before, After: v.after, Pairs: pairs(classes, r), regions: []region{r},
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
	for class := range r.from.All() {
		from += classes[class]
	}
	for class := range r.to.All() {
		to += classes[class]
	}
	for class := range r.from.And(r.to).All() {
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
