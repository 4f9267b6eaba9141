package forest

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func newForest(t testing.TB, cfg Config) *Forest {
	t.Helper()
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// check compares masses and boxes with what the points below a node say.
func check(t *testing.T, tr *tree) {
	t.Helper()
	copies := map[int32]int32{}
	for _, n := range tr.held {
		copies[n]++
	}
	var walk func(n, parent int32) (points []int32)
	walk = func(n, parent int32) []int32 {
		c := tr.nodes[n]
		if c.parent != parent {
			t.Fatalf("node %d has parent %d, want %d", n, c.parent, parent)
		}
		if tr.leaf(n) {
			if c.mass != copies[n] {
				t.Fatalf("leaf %d has mass %d, holds %d points", n, c.mass, copies[n])
			}
			return []int32{n}
		}
		left, right := walk(c.left, n), walk(c.right, n)
		for _, l := range left {
			if lo, _ := tr.box(l); lo[c.dim] > c.cut {
				t.Fatalf("a point left of a cut at %v is at %v", c.cut, lo[c.dim])
			}
		}
		for _, r := range right {
			if lo, _ := tr.box(r); lo[c.dim] <= c.cut {
				t.Fatalf("a point right of a cut at %v is at %v", c.cut, lo[c.dim])
			}
		}
		all := append(left, right...)
		lo, hi := tr.box(n)
		mass := int32(0)
		for j := range lo {
			l, h := float32(math.Inf(1)), float32(math.Inf(-1))
			for _, p := range all {
				x, _ := tr.box(p)
				l, h = min(l, x[j]), max(h, x[j])
			}
			if l != lo[j] || h != hi[j] {
				t.Fatalf("box of %d in dimension %d is [%v,%v], want [%v,%v]", n, j, lo[j], hi[j], l, h)
			}
		}
		for _, p := range all {
			mass += copies[p]
		}
		if mass != c.mass {
			t.Fatalf("mass of %d is %d, want %d", n, c.mass, mass)
		}
		return all
	}
	if tr.root == none {
		if len(tr.held) != 0 {
			t.Fatal("points without a root")
		}
		return
	}
	if got := len(walk(tr.root, none)); got != len(copies) {
		t.Fatalf("%d leaves in the tree, %d held", got, len(copies))
	}
}

func TestTreeStaysWhole(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	tr := newTree(32, 3)
	for range 5000 {
		if len(tr.held) == 32 || len(tr.held) > 0 && r.IntN(3) == 0 {
			tr.remove(r.IntN(len(tr.held)))
		} else { // few distinct values, so that there are copies
			tr.insert([]float32{float32(r.IntN(4)), float32(r.IntN(3)), float32(r.IntN(2))}, r)
		}
		check(t, &tr)
	}
}

// A tree that points were added to and removed from has the distribution of
// one built from what remains (theorem 2 of the paper). For 0, 1 and 10 on a
// line the first cut parts {0,1} from {10} with probability 9/10.
func TestTreeForgets(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	const trials = 20_000
	hits := 0
	for range trials {
		tr := newTree(8, 1)
		for _, v := range r.Perm(6) {
			tr.insert([]float32{[]float32{0, 1, 10, 4, 7, 30}[v]}, r)
		}
		for i := 0; i < len(tr.held); {
			if lo, _ := tr.box(tr.held[i]); lo[0] == 4 || lo[0] == 7 || lo[0] == 30 {
				tr.remove(i)
			} else {
				i++
			}
		}
		if cut := tr.nodes[tr.root].cut; cut >= 1 && cut < 10 {
			hits++
		}
	}
	if got := float64(hits) / trials; math.Abs(got-0.9) > 0.01 { // five standard deviations
		t.Errorf("first cut between 1 and 10 in %.3f of the trees, want 0.9", got)
	}
}

// codisp is the definition: insert the point, then ask for every subtree that
// holds it how many points its removal would lift, per member.
func codisp(tr *tree, x []float32, r *rand.Rand) float64 {
	before := len(tr.held)
	tr.insert(x, r)
	n := tr.held[before]
	best := 0.0
	for n != tr.root {
		p := tr.nodes[n].parent
		sibling := tr.nodes[p].left
		if sibling == n {
			sibling = tr.nodes[p].right
		}
		best = max(best, float64(tr.nodes[sibling].mass)/float64(tr.nodes[n].mass))
		n = p
	}
	tr.remove(before)
	return best
}

func TestScoreIsExpectedDisplacement(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	tr := newTree(64, 2)
	for range 60 {
		tr.insert([]float32{r.Float32(), 3 * r.Float32()}, r)
	}
	tr.insert([]float32{4, 4}, r) // a small group of its own
	tr.insert([]float32{4, 4.1}, r)
	tr.insert([]float32{4, 4.1}, r)
	for _, x := range [][]float32{{0.5, 1}, {4, 4}, {4.1, 4.2}, {9, 1}, {-2, -3}} {
		want := 0.0
		const trials = 4000
		for range trials {
			want += codisp(&tr, x, r) / trials
		}
		share := make([]float64, 2)
		got := tr.displacement(x, share)
		if math.Abs(got-want) > 0.1*max(want, 1) {
			t.Errorf("%v: expected displacement %.2f, by insertion %.2f", x, got, want)
		}
	}
}

func TestScoreNamesTheCoordinate(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	f := newForest(t, Config{Trees: 40, Samples: 128, Dimensions: 5, Memory: 1024, Seed: 7})
	x := make([]float64, 5)
	draw := func() []float64 {
		for j := range x {
			x[j] = r.NormFloat64()
		}
		return x
	}
	for range 2000 {
		f.Learn(draw())
	}
	share := make([]float64, 5)
	usual := f.Score(make([]float64, 5), nil)
	draw()[3] = 12
	odd := f.Score(x, share)
	if odd < 5*usual {
		t.Errorf("an outlier scores %.1f, the centre %.1f", odd, usual)
	}
	if best := slices.Index(share, slices.Max(share)); best != 3 || share[3] < 0.8 {
		t.Errorf("contributions %.2f, want nearly all in coordinate 3", share)
	}
}

// A group of near-copies, as an attack makes, is displaced as one.
func TestNoMasking(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 1))
	f := newForest(t, Config{Trees: 40, Samples: 128, Dimensions: 3, Memory: 512, Seed: 7})
	for i := range 1000 {
		x := []float64{r.NormFloat64(), r.NormFloat64(), r.NormFloat64()}
		if i%50 == 0 {
			x = []float64{9 + r.Float64()/10, 9, 9}
		}
		f.Learn(x)
	}
	usual, odd := f.Score([]float64{0, 0, 0}, nil), f.Score([]float64{9, 9, 9}, nil)
	if odd < 5*usual {
		t.Errorf("a group of 2 %% scores %.1f, the centre %.1f", odd, usual)
	}
}

