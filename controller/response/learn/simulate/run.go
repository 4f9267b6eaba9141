package simulate

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
)

// Options are of a simulation.
type Options struct {
	World World
	// Rounds are incidents in a run, the first Watched of them in mode shadow,
	// the others live.
	Rounds, Watched int
	// Seeds are of the runs.
	Seeds []uint64
	// Alpha and Explore are those of the policy.
	Alpha, Explore float64
	// Delay is after how many further incidents a reward is known.
	Delay int
}

// points is how many points a curve has.
const points = 200

// Result is what came out.
type Result struct {
	World  string  `json:"world"`
	About  string  `json:"about"`
	Rounds int     `json:"rounds"`
	Alpha  float64 `json:"alpha"`
	// Fixed is the single rung that did best, played wherever it is open.
	Fixed response.Action `json:"fixed"`
	Runs  []Run           `json:"runs"`
}

// Run is one run. Regret is what the best rung of each incident would have earned
// more, expected, up to as many rounds as At says.
type Run struct {
	Seed    uint64  `json:"seed"`
	At      []int   `json:"at"`
	Learner []Point `json:"learner"`
	Rule    []Point `json:"rule"`
	Fixed   []Point `json:"fixed"`
	// Least is the least share of the rule's reward that the learner had at any
	// round, counted from the beginning.
	Least float64 `json:"least"`
	// Others is the share of live incidents in which another rung than the
	// rule's was played.
	Others float64 `json:"others"`
}

// Point is an account up to a round.
type Point struct {
	Regret float64 `json:"regret"`
	Reward float64 `json:"reward"`
}

// player is one way to choose.
type player struct {
	Point
	curve []Point
}

func (p *player) take(best, reward float64) {
	p.Regret += best - reward
	p.Reward += reward
}

// late is a reward that is not known yet.
type late struct {
	in     Incident
	action response.Action
	risky  bool
}

// Simulate plays all runs.
func Simulate(ctx context.Context, o Options) (*Result, error) {
	if o.Rounds < points || o.Watched < 0 || o.Watched > o.Rounds || len(o.Seeds) == 0 {
		return nil, fmt.Errorf("simulate: %d rounds, %d watched, %d seeds: want %d rounds or more, and a seed", o.Rounds, o.Watched, len(o.Seeds), points)
	}
	r := &Result{World: o.World.Name, About: o.World.About, Rounds: o.Rounds, Alpha: o.Alpha, Fixed: bestFixed(&o)}
	for _, seed := range o.Seeds {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r.Runs = append(r.Runs, o.run(seed, r.Fixed))
	}
	return r, nil
}

// fixed plays a rung where it is open, else the rule's.
func (in *Incident) fixed(a response.Action) response.Action {
	if slices.Contains(in.Open, a) {
		return a
	}
	return in.Rule
}

// bestFixed finds the rung that earns most by itself.
func bestFixed(o *Options) (best response.Action) {
	draw := rand.New(rand.NewPCG(o.Seeds[0], 1))
	sums := map[response.Action]float64{}
	for range o.Rounds {
		in := o.World.incident(draw)
		for _, a := range rungs() {
			sums[a] += in.expected(in.fixed(a))
		}
	}
	return highest(sums)
}

// highest is the rung with the highest sum, the mildest of equals.
func highest(sums map[response.Action]float64) (best response.Action) {
	for _, a := range rungs() {
		if best == "" || sums[a] > sums[best] {
			best = a
		}
	}
	return best
}

func (o *Options) run(seed uint64, fixed response.Action) Run {
	draw := rand.New(rand.NewPCG(seed, 1))
	p := learn.NewPolicy(o.Alpha)
	out := Run{Seed: seed, Least: 1}
	var learner, rule, single player
	var waiting []late
	others := 0
	for i := range o.Rounds {
		in := o.World.incident(draw)
		a, risky := o.choose(p, &in, i, seed)
		waiting = append(waiting, late{in, a, risky})
		if len(waiting) > o.Delay {
			o.learn(p, waiting[0])
			waiting = waiting[1:]
		}
		best := 0.0
		for _, x := range in.Open {
			best = max(best, in.expected(x))
		}
		learner.take(best, in.expected(a))
		rule.take(best, in.expected(in.Rule))
		single.take(best, in.expected(in.fixed(fixed)))
		out.Least = min(out.Least, learner.Reward/rule.Reward)
		if a != in.Rule {
			others++
		}
		if (i+1)%max(1, o.Rounds/points) == 0 {
			out.At = append(out.At, i+1)
			for _, x := range []*player{&learner, &rule, &single} {
				x.curve = append(x.curve, x.Point)
			}
		}
	}
	out.Learner, out.Rule, out.Fixed = learner.curve, rule.curve, single.curve
	out.Others = float64(others) / float64(max(1, o.Rounds-o.Watched))
	return out
}

// choose is what a running controller does.
func (o *Options) choose(p *learn.Policy, in *Incident, round int, seed uint64) (a response.Action, risky bool) {
	mode := response.LearningLive
	if round < o.Watched {
		mode = response.LearningShadow
	}
	arms, _ := p.Propensities(mode, o.Explore, in.Context, in.Rule, in.Open)
	a = learn.Draw(seed, strconv.Itoa(round), arms).Action
	if risky = mode == response.LearningLive && len(in.Open) > 1; risky {
		p.Play(in.Context, in.Rule, a)
	}
	return a, risky
}

func (o *Options) learn(p *learn.Policy, x late) {
	reward := x.in.earned(x.action)
	p.Learn(x.in.Context, x.action, reward)
	if x.risky {
		p.Earn(x.in.Rule, x.action, reward)
	}
}

// Last is the last point of a curve.
func Last(curve []Point) Point { return curve[len(curve)-1] }

// Mean is the mean over all runs.
func (r *Result) Mean(of func(*Run) float64) (sum float64) {
	for i := range r.Runs {
		sum += of(&r.Runs[i])
	}
	return sum / float64(len(r.Runs))
}

// Least is the least share of the rule's reward that any run had at any round.
func (r *Result) Least() float64 {
	least := 1.0
	for i := range r.Runs {
		least = min(least, r.Runs[i].Least)
	}
	return least
}

// WriteText writes results for a person.
func WriteText(out io.Writer, results []*Result) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "WORLD\tROUNDS\tRUNS\tREGRET LEARNER\tRULE\tBEST FIXED\tREWARD LEARNER\tRULE\tOTHER RUNGS\tLEAST SHARE OF RULE\tALLOWED")
	for _, r := range results {
		n := float64(r.Rounds)
		fmt.Fprintf(w, "%s\t%d\t%d\t%.0f\t%.0f\t%.0f (%s)\t%.3f\t%.3f\t%.1f %%\t%.3f\t%.3f\n", r.World, r.Rounds, len(r.Runs),
			r.Mean(func(x *Run) float64 { return Last(x.Learner).Regret }), r.Mean(func(x *Run) float64 { return Last(x.Rule).Regret }),
			r.Mean(func(x *Run) float64 { return Last(x.Fixed).Regret }), r.Fixed,
			r.Mean(func(x *Run) float64 { return Last(x.Learner).Reward })/n, r.Mean(func(x *Run) float64 { return Last(x.Rule).Reward })/n,
			100*r.Mean(func(x *Run) float64 { return x.Others }), r.Least(), 1-r.Alpha)
	}
	return w.Flush()
}
