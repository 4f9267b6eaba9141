// Package midas finds edges of a graph that suddenly come in groups, in
// constant time and memory per edge: MIDAS and MIDAS-R (Bhatia, Hooi, Yoon,
// Shin and Faloutsos, "MIDAS: Microcluster-Based Detector of Anomalies in Edge
// Streams", AAAI 2020) and MIDAS-F (Bhatia, Liu, Hooi, Yoon, Shin and
// Faloutsos, "Real-Time Anomaly Detection in Edge Streams", ACM TKDD 16(4),
// 2022), which does not learn from what it finds anomalous.
//
// Cells are found with a keyed hash, so that nobody who lacks the key can make
// edges collide with another's or wash out a cell.
//
// On the edges of DARPA 1998 (4.5 million, 60 % of them attacks) the area under
// the ROC curve is, over five keys, with two rows of 1,024 cells:
//
//	                                  here            published
//	MIDAS-R                           0.948 to 0.949  0.951
//	MIDAS-F, threshold 3,000, 0.7     0.983 to 0.989  0.987
//	MIDAS-F, threshold 1,000, 0.5     0.975 to 0.987  0.987
//
// MIDAS-F depends on which cells collide, because what was never seen scores 0
// unless its cell was. A keyed hash draws collisions at random, the published
// linear one does not; the threshold and decay of the second line, which are the
// defaults here, depend less on the draw.
package midas

import (
	"errors"
	"fmt"
	"math"

	"github.com/platelet-sdn/platelet/detector/keyed"
)

// Variant is a member of the family.
type Variant uint8

// The variants.
const (
	Plain      Variant = iota // edges alone, every tick by itself
	Relational                // MIDAS-R: nodes as well, recent ticks fade
	Filtering                 // MIDAS-F: anomalous cells are not merged into the past
)

// Config says how to build a Detector.
type Config struct {
	Variant Variant
	// Rows and Buckets are the sketches' dimensions; each cell takes 4
	// bytes, of which MIDAS-F has nine sketches.
	Rows, Buckets int
	// Decay is what remains of the current counts after a tick, in [0,1).
	// Plain ignores it.
	Decay float64
	// Threshold is the score from which MIDAS-F does not merge a cell.
	Threshold float64
	// Key keeps cells secret.
	Key keyed.Key
}

// DefaultConfig is the papers', two rows of 1,024 cells and decay one half, but
// for MIDAS-F, where the package's remarks say why.
func DefaultConfig(v Variant, k keyed.Key) Config {
	c := Config{Variant: v, Rows: 2, Buckets: 1024, Decay: 0.5, Key: k}
	if v == Filtering {
		c.Decay, c.Threshold = 0.7, 3000
	}
	return c
}

const (
	maxRows    = 8
	maxBuckets = 1 << 20
)

// Validate reports every setting that cannot work.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("midas: "+format, args...))
		}
	}
	check(c.Variant <= Filtering, "no variant %d", c.Variant)
	check(c.Rows >= 1 && c.Rows <= maxRows, "%d rows are not in 1 to %d", c.Rows, maxRows)
	check(c.Buckets >= 2 && c.Buckets <= maxBuckets, "%d buckets are not in 2 to %d", c.Buckets, maxBuckets)
	check(c.Decay >= 0 && c.Decay < 1, "decay %v is not in [0,1)", c.Decay)
	check(c.Threshold > 0 || c.Variant != Filtering, "threshold %v is not positive", c.Threshold)
	return errors.Join(errs...)
}

// Score is the chi-squared statistic of what is anomalous about an edge: the
// pair, its source or its destination. Each is 0 or more; only Edge is set by
// Plain.
type Score struct{ Edge, Source, Destination float64 }

// Max is the papers' score of the edge.
func (s Score) Max() float64 { return max(s.Edge, s.Source, s.Destination) }

// Detector scores a stream of edges. It belongs to one goroutine.
type Detector struct {
	cfg     Config
	tick    int64 // of the latest edge, 1 or more
	aspects []aspect
}

// aspect counts one way of looking at an edge.
type aspect struct {
	current, total sketch
	score          sketch // of the latest edge in a cell, MIDAS-F only
}

