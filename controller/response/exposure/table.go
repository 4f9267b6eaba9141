package exposure

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/connection"
)

// amount is what was counted of a conversation within a minute, or several; seen are
// those connections whose opening was reported itself.
type amount struct{ connections, seen, packets, bytes float64 }

func (a *amount) add(b amount) {
	a.connections += b.connections
	a.seen += b.seen
	a.packets += b.packets
	a.bytes += b.bytes
}

// packed is an amount of a minute that is over, in eight bytes.
type packed [4]quantity

// parts is how many parts of one are counted of what samples stand for. One of two in
// three packets stands for one and a half: in whole ones, the probes of a scan, each
// of which is a conversation of its own, would add up to two thirds or to four thirds.
const parts = 64

func pack(a amount) packed {
	return packed{quantityOf(parts * a.connections), quantityOf(parts * a.seen), quantityOf(parts * a.packets), quantityOf(a.bytes)}
}

func (p *packed) amount() amount {
	return amount{p[0].value() / parts, p[1].value() / parts, p[2].value() / parts, p[3].value()}
}

// quantity is a whole number of eleven bits, exact to 2047 and to 0.05 % above, and
// five bits of how far it is shifted: up to 4.4e12.
type quantity uint16

const mantissa = 11

func quantityOf(v float64) quantity {
	if v < 1<<mantissa-0.5 {
		return quantity(v + 0.5)
	}
	m, e := math.Frexp(v) // m in [0.5, 1)
	shift := e - mantissa
	n := quantity(m*(1<<mantissa) + 0.5)
	if n == 1<<mantissa {
		n, shift = n/2, shift+1
	}
	if shift > 31 {
		return math.MaxUint16
	}
	return quantity(shift)<<mantissa | n
}

func (q quantity) value() float64 {
	return float64(uint64(q&(1<<mantissa-1)) << (q >> mantissa))
}

// cell is how much was said in a conversation.
type cell struct {
	now  amount // in the present minute
	ring [Minutes]packed
}

// meta is what decides about its place.
type meta struct {
	port       uint32 // where its client enters, or whoever was seen first
	born, last uint32 // minutes
	clientPort uint16 // of its latest packet
	state      uint8
	tag        uint8 // part of the hash; 0 is free
}

// entry is a conversation in its place.
type entry struct {
	*connection.ID
	*meta
	*cell
}

const (
	stateSpoken   = 1 << iota // the server said something
	stateAnswered             // and the client went on
	stateCounted              // in the ledger's sum of answered ones
)

// turn notes who says what. A refusal is no answer, and asking once more is not
// going on.
func (c entry) turn(r *flow.Record, up bool) {
	switch {
	case r.Signal == flow.SignalRefuse || r.Signal == flow.SignalUnreachable:
	case !up:
		c.state |= stateSpoken
		if r.Source == flow.SourceLog && r.Signal == flow.SignalAccept || r.Source == flow.SourceIPFIX && r.Packets > 2 && c.now.packets > 2 {
			c.state |= stateAnswered // one record tells of all that was said
		}
	case c.state&stateSpoken != 0 && r.Signal != flow.SignalAttempt:
		c.state |= stateAnswered
	}
}

// at is what was counted in a minute of the hour.
func (l *Ledger) at(c entry, minute uint32) amount {
	if minute == l.minute {
		return c.now
	}
	return c.ring[minute%Minutes].amount()
}

// sum is what was counted from one minute to before another one.
func (l *Ledger) sum(c entry, from, to uint32) (a amount) {
	for m := max(from, c.born, l.first()); m < min(to, c.last+1); m++ {
		a.add(l.at(c, m))
	}
	return a
}

// first is the oldest minute of the hour.
func (l *Ledger) first() uint32 { return l.minute - min(l.minute, Minutes-1) }

// count takes a conversation that proved to be one into the sum of answered ones,
// for the minutes that are over.
func (l *Ledger) count(c entry) {
	c.state |= stateCounted
	for m := max(c.born, l.first()); m < l.minute; m++ {
		l.answered[m%Minutes].add(c.ring[m%Minutes].amount())
	}
}

