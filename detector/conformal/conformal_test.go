package conformal

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

func newHistory(t testing.TB, n int) *History {
	t.Helper()
	h, err := NewHistory(n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// The promise: among normal scores of any distribution, at most a share of a
// has p <= a.
func TestAlertRateIsKept(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for name, draw := range map[string]func() float64{
		"heavy tail": func() float64 { return math.Exp(3 * r.NormFloat64()) },
		"ties":       func() float64 { return float64(r.IntN(4)) },
		"all equal":  func() float64 { return 1 },
	} {
		h := newHistory(t, 2000)
		for range 2000 {
			h.Add(draw())
		}
		const trials = 100_000
		for _, a := range []float64{0.001, 0.01, 0.1} {
			hits := 0
			for range trials {
				x := draw()
				if h.P(x) <= a {
					hits++
				}
				h.Add(x)
			}
			if rate := float64(hits) / trials; rate > a+4*math.Sqrt(a/trials) {
				t.Errorf("%s: p <= %v in a share of %v", name, a, rate)
			}
		}
	}
}

func TestKnowsNothingAtFirst(t *testing.T) {
	h := newHistory(t, 10)
	if p := h.P(1e9); p != 1 {
		t.Errorf("p = %v without history", p)
	}
	for range 9 {
		h.Add(1)
	}
	if p := h.P(2); p != 0.1 {
		t.Errorf("p = %v above nine scores, want 0.1", p)
	}
	if p := h.P(math.NaN()); p != 1 {
		t.Errorf("p = %v of no number", p)
	}
}

// Two that agree by chance are as rare as promised, even when all tests are
// copies of one or quite independent.
func TestSecondIsValid(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	const trials, a = 200_000, 0.01
	for name, draw := range map[string]func(p []float64){
		"independent": func(p []float64) {
			for i := range p {
				p[i] = r.Float64()
			}
		},
		"copies": func(p []float64) {
			x := r.Float64()
			for i := range p {
				p[i] = x
			}
		},
		"in pairs": func(p []float64) {
			for i := 0; i < len(p); i += 2 {
				p[i] = r.Float64()
				p[i+1] = p[i]
			}
		},
	} {
		hits := 0
		for range trials {
			var p [4]float64
			draw(p[:])
			if Second(p[:]...) <= a {
				hits++
			}
		}
		if rate := float64(hits) / trials; rate > a*1.1 {
			t.Errorf("%s: %v of the combinations are below %v", name, rate, a)
		}
	}
	if p := Second(1e-9, 1, 1, 1); p != 1 {
		t.Errorf("one alone gives %v", p)
	}
}

func TestPosterior(t *testing.T) {
	// The paper's table: p = 0.05 and even odds leave the null at least 0.29.
	if got := Posterior(0.05, 1); math.Abs(got-(1-0.289)) > 0.001 {
		t.Errorf("posterior %v, want 0.711", got)
	}
	if Posterior(1, 1) != 0.5 || Posterior(0.001, 10) >= Posterior(0.0001, 10) {
		t.Error("not monotone")
	}
}

func TestStateSurvives(t *testing.T) {
	h := newHistory(t, 50)
	for i := range 75 {
		h.Add(float64(i * 37 % 101))
	}
	b, _ := h.MarshalBinary()
	g := newHistory(t, 50)
	if err := g.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		x := float64(i % 101)
		if h.P(x) != g.P(x) {
			t.Fatalf("p of %v is %v, restored %v", x, h.P(x), g.P(x))
		}
		h.Add(x)
		g.Add(x)
	}
	small := newHistory(t, 10)
	if err := small.UnmarshalBinary(b); err != nil || small.Len() != 10 {
		t.Errorf("restored %d scores into 10: %v", small.Len(), err)
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], {9}, {1, 0, 0, 0xc0, 0x7f}} {
		if g.UnmarshalBinary(bad) == nil {
			t.Errorf("accepted %x", bad)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	h := newHistory(f, 4)
	for i := range 6 {
		b, _ := h.MarshalBinary()
		f.Add(b)
		h.Add(float64(i))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newHistory(t, 4)
		if g.UnmarshalBinary(data) != nil {
			return
		}
		again, _ := g.MarshalBinary()
		k := newHistory(t, 4)
		if err := k.UnmarshalBinary(again); err != nil || k.Len() != g.Len() {
			t.Fatalf("written again: %v", err)
		}
		for i := range 8 {
			g.Add(float64(i))
			if p := g.P(3); !(p > 0 && p <= 1) {
				t.Fatalf("p = %v", p)
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	h := newHistory(t, 64)
	x := 0.0
	if n := testing.AllocsPerRun(1000, func() { x = math.Mod(x*1.7+1, 31); h.Add(x); h.P(x) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestSameAfterRotation(t *testing.T) {
	h := newHistory(t, 3)
	for _, x := range []float64{5, 1, 3, 2, 4} {
		h.Add(x)
	}
	b, _ := h.MarshalBinary()
	g := newHistory(t, 3)
	for _, x := range []float64{3, 2, 4} {
		g.Add(x)
	}
	want, _ := g.MarshalBinary()
	if !bytes.Equal(b, want) {
		t.Errorf("the latest three are %x, want %x", b, want)
	}
}

func BenchmarkAddAndP(b *testing.B) {
	h := newHistory(b, 8192)
	r := rand.New(rand.NewPCG(3, 1))
	b.ReportAllocs()
	for b.Loop() {
		x := r.Float64()
		h.P(x)
		h.Add(x)
	}
}
