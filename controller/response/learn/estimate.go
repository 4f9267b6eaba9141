package learn

import (
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/platelet-sdn/platelet/controller/response"
)

const (
	// folds is into how many parts the decisions are split for cross-fitting.
	folds = 5
	// replicates and tail are of the bootstrap: its bounds leave out so much at
	// each end.
	replicates = 2000
	tail       = 0.025
)

// Sample is a choice whose reward is known.
type Sample struct {
	Played
	Reward float64
}

// Samples are those of the log that can teach something.
func (l *Log) Samples() []Sample {
	var out []Sample
	for _, c := range l.Choices {
		if o, ok := l.Outcomes[c.Decision]; ok && o.Censored == "" && c.Schema == Schema {
			out = append(out, Sample{c, o.Reward})
		}
	}
	return out
}

// Bounds are a mean and where it lies with a confidence of 1 - 2 x tail.
type Bounds struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Estimate is what a way to choose would have earned per decision, from 0 to 1,
// by three estimators. IPS is unbiased and varies most, SNIPS varies less and is
// slightly biased, DR is unbiased and varies least where the models are good.
type Estimate struct {
	IPS   Bounds `json:"ips"`
	SNIPS Bounds `json:"snips"`
	DR    Bounds `json:"dr"`
}

// judgement is one decision as the estimators see it.
type judgement struct {
	target string
	// weight is of the rung that was played, for the policy and for the rule;
	// 0 where they would have played another one.
	policy, rule weighed
	reward       float64
	differs      bool // policy and rule
	tried        bool // they differ, and the policy's rung was played
	unsupported  bool // the policy would have taken a rung that had no chance
}

// weighed is what the estimators need of one way to choose.
type weighed struct{ weight, dr float64 }

// judge looks at each sample with a policy that was learned from other targets'.
// Only decisions in which something else than the rule's rung had a chance can
// say anything; from the others is learned all the same.
func judge(samples []Sample, alpha float64) []judgement {
	var out []judgement
	for k := range folds {
		p := NewPolicy(alpha)
		for i := range samples {
			if s := &samples[i]; fold(s.Target) != k {
				p.Learn(s.Context, s.Action, s.Reward)
			}
		}
		for i := range samples {
			if s := &samples[i]; fold(s.Target) == k && s.risky() {
				out = append(out, judgeOne(p, s))
			}
		}
	}
	return out
}

func fold(target string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(target)) // which cannot fail
	return int(h.Sum32() % folds)
}

func judgeOne(p *Policy, s *Sample) judgement {
	var had []response.Action
	for _, a := range s.Arms {
		if a.Propensity > 0 {
			had = append(had, a.Action)
		}
	}
	takes := p.Greedy(s.Context, s.Rule, had)
	return judgement{
		target: s.Target, reward: s.Reward, policy: weigh(p, s, takes), rule: weigh(p, s, s.Rule),
		differs: takes != s.Rule, tried: takes != s.Rule && takes == s.Action,
		unsupported: p.Greedy(s.Context, s.Rule, actions(s.Arms)) != takes,
	}
}

// weigh is of a way to choose that takes a rung for certain.
func weigh(p *Policy, s *Sample, takes response.Action) weighed {
	w := weighed{dr: p.Mean(s.Context, takes)}
	if takes == s.Action {
		w.weight = 1 / s.propensity(s.Action)
		w.dr += w.weight * (s.Reward - p.Mean(s.Context, s.Action))
	}
	return w
}

// sums are all that the estimators need of a set of judgements, so that a
// bootstrap adds those of targets.
type sums struct {
	n                        float64
	weight, reward, square   [2]float64 // of policy and rule
	dr                       [2]float64
	differ, tried, unsupport float64
}

func (s *sums) add(o *sums) {
	s.n += o.n
	for i := range 2 {
		s.weight[i] += o.weight[i]
		s.reward[i] += o.reward[i]
		s.square[i] += o.square[i]
		s.dr[i] += o.dr[i]
	}
	s.differ, s.tried, s.unsupport = s.differ+o.differ, s.tried+o.tried, s.unsupport+o.unsupport
}

func sumOf(j *judgement) sums {
	s := sums{n: 1, differ: flag(j.differs), tried: flag(j.tried), unsupport: flag(j.unsupported)}
	for i, w := range []weighed{j.policy, j.rule} {
		s.weight[i], s.reward[i], s.square[i], s.dr[i] = w.weight, w.weight*j.reward, w.weight*w.weight, w.dr
	}
	return s
}

// The figures that have bounds.
const (
	figIPS = iota
	figSNIPS
	figDR
	figIPSRule
	figSNIPSRule
	figDRRule
	figAdvantage
	figures
)

func (s *sums) figures() (out [figures]float64) {
	if s.n == 0 {
		return out
	}
	for i, at := range []int{figIPS, figIPSRule} {
		out[at] = s.reward[i] / s.n
		if s.weight[i] > 0 {
			out[at+1] = s.reward[i] / s.weight[i]
		}
		out[at+2] = s.dr[i] / s.n
	}
	out[figAdvantage] = (s.dr[0] - s.dr[1]) / s.n
	return out
}

// effective is the size of a sample of equal weights that says as much about the
// policy (Kish 1965).
func (s *sums) effective() float64 {
	if s.square[0] == 0 {
		return 0
	}
	return s.weight[0] * s.weight[0] / s.square[0]
}

// bound resamples targets, not decisions: what one host does is not independent.
func bound(list []judgement, seed uint64) (total sums, targets int, out [figures]Bounds) {
	by := map[string]*sums{}
	var names []string
	for i := range list {
		s := sumOf(&list[i])
		total.add(&s)
		if t := by[list[i].target]; t != nil {
			t.add(&s)
			continue
		}
		by[list[i].target] = &s
		names = append(names, list[i].target)
	}
	slices.Sort(names)
	draw := rand.New(rand.NewPCG(seed, 0))
	var runs [figures][]float64
	for range replicates {
		var r sums
		for range names {
			r.add(by[names[draw.IntN(len(names))]])
		}
		for i, v := range r.figures() {
			runs[i] = append(runs[i], v)
		}
	}
	for i, v := range total.figures() {
		slices.Sort(runs[i])
		out[i] = Bounds{Mean: v, Low: quantile(runs[i], tail), High: quantile(runs[i], 1-tail)}
	}
	return total, len(names), out
}

func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(math.Floor(q*float64(len(sorted)))))]
}
