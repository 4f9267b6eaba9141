package lint

import (
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// result is what was found of a rule at a time.
type result struct {
	matches, decides, needed bool
	// own are the classes of the policy's side some of whose connections the
	// rule itself decides, or would, if they were not protected.
	own bitset.Set
}

// chain lists the rules that stand on the side of a class for a service.
func (dir *direction) chain(in []int, own, service int) []int {
	var out []int
	for _, i := range in {
		if r := &dir.rules[i]; r.own.Has(own) && r.services.Has(service) {
			out = append(out, i)
		}
	}
	return out
}

// family lists the other side's classes of the family of a class.
func (dir *direction) family(own int) bitset.Set {
	out := bitset.New(len(dir.other))
	for i := range dir.other {
		if dir.other[i].v6 == dir.own[own].v6 {
			out.Add(i)
		}
	}
	return out
}

// forward goes through a chain of rules, and tells of each the classes of the
// other side that it is the first to match, in its tier at least.
func (dir *direction) forward(chain []int, own int, hit func(rule int, classes bitset.Set)) {
	left := dir.family(own)
	passed := bitset.New(len(dir.other))
	var tier policy.Tier
	for _, i := range chain {
		r := &dir.rules[i]
		if r.policy.Tier != tier {
			left.AddAll(passed)
			passed, tier = bitset.New(len(dir.other)), r.policy.Tier
		}
		mine := left.And(r.other)
		if mine.Empty() {
			continue
		}
		left.RemoveAll(mine)
		if r.rule.Action == policy.ActionPass {
			passed.AddAll(mine)
		}
		hit(i, mine)
	}
}

// walk judges rules by every class of both sides and of services, or by those
// classes alone that are protected.
func (dir *direction) walk(in []int, guardsOnly bool) []result {
	results := make([]result, len(dir.rules))
	for i := range results {
		results[i].own = bitset.New(len(dir.own))
	}
	for own := range dir.own {
		if guardsOnly && dir.own[own].guards.Empty() {
			continue
		}
		family := dir.family(own)
		for service := range dir.samples {
			chain := dir.chain(in, own, service)
			hits := map[int]bitset.Set{}
			dir.forward(chain, own, func(i int, classes bitset.Set) { hits[i] = classes })
			for i := range hits {
				results[i].own.Add(own)
			}
			if dir.exempt(own) {
				continue
			}
			for _, i := range chain {
				results[i].matches = results[i].matches || dir.rules[i].other.Meets(family)
				results[i].decides = results[i].decides || hits[i] != nil
			}
			dir.backward(chain, family, hits, results)
		}
	}
	return results
}

// nobody is the index of no rule: what none decides is allowed.
const nobody = -1

// backward goes through a chain from its end, and knows for each class of the
// other side who would decide if the chain began here. So it sees what would
// happen without a rule. It returns who decides in the end.
func (dir *direction) backward(chain []int, family bitset.Set, hits map[int]bitset.Set, results []result) []int {
	decides := make([]int, len(dir.other)) // from here on
	for i := range decides {
		decides[i] = nobody
	}
	later := slices.Clone(decides) // from the next tier on
	var tier policy.Tier
	for _, i := range slices.Backward(chain) {
		r := &dir.rules[i]
		if r.policy.Tier != tier {
			later, tier = slices.Clone(decides), r.policy.Tier
		}
		becomes := func(class int) int {
			if r.rule.Action == policy.ActionPass {
				return later[class]
			}
			return i
		}
		if hits[i] != nil && results != nil {
			own := r.effect >= effectOwn
			for class := range hits[i].All() {
				if own || dir.effect(becomes(class)) != dir.effect(decides[class]) {
					results[i].needed = true
					break
				}
			}
		}
		for class := range r.other.And(family).All() {
			decides[class] = becomes(class)
		}
	}
	return decides
}

func (dir *direction) effect(i int) int {
	if i == nobody {
		return effectAllow
	}
	return dir.rules[i].effect
}
