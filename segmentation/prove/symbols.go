package prove

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// symbol stands for codes of one side that make the same difference to a kind.
// They name the same rules, unless there are too many of them in a world.
type symbol struct {
	codes []int
	many  [len(code{})]bool
}

// symbols gives the codes of one side their symbols.
func (c *comparison) symbols(k Kind, d policy.Direction, named int) (list []symbol, of []int) {
	codes := c.sides[d].codes
	fine := make([]string, len(codes))
	coarse := make([]string, len(codes))
	names := map[string]map[string]bool{}
	for i, x := range codes {
		coarse[i] = c.alike(k, d, x)
		fine[i] = coarse[i]
		for world := range c.worlds {
			fine[i] += "|" + fmt.Sprint(c.names(k, d, world, x))
		}
		if names[coarse[i]] == nil {
			names[coarse[i]] = map[string]bool{}
		}
		names[coarse[i]][fine[i]] = true
	}
	index := map[string]int{}
	of = make([]int, len(codes))
	for i := range codes {
		key := fine[i]
		if len(names[coarse[i]]) > named {
			key = coarse[i]
		}
		n, known := index[key]
		if !known {
			n = len(list)
			index[key] = n
			list = append(list, symbol{})
		}
		list[n].codes = append(list[n].codes, i)
		of[i] = n
	}
	for n := range list {
		x := &list[n]
		for world := range c.worlds {
			first := c.names(k, d, world, codes[x.codes[0]])
			x.many[world] = slices.ContainsFunc(x.codes[1:], func(i int) bool { return !slices.Equal(c.names(k, d, world, codes[i]), first) })
		}
	}
	return list, of
}

// names are the rules that a kind tells of, of what one side says in a world.
func (c *comparison) names(k Kind, d policy.Direction, world int, x code) []policy.RuleID {
	s := c.worlds[world].sides[d]
	var out []policy.RuleID
	for _, i := range k.named(s, x[world]) {
		out = append(out, s.rules[i].id)
	}
	return out
}

// half is what one side says to a kind.
func (c *comparison) half(d policy.Direction, of []int) half {
	j := &c.sides[d]
	out := half{of: j.of, blocks: make([]block, len(j.profiles))}
	for i := range j.profiles {
		for _, r := range j.profiles[i].rects {
			out.blocks[i].parts = append(out.blocks[i].parts, part{r.services, r.others, of[r.code]})
		}
	}
	return out
}

// verge is a change with the regions that go that way.
type verge struct {
	outcomes [2]outcome
	symbols  [2]symbol // of the first pair that was seen: egress, ingress
	// lumped are the codes of each side that are told by examples, for before
	// and after; nil where all rules are named.
	lumped  [2][policy.Egress + 1]map[int]bool
	regions []region
}

// verges pairs the symbols of both sides.
func (c *comparison) verges(k Kind, egress, ingress []symbol) (ask [][]int, out []*verge) {
	index := map[string]int{}
	for _, a := range egress {
		row := make([]int, len(ingress))
		for n, b := range ingress {
			row[n] = nothing
			x, y := c.sides[policy.Egress].codes[a.codes[0]], c.sides[policy.Ingress].codes[b.codes[0]]
			v := &verge{outcomes: [2]outcome{c.outcome(k, 0, x, y), c.outcome(k, 1, x, y)}, symbols: [2]symbol{a, b}}
			if v.outcomes[0].equal(v.outcomes[1]) {
				continue
			}
			key := ""
			for i, o := range v.outcomes {
				key += fmt.Sprint(i, o.action, o.rates, o.value)
				key += c.word(k, o, policy.Egress, a) + c.word(k, o, policy.Ingress, b)
			}
			if _, known := index[key]; !known {
				index[key] = len(out)
				out = append(out, v)
			}
			row[n] = index[key]
			out[row[n]].note(a, b)
		}
		ask = append(ask, row)
	}
	return ask, out
}

// word is equal for symbols that an outcome tells of with the same rules.
func (c *comparison) word(k Kind, o outcome, d policy.Direction, of symbol) string {
	switch {
	case !o.named[d]:
		return ""
	case of.many[o.world]:
		return "many of " + d.String()
	}
	return fmt.Sprint(c.names(k, d, o.world, c.sides[d].codes[of.codes[0]]))
}

