package oftest

import (
	"net/netip"
	"slices"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// endpoint is one side of a connection as the tracker tells connections
// apart: by port, or for ICMP by the echo's ID and the message's type.
type endpoint struct {
	addr     netip.Addr
	port     uint16
	icmpType uint8
}

// connKey is one direction of a connection.
type connKey struct {
	zone     uint16
	proto    uint8
	src, dst endpoint
}

func (k connKey) reversed() connKey {
	k.src, k.dst = k.dst, k.src
	return k
}

// tuple is the key as ct_nw_src and its neighbours show it.
func (k connKey) tuple() Tuple {
	t := Tuple{Src: k.src.addr, Dst: k.dst.addr, Proto: k.proto, SrcPort: k.src.port, DstPort: k.dst.port}
	if k.proto == ProtoICMP || k.proto == ProtoICMPv6 {
		t.SrcPort, t.DstPort = uint16(k.src.icmpType), 0
	}
	return t
}

// connState is how far a connection has come. For protocols other than TCP
// only firstSeen, moreSeen and bothWays occur.
type connState uint8

const (
	firstSeen connState = iota
	moreSeen
	bothWays
)

// conn is a connection that was committed.
type conn struct {
	key     connKey // the original direction
	state   connState
	peers   [2]tcpPeer // of TCP: original, reply
	scaled  bool       // of TCP: picked up in the middle, windows may be scaled
	mark    uint32
	label   [16]byte
	expires time.Time
}

// Connection is an entry of the connection tracker.
type Connection struct {
	Zone    uint16
	Orig    Tuple
	Mark    uint32
	Label   [16]byte
	Expires time.Time
}

// tracker is the connection tracker of Open vSwitch's userspace datapath.
type tracker struct {
	limit int // connections per zone, 0 for none
	conns map[connKey]*conn
}

func newTracker(limit int) *tracker { return &tracker{limit: limit, conns: map[connKey]*conn{}} }

// Connections returns the tracker's entries, in no particular order.
func (s *Switch) Connections() []Connection {
	var out []Connection
	now := s.cfg.Now()
	for _, c := range s.tracker.conns {
		if now.Before(c.expires) {
			out = append(out, Connection{Zone: c.key.zone, Orig: c.key.tuple(), Mark: c.mark, Label: c.label, Expires: c.expires})
		}
	}
	return out
}

// FlushConnections forgets the connections that match says yes to, as
// NXT_CT_FLUSH does.
func (s *Switch) FlushConnections(match func(Connection) bool) {
	for k, c := range s.tracker.conns {
		if match(Connection{Zone: c.key.zone, Orig: c.key.tuple(), Mark: c.mark, Label: c.label, Expires: c.expires}) {
			delete(s.tracker.conns, k)
		}
	}
}

// find returns the connection that a packet with this key belongs to, and
// whether it travels in the reply direction.
func (t *tracker) find(k connKey, now time.Time) (c *conn, reply bool) {
	if c, reply = t.conns[k], false; c == nil {
		c, reply = t.conns[k.reversed()], true
	}
	if c != nil && !now.Before(c.expires) {
		delete(t.conns, c.key)
		return nil, false
	}
	return c, reply && c != nil
}

// track is a ct action on a packet: known is what the packet carries from an
// earlier ct action. It returns what it carries from now on.
func (t *tracker) track(now time.Time, p *Packet, known Conntrack, a *of.Conntrack, zone uint16) (Conntrack, Tracked) {
	ct := Conntrack{Zone: zone}
	k, related, ok := keyOf(p, zone)
	if !ok {
		ct.State = CTTracked | CTInvalid
		return ct, said(ct)
	}
	if known.Zone == zone {
		ct.State = known.State
	}
	c, reply := t.find(k, now)
	if c != nil && a.Force && reply {
		delete(t.conns, c.key)
		c = nil
	}
	full := false
	switch {
	case c == nil && related:
		ct.State = CTInvalid
	case c == nil:
		c, ct.State, full = t.create(now, p, k, a.Commit)
	case known.held && ct.State&CTTracked != 0:
		// It was asked in this zone before, and answers the same. (A packet that
		// found no connection then may find the one that a copy of it has begun.)
	case related:
		ct.State |= CTRelated
		if reply {
			ct.State |= CTReply
		}
	default:
		verdict := c.update(now, p, reply)
		if verdict == startsAnew {
			delete(t.conns, c.key)
			c, ct.State, full = t.create(now, p, k, a.Commit)
			break
		}
		ct.State = verdict.apply(ct.State, reply)
	}
	ct.State |= CTTracked
	ct.Orig = k.tuple()
	ct.held = c != nil
	if c != nil {
		c.write(p, a.Exec)
		ct.Mark, ct.Label, ct.Orig = c.mark, c.label, c.key.tuple()
	}
	e := said(ct)
	e.Committed, e.Full = c != nil && a.Commit, full
	return ct, e
}

func said(ct Conntrack) Tracked { return Tracked{State: ct.State, Zone: ct.Zone, Mark: ct.Mark} }

// create judges a packet of no known connection, and keeps the connection if
// it is committed and its zone has room.
func (t *tracker) create(now time.Time, p *Packet, k connKey, commit bool) (c *conn, state CTState, full bool) {
	if !validFirst(p) {
		return nil, CTInvalid, false
	}
	if !commit {
		return nil, CTNew, false
	}
	if t.limit > 0 && t.count(now, k.zone) >= t.limit {
		return nil, CTNew, true
	}
	c = &conn{key: k}
	if k.proto == ProtoTCP {
		c.beginTCP(p)
	}
	c.expires = now.Add(c.firstTimeout())
	t.conns[k] = c
	return c, CTNew, false
}

func (t *tracker) count(now time.Time, zone uint16) int {
	n := 0
	for k, c := range t.conns {
		if k.zone == zone && now.Before(c.expires) {
			n++
		}
	}
	return n
}

// write carries out the writes to mark and label inside a ct action, whose
// values p holds.
func (c *conn) write(p *Packet, exec []of.Action) {
	for _, e := range exec {
		var f of.Field
		var mask bits
		switch e := e.(type) {
		case of.Load:
			f, mask = e.Dst.Field, ones(e.Dst.Bits).shl(e.Dst.Offset)
		case of.Move:
			f, mask = e.Dst.Field, ones(e.Dst.Bits).shl(e.Dst.Offset)
		case of.SetField:
			_, m := e.Field.Bytes()
			f, mask = e.Field.Field(), fromBytes(m)
		}
		switch f {
		case of.FieldCTMark:
			c.mark = uint32(number(uint64(c.mark)).replace(number(uint64(p.CT.Mark)), mask).lo)
		case of.FieldCTLabel:
			c.label = fromBytes(c.label[:]).replace(fromBytes(p.CT.Label[:]), mask).bytes()
		}
	}
}

// keyOf extracts what tells a packet's connection apart. For an ICMP error
// that is the connection of the packet it quotes, seen from the error's side.
// ok is false for what the tracker cannot follow.
func keyOf(p *Packet, zone uint16) (k connKey, related, ok bool) {
	if !p.isIP() || p.Fragment != NotFragment {
		return k, false, false
	}
	k = connKey{zone: zone, proto: p.Proto, src: endpoint{addr: p.Src}, dst: endpoint{addr: p.Dst}}
	switch {
	case p.Proto == ProtoTCP, p.Proto == ProtoUDP:
		k.src.port, k.dst.port = p.SrcPort, p.DstPort
		return k, false, k.src.port != 0 && k.dst.port != 0
	case p.isICMPv4(), p.isICMPv6():
		if isICMPError(p) {
			k, ok = quotedKey(p, zone)
			return k, true, ok
		}
		back, ok := answerTo(p.Proto, p.ICMPType)
		k.src.port, k.dst.port = p.ICMPID, p.ICMPID
		k.src.icmpType, k.dst.icmpType = p.ICMPType, back
		return k, false, ok && p.ICMPCode == 0
	}
	return k, false, false
}

func isICMPError(p *Packet) bool {
	if p.isICMPv4() {
		return slices.Contains([]uint8{3, 4, 5, 11, 12}, p.ICMPType)
	}
	return p.ICMPType >= 1 && p.ICMPType <= 4
}

func quotedKey(p *Packet, zone uint16) (connKey, bool) {
	q := p.Quoted
	if q.Src != p.Dst || q.Proto != ProtoTCP && q.Proto != ProtoUDP || q.SrcPort == 0 || q.DstPort == 0 {
		return connKey{}, false
	}
	k := connKey{zone: zone, proto: q.Proto, src: endpoint{addr: q.Src, port: q.SrcPort}, dst: endpoint{addr: q.Dst, port: q.DstPort}}
	return k.reversed(), true
}

// answerTo returns the ICMP type that answers a type.
func answerTo(proto, icmpType uint8) (uint8, bool) {
	pairs := [][2]uint8{{8, 0}, {13, 14}, {15, 16}}
	if proto == ProtoICMPv6 {
		pairs = [][2]uint8{{128, 129}}
	}
	for _, p := range pairs {
		switch icmpType {
		case p[0]:
			return p[1], true
		case p[1]:
			return p[0], true
		}
	}
	return 0, false
}

// validFirst reports whether a packet may begin a connection.
func validFirst(p *Packet) bool {
	switch p.Proto {
	case ProtoTCP:
		// SYN+ACK is half of a handshake that was missed; any other segment
		// picks up a connection in the middle.
		return !invalidFlags(p.TCPFlags) && p.TCPFlags&(SYN|ACK) != SYN|ACK
	case ProtoICMP:
		return p.ICMPType == 8 || p.ICMPType == 13 || p.ICMPType == 15
	case ProtoICMPv6:
		return p.ICMPType == 128
	}
	return true
}

// verdict is what a connection makes of a packet.
type verdict uint8

const (
	belongs     verdict = iota
	belongsNew          // of a connection that nobody has answered yet
	startsAnew          // a new connection in the place of one that ended
	isNotOfThis         // not a packet that it can have
)

func (v verdict) apply(state CTState, reply bool) CTState {
	switch v {
	case isNotOfThis:
		return CTInvalid
	case belongsNew:
		return state | CTNew
	}
	state = state&^CTNew | CTEstablished
	if reply {
		state |= CTReply
	}
	return state
}

func (c *conn) update(now time.Time, p *Packet, reply bool) verdict {
	if c.key.proto == ProtoTCP {
		return c.updateTCP(now, p, reply)
	}
	switch {
	case reply:
		c.state = bothWays
	case c.state == firstSeen:
		c.state = moreSeen
	}
	c.expires = now.Add(c.timeout())
	if c.state == bothWays {
		return belongs
	}
	return belongsNew
}

// Timeouts of connections (ct-dpif, the defaults of the userspace datapath).
const (
	timeoutTCPFirst       = 30 * time.Second
	timeoutTCPOpening     = 30 * time.Second
	timeoutTCPEstablished = 24 * time.Hour
	timeoutTCPClosing     = 15 * time.Minute
	timeoutTCPFinWait     = 45 * time.Second
	timeoutTCPClosed      = 30 * time.Second
	timeoutOtherFirst     = 60 * time.Second
	timeoutOtherBoth      = 30 * time.Second
)

func (c *conn) firstTimeout() time.Duration {
	if c.key.proto == ProtoTCP {
		return timeoutTCPFirst
	}
	return timeoutOtherFirst
}

func (c *conn) timeout() time.Duration {
	if c.key.proto != ProtoTCP {
		if c.state == bothWays {
			return timeoutOtherBoth
		}
		return timeoutOtherFirst
	}
	return c.timeoutTCP()
}
