package learn

import (
	"maps"
	"math"
	"slices"

	"github.com/platelet-sdn/platelet/controller/response"
)

const (
	// confidence of all bounds together is 1 - delta.
	delta = 0.05
	// enough is how many rewards of a rung a policy has seen before it prefers
	// that rung by its mean alone.
	enough = 10
)

// Arm is a rung with the probability that it had.
type Arm struct {
	Action     response.Action `json:"action"`
	Propensity float64         `json:"p"`
}

// Policy is what was learned, and the account of what was risked for it. It has
// no clock and no chance in it: the same decisions and rewards make the same
// policy.
type Policy struct {
	alpha  float64
	models map[response.Action]*linear
	// The account, of decisions in which something could be risked: sums of
	// contexts by rung, of what was played instead of the rule's, of what the
	// rule would have played then, and of what was played by the rule.
	instead, forgone, kept account
	tried                  map[trial]int // rewards
}

// trial is a rung with a class of findings.
type trial struct {
	class  Class
	action response.Action
}

// account sums up decisions.
type account struct {
	contexts map[response.Action][]float64
	n        int
	earned   float64 // rewards that have come
}

func (s *account) add(x Context, a response.Action) {
	if s.contexts[a] == nil {
		s.contexts[a] = make([]float64, len(x))
	}
	for i, v := range x {
		s.contexts[a][i] += v
	}
	s.n++
}

// NewPolicy knows nothing. Alpha is the share of the rule's reward that may be
// risked, from 0 to 1.
func NewPolicy(alpha float64) *Policy {
	p := &Policy{alpha: alpha, models: map[response.Action]*linear{}, tried: map[trial]int{}}
	for _, s := range []*account{&p.instead, &p.forgone, &p.kept} {
		s.contexts = map[response.Action][]float64{}
	}
	return p
}

// Learn takes a reward from 0 to 1 in.
func (p *Policy) Learn(x Context, a response.Action, reward float64) {
	l := p.models[a]
	if l == nil {
		l = newLinear(len(x))
		p.models[a] = l
	}
	l.learn(x, reward)
	p.tried[trial{x.class(), a}]++
}

// Learned is how many rewards were taken in.
func (p *Policy) Learned() (n int) {
	for _, l := range p.models {
		n += l.n
	}
	return n
}

// Play notes a decision in which something could be risked.
func (p *Policy) Play(x Context, rule, played response.Action) {
	if played == rule {
		p.kept.add(x, rule)
		return
	}
	p.instead.add(x, played)
	p.forgone.add(x, rule)
}

// Earn notes the reward of such a decision.
func (p *Policy) Earn(rule, played response.Action, reward float64) {
	if played == rule {
		p.kept.earned += reward
	} else {
		p.instead.earned += reward
	}
}

// Mean is the reward that is expected of a rung, from 0 to 1; 0 of one that was
// never tried.
func (p *Policy) Mean(x Context, a response.Action) float64 {
	l := p.models[a]
	if l == nil {
		return 0
	}
	return unit(l.mean(x))
}

// optimism is the highest reward of a rung that is plausible. Of one decision it
// takes the narrow bound of Chu, Li, Reyzin, Schapire: Contextual bandits with
// linear payoff functions, AISTATS 2011: what is risked is bounded elsewhere.
func (p *Policy) optimism(x Context, a response.Action) float64 {
	l := p.models[a]
	if l == nil {
		return 1
	}
	return unit(l.mean(x) + noise*(1+math.Sqrt(math.Log(2/delta)/2))*l.spread(x))
}

func unit(v float64) float64 { return min(1, max(0, v)) }

// Greedy is the rung with the highest expected reward among those open that were
// tried often enough; the rule's where none is better.
func (p *Policy) Greedy(x Context, rule response.Action, open []response.Action) response.Action {
	best := rule
	for _, a := range open {
		if l := p.models[a]; l != nil && l.n >= enough && p.Mean(x, a) > p.Mean(x, best) {
			best = a
		}
	}
	return best
}

// Prefer is the rung that a live policy takes: the most promising of those open
// that it can afford, or the rule's where none is more promising. Open are in the
// order of the ladder, and it goes one step at a time: to a rung beyond another one
// only when that was tried often enough with findings of the class.
func (p *Policy) Prefer(x Context, rule response.Action, open []response.Action) response.Action {
	best, most := rule, p.optimism(x, rule)
	at := slices.Index(open, rule)
	for _, step := range []int{-1, 1} {
		for i := at + step; i >= 0 && i < len(open); i += step {
			a := open[i]
			if o := p.optimism(x, a); o > most && p.Affords(x, rule, a) {
				best, most = a, o
			}
			if p.tried[trial{x.class(), a}] < enough {
				break
			}
		}
	}
	return best
}

// Affords reports whether another rung than the rule's may be played: whether
// what was earned at least, with this decision, stays at or above (1-alpha) of
// what the rule would have earned at most. Decisions of the rule count on both
// sides, so that they leave alpha of their reward.
func (p *Policy) Affords(x Context, rule, a response.Action) bool {
	// Three sums, each over all rungs: what is uncertain is shared out.
	each := delta / (3 * float64(max(1, len(p.models))))
	least := max(p.below(&p.instead, x, a, each), p.instead.azuma(delta/6)+p.below(nil, x, a, each))
	kept := max(p.below(&p.kept, nil, "", each), p.kept.azuma(delta/6))
	return least+p.alpha*kept >= (1-p.alpha)*p.above(&p.forgone, x, rule, each)
}

// azuma is the least that decisions can be expected to earn, by the rewards that
// have come.
func (s *account) azuma(delta float64) float64 {
	return max(0, s.earned-math.Sqrt(float64(s.n)/2*math.Log(1/delta)))
}

// with is the sum of contexts by rung, with one more.
func (s *account) with(x Context, a response.Action) map[response.Action][]float64 {
	out := map[response.Action][]float64{}
	if s != nil {
		maps.Copy(out, s.contexts)
	}
	if x == nil {
		return out
	}
	z := slices.Clone(x)
	for i, v := range out[a] {
		z[i] += v
	}
	out[a] = z
	return out
}

// below is the least that an account, with one more decision, is expected to have
// earned.
func (p *Policy) below(s *account, x Context, a response.Action, delta float64) (sum float64) {
	for a, z := range s.with(x, a) {
		if l := p.models[a]; l != nil {
			sum += max(0, l.mean(z)-l.width(delta)*l.spread(z))
		}
	}
	return sum
}

// above is the most that it is expected to have earned. A context has exactly one
// class, whose number is 1: the sum of those is how many decisions they are.
func (p *Policy) above(s *account, x Context, a response.Action, delta float64) (sum float64) {
	for a, z := range s.with(x, a) {
		n := 0.0
		for i := range Classes() {
			n += z[i]
		}
		if l := p.models[a]; l != nil {
			n = min(n, max(0, l.mean(z)+l.width(delta)*l.spread(z)))
		}
		sum += n
	}
	return sum
}

func actions(arms []Arm) []response.Action {
	out := make([]response.Action, len(arms))
	for i, a := range arms {
		out[i] = a.Action
	}
	return out
}

// correct changes a reward that was learned, by so much.
func (p *Policy) correct(x Context, a response.Action, by float64) {
	if l := p.models[a]; l != nil {
		for i, v := range x {
			l.sum[i] += by * v
		}
		l.weights = l.times(l.sum)
	}
}
