package benign

import (
	"slices"
	"sync"
	"time"
)

// Flow is one honest exchange: a request with its answer, a transfer, a poll,
// or a second of a stream.
type Flow struct {
	// Behaviour is what kind of traffic it belongs to, as in Profiles.
	Behaviour string
	// Client and Server are nodes; of a stream the Client is who sends.
	Client, Server string
	Start, End     time.Time
	// Harmed is true when somebody would have noticed: no answer in time, a
	// transfer that broke off, or a second of a stream with losses.
	Harmed bool
	// Lost is how many packets are known to be lost: of streams those that
	// did not arrive, of everything else 1 when it was harmed.
	Lost int
}

// Sum adds flows up.
type Sum struct {
	Flows, Harmed, Lost int
}

// add counts one more.
func (s *Sum) add(f Flow) {
	s.Flows++
	s.Lost += f.Lost
	if f.Harmed {
		s.Harmed++
	}
}

// keepFlows bounds the flows that are remembered, the latest: some 20 MB, and
// an hour of the busiest profile.
const keepFlows = 1 << 17

// ledger remembers flows. Its methods are safe for concurrent use.
type ledger struct {
	mu    sync.Mutex
	flows []Flow // a ring once it is full
	next  int
	open  map[*entry]struct{}
	total map[string]*Sum
	idle  int // exchanges that nobody serves
}

// entry is an exchange under way.
type entry struct {
	start time.Time
}

func newLedger() *ledger {
	return &ledger{open: map[*entry]struct{}{}, total: map[string]*Sum{}}
}

// begin opens an entry.
func (l *ledger) begin(start time.Time) *entry {
	e := &entry{start}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[e] = struct{}{}
	return e
}

// end closes an entry with what came of it.
func (l *ledger) end(e *entry, f Flow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, e)
	if l.total[f.Behaviour] == nil {
		l.total[f.Behaviour] = &Sum{}
	}
	l.total[f.Behaviour].add(f)
	if len(l.flows) < keepFlows {
		l.flows = append(l.flows, f)
		return
	}
	l.flows[l.next] = f
	l.next = (l.next + 1) % keepFlows
}

// drop closes an entry that says nothing about the network.
func (l *ledger) drop(e *entry, unserved bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, e)
	if unserved {
		l.idle++
	}
}

// settled reports whether all that began before a moment has ended.
func (l *ledger) settled(before time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for e := range l.open {
		if e.start.Before(before) {
			return false
		}
	}
	return true
}

// between lists the flows that began at from or later and before to, in
// order.
func (l *ledger) between(from, to time.Time) []Flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Flow
	for _, f := range l.flows {
		if !f.Start.Before(from) && f.Start.Before(to) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b Flow) int { return a.Start.Compare(b.Start) })
	return out
}

// totals sums up per behaviour.
func (l *ledger) totals() (all map[string]Sum, unserved int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = make(map[string]Sum, len(l.total))
	for name, s := range l.total {
		all[name] = *s
	}
	return all, l.idle
}
