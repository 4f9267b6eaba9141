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
	log, keep, staged   bool
	mirror              string
	own, other, service int
}

// same reports whether two rules do the same, whatever they are called.
func (r *rule) same(o *rule) bool {
	a, b := *r, *o
	a.id, b.id = policy.RuleID{}, policy.RuleID{}
	return a == b
}

// tells reports whether a rule does more than it decides.
func (r *rule) tells() bool { return r.log || r.mirror != "" }

// rules are the rules of a set that are in force, in the order in which they
// decide.
type rules [policy.Egress + 1][]rule

// without leaves rules out.
func (all rules) without(some func(*rule) bool) rules {
	for d, list := range all {
		all[d] = slices.DeleteFunc(slices.Clone(list), func(r rule) bool { return some(&r) })
	}
	return all
}

// enforced are the rules that decide now.
func (all rules) enforced() rules { return all.without(func(r *rule) bool { return r.staged }) }

// lasting are the enforced rules that apply to established connections too.
func (all rules) lasting() rules {
	return all.without(func(r *rule) bool {
		return r.staged || r.keep && (r.action == policy.ActionDeny || r.action == policy.ActionReject)
	})
}

// collect adds the sets that rules speak of to the dimensions.
func collect(r *resolver, d *dimensions) rules {
	var out rules
	spared := r.protected()
	owners, sides, services := map[string]int{}, map[string]int{}, map[string]int{}
	policies := slices.Clone(r.set.Policies)
	slices.SortStableFunc(policies, func(a, b policy.Policy) int { return a.Compare(&b) })
	for i := range policies {
		p := &policies[i]
		if !p.Active(r.now) {
			continue
		}
		own := numbered(owners, peersKey(p.AppliesTo), func() int { return d.addAddresses(r.peers(p.AppliesTo).without(spared)) })
		for _, direction := range []policy.Direction{policy.Egress, policy.Ingress} {
			list := p.Rules(direction)
			for j := range list {
				x := rule{id: policy.RuleID{Policy: p.Name, Direction: direction, Rule: list[j].Name}, tier: p.Tier, action: list[j].Action,
					log: list[j].Log, mirror: list[j].Mirror, keep: p.Established == policy.EstablishedKeep, staged: p.Mode == policy.ModeStaged, own: own}
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
	says
}

// says is what rules say to a connection.
type says struct {
	by  int // the rule that decides, or nobody
	via int // the rules that left it to a later tier, and did more than that: of side.passed
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
	owned    map[int][]int // rules by the set that they apply to
	profiles []profile
	of       []int   // profile by class
	passed   [][]int // lists of rules; the first is empty
	vias     map[[2]int]int
}

// rects is what rules say to the members of a profile: they are disjoint, and
// together everything.
func (s *side) rects(n int) []rect {
	p := &s.profiles[n]
	if p.said == nil {
		p.said = s.decide(p.owners)
	}
	return p.said
}

func (s *space) judge(all []rule) *side {
	out := &side{space: s, rules: all, of: make([]int, len(s.addresses)), owned: map[int][]int{}, passed: [][]int{nil}, vias: map[[2]int]int{}}
	owned := bitset.New(len(s.holders))
	for i := range all {
		owned.Add(all[i].own)
		out.owned[all[i].own] = append(out.owned[all[i].own], i)
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

// met are the rules that say something, and do more than to leave it to others.
func (s *side) met(x says) []int {
	list := s.passed[x.via]
	if x.by != nobody {
		list = append(slices.Clip(list), x.by)
	}
	return list
}

// after is via with another rule.
func (s *side) after(via, rule int) int {
	if !s.rules[rule].tells() {
		return via
	}
	key := [2]int{via, rule}
	n, known := s.vias[key]
	if !known {
		n = len(s.passed)
		s.vias[key] = n
		s.passed = append(s.passed, append(slices.Clip(s.passed[via]), rule))
	}
	return n
}

// decide walks the rules that apply to the members of some sets. What is left
// is kept as rects with disjoint services, of which each rule takes its part.
func (s *side) decide(mine bitset.Set) []rect {
	var out []rect
	left := []rect{{bitset.Full(len(s.space.services)), bitset.Full(len(s.space.addresses)), says{by: nobody}}}
	var passed []rect
	var tier policy.Tier
	next := func() {
		for _, p := range passed {
			left = overlay(left, p)
		}
		passed = nil
	}
	var list []int
	for own := range mine.All() {
		list = append(list, s.owned[own]...)
	}
	slices.Sort(list)
	for _, i := range list {
		r := &s.rules[i]
		if r.tier != tier {
			next()
			tier = r.tier
		}
		var taken []rect
		taken, left = take(left, s.space.fit(r.service), s.space.holding(r.other), i)
		if r.action == policy.ActionPass {
			for _, t := range taken {
				t.via = s.after(t.via, i)
				passed = append(passed, t)
			}
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
		taken = append(taken, rect{hit, l.others.And(others), says{by, l.via}})
		if rest := l.others.Without(others); !rest.Empty() {
			left = append(left, rect{hit, rest, l.says})
		}
		if rest := l.services.Without(services); !rest.Empty() {
			left = append(left, rect{rest, l.others, l.says})
		}
	}
	return taken, left
}

// overlay adds a rect to rects, of which those that were met by the same rules
// have disjoint services.
func overlay(list []rect, add rect) []rect {
	var out []rect
	rest := add.services
	said := says{nobody, add.via}
	for _, l := range list {
		if l.via != add.via {
			out = append(out, l)
			continue
		}
		if both := l.services.And(add.services); !both.Empty() {
			out = append(out, rect{both, l.others.Or(add.others), said})
			rest = rest.Without(both)
			l.services = l.services.Without(both)
		}
		if !l.services.Empty() {
			out = append(out, l)
		}
	}
	if !rest.Empty() {
		out = append(out, rect{rest, add.others, said})
	}
	return out
}

// merge joins rects that say the same with the same others, or the same
// services.
func merge(list []rect) []rect {
	for _, by := range []struct {
		key  func(rect) string
		join func(into *rect, r rect)
	}{
		{func(r rect) string { return r.others.Key() }, func(into *rect, r rect) { into.services = into.services.Or(r.services) }},
		{func(r rect) string { return r.services.Key() }, func(into *rect, r rect) { into.others = into.others.Or(r.others) }},
	} {
		type key struct {
			says
			same string
		}
		at := map[key]int{}
		var out []rect
		for _, r := range list {
			k := key{r.says, by.key(r)}
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
