package pipeline

import (
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The flows of a policy's rule. They match classes alone, and all have the
// rule's own priority in the table of its tier and direction. Few combinations
// of classes have a flow each; many are a conjunctive match (ovs-fields(7)): a
// flow for each class, the clauses, and one that acts when a clause of each
// list was met.
//
// After a conjunction is found, Open vSwitch looks the packet up again by the
// conjunction's ID, without any conjunctive match: if the flow that acts does
// not match then, what is left of the table decides, and not the next rule. So
// whatever else a rule depends on stands in its clauses, and the flows that act
// cover every packet between them.

// clauseBit marks, in the object of a cookie, the flows that are clauses: they
// count nothing.
const clauseBit = uint32(1) << 31

// rulePlace is what compiling a policy's rule needs to know of the switch.
type rulePlace struct {
	layout Layout
	tap    TapConfig
	object uint32            // of the cookie, and the conjunction's ID
	meter  uint32            // of a rate limit
	mirror uint32            // a port, 0 for none
	refuse []openflow.Action // what asks us to answer in the destination's name
}

// policyTable returns the table of a rule, and the category of its flows.
func policyTable(r *compile.Rule) (table uint8, c Category) {
	offset := uint8(r.Tier - policy.TierEmergency)
	if r.ID.Direction == policy.Ingress {
		offset += policyTiers
	}
	return tableEgress + offset, categoryPolicy + Category(offset)
}

// rulePriority puts lower ranks first.
func rulePriority(r *compile.Rule) uint16 { return ruleTop - r.Rank }

// keeps reports whether a rule is for new connections alone.
func keeps(r *compile.Rule) bool {
	return r.Established == policy.EstablishedKeep && (r.Action == policy.ActionDeny || r.Action == policy.ActionReject)
}

// classList is one of a rule's lists.
type classList struct {
	reg     int
	classes []compile.Class
}

// lists returns the lists that narrow a rule.
func lists(r *compile.Rule) []classList {
	all := []classList{{openerReg, r.Opener}, {responderReg, r.Responder}, {serviceReg, r.Service}}
	return slices.DeleteFunc(all, func(l classList) bool { return l.classes == nil })
}

// combinations returns every choice of one class from each list.
func combinations(ls []classList) []openflow.Match {
	out := []openflow.Match{nil}
	for _, l := range ls {
		var next []openflow.Match
		for _, m := range out {
			for _, c := range l.classes {
				next = append(next, append(slices.Clip(m), openflow.Reg(l.reg, uint32(c), ^uint32(0))))
			}
		}
		out = next
	}
	return out
}

// ruleFlows compiles a rule.
func ruleFlows(r *compile.Rule, p rulePlace) []openflow.Flow {
	ls, acts := lists(r), variants(r)
	if plain, _ := sizes(r); plain {
		var out []openflow.Flow
		for _, m := range combinations(ls) {
			for _, v := range acts {
				if keeps(r) {
					v = v.ofNew()
				}
				out = append(out, v.flow(r, p, m))
			}
		}
		return out
	}
	out := clauses(r, p, ls)
	for _, v := range acts {
		out = append(out, v.flow(r, p, openflow.Match{openflow.ConjID(p.object)}))
	}
	return out
}

// sizes tells whether a rule has a flow for each combination of classes, which
// it has where that takes no more of them, and how many flows it has.
func sizes(r *compile.Rule) (plain bool, flows int) {
	ls, acts := lists(r), len(variants(r))
	product, sum := 1, 0
	for _, l := range ls {
		product, sum = product*len(l.classes), sum+len(l.classes)
	}
	if len(ls) < 2 || product*acts <= sum+acts {
		return true, product * acts
	}
	return false, sum + acts
}

// clauses are the flows of a conjunctive match, but for those that act.
func clauses(r *compile.Rule, p rulePlace, ls []classList) []openflow.Flow {
	table, category := policyTable(r)
	var out []openflow.Flow
	for i, l := range ls {
		var v variant
		if i == 0 && keeps(r) {
			v = v.ofNew()
		}
		for _, c := range l.classes {
			out = append(out, openflow.Flow{
				Table: p.layout.table(table), Priority: rulePriority(r), Cookie: cookie(category, p.object|clauseBit),
				Match: append(v.match(), openflow.Reg(l.reg, uint32(c), ^uint32(0))),
				Instructions: openflow.Instructions{Actions: []openflow.Action{
					openflow.Conjunction{ID: p.object, Clause: uint8(i + 1), Of: uint8(len(ls))},
				}},
			})
		}
	}
	return out
}

// variant is a part of the packets that meet a rule. The variants of a rule
// have no packet in common, and no packet is in none of them.
type variant struct {
	value, mask uint32 // of our marks
	first       bool   // packets that open a connection
	metered     bool
}

// variants tells apart what opens a connection, to count and to log it, and,
// where there is a limit, what the opener sends.
func variants(r *compile.Rule) []variant {
	limited := r.Action == policy.ActionRateLimit
	first := variant{value: firstMask, mask: firstMask, first: true, metered: limited}
	if !limited {
		return []variant{first, {mask: firstMask}}
	}
	return []variant{first, {mask: firstMask | replyMask, metered: true}, {value: replyMask, mask: firstMask | replyMask}}
}

// ofNew narrows a variant to what whoever opens a connection sends, as long
// as it is not known to go on.
func (v variant) ofNew() variant {
	v.mask |= replyMask | knownMask
	return v
}

func (v variant) match() openflow.Match {
	var m openflow.Match
	if v.mask != 0 {
		m = append(m, openflow.Reg(markReg, v.value, v.mask))
	}
	return m
}

// flow is a flow that acts.
func (v variant) flow(r *compile.Rule, p rulePlace, m openflow.Match) openflow.Flow {
	table, category := policyTable(r)
	f := openflow.Flow{
		Table: p.layout.table(table), Priority: rulePriority(r), Cookie: cookie(category, p.object),
		Match: append(slices.Clip(m), v.match()...), Instructions: openflow.Instructions{Actions: v.actions(r, p)},
	}
	if v.metered {
		f.Meter = p.meter
	}
	return f
}

// actions of the packets of a variant.
func (v variant) actions(r *compile.Rule, p rulePlace) []openflow.Action {
	var out []openflow.Action
	if p.mirror != 0 {
		out = append(out, openflow.Output{Port: p.mirror})
	}
	out = append(out, v.samples(r, p)...)
	table, _ := policyTable(r)
	behind := tableIngress
	if r.ID.Direction == policy.Ingress {
		behind = tableCommit
	}
	switch r.Action {
	case policy.ActionAllow, policy.ActionRateLimit:
		return append(out, mark(allowBit, 1, 1), openflow.Resubmit{Table: p.layout.table(behind)})
	case policy.ActionPass:
		return append(out, openflow.Resubmit{Table: p.layout.table(table + 1)})
	case policy.ActionReject:
		return append(out, p.refuse...)
	}
	return out
}

// samples reports the opening of a connection where that is asked for, and a
// few of the packets that are denied.
func (v variant) samples(r *compile.Rule, p rulePlace) []openflow.Action {
	denies, logs := r.Action == policy.ActionDeny || r.Action == policy.ActionReject, r.Log && v.first
	report, probability := flow.RuleLogged, flow.FullProbability
	switch {
	case p.tap.CollectorSet == 0 || !denies && !logs:
		return nil
	case logs && denies:
		report = flow.RuleDeniedOpening
	case denies:
		report, probability = flow.RuleDenied, flow.DeniedProbability
	}
	return []openflow.Action{openflow.Sample{
		Probability: probability, CollectorSet: p.tap.CollectorSet, Domain: p.tap.Domain, Point: flow.RulePoint(report, p.object),
	}}
}
