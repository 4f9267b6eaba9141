package model

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	anchorWeight  = 5 // of an anchor when it is rehearsed
	anchorGroups  = 4 // anchors of a set and class, from the easy to the hard
	anchorWindows = 5 // fewer make no anchor
	// maxFlipped is the share of the anchors of a class that a training may
	// move over the threshold.
	maxFlipped = 0.25
)

// Anchor is the median of windows of one set and class that score alike: what is
// known, in short, and nobody's window. A later training may refine it, never
// turn it over.
type Anchor struct {
	Set       string    `json:"set"`
	Malicious bool      `json:"malicious"`
	Windows   int       `json:"windows"`
	Values    []float64 `json:"values"`
}

// anchors keeps the base's and adds those of this training.
func (t *trainer) anchors(m *Model) []Anchor {
	var list []Anchor
	if t.o.Base != nil {
		list = slices.Clone(t.o.Base.Anchors)
	}
	type key struct{ set, class int }
	groups := map[key][]int{}
	for i := range t.examples {
		if e := &t.examples[i]; !e.Verdict && (e.Weight == 0 || e.Weight >= 1) {
			k := key{e.Set, e.class()}
			groups[k] = append(groups[k], i)
		}
	}
	keys := make([]key, 0, len(groups))
	for k := range groups {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int { return cmp.Or(cmp.Compare(a.set, b.set), cmp.Compare(a.class, b.class)) })
	var s Scratch
	for _, k := range keys {
		which := groups[k]
		scores := make(map[int]float64, len(which))
		for _, i := range which {
			scores[i] = m.raw(t.examples[i].Values, &s)
		}
		slices.SortFunc(which, func(a, b int) int { return cmp.Or(cmp.Compare(scores[a], scores[b]), cmp.Compare(a, b)) })
		parts := min(anchorGroups, len(which)/anchorWindows)
		for p := range parts {
			if len(list) == maxAnchors {
				return list
			}
			part := which[p*len(which)/parts : (p+1)*len(which)/parts]
			list = append(list, Anchor{Set: t.o.Sets[k.set].Name, Malicious: k.class == 1, Windows: len(part), Values: t.median(part)})
		}
	}
	return list
}

// rehearse makes rows of the base's anchors, to be learned beside what is new
// (Robins, Connection Science 7, 1995).
func (t *trainer) rehearse() []row {
	if t.o.Base == nil {
		return nil
	}
	rows := make([]row, 0, len(t.o.Base.Anchors))
	for i := range t.o.Base.Anchors {
		a := &t.o.Base.Anchors[i]
		e := Example{Malicious: a.Malicious}
		rows = append(rows, row{values: a.Values, label: e.class(), weight: anchorWeight, example: -1})
	}
	return rows
}

// flips compares on which side of its threshold the base sees its anchors with
// where m sees them. What the base itself got wrong does not count.
func (t *trainer) flips(m *Model) error {
	base := t.o.Base
	if base == nil {
		return nil
	}
	var s Scratch
	var known, flipped [2]int
	for _, a := range base.Anchors {
		e := Example{Malicious: a.Malicious}
		if (base.Score(a.Values, &s) >= base.Threshold) != a.Malicious {
			continue
		}
		known[e.class()]++
		if (m.Score(a.Values, &s) >= m.Threshold) != a.Malicious {
			flipped[e.class()]++
		}
	}
	for class, what := range []string{"benign", "malicious"} {
		if float64(flipped[class]) > maxFlipped*float64(known[class]) {
			return fmt.Errorf("%w: of %d kinds of %s windows that model %.12s knows, %d change sides; look at the labels",
				ErrFlips, known[class], what, base.Hash(), flipped[class])
		}
	}
	return nil
}

// normal is what benign windows have in the middle.
func (t *trainer) normal() []float64 {
	var benign []int
	for i := range t.examples {
		if !t.examples[i].Malicious {
			benign = append(benign, i)
		}
	}
	if len(benign) < anchorWindows && t.o.Base != nil {
		return slices.Clone(t.o.Base.Normal)
	}
	return t.median(benign)
}

// median is taken feature by feature, so that an anchor is nobody's window.
func (t *trainer) median(which []int) []float64 {
	out := make([]float64, len(t.o.Schema.Names))
	column := make([]float64, 0, len(which))
	for f := range out {
		column = column[:0]
		for _, i := range which {
			if x := t.examples[i].Values[f]; finite(x) {
				column = append(column, x)
			}
		}
		if len(column) > 0 {
			slices.Sort(column)
			out[f] = column[len(column)/2]
		}
	}
	return out
}
