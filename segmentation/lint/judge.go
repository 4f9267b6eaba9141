package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// rule is a rule with what it is about at a time, in classes.
type rule struct {
	id       policy.RuleID
	policy   *policy.Policy
	rule     *policy.Rule
	staged   bool
	own      bitset.Set // classes of the policy's side
	other    bitset.Set // classes of the other side
	services bitset.Set
	effect   int // equal for rules whose effect on a connection is the same
}

// verdict is what was found of a rule, over all times.
type verdict struct {
	id       policy.RuleID
	rule     *policy.Rule
	matches  bool // some connection
	decides  bool // some connection
	needed   bool // without it some connection would fare otherwise
	inForce  bool // its policy, at some time
	deciders map[policy.RuleID]policy.Action
	// contradicted are messages about rules before it that say the opposite.
	contradicted []string
}

// direction is everything that matters to the rules of one direction at a
// time: their order, and the classes that they tell apart.
type direction struct {
	w       *world
	d       policy.Direction
	rules   []rule
	own     []class
	other   []class
	samples []sample // one for each class of services
}

// class is a set of kinds that rules do not tell apart.
type class struct {
	v6     bool
	kinds  bitset.Set
	guards bitset.Set // that all its members belong to
	member int        // one of the kinds
}

// judge judges every rule at every time.
func (c *checker) judge(w *world) {
	verdicts := map[policy.RuleID]*verdict{}
	for i := range c.set.Policies {
		p := &c.set.Policies[i]
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for j := range p.Rules(d) {
				id := policy.RuleID{Policy: p.Name, Direction: d, Rule: p.Rules(d)[j].Name}
				verdicts[id] = &verdict{id: id, rule: &p.Rules(d)[j], deciders: map[policy.RuleID]policy.Action{}}
			}
		}
	}
	populated := bitset.New(len(w.names))
	for _, now := range c.times() {
		m := w.at(now)
		for i, name := range w.names {
			if !m.group(name).Empty() {
				populated.Add(i)
			}
		}
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			c.judgeDirection(newDirection(w, d, now, m), verdicts)
		}
	}
	if c.guardsOnly {
		return
	}
	empty := c.emptyGroups(w, populated)
	for i := range c.set.Policies {
		c.tell(&c.set.Policies[i], verdicts, empty)
	}
}

// judgeDirection asks twice when policies are staged: once for the rules that
// are enforced, among themselves, and once for those that are staged, among
// all.
func (c *checker) judgeDirection(dir *direction, verdicts map[policy.RuleID]*verdict) {
	staged := slices.ContainsFunc(dir.rules, func(r rule) bool { return r.staged })
	for _, all := range []bool{false, true} {
		if all && !staged {
			continue
		}
		in := make([]int, 0, len(dir.rules))
		for i := range dir.rules {
			if all || !dir.rules[i].staged {
				in = append(in, i)
			}
		}
		results := dir.walk(in, c.guardsOnly)
		for _, i := range in {
			r, res := &dir.rules[i], &results[i]
			if r.staged != all {
				continue
			}
			c.protect(dir, r, res)
			if c.guardsOnly {
				continue
			}
			v := verdicts[r.id]
			v.inForce = true
			v.matches = v.matches || res.matches
			v.decides = v.decides || res.decides
			v.needed = v.needed || res.needed
			if res.matches && !res.decides {
				dir.blame(in, i, v.deciders)
			}
		}
		if !c.guardsOnly {
			c.cutOffs(dir, in, all)
		}
	}
	if !c.guardsOnly {
		c.overlaps(dir, verdicts)
	}
}

// newDirection puts the rules in force in order, and finds the classes.
func newDirection(w *world, d policy.Direction, now time.Time, m *members) *direction {
	dir := &direction{w: w, d: d}
	var all []policy.Service
	var own, other []bitset.Set
	for i := range w.set.Policies {
		p := &w.set.Policies[i]
		if !p.Active(now) || len(p.Rules(d)) == 0 {
			continue
		}
		applies := m.of(p.AppliesTo)
		for j := range p.Rules(d) {
			r := &p.Rules(d)[j]
			dir.rules = append(dir.rules, rule{id: policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}, policy: p, rule: r, staged: p.Mode == policy.ModeStaged})
			own, other = append(own, applies), append(other, m.of(r.Peers(d)))
			all = append(all, entries(w.set, r.Services)...)
		}
	}
	guarded := make([]bitset.Set, len(w.guards))
	for i, g := range w.guards {
		guarded[i] = m.of(g.peers)
	}
	dir.own, dir.other = w.classes(own, guarded), w.classes(other, guarded)
	for i := range dir.rules {
		dir.rules[i].own, dir.rules[i].other = classesWithin(dir.own, own[i]), classesWithin(dir.other, other[i])
	}
	dir.classServices(samples(all))
	dir.effects()
	return dir
}

// classes merges kinds that belong to the same of some sets.
func (w *world) classes(of, guarded []bitset.Set) []class {
	index := map[string]int{}
	var out []class
	for k := range w.kinds {
		key := make([]byte, 0, len(of)+len(guarded)+1)
		key = append(key, flag(w.kinds[k].v6), flag(w.kinds[k].workload))
		for _, s := range of {
			key = append(key, flag(s.Has(k)))
		}
		guards := bitset.New(len(guarded))
		for i, s := range guarded {
			key = append(key, flag(s.Has(k)))
			if s.Has(k) {
				guards.Add(i)
			}
		}
		n, known := index[string(key)]
		if !known {
			n = len(out)
			index[string(key)] = n
			out = append(out, class{v6: w.kinds[k].v6, kinds: bitset.New(len(w.kinds)), guards: guards, member: k})
		}
		out[n].kinds.Add(k)
	}
	return out
}

