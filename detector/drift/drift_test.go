package drift

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"
)

func newWindow(t testing.TB, delta float64) *Window {
	t.Helper()
	w, err := New(delta)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestSilentWithoutChange(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	alarms, tests := 0, 0
	for range 20 {
		w := newWindow(t, 0.002)
		for i := range 20_000 {
			if _, changed := w.Add(r.Float64()); changed {
				alarms++
			}
			if i%every == 0 {
				tests++
			}
		}
		if w.Len() < 10_000 {
			t.Errorf("window of %d values, want most of 20,000", w.Len())
		}
	}
	if rate := float64(alarms) / float64(tests); rate > 0.002 {
		t.Errorf("%d false alarms in %d tests", alarms, tests)
	}
}

func TestFindsChange(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after float64
		within        int
	}{
		{"of 0.5 in the mean", 0.25, 0.75, 64},
		{"of 0.2 in the mean", 0.4, 0.6, 400},
		{"downwards", 0.6, 0.3, 250},
	} {
		r := rand.New(rand.NewPCG(2, 1))
		w := newWindow(t, 0.002)
		draw := func(mean float64) float64 { return mean + (r.Float64()-0.5)/2 }
		for range 2000 {
			w.Add(draw(c.before))
		}
		delay := 0
		for delay < 4000 {
			delay++
			if change, changed := w.Add(draw(c.after)); changed {
				if math.Abs(change.Before-c.before) > 0.1 {
					t.Errorf("%s: told of a mean of %.2f before, was %.2f", c.name, change.Before, c.before)
				}
				break
			}
		}
		if delay > c.within {
			t.Errorf("%s: found after %d values, want at most %d", c.name, delay, c.within)
		}
	}
}

// A drift too slow for any two neighbours to differ is found all the same.
func TestFindsSlowDrift(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	w := newWindow(t, 0.002)
	for i := range 40_000 {
		if _, changed := w.Add(0.2 + 0.00002*float64(i) + (r.Float64()-0.5)/4); changed {
			return
		}
	}
	t.Error("a drift of 0.02 per thousand values was never found")
}

// The histogram's totals are those of the values themselves.
func TestTotalsMatchValues(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	w := newWindow(t, 1e-9)
	var all []float64
	for range 5000 {
		x := r.Float64()
		all = append(all, x)
		w.Add(x)
	}
	kept := all[len(all)-w.Len():]
	mean, squares := 0.0, 0.0
	for _, x := range kept {
		mean += x / float64(len(kept))
	}
	for _, x := range kept {
		squares += (x - mean) * (x - mean)
	}
	if math.Abs(w.Mean()-mean) > 1e-9 || math.Abs(w.total.squares-squares) > 1e-6*squares {
		t.Errorf("mean %v and squares %v, want %v and %v", w.Mean(), w.total.squares, mean, squares)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	w := newWindow(t, 1e-9)
	w.push(maxRows-1, bucket{n: 1 << (maxRows - 1), sum: 1})
	w.total = bucket{n: 1 << (maxRows - 1), sum: 1}
	for range 40 {
		b := bucket{n: 1 << (maxRows - 1), sum: 1}
		w.total = merge(w.total, b)
		w.push(maxRows-1, b)
	}
	if w.total.n > (perRow+1)*(1<<maxRows) {
		t.Errorf("the window holds %v values", w.total.n)
	}
}

func TestStateSurvives(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	w := newWindow(t, 0.002)
	for range 1234 {
		w.Add(r.Float64())
	}
	b, err := w.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	g := newWindow(t, 0.002)
	if err := g.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	again, _ := g.MarshalBinary()
	if !bytes.Equal(b, again) || g.Len() != w.Len() || math.Abs(g.Mean()-w.Mean()) > 1e-9 {
		t.Errorf("%d values of mean %v, restored %d of %v", w.Len(), w.Mean(), g.Len(), g.Mean())
	}
	for _, bad := range [][]byte{nil, b[:len(b)-1], append(bytes.Clone(b), 0)} {
		if g.UnmarshalBinary(bad) == nil {
			t.Errorf("%d bytes accepted", len(bad))
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	w := newWindow(f, 0.002)
	for i := range 100 {
		if i%33 == 0 {
			b, _ := w.MarshalBinary()
			f.Add(b)
		}
		w.Add(float64(i%7) / 7)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newWindow(t, 0.002)
		if g.UnmarshalBinary(data) != nil {
			return
		}
		for i := range 200 {
			g.Add(float64(i % 2))
			if m := g.Mean(); math.IsNaN(m) || m < -1e-9 || m > 1+1e-9 || g.Len() < 0 {
				t.Fatalf("mean %v of %d values", m, g.Len())
			}
		}
	})
}

func TestNoAllocations(t *testing.T) {
	w := newWindow(t, 0.002)
	if n := testing.AllocsPerRun(1000, func() { w.Add(0.5) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	w := newWindow(b, 0.002)
	b.ReportAllocs()
	for b.Loop() {
		w.Add(0.5)
	}
}
