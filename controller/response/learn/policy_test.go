package learn

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

var three = []response.Action{response.ActionRateLimit, response.ActionSegment, response.ActionQuarantine}

// contextOf makes one of a kind, with some work of the host's.
func contextOf(k detector.Kind, own int) Context {
	return ContextOf(response.Question{Finding: detector.Finding{Kind: k, Score: 1, Confidence: 1}, Cost: response.Cost{Own: own}})
}

func TestLinearModelIsTheRidgeSolution(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const dims = 4
		l := newLinear(dims)
		a := [dims][dims]float64{}
		for i := range dims {
			a[i][i] = ridge
		}
		b := [dims]float64{}
		for range rapid.IntRange(0, 60).Draw(t, "n") {
			x := make([]float64, dims)
			for i := range x {
				x[i] = rapid.Float64Range(0, 1).Draw(t, "x")
			}
			r := rapid.Float64Range(0, 1).Draw(t, "r")
			l.learn(x, r)
			for i := range dims {
				b[i] += r * x[i]
				for j := range dims {
					a[i][j] += x[i] * x[j]
				}
			}
		}
		for i := range dims { // the normal equations hold
			got := 0.0
			for j := range dims {
				got += a[i][j] * l.weights[j]
			}
			if math.Abs(got-b[i]) > 1e-6 {
				t.Fatalf("row %d: %v, want %v", i, got, b[i])
			}
		}
		if want := math.Log(det(a) / math.Pow(ridge, dims)); math.Abs(l.growth-want) > 1e-6 {
			t.Fatalf("growth %v, want %v", l.growth, want)
		}
	})
}

// det by elimination; the matrix is positive definite.
func det(a [4][4]float64) float64 {
	d := 1.0
	for i := range a {
		d *= a[i][i]
		for k := i + 1; k < len(a); k++ {
			f := a[k][i] / a[i][i]
			for j := i; j < len(a); j++ {
				a[k][j] -= f * a[i][j]
			}
		}
	}
	return d
}

// bandit is a world of known mean rewards.
type bandit struct {
	rule response.Action
	mean func(x Context, a response.Action) float64
}

// play lets a policy play and learn, and returns the least share of the rule's
// reward that it had, and how often it played the best rung in the last quarter.
func (w *bandit) play(p *Policy, rounds int, seed uint64, mode response.LearningMode) (least, best float64) {
	draw := rand.New(rand.NewPCG(seed, 0))
	earned, rule, hits := 0.0, 0.0, 0
	least = 1
	kinds := []detector.Kind{detector.KindPortScan, detector.KindWorm, detector.KindBruteForce, detector.KindBeacon}
	for i := range rounds {
		x := contextOf(kinds[draw.IntN(len(kinds))], draw.IntN(10))
		arms, _ := p.Propensities(mode, 0.03, x, w.rule, three)
		a := Draw(seed, strconv.Itoa(i), arms).Action
		p.Play(x, w.rule, a)
		r := flag(draw.Float64() < w.mean(x, a))
		p.Learn(x, a, r)
		p.Earn(w.rule, a, r)
		earned, rule = earned+w.mean(x, a), rule+w.mean(x, w.rule)
		least = min(least, earned/rule)
		top := slices.MaxFunc(three, func(a, b response.Action) int {
			return int(math.Copysign(1, w.mean(x, a)-w.mean(x, b)))
		})
		if i >= rounds*3/4 && a == top {
			hits++
		}
	}
	return least, float64(hits) / float64(rounds/4)
}

// Another rung is best for two of four kinds, and the policy finds out, without
// ever risking more than it may.
func TestOptimumIsFound(t *testing.T) {
	w := bandit{response.ActionQuarantine, func(x Context, a response.Action) float64 {
		switch c := x.class(); {
		case a == response.ActionQuarantine:
			return 0.6
		case a == response.ActionSegment && (c == ClassLogin || c == ClassOutbound):
			return 0.9
		}
		return 0.2
	}}
	for seed := range uint64(5) {
		p := NewPolicy(0.1)
		least, best := w.play(p, 6000, seed, response.LearningLive)
		if least < 0.9 || best < 0.85 {
			t.Errorf("seed %d: %.3f of the rule's reward at worst, the best rung in %.2f", seed, least, best)
		}
		for _, k := range []detector.Kind{detector.KindPortScan, detector.KindWorm, detector.KindBruteForce, detector.KindBeacon} {
			x := contextOf(k, 3)
			want := response.ActionQuarantine
			if c := x.class(); c == ClassLogin || c == ClassOutbound {
				want = response.ActionSegment
			}
			if have := p.Greedy(x, w.rule, three); have != want {
				t.Errorf("seed %d, %s: %s, want %s", seed, k, have, want)
			}
		}
	}
}

