package connection

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// DefaultCapacity is the number of connections of a Table whose configuration
// names none: about 50 MB (Table.Bytes).
const DefaultCapacity = 1 << 18

// Config is optional.
type Config struct {
	// Capacity is how many keys are held at least.
	Capacity int
	// Idle is after how long without records an answered connection makes
	// room like one that never was; 30 days if 0.
	Idle time.Duration
}

// Stats says what a Table was given, and so how much its connections can tell.
type Stats struct {
	// Records were given. Of these, Seen, Likely and Guessed are on
	// connections whose opener was known so when the record came; the others
	// are about no connection (ARP, neighbour discovery, DHCP, ICMP errors,
	// answers to what nobody saw asked) or have no addresses.
	Records, Seen, Likely, Guessed uint64
	// First and Last record, Unix nanoseconds.
	First, Last int64
	// Rates are the smallest and the largest sampling rate (packets that one
	// stands for) of what is not of the connection tap; 0 without any.
	RateFrom, RateTo float64
	// TapTo is the largest number of attempts that one which the connection tap
	// shows has stood for; 0 without any. Above 1 it was thinned, for attacks:
	// what they opened is known in number, but not one by one.
	TapTo float64
	// Sources counts records by kind of telemetry.
	Sources map[string]uint64
	// Connections are held; Forgotten found no room or made room, and were
	// never answered, or idle.
	Connections int
	Forgotten   uint64
	// NoRoom counts records on connections that found no room.
	NoRoom uint64
}

// Known is the share of records on connections whose opener was seen or is
// likely; 1 where there are none.
func (s Stats) Known() float64 {
	all := s.Seen + s.Likely + s.Guessed
	if all == 0 {
		return 1
	}
	return float64(s.Seen+s.Likely) / float64(all)
}

// Table sums records up by connections. It is not safe for concurrent use.
type Table struct {
	idle    int64
	now     int64
	openers *Openers
	tapped  Tapped
	entries *bounded.Table[ID, Connection]
	stats   Stats
	sources [flow.SourceCopy + 1]uint64
}

// New returns an empty table.
func New(cfg Config) *Table {
	if cfg.Capacity <= 0 {
		cfg.Capacity = DefaultCapacity
	}
	if cfg.Idle <= 0 {
		cfg.Idle = 30 * 24 * time.Hour
	}
	t := &Table{idle: int64(cfg.Idle), openers: NewOpeners()}
	t.entries = bounded.New[ID](cfg.Capacity, t.worth)
	return t
}

// Bytes is what the table takes in memory when it is full.
func (t *Table) Bytes() int { return t.entries.Bytes() }

// worth orders connections for eviction: what was never answered goes first,
// then what was answered within one minute only, last what comes back.
func (t *Table) worth(c *Connection) int64 {
	class := int64(0)
	if c.Answered() && t.now-c.Last <= t.idle {
		class = 1
		if c.Minutes > 1 {
			class = 2
		}
	}
	return class<<59 | c.Last>>3&(1<<59-1)
}

// Event is what a record said of a connection.
type Event struct {
	// Connection is in the table, and may be overwritten by the next record.
	Connection *Connection
	// Up is true for what the opener sent.
	Up bool
	// Fresh is true for the first record of a key.
	Fresh bool
	// Opens is how many conversations the record says began, itself and those
	// that it stands for; 0 where it begins none, or one that was told of.
	Opens float64
	// Packets and Bytes are what the record adds to the volume.
	Packets, Bytes float64
	// ID is the connection's.
	ID ID
}

// Observe takes a record in. It returns false for one that is about no
// connection, or for which there is no room.
func (t *Table) Observe(r *flow.Record) (Event, bool) {
	t.count(r)
	switch r.Signal {
	case flow.SignalARPRequest, flow.SignalARPReply, flow.SignalForged:
		return Event{}, false
	case flow.SignalUnreachable:
		return t.unreachable(r)
	}
	if !unicast(r.Src) || !r.Dst.IsValid() || r.Dst.IsLoopback() || r.Dst.IsUnspecified() || r.Src == r.Dst || isDHCP(r) {
		return Event{}, false
	}
	s, ok := t.openers.Of(r)
	if !ok {
		return Event{}, false
	}
	if r.Proto == flow.ProtoUDP && s.Opening == Guessed && t.firstDatagram(r) {
		s.Up, s.Opening = true, Likely
	}
	everybody := !unicast(r.Dst) || r.DstMAC[0]&1 != 0
	if everybody {
		s.Up, s.Opening = true, Seen // nobody answers from there
	}
	e, ok := t.place(r, s)
	if ok && everybody {
		e.Connection.Everybody = true
	}
	return e, ok
}

// count keeps the statistics.
func (t *Table) count(r *flow.Record) {
	s := &t.stats
	s.Records++
	t.now = max(t.now, r.Time)
	if s.First == 0 {
		s.First = r.Time
	}
	s.Last = t.now
	if int(r.Source) < len(t.sources) {
		t.sources[r.Source]++
	}
	if r.Source != flow.SourceTap && r.Source != flow.SourceCopy {
		if s.RateFrom == 0 || r.Rate < s.RateFrom {
			s.RateFrom = r.Rate
		}
		s.RateTo = max(s.RateTo, r.Rate)
	} else if r.Signal == flow.SignalAttempt {
		s.TapTo = max(s.TapTo, r.Rate)
	}
}

// firstDatagram reports whether a datagram on no known connection is its
// first: every packet is seen, and has been for longer than a conversation is
// silent.
func (t *Table) firstDatagram(r *flow.Record) bool {
	single := r.Source == flow.SourcePacket || r.Source == flow.SourceSFlow || r.Source == flow.SourceTap
	return single && r.Rate <= 1 && t.now-t.stats.First > datagramGap
}

// place finds the connection that a record is on, or makes it.
func (t *Table) place(r *flow.Record, s Proof) (Event, bool) {
	// As if the sender had opened, and the other way round.
	there, here := services(r)
	sent, received := IDOf(r.Src, r.Dst, r.Proto, there), IDOf(r.Dst, r.Src, r.Proto, here)
	k, turned := sent, received
	if !s.Up {
		k, turned = received, sent
	}
	_, c := t.entries.Find(k)
	if s.Opening < Seen && (c == nil || c.Opening < Seen) {
		if _, other := t.entries.Find(turned); other != nil && (c == nil || other.Opening > c.Opening) {
			k, turned, c, s.Up = turned, k, other, !s.Up
			s.Opening = other.Opening
		}
	}
	fresh := c == nil
	if fresh {
		if s.Phase == Refuses || s.Phase == Silent {
			return Event{}, false // an answer to what nobody saw
		}
		if _, c, _ = t.entries.Put(k, t.now>>3&(1<<59-1)); c == nil {
			t.stats.NoRoom++
			return Event{}, false
		}
	}
	if s.Opening == Seen && c.Opening < Seen && k != turned {
		t.turn(r, s.Up, turned, c)
	}
	c.Opening = max(c.Opening, s.Opening)
	return t.tell(r, s, k, c, fresh), true
}

// turn moves what was wrongly taken for a connection of the other direction
// where it belongs.
func (t *Table) turn(r *flow.Record, up bool, turned ID, c *Connection) {
	i, wrong := t.entries.Find(turned)
	if wrong == nil || wrong.Opening == Seen {
		return
	}
	// The opener's port of the one taken wrongly is the service's of this.
	service := r.SrcPort
	if up {
		service = r.DstPort
	}
	if wrong.port != service && wrong.port != 0 {
		return
	}
	if c.First == 0 {
		c.First, c.Last = wrong.First, wrong.Last
	}
	c.merge(wrong)
	t.entries.Delete(i)
}

// tell adds a record to its connection.
func (t *Table) tell(r *flow.Record, s Proof, k ID, c *Connection, fresh bool) Event {
	e := Event{Connection: c, Up: s.Up, Fresh: fresh, ID: k}
	if again := t.tapped.Again(r); s.Up && !again && (s.Phase == Opens || fresh && s.Phase != Refuses) {
		e.Opens = c.begins(r)
	}
	c.seen(r)
	switch c.Opening {
	case Seen:
		t.stats.Seen++
	case Likely:
		t.stats.Likely++
	default:
		t.stats.Guessed++
	}
	dropped := r.Signal == flow.SignalDropped || r.Verdict == flow.VerdictDropped
	switch {
	case dropped:
		c.Dropped += r.ScaledPackets()
	case s.Phase == Silent:
		c.Silences++
		return e // it stands for no packet
	case s.Phase == Refuses && !s.Up && !c.Answered():
		c.Refusals++
	case s.Phase == Accepts:
		c.Accepts++
	case s.Up:
		c.asked = true
	case s.Phase != Refuses && says(r):
		c.said = true
	}
	v := &c.Down
	if s.Up {
		v = &c.Up
	}
	v.Records++
	if r.Source != flow.SourceTap {
		e.Packets, e.Bytes = r.ScaledPackets(), r.ScaledBytes()
		v.Packets += e.Packets
		v.Bytes += e.Bytes
	}
	return e
}

