package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// policyRule is a rule of the policies that are in force, and what we know of
// it on the switch. It is not changed but for its meter.
type policyRule struct {
	compile.Rule
	object uint32
	flows  int            // how many it has
	meter  openflow.Meter // the one allocated for a rate limit; its ID is 0 before
	count  *ruleCount
}

// newPolicyRule takes over what is known of an old rule, if there is one.
func newPolicyRule(r compile.Rule, object uint32, old *policyRule) *policyRule {
	_, flows := sizes(&r)
	n := &policyRule{Rule: r, object: object, flows: flows}
	if old == nil {
		n.count = newRuleCount()
		return n
	}
	if n.count = old.count; limitOf(&old.Rule) == limitOf(&r) {
		n.meter = old.meter
	}
	return n
}

// policySet is what the policies want on the switch. Once made it is not
// changed.
type policySet struct {
	program *compile.Program // nil for none
	rules   map[policy.RuleID]*policyRule
	objects map[uint32]*policyRule
	classes int // flows of endpoints, services and tracked prefixes
}

func newPolicySet() *policySet {
	return &policySet{rules: map[policy.RuleID]*policyRule{}, objects: map[uint32]*policyRule{}}
}

// tracks reports whether packets of anybody are under policy.
func (s *policySet) tracks() bool { return s.program != nil && len(s.program.Tracked) > 0 }

// inForce is the program that is on the switch: an empty one where nobody is
// under policy.
func (s *policySet) inForce() *compile.Program {
	if !s.tracks() {
		return &compile.Program{}
	}
	return s.program
}

// ruleOf returns the rule that a cookie of ours names, nil if there is none.
func (s *policySet) ruleOf(cookie uint64) *policyRule {
	if !cookieCategory(cookie).policy() {
		return nil
	}
	return s.objects[cookieObject(cookie)&^clauseBit]
}

// meterOf returns the meter of a rule, an empty one for none.
func (s *policySet) meterOf(id policy.RuleID) openflow.Meter {
	if r := s.rules[id]; r != nil {
		return r.meter
	}
	return openflow.Meter{}
}

// flowCount is the number of flows of the policies, but for the way that is
// the same for all of them.
func (s *policySet) flowCount() int {
	n := s.classes
	for _, r := range s.rules {
		if !r.limited() || r.meter.ID != 0 {
			n += r.flows
		}
	}
	return n
}

// classFlows counts the flows of a program but for those of its rules.
func classFlows(p *compile.Program) int {
	if len(p.Tracked) == 0 {
		return 0
	}
	var l Layout
	n := 2 * len(p.Endpoints)
	for x, c := range p.Services {
		n += len(l.serviceFlows(x, c))
	}
	for x := range p.Tracked {
		n += trackedCount(x)
	}
	return n
}

// sameMap reports whether two maps are one and the same; programs, which are not
// changed once made, share what is alike.
func sameMap[K comparable, V any](a, b map[K]V) bool {
	return len(a) > 0 && reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer()
}

// rejects reports whether a rule answers in the name of destinations.
func (s *policySet) rejects() bool {
	for _, r := range s.rules {
		if r.Action == policy.ActionReject {
			return true
		}
	}
	return false
}

// next returns the set for a program. What is known of its rules is taken
// over.
func (s *policySet) next(program *compile.Program) (*policySet, error) {
	n := newPolicySet()
	if program == nil {
		return n, nil
	}
	if err := checkProgram(program, s.inForce()); err != nil {
		return nil, err
	}
	n.program, n.classes = program, classFlows(program)
	if sameMap(s.inForce().Rules, program.Rules) {
		n.rules, n.objects = s.rules, s.objects
		return n, nil
	}
	var fresh []policy.RuleID
	for id, r := range program.Rules {
		old := s.rules[id]
		if old == nil {
			fresh = append(fresh, id)
			continue
		}
		keep := old
		if !old.Same(&r) {
			keep = newPolicyRule(r, old.object, old)
		}
		n.add(keep)
	}
	slices.SortFunc(fresh, func(a, b policy.RuleID) int { return cmp.Compare(a.String(), b.String()) })
	for _, id := range fresh { // in this order, whatever was there before
		n.add(newPolicyRule(program.Rules[id], n.freeObject(id), nil))
	}
	return n, nil
}

func (s *policySet) add(r *policyRule) { s.rules[r.ID], s.objects[r.object] = r, r }

// freeObject returns the object of a rule's name, or another one if two names
// have the same hash; 0 is nobody's, and reports carry the object.
func (s *policySet) freeObject(id policy.RuleID) uint32 {
	object := ObjectID(id.String()) & flow.MaxRule
	for object == 0 || s.objects[object] != nil {
		object = (object + 1) & flow.MaxRule
	}
	return object
}

// all returns every rule, in a stable order.
func (s *policySet) all() []*policyRule {
	return slices.SortedFunc(maps.Values(s.rules), func(a, b *policyRule) int { return cmp.Compare(a.object, b.object) })
}

