// Package conformal turns scores of any scale into probabilities that can be
// promised: the conformal p-value (Vovk, Gammerman and Shafer, "Algorithmic
// Learning in a Random World", 2005; for anomalies Laxhammar and Falkman, IEEE
// TPAMI 36(6), 2014) of a score is its rank among scores of what was normal. As
// long as a new score is exchangeable with those, P(p <= a) <= a, whatever their
// distribution and however good the model.
package conformal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// History is the latest scores of what was normal, bounded.
type History struct {
	ring   []float32 // in order of arrival
	next   int
	sorted []float32
}

const maxScores = 1 << 20

// NewHistory returns an empty history of at most so many scores.
func NewHistory(scores int) (*History, error) {
	if scores < 1 || scores > maxScores {
		return nil, fmt.Errorf("conformal: %d scores are not in 1 to %d", scores, maxScores)
	}
	return &History{ring: make([]float32, 0, scores), sorted: make([]float32, 0, scores)}, nil
}

// Len is the number of scores held.
func (h *History) Len() int { return len(h.ring) }

// Reset forgets all scores.
func (h *History) Reset() { h.ring, h.sorted, h.next = h.ring[:0], h.sorted[:0], 0 }

// Add remembers a score, in place of the oldest when there is no room. What is
// not finite is ignored.
func (h *History) Add(score float64) {
	if math.IsNaN(score) || math.Abs(score) > math.MaxFloat32 {
		return
	}
	s := float32(score)
	if len(h.ring) < cap(h.ring) {
		h.ring = append(h.ring, s)
	} else {
		old, _ := slices.BinarySearch(h.sorted, h.ring[h.next])
		h.sorted = slices.Delete(h.sorted, old, old+1)
		h.ring[h.next] = s
		h.next = (h.next + 1) % len(h.ring)
	}
	at, _ := slices.BinarySearch(h.sorted, s)
	h.sorted = slices.Insert(h.sorted, at, s)
}

// P is the share of scores, the new one included, that are at least as high: 1
// while nothing is known, never less than 1/(Len()+1). Scores that are not
// numbers get 1.
func (h *History) P(score float64) float64 {
	if math.IsNaN(score) {
		return 1
	}
	// The history is rounded, so compare what is rounded in the same way.
	at, _ := slices.BinarySearch(h.sorted, float32(score))
	return float64(len(h.sorted)-at+1) / float64(len(h.sorted)+1)
}

// Second combines p-values of tests that may depend on each other in any way
// into that of "at least two are right": m/2 times the second smallest of m
// (Rueger, Metrika 25, 1978; Vovk and Wang, Biometrika 107(4), 2020). It is
// valid like each of them.
func Second(p ...float64) float64 {
	least, second := 1.0, 1.0
	for _, x := range p {
		switch {
		case x < least:
			least, second = x, least
		case x < second:
			second = x
		}
	}
	return min(1, second*float64(len(p))/2)
}

// Posterior is an upper bound for the probability that the null hypothesis is
// wrong, given a p-value and the prior odds for it to be right (Sellke, Bayarri
// and Berger, The American Statistician 55(1), 2001): a p-value of 0.05 is much
// weaker evidence than it sounds.
func Posterior(p, odds float64) float64 {
	if !(p > 0) {
		p = math.SmallestNonzeroFloat64
	}
	bayes := 1.0 // of the null against the best alternative
	if p < 1/math.E {
		bayes = -math.E * p * math.Log(p)
	}
	return 1 / (1 + bayes*odds)
}

// stateVersion changes with what MarshalBinary writes.
const stateVersion = 1

// MarshalBinary writes the scores.
func (h *History) MarshalBinary() ([]byte, error) {
	b := []byte{stateVersion}
	for i := range h.ring { // the oldest first
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(h.ring[(h.next+i)%len(h.ring)]))
	}
	return b, nil
}

// UnmarshalBinary restores what MarshalBinary wrote, the latest scores when
// there is room for fewer. Anything else is refused and changes nothing.
func (h *History) UnmarshalBinary(data []byte) error {
	if len(data) < 1 || data[0] != stateVersion || len(data)%4 != 1 || len(data)/4 > maxScores {
		return errors.New("conformal: no state of this version")
	}
	data = data[1:]
	if skip := len(data)/4 - cap(h.ring); skip > 0 {
		data = data[4*skip:]
	}
	ring := make([]float32, 0, cap(h.ring))
	for ; len(data) > 0; data = data[4:] {
		s := math.Float32frombits(binary.LittleEndian.Uint32(data))
		if s != s || math.IsInf(float64(s), 0) {
			return errors.New("conformal: a score that is not finite")
		}
		ring = append(ring, s)
	}
	h.ring, h.next = ring, 0
	h.sorted = append(h.sorted[:0], ring...)
	slices.Sort(h.sorted)
	return nil
}
