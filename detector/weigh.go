package detector

import "math"

// weighing adds up what speaks for and against an attack, in log odds, and
// keeps each piece as evidence. It is used again, so that nothing is allocated
// for what is not found.
type weighing struct {
	logOdds float64
	list    []Evidence
}

// begin starts with the log odds of what has been decided already.
func (w *weighing) begin(logOdds float64) *weighing {
	w.logOdds, w.list = logOdds, w.list[:0]
	return w
}

// add weighs a feature's value against what is usual.
func (w *weighing) add(feature string, value, baseline, weight float64) {
	w.logOdds += weight
	w.list = append(w.list, Evidence{Feature: feature, Value: value, Baseline: baseline, Contribution: weight})
}

// score is the probability of an attack.
func (w *weighing) score() float64 { return 1 / (1 + math.Exp(-w.logOdds)) }

// evidence returns the pieces with their shares: those for an attack add up to
// 1, those against it have none.
func (w *weighing) evidence() []Evidence {
	sum := 0.0
	for _, e := range w.list {
		sum += max(e.Contribution, 0)
	}
	for i := range w.list {
		w.list[i].Contribution = max(w.list[i].Contribution, 0) / max(sum, 1e-9)
	}
	return w.list
}
