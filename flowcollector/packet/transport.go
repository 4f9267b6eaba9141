package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// ICMP (RFC 792) and ICMPv6 (RFC 4443, RFC 4861) messages told apart.
const (
	icmpUnreachable     = 3
	icmp6Unreachable    = 1
	icmpQuoteAt         = 8 // RFC 792, page 4; RFC 4443, section 3.1
	neighbourTargetAt   = 8 // RFC 4861, sections 4.3 and 4.4
	neighbourLen        = 24
	neighbourHopLimit   = 255
	tcpMinWords         = 5
	tcpSeqAt, tcpAckAt  = 4, 8
	tcpFlagsAt          = 13
	tcpDataOffsetAt     = 12
	portsLen            = 4
	icmpTypeAndCodeSize = 2
)

// transport parses what an IP header carries.
func transport(b []byte, h *ipHeader, r *flow.Record) error {
	var err Error
	switch h.proto {
	case flow.ProtoTCP:
		err = tcp(b, h, r)
	case flow.ProtoUDP:
		if err = ports(b, h, r); err == 0 {
			r.Signal = flow.SignalUDP
			dns(b, h, r)
			dhcp(b, h, r)
		}
	case flow.ProtoSCTP:
		err = ports(b, h, r)
	case flow.ProtoICMP:
		if h.src.Is4() { // no host takes it in the other IP version
			err = icmp(b, h, r)
		}
	case flow.ProtoICMPv6:
		if h.src.Is6() {
			err = icmp6(b, h, r)
		}
	}
	if err != 0 {
		return err
	}
	return nil // a zero Error in an error interface would not be nil
}

func ports(b []byte, h *ipHeader, r *flow.Record) Error {
	if err := h.need(b, portsLen); err != 0 {
		return err
	}
	p := b[h.payload:]
	r.SrcPort = binary.BigEndian.Uint16(p)
	r.DstPort = binary.BigEndian.Uint16(p[2:])
	return 0
}

// tcp parses ports, sequence numbers and control bits (RFC 9293, section 3.1).
func tcp(b []byte, h *ipHeader, r *flow.Record) Error {
	if err := ports(b, h, r); err != 0 {
		return err
	}
	if h.first && h.payload+tcpFlagsAt+1 > h.end {
		// Cut before its control bits, to get past those who read them.
		r.Signal = flow.SignalProbe
		return 0
	}
	if err := h.need(b, tcpFlagsAt+1); err != 0 {
		return err
	}
	p := b[h.payload:]
	if p[tcpDataOffsetAt]>>4 < tcpMinWords {
		return newError(Malformed, h.payload)
	}
	r.Seq, r.Ack = binary.BigEndian.Uint32(p[tcpSeqAt:]), binary.BigEndian.Uint32(p[tcpAckAt:])
	r.TCPFlags = p[tcpFlagsAt]
	r.Signal = TCPSignal(r.TCPFlags)
	if at, end := h.payload+4*int(p[tcpDataOffsetAt]>>4), min(h.end, len(b)); at < end {
		r.Login = login(b[at:end])
	}
	return 0
}

// TCPSignal returns what a single segment with these control bits tells about
// its connection. A reset outweighs everything else that the segment claims,
// then comes what no state of a connection allows (RFC 9293, section 3.10.7: all
// but the first segment acknowledge).
func TCPSignal(flags uint8) flow.Signal {
	switch {
	case flags&flow.RST != 0:
		return flow.SignalRefuse
	case flags&(flow.SYN|flow.FIN) == flow.SYN|flow.FIN, flags&(flow.SYN|flow.ACK) == 0:
		return flow.SignalProbe
	case flags&(flow.SYN|flow.ACK) == flow.SYN|flow.ACK:
		return flow.SignalAccept
	case flags&flow.SYN != 0:
		return flow.SignalAttempt
	case flags&flow.FIN != 0:
		return flow.SignalFinish
	}
	return flow.SignalNone
}

func icmpType(b []byte, h *ipHeader, r *flow.Record) Error {
	if err := h.need(b, icmpTypeAndCodeSize); err != 0 {
		return err
	}
	r.ICMPType, r.ICMPCode = b[h.payload], b[h.payload+1]
	r.Signal = flow.SignalICMP
	return 0
}

func icmp(b []byte, h *ipHeader, r *flow.Record) Error {
	if err := icmpType(b, h, r); err != 0 {
		return err
	}
	if r.ICMPType == icmpUnreachable {
		r.Signal = flow.SignalUnreachable
		if q, err := ipv4Header(b, h.payload+icmpQuoteAt); err == 0 {
			r.Inner = quoted(b, &q)
		}
	}
	return 0
}

func icmp6(b []byte, h *ipHeader, r *flow.Record) Error {
	if err := icmpType(b, h, r); err != 0 {
		return err
	}
	switch r.ICMPType {
	case icmp6Unreachable:
		r.Signal = flow.SignalUnreachable
		if q, err := ipv6Header(b, h.payload+icmpQuoteAt); err == 0 {
			r.Inner = quoted(b, &q)
		}
	case flow.ICMPv6Solicitation, flow.ICMPv6Advertisement:
		return neighbour(b, h, r)
	case flow.ICMPv6RouterAdvertisement:
		router(b, h, r)
	}
	return 0
}

// neighbour parses a neighbour solicitation or advertisement so that it reads
// like ARP: a solicitation asks for Dst, an advertisement comes from Src, the
// address that it answers for, which need not be its IP source. One that passed
// a router is forged (RFC 4861, sections 7.1.1 and 7.1.2) and stays mere ICMPv6.
func neighbour(b []byte, h *ipHeader, r *flow.Record) Error {
	if h.ttl != neighbourHopLimit || r.ICMPCode != 0 {
		return 0
	}
	if err := h.need(b, neighbourLen); err != 0 {
		return err
	}
	target := netip.AddrFrom16([16]byte(b[h.payload+neighbourTargetAt:][:16]))
	if r.ICMPType == flow.ICMPv6Solicitation {
		r.Signal, r.Dst = flow.SignalARPRequest, target
		r.Claim.MAC = linkAddress(b, h, neighbourLen, optSourceLink)
	} else {
		r.Signal, r.Src = flow.SignalARPReply, target
		r.Claim.MAC = linkAddress(b, h, neighbourLen, optTargetLink)
	}
	return 0
}

// quoted returns the tuple of the packet that an ICMP error quotes. The quote
// may be short by rule (RFC 792 asks for 8 bytes of payload), so ports that are
// missing are no error.
func quoted(b []byte, q *ipHeader) flow.Tuple {
	t := flow.Tuple{Src: q.src, Dst: q.dst, Proto: q.proto}
	switch q.proto {
	case flow.ProtoTCP, flow.ProtoUDP, flow.ProtoSCTP:
	default:
		return t
	}
	if q.fragment || q.payload+portsLen > len(b) || q.payload+portsLen > q.end {
		return t
	}
	t.SrcPort = binary.BigEndian.Uint16(b[q.payload:])
	t.DstPort = binary.BigEndian.Uint16(b[q.payload+2:])
	return t
}
