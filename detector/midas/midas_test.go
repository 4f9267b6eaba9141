package midas

import (
	"bytes"
	"math"
	"path/filepath"
	"testing"

	"github.com/platelet-sdn/platelet/detector/keyed"
)

func newDetector(t testing.TB, cfg Config) *Detector {
	t.Helper()
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// exact is MIDAS with a map instead of sketches.
type exact struct {
	tick           int64
	current, total map[[2]uint64]float64
}

func (x *exact) edge(src, dst uint64, tick int64) float64 {
	if tick > x.tick {
		clear(x.current)
		x.tick = tick
	}
	k := [2]uint64{src, dst}
	x.current[k]++
	x.total[k]++
	s, t := x.total[k], float64(tick)
	if t == 1 {
		return 0
	}
	// The statistic as the paper derives it: observed and expected counts
	// of this tick and of the ticks before.
	now, before := s/t, s*(t-1)/t
	a := x.current[k]
	return (a-now)*(a-now)/now + (s-a-before)*(s-a-before)/before
}

func TestAgreesWithExactCounts(t *testing.T) {
	cfg := DefaultConfig(Plain, keyed.Key{1, 2})
	cfg.Rows, cfg.Buckets = 4, 1<<16 // no collisions in all rows
	d := newDetector(t, cfg)
	x := &exact{current: map[[2]uint64]float64{}, total: map[[2]uint64]float64{}}
	seed := uint64(1)
	for i := range int64(20_000) {
		seed = cfg.Key.Sum(seed)
		src, dst, tick := seed%30, seed>>8%30, 1+i/100
		got, want := d.Edge(src, dst, tick).Max(), x.edge(src, dst, tick)
		if math.Abs(got-want) > 1e-3*max(1, want) {
			t.Fatalf("edge %d: score %v, exact %v", i, got, want)
		}
	}
}

// steady feeds an edge once per tick and returns the detector.
func steady(t testing.TB, v Variant, ticks int64) *Detector {
	d := newDetector(t, DefaultConfig(v, keyed.Key{3, 4}))
	for tick := range ticks {
		for n := range uint64(50) {
			d.Edge(n, n+100, tick+1)
		}
	}
	return d
}

func TestBurstStandsOut(t *testing.T) {
	for _, v := range []Variant{Plain, Relational, Filtering} {
		d := steady(t, v, 200)
		calm := d.Edge(7, 107, 201).Max()
		var burst float64
		for range 50 {
			burst = d.Edge(8, 108, 201).Max()
		}
		if burst < 100*max(calm, 1) {
			t.Errorf("variant %d: a burst scores %.1f, its absence %.1f", v, burst, calm)
		}
	}
}

func TestNewSourceOfManyEdges(t *testing.T) {
	d := steady(t, Filtering, 200)
	var s Score
	for dst := range uint64(50) {
		s = d.Edge(1, 5000+dst, 201)
	}
	if s.Source < 500 || s.Source < s.Edge {
		t.Errorf("a host with fifty new edges: %+v, want its source to stand out", s)
	}
}

// MIDAS-R learns a burst that lasts; MIDAS-F does not.
func TestFilteringIsNotTaughtTheAttack(t *testing.T) {
	last := map[Variant]float64{}
	for _, v := range []Variant{Relational, Filtering} {
		d := steady(t, v, 200)
		for tick := int64(201); tick < 260; tick++ {
			for range 50 {
				last[v] = d.Edge(8, 108, tick).Max()
			}
		}
	}
	if last[Filtering] < 2*last[Relational] || last[Filtering] < 1000 {
		t.Errorf("after an hour of attack MIDAS-F scores %.0f, MIDAS-R %.0f", last[Filtering], last[Relational])
	}
}

// Who does not know the key cannot raise or wash out somebody else's edge: a
// flood of other edges changes the score of a burst as little under one key as
// under another.
func TestFloodOfCollisionsMissesItsAim(t *testing.T) {
	hidden := 0
	const keys = 64
	for seed := range uint64(keys) {
		d := newDetector(t, DefaultConfig(Filtering, keyed.Key{seed, 4}))
		for tick := range int64(100) {
			d.Edge(8, 108, tick+1)
			for n := range uint64(20) { // chaff, chosen against another key
				d.Edge(1000+n, 2000+n, tick+1)
			}
		}
		var s Score
		for range 50 {
			s = d.Edge(8, 108, 101)
		}
		if s.Edge < 300 {
			hidden++
		}
	}
	if hidden > 0 {
		t.Errorf("the burst was hidden under %d of %d keys", hidden, keys)
	}
}

// TestExcerpt guards against regressions where the whole set is not at hand;
// on one day the figures differ from those of the whole.
func TestExcerpt(t *testing.T) {
	edges := ranked(readEdges(t, filepath.Join("testdata", "day17.csv.gz")))
	for _, c := range []struct {
		v    Variant
		want float64
	}{{Relational, 0.9921}, {Filtering, 0.9878}} {
		got := auc(newDetector(t, DefaultConfig(c.v, keyed.Key{1, 1})), edges)
		if math.Abs(got-c.want) > 0.001 {
			t.Errorf("variant %d: AUC %.4f, was %.4f", c.v, got, c.want)
		}
	}
}

func TestStateSurvives(t *testing.T) {
	for _, v := range []Variant{Plain, Relational, Filtering} {
		d := steady(t, v, 100)
		b, err := d.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		r := newDetector(t, DefaultConfig(v, keyed.Key{9, 9})) // the key comes with the state
		if err := r.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		again, _ := r.MarshalBinary()
		if !bytes.Equal(b, again) {
			t.Error("state written twice differs")
		}
		for tick := int64(100); tick < 110; tick++ {
			if a, b := d.Edge(8, 108, tick), r.Edge(8, 108, tick); a != b {
				t.Fatalf("variant %d, tick %d: %v, restored %v", v, tick, a, b)
			}
		}
	}
}

func TestStateOfOtherShapeIsRefused(t *testing.T) {
	b, _ := steady(t, Filtering, 10).MarshalBinary()
	other := DefaultConfig(Filtering, keyed.Key{1, 1})
	other.Buckets = 512
	for name, c := range map[string]struct {
		cfg  Config
		data []byte
	}{
		"other variant":    {DefaultConfig(Relational, keyed.Key{1, 1}), b},
		"other dimensions": {other, b},
		"cut short":        {DefaultConfig(Filtering, keyed.Key{1, 1}), b[:len(b)-1]},
		"empty":            {DefaultConfig(Filtering, keyed.Key{1, 1}), nil},
	} {
		d := newDetector(t, c.cfg)
		before, _ := d.MarshalBinary()
		if err := d.UnmarshalBinary(c.data); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if after, _ := d.MarshalBinary(); !bytes.Equal(before, after) {
			t.Errorf("%s: refused, but the state has changed", name)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	cfg := Config{Variant: Filtering, Rows: 2, Buckets: 4, Decay: 0.5, Threshold: 10, Key: keyed.Key{1, 2}}
	d := newDetector(f, cfg)
	b, _ := d.MarshalBinary()
	f.Add(b)
	d.Edge(1, 2, 3)
	b, _ = d.MarshalBinary()
	f.Add(b)
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := newDetector(t, cfg)
		if d.UnmarshalBinary(data) != nil {
			return
		}
		for tick := range int64(3) {
			if s := d.Edge(1, 2, tick+2).Max(); math.IsNaN(s) || s < 0 {
				t.Fatalf("score %v", s)
			}
		}
	})
}

func TestValidate(t *testing.T) {
	if _, err := New(Config{Variant: 9, Rows: 99, Buckets: 1, Decay: 1}); err == nil {
		t.Error("nonsense was accepted")
	}
}

func TestNoAllocations(t *testing.T) {
	d := newDetector(t, DefaultConfig(Filtering, keyed.Key{1, 2}))
	tick := int64(1)
	if n := testing.AllocsPerRun(100, func() { tick++; d.Edge(1, 2, tick) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEdge(b *testing.B) {
	d := newDetector(b, DefaultConfig(Filtering, keyed.Key{1, 2}))
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		d.Edge(i%97, i%89, int64(i>>16))
	}
}
