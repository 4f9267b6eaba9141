package lint

import (
	"fmt"
	"maps"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// expired tells of policies past their end.
func (c *checker) expired() {
	for i := range c.set.Policies {
		if p := &c.set.Policies[i]; p.ExpiresAt != nil && !c.opt.Now.Before(*p.ExpiresAt) {
			c.aboutPolicy(p, SeverityWarning, KindExpired, "is past its end")
		}
	}
}

// unused tells of groups and services that nothing speaks of.
func (c *checker) unused() {
	groups, services := map[string]bool{}, map[string]bool{}
	var use func(name string)
	use = func(name string) {
		if !groups[name] {
			groups[name] = true
			for _, other := range c.set.Groups[name].Groups {
				use(other)
			}
		}
	}
	peers := func(list []policy.Peer) {
		for _, p := range list {
			use(p.Group)
		}
	}
	refs := func(list []policy.ServiceRef) {
		for _, s := range list {
			services[s.Name] = true
		}
	}
	peers(c.set.Protected)
	for i := range c.set.SourceGuards {
		peers(c.set.SourceGuards[i].AppliesTo)
	}
	for i := range c.set.Policies {
		p := &c.set.Policies[i]
		peers(p.AppliesTo)
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for j := range p.Rules(d) {
				peers(p.Rules(d)[j].Peers(d))
				refs(p.Rules(d)[j].Services)
			}
		}
	}
	if len(c.set.Policies) == 0 || len(c.set.Invariants) > 0 {
		return // a file of names for others, or one that speaks of them elsewhere
	}
	for _, name := range slices.Sorted(maps.Keys(c.set.Groups)) {
		if !groups[name] {
			c.aboutGroup(name, SeverityNote, KindUnused, "no policy speaks of the group "+name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.set.Services)) {
		if !services[name] {
			c.add(Finding{Severity: SeverityNote, Kind: KindUnused, Message: "no policy speaks of the service " + name}, c.set.ServiceAt(name))
		}
	}
}

// unguarded tells of groups whose egress is restricted while no source guard is
// enforced for them: who forges his source leaves them. Where there are no guards
// at all that is how it is meant.
func (c *checker) unguarded() {
	guarded := map[string]bool{}
	var guard func(name string)
	guard = func(name string) {
		if !guarded[name] {
			guarded[name] = true
			for _, other := range c.set.Groups[name].Groups {
				guard(other)
			}
		}
	}
	for i := range c.set.SourceGuards {
		if g := &c.set.SourceGuards[i]; g.Mode == policy.ModeEnforce {
			for _, p := range g.AppliesTo {
				guard(p.String())
			}
		}
	}
	for i := range c.set.Policies {
		p := &c.set.Policies[i]
		restricts := slices.ContainsFunc(p.Egress, func(r policy.Rule) bool { return r.Action == policy.ActionDeny || r.Action == policy.ActionReject })
		if len(c.set.SourceGuards) == 0 || guarded[policy.Any] || p.Mode != policy.ModeEnforce || p.Origin != nil || !restricts {
			continue
		}
		for _, peer := range p.AppliesTo {
			if !guarded[peer.String()] {
				c.aboutPolicy(p, SeverityWarning, KindUnguarded, "restricts what "+peer.String()+" opens, and no source guard is enforced for it: whoever forges his source is not restricted")
			}
		}
	}
}

// emptyGroups tells of groups that nobody belongs to, whatever findings and
// feeds may say, and lists them.
func (c *checker) emptyGroups(w *world, populated bitset.Set) bitset.Set {
	empty := bitset.New(len(w.names))
	for i, name := range w.names {
		if populated.Has(i) {
			continue
		}
		empty.Add(i)
		why := "nobody belongs to the group " + name + ", and nobody can"
		if g := c.set.Groups[name]; !w.open && g.ByWorkload() {
			why = "no workload belongs to the group " + name
		}
		c.aboutGroup(name, SeverityWarning, KindEmptyGroup, why)
	}
	return empty
}

// namesEmpty reports whether a rule is about empty groups alone, on one side.
func (c *checker) namesEmpty(p *policy.Policy, r *policy.Rule, d policy.Direction, empty bitset.Set) bool {
	names := slices.Sorted(maps.Keys(c.set.Groups))
	all := func(peers []policy.Peer) bool {
		return !slices.ContainsFunc(peers, func(p policy.Peer) bool {
			i, known := slices.BinarySearch(names, p.Group)
			return !known || !empty.Has(i)
		})
	}
	return all(p.AppliesTo) || all(r.Peers(d))
}

// overlaps tells of policies of one tier that contradict each other on some
// connections, of which the priority alone decides. What denies the rest of
// everything is meant to.
func (c *checker) overlaps(dir *direction, verdicts map[policy.RuleID]*verdict) {
	told := map[[2]string]bool{}
	for i := range dir.rules {
		for j := i + 1; j < len(dir.rules) && dir.rules[j].policy.Tier == dir.rules[i].policy.Tier; j++ {
			r, s := &dir.rules[i], &dir.rules[j]
			pair := [2]string{r.id.Policy, s.id.Policy}
			rest := s.rule.Services == nil && slices.ContainsFunc(s.rule.Peers(dir.d), policy.Peer.IsAny)
			if r.policy == s.policy || told[pair] || rest || r.rule.Action == policy.ActionPass || s.rule.Action == policy.ActionPass ||
				r.rule.Action.Consents() == s.rule.Action.Consents() || !dir.overlap(r, s) {
				continue
			}
			told[pair] = true
			verdicts[s.id].contradicted = append(verdicts[s.id].contradicted, fmt.Sprintf("is contradicted by %s about some connections, which priority %d decides before %d",
				r.id, r.policy.Priority, s.policy.Priority))
		}
	}
}

// overlap reports whether some connection meets both rules.
func (dir *direction) overlap(r, s *rule) bool {
	if !r.services.Meets(s.services) {
		return false
	}
	own, other := r.own.And(s.own), r.other.And(s.other)
	for _, v6 := range []bool{false, true} {
		has := func(list []class, in bitset.Set) bool {
			for i := range in.All() {
				if list[i].v6 == v6 {
					return true
				}
			}
			return false
		}
		if has(dir.own, own) && has(dir.other, other) {
			return true
		}
	}
	return false
}

// Faults are the findings that have policies refused, as errors of their
// files; nil if there are none.
func Faults(found []Finding) error {
	var errs strictyaml.Errors
	for _, f := range found {
		if f.Severity == SeverityError {
			errs = append(errs, &strictyaml.Error{File: f.File, Line: f.Line, Column: f.Column, Msg: f.Message})
		}
	}
	return errs.Err()
}
