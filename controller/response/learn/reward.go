package learn

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// What a reward is made of. The weights are the version of the reward: a log
// keeps its parts, so that it can be computed again by others.
const (
	// harmWeight is of the share of honest conversations of others that no
	// longer succeed, workWeight of the host's own, which an attacker could
	// make up.
	harmWeight, workWeight = 0.5, 0.15
	// overruleWeight is of an operator who did not want it, relapseWeight of
	// an attack that needed another decision.
	overruleWeight, relapseWeight = 0.5, 0.25
	// unproven is the part of the reward that is left when it was never
	// proven that the attack is stopped; what is proven at once has it all.
	unproven = 0.5
)

// rungCost is what a rung costs by itself: the harder, the more there is to undo.
func rungCost(a response.Action) float64 {
	switch a {
	case response.ActionScrub, response.ActionSegment:
		return 0.02
	case response.ActionReroute:
		return 0.04
	case response.ActionQuarantine:
		return 0.06
	}
	return 0
}

// Parts are what a reward is made of, each from 0 to 1.
type Parts struct {
	// Stopped is the share of the attack that was dropped since the rules
	// stood, less where that was proven late or never.
	Stopped float64 `json:"stopped"`
	// Harm is what others lost, Work what the host lost of its own honest
	// conversations.
	Harm float64 `json:"harm"`
	Work float64 `json:"work"`
	// Cost is of the rung.
	Cost float64 `json:"cost"`
	// Overruled and Relapsed are 1 where it was so.
	Overruled float64 `json:"overruled"`
	Relapsed  float64 `json:"relapsed"`
}

// Reward is from 0 to 1.
func (p Parts) Reward() float64 {
	return unit(p.Stopped - harmWeight*p.Harm - workWeight*p.Work - p.Cost - overruleWeight*p.Overruled - relapseWeight*p.Relapsed)
}

// PartsOf are the parts of a decision's reward when it is over. Censored says why
// it has none: what it was is then not known, and that is no fault of the rung's.
// Verify is how long a proof may take.
func PartsOf(d *response.Decision, played response.Action, verify time.Duration) (p Parts, censored string) {
	p.Cost = rungCost(played)
	p.Overruled, p.Relapsed = flag(d.Overruled != ""), flag(d.Successor != "")
	if c := d.Cost; c != nil {
		p.Harm = unit(c.Others)
		if c.Own > 0 {
			p.Work = float64(c.Cut) / float64(c.Own)
		}
	}
	harmed := d.State == response.StateRolledBack && !d.Proof.Harmless && !d.Applied.IsZero()
	switch {
	case d.Applied.IsZero() && d.Overruled != "":
		return p, "" // rejected: it stopped nothing
	case d.Applied.IsZero():
		return p, "nothing was done"
	case harmed:
		p.Harm = 1
	case d.State == response.StateRolledBack:
		return p, "the switch did not take it"
	case d.State == response.StateExpired:
		return p, "the controller or the switch was away"
	case !d.Proof.Effective && !d.Proof.Installed:
		return p, "it is not known whether the switch took it"
	}
	p.Stopped = stopped(&d.Proof) * (unproven + (1-unproven)*prompt(d, verify))
	return p, ""
}

// stopped is the share of the attack that did not pass. Where none of it was seen
// any more, it ended when the rules stood, or they missed it.
func stopped(p *response.Proof) float64 {
	seen := p.Dropped + p.Passed
	if seen == 0 {
		return flag(p.Effective)
	}
	return float64(p.Dropped) / float64(seen)
}

// prompt is 1 for what was proven at once and 0 for what was not within the
// deadline.
func prompt(d *response.Decision, verify time.Duration) float64 {
	if d.Verified.IsZero() || verify <= 0 {
		return 0
	}
	return math.Max(0, 1-d.Verified.Sub(d.Applied).Seconds()/verify.Seconds())
}