// classesWithin lists the classes of some kinds, which are never split.
func classesWithin(all []class, kinds bitset.Set) bitset.Set {
	out := bitset.New(len(all))
	for i := range all {
		if kinds.Has(all[i].member) {
			out.Add(i)
		}
	}
	return out
}

// classServices merges services that no rule tells apart; those with a name
// keep a class of their own.
func (dir *direction) classServices(all []sample) {
	fits := make([][]bool, len(all))
	for i := range dir.rules {
		e := entries(dir.w.set, dir.rules[i].rule.Services)
		for n, x := range all {
			fits[n] = append(fits[n], dir.rules[i].rule.Services == nil || slices.ContainsFunc(e, func(s policy.Service) bool { return x.fits(&s) }))
		}
	}
	seen := map[string]bool{}
	var kept []int
	for n, x := range all {
		key := fmt.Sprint(fits[n])
		if !seen[key] || slices.Contains(dnsSamples(), x) && !slices.Contains(dir.samples, x) {
			seen[key] = true
			kept = append(kept, n)
			dir.samples = append(dir.samples, x)
		}
	}
	for i := range dir.rules {
		dir.rules[i].services = bitset.New(len(kept))
		for s, n := range kept {
			if fits[n][i] {
				dir.rules[i].services.Add(s)
			}
		}
	}
}

// The effects that several rules can have; others are a rule's own.
const (
	effectAllow = iota
	effectDeny
	effectDenyKeep
	effectReject
	effectRejectKeep
	effectPass
	effectOwn
)

func (dir *direction) effects() {
	for i := range dir.rules {
		r := &dir.rules[i]
		keep := 0
		if r.policy.Established == policy.EstablishedKeep {
			keep = 1
		}
		switch {
		case r.rule.Log || r.rule.Mirror != "" || r.rule.Action == policy.ActionRateLimit:
			r.effect = effectOwn + i
		case r.rule.Action == policy.ActionAllow:
			r.effect = effectAllow
		case r.rule.Action == policy.ActionDeny:
			r.effect = effectDeny + keep
		case r.rule.Action == policy.ActionReject:
			r.effect = effectReject + keep
		case r.rule.Action == policy.ActionPass:
			r.effect = effectPass
		}
	}
}

// blame gathers the rules that decide what a rule matches.
func (dir *direction) blame(in []int, of int, deciders map[policy.RuleID]policy.Action) {
	target := &dir.rules[of]
	for a := range target.own.All() {
		if dir.exempt(a) {
			continue
		}
		for s := range target.services.All() {
			dir.forward(dir.chain(in, a, s), a, func(i int, hit bitset.Set) {
				if hit.Meets(target.other) && i < of && dir.decidesBefore(i, of) {
					deciders[dir.rules[i].id] = dir.rules[i].rule.Action
				}
			})
		}
	}
}

// decidesBefore leaves out rules that only pass on to the other's tier.
func (dir *direction) decidesBefore(i, of int) bool {
	return dir.rules[i].rule.Action != policy.ActionPass || dir.rules[i].policy.Tier == dir.rules[of].policy.Tier
}

// tell says what was found of a policy's rules.
func (c *checker) tell(p *policy.Policy, verdicts map[policy.RuleID]*verdict, empty bitset.Set) {
	if p.ExpiresAt != nil && !c.opt.Now.Before(*p.ExpiresAt) {
		return // told already
	}
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		for j := range p.Rules(d) {
			v := verdicts[policy.RuleID{Policy: p.Name, Direction: d, Rule: p.Rules(d)[j].Name}]
			switch {
			case !v.inForce:
				c.aboutPolicy(p, SeverityWarning, KindUnreachable, "is never in force: its schedule and its end leave no time")
			case !v.matches && !c.namesEmpty(p, v.rule, d, empty):
				c.aboutRule(v.id, SeverityWarning, KindUnreachable, "matches no connection: nobody is both what it applies to and one of its peers' family, or its services are always allowed")
			case v.matches && !v.decides:
				c.shadowed(v)
			case v.decides && v.needed:
				for _, message := range v.contradicted {
					c.aboutRule(v.id, SeverityNote, KindOverlap, message)
				}
			case v.decides:
				c.aboutRule(v.id, SeverityWarning, KindRedundant, "changes nothing: without it every connection would fare the same")
			}
		}
	}
}

func (c *checker) shadowed(v *verdict) {
	var by []string
	passes := true
	for id, action := range v.deciders {
		by = append(by, id.String())
		passes = passes && action == policy.ActionPass
	}
	slices.Sort(by)
	if n := len(by); n > 3 {
		by = append(by[:3], fmt.Sprintf("%d more", n-3))
	}
	if passes {
		c.aboutRule(v.id, SeverityWarning, KindUnreachable, "never decides: "+strings.Join(by, ", ")+" leave all of it to a later tier")
		return
	}
	c.aboutRule(v.id, SeverityWarning, KindShadowed, "never decides: "+strings.Join(by, ", ")+" decide all of it before")
}
