package wire

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/lab/agent"
)

// MaxRate is the highest rate that a pace keeps, in packets per second: more
// than twice what a flood of one core reaches.
const MaxRate = 1_000_000

// Pace keeps a mean rate: packet n is due n/rate after the first. Who asks
// late gets what has become due in the meantime, at twice the rate at most,
// and never more than a second's worth, so that a machine that stalls does
// not pay back with a flood; what was due beyond that is forfeit. A Pace
// serves one sender.
type Pace struct {
	rate    float64
	start   time.Time
	granted uint64
	forfeit uint64
	// free is when the next packet may go at twice the rate.
	free time.Time
}

// jitter is how far catching up may run ahead of twice the rate: waits end
// late by about as much.
const jitter = time.Millisecond

// NewPace makes a pace of so many packets per second. The first is due at the
// first Wait.
func NewPace(rate float64) (*Pace, error) {
	if !(rate > 0) || rate > MaxRate {
		return nil, fmt.Errorf("rate of %v packets/s: want more than 0 and at most %d", rate, MaxRate)
	}
	return &Pace{rate: rate}, nil
}

// Forfeit is how many packets were given up because the machine stalled.
func (p *Pace) Forfeit() uint64 { return p.forfeit }

// Wait waits until a packet is due, and returns how many are, at most limit.
// They count as sent.
func (p *Pace) Wait(ctx context.Context, limit int) (int, error) {
	if p.start.IsZero() {
		p.start = time.Now()
	}
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		now := time.Now()
		if n := p.due(now); n > 0 && !now.Before(p.free) {
			n = min(n, max(1, limit))
			p.granted += uint64(n)
			if earliest := now.Add(-jitter); p.free.Before(earliest) {
				p.free = earliest
			}
			p.free = p.free.Add(time.Duration(float64(n) / (2 * p.rate) * 1e9))
			return n, nil
		}
		next := p.at(p.granted)
		if p.free.After(next) {
			next = p.free
		}
		if err := pause(ctx, max(time.Microsecond, time.Until(next))); err != nil {
			return 0, err
		}
	}
}

// at is when packet n, counted from 0, is due.
func (p *Pace) at(n uint64) time.Time {
	return p.start.Add(time.Duration(math.Ceil(float64(n) / p.rate * 1e9)))
}

// due is how many packets are due and not yet granted.
func (p *Pace) due(now time.Time) int {
	elapsed := now.Sub(p.start).Seconds()
	if elapsed < 0 {
		return 0
	}
	// A millionth of a packet early: at and due must agree despite rounding.
	total := uint64(elapsed*p.rate+1e-6) + 1
	if total <= p.granted {
		return 0
	}
	n := total - p.granted
	if most := uint64(max(1, math.Ceil(p.rate))); n > most {
		// The schedule moves on by what is given up.
		p.forfeit += n - most
		p.start = p.start.Add(time.Duration(float64(n-most) / p.rate * 1e9))
		n = most
	}
	return int(n)
}

// fine is the wait below which the runtime's timers, exact to a millisecond
// where nothing else runs, are too coarse.
const fine = 2 * time.Millisecond

// pause waits, unless the context ends first.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if d < fine {
		ts := unix.NsecToTimespec(int64(d))
		// A signal may end it early: who waits looks at the clock anyway.
		if err := unix.Nanosleep(&ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait: %w", err)
		}
		return ctx.Err()
	}
	return agent.Wait(ctx, d)
}
