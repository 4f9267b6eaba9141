package netflow

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// totals are the last values of counters that run over the whole session.
type totals struct {
	packets  uint64
	tcp      tcpCounters
	tcpKnown bool
}

// hasTCP are the opcodes of IE 218 to 223.
const hasTCP opset = 1<<opFIN | 1<<opSYN | 1<<opRST | 1<<opPSH | 1<<opACK | 1<<opURG

// tcpFlags derives the control bits of a record from IE 218 to 223.
//
// IANA defines them as totals of the flow. Open vSwitch (3.1) exports totals of
// the exporter instead, together with the exporter's packetTotalCount, so there
// only their growth between two records tells anything, and only if nothing
// else was counted in between: packetTotalCount has to have grown by just the
// packets of this record, and no flag by more than that. Where it does not add
// up (records lost, flows of several packets from a cache) the flags are
// unknown, which is better than those of other flows.
func (s *session) tcpFlags(has opset, packets uint64, x *extra) uint8 {
	if !has.has(opPacketTotal) {
		return grown(&x.tcp, &tcpCounters{}, math.MaxUint64)
	}
	base := s.totals
	switch {
	case x.packetTotal == packets: // the first record, of the flow or of all
		base = totals{tcpKnown: true}
	case x.packetTotal-base.packets != packets:
		base.tcpKnown = false
	}
	s.totals = totals{packets: x.packetTotal, tcp: base.tcp, tcpKnown: base.tcpKnown}
	if has&hasTCP == 0 {
		return 0
	}
	s.totals.tcp, s.totals.tcpKnown = x.tcp, true
	if !base.tcpKnown {
		return 0
	}
	return grown(&x.tcp, &base.tcp, packets)
}

// grown returns the flags whose counter has grown since base, none at all when
// one has grown by more than limit.
func grown(now, base *tcpCounters, limit uint64) (flags uint8) {
	for bit := range now {
		n := now[bit] - base[bit]
		if n > limit {
			return 0
		}
		if n > 0 {
			flags |= 1 << bit
		}
	}
	return flags
}

// complete fills in what takes more than one field to know.
func (s *stream) complete(t *template, r *flow.Record, x *extra) {
	volume(t.has, r, x)
	// Absurd stamps may be so far apart that the difference overflows.
	if d := x.end - x.start; x.end > x.start && d > 0 {
		r.Duration = d
	}
	r.Rate = 1
	if rate := x.rate(); rate > 0 {
		r.Rate = rate
	} else if s.rate > 0 {
		r.Rate = s.rate
	}
	if r.EtherType == 0 {
		r.EtherType = etherType(r)
	}
	r.TCPFlags |= s.session.tcpFlags(t.has, r.Packets, x)
	transport(t.has, r)
	r.Source = flow.SourceIPFIX
	if !s.tap || !tap(r, x.point) {
		r.Signal = Signal(r)
	}
	if r.Verdict == flow.VerdictUnknown && r.OutPort != 0 {
		r.Verdict = flow.VerdictForwarded
	}
}

// volume sees to it that Bytes and Packets are set from the best that there
// is: what came in before what went out, and IP octets before frame octets.
func volume(has opset, r *flow.Record, x *extra) {
	if !has.has(opOctets) {
		r.Bytes = x.frameOctets
		if !has.has(opFrameOctets) {
			r.Bytes = x.postOctets
		}
	}
	if !has.has(opPackets) {
		r.Packets = x.postPackets
	}
}

func etherType(r *flow.Record) uint16 {
	switch {
	case r.Src.Is4():
		return flow.EtherIPv4
	case r.Src.Is6():
		return flow.EtherIPv6
	}
	return 0
}

// transport keeps only those fields that the protocol has. NetFlow exporters
// put ICMP type and code into the destination port.
func transport(has opset, r *flow.Record) {
	switch r.Proto {
	case flow.ProtoTCP:
		r.ICMPType, r.ICMPCode = 0, 0
		return
	case flow.ProtoUDP, flow.ProtoSCTP:
		r.ICMPType, r.ICMPCode = 0, 0
	case flow.ProtoICMP, flow.ProtoICMPv6:
		if !has.has(opICMPType) && !has.has(opICMPTypeCode) {
			r.ICMPType, r.ICMPCode = uint8(r.DstPort>>8), uint8(r.DstPort)
		}
		r.SrcPort, r.DstPort = 0, 0
	default:
		r.ICMPType, r.ICMPCode = 0, 0
		r.SrcPort, r.DstPort = 0, 0
	}
	r.TCPFlags = 0
}

// tap interprets a record of the connection tap; it reports false when the
// observation point is not one of a tap's.
func tap(r *flow.Record, point uint32) bool {
	s, rate, ok := flow.ParseTapPoint(point)
	if !ok {
		if s, r.Rule, rate, ok = flow.ParseRulePoint(point); !ok {
			return false
		}
	}
	r.Source, r.Signal, r.Rate = flow.SourceTap, s, rate
	// The tap exports without a cache: each record is one packet, whether or
	// not its template has a packet counter. Where it has one, Open vSwitch
	// has multiplied both counters by what the probability stands for, which
	// Rate says already.
	if r.Packets > 1 {
		r.Bytes /= r.Packets
	}
	r.Packets = 1
	if s == flow.SignalDropped {
		r.Verdict = flow.VerdictDropped
	}
	if r.Proto == flow.ProtoTCP {
		// The rule that sampled the packet matched these bits.
		r.TCPFlags |= tapFlags(s)
	}
	return true
}

func tapFlags(s flow.Signal) uint8 {
	switch s {
	case flow.SignalAttempt, flow.SignalLogged:
		return flow.SYN
	case flow.SignalAccept:
		return flow.SYN | flow.ACK
	case flow.SignalRefuse:
		return flow.RST
	case flow.SignalFinish:
		return flow.FIN
	}
	return 0
}

// Signal says what an aggregated flow proves. The union of the flags of
// several packets has lost who said what in which order, so only those unions
// count that a single kind of packet can make.
func Signal(r *flow.Record) flow.Signal {
	switch r.Proto {
	case flow.ProtoTCP:
		if r.Packets == 1 && r.TCPFlags != 0 { // none are known, or it is a fragment
			return packet.TCPSignal(r.TCPFlags)
		}
		switch r.TCPFlags &^ (flow.ECE | flow.CWR) {
		case flow.SYN:
			return flow.SignalAttempt
		case flow.RST, flow.RST | flow.ACK:
			return flow.SignalRefuse
		}
	case flow.ProtoUDP:
		return flow.SignalUDP
	case flow.ProtoICMP, flow.ProtoICMPv6:
		return icmpSignal(r.Proto, r.ICMPType)
	}
	return flow.SignalNone
}

// icmpSignal tells ICMP messages apart by their type (RFC 792; RFC 4443,
// section 3.1; RFC 4861, sections 4.3 and 4.4).
func icmpSignal(proto, icmpType uint8) flow.Signal {
	const unreachable, unreachable6, solicitation, advertisement = 3, 1, 135, 136
	switch {
	case proto == flow.ProtoICMP && icmpType == unreachable,
		proto == flow.ProtoICMPv6 && icmpType == unreachable6:
		return flow.SignalUnreachable
	case proto == flow.ProtoICMPv6 && icmpType == solicitation:
		return flow.SignalARPRequest
	case proto == flow.ProtoICMPv6 && icmpType == advertisement:
		return flow.SignalARPReply
	}
	return flow.SignalICMP
}