func TestSameSeedSameScores(t *testing.T) {
	run := func() float64 {
		f := newForest(t, Config{Trees: 8, Samples: 32, Dimensions: 2, Memory: 64, Seed: 9})
		r := rand.New(rand.NewPCG(6, 1))
		for range 500 {
			f.Learn([]float64{r.NormFloat64(), r.NormFloat64()})
		}
		return f.Score([]float64{3, 3}, nil)
	}
	if a, b := run(), run(); a != b {
		t.Errorf("scores %v and %v", a, b)
	}
}

func TestRefusesNonsense(t *testing.T) {
	f := newForest(t, Config{Trees: 2, Samples: 4, Dimensions: 2, Memory: 4, Seed: 1})
	for _, x := range [][]float64{{math.NaN(), 0}, {math.Inf(1), 0}, {1}, nil, {1e300, 0}} {
		f.Learn(x)
		if s := f.Score(x, nil); s != 0 {
			t.Errorf("%v scores %v", x, s)
		}
	}
	if f.Len() != 0 {
		t.Errorf("learned %d points", f.Len())
	}
	if _, err := New(Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
}

func TestNoAllocations(t *testing.T) {
	f, x := full(t)
	share := make([]float64, len(x))
	if n := testing.AllocsPerRun(200, func() { f.Learn(x); f.Score(x, share) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestStateSurvives(t *testing.T) {
	f, x := full(t)
	b, err := f.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	restored := func() *Forest {
		g := newForest(t, f.cfg)
		if err := g.UnmarshalBinary(b); err != nil {
			t.Fatal(err)
		}
		for i := range g.trees {
			check(t, &g.trees[i])
		}
		return g
	}
	g, h := restored(), restored()
	odd := slices.Clone(x)
	odd[3] = 20
	if a, b := f.Score(odd, nil), g.Score(odd, nil); g.Len() != f.Len() || math.Abs(a-b) > a/4 {
		t.Errorf("%d points, score %.2f; restored %d, %.2f", f.Len(), a, g.Len(), b)
	}
	g.Learn(odd)
	h.Learn(odd)
	if a, b := g.Score(x, nil), h.Score(x, nil); a != b {
		t.Errorf("two restarts differ: %v and %v", a, b)
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
}

func FuzzUnmarshal(f *testing.F) {
	cfg := Config{Trees: 2, Samples: 4, Dimensions: 2, Memory: 8, Seed: 1}
	full := newForest(f, cfg)
	for i := range 5 {
		b, _ := full.MarshalBinary()
		f.Add(b)
		full.Learn([]float64{float64(i), 1})
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		g := newForest(t, cfg)
		if g.UnmarshalBinary(data) != nil {
			return
		}
		for i := range 6 {
			g.Learn([]float64{float64(i), -1})
			if s := g.Score([]float64{1, 2}, nil); math.IsNaN(s) || s < 0 {
				t.Fatalf("score %v", s)
			}
		}
		for i := range g.trees {
			check(t, &g.trees[i])
		}
	})
}

// full is a forest of the size the ensemble uses.
func full(t testing.TB) (*Forest, []float64) {
	f := newForest(t, Config{Trees: 32, Samples: 128, Dimensions: 30, Memory: 2048, Seed: 1})
	r := rand.New(rand.NewPCG(7, 1))
	x := make([]float64, 30)
	for range 1000 {
		for j := range x {
			x[j] = r.NormFloat64()
		}
		f.Learn(x)
	}
	return f, x
}

func BenchmarkScore(b *testing.B) {
	f, x := full(b)
	share := make([]float64, len(x))
	b.ReportAllocs()
	for b.Loop() {
		f.Score(x, share)
	}
}

func BenchmarkLearn(b *testing.B) {
	f, x := full(b)
	b.ReportAllocs()
	for b.Loop() {
		x[3] += 1e-3
		f.Learn(x)
	}
}
