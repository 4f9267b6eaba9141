package model

import (
	"cmp"
	"math"
	"slices"
)

// Bounds of what a file may hold.
const (
	maxFeatures = 512
	maxName     = 128
	maxAnchors  = 128
	maxSets     = 1024
	maxText     = 512
	// MaxFile is the largest model file in bytes.
	MaxFile = 4 << 20
)

// Model scores windows. It is immutable once made, and safe for concurrent use
// with a Scratch per goroutine.
type Model struct {
	Schema     Schema     `json:"schema"`
	Provenance Provenance `json:"provenance"`
	// Metrics are of data that the learners did not see.
	Metrics     []Metric    `json:"metrics"`
	Calibration Calibration `json:"calibration"`
	// Threshold is the probability from which a window is reported.
	Threshold float64 `json:"threshold"`

	// Rising lists the features of which more is never less suspicious.
	Rising   []int    `json:"rising"`
	Bins     binning  `json:"bins"`
	Linear   *linear  `json:"linear"`
	TreeBias float64  `json:"tree_bias"`
	Trees    []tree   `json:"trees"`
	Anchors  []Anchor `json:"anchors"`
	// Normal is the median of each feature over benign windows: what a
	// value is held against in an explanation.
	Normal []float64 `json:"normal"`

	hash string // of the content, see Encode
}

// Hash is the SHA-256 of the model's content in hex: its identity.
func (m *Model) Hash() string { return m.hash }

// Scratch is memory for one caller, so that scoring does not allocate.
type Scratch struct {
	bins  []int8
	parts []float64
}

// Part is what one feature adds to the log odds of a threat.
type Part struct {
	Feature int
	LogOdds float64
	// Low and High bound the values that would have added the same; they are
	// infinite where there is no bound.
	Low, High float64
}

// Score returns the calibrated probability that a window shows a threat.
// values must have as many entries as the schema has names.
func (m *Model) Score(values []float64, s *Scratch) float64 {
	return m.Calibration.probability(m.raw(values, s))
}

// raw is the mean of the learners' log odds.
func (m *Model) raw(values []float64, s *Scratch) float64 {
	if cap(s.bins) < len(m.Bins) {
		s.bins = make([]int8, len(m.Bins))
	}
	s.bins = s.bins[:len(m.Bins)]
	m.Bins.all(values, s.bins)
	return m.rawOf(s.bins)
}

func (m *Model) rawOf(bins []int8) float64 {
	x := m.Linear.bias
	for f, b := range bins {
		x += m.Linear.part(f, b)
	}
	y := m.TreeBias
	for i := range m.Trees {
		y += m.Trees[i].walk(bins, nil)
	}
	return (x + y) / 2
}

// Explain returns the score, the log odds that a window starts from before
// anything is known of it, and the features' parts, the weightiest first. Base
// and parts add up to the log odds of the score, unless the ceiling cuts it.
func (m *Model) Explain(values []float64, s *Scratch) (score, base float64, parts []Part) {
	raw := m.raw(values, s)
	s.parts = append(s.parts[:0], make([]float64, len(m.Bins))...)
	base = m.Linear.bias + m.TreeBias
	for f, b := range s.bins {
		s.parts[f] += m.Linear.part(f, b)
	}
	for i := range m.Trees {
		base += m.Trees[i].Value[0]
		m.Trees[i].walk(s.bins, func(f int, change float64) { s.parts[f] += change })
	}
	slope := m.Calibration.Slope / 2
	for f, x := range s.parts {
		if x != 0 && slope != 0 {
			low, high := m.bounds(f, int(s.bins[f]))
			parts = append(parts, Part{Feature: f, LogOdds: slope * x, Low: low, High: high})
		}
	}
	slices.SortStableFunc(parts, func(a, b Part) int { return cmp.Compare(math.Abs(b.LogOdds), math.Abs(a.LogOdds)) })
	return m.Calibration.probability(raw), m.Calibration.logOdds(base / 2), parts
}

// bounds returns the values that share a bin.
func (m *Model) bounds(feature, bin int) (low, high float64) {
	low, high = math.Inf(-1), math.Inf(1)
	cuts := m.Bins[feature]
	if bin > 0 {
		low = cuts[bin-1]
	}
	if bin >= 0 && bin < len(cuts) {
		high = cuts[bin]
	}
	return low, high
}
