// Package forest is a robust random cut forest (Guha, Mishra, Roy and
// Schrijvers, "Robust Random Cut Forest Based Anomaly Detection On Streams",
// ICML 2016): trees of random cuts over bounded samples of a stream, to which
// points are added and from which they are removed such that every tree is
// distributed as if it had been built anew.
//
// A point is scored by its collusive displacement: how much of a tree moves
// down because the point, or a group around it, is there. Here the score is
// the expectation over the random cuts that would insert the point, which
// leaves the tree alone, needs no randomness and says at the same time which
// coordinates carry the score. Near-copies of an attack do not hide each other
// (what the paper calls masking), since a group is displaced as one.
//
// Cuts are drawn in proportion to a box's sides, so coordinates must be on
// comparable scales: give it standardised ones.
package forest

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Config says how to build a Forest.
type Config struct {
	// Trees is how many there are, Samples how many points each holds.
	Trees, Samples int
	// Dimensions of a point.
	Dimensions int
	// Memory is after how many points an old one has been forgotten with
	// probability 1-1/e; never less than Samples.
	Memory int
	// Seed makes the cuts reproducible.
	Seed uint64
}

// Bounds of a configuration.
const (
	maxTrees      = 256
	maxSamples    = 1 << 12
	maxDimensions = 256
	// maxCoordinate keeps sums over the sides of a box finite.
	maxCoordinate = math.MaxFloat32 / (4 * maxDimensions)
)

// Validate reports every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("forest: "+format, args...))
		}
	}
	check(c.Trees >= 1 && c.Trees <= maxTrees, "%d trees are not in 1 to %d", c.Trees, maxTrees)
	check(c.Samples >= 2 && c.Samples <= maxSamples, "%d samples are not in 2 to %d", c.Samples, maxSamples)
	check(c.Dimensions >= 1 && c.Dimensions <= maxDimensions, "%d dimensions are not in 1 to %d", c.Dimensions, maxDimensions)
	check(c.Memory >= c.Samples, "a memory of %d points is less than %d samples", c.Memory, c.Samples)
	return errors.Join(errs...)
}

// Forest scores points. It belongs to one goroutine.
type Forest struct {
	cfg    Config
	source *rand.PCG
	rand   *rand.Rand
	trees  []tree
	point  []float32
}

// New returns an empty forest, or what is wrong with its configuration.
func New(cfg Config) (*Forest, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	f := &Forest{cfg: cfg, source: rand.NewPCG(cfg.Seed, uint64(cfg.Dimensions)),
		trees: make([]tree, cfg.Trees), point: make([]float32, cfg.Dimensions)}
	f.rand = rand.New(f.source)
	for i := range f.trees {
		f.trees[i] = newTree(cfg.Samples, cfg.Dimensions)
	}
	return f, nil
}

// Len is how many points the trees hold on average.
func (f *Forest) Len() int {
	n := 0
	for i := range f.trees {
		n += len(f.trees[i].held)
	}
	return n / len(f.trees)
}

// Learn offers a point to every tree. It is ignored when a coordinate is not
// finite or beyond 1e35. Each tree keeps a sample that forgets exponentially.
func (f *Forest) Learn(x []float64) {
	if !f.take(x) {
		return
	}
	keep := float64(f.cfg.Samples) / float64(f.cfg.Memory)
	for i := range f.trees {
		t := &f.trees[i]
		if len(t.held) == f.cfg.Samples {
			if f.rand.Float64() >= keep {
				continue
			}
			t.remove(f.rand.IntN(f.cfg.Samples))
		}
		t.insert(f.point, f.rand)
	}
}

// Score returns the expected collusive displacement of a point, averaged over
// the trees: about the number of points that it would displace for each that
// resembles it. If share is not nil it gets each coordinate's part of the
// score; together they make no more than 1. A point that Learn would ignore, and any point
// while the forest is empty, scores 0.
func (f *Forest) Score(x, share []float64) float64 {
	clear(share)
	if !f.take(x) {
		return 0
	}
	total := 0.0
	for i := range f.trees {
		total += f.trees[i].displacement(f.point, share)
	}
	if total > 0 {
		for j := range share {
			share[j] /= total
		}
	}
	return total / float64(len(f.trees))
}

func (f *Forest) take(x []float64) bool {
	if len(x) != len(f.point) {
		return false
	}
	for j, v := range x {
		if !(math.Abs(v) <= maxCoordinate) {
			return false
		}
		f.point[j] = float32(v)
	}
	return true
}
