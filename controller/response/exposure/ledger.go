package exposure

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
)

const (
	// Minutes is how far back the ledger goes.
	Minutes = 60
	// Capacity is how many conversations it holds at most.
	Capacity = buckets * ways

	buckets = 2048
	ways    = 16
)

// Ledger is the traffic of the last hour. Its methods may be called side by side.
type Ledger struct {
	mu      sync.Mutex
	seed    maphash.Seed
	buckets []*bucket
	minute  uint32 // of the newest record, since 1970
	began   int64  // time of the first record, Unix nanoseconds
	latest  int64  // of the newest
	held    int

	// Of answered conversations, by minute; and how records were sampled.
	answered [Minutes]amount
	samples  [Minutes]sampling
	attempts [Minutes]sampling
	rest     rest
	thin     thinning

	openers *connection.Openers
	tapped  connection.Tapped

	// The latest minute in which packet samples told of anything, and by port (its
	// low bits) flow export.
	sampled  uint32
	exported [256]uint32

	displaced uint64
}

// sampling is what was seen, and what that stood for.
type sampling struct{ seen, stood float64 }

func (s *sampling) note(r *flow.Record, packets float64) {
	s.seen += float64(r.Packets)
	s.stood += packets
}

// New returns an empty ledger; it takes memory as it fills.
func New() *Ledger {
	return &Ledger{seed: maphash.MakeSeed(), openers: connection.NewOpeners(), thin: thinning{keep: 1, state: rand.Uint64() | 1}}
}

// Observe counts a batch of records. Packets that were dropped are nobody's loss.
func (l *Ledger) Observe(batch []flow.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range batch {
		l.observe(&batch[i])
	}
}

func (l *Ledger) observe(r *flow.Record) {
	switch r.Signal {
	case flow.SignalDropped, flow.SignalLogged, flow.SignalForged, flow.SignalARPRequest, flow.SignalARPReply, flow.SignalSilence:
		return
	}
	if r.Verdict == flow.VerdictDropped || !r.Src.IsValid() || !r.Dst.IsValid() || r.Src.IsUnspecified() {
		return
	}
	stands := 1.0
	if r.Source == flow.SourceSFlow && !connection.Tappable(r.Signal) {
		if stands = l.thin.take(r.Time); stands == 0 {
			return
		}
	}
	if !l.advance(r.Time) {
		return
	}
	p, ok := l.openers.Of(r)
	if !ok { // ICMP errors, and what finds neighbours
		p = connection.Proof{Up: true, Opening: connection.Guessed}
		if r.Signal == flow.SignalUnreachable {
			p.Phase = connection.Refuses
		}
	}
	v := l.weigh(r, p, stands)
	c, up, ok := l.find(r, p)
	if !ok {
		l.rest.add(l.minute, r, v)
		return
	}
	c.turn(r, up)
	if c.state&stateAnswered != 0 && c.state&stateCounted == 0 {
		l.count(c)
	}
	if up && r.SrcPort != c.clientPort {
		if c.clientPort = r.SrcPort; r.Proto != flow.ProtoTCP {
			v.connections, v.seen = max(v.connections, 1), 1
		}
	}
	c.last = l.minute
	c.now.add(v)
	if up && r.InPort != 0 {
		c.port = r.InPort
	}
}

// advance takes the time of a record; it reports whether that is of the hour. A
// record that comes late counts for the minute that is.
func (l *Ledger) advance(t int64) bool {
	minute := uint32(t / int64(time.Minute))
	switch {
	case l.buckets == nil:
		l.buckets = make([]*bucket, buckets)
		l.minute, l.began = minute, t
	case minute > l.minute:
		l.roll(minute)
	case minute+Minutes <= l.minute:
		return false
	}
	l.latest = max(l.latest, t)
	return true
}

// weigh says what a record counts for, besides that two have talked: nothing where
// other telemetry tells of the same packets. It stands for so many like it.
func (l *Ledger) weigh(r *flow.Record, p connection.Proof, stands float64) (v amount) {
	again := l.tapped.Again(r)
	slot := l.minute % Minutes
	v.packets, v.bytes = stands*r.ScaledPackets(), stands*r.ScaledBytes()
	if r.Signal == flow.SignalAttempt {
		v.connections, v.seen = r.Rate, 1
	}
	switch r.Source {
	case flow.SourceTap:
		if !connection.Tappable(r.Signal) && l.lately(l.sampled) {
			v.packets, v.bytes = 0, 0
		}
	case flow.SourcePacket:
		l.samples[slot].note(r, v.packets)
	case flow.SourceSFlow:
		l.sampled = l.minute
		l.samples[slot].note(r, v.packets)
		if l.lately(l.exported[r.InPort%uint32(len(l.exported))]) || again {
			return amount{}
		}
	case flow.SourceIPFIX, flow.SourceLog:
		l.exported[r.InPort%uint32(len(l.exported))] = l.minute
		if p.Up {
			v.connections, v.seen = r.Rate, 1
		}
	}
	l.attempts[slot].seen += v.seen
	l.attempts[slot].stood += v.connections
	return v
}

// lately reports whether a minute is the present one or the one before.
func (l *Ledger) lately(minute uint32) bool { return minute != 0 && minute+1 >= l.minute }

// find returns the conversation that a record is of, and which way it goes there;
// ok is false where there is none, and none begins.
func (l *Ledger) find(r *flow.Record, p connection.Proof) (c entry, up, ok bool) {
	client, server, service, other := r.Src, r.Dst, r.DstPort, r.SrcPort
	if !p.Up {
		client, server, service, other = server, client, other, service
	}
	k := connection.IDOf(client, server, r.Proto, service) // all ICMP between two is one
	h := maphash.Comparable(l.seed, k)
	if c, ok = l.lookup(&k, h); ok {
		return c, p.Up, true
	}
	if p.Opening < connection.Seen {
		turned := connection.IDOf(server, client, r.Proto, other)
		if c, ok = l.lookup(&turned, maphash.Comparable(l.seed, turned)); ok {
			return c, !p.Up, true
		}
	}
	if p.Phase == connection.Refuses || p.Opening == connection.Seen && !p.Up {
		return c, p.Up, false // it answers: nothing begins
	}
	return l.insert(&k, h, r.InPort), p.Up, true
}
