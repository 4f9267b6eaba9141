package exposure

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"
	"unsafe"
)

// Traffic is how much was said; estimates, where it was sampled, and so no whole
// numbers before Round.
type Traffic struct {
	// Connections are those that were opened; of protocols without any, how
	// often the client took another port.
	Connections float64 `json:"connections"`
	// Seen are those of them that telemetry reported one by one. The others are
	// inferred from how it is sampled: nobody knows to what services they went.
	Seen    float64 `json:"seen"`
	Packets float64 `json:"packets"`
	// Bytes are of frames, both ways.
	Bytes float64 `json:"bytes"`
}

// Add adds what else was said.
func (t *Traffic) Add(u Traffic) {
	t.Connections += u.Connections
	t.Seen += u.Seen
	t.Packets += u.Packets
	t.Bytes += u.Bytes
}

// Round returns whole numbers. What is still to be added up must not be rounded:
// thousands of estimates of 1.4 are not as many of 1.
func (t Traffic) Round() Traffic {
	return Traffic{math.Round(t.Connections), math.Round(t.Seen), math.Round(t.Packets), math.Round(t.Bytes)}
}

func (a amount) traffic() Traffic {
	t := Traffic{a.connections, a.seen, a.packets, a.bytes}
	if t.Packets > 0 {
		t.Connections, t.Seen = max(t.Connections, 1), max(t.Seen, 1)
	}
	return t
}

// Key names a conversation.
type Key struct {
	Client, Server netip.Addr
	Proto          uint8
	Service        uint16 // port of the server; 0 where there is none
	// Port is where the client's packets enter (kernel interface index), 0
	// where that is not known.
	Port uint32
}

// Conversation is what was said between two.
type Conversation struct {
	Key
	// Answered: the server spoke, and the client went on.
	Answered bool
	// Before and Since a moment.
	Before, Since Traffic
}

// Conversations returns those of the hour that are meant, with what was said before
// a moment (Unix nanoseconds, counted in whole minutes) and since; in the order of
// their keys.
func (l *Ledger) Conversations(meant func(Key) bool, moment int64) []Conversation {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []Conversation
	split := minuteOf(moment)
	l.each(func(c entry) {
		k := c.ID.Key()
		x := Conversation{Key: Key{k.Opener, k.Responder, k.Proto, k.Port, c.port}}
		if !meant(x.Key) {
			return
		}
		x.Answered = c.state&stateAnswered != 0
		before, since := l.sum(c, l.first(), split), l.sum(c, split, math.MaxUint32)
		if x.Before, x.Since = before.traffic(), since.traffic(); before.packets > 0 && since.connections == 0 {
			x.Since.Connections, x.Since.Seen = 0, 0 // it goes on from before
		}
		if x.Before.Packets+x.Since.Packets+x.Before.Connections+x.Since.Connections > 0 {
			list = append(list, x)
		}
	})
	slices.SortFunc(list, func(a, b Conversation) int {
		return cmp.Or(a.Client.Compare(b.Client), a.Server.Compare(b.Server), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Service, b.Service))
	})
	return list
}

func minuteOf(t int64) uint32 {
	return uint32(max(0, min(t/int64(time.Minute), math.MaxUint32)))
}

func (l *Ledger) each(f func(entry)) {
	for _, b := range l.buckets {
		if b == nil {
			continue
		}
		for i := range b.meta {
			if b.meta[i].tag != 0 {
				f(b.entry(i))
			}
		}
	}
}

// Unlisted is the most that a host can have had of what there was no room for.
func (l *Ledger) Unlisted(host netip.Addr) Traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !host.IsValid() {
		return Traffic{}
	}
	return l.rest.of(l.minute, host.As16()).traffic()
}

// Share is a host's part in the answered conversations of the network: of its bytes
// or of its packets, whichever is more, within a span before a moment (Unix
// nanoseconds). Over is of how many minutes that is said, which is less than was
// asked for where the ledger does not reach back that far.
func (l *Ledger) Share(host netip.Addr, moment int64, span time.Duration) (share float64, over int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	to := min(minuteOf(moment), l.minute)
	from := max(to-min(to, uint32(span/time.Minute)), l.first(), minuteOf(l.began)+1) // the first minute is not whole
	if l.buckets == nil || !host.IsValid() || from >= to {
		return 0, 0
	}
	var all, own amount
	for m := from; m < to; m++ {
		all.add(l.answered[m%Minutes])
	}
	who := host.As16()
	l.each(func(c entry) {
		if c.state&stateCounted == 0 {
			return
		}
		if client, server := c.Ends(); client == who || server == who {
			own.add(l.sum(c, from, to))
		}
	})
	if all.packets == 0 {
		return 0, int(to - from)
	}
	// What is kept of minutes that are over is rounded, what is summed is not.
	return min(1, max(own.packets/all.packets, own.bytes/max(1, all.bytes))), int(to - from)
}

// Coverage says how much the ledger saw of what happened.
type Coverage struct {
	Since, Until time.Time // the span that it speaks of
	// Sampling is how many packets one sample stood for; 1 where all were
	// seen, and 0 where no volumes were exported, but connections alone.
	Sampling float64
	// Attempts is the same of connection attempts; 0 where there were none.
	Attempts float64
}

// Coverage tells how the hour was seen; Since and Until are zero where nothing was.
func (l *Ledger) Coverage() (c Coverage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.buckets == nil {
		return c
	}
	c.Since = time.Unix(0, max(l.began, int64(l.first())*int64(time.Minute)))
	c.Until = time.Unix(0, l.latest)
	var s, a sampling
	for m := l.first(); m <= l.minute; m++ {
		s.seen, s.stood = s.seen+l.samples[m%Minutes].seen, s.stood+l.samples[m%Minutes].stood
		a.seen, a.stood = a.seen+l.attempts[m%Minutes].seen, a.stood+l.attempts[m%Minutes].stood
	}
	if s.seen > 0 {
		c.Sampling = s.stood / s.seen
	} else if slices.Max(l.exported[:]) != 0 {
		c.Sampling = 1
	}
	if a.seen > 0 {
		c.Attempts = a.stood / a.seen
	}
	return c
}

// Stats is how full the ledger is.
type Stats struct {
	Conversations int `json:"conversations"`
	// Bytes is the memory that it takes.
	Bytes int `json:"bytes"`
	// Displaced counts conversations that had to give way to others.
	Displaced uint64 `json:"displaced"`
}

// Stats tells how full the ledger is.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Conversations: l.held, Displaced: l.displaced, Bytes: sizeLedger}
	for _, b := range l.buckets {
		if b != nil {
			s.Bytes += sizeBucket
		}
	}
	if l.rest.cells != nil {
		s.Bytes += sizeRest
	}
	return s
}

// Sizes in memory, of what is allocated at once.
const (
	sizeLedger = int(unsafe.Sizeof(Ledger{})) + buckets*int(unsafe.Sizeof((*bucket)(nil)))
	sizeBucket = int(unsafe.Sizeof(bucket{}))
	sizeRest   = int(unsafe.Sizeof([2][restRows][restCells]amount{}))
)
