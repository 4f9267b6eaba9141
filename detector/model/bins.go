package model

import (
	"cmp"
	"math"
	"slices"
)

// maxBins is the most bins of a feature, without the one for unknown values.
const maxBins = 16

// binning holds, for each feature, ascending cuts; a value's bin is the number
// of cuts that are at most the value. NaN, a value that is not known, has no
// bin: it takes no part in a score.
type binning [][]float64

// unknown is the bin of NaN.
const unknown = -1

func (b binning) bin(feature int, x float64) int {
	if x != x {
		return unknown
	}
	cuts := b[feature]
	// At most 15 cuts: counting beats searching, and does not branch.
	n := 0
	for _, c := range cuts {
		if x >= c {
			n++
		}
	}
	return n
}

// all writes the bins of a vector.
func (b binning) all(values []float64, into []int8) {
	for i := range b {
		into[i] = int8(b.bin(i, values[i]))
	}
}

// cut finds bins at quantiles of the weight, the two classes counting the same:
// threats are few, and what tells them apart lies where they are. A feature that
// is not to be learned from has one bin, which says nothing.
func cut(rows []row, learned []bool) binning {
	var total [2]float64
	for i := range rows {
		total[rows[i].class()] += rows[i].weight
	}
	b := make(binning, len(learned))
	points := make([]point, 0, len(rows))
	for f := range b {
		b[f] = []float64{}
		if !learned[f] {
			continue
		}
		points = points[:0]
		for i := range rows {
			if x := rows[i].values[f]; !math.IsNaN(x) {
				points = append(points, point{x, rows[i].weight / max(total[rows[i].class()], math.SmallestNonzeroFloat64)})
			}
		}
		b[f] = quantiles(points)
	}
	return b
}

type point struct{ x, weight float64 }

// quantiles returns at most maxBins-1 cuts between distinct values. The most
// common lowest value, usually zero, becomes a bin of its own.
func quantiles(points []point) []float64 {
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	total := 0.0
	for _, p := range points {
		total += p.weight
	}
	cuts := []float64{}
	step := total / maxBins
	below, next := 0.0, step
	for i, p := range points {
		if i > 0 && p.x != points[i-1].x && len(cuts) < maxBins-1 && (below >= next || len(cuts) == 0) {
			if c := between(points[i-1].x, p.x); len(cuts) == 0 || c > cuts[len(cuts)-1] {
				cuts = append(cuts, c)
				next = max(next, below) + (total-max(next, below))/float64(maxBins-len(cuts))
			}
		}
		below += p.weight
	}
	return cuts
}

// between returns a cut that is above a and at most b: a number that is short
// when written, where there is one.
func between(a, b float64) float64 {
	if math.IsInf(a, 0) || math.IsInf(b, 0) {
		return b
	}
	mid := a + (b-a)/2
	if mid == 0 || mid <= a || mid > b {
		return b
	}
	unit := math.Pow(10, math.Floor(math.Log10(b-a)))
	if short := math.Round(mid/unit) * unit; short > a && short <= b {
		return short
	}
	return mid
}
