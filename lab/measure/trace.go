package measure

import (
	"cmp"
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
	// left is when each attack packet left, in order; of a flood, which is
	// not captured there, counted is what the counters said when.
	left    []time.Time
	counted []reading
}

// reading is how many packets had left at a moment.
type reading struct {
	at   time.Time
	sent uint64
}

const (
	// share of what is sent that a limit may let pass.
	share = 0.05
	// slack is how much a mean rate may exceed a limit; switches compute in
	// whole packets and ticks.
	slack = 1.1
	// bunch is how many packets a switch handles at once, and stall how long
	// it may not run at all on a busy machine, after which as much passes at
	// once as the limit would have let pass meanwhile.
	bunch = 32
	stall = 0.1 // seconds
	// grain is how exactly a rate can be told: packets come whole, and at
	// the limit itself the excess wavers by one or two of them for ever.
	grain = 2
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

// silent reports whether packets left between the end of delivery and a
// moment, none of which arrived.
func (t trace) silent(end, until time.Time) bool {
	for _, at := range t.left {
		if at.After(end) && at.Before(until) {
			return true
		}
	}
	var before uint64
	for i, r := range t.counted {
		if i > 0 && r.at.After(end) && r.at.Before(until) && r.sent > before {
			return true
		}
		before = r.sent
	}
	return false
}

// rate is the attacker's mean rate in packets per second.
func (t trace) rate() float64 {
	span := t.sentUntil.Sub(t.first).Seconds()
	if span <= 0 {
		return 0
	}
	return float64(t.sent) / span
}

// limitedFrom is the moment from which on delivery keeps to a rate: between
// any two later packets no more pass than the rate allows for the time between
// them, and for one bunch.
//
// With k packets delivered at time t_k, k - rate*t_k rises as long as more
// than the rate passes. It must never again rise by more than a bunch, and
// what went too far ended where it first stood as high as ever after, but for
// the grain.
func (t trace) limitedFrom(rate float64) time.Time {
	if len(t.delivered) == 0 {
		return t.first
	}
	excess := func(k int) float64 { return float64(k) - rate*t.delivered[k].Sub(t.first).Seconds() }
	allowed := bunch + rate*stall
	end := len(t.delivered) - 1
	highest := excess(end)
	for k := end - 1; k >= 0; k-- {
		e := excess(k)
		if highest-e > allowed {
			break
		}
		highest = max(highest, e)
		if highest-e <= grain {
			end = k
		}
	}
	return t.delivered[end]
}

// merge puts several captures into one order of time.
func merge(captures [][]time.Time) []time.Time {
	all := slices.Concat(captures...)
	slices.SortFunc(all, func(a, b time.Time) int { return cmp.Compare(a.UnixNano(), b.UnixNano()) })
	return all
}