// limitOf is the limit of a rule, empty for one without.
func limitOf(r *compile.Rule) segmentation.Limit {
	if r.Action != policy.ActionRateLimit {
		return segmentation.Limit{}
	}
	return segmentation.Limit{PacketsPerSecond: r.Rate.PacketsPerSecond, KilobitsPerSecond: r.Rate.KilobitsPerSecond, Burst: r.Rate.Burst}
}

func (r *policyRule) limited() bool { return r.Action == policy.ActionRateLimit }

// checkProgram reports what cannot be enforced as it reads. What was in force
// before is right.
func checkProgram(p, before *compile.Program) error {
	for x := range p.Endpoints {
		if err := checkPrefix(x); err != nil {
			return err
		}
	}
	if !sameMap(p.Tracked, before.Tracked) {
		for x, on := range p.Tracked {
			if err := checkPrefix(x); err != nil {
				return err
			}
			if !on {
				return fmt.Errorf("%s is among what is tracked, and is not tracked", x)
			}
		}
	}
	for s := range p.Services {
		if err := checkService(s); err != nil {
			return fmt.Errorf("service %+v: %w", s, err)
		}
	}
	if len(p.Rules) > 0 && len(p.Tracked) == 0 {
		return errors.New("rules for nobody: no prefix is tracked")
	}
	if sameMap(p.Rules, before.Rules) {
		return nil
	}
	return checkRules(p)
}

func checkPrefix(x netip.Prefix) error {
	if !x.IsValid() || x != x.Masked() || x.Addr().Is4In6() {
		return fmt.Errorf("%s is not a prefix of IPv4 or IPv6", x)
	}
	return nil
}

func checkRules(p *compile.Program) error {
	type place struct {
		tier      policy.Tier
		direction policy.Direction
		rank      uint16
	}
	places := make(map[place]policy.RuleID, len(p.Rules))
	for id, r := range p.Rules {
		if err := checkRule(id, &r); err != nil {
			return fmt.Errorf("rule %s: %w", id, err)
		}
		at := place{r.Tier, id.Direction, r.Rank}
		if other, taken := places[at]; taken {
			return fmt.Errorf("rules %s and %s have the same rank %d", id, other, r.Rank)
		}
		places[at] = id
	}
	return nil
}

func checkService(s compile.ServiceMatch) error {
	ports, types := s.Port != 0 || s.PortMask != 0, s.HasType || s.HasCode
	switch {
	case s.Proto == 0:
		return errors.New("no protocol")
	case ports && !s.Proto.HasPorts(), types && !s.Proto.IsICMP():
		return fmt.Errorf("%s has no such field", s.Proto)
	case s.HasCode && !s.HasType:
		return errors.New("code without type")
	case s.Port&^s.PortMask != 0:
		return fmt.Errorf("port 0x%x has bits outside its mask 0x%x", s.Port, s.PortMask)
	case bits.LeadingZeros16(^s.PortMask) != bits.OnesCount16(s.PortMask):
		return fmt.Errorf("the mask 0x%x is not a run of the first bits", s.PortMask)
	}
	return nil
}

func checkRule(id policy.RuleID, r *compile.Rule) error {
	switch {
	case r.ID != id:
		return fmt.Errorf("it is named %s", r.ID)
	case id.Direction != policy.Ingress && id.Direction != policy.Egress:
		return fmt.Errorf("direction %s", id.Direction)
	case r.Tier < policy.TierEmergency || r.Tier > policy.TierBaseline:
		return fmt.Errorf("tier %s", r.Tier)
	case r.Rank >= compile.MaxRank:
		return fmt.Errorf("rank %d, want below %d", r.Rank, compile.MaxRank)
	case r.Action < policy.ActionAllow || r.Action > policy.ActionRateLimit:
		return fmt.Errorf("action %s", r.Action)
	case r.Established > policy.EstablishedKeep:
		return fmt.Errorf("established %s", r.Established)
	case r.Action == policy.ActionRateLimit && (r.Rate.PacketsPerSecond == 0) == (r.Rate.KilobitsPerSecond == 0):
		return errors.New("a rate limit is either in packets/s or in kb/s")
	}
	for _, l := range lists(r) {
		if len(l.classes) == 0 {
			return errors.New("it matches nothing: a list is empty")
		}
		if !slices.IsSorted(l.classes) || len(slices.Compact(slices.Clone(l.classes))) != len(l.classes) {
			return errors.New("a list of classes is not sorted, or has one twice")
		}
	}
	return nil
}

// mirrorPort returns the port of this bridge that a rule mirrors to, "" for
// none: "port", or "switch/port" for one of that switch alone.
func mirrorPort(bridge, mirror string) string {
	if sw, port, ok := strings.Cut(mirror, "/"); ok {
		if sw != bridge {
			return ""
		}
		return port
	}
	return mirror
}