// Where all other rungs earn nothing the condition alone holds the policy back: one
// that may risk everything does.
func TestNoMoreIsRiskedThanMayBe(t *testing.T) {
	w := bandit{response.ActionQuarantine, func(_ Context, a response.Action) float64 {
		return 0.4 * flag(a == response.ActionQuarantine)
	}}
	for _, mode := range []response.LearningMode{response.LearningLive, response.LearningExplore} {
		for _, alpha := range []float64{0.02, 0.1} {
			for seed := range uint64(5) {
				if least, _ := w.play(NewPolicy(alpha), 3000, seed, mode); least < 1-alpha {
					t.Errorf("%s, alpha %v, seed %d: %.4f of the rule's reward at worst", mode, alpha, seed, least)
				}
			}
		}
	}
	if least, _ := w.play(NewPolicy(1), 3000, 1, response.LearningLive); least > 0.8 {
		t.Errorf("free to risk all, and at worst %.3f: this test shows nothing", least)
	}
}

// Propensities are what is drawn by, and only what may be has any.
func TestPropensities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := NewPolicy(rapid.SampledFrom([]float64{0.02, 0.1, 1}).Draw(t, "alpha"))
		open := three[:rapid.IntRange(1, 3).Draw(t, "open")]
		rule := rapid.SampledFrom(open).Draw(t, "rule")
		x := contextOf(detector.KindPortScan, rapid.IntRange(0, 9).Draw(t, "own"))
		for range rapid.IntRange(0, 50).Draw(t, "history") {
			a, r := rapid.SampledFrom(three).Draw(t, "a"), rapid.Float64Range(0, 1).Draw(t, "r")
			p.Play(x, rule, a)
			p.Learn(x, a, r)
			p.Earn(rule, a, r)
		}
		mode := rapid.SampledFrom(response.LearningModes()).Draw(t, "mode")
		explore := rapid.SampledFrom([]float64{0, 0.02, 0.05}).Draw(t, "explore")
		arms, wanted := p.Propensities(mode, explore, x, rule, open)
		c := Played{Decision: "d", Arms: arms, Rule: rule, Wanted: wanted, Action: Draw(1, "d", arms).Action, Schema: Schema, Context: x}
		if err := c.check(); err != nil {
			t.Fatal(err)
		}
		risked := 0.0
		for _, a := range arms {
			if a.Action != rule {
				risked += a.Propensity
			}
			if a.Action != rule && a.Propensity > 0 && !p.Affords(x, rule, a.Action) {
				t.Fatalf("%s has a chance of %v and cannot be afforded", a.Action, a.Propensity)
			}
		}
		switch mode {
		case response.LearningOff, response.LearningShadow:
			if risked != 0 {
				t.Fatalf("%s risks %v", mode, risked)
			}
		case response.LearningExplore:
			if risked > explore+1e-12 {
				t.Fatalf("%s risks %v, at most %v", mode, risked, explore)
			}
		}
	})
}

func TestDrawsAreAsLikelyAsSaid(t *testing.T) {
	arms := []Arm{{response.ActionRateLimit, 0.05}, {response.ActionSegment, 0}, {response.ActionQuarantine, 0.95}}
	const n = 20000
	counts := map[response.Action]int{}
	for i := range n {
		a := Draw(7, strconv.Itoa(i), arms)
		if again := Draw(7, strconv.Itoa(i), arms); again != a {
			t.Fatal("the same seed and decision drew another rung")
		}
		counts[a.Action]++
	}
	if counts[response.ActionSegment] > 0 || math.Abs(float64(counts[response.ActionRateLimit])/n-0.05) > 0.01 {
		t.Errorf("drawn %v", counts)
	}
}

// What is corrected is as if it had been learned so.
func TestCorrection(t *testing.T) {
	a, b := NewPolicy(0.1), NewPolicy(0.1)
	x, y := contextOf(detector.KindPortScan, 1), contextOf(detector.KindWorm, 7)
	for _, p := range []*Policy{a, b} {
		p.Learn(y, three[0], 0.3)
	}
	a.Learn(x, three[0], 0.9)
	a.correct(x, three[0], -0.5)
	b.Learn(x, three[0], 0.4)
	if math.Abs(a.Mean(x, three[0])-b.Mean(x, three[0])) > 1e-12 || math.Abs(a.Mean(y, three[0])-b.Mean(y, three[0])) > 1e-12 {
		t.Errorf("%v and %v", a.Mean(x, three[0]), b.Mean(x, three[0]))
	}
}

// A benchmark of what stands on the way to containment: 4 us on two shared cores.
func BenchmarkPropensities(b *testing.B) {
	p := NewPolicy(0.1)
	x := contextOf(detector.KindPortScan, 3)
	for i := range 300 {
		p.Play(x, three[2], three[i%3])
		p.Learn(x, three[i%3], 0.5)
		p.Earn(three[2], three[i%3], 0.5)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Propensities(response.LearningLive, 0.03, x, three[2], three)
	}
}
