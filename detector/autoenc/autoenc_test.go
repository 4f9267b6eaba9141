package autoenc

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func newEncoder(t testing.TB, cfg Config) *Encoder {
	t.Helper()
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

const dims = 12

// correlated draws points of three hidden causes, as features of a host are.
func correlated(r *rand.Rand, x []float64) []float64 {
	var cause [3]float64
	for i := range cause {
		cause[i] = r.NormFloat64()
	}
	for j := range x {
		x[j] = cause[j%3] + 0.1*r.NormFloat64()
	}
	return x
}

func taught(t testing.TB, n int) *Encoder {
	e := newEncoder(t, DefaultConfig(dims, 1))
	r := rand.New(rand.NewPCG(1, 2))
	x := make([]float64, dims)
	for range n {
		e.Learn(correlated(r, x))
	}
	return e
}

func TestLearnsToReconstruct(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 2))
	x := make([]float64, dims)
	mean := func(e *Encoder) (sum float64) {
		for range 500 {
			sum += e.Score(correlated(r, x), nil) / 500
		}
		return sum
	}
	if before, after := mean(taught(t, 0)), mean(taught(t, 8000)); after > before/5 {
		t.Errorf("error %.3f before learning, %.3f after", before, after)
	}
}

func TestNamesWhatDoesNotFit(t *testing.T) {
	e := taught(t, 8000)
	x, share := make([]float64, dims), make([]float64, dims)
	for j := range x {
		x[j] = []float64{1, 1, -1}[j%3]
	}
	fits := e.Score(x, nil)
	x[4] = -3 // its cause, as 1, 7 and 10 say, is at 1
	odd := e.Score(x, share)
	if odd < 5*fits {
		t.Errorf("a point against the correlations scores %.3f, one along them %.3f", odd, fits)
	}
	if best := slices.Index(share, slices.Max(share)); best != 4 {
		t.Errorf("contributions %.2f, want coordinate 4 first", share)
	}
}

// Descent is held against numerical differences of the error.
func TestGradient(t *testing.T) {
	cfg := DefaultConfig(5, 3)
	cfg.Blank = 0
	x := []float64{1, -0.5, 0.25, 2, -1}
	loss := func(e *Encoder) float64 { return e.Score(x, nil) * 5 / 2 }
	e := newEncoder(t, cfg)
	e.Learn(x)
	for _, c := range []struct {
		name   string
		of     func(*Encoder) *layer
		weight int
	}{
		{"encode", func(e *Encoder) *layer { return &e.encode }, 0},
		{"encode bias", func(e *Encoder) *layer { return &e.encode }, 5},
		{"decode", func(e *Encoder) *layer { return &e.decode }, 0},
		{"decode bias", func(e *Encoder) *layer { return &e.decode }, 1},
	} {
		up, down := newEncoder(t, cfg), newEncoder(t, cfg)
		const h = 1e-5
		c.of(up).weights[c.weight] += h
		c.of(down).weights[c.weight] -= h
		want := (loss(up) - loss(down)) / (2 * h)
		got := c.of(e).mean[c.weight] / (1 - beta1) // the first step's gradient
		if math.Abs(got-want) > 1e-6 {
			t.Errorf("%s: gradient %v, by differences %v", c.name, got, want)
		}
	}
}

// One point, as far out as it may be, changes little.
func TestOutlierTeachesLittle(t *testing.T) {
	e := taught(t, 4000)
	x := make([]float64, dims)
	x[2] = 1e300
	before := e.Score(x, nil)
	for range 5 {
		e.Learn(x)
	}
	if after := e.Score(x, nil); after < before/2 {
		t.Errorf("five repetitions brought the error from %.3f to %.3f", before, after)
	}
}

func TestRefusesNonsense(t *testing.T) {
	e := taught(t, 10)
	for _, x := range [][]float64{nil, {1}, slices.Repeat([]float64{math.NaN()}, dims)} {
		steps := e.Steps()
		e.Learn(x)
		if e.Steps() != steps || e.Score(x, nil) != 0 {
			t.Errorf("%v was taken", x)
		}
	}
	if s := e.Score(slices.Repeat([]float64{math.Inf(1)}, dims), nil); math.IsNaN(s) || math.IsInf(s, 0) {
		t.Errorf("score %v", s)
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

func TestStateSurvives(t *testing.T) {
	e := taught(t, 500)
	b, err := e.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	g := newEncoder(t, DefaultConfig(dims, 99))
	if err := g.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	x := correlated(rand.New(rand.NewPCG(5, 2)), make([]float64, dims))
	if a, b := e.Score(x, nil), g.Score(x, nil); a != b || g.Steps() != 500 {
		t.Errorf("score %v, restored %v after %d steps", a, b, g.Steps())
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(slices.Clone(b), 0)} {
		before, _ := g.MarshalBinary()
		if g.UnmarshalBinary(bad) == nil {
			t.Errorf("%d bytes accepted", len(bad))
		}
		if after, _ := g.MarshalBinary(); !bytes.Equal(before, after) {
			t.Error("refused, but the state has changed")
		}
	}
	if newEncoder(t, DefaultConfig(dims+1, 1)).UnmarshalBinary(b) == nil {
		t.Error("state of other dimensions accepted")
	}
}

func FuzzUnmarshal(f *testing.F) {
	cfg := Config{Dimensions: 2, Hidden: 1, Blank: 0.1, Clip: 8, Step: 0.01, Seed: 1}
	e := newEncoder(f, cfg)
	for range 2 {
		b, _ := e.MarshalBinary()
		f.Add(b)
		e.Learn([]float64{1, -1})
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newEncoder(t, cfg)
		if g.UnmarshalBinary(data) != nil {
			return
		}
		for range 4 {
			g.Learn([]float64{8, -8})
			if s := g.Score([]float64{1, 2}, nil); math.IsNaN(s) || math.IsInf(s, 0) {
				t.Fatalf("score %v", s)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	e := taught(t, 10)
	x, share := make([]float64, dims), make([]float64, dims)
	if n := testing.AllocsPerRun(100, func() { e.Learn(x); e.Score(x, share) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkScore(b *testing.B) {
	e, x := newEncoder(b, DefaultConfig(30, 1)), make([]float64, 30)
	b.ReportAllocs()
	for b.Loop() {
		e.Score(x, nil)
	}
}

func BenchmarkLearn(b *testing.B) {
	e, x := newEncoder(b, DefaultConfig(30, 1)), make([]float64, 30)
	b.ReportAllocs()
	for b.Loop() {
		x[3] += 1e-3
		e.Learn(x)
	}
}
