package measure

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDistribution(t *testing.T) {
	var samples []float64
	for i := 20; i > 0; i-- {
		samples = append(samples, float64(i))
	}
	d := NewDistribution(samples)
	if d.N != 20 || d.Min != 1 || d.P50 != 10 || d.P95 != 19 || d.P99 != 20 || d.Max != 20 {
		t.Errorf("got %+v", d)
	}
	// By hand: P(B <= 5) = 0.0207 and P(B <= 6) = 0.0577 for B ~ bin(20, 1/2), so
	// that the 6th and the 15th bound the median, with confidence 0.9586.
	if d.P50CI == nil || d.P50CI.Low != 6 || d.P50CI.High != 15 || math.Abs(d.P50CI.Level-0.9586) > 0.0001 {
		t.Errorf("median %+v", d.P50CI)
	}
	if d.P95CI != nil || d.P99CI != nil {
		t.Errorf("an interval for extremes of 20 samples: %+v, %+v", d.P95CI, d.P99CI)
	}
	if samples[0] != 20 {
		t.Error("the samples were sorted in place")
	}
	if got := NewDistribution(nil); got != (Distribution{}) {
		t.Errorf("no samples: %+v", got)
	}
	if got := NewDistribution(samples[:1]); got.P50 != 20 || got.P99 != 20 || got.P50CI != nil {
		t.Errorf("one sample: %+v", got)
	}
}

// The smallest numbers of samples that an interval of 95 % needs are those that
// the documentation gives: 1 - q^n - (1-q)^n >= 0.95.
func TestQuantileIntervalNeedsEnoughSamples(t *testing.T) {
	for q, least := range map[float64]int{0.5: 6, 0.95: 59, 0.99: 299} {
		for _, n := range []int{1, 2, 5, least - 1, least, least + 1, 400} {
			sorted := make([]float64, n)
			for i := range sorted {
				sorted[i] = float64(i)
			}
			ci := quantileInterval(sorted, q)
			if (ci != nil) != (n >= least) {
				t.Errorf("q=%v n=%d: %+v", q, n, ci)
			}
			if ci != nil && (ci.Level < level || ci.Low > ci.High) {
				t.Errorf("q=%v n=%d: %+v", q, n, ci)
			}
		}
	}
}

// In simulation the intervals cover the true quantile at least as often as
// they promise, of a distribution as skewed as reaction times are.
func TestQuantileIntervalCovers(t *testing.T) {
	const rounds = 4000
	rng := rand.New(rand.NewPCG(1, 2))
	for _, tt := range []struct {
		q float64
		n int
	}{{0.5, 6}, {0.5, 20}, {0.5, 51}, {0.95, 80}, {0.99, 350}} {
		truth := -math.Log(1 - tt.q) // of the exponential distribution
		covered, promised := 0, 0.0
		for range rounds {
			samples := make([]float64, tt.n)
			for i := range samples {
				samples[i] = rng.ExpFloat64()
			}
			d := NewDistribution(samples)
			ci := map[float64]*Interval{0.5: d.P50CI, 0.95: d.P95CI, 0.99: d.P99CI}[tt.q]
			if ci == nil {
				t.Fatalf("q=%v n=%d: no interval", tt.q, tt.n)
			}
			promised = ci.Level
			if ci.Low <= truth && truth <= ci.High {
				covered++
			}
		}
		// Four standard deviations of the simulation itself.
		slack := 4 * math.Sqrt(promised*(1-promised)/rounds)
		if got := float64(covered) / rounds; math.Abs(got-promised) > slack {
			t.Errorf("q=%v n=%d: covered %.4f of the time, exactly %.4f was promised", tt.q, tt.n, got, promised)
		}
	}
}

func TestShare(t *testing.T) {
	// Brown, Cai and DasGupta's formula by hand: 18 of 20.
	s := NewShare(18, 20)
	if math.Abs(s.CI.Low-0.6990) > 0.0001 || math.Abs(s.CI.High-0.9721) > 0.0001 {
		t.Errorf("18 of 20: %+v", s.CI)
	}
	if s := NewShare(0, 0); s.CI != nil {
		t.Errorf("none of none: %+v", s.CI)
	}
	if s := NewShare(10, 10); s.CI.High != 1 || math.Abs(s.CI.Low-0.7225) > 0.0001 {
		t.Errorf("10 of 10: %+v", s.CI)
	}
	if s := NewShare(0, 10); s.CI.Low != 0 || math.Abs(s.CI.High-0.2775) > 0.0001 {
		t.Errorf("0 of 10: %+v", s.CI)
	}
}

func TestShareHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 2000).Draw(t, "n")
		k := rapid.IntRange(0, n).Draw(t, "k")
		s, p := NewShare(k, n), float64(k)/float64(n)
		if s.CI.Low < 0 || s.CI.High > 1 || s.CI.Low > p || s.CI.High < p {
			t.Fatalf("%d of %d: %+v", k, n, s.CI)
		}
		other := NewShare(n-k, n) // symmetric
		if math.Abs(other.CI.Low-(1-s.CI.High)) > 1e-9 {
			t.Fatalf("%d of %d: %+v, but %+v of the rest", k, n, s.CI, other.CI)
		}
	})
}

func TestDistributionHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Float64Range(0, 1e4), 1, 400).Draw(t, "samples")
		d := NewDistribution(samples)
		if !(d.Min <= d.P50 && d.P50 <= d.P95 && d.P95 <= d.P99 && d.P99 <= d.Max) {
			t.Fatalf("out of order: %+v", d)
		}
		for q, ci := range map[float64]*Interval{d.P50: d.P50CI, d.P95: d.P95CI, d.P99: d.P99CI} {
			if ci != nil && (ci.Low > q || ci.High < q || ci.Level < level || ci.Level > 1) {
				t.Fatalf("interval %+v round %v", ci, q)
			}
		}
	})
}

func TestSpanInJSON(t *testing.T) {
	for in, want := range map[Span]string{{}: "null", Took(1500 * time.Microsecond): "1.5", Took(-time.Microsecond): "0"} {
		raw, err := json.Marshal(in)
		if err != nil || string(raw) != want {
			t.Errorf("%v: %s, %v; want %s", in, raw, err, want)
		}
		var back Span
		if err := json.Unmarshal(raw, &back); err != nil || back != in {
			t.Errorf("%s: %+v, %v", raw, back, err)
		}
	}
	var s Span
	if err := json.Unmarshal([]byte(`"soon"`), &s); err == nil {
		t.Error("took a word for a duration")
	}
}
