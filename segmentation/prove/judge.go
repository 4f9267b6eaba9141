package prove

import (
	"maps"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// rule is a rule whose peers and services are numbers of sets.
type rule struct {
	id                  policy.RuleID
	tier                policy.Tier
	action              policy.Action
	rate                policy.Rate
	own, other, service int
}

// rules are the enforced rules of a set that are in force, in the order in
// which they decide.
type rules [policy.Egress + 1][]rule

// collect adds the sets that rules speak of to the dimensions.
func collect(r *resolver, d *dimensions) rules {
	var out rules
	spared := r.protected()
	owners, sides, services := map[string]int{}, map[string]int{}, map[string]int{}
	policies := slices.Clone(r.set.Policies)
	slices.SortStableFunc(policies, func(a, b policy.Policy) int { return a.Compare(&b) })
	for i := range policies {
		p := &policies[i]
		if p.Mode != policy.ModeEnforce || !p.Active(r.now) {
			continue
		}
		own := numbered(owners, peersKey(p.AppliesTo), func() int { return d.addAddresses(r.peers(p.AppliesTo).without(spared)) })
		for _, direction := range []policy.Direction{policy.Egress, policy.Ingress} {
			list := p.Rules(direction)
			for j := range list {
				x := rule{id: policy.RuleID{Policy: p.Name, Direction: direction, Rule: list[j].Name}, tier: p.Tier, action: list[j].Action, own: own}
				if list[j].Rate != nil {
					x.rate = *list[j].Rate
				}
				x.other = numbered(sides, peersKey(list[j].Peers(direction)), func() int { return d.addAddresses(r.peers(list[j].Peers(direction))) })
				x.service = everything
				if refs := list[j].Services; len(refs) > 0 {
					x.service = numbered(services, servicesKey(refs), func() int { return d.addServices(entries(r.set, refs)) })
				}
				out[direction] = append(out[direction], x)
			}
		}
	}
	return out
}

func numbered(known map[string]int, key string, add func() int) int {
	n, ok := known[key]
	if !ok {
		n = add()
		known[key] = n
	}
	return n
}

func peersKey(list []policy.Peer) string {
	key := ""
	for _, p := range list {
		key += p.String() + " "
	}
	return key
}

func servicesKey(refs []policy.ServiceRef) string {
	key := ""
	for _, r := range refs {
		key += r.Name + " "
		if r.Inline != nil {
			key += describeService(r.Inline)
		}
	}
	return key
}

// entries are the services that refs speak of.
func entries(set *policy.Set, refs []policy.ServiceRef) []policy.Service {
	var out []policy.Service
	for _, ref := range refs {
		if ref.Inline != nil {
			out = append(out, *ref.Inline)
		} else {
			out = append(out, set.Services[ref.Name]...)
		}
	}
	return out
}

// rect is what one side of those of a profile says to some services with some
// others.
type rect struct {
	services, others bitset.Set
	by               int // rule, or nobody
}

// nobody stands for the absence of rules, which allows.
const nobody = -1

// profile are the addresses that the same rules apply to.
type profile struct {
	members bitset.Set
	owners  bitset.Set // sets that hold them, of those that rules apply to
	said    []rect     // what these rules say, once it was asked for
}

// side is what the rules of one direction say to all connections.
type side struct {
	space    *space
	rules    []rule
	profiles []profile
	of       []int // profile by class
}

// rects is what rules say to the members of a profile: they are disjoint, and
// together everything.
func (s *side) rects(n int) []rect {
	p := &s.profiles[n]
	if p.said == nil {
		p.said = s.space.decide(s.rules, p.owners)
	}
	return p.said
}

func (s *space) judge(all []rule) *side {
	out := &side{space: s, rules: all, of: make([]int, len(s.addresses))}
	owned := bitset.New(len(s.holders))
	for _, r := range all {
		owned.Add(r.own)
	}
	index := map[string]int{}
	for c := range s.addresses {
		mine := s.addresses[c].in.And(owned)
		n, known := index[mine.Key()]
		if !known {
			n = len(out.profiles)
			index[mine.Key()] = n
			out.profiles = append(out.profiles, profile{members: bitset.New(len(s.addresses)), owners: mine})
		}
		out.profiles[n].members.Add(c)
		out.of[c] = n
	}
	return out
}

// action is what a rect's rule does.
func (s *side) action(by int) policy.Action {
	if by == nobody {
		return policy.ActionAllow
	}
	return s.rules[by].action
}

func (s *side) consents(by int) bool { return s.action(by).Consents() }

// decide walks the rules that apply to the members of some sets. What is left
// is kept as rects with disjoint services, of which each rule takes its part.
func (s *space) decide(all []rule, mine bitset.Set) []rect {
	var out []rect
	left := []rect{{bitset.Full(len(s.services)), bitset.Full(len(s.addresses)), nobody}}
	var passed []rect
	var tier policy.Tier
	next := func() {
		for _, p := range passed {
			left = overlay(left, p)
		}
		passed = nil
	}
	for i := range all {
		r := &all[i]
		if !mine.Has(r.own) {
			continue
		}
		if r.tier != tier {
			next()
			tier = r.tier
		}
		var taken []rect
		taken, left = take(left, s.fit(r.service), s.holding(r.other), i)
		if r.action == policy.ActionPass {
			passed = append(passed, taken...)
		} else {
			out = append(out, taken...)
		}
	}
	next()
	for _, l := range left {
		l.by = nobody
		out = append(out, l)
	}
	return merge(out)
}

// take splits rects into what a rule matches and what is left.
func take(list []rect, services, others bitset.Set, by int) (taken, left []rect) {
	for _, l := range list {
		if !l.services.Meets(services) || !l.others.Meets(others) {
			left = append(left, l)
			continue
		}
		hit := l.services.And(services)
		taken = append(taken, rect{hit, l.others.And(others), by})
		if rest := l.others.Without(others); !rest.Empty() {
			left = append(left, rect{hit, rest, nobody})
		}
		if rest := l.services.Without(services); !rest.Empty() {
			left = append(left, rect{rest, l.others, nobody})
		}
	}
	return taken, left
}

// overlay adds a rect to rects with disjoint services.
func overlay(list []rect, add rect) []rect {
	var out []rect
	rest := add.services
	for _, l := range list {
		if both := l.services.And(add.services); !both.Empty() {
			out = append(out, rect{both, l.others.Or(add.others), nobody})
			rest = rest.Without(both)
			l.services = l.services.Without(both)
		}
		if !l.services.Empty() {
			out = append(out, l)
		}
	}
	if !rest.Empty() {
		out = append(out, rect{rest, add.others, nobody})
	}
	return out
}

// merge joins rects of one rule with the same others, or the same services.
func merge(list []rect) []rect {
	for _, by := range []struct {
		key  func(rect) string
		join func(into *rect, r rect)
	}{
		{func(r rect) string { return r.others.Key() }, func(into *rect, r rect) { into.services = into.services.Or(r.services) }},
		{func(r rect) string { return r.services.Key() }, func(into *rect, r rect) { into.others = into.others.Or(r.others) }},
	} {
		type key struct {
			by   int
			same string
		}
		at := map[key]int{}
		var out []rect
		for _, r := range list {
			k := key{r.by, by.key(r)}
			if i, known := at[k]; known {
				by.join(&out[i], r)
				continue
			}
			at[k] = len(out)
			out = append(out, r)
		}
		list = out
	}
	return list
}

// judged is a space with what both sides' rules say in it.
type judged struct {
	*space
	sides [policy.Egress + 1]*side
}

func newJudged(s *space, r rules) *judged {
	j := &judged{space: s}
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		j.sides[d] = s.judge(r[d])
	}
	return j
}

// profilesOf returns the profiles that some classes have.
func (s *side) profilesOf(classes bitset.Set) []int {
	seen := map[int]bool{}
	for c := range classes.All() {
		seen[s.of[c]] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
