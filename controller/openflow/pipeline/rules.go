package pipeline

import (
	"fmt"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// rule is a desired intent and what we know of it on the switch: of its flow,
// or, in a rule of its own, of the second flow that makes copies.
type rule struct {
	intent segmentation.Intent
	copies bool
	other  *rule // the one that makes copies, if the intent has it
	owner  string
	object uint32
	slot   uint8
	since  time.Time // when it was first applied
	// expiry is when the rule ends unless it is renewed; zero is never.
	expiry time.Time
	// meter is the one allocated for a rate limit or copies; its ID is 0 before.
	meter openflow.Meter
	// placed is the flow as we last put it on the switch, nil when it is
	// not there as far as we know.
	placed  *openflow.Flow
	flow    tally // packets and bytes that matched
	metered tally // packets offered to the meter and dropped by it
}

// tally keeps a pair of the switch's counters rising when the flow that
// counts is made anew.
type tally struct{ base, last [2]uint64 }

// observe takes a reading.
func (t *tally) observe(a, b uint64) {
	if a < t.last[0] || b < t.last[1] {
		t.restart()
	}
	t.last = [2]uint64{a, b}
}

// restart says that the switch counts from 0 again.
func (t *tally) restart() {
	t.base[0], t.base[1] = t.base[0]+t.last[0], t.base[1]+t.last[1]
	t.last = [2]uint64{}
}

func (t *tally) total() (a, b uint64) { return t.base[0] + t.last[0], t.base[1] + t.last[1] }

// limited reports whether the rule needs a meter.
func (r *rule) limited() bool {
	return r.intent.Action == segmentation.ActionRateLimit || r.intent.Action == segmentation.ActionMirror && r.copies
}

// put records what is on the switch now, nil for nothing.
func (r *rule) put(f *openflow.Flow) {
	if r.placed != nil && (f == nil || f.Key() != r.placed.Key()) {
		r.flow.restart()
	}
	r.placed = f
}

// compile returns the rule's flow with the time that is left to it; ok is
// false while its port is not on the switch.
func (r *rule) compile(now time.Time, p Placement, port func(string) (uint32, bool)) (f openflow.Flow, ok bool, err error) {
	if r.intent.Match.InPort != "" {
		if p.InPort, ok = port(r.intent.Match.InPort); !ok {
			return f, false, nil
		}
	}
	if r.intent.ToPort != "" {
		if p.ToPort, ok = port(r.intent.ToPort); !ok {
			return f, false, nil
		}
	}
	p.Object, p.Slot, p.Meter, p.Copies = r.object, r.slot, r.meter.ID, r.copies
	if f, err = Compile(r.intent, p); err != nil {
		return f, false, err
	}
	if !r.expiry.IsZero() {
		left := (r.expiry.Sub(now) + time.Second - 1) / time.Second
		f.HardTimeout = uint16(max(1, min(left, maxTTL/time.Second)))
	}
	return f, true, nil
}

// slotKey is what two rules must not share within one slot.
type slotKey struct {
	tier   segmentation.Tier
	rank   uint16
	action segmentation.Action
	match  segmentation.Match
	copies bool
}

func (r *rule) slotKey() slotKey {
	m := r.intent.Match
	if m.Src.IsValid() {
		m.Src = m.Src.Masked()
	}
	if m.Dst.IsValid() {
		m.Dst = m.Dst.Masked()
	}
	in, action := &r.intent, r.intent.Action
	if action == segmentation.ActionMirror {
		action = segmentation.ActionReroute // they share priorities
	}
	return slotKey{in.Tier, in.Rank, action, m, r.copies}
}

// ruleSet is what we want on the switch, by owner.
type ruleSet struct {
	owners  map[string][]*rule
	intents map[string]*rule
	objects map[uint32]*rule
	used    map[slotKey][slots]*rule
}

func newRuleSet() *ruleSet {
	return &ruleSet{owners: map[string][]*rule{}, intents: map[string]*rule{}, objects: map[uint32]*rule{},
		used: map[slotKey][slots]*rule{}}
}

// build makes an owner's rules from intents, without changing the set. A rule
// whose intent ID the owner already has goes on counting.
func (s *ruleSet) build(bridge, owner string, intents []segmentation.Intent, now time.Time) ([]*rule, error) {
	next := make([]*rule, 0, len(intents))
	ids, objects := make(map[string]bool, len(intents)), make(map[uint32]bool, len(intents))
	taken := map[slotKey][slots]bool{}
	for _, in := range intents {
		if in.Switch != "" && in.Switch != bridge {
			return nil, fmt.Errorf("intent %q is for switch %q, not %q", in.ID, in.Switch, bridge)
		}
		old := s.intents[in.ID]
		if ids[in.ID] || old != nil && old.owner != owner {
			return nil, fmt.Errorf("intent %q is there twice", in.ID)
		}
		ids[in.ID] = true
		rules, err := makeRules(owner, in, old, now)
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if r.object == 0 {
				r.object = s.freeObject(r.name(), objects)
			}
			objects[r.object] = true
			if err := s.chooseSlot(r, taken); err != nil {
				return nil, err
			}
		}
		next = append(next, rules...)
	}
	return next, nil
}

