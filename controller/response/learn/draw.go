package learn

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"github.com/platelet-sdn/platelet/controller/response"
)

// Propensities gives each of the rungs that are open the probability of being
// played in a mode, and says what the policy would do. They add up to one. A rung
// beside the one that is preferred is tried with a small probability, explore, as
// long as the risk can be afforded; the rule alone is played where learning is off
// or only looks on.
func (p *Policy) Propensities(mode response.LearningMode, explore float64, x Context, rule response.Action, open []response.Action) (arms []Arm, wanted response.Action) {
	wanted = p.Prefer(x, rule, open)
	base, share := rule, 0.0
	switch mode {
	case response.LearningLive:
		base, share = wanted, explore
	case response.LearningExplore:
		share = explore
	}
	var beside []response.Action
	at := slices.Index(open, base)
	for _, i := range []int{at - 1, at + 1} {
		if share > 0 && i >= 0 && i < len(open) && (open[i] == rule || p.Affords(x, rule, open[i])) {
			beside = append(beside, open[i])
		}
	}
	if len(beside) == 0 {
		share = 0
	}
	for _, a := range open {
		arm := Arm{Action: a}
		switch {
		case a == base:
			arm.Propensity = 1 - share
		case slices.Contains(beside, a):
			arm.Propensity = share / float64(len(beside))
		}
		arms = append(arms, arm)
	}
	return arms, wanted
}

// Draw plays one of the rungs by their probabilities. The same seed and decision
// draw the same.
func Draw(seed uint64, decision string, arms []Arm) Arm {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, seed), decision...))
	u := rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:]))).Float64()
	var last Arm
	for _, a := range arms {
		if a.Propensity == 0 {
			continue
		}
		if last = a; u < a.Propensity {
			break
		}
		u -= a.Propensity
	}
	return last
}
