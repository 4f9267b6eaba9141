package exposure

import (
	"math"
	"time"
)

const (
	// thinAbove is how many samples a second are looked at one by one.
	thinAbove = 100_000
	// thinEvery is how often the rate is taken anew.
	thinEvery = int64(50 * time.Millisecond)
)

// thinning samples the samples where there are more than it takes to know an hour:
// each that is kept stands for more, so that volumes stay right in the mean, and
// Coverage tells of it as of any sampling. Which ones are kept cannot be foreseen.
// What the tap tells is never thinned.
type thinning struct {
	began, seen int64
	keep        float64 // share
	state       uint64  // of the random numbers, never 0
}

// take returns how many samples one stands for; 0 is for one that is left out.
func (t *thinning) take(now int64) float64 {
	t.seen++
	if span := now - t.began; span >= thinEvery || span < 0 {
		t.keep = min(1, thinAbove*float64(max(span, 0))/float64(time.Second)/float64(t.seen))
		if t.keep == 0 || t.began == 0 {
			t.keep = 1
		}
		t.began, t.seen = now, 0
	}
	if t.keep >= 1 {
		return 1
	}
	t.state ^= t.state << 13 // xorshift (Marsaglia 2003)
	t.state ^= t.state >> 7
	t.state ^= t.state << 17
	if float64(t.state) >= t.keep*math.MaxUint64 {
		return 0
	}
	return 1 / t.keep
}
