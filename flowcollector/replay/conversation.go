package replay

import (
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// A log tells of a connection when it is over, a detector hears of it as it
// happens. Logs do not say when the reply came, so we assume:
const (
	// replyDelay is the longest that a reply is assumed to take; a shorter
	// connection was answered within its duration. It is well below every
	// reply timeout, or a detector would see a failure before the answer.
	replyDelay = 100 * time.Millisecond
	// silenceDelay is how long after an attempt its silence is a fact. The
	// duration that logs give for unanswered attempts is only the span of
	// the retries, microseconds at times.
	silenceDelay = time.Second
)

// volume is what one side of a conversation sent.
type volume struct {
	packets, bytes uint64
}

// conversation is one row of a log: what an originator sent to a responder and
// what came back.
type conversation struct {
	start, duration  int64 // Unix nanoseconds, nanoseconds
	src, dst         endpoint
	srcPort, dstPort uint16
	proto            uint8
	etherType        uint16
	// icmpType and icmpCode are the originator's, for ICMP and ICMPv6.
	icmpType, icmpCode uint8
	sent, answered     volume
	judgement          judgement
}

// judgement is what a row proves about its connection.
type judgement struct {
	// forward is the signal of the originator's direction and reverse that
	// of the responder's; see conversation.records.
	forward, reverse           flow.Signal
	forwardFlags, reverseFlags uint8
}

// records appends the conversation's records:
//
//   - what the originator sent, at the begin of the conversation, as
//     SignalAttempt where the log saw the conversation begin;
//   - what became of it, from responder to originator: SignalAccept,
//     SignalRefuse or SignalUnreachable after replyDelay, SignalSilence
//     after silenceDelay, SignalNone where the log does not say.
func (c *conversation) records(batch []flow.Record) []flow.Record {
	j := c.judgement
	if j.reverse == flow.SignalSilence && c.proto == flow.ProtoUDP && isGroup(c.dst.addr) {
		// Nobody has to answer an announcement.
		j.forward, j.reverse = flow.SignalNone, flow.SignalNone
	}
	if j.forward != flow.SignalNone || c.sent.packets > 0 || c.answered.packets == 0 {
		batch = append(batch, c.forward(j))
	}
	if j.reverse != flow.SignalNone || c.answered.packets > 0 {
		batch = append(batch, c.reverse(j))
	}
	return batch
}

func (c *conversation) forward(j judgement) flow.Record {
	r := c.base()
	r.Time = c.start
	r.Signal = j.forward
	r.TCPFlags = j.forwardFlags
	r.Src, r.Dst = c.src.addr, c.dst.addr
	r.SrcMAC, r.DstMAC = c.src.mac, c.dst.mac
	r.SrcPort, r.DstPort = c.srcPort, c.dstPort
	r.ICMPType, r.ICMPCode = c.icmpType, c.icmpCode
	r.Packets, r.Bytes = c.sent.packets, c.sent.bytes
	if r.Packets == 0 && c.answered.packets == 0 {
		r.Packets = 1 // the log does not count packets, but there was one
	}
	return r
}

func (c *conversation) reverse(j judgement) flow.Record {
	r := c.base()
	r.Time = c.start + min(c.duration, int64(replyDelay))
	r.Signal = j.reverse
	r.TCPFlags = j.reverseFlags
	r.Src, r.Dst = c.dst.addr, c.src.addr
	r.SrcMAC, r.DstMAC = c.dst.mac, c.src.mac
	r.SrcPort, r.DstPort = c.dstPort, c.srcPort
	r.Packets, r.Bytes = c.answered.packets, c.answered.bytes
	switch j.reverse {
	case flow.SignalSilence:
		r.Time = c.start + int64(silenceDelay)
		r.Duration = 0
	case flow.SignalUnreachable:
		c.unreachable(&r)
	case flow.SignalICMP:
		r.ICMPType = icmpReplyType(c.proto, c.icmpType)
	}
	return r
}

// unreachable makes r the ICMP error that answered the conversation. Who sent
// it is not in the log; the responder stands for whatever router it was.
func (c *conversation) unreachable(r *flow.Record) {
	r.Inner = flow.Tuple{
		Src: c.src.addr, Dst: c.dst.addr,
		SrcPort: c.srcPort, DstPort: c.dstPort, Proto: c.proto,
	}
	r.SrcPort, r.DstPort = 0, 0
	r.Packets = max(r.Packets, 1) // Argus does not count it
	r.ICMPCode = c.icmpCode
	if c.dst.addr.Is4() {
		r.Proto, r.ICMPType = flow.ProtoICMP, icmpUnreachable
	} else {
		r.Proto, r.ICMPType = flow.ProtoICMPv6, icmp6Unreachable
	}
}

func (c *conversation) base() flow.Record {
	return flow.Record{
		Duration:  c.duration,
		Source:    flow.SourceLog,
		Rate:      1,
		EtherType: c.etherType,
		Proto:     c.proto,
	}
}

// isGroup reports whether addr is a multicast or broadcast address. A log does
// not know the prefix lengths, so the last address of a /24 counts as broadcast:
// that misses little, for hosts seldom have it.
func isGroup(addr netip.Addr) bool {
	if !addr.IsValid() {
		return true
	}
	return addr.IsMulticast() || addr.Is4() && addr.As4()[3] == 255
}

// ICMP and ICMPv6 types (IANA) that logs are read with.
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpRedirect     = 5
	icmpEcho         = 8
	icmpTimeExceeded = 11
	icmp6Unreachable = 1
	icmp6Echo        = 128
	// Neighbour discovery (RFC 4861, section 4): 133 to 137.
	icmp6NDFirst, icmp6NDLast = 133, 137
)