// sketch is a count-min sketch (Cormode and Muthukrishnan, J. Algorithms 55,
// 2005): rows of cells one after the other.
type sketch []float32

// New returns a detector, or what is wrong with its configuration.
func New(cfg Config) (*Detector, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	d := &Detector{cfg: cfg, tick: 1, aspects: make([]aspect, 3)}
	if cfg.Variant == Plain {
		d.aspects = d.aspects[:1]
	}
	cells := cfg.Rows * cfg.Buckets
	for i := range d.aspects {
		a := &d.aspects[i]
		a.current, a.total = make(sketch, cells), make(sketch, cells)
		if cfg.Variant == Filtering {
			a.score = make(sketch, cells)
		}
	}
	return d, nil
}

// Edge counts an edge between two nodes and scores it. Ticks count from 1 and
// do not run backwards: an edge of an earlier tick belongs to the latest.
func (d *Detector) Edge(src, dst uint64, tick int64) Score {
	if tick > d.tick {
		d.advance(tick)
	}
	var s Score
	s.Edge = d.add(&d.aspects[0], d.cfg.Key.Sum(src, dst))
	if d.cfg.Variant != Plain {
		s.Source = d.add(&d.aspects[1], d.cfg.Key.Sum(src))
		s.Destination = d.add(&d.aspects[2], d.cfg.Key.Sum(dst))
	}
	return s
}

// advance starts a tick. Like the authors' implementation it does so once,
// however many ticks had no edge.
func (d *Detector) advance(tick int64) {
	for i := range d.aspects {
		a := &d.aspects[i]
		switch d.cfg.Variant {
		case Plain:
			clear(a.current)
			continue
		case Filtering:
			a.merge(float32(d.cfg.Threshold), d.tick)
		}
		for j := range a.current {
			a.current[j] *= float32(d.cfg.Decay)
		}
	}
	d.tick = tick
}

// merge moves the counts of a tick into the past (TKDD 2022, algorithm 4). A
// cell that looked anomalous gets its own mean instead, so that it neither
// learns the anomaly nor falls behind.
func (a *aspect) merge(threshold float32, tick int64) {
	mean := float32(0)
	if tick > 1 {
		mean = 1 / float32(tick-1)
	}
	for j, now := range a.current {
		if a.score[j] >= threshold {
			now = a.total[j] * mean
		}
		a.total[j] += now
	}
}

// add counts a hash in all rows and returns the score of the least counts.
func (d *Detector) add(a *aspect, h uint64) float64 {
	var cells [maxRows]int
	now, past := float32(math.Inf(1)), float32(math.Inf(1))
	for r := range d.cfg.Rows {
		j := d.cell(h, r)
		cells[r] = j
		a.current[j]++
		if d.cfg.Variant != Filtering {
			a.total[j]++
		}
		now, past = min(now, a.current[j]), min(past, a.total[j])
	}
	if d.cfg.Variant != Filtering {
		return chiSquared(float64(now), float64(past), float64(d.tick))
	}
	s := chiSquaredApart(float64(now), float64(past), float64(d.tick))
	for _, j := range cells[:d.cfg.Rows] {
		a.score[j] = float32(s)
	}
	return s
}

// cell is the place of a hash in a row: double hashing (Kirsch and
// Mitzenmacher, ESA 2006) of the two halves.
func (d *Detector) cell(h uint64, row int) int {
	x := uint32(h) + uint32(row)*(uint32(h>>32)|1)
	return row*d.cfg.Buckets + int(uint64(x)*uint64(d.cfg.Buckets)>>32)
}

// chiSquared compares a count in this tick with the total s of t ticks, this
// one included (AAAI 2020, equation 2).
func chiSquared(a, s, t float64) float64 {
	if s == 0 || t <= 1 {
		return 0
	}
	x := a - s/t
	return x * x * t * t / (s * (t - 1))
}

// chiSquaredApart is the same where the total does not include this tick (TKDD
// 2022, equation 7).
func chiSquaredApart(a, s, t float64) float64 {
	if s == 0 || t <= 1 {
		return 0
	}
	x := a + s - a*t
	return x * x / (s * (t - 1))
}
