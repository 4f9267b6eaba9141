// Package refusal makes the packet by which a host refuses another one: a
// reset for TCP (RFC 9293, section 3.10.7.1), an ICMP error for all else (RFC
// 1812, section 5.2.7; RFC 4443, section 3.1).
package refusal

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Answer returns the frame that answers one in the name of whom it is for, to
// be sent where it came from; ok is false for what must not be answered:
// resets, ICMP errors and what is not a question, later fragments, and all that
// is not from one host to one other.
func Answer(frame []byte) (answer []byte, ok bool) {
	p, ok := parse(frame)
	if !ok {
		return nil, false
	}
	if p.proto == flow.ProtoTCP {
		return p.reset()
	}
	return p.unreachable()
}

// packet is what is known of the one to be answered.
type packet struct {
	link     []byte // header with VLAN tags
	ip       []byte // the packet, as long as it says
	v6       bool
	src, dst netip.Addr
	proto    uint8
	body     []byte // behind the IP headers
}

// etherAD is the EtherType of an outer tag (802.1ad).
const etherAD = 0x88a8

// maxTags is how many VLAN tags are looked behind.
const maxTags = 2

func parse(frame []byte) (p packet, ok bool) {
	const addresses, tag = 12, 4
	if len(frame) < addresses+2 || frame[0]&1 != 0 || frame[6]&1 != 0 {
		return p, false // to or from a group
	}
	at := addresses
	for range maxTags {
		if t := binary.BigEndian.Uint16(frame[at:]); t != flow.EtherVLAN && t != etherAD {
			break
		}
		if at += tag; len(frame) < at+2 {
			return p, false
		}
	}
	p.link, p.ip = frame[:at+2], frame[at+2:]
	switch binary.BigEndian.Uint16(frame[at:]) {
	case flow.EtherIPv4:
		ok = p.parse4()
	case flow.EtherIPv6:
		ok = p.parse6()
	}
	return p, ok && host(p.src) && host(p.dst)
}

// host reports whether an address can be that of one host.
func host(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && (!a.Is4() || a.As4()[0] < 240)
}

const header4, header6 = 20, 40

func (p *packet) parse4() bool {
	b := p.ip
	if len(b) < header4 || b[0]>>4 != 4 {
		return false
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < header4 || total < header || total > len(b) || binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
		return false
	}
	p.ip, p.proto, p.body = b[:total], b[9], b[header:total]
	p.src, p.dst = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	return true
}

// Extension headers (IANA).
const (
	hopByHop     = 0
	routing      = 43
	fragment     = 44
	destinations = 60
)

func (p *packet) parse6() bool {
	b := p.ip
	if len(b) < header6 || b[0]>>4 != 6 {
		return false
	}
	total := header6 + int(binary.BigEndian.Uint16(b[4:]))
	if total > len(b) {
		return false
	}
	p.v6, p.ip, p.proto, p.body = true, b[:total], b[6], b[header6:total]
	p.src, p.dst = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	for {
		length := 8
		switch p.proto {
		case hopByHop, routing, destinations:
			if len(p.body) >= 8 {
				length += int(p.body[1]) * 8
			}
		case fragment:
			if len(p.body) >= 8 && binary.BigEndian.Uint16(p.body[2:])>>3 != 0 {
				return false
			}
		default:
			return true
		}
		if len(p.body) < length {
			return false
		}
		p.proto, p.body = p.body[0], p.body[length:]
	}
}

// reset answers a segment.
func (p *packet) reset() ([]byte, bool) {
	const header, ack = 20, 8
	b := p.body
	if len(b) < header || b[13]&flow.RST != 0 || int(b[12]>>4)*4 < header || int(b[12]>>4)*4 > len(b) {
		return nil, false
	}
	seg := make([]byte, 0, header)
	seg = append(seg, b[2], b[3], b[0], b[1])
	if flags := b[13]; flags&flow.ACK != 0 {
		seg = append(append(seg, b[ack:ack+4]...), 0, 0, 0, 0, header/4<<4, flow.RST)
	} else {
		length := uint32(len(b) - int(b[12]>>4)*4)
		for _, bit := range []uint8{flow.SYN, flow.FIN} {
			if flags&bit != 0 {
				length++
			}
		}
		seg = binary.BigEndian.AppendUint32(append(seg, 0, 0, 0, 0), binary.BigEndian.Uint32(b[4:])+length)
		seg = append(seg, header/4<<4, flow.RST|flow.ACK)
	}
	seg = append(seg, 0, 0, 0, 0, 0, 0) // window, checksum, urgent pointer
	binary.BigEndian.PutUint16(seg[16:], p.checksum(flow.ProtoTCP, seg))
	return p.frame(flow.ProtoTCP, seg), true
}

// ICMP's destination unreachable, and why. A port that is closed is refused at
// once by every stack; other protocols have no ports to speak of.
const (
	unreachable4, port4, prohibited4 = 3, 3, 13
	unreachable6, port6, prohibited6 = 1, 4, 1
)

// How long the whole answer may be.
const max4, max6 = 576, 1280

func (p *packet) unreachable() ([]byte, bool) {
	if !p.question() {
		return nil, false
	}
	proto, kind, code, room := flow.ProtoICMP, byte(unreachable4), byte(prohibited4), max4-header4-8
	if p.v6 {
		proto, kind, code, room = flow.ProtoICMPv6, unreachable6, prohibited6, max6-header6-8
	}
	if p.proto == flow.ProtoUDP {
		if code = port4; p.v6 {
			code = port6
		}
	}
	b := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, p.ip[:min(len(p.ip), room)]...)
	sum := p.checksum(proto, b)
	if !p.v6 {
		sum = ^fold(add(0, b)) // no pseudo header
	}
	binary.BigEndian.PutUint16(b[2:], sum)
	return p.frame(proto, b), true
}

// question reports whether a packet may be answered by an error. Of ICMP only
// what asks for an answer may; anything else is one, or for a link.
func (p *packet) question() bool {
	switch p.proto {
	case flow.ProtoICMP:
		return !p.v6 && len(p.body) >= 8 && (p.body[0] == 8 || p.body[0] == 13 || p.body[0] == 15 || p.body[0] == 17)
	case flow.ProtoICMPv6:
		return p.v6 && len(p.body) >= 8 && p.body[0] == 128
	}
	return true
}

// frame wraps what is to be sent back.
func (p *packet) frame(proto uint8, body []byte) []byte {
	const hops = 64
	out := make([]byte, 0, len(p.link)+header6+len(body))
	out = append(append(append(out, p.link[6:12]...), p.link[:6]...), p.link[12:]...)
	if p.v6 {
		out = append(out, 6<<4, 0, 0, 0)
		out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
		out = append(out, proto, hops)
		out = append(append(out, p.dst.AsSlice()...), p.src.AsSlice()...)
		return append(out, body...)
	}
	start := len(out)
	out = append(out, 4<<4|header4/4, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(header4+len(body)))
	out = append(out, 0, 0, 1<<6, 0, hops, proto, 0, 0) // do not fragment
	out = append(append(out, p.dst.AsSlice()...), p.src.AsSlice()...)
	binary.BigEndian.PutUint16(out[start+10:], ^fold(add(0, out[start:])))
	return append(out, body...)
}

// checksum is that of a body under a pseudo header from the destination to the
// source (RFC 9293, section 3.1; RFC 8200, section 8.1).
func (p *packet) checksum(proto uint8, body []byte) uint16 {
	sum := add(add(0, p.src.AsSlice()), p.dst.AsSlice())
	return ^fold(add(sum+uint32(proto)+uint32(len(body)), body))
}

func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
