package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Side is what one end of a connection says to it.
type Side struct {
	// ID is the rule that decides; zero when none matches, which allows.
	ID     policy.RuleID
	Tier   policy.Tier   // of the rule
	Action policy.Action // never pass
	// Passed are rules that left the decision to a later tier.
	Passed []policy.RuleID
	// Protected is the entry of protected that keeps every policy away from
	// this end; "" if none does.
	Protected string
}

// MarshalJSON writes {"policy": …, "rule": …}, both empty when no rule
// matches.
func (s Side) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Policy string `json:"policy"`
		Rule   string `json:"rule"`
	}{s.ID.Policy, s.ID.Rule})
}

// String is the side's part of why.
func (s Side) String() string {
	text := "no rule matches"
	if s.Protected != "" {
		return "protected (" + s.Protected + "), no policy applies"
	}
	if s.ID != (policy.RuleID{}) {
		text = fmt.Sprintf("rule %s of policy %s (%s): %s", s.ID.Rule, s.ID.Policy, s.Tier, s.Action)
	}
	for _, id := range s.Passed {
		text += fmt.Sprintf(", after %s of %s: pass", id.Rule, id.Policy)
	}
	return text
}

// Outcome is what becomes of a connection.
type Outcome struct {
	// Action is allow, deny, reject or rate-limit: that of the egress side
	// if it refuses, else that of the ingress side if it refuses, else
	// rate-limit if either side says so.
	Action policy.Action `json:"verdict"`
	Egress Side          `json:"egress"`
	// Ingress is what that side would say where egress refuses already.
	Ingress Side `json:"ingress"`
	// Why is for people.
	Why string `json:"why"`
}

// Allowed reports whether the connection comes about.
func (o Outcome) Allowed() bool { return o.Action.Consents() }

// same reports whether the same rules decide the same.
func (o Outcome) same(other Outcome) bool {
	side := func(a, b Side) bool { return a.ID == b.ID && a.Action == b.Action && slices.Equal(a.Passed, b.Passed) }
	return o.Action == other.Action && side(o.Egress, other.Egress) && side(o.Ingress, other.Ingress)
}

// Verdict is the outcome as things are.
type Verdict struct {
	Outcome
	// Staged is the outcome if the staged policies were enforced; nil if
	// that makes no difference.
	Staged *Outcome `json:"staged,omitempty"`
}

// conclude joins what both sides say: both must consent.
func conclude(egress, ingress Side) Outcome {
	o := Outcome{Action: policy.ActionAllow, Egress: egress, Ingress: ingress}
	switch {
	case !egress.Action.Consents():
		o.Action = egress.Action
	case !ingress.Action.Consents():
		o.Action = ingress.Action
	case egress.Action == policy.ActionRateLimit || ingress.Action == policy.ActionRateLimit:
		o.Action = policy.ActionRateLimit
	}
	why := []string{"egress: " + egress.String(), "ingress: " + ingress.String()}
	if !egress.Action.Consents() {
		why = why[:1] // the other side is not asked
	}
	o.Why = strings.Join(why, "; ")
	return o
}
