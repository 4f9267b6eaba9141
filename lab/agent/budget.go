package agent

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrSpent says that a run has come to the end of its budget: not an error of
// the agent's, but the reason why it ends.
var ErrSpent = errors.New("budget spent")

// Budget bounds what the agents of a run send together, in packets and in
// time, and keeps count of it. Its methods are safe for concurrent use.
type Budget struct {
	packets uint64
	until   time.Time

	mu          sync.Mutex
	spent       uint64
	bytes       uint64
	first, last time.Time
}

// NewBudget makes a budget of so many packets within so much time from now.
// Both must be positive: there is no run without an end.
func NewBudget(packets uint64, limit time.Duration) (*Budget, error) {
	if packets == 0 || limit <= 0 {
		return nil, fmt.Errorf("budget of %d packets within %v: both must be positive", packets, limit)
	}
	return &Budget{packets: packets, until: time.Now().Add(limit)}, nil
}

// Take asks to send up to n packets now and reports how many may go; it is
// ErrSpent when that is none. What was taken counts as sent.
func (b *Budget) Take(n int) (int, error) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.After(b.until) {
		return 0, fmt.Errorf("%w: the time is up after %d packets", ErrSpent, b.spent)
	}
	if b.spent == b.packets {
		return 0, fmt.Errorf("%w: all %d packets are sent", ErrSpent, b.packets)
	}
	n = int(min(uint64(max(n, 0)), b.packets-b.spent))
	if n > 0 {
		if b.spent == 0 {
			b.first = now
		}
		b.spent, b.last = b.spent+uint64(n), now
	}
	return n, nil
}

// Refund takes packets back that could not be sent.
func (b *Budget) Refund(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent -= min(b.spent, uint64(max(n, 0)))
}

// Weigh adds to the count of octets on the wire.
func (b *Budget) Weigh(octets int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes += uint64(max(octets, 0))
}

// Left is how much time remains; 0 at the end.
func (b *Budget) Left() time.Duration { return max(0, time.Until(b.until)) }

// Spent is what has been sent so far.
type Spent struct {
	Packets, Bytes uint64
	// First and Last are when the first and the last packets were handed to
	// the kernel; zero when there were none.
	First, Last time.Time
}

// Spent sums up.
func (b *Budget) Spent() Spent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Spent{b.spent, b.bytes, b.first, b.last}
}

// Rate is the mean rate in packets per second between the first packet and
// the last; 0 when there were fewer than two.
func (s Spent) Rate() float64 {
	d := s.Last.Sub(s.First).Seconds()
	if s.Packets < 2 || d <= 0 {
		return 0
	}
	return float64(s.Packets-1) / d
}