// note remembers the codes of which examples will be told.
func (v *verge) note(egress, ingress symbol) {
	for i, o := range v.outcomes {
		for d, of := range [policy.Egress + 1]symbol{policy.Egress: egress, policy.Ingress: ingress} {
			if !o.named[d] || !of.many[o.world] {
				continue
			}
			if v.lumped[i][d] == nil {
				v.lumped[i][d] = map[int]bool{}
			}
			for _, x := range of.codes {
				v.lumped[i][d][x] = true
			}
		}
	}
}

// changes puts the regions of a kind into words.
func (c *comparison) changes(k Kind, named int, words *speaker, known []netip.Addr) []Change {
	egress, ofEgress := c.symbols(k, policy.Egress, named)
	ingress, ofIngress := c.symbols(k, policy.Ingress, named)
	ask, verges := c.verges(k, egress, ingress)
	if len(verges) == 0 {
		return nil
	}
	x := crossing{space: c.lens.space, egress: c.half(policy.Egress, ofEgress), ingress: c.half(policy.Ingress, ofIngress), ask: ask}
	x.regions(func(answer int, r region) bool {
		verges[answer].regions = append(verges[answer].regions, r)
		return true
	})
	classes := c.space.classesOf(known)
	var out []Change
	for _, v := range verges {
		for _, coarse := range joined(v.regions) {
			b := c.lens.whole(c.space, coarse.from, coarse.to, coarse.services)
			r := region{c.space, b.from, b.to, b.services}
			if c.space.itself(r) {
				continue
			}
			out = append(out, Change{
				Kind: k, Families: []string{familyName(c.space.family)}, Before: c.fate(k, v, 0, coarse), After: c.fate(k, v, 1, coarse), Pairs: pairs(classes, r),
				From: words.addresses(r.from), To: words.addresses(r.to), Services: words.services(r.services), regions: []region{r},
			})
		}
	}
	return out
}

// fate is an outcome with the rules that decide in a region.
func (c *comparison) fate(k Kind, v *verge, i int, r region) Fate {
	o := v.outcomes[i]
	f := Fate{Action: o.action, Value: o.value, Rates: o.rates}
	for n, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		var ids []policy.RuleID
		switch {
		case !o.named[d]:
		case v.lumped[i][d] == nil:
			ids = c.names(k, d, o.world, c.sides[d].codes[v.symbols[n].codes[0]])
		default:
			var more bool
			ids, more = c.examples(k, d, o.world, v.lumped[i][d], r)
			f.More = f.More || more
		}
		for _, id := range ids {
			if !slices.Contains(f.Rules, id) {
				f.Rules = append(f.Rules, id)
			}
		}
	}
	return f
}

// maxExamples is how many rules are named of many.
const maxExamples = 3

// examples are some of the rules that decide in a region; more are left out.
func (c *comparison) examples(k Kind, d policy.Direction, world int, codes map[int]bool, r region) (ids []policy.RuleID, more bool) {
	own, others := r.to, r.from
	if d == policy.Egress {
		own, others = r.from, r.to
	}
	j := &c.sides[d]
	seen := bitset.New(len(j.profiles))
	for class := range own.All() {
		if seen.Has(j.of[class]) {
			continue
		}
		seen.Add(j.of[class])
		for _, x := range j.profiles[j.of[class]].rects {
			if !codes[x.code] || !x.services.Meets(r.services) || !x.others.Meets(others) {
				continue
			}
			for _, id := range c.names(k, d, world, j.codes[x.code]) {
				switch {
				case slices.Contains(ids, id):
				case len(ids) == maxExamples:
					return ids, true
				default:
					ids = append(ids, id)
				}
			}
		}
	}
	return ids, false
}

func (f Fate) key() string {
	key := f.Value
	if f.Action != 0 {
		key += " " + f.Action.String()
	}
	for _, id := range f.Rules {
		key += " " + id.String()
	}
	if f.More {
		key += " more"
	}
	return key
}

// addressesOf are the known addresses of a family, sorted.
func addressesOf(names map[netip.Addr]string, family int) []netip.Addr {
	var out []netip.Addr
	for _, a := range slices.SortedFunc(maps.Keys(names), netip.Addr.Compare) {
		if familyOf(a) == family {
			out = append(out, a)
		}
	}
	return out
}
