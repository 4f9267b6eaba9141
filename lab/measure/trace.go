package measure

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// trace is what captures and counters tell of one attack.
type trace struct {
	// first is when the first attack packet left the attacker.
	first time.Time
	// sentUntil is the last moment at which the attacker was seen sending.
	sentUntil time.Time
	// sent is how many packets left the attacker.
	sent uint64
	// delivered is when each attack packet arrived, in order.
	delivered []time.Time
}

const (
	// window is the span over which a delivered rate is looked at.
	window = 100 * time.Millisecond
	// share of what is sent that a limit may let pass.
	share = 0.05
	// slack is what packets that come in bunches may exceed a rate by.
	slack = 1.1
)

// contained finds out when delivery ended: at the last packet, where the
// action blocks; and where it limits to so many packets per second, at the
// moment from which the delivered rate stays below the limit and below 5 %
// of what is sent. It counts only when the attacker went on for hold
// afterwards: an attack that stopped by itself was not contained.
func (t trace) contained(limit float64, hold time.Duration) (time.Duration, bool) {
	if t.first.IsZero() {
		return 0, false
	}
	end := t.first
	if len(t.delivered) > 0 {
		end = t.delivered[len(t.delivered)-1]
	}
	if limit > 0 {
		end = t.limitedFrom(min(limit*slack, t.rate()*share))
	}
	if t.sentUntil.Sub(end) < hold {
		return 0, false
	}
	return max(0, end.Sub(t.first)), true
}

// rate is the attacker's mean rate in packets per second.
func (t trace) rate() float64 {
	span := t.sentUntil.Sub(t.first).Seconds()
	if span <= 0 {
		return 0
	}
	return float64(t.sent) / span
}

// limitedFrom is the first delivered packet from which on no window holds
// more packets than the rate allows.
func (t trace) limitedFrom(rate float64) time.Time {
	allowed := max(1, int(math.Ceil(rate*window.Seconds())))
	from := t.first
	for i := range t.delivered {
		// The packet that would be one too many in the window of packet i.
		if j := i + allowed; j < len(t.delivered) && t.delivered[j].Sub(t.delivered[i]) < window {
			from = t.delivered[min(i+1, len(t.delivered)-1)]
		}
	}
	return from
}

// merge puts several captures into one order of time.
func merge(captures [][]time.Time) []time.Time {
	all := slices.Concat(captures...)
	slices.SortFunc(all, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
	return all
}

// Quantiles are order statistics in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// quantiles uses the nearest rank: each figure is one that was measured.
func quantiles(samples []time.Duration) Quantiles {
	if len(samples) == 0 {
		return Quantiles{}
	}
	sorted := slices.Clone(samples)
	slices.Sort(sorted)
	rank := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(sorted)))) - 1
		return millis(sorted[max(0, i)])
	}
	return Quantiles{rank(0.50), rank(0.95), rank(0.99), rank(1)}
}

// millis is a duration in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }
