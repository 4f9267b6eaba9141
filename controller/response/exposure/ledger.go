package exposure

import (
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
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

	// The latest minute in which the connection tap, and packet samples, told of
	// anything, and by port (its low bits) flow export.
	tapped, sampled uint32
	exported        [256]uint32

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
	return &Ledger{seed: maphash.MakeSeed(), thin: thinning{keep: 1, state: rand.Uint64() | 1}}
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
	if r.Source == flow.SourceSFlow && !opens(r.Signal) {
		if stands = l.thin.take(r.Time); stands == 0 {
			return
		}
	}
	if !l.advance(r.Time) {
		return
	}
	v := l.weigh(r, stands)
	up, sure := direction(r)
	c, up, ok := l.find(r, up, sure)
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
func (l *Ledger) weigh(r *flow.Record, stands float64) (v amount) {
	slot := l.minute % Minutes
	v.packets, v.bytes = stands*r.ScaledPackets(), stands*r.ScaledBytes()
	if r.Signal == flow.SignalAttempt {
		v.connections, v.seen = r.Rate, 1
	}
	switch r.Source {
	case flow.SourceTap:
		if opens(r.Signal) {
			l.tapped = l.minute
			break
		}
		if l.lately(l.sampled) {
			v.packets, v.bytes = 0, 0
		}
	case flow.SourcePacket:
		l.samples[slot].note(r, v.packets)
	case flow.SourceSFlow:
		l.sampled = l.minute
		l.samples[slot].note(r, v.packets)
		if l.lately(l.exported[r.InPort%uint32(len(l.exported))]) || opens(r.Signal) && l.lately(l.tapped) {
			return amount{}
		}
	case flow.SourceIPFIX, flow.SourceLog:
		l.exported[r.InPort%uint32(len(l.exported))] = l.minute
		if up, _ := direction(r); up {
			v.connections, v.seen = r.Rate, 1
		}
	}
	l.attempts[slot].seen += v.seen
	l.attempts[slot].stood += v.connections
	return v
}

// lately reports whether a minute is the present one or the one before.
func (l *Ledger) lately(minute uint32) bool { return minute != 0 && minute+1 >= l.minute }

// opens reports whether a signal is of packets that the tap sees each of.
func opens(s flow.Signal) bool {
	switch s {
	case flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalFinish, flow.SignalProbe:
		return true
	}
	return false
}

// ICMP and ICMPv6 types of echo (RFC 792, RFC 4443).
const (
	echoRequest, echoReply   = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

// direction reports whether a record goes from client to server, and whether that
// is certain: else the lower port is taken for the service's.
func direction(r *flow.Record) (up, sure bool) {
	switch {
	case r.Signal == flow.SignalAttempt:
		return true, true
	case r.Signal == flow.SignalAccept:
		return false, true
	case r.Proto == flow.ProtoICMP && r.ICMPType == echoRequest, r.Proto == flow.ProtoICMPv6 && r.ICMPType == echoRequest6:
		return true, true
	case r.Proto == flow.ProtoICMP && r.ICMPType == echoReply, r.Proto == flow.ProtoICMPv6 && r.ICMPType == echoReply6:
		return false, true
	}
	return r.SrcPort >= r.DstPort, false
}

// answers reports whether a record only answers: it begins no conversation.
func answers(r *flow.Record, up, sure bool) bool {
	return !up && sure || r.Signal == flow.SignalRefuse || r.Signal == flow.SignalUnreachable
}

// find returns the conversation that a record is of, and which way it goes there;
// ok is false where there is none, and none begins.
func (l *Ledger) find(r *flow.Record, up, sure bool) (c entry, forth, ok bool) {
	k := keyOf(r, up)
	h := maphash.Comparable(l.seed, k)
	if c, ok = l.lookup(&k, h); ok {
		return c, up, true
	}
	if !sure {
		other := keyOf(r, !up)
		if c, ok = l.lookup(&other, maphash.Comparable(l.seed, other)); ok {
			return c, !up, true
		}
	}
	if answers(r, up, sure) {
		return c, up, false
	}
	return l.insert(&k, h, r.InPort), up, true
}

// key names a conversation.
type key struct {
	client, server [16]byte
	service        uint16
	proto          uint8
}

func keyOf(r *flow.Record, up bool) key {
	if up {
		return key{r.Src.As16(), r.Dst.As16(), r.DstPort, r.Proto}
	}
	return key{r.Dst.As16(), r.Src.As16(), r.SrcPort, r.Proto}
}

func address(a [16]byte) netip.Addr { return netip.AddrFrom16(a).Unmap() }