// makeRules returns an intent's rule, and the one for its copies if it makes
// them. What is known of the old ones is taken over.
func makeRules(owner string, in segmentation.Intent, old *rule, now time.Time) ([]*rule, error) {
	r := &rule{intent: in, owner: owner, since: now}
	if in.TTL > 0 {
		r.expiry = now.Add(in.TTL)
	}
	rules := []*rule{r}
	if HasCopies(in) {
		second := *r
		second.copies, r.other = true, &second
		rules = append(rules, &second)
	}
	for _, r := range rules {
		// A trial with placeholders finds every error of the intent itself.
		if _, err := Compile(in, Placement{Layout: Layout{Base: DefaultBase}, InPort: 1, ToPort: 2, Meter: 1, Copies: r.copies}); err != nil {
			return nil, err
		}
	}
	if old != nil {
		r.inherit(old)
		if r.other != nil && old.other != nil {
			r.other.inherit(old.other)
		}
	}
	return rules, nil
}

// name is what the rule's object ID is made from.
func (r *rule) name() string {
	if r.copies {
		return r.intent.ID + " copies"
	}
	return r.intent.ID
}

// freeObject returns the object ID of a rule's name, or another one if two
// names have the same hash; 0 is nobody's.
func (s *ruleSet) freeObject(name string, taken map[uint32]bool) uint32 {
	object := ObjectID(name)
	for object == 0 || taken[object] || s.objects[object] != nil {
		object++
	}
	return object
}

// inherit takes over what is known of an earlier version of the rule.
func (r *rule) inherit(old *rule) {
	r.object, r.since, r.slot = old.object, old.since, old.slot
	r.flow, r.metered, r.placed = old.flow, old.metered, old.placed
	if old.limited() && r.limited() && old.intent.Limit == r.intent.Limit {
		r.meter = old.meter
	}
}

// chooseSlot finds a slot that no rule of another owner, and none of taken,
// has for the same packets.
func (s *ruleSet) chooseSlot(r *rule, taken map[slotKey][slots]bool) error {
	key := r.slotKey()
	mine, others := taken[key], s.used[key]
	for i := range uint8(slots) {
		slot := (r.slot + i) % slots
		if !mine[slot] && (others[slot] == nil || others[slot].owner == r.owner) {
			r.slot = slot
			mine[slot] = true
			taken[key] = mine
			return nil
		}
	}
	return fmt.Errorf("intent %q: %d rules for the same packets already", r.intent.ID, slots)
}

// replace makes next the owner's rules; none removes the owner.
func (s *ruleSet) replace(owner string, next []*rule) {
	for _, r := range s.owners[owner] {
		s.forget(r)
	}
	delete(s.owners, owner)
	if len(next) == 0 {
		return
	}
	s.owners[owner] = next
	for _, r := range next {
		s.objects[r.object] = r
		if !r.copies {
			s.intents[r.intent.ID] = r
		}
		used := s.used[r.slotKey()]
		used[r.slot] = r
		s.used[r.slotKey()] = used
	}
}

func (s *ruleSet) forget(r *rule) {
	delete(s.objects, r.object)
	delete(s.intents, r.intent.ID)
	key := r.slotKey()
	used := s.used[key]
	used[r.slot] = nil
	if used == [slots]*rule{} {
		delete(s.used, key)
		return
	}
	s.used[key] = used
}

// all returns every rule, in a stable order.
func (s *ruleSet) all() []*rule {
	out := make([]*rule, 0, len(s.objects))
	for _, r := range s.objects {
		out = append(out, r)
	}
	slices.SortFunc(out, func(a, b *rule) int {
		if a.object < b.object {
			return -1
		}
		return 1 // objects are unique
	})
	return out
}

// expire removes the rules whose time is up and returns their owners.
func (s *ruleSet) expire(now time.Time) []string {
	var owners []string
	for owner, rules := range s.owners {
		keep := make([]*rule, 0, len(rules))
		for _, r := range rules {
			if r.expiry.IsZero() || r.expiry.After(now) {
				keep = append(keep, r)
			}
		}
		if len(keep) < len(rules) {
			s.replace(owner, keep)
			owners = append(owners, owner)
		}
	}
	slices.Sort(owners)
	return owners
}
