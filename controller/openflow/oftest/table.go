package oftest

import (
	"slices"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// term is one field of a match, ready to compare.
type term struct {
	field       of.Field
	value, mask bits
}

func terms(m of.Match) []term {
	out := make([]term, 0, len(m))
	for _, o := range m.Canonical() {
		value, mask := o.Bytes()
		t := term{field: o.Field(), mask: fromBytes(mask)}
		t.value = fromBytes(value).and(t.mask)
		out = append(out, t)
	}
	return out
}

// Rule is a flow in a table of the virtual switch, with its counters.
type Rule struct {
	of.Flow
	Packets, Bytes uint64
	// Created is when the flow was added; Modified when it was last changed,
	// which is when its hard timeout starts.
	Created, Modified, Used time.Time

	key   of.FlowKey
	terms []term
	// clauses are the flow's conjunction actions, if it has any: such a flow
	// only matches together with others (ovs-fields(7), conjunctive match).
	clauses []of.Conjunction
	serial  uint64 // order of insertion
	// While the packet is on its way that taught a flow, it does not meet it, but
	// the one that this replaces.
	unmet, outdated bool
}

// matches reports whether a packet meets the match. portField is the in_port
// of this lookup, which a resubmit may have chosen; conj is the conjunction
// that the lookup is about.
func (r *Rule) matches(p *Packet, inPort, conj uint32) bool {
	for i := range r.terms {
		t := &r.terms[i]
		var v bits
		switch t.field {
		case of.FieldInPort:
			v = number(uint64(inPort))
		case of.FieldConjID:
			v = number(uint64(conj))
		default:
			v = p.seen(t.field)
		}
		if v.and(t.mask) != t.value {
			return false
		}
	}
	return true
}

// seen is a field as flows see it: of fragments, no transport header.
func (p *Packet) seen(f of.Field) bits {
	switch f {
	case of.FieldTCPSrc, of.FieldTCPDst, of.FieldUDPSrc, of.FieldUDPDst, of.FieldSCTPSrc, of.FieldSCTPDst,
		of.FieldICMPType, of.FieldICMPCode, of.FieldICMPv6Type, of.FieldICMPv6Code:
		if p.Fragment != NotFragment {
			return bits{}
		}
	}
	return p.get(f)
}

// within reports whether a match given by wide selects every packet that
// narrow selects: each of its fields is there, at least as exactly.
func within(narrow, wide []term) bool {
	for _, w := range wide {
		i := slices.IndexFunc(narrow, func(n term) bool { return n.field == w.field })
		if i < 0 || narrow[i].mask.and(w.mask) != w.mask || narrow[i].value.and(w.mask) != w.value {
			return false
		}
	}
	return true
}

// overlaps reports whether a packet could meet both matches.
func overlaps(a, b []term) bool {
	for _, x := range a {
		i := slices.IndexFunc(b, func(y term) bool { return y.field == x.field })
		if i < 0 {
			continue
		}
		if both := x.mask.and(b[i].mask); x.value.and(both) != b[i].value.and(both) {
			return false
		}
	}
	return true
}

// table is one flow table, highest priority first, then in the order of
// insertion.
type table struct{ rules []*Rule }

func (t *table) insert(r *Rule) {
	i, _ := slices.BinarySearchFunc(t.rules, r, func(a, b *Rule) int {
		if a.Priority != b.Priority {
			return int(b.Priority) - int(a.Priority)
		}
		return int(a.serial) - int(b.serial)
	})
	t.rules = slices.Insert(t.rules, i, r)
}

func (t *table) find(k of.FlowKey) *Rule {
	for _, r := range t.rules {
		if r.key == k {
			return r
		}
	}
	return nil
}

func (t *table) remove(r *Rule) {
	t.rules = slices.DeleteFunc(t.rules, func(o *Rule) bool { return o == r })
}

// lookup is what a table makes of a packet.
type lookup struct {
	rule *Rule // nil is a miss
	// conj is the conjunction by which the rule matched, 0 for none.
	conj uint32
	// ties are other rules that match at the same priority, or by another
	// conjunction of one priority: which of them Open vSwitch takes is not
	// defined.
	ties []*Rule
	// unclear says that two conjunctions hold that do not lead to one flow.
	unclear bool
}

// lookup finds the rule for a packet, conjunctive matches included.
func (t *table) lookup(p *Packet, inPort uint32) lookup {
	heads := t.heads(p, inPort, 0)
	for {
		hard, soft := split(heads)
		if len(soft) == 0 || hard != nil && hard.Priority >= soft[0].rules[0].Priority {
			return lookup{rule: hard, ties: tiesOf(hard, heads)}
		}
		top := soft[0].rules[0].Priority
		same := soft[:0:0]
		for _, h := range soft {
			if h.rules[0].Priority == top {
				same = append(same, h)
			}
		}
		if found := t.lookupConjs(p, inPort, conjunctions(same)); found.rule != nil {
			return found
		}
		// No conjunction holds at this priority: what stands behind these
		// rules with the same match comes to light.
		for _, h := range same {
			h.rules = h.rules[1:]
		}
	}
}

// lookupConjs finds the rule for a packet that satisfies conjunctions of one
// priority. With more than one, what Open vSwitch does is not defined: the
// first that it finds complete can hide another, even if no flow matches on
// its ID.
func (t *table) lookupConjs(p *Packet, inPort uint32, ids []uint32) (found lookup) {
	for i, id := range ids {
		l := t.lookupConj(p, inPort, id)
		unclear := found.unclear || i > 0 && l.rule != found.rule
		switch {
		case found.rule == nil:
			found = l
		case l.rule != nil && l.rule != found.rule:
			found.ties = append(found.ties, l.rule)
		}
		found.unclear = unclear
	}
	return found
}

// lookupConj finds the rule for a packet that satisfies a conjunction. Flows
// that are clauses themselves do not take part, nor what they hide.
func (t *table) lookupConj(p *Packet, inPort, id uint32) lookup {
	heads := t.heads(p, inPort, id)
	heads = slices.DeleteFunc(heads, func(h *head) bool { return h.rules[0].clauses != nil })
	hard, _ := split(heads)
	return lookup{rule: hard, conj: id, ties: tiesOf(hard, heads)}
}

// head is a stack of rules with the same match, highest priority first; a
// classifier sees one of them at a time.
type head struct {
	match string
	rules []*Rule
}

// heads returns the rules that match a packet.
func (t *table) heads(p *Packet, inPort, conj uint32) []*head {
	var out []*head
	for _, r := range t.rules {
		if r.unmet || !r.matches(p, inPort, conj) {
			continue
		}
		i := slices.IndexFunc(out, func(h *head) bool { return h.match == r.key.Match })
		if i < 0 {
			out = append(out, &head{match: r.key.Match})
			i = len(out) - 1
		}
		out[i].rules = append(out[i].rules, r)
	}
	return out
}

// split returns the best rule that matches for certain and, highest priority
// first, those that are clauses of a conjunction.
func split(heads []*head) (hard *Rule, soft []*head) {
	for _, h := range heads {
		switch {
		case len(h.rules) == 0:
		case h.rules[0].clauses != nil:
			soft = append(soft, h)
		case hard == nil || h.rules[0].Priority > hard.Priority:
			hard = h.rules[0]
		}
	}
	slices.SortStableFunc(soft, func(a, b *head) int { return int(b.rules[0].Priority) - int(a.rules[0].Priority) })
	return hard, soft
}

func tiesOf(hard *Rule, heads []*head) (out []*Rule) {
	if hard == nil {
		return nil
	}
	for _, h := range heads {
		for _, r := range h.rules {
			if r != hard && r.Priority == hard.Priority && r.clauses == nil {
				out = append(out, r)
			}
		}
	}
	return out
}

// conjunctions returns the conjunctions that have all their clauses.
func conjunctions(soft []*head) []uint32 {
	have := map[uint32]uint64{}
	var out []uint32
	for _, h := range soft {
		for _, c := range h.rules[0].clauses {
			full := uint64(1)<<c.Of - 1
			if have[c.ID] == full {
				continue
			}
			if have[c.ID] |= 1 << (c.Clause - 1); have[c.ID] == full {
				out = append(out, c.ID)
			}
		}
	}
	return out
}
