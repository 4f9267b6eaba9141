// Package connection turns flow records of any source into what policies are
// about: who opened connections to whom, for which service, and whether they
// were answered.
//
// # Who opened
//
// A handshake says it: the SYN or the SYN+ACK, the question or the answer of an
// ICMP exchange, a log that names the originator. Records without one are told
// by the connections that are known already, and else by their ports: where
// one is that of a service and the other is not, the opener is Likely; where
// both look alike, it is Guessed, and stays so until something better comes. A
// guess is never passed off as more: every connection says how its opener is
// known, and Stats how many records were. Of 1,277 answered connections in three
// public logs (Stratosphere's 008 and 011-zeek-mixed, CTU-SME-11), read without
// their handshakes, the opener of 28 was guessed, and of the others two were
// wrong.
//
// # Memory
//
// A Table has a fixed number of entries (bounded.Table). What was never
// answered, as scans and forged sources make it, only takes the place of what
// was never answered either: it can evict no connection that was.
package connection

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Key is what connections are summed up by: all that one opener opens to one
// service of one responder.
type Key struct {
	Opener, Responder netip.Addr
	Service
}

// String is "10.0.0.1 -> 10.0.0.2 tcp/443".
func (k Key) String() string {
	return fmt.Sprintf("%s -> %s %s", k.Opener, k.Responder, k.Service)
}

// Service is what a responder is asked for.
type Service struct {
	Proto uint8
	// Port is the responder's, for TCP, UDP and SCTP.
	Port uint16
	// Type and Code are those of the question, for ICMP and ICMPv6.
	Type, Code uint8
}

// String is "tcp/443", "icmp/8/0", or the protocol alone.
func (s Service) String() string {
	name := flow.ProtoName(s.Proto)
	switch s.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
		return fmt.Sprintf("%s/%d", name, s.Port)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return fmt.Sprintf("%s/%d/%d", name, s.Type, s.Code)
	}
	return name
}

// Opening says how it is known who opened.
type Opening uint8

// Kinds of evidence, rising.
const (
	// Guessed by the order of packets or of port numbers: as good as not known.
	Guessed Opening = iota + 1
	// Likely, for the ports are those of a service and of a client, or because
	// the first datagram was seen.
	Likely
	// Seen: a handshake, a question or its answer, or a log says so.
	Seen
)

// String names the evidence.
func (o Opening) String() string {
	switch o {
	case Guessed:
		return "guessed"
	case Likely:
		return "likely"
	case Seen:
		return "seen"
	}
	return "unknown"
}

// MarshalText writes the name.
func (o Opening) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Volume is what one side sent, scaled by the sampling rate. The connection
// tap shows single packets of a connection and does not count here.
type Volume struct {
	Packets, Bytes float64
	// Records is how many records say so, of any source.
	Records uint64
}

// Connection is what is known of all connections of a key.
type Connection struct {
	Opening Opening
	// First and Last are when it was first and last seen, Unix nanoseconds.
	First, Last int64
	// Minutes and Days are in how many of them (by the clock, UTC) it was there.
	Minutes, Days uint32
	// Up is what the opener sent, Down what the responder sent.
	Up, Down Volume
	// Accepts, Refusals and Silences are how attempts ended, as far as that
	// was seen: a handshake, a reset or an ICMP error, a log's statement that
	// nobody answered.
	Accepts, Refusals, Silences uint32
	// Dropped counts packets of which the switch said that it dropped them.
	Dropped float64
	// Mark is the owner's; it is 0 in a connection that is new to the table.
	Mark uint64

	opens, sampled float64
	opened         int64  // when a conversation last began
	port           uint16 // the opener's, of the latest conversation
	asked          bool   // the opener sent something
	said           bool   // the responder sent something that is no refusal

	// Everybody is set when frames of it were sent to a whole link, or to a
	// group on it: to a multicast address, or to the broadcast address of a
	// network, whose length nobody needs to know.
	Everybody bool
}

// Answered reports whether the responder was seen to take part: it accepted, or
// both sides sent something, the responder more than a refusal.
func (c *Connection) Answered() bool { return c.Accepts > 0 || c.asked && c.said }

// Opens estimates how many conversations began, at least one: counted where first
// packets are told of as such, in full or by a tap that is thinned, and scaled where
// packets are sampled.
func (c *Connection) Opens() float64 {
	if c.opens > 0 {
		return c.opens
	}
	return max(1, c.sampled)
}

