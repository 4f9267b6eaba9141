// Package drift tells when the mean of a stream has changed: ADWIN (Bifet and
// Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SIAM SDM
// 2007). It keeps the longest window of recent values in which no two parts
// differ in mean by more than chance allows, in a memory that grows with the
// logarithm of the window and is bounded here.
package drift

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

const (
	perRow = 5 // buckets of a size, the paper's M
	// maxRows bounds the window at perRow * 2^maxRows values; older ones
	// are forgotten.
	maxRows = 24
	// every is how many values come between two tests, as in the paper's
	// experiments.
	every = 32
	// least is how many values a part must have to be compared.
	least = 16
)

// Window is the adaptive window. Values are in [0,1]; others are clipped.
type Window struct {
	delta float64
	rows  [maxRows]row // row i holds buckets of 2^i values
	used  int
	total bucket
	since int // values since the latest test
}

// row holds buckets, the oldest first.
type row struct {
	buckets [perRow + 1]bucket
	n       int
}

type bucket struct {
	n, sum, squares float64 // squares: sum of squared deviations from the mean
}

// New returns an empty window. Delta is the probability with which a change is
// told though there was none, per test; 0.002 is the authors' choice.
func New(delta float64) (*Window, error) {
	if !(delta > 0 && delta < 1) {
		return nil, fmt.Errorf("drift: delta %v is not in (0,1)", delta)
	}
	return &Window{delta: delta}, nil
}

// Len is the number of values in the window.
func (w *Window) Len() int { return int(w.total.n) }

// Mean is that of the values in the window, 0 when it is empty.
func (w *Window) Mean() float64 { return w.total.mean() }

// Reset empties the window.
func (w *Window) Reset() { *w = Window{delta: w.delta} }

// Change is a difference in mean that chance does not explain.
type Change struct {
	Before, After float64 // means of the forgotten and the kept values
	Values        int     // kept
}

// Add takes a value and reports whether the mean has changed, in which case
// the values from before the change are forgotten.
func (w *Window) Add(x float64) (Change, bool) {
	if math.IsNaN(x) {
		return Change{}, false
	}
	w.push(0, bucket{n: 1, sum: min(max(x, 0), 1)})
	if w.since++; w.since < every || w.total.n < 2*least {
		return Change{}, false
	}
	w.since = 0
	var forgotten bucket
	for w.total.n >= 2*least {
		old, found := w.cut()
		if !found {
			break
		}
		w.forget(old)
		forgotten = merge(forgotten, old)
	}
	return Change{forgotten.mean(), w.Mean(), w.Len()}, forgotten.n > 0
}

// push adds a bucket to a row and merges the two oldest of a full one into the
// next row.
func (w *Window) push(i int, b bucket) {
	if i == 0 {
		w.total = merge(w.total, b)
	}
	if i == maxRows {
		w.total = unmerge(w.total, b)
		return
	}
	r := &w.rows[i]
	w.used = max(w.used, i+1)
	r.buckets[r.n] = b
	if r.n++; r.n <= perRow {
		return
	}
	oldest := merge(r.buckets[0], r.buckets[1])
	copy(r.buckets[:], r.buckets[2:])
	r.n -= 2
	w.push(i+1, oldest)
}

// cut finds the oldest buckets whose mean differs from that of the rest by more
// than chance allows.
func (w *Window) cut() (old bucket, found bool) {
	for i := w.used - 1; i >= 0; i-- {
		for _, b := range w.rows[i].buckets[:w.rows[i].n] {
			old = merge(old, b)
			rest := w.total.n - old.n
			if old.n < least || rest < least {
				continue
			}
			if math.Abs(old.mean()-(w.total.sum-old.sum)/rest) > w.bound(old.n, rest) {
				return old, true
			}
		}
	}
	return bucket{}, false
}

// bound is the paper's epsilon_cut (equation 3.1), by Bernstein's inequality
// with the variance of the window, corrected for the number of cuts tried.
func (w *Window) bound(n0, n1 float64) float64 {
	m := 1 / (1/n0 + 1/n1)
	l := math.Log(2 * math.Log(w.total.n) / w.delta)
	variance := w.total.squares / w.total.n
	return math.Sqrt(2/m*variance*l) + 2/(3*m)*l
}

// forget drops the oldest buckets up to the given sum of them.
func (w *Window) forget(old bucket) {
	w.total = unmerge(w.total, old)
	for left := old.n; left > 0 && w.used > 0; {
		r := &w.rows[w.used-1]
		if r.n == 0 {
			w.used--
			continue
		}
		left -= r.buckets[0].n
		copy(r.buckets[:], r.buckets[1:r.n])
		r.n--
	}
	for w.used > 0 && w.rows[w.used-1].n == 0 {
		w.used--
	}
}

func (b bucket) mean() float64 {
	if b.n == 0 {
		return 0
	}
	return b.sum / b.n
}

// merge joins two buckets (Chan, Golub and LeVeque, 1979).
func merge(a, b bucket) bucket {
	if a.n == 0 {
		return b
	}
	if b.n == 0 {
		return a
	}
	d := a.mean() - b.mean()
	return bucket{a.n + b.n, a.sum + b.sum, a.squares + b.squares + d*d*a.n*b.n/(a.n+b.n)}
}

// unmerge takes a bucket out of what it was merged into.
func unmerge(all, b bucket) bucket {
	rest := bucket{n: all.n - b.n, sum: all.sum - b.sum}
	if rest.n <= 0 {
		return bucket{}
	}
	d := rest.mean() - b.mean()
	rest.squares = max(0, all.squares-b.squares-d*d*rest.n*b.n/all.n)
	return rest
}

// stateVersion changes with what MarshalBinary writes.
const stateVersion = 1

// MarshalBinary writes the window.
func (w *Window) MarshalBinary() ([]byte, error) {
	b := []byte{stateVersion, byte(w.used), byte(w.since)}
	for i := range w.used {
		r := &w.rows[i]
		b = append(b, byte(r.n))
		for _, x := range r.buckets[:r.n] {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x.sum))
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(x.squares))
		}
	}
	return b, nil
}

// UnmarshalBinary restores what MarshalBinary wrote. Anything else is refused
// and changes nothing.
func (w *Window) UnmarshalBinary(data []byte) error {
	if len(data) < 3 || data[0] != stateVersion || data[1] > maxRows || data[2] >= every {
		return errors.New("drift: no state of this version")
	}
	fresh := Window{delta: w.delta, used: int(data[1]), since: int(data[2])}
	data = data[3:]
	for i := range fresh.used {
		if len(data) < 1 || data[0] > perRow || len(data) < 1+16*int(data[0]) {
			return fmt.Errorf("drift: row %d of the state is cut short", i)
		}
		r := &fresh.rows[i]
		r.n = int(data[0])
		data = data[1:]
		for j := range r.n {
			n := float64(uint64(1) << i)
			x := bucket{n, math.Float64frombits(binary.LittleEndian.Uint64(data)), math.Float64frombits(binary.LittleEndian.Uint64(data[8:]))}
			if !(x.sum >= 0 && x.sum <= n && x.squares >= 0 && x.squares <= n) {
				return fmt.Errorf("drift: a bucket of %v values with sum %v", n, x.sum)
			}
			r.buckets[j] = x
			fresh.total = merge(fresh.total, x)
			data = data[16:]
		}
	}
	if len(data) > 0 {
		return fmt.Errorf("drift: %d bytes behind the state", len(data))
	}
	*w = fresh
	return nil
}
