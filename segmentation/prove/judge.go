package prove

import (
	"maps"
	"slices"

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
	services, others set
	by               int // rule, or nobody
}

// nobody stands for the absence of rules, which allows.
const nobody = -1

// profile are the addresses that the same rules apply to.
type profile struct {
	members set
	owners  set    // sets that hold them, of those that rules apply to
	said    []rect // what these rules say, once it was asked for
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
	owned := newSet(len(s.holders))
	for _, r := range all {
		owned.add(r.own)
	}
	index := map[string]int{}
	for c := range s.addresses {
		mine := s.addresses[c].in.and(owned)
		n, known := index[mine.key()]
		if !known {
			n = len(out.profiles)
			index[mine.key()] = n
			out.profiles = append(out.profiles, profile{members: newSet(len(s.addresses)), owners: mine})
		}
		out.profiles[n].members.add(c)
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
func (s *space) decide(all []rule, mine set) []rect {
	var out []rect
	left := []rect{{full(len(s.services)), full(len(s.addresses)), nobody}}
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
		if !mine.has(r.own) {
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
func take(list []rect, services, others set, by int) (taken, left []rect) {
	for _, l := range list {
		if !l.services.meets(services) || !l.others.meets(others) {
			left = append(left, l)
			continue
		}
		hit := l.services.and(services)
		taken = append(taken, rect{hit, l.others.and(others), by})
		if rest := l.others.without(others); !rest.empty() {
			left = append(left, rect{hit, rest, nobody})
		}
		if rest := l.services.without(services); !rest.empty() {
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
		if both := l.services.and(add.services); !both.empty() {
			out = append(out, rect{both, l.others.or(add.others), nobody})
			rest = rest.without(both)
			l.services = l.services.without(both)
		}
		if !l.services.empty() {
			out = append(out, l)
		}
	}
	if !rest.empty() {
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
		{func(r rect) string { return r.others.key() }, func(into *rect, r rect) { into.services = into.services.or(r.services) }},
		{func(r rect) string { return r.services.key() }, func(into *rect, r rect) { into.others = into.others.or(r.others) }},
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
func (s *side) profilesOf(classes set) []int {
	seen := map[int]bool{}
	for c := range classes.all() {
		seen[s.of[c]] = true
	}
	return slices.Sorted(maps.Keys(seen))
}