// says reports whether a record of a responder is an answer: of TCP, a segment
// that acknowledges and does not reset.
func says(r *flow.Record) bool {
	if r.Proto != flow.ProtoTCP || r.TCPFlags == 0 {
		return true
	}
	return r.TCPFlags&flow.ACK != 0 && (r.TCPFlags&flow.RST == 0 || r.Packets > 1)
}

// unreachable handles an ICMP error that quotes what it answers. The tap's
// does not, and tells nothing here.
func (t *Table) unreachable(r *flow.Record) (Event, bool) {
	q := r.Inner
	if !q.Valid() {
		return Event{}, false
	}
	k := IDOf(q.Src, q.Dst, q.Proto, q.DstPort)
	_, c := t.entries.Find(k)
	if c == nil {
		return Event{}, false
	}
	c.seen(r)
	c.Refusals++
	return Event{Connection: c, ID: k}, true
}

// Each yields what is held, in no order. Nothing may be observed meanwhile.
func (t *Table) Each() iter.Seq2[Key, *Connection] {
	return func(yield func(Key, *Connection) bool) {
		for i, k := range t.entries.All() {
			if !yield(k.Key(), t.entries.At(i)) {
				return
			}
		}
	}
}

// All returns what is held, in the order of openers, responders and services.
func (t *Table) All() []Entry {
	out := make([]Entry, 0, t.entries.Len())
	for k, c := range t.Each() {
		out = append(out, Entry{k, *c})
	}
	Sort(out)
	return out
}

// Sort orders connections by openers, responders and services.
func Sort(list []Entry) {
	slices.SortFunc(list, func(a, b Entry) int { return a.Key.Compare(b.Key) })
}

// Find returns what is held of a key; nil when nothing is.
func (t *Table) Find(k Key) *Connection {
	_, c := t.entries.Find(k.ID())
	return c
}

// Entry is a connection with its key.
type Entry struct {
	Key
	Connection
}

// Compare orders keys by opener, responder and service.
func (k Key) Compare(o Key) int {
	return cmp.Or(k.Opener.Compare(o.Opener), k.Responder.Compare(o.Responder), k.Service.Compare(o.Service))
}

// Compare orders services by protocol, port, type and code.
func (s Service) Compare(o Service) int {
	return cmp.Or(cmp.Compare(s.Proto, o.Proto), cmp.Compare(s.Port, o.Port), cmp.Compare(s.Type, o.Type), cmp.Compare(s.Code, o.Code))
}

// Stats returns what was counted so far.
func (t *Table) Stats() Stats {
	s := t.stats
	s.Connections, s.Forgotten = t.entries.Len(), t.entries.Evicted()+t.entries.Rejected()
	s.Sources = map[string]uint64{}
	for source, n := range t.sources {
		if n > 0 {
			s.Sources[flow.Source(source).String()] = n
		}
	}
	return s
}

// unicast reports whether a single host can have the address.
func unicast(a netip.Addr) bool {
	return a.IsValid() && !a.IsMulticast() && !a.IsUnspecified() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// isDHCP reports whether a record is of DHCP (RFC 2131, RFC 8415), which
// policies allow implicitly.
func isDHCP(r *flow.Record) bool {
	if r.Proto != flow.ProtoUDP {
		return false
	}
	server := func(p uint16) bool { return p == 67 || p == 547 }
	client := func(p uint16) bool { return p == 68 || p == 546 }
	return server(r.SrcPort) && (client(r.DstPort) || server(r.DstPort)) || client(r.SrcPort) && server(r.DstPort)
}