// Bytes is what both sides sent.
func (c *Connection) Bytes() float64 { return c.Up.Bytes + c.Down.Bytes }

// Packets is what both sides sent.
func (c *Connection) Packets() float64 { return c.Up.Packets + c.Down.Packets }

// merge takes in what was known of the same conversations with the sides
// mistaken.
func (c *Connection) merge(wrong *Connection) {
	c.First = min(c.First, wrong.First)
	c.Up.add(wrong.Down)
	c.Down.add(wrong.Up)
	c.Dropped += wrong.Dropped
	c.Minutes, c.Days = max(c.Minutes, wrong.Minutes), max(c.Days, wrong.Days)
	c.asked, c.said = c.asked || wrong.said, c.said || wrong.asked
	c.Everybody = c.Everybody || wrong.Everybody
}

func (v *Volume) add(w Volume) {
	v.Packets += w.Packets
	v.Bytes += w.Bytes
	v.Records += w.Records
}

const (
	minute = int64(time.Minute)
	day    = int64(24 * time.Hour)
	// redial is how long a port of the opener is taken for the same
	// conversation: its retransmissions, or the same packet told by another
	// telemetry.
	redial = int64(8 * time.Second)
	// datagramGap is the silence after which datagrams from the same port
	// begin another conversation.
	datagramGap = int64(10 * time.Second)
)

// seen moves the clock of a connection, by the time that a record is about.
func (c *Connection) seen(r *flow.Record) {
	from, to := r.Time, r.Time
	switch r.Source {
	case flow.SourceIPFIX:
		from -= r.Duration
	case flow.SourceLog:
		to += r.Duration
	}
	if c.First == 0 {
		c.First, c.Last = from, from-day // none of it is counted yet
	}
	// How many units the record has beyond those that are counted.
	more := func(unit int64) uint32 { return uint32(max(0, to/unit-max(from/unit-1, c.Last/unit))) }
	c.Minutes += more(minute)
	c.Days += more(day)
	c.First, c.Last = min(c.First, from), max(c.Last, to)
}

// begins counts the conversations that a record opens, and those that it stands
// for; none where it was told of before.
func (c *Connection) begins(r *flow.Record) float64 {
	known := c.opened != 0
	again := known && r.Source != flow.SourceLog && r.SrcPort == c.port
	if again && r.Proto == flow.ProtoUDP {
		again = r.Time-c.Last <= datagramGap
	} else if again {
		again = r.Time-c.opened <= redial
	}
	if again {
		return 0
	}
	c.opened, c.port = r.Time, r.SrcPort
	n := max(1, r.Rate)
	if r.Rate <= 1 || r.Source == flow.SourceTap && r.Signal == flow.SignalAttempt {
		c.opens += n
	} else {
		c.sampled += n
	}
	return n
}

// ID is a Key without pointers, hashed as plain memory: for maps with many.
type ID struct {
	opener, responder [16]byte
	service           uint32 // protocol<<16 | port, or type<<8 | code
}

// ID returns the key's ID.
func (k Key) ID() ID {
	low := k.Port
	if k.Proto == flow.ProtoICMP || k.Proto == flow.ProtoICMPv6 {
		low = uint16(k.Type)<<8 | uint16(k.Code)
	}
	return IDOf(k.Opener, k.Responder, k.Proto, low)
}

// IDOf returns the ID of a connection: low is the port of a service, or type and code
// of a question, 0 where there is none.
func IDOf(opener, responder netip.Addr, proto uint8, low uint16) ID {
	return ID{opener.As16(), responder.As16(), uint32(proto)<<16 | uint32(low)}
}

// Ends returns the addresses of who opened and of the other end, IPv4 as IPv6
// (netip.Addr.As16).
func (p ID) Ends() (opener, responder [16]byte) { return p.opener, p.responder }

// Key returns the key of an ID.
func (p ID) Key() Key {
	k := Key{Opener: netip.AddrFrom16(p.opener).Unmap(), Responder: netip.AddrFrom16(p.responder).Unmap()}
	k.Proto = uint8(p.service >> 16)
	switch k.Proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
		k.Port = uint16(p.service)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		var b [2]byte
		binary.BigEndian.PutUint16(b[:], uint16(p.service))
		k.Type, k.Code = b[0], b[1]
	}
	return k
}
