package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// thinAbove is how many samples of established traffic a second are looked
	// at one by one for how hosts conduct themselves.
	thinAbove = 200_000
	// thinEvery is how often the rate is taken anew.
	thinEvery = 50 * time.Millisecond
)

// thinning samples the samples when there are more than can be looked at in full:
// what a detector learns from the hundredth packet of a transfer is worth least. The
// rate of what is kept says so, so that volumes stay right in the mean, and doubt
// follows from it as from any sampling. Which ones are kept cannot be foreseen.
// Connection attempts, answers and everything else that the tap tells are never
// thinned, and floods are counted before.
type thinning struct {
	began, seen int64
	keep        float64 // share
	state       uint64  // of the random numbers, never 0
	scratch     flow.Record
}

// observe counts a sample and takes the rate anew when it is time.
func (t *thinning) observe(now int64) {
	t.seen++
	span := now - t.began
	if span < int64(thinEvery) {
		return
	}
	t.keep = min(1, thinAbove*float64(span)/1e9/float64(t.seen))
	t.began, t.seen = now, 0
}

// take returns what is to be looked at for a sample: it, or a copy that stands for
// more, or nil.
func (t *thinning) take(r *flow.Record) *flow.Record {
	if t.keep >= 1 {
		return r
	}
	t.state ^= t.state << 13 // xorshift (Marsaglia 2003)
	t.state ^= t.state >> 7
	t.state ^= t.state << 17
	if float64(t.state) >= t.keep*math.MaxUint64 {
		return nil
	}
	t.scratch = *r
	t.scratch.Rate /= t.keep
	return &t.scratch
}

// thinned reports whether a record is one of those that may be thinned.
func thinned(r *flow.Record) bool {
	return r.Source == flow.SourceSFlow && (r.Signal == flow.SignalNone || r.Signal == flow.SignalUDP || r.Signal == flow.SignalICMP)
}
