package prove

import (
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Result says whether an invariant is true.
type Result struct {
	Invariant *policy.Invariant
	Holds     bool
	// Vacuous says that it holds because it speaks of no connection at all: a
	// group is empty, perhaps for want of an inventory.
	Vacuous bool
	// Counterexample is a connection for which it is not; nil when it holds.
	Counterexample *Counterexample
}

// Counterexample is a connection, who has its addresses, and what becomes of
// it.
type Counterexample struct {
	oracle.Connection
	From, To string // workloads; "" for addresses that nobody has
	Verdict  oracle.Verdict
}

// Verify tells of each of the set's invariants whether it is true of all
// connections, in order. Staged policies have no say. The error is about a
// fault of this package: every counterexample is put to the oracle.
func Verify(set *policy.Set, inv policy.Inventory, now time.Time) ([]Result, error) {
	resolve, d := newResolver(set, inv, now), &dimensions{}
	all := collect(resolve, d).enforced()
	claims := make([]claim, 0, len(set.Invariants))
	for i := range set.Invariants {
		claims = append(claims, newClaim(&set.Invariants[i], resolve, d))
	}
	results := make([]Result, len(claims))
	for i := range results {
		results[i] = Result{Invariant: claims[i].invariant, Holds: true, Vacuous: true}
	}
	truth := oracle.New(set, inv, now)
	for family := range families {
		s := newSpace(family, d)
		choose := newChooser(s, inv)
		for i := range claims {
			if !results[i].Holds {
				continue
			}
			about := claims[i].box(s)
			if about.empty() {
				continue
			}
			results[i].Vacuous = false
			c, found := claims[i].counterexample(s, about, all, choose)
			if !found {
				continue
			}
			v := truth.Verdict(c)
			if v.Allowed() != claims[i].denies {
				return nil, fmt.Errorf("verify %s: %+v is no counterexample: %s", claims[i].invariant.Name, c, v.Why)
			}
			results[i].Holds = false
			results[i].Counterexample = &Counterexample{Connection: c, From: choose.names[c.Src], To: choose.names[c.Dst], Verdict: v}
		}
	}
	return results, nil
}

// claim is an invariant whose terms are numbers of sets.
type claim struct {
	invariant          *policy.Invariant
	denies             bool
	from, to, services int
}

func newClaim(x *policy.Invariant, r *resolver, d *dimensions) claim {
	c := claim{invariant: x, denies: x.Deny != nil, services: everything}
	about := x.Deny
	if about == nil {
		about = x.Allow
	}
	c.from, c.to = d.addAddresses(r.terms(about.From)), d.addAddresses(r.terms(about.To))
	if len(about.Services) > 0 {
		c.services = d.addServices(entries(r.set, about.Services))
	}
	return c
}

// box is what a claim is about in a family.
func (c *claim) box(s *space) box { return box{s.holding(c.from), s.holding(c.to), s.fit(c.services)} }

// counterexample looks for a connection that makes the claim false.
func (c *claim) counterexample(s *space, about box, all rules, choose *chooser) (oracle.Connection, bool) {
	some := s.relevant(all, about)
	l := s.narrow(about, []int{c.from, c.to}, []int{c.services}, some)
	j := newJudged(l.space, some)
	from, to, services := l.holding(c.from), l.holding(c.to), l.fit(c.services)
	chosen := func(from, to, services bitset.Set) (oracle.Connection, bool) {
		b := l.whole(s, from, to, services)
		return choose.connection(b.from, b.to, b.services)
	}
	if c.denies {
		return j.passing(from, to, services, chosen)
	}
	if x, found := j.refused(policy.Egress, from, to, services, chosen); found {
		return x, true
	}
	return j.refused(policy.Ingress, to, from, services, func(to, from, services bitset.Set) (oracle.Connection, bool) { return chosen(from, to, services) })
}

// choice chooses a connection of some classes; ok is false when there is none.
type choice func(from, to, services bitset.Set) (x oracle.Connection, ok bool)

// refused looks for a connection that the rules of one side refuse.
func (j *judged) refused(d policy.Direction, own, others, services bitset.Set, choose choice) (oracle.Connection, bool) {
	s := j.sides[d]
	for _, n := range s.profilesOf(own) {
		for _, r := range s.rects(n) {
			if s.consents(r.by) || !r.others.Meets(others) || !r.services.Meets(services) {
				continue
			}
			if x, ok := choose(s.profiles[n].members.And(own), r.others.And(others), r.services.And(services)); ok {
				return x, true
			}
		}
	}
	return oracle.Connection{}, false
}

// passing looks for a connection that both sides consent to.
func (j *judged) passing(from, to, services bitset.Set, choose choice) (best oracle.Connection, found bool) {
	x := crossing{space: j.space, egress: j.consent(policy.Egress, from, services), ingress: j.consent(policy.Ingress, to, services), ask: [][]int{{0}}}
	x.regions(func(_ int, r region) bool {
		best, found = choose(r.from, r.to, r.services)
		return !found
	})
	return best, found
}

// consent is what one side consents to, of some services.
func (j *judged) consent(d policy.Direction, own, services bitset.Set) half {
	s := j.sides[d]
	out := half{of: make([]int, len(s.of))}
	blocks := map[int]int{}
	for class := range out.of {
		out.of[class] = -1
		if !own.Has(class) {
			continue
		}
		n, known := blocks[s.of[class]]
		if !known {
			n = len(out.blocks)
			blocks[s.of[class]] = n
			var parts []part
			for _, r := range s.rects(s.of[class]) {
				if s.consents(r.by) && r.services.Meets(services) {
					parts = append(parts, part{r.services.And(services), r.others, 0})
				}
			}
			out.blocks = append(out.blocks, block{parts})
		}
		out.of[class] = n
	}
	return out
}
