package staged

import (
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Hit is what a rule would have met had all policies been enforced, as far as
// records tell: numbers are estimates where packets are sampled.
type Hit struct {
	// Rule is without a name for what no rule of its direction decides.
	Rule policy.RuleID
	// Action of the rule; what no rule decides is allowed.
	Action                      policy.Action
	Connections, Packets, Bytes float64
}

// Hits lists the rules in the order in which they decide, and what none decides.
// As on a switch, what the opener's side refuses never comes to the other side.
func (e *Evaluator) Hits() []Hit {
	e.mu.Lock()
	defer e.mu.Unlock()
	program := e.judge[1].program
	var out []Hit
	index := map[policy.RuleID]int{}
	add := func(id policy.RuleID, a policy.Action) {
		index[id] = len(out)
		out = append(out, Hit{Rule: id, Action: a})
	}
	for _, id := range program.Order() {
		add(id, program.Rules[id].Action)
	}
	sides := [2]policy.Direction{policy.Egress, policy.Ingress}
	for _, d := range sides {
		add(policy.RuleID{Direction: d}, policy.ActionAllow)
	}
	for _, o := range e.outcomes[1:] {
		for i, side := range o.staged {
			n, ok := index[deciding(side, sides[i])]
			if ok { // else a rule that is not in force any more
				h := &out[n]
				h.Connections += max(o.opens, float64(o.connections))
				h.Packets += o.packets
				h.Bytes += o.bytes
			}
			if !side.Consents() {
				break
			}
		}
	}
	return out
}

// deciding is the rule of a side, or what stands for none.
func deciding(s compile.Side, d policy.Direction) policy.RuleID {
	if s.Decided() {
		return s.Rule
	}
	return policy.RuleID{Direction: d}
}