// icmpReplyType returns the type that answers a query (RFC 792, RFC 950, RFC 1256;
// RFC 4443), and the type itself where it is none: then both sides sent it.
func icmpReplyType(proto, typ uint8) uint8 {
	switch {
	case proto == flow.ProtoICMPv6 && (typ == icmp6Echo || typ == 130 || typ == 133 || typ == 135 || typ == 139):
		return typ + 1
	case proto == flow.ProtoICMPv6:
		return typ
	case typ == icmpEcho:
		return icmpEchoReply
	case typ == 10: // router solicitation
		return 9
	case typ == 13 || typ == 15 || typ == 17: // timestamp, information, address mask
		return typ + 1
	}
	return typ
}

// icmpPaired reports whether Zeek knows the counterpart of a type, so that the
// second port of a row is the counterpart's type and not a code.
func icmpPaired(proto, typ uint8) bool {
	if proto == flow.ProtoICMPv6 {
		return typ >= icmp6Echo && typ <= 145
	}
	switch typ {
	case icmpEchoReply, icmpEcho, 9, 10, 13, 14, 15, 16, 17, 18:
		return true
	}
	return false
}

// judgeICMP returns the signals of an ICMP or ICMPv6 row. Logs do not carry the
// target of neighbour discovery, which says nothing without it.
func judgeICMP(proto, typ uint8, answered uint64) judgement {
	switch {
	case proto == flow.ProtoICMP && typ == icmpUnreachable,
		proto == flow.ProtoICMPv6 && typ == icmp6Unreachable:
		return judgement{forward: flow.SignalUnreachable}
	case proto == flow.ProtoICMPv6 && typ >= icmp6NDFirst && typ <= icmp6NDLast:
		return judgement{}
	case answered > 0:
		return judgement{forward: flow.SignalICMP, reverse: flow.SignalICMP}
	}
	return judgement{forward: flow.SignalICMP}
}

// judgeARP returns the signals of an ARP row, where it names IP addresses.
func judgeARP(c *conversation) judgement {
	var j judgement
	if !c.src.addr.IsValid() || !c.dst.addr.IsValid() {
		return j
	}
	j.forward = flow.SignalARPRequest
	if c.answered.packets > 0 {
		j.reverse = flow.SignalARPReply
	}
	return j
}