// bucket is where a conversation may be, by its hash.
type bucket struct {
	meta  [ways]meta
	keys  [ways]connection.ID
	cells [ways]cell
}

func (b *bucket) entry(i int) entry { return entry{&b.keys[i], &b.meta[i], &b.cells[i]} }

func tagOf(h uint64) uint8 { return uint8(h>>56) | 0x80 }

func (l *Ledger) lookup(k *connection.ID, h uint64) (entry, bool) {
	b := l.buckets[h%buckets]
	if b == nil {
		return entry{}, false
	}
	tag := tagOf(h)
	for i := range b.meta {
		if b.meta[i].tag == tag && b.keys[i] == *k {
			return b.entry(i), true
		}
	}
	return entry{}, false
}

func (l *Ledger) insert(k *connection.ID, h uint64, port uint32) entry {
	b := l.buckets[h%buckets]
	if b == nil {
		b = &bucket{}
		l.buckets[h%buckets] = b
	}
	i := b.room(port)
	c := b.entry(i)
	if c.tag != 0 {
		l.displaced++
		l.rest.keep(l, c)
	} else {
		l.held++
	}
	if c.born == l.minute { // nothing is in the ring
		c.now = amount{}
	} else if c.born != 0 {
		*c.cell = cell{}
	}
	*c.ID = *k
	*c.meta = meta{port: port, born: l.minute, last: l.minute, tag: tagOf(h)}
	return c
}

// room returns a place for one that comes in by a port: a free one, else that of
// one which nobody answered, else any. Of these the port that has the most gives
// way, and of its own the one that was quiet for longest.
func (b *bucket) room(port uint32) int {
	var meant [ways]int
	n := 0
	for _, state := range [...]uint8{stateAnswered, 0} {
		for i := range b.meta {
			if b.meta[i].tag == 0 {
				return i
			}
			if b.meta[i].state&state == 0 {
				meant[n] = i
				n++
			}
		}
		if n > 0 {
			break
		}
	}
	from := b.heaviest(meant[:n], port)
	best := -1
	for _, i := range meant[:n] {
		if c := &b.meta[i]; c.port == from && (best < 0 || c.last < b.meta[best].last) {
			best = i
		}
	}
	return best
}

// heaviest is the port that has the most of some, with one more by a port that
// comes first where several have as many; it has one at least.
func (b *bucket) heaviest(of []int, port uint32) uint32 {
	most, many := b.meta[of[0]].port, 0
	for _, i := range of {
		p := b.meta[i].port
		if p == most && many > 0 {
			continue
		}
		n := 0
		for _, j := range of {
			if b.meta[j].port == p {
				n += 2
			}
		}
		if p == port {
			n += 3
		}
		if n > many {
			most, many = p, n
		}
	}
	return most
}

// roll goes on to a later minute.
func (l *Ledger) roll(minute uint32) {
	fresh := min(minute-l.minute, Minutes)
	for i := uint32(1); i <= fresh; i++ {
		slot := (l.minute + i) % Minutes
		l.samples[slot], l.attempts[slot], l.answered[slot] = sampling{}, sampling{}, amount{}
	}
	for _, b := range l.buckets {
		if b == nil {
			continue
		}
		for i := range b.meta {
			if b.meta[i].tag != 0 && !l.close(b.entry(i), minute, fresh) {
				b.meta[i].tag = 0
				l.held--
			}
		}
	}
	l.minute = minute
}

// close ends the present minute of a conversation, and reports whether anything is
// left of it in the hour of the next one.
func (l *Ledger) close(c entry, next, fresh uint32) bool {
	if c.last+Minutes <= next {
		return false
	}
	if c.last == l.minute {
		c.ring[l.minute%Minutes] = pack(c.now)
		if c.state&stateCounted != 0 && fresh < Minutes {
			l.answered[l.minute%Minutes].add(c.now)
		}
		c.now = amount{}
	}
	for i := uint32(1); i <= fresh; i++ {
		c.ring[(l.minute+i)%Minutes] = packed{}
	}
	return true
}
