package prove

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Change is a region of the header space whose connections fare otherwise
// after a change of policies than before: everyone in from, to everyone in to,
// with every service. Regions of one difference and kind are disjoint.
type Change struct {
	Kind Kind `json:"kind"`
	// At is the first time at which it is so; of Diff the time that it was
	// asked about.
	At time.Time `json:"at"`
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

// Fate is what becomes of connections, and by which rules.
type Fate struct {
	// Action is the verdict; of the kind staged that which would be, or 0 if
	// there is no other; of other kinds 0.
	Action policy.Action
	// Value says it in words, for other kinds than the verdict.
	Value string
	// Rules are the one that refuses, or those that consent on each side; of
	// logs and mirrors those that say so.
	Rules []policy.RuleID
	// More says that other rules decide some of the region.
	More bool
	// Rates are those of rules that limit.
	Rates []policy.Rate
}

// Covers reports whether a connection is in the region.
func (c *Change) Covers(x oracle.Connection) bool {
	return slices.ContainsFunc(c.regions, func(r region) bool {
		return familyOf(x.Src) == r.space.family && r.space.holds(r.from, x.Src) && r.space.holds(r.to, x.Dst) && r.space.fits(r.services, x)
	})
}

// maxNamed is how many rules that say the same are told apart. Of more, all
// that they decide is one region, and some of them are named.
const maxNamed = 16

// Diff tells which connections fare otherwise under one set of policies than
// under another, with the same inventory at the same time: by verdict and rate,
// and in what comes with it. Sets without any such connection are equivalent.
func Diff(before, after *policy.Set, inv policy.Inventory, now time.Time) []Change {
	return diff(before, after, inv, now, maxNamed)
}

// view is a question, with the rules that it is about.
type view struct {
	kinds  []Kind
	worlds []rules
}

// views are the questions that rules before and after a change raise.
func views(old, next rules) []view {
	now := []rules{old.enforced(), next.enforced()}
	out := []view{{[]Kind{KindVerdict, KindLog, KindMirror}, now}}
	some := func(is func(*rule) bool) bool {
		return slices.ContainsFunc(slices.Concat(slices.Concat(old[:]...), slices.Concat(next[:]...)), func(r rule) bool { return is(&r) })
	}
	if some(func(r *rule) bool { return r.keep }) {
		out = append(out, view{[]Kind{KindEstablished}, append(slices.Clip(now), old.lasting(), next.lasting())})
	}
	if some(func(r *rule) bool { return r.staged }) {
		out = append(out, view{[]Kind{KindStaged}, append(slices.Clip(now), old, next)})
	}
	return out
}

// changed are the rules that came, went or moved, in any of the worlds.
func (v *view) changed() rules {
	var out rules
	for i := 0; i < len(v.worlds); i += 2 {
		for d := range out {
			out[d] = append(out[d], changedRules(v.worlds[i][d], v.worlds[i+1][d])...)
		}
	}
	return out
}

func diff(before, after *policy.Set, inv policy.Inventory, now time.Time, named int) []Change {
	d := &dimensions{}
	old, next := newResolver(before, inv, now), newResolver(after, inv, now)
	all := views(collect(old, d), collect(next, d))
	words := newVocabulary(old, next, d)
	changed := make([]rules, len(all))
	for i := range all {
		changed[i] = all[i].changed()
	}
	var out []Change
	for family := range families {
		s := newSpace(family, d)
		say, known := words.in(s), addressesOf(words.workloads, family)
		for i := range all {
			about := s.boxOf(changed[i])
			if about.empty() {
				continue
			}
			c := newComparison(s, about, all[i].worlds)
			for _, k := range all[i].kinds {
				out = append(out, c.changes(k, named, say, known)...)
			}
		}
	}
	out = bothFamilies(out)
	for i := range out {
		out[i].At = now
	}
	return out
}

// region is a product of classes.
type region struct {
	space              *space
	from, to, services bitset.Set
}

// comparison looks for regions in one family, where something may have changed.
type comparison struct {
	space    *space
	lens     *lens
	from, to bitset.Set // of the lens
	worlds   []*judged  // before, after, and perhaps both again under other rules
	sides    [policy.Egress + 1]joint
}

func newComparison(s *space, about box, worlds []rules) *comparison {
	some := make([]rules, len(worlds))
	for i := range worlds {
		some[i] = s.relevant(worlds[i], about)
	}
	l := s.narrow(about, nil, nil, some...)
	c := &comparison{space: s, lens: l, from: l.within(about.from), to: l.within(about.to)}
	for i := range some {
		c.worlds = append(c.worlds, newJudged(l.space, some[i]))
	}
	c.sides[policy.Egress], c.sides[policy.Ingress] = c.join(policy.Egress, c.from), c.join(policy.Ingress, c.to)
	return c
}

// joint is what one side says in all worlds.
type joint struct {
	codes    []code
	profiles []jointProfile
	of       []int // profile by class; -1 for those that nothing is asked of
}

type jointProfile struct{ rects []jointRect }

type jointRect struct {
	services, others bitset.Set
	code             int
}

// join puts the judgements of one side together.
func (c *comparison) join(d policy.Direction, own bitset.Set) joint {
	first := make([]int, len(c.worlds)) // the first world with the same rules
	for w := range c.worlds {
		first[w] = slices.IndexFunc(c.worlds, func(o *judged) bool { return slices.Equal(o.sides[d].rules, c.worlds[w].sides[d].rules) })
		c.worlds[w].sides[d] = c.worlds[first[w]].sides[d]
	}
	j := joint{of: make([]int, len(c.lens.addresses))}
	index, codes := map[[4]int]int{}, map[code]int{}
	for class := range j.of {
		j.of[class] = -1
		if !own.Has(class) {
			continue
		}
		var key [4]int
		for w, world := range c.worlds {
			key[w] = world.sides[d].of[class]
		}
		n, known := index[key]
		if !known {
			n = len(j.profiles)
			index[key] = n
			j.profiles = append(j.profiles, jointProfile{c.rects(d, key, first, codes)})
		}
		j.of[class] = n
	}
	j.codes = make([]code, len(codes))
	for x, n := range codes {
		j.codes[n] = x
	}
	return j
}

// rects are what is said to one profile in all worlds.
func (c *comparison) rects(d policy.Direction, key [4]int, first []int, codes map[code]int) (out []jointRect) {
	type several struct {
		services, others bitset.Set
		code
	}
	var list []several
	for w, world := range c.worlds {
		switch {
		case w == 0:
			for _, r := range world.sides[d].rects(key[0]) {
				list = append(list, several{r.services, r.others, code{r.says}})
			}
		case first[w] < w:
			for i := range list {
				list[i].code[w] = list[i].code[first[w]]
			}
		default:
			var next []several
			for _, a := range list {
				for _, b := range world.sides[d].rects(key[w]) {
					if a.services.Meets(b.services) && a.others.Meets(b.others) {
						a.code[w] = b.says
						next = append(next, several{a.services.And(b.services), a.others.And(b.others), a.code})
					}
				}
			}
			list = next
		}
	}
	for _, x := range list {
		n, known := codes[x.code]
		if !known {
			n = len(codes)
			codes[x.code] = n
		}
		out = append(out, jointRect{x.services, x.others, n})
	}
	return out
}

// rate is that of a rect's rule.
func (s *side) rate(by int) policy.Rate {
	if by == nobody {
		return policy.Rate{}
	}
	return s.rules[by].rate
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
	return strings.Join([]string{string(c.Kind), c.Before.key(), c.After.key(), strings.Join(c.From, ","), strings.Join(c.To, ","), strings.Join(c.Services, ",")}, "|")
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
		if a.Kind != b.Kind {
			return slices.Index(kinds(), a.Kind) - slices.Index(kinds(), b.Kind)
		}
		if a.Pairs != b.Pairs {
			return b.Pairs - a.Pairs
		}
		return strings.Compare(a.text(), b.text())
	})
	return out
}
