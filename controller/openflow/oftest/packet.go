package oftest

import (
	"net/netip"
)

// EtherTypes and IP protocols that decide which fields a packet has.
const (
	EtherIPv4 uint16 = 0x0800
	EtherARP  uint16 = 0x0806
	EtherVLAN uint16 = 0x8100
	EtherIPv6 uint16 = 0x86dd

	ProtoICMP   uint8 = 1
	ProtoTCP    uint8 = 6
	ProtoUDP    uint8 = 17
	ProtoICMPv6 uint8 = 58
	ProtoSCTP   uint8 = 132
)

// TCP control bits.
const (
	FIN uint16 = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// CTState is what the connection tracker says of a packet (nicira-ext,
// NXM_NX_CT_STATE).
type CTState uint32

// Bits of CTState.
const (
	CTNew CTState = 1 << iota
	CTEstablished
	CTRelated
	CTReply
	CTInvalid
	CTTracked
)

// Fragment says what part of an IP packet this is (nicira-ext,
// NXM_NX_IP_FRAG).
type Fragment uint8

// Parts of an IP packet. A fragment has no transport ports that a match could
// see, in the switch's normal handling of fragments.
const (
	NotFragment   Fragment = 0
	FirstFragment Fragment = 1
	LaterFragment Fragment = 3
)

// VLAN is an IEEE 802.1Q tag; the zero TPID is no tag.
type VLAN struct {
	TPID     uint16
	ID       uint16 // 12 bits
	Priority uint8  // 3 bits
}

// Conntrack is what a packet carries of its connection; it is all zero
// before the packet has been through a ct action.
type Conntrack struct {
	State CTState
	Zone  uint16
	Mark  uint32
	Label [16]byte
	// Orig is the connection's original direction, as ct_nw_src and its
	// neighbours match it. For ICMP the ports are type and code.
	Orig Tuple

	held bool // it was of a connection that is known
}

// Tuple is one direction of a connection.
type Tuple struct {
	Src, Dst         netip.Addr
	Proto            uint8
	SrcPort, DstPort uint16
}

// Packet is a packet and what the pipeline knows of it. It is comparable:
// two packets are the same if they are ==. Fields that the packet's EtherType
// and protocol do not have are ignored, and should be zero.
type Packet struct {
	// The pipeline's fields.
	InPort         uint32
	Metadata       uint64
	TunID          uint64
	TunSrc, TunDst netip.Addr
	Mark           uint32 // pkt_mark
	Regs           [16]uint32
	CT             Conntrack

	EthSrc, EthDst [6]byte
	// VLANs are outermost first. Both are parsed, as Open vSwitch does with
	// other_config:vlan-limit=2; by default it takes what is behind the first
	// for payload, also when it meets its own second tag after a ct action.
	VLANs   [2]VLAN
	EthType uint16 // behind the tags

	// Src and Dst are IPv4 or IPv6 addresses, or ARP's protocol addresses.
	Src, Dst  netip.Addr
	Proto     uint8
	TOS       uint8 // DSCP and ECN, the whole byte
	TTL       uint8 // or hop limit
	Fragment  Fragment
	FlowLabel uint32 // IPv6

	SrcPort, DstPort uint16 // TCP, UDP, SCTP
	TCPFlags         uint16
	// Seq, Ack and Window are those of TCP, and Payload the bytes behind its
	// header: the connection tracker looks at them. Left zero throughout,
	// every segment is within the window.
	Seq, Ack           uint32
	Window             uint16
	Payload            int
	ICMPType, ICMPCode uint8
	// ICMPID tells echo sessions apart for the connection tracker.
	ICMPID uint16
	// Quoted is the packet that an ICMP error is about.
	Quoted Tuple

	ARPOp          uint16
	ARPSHA, ARPTHA [6]byte

	NDTarget     netip.Addr
	NDSLL, NDTLL [6]byte

	// Length is that of the frame in bytes, for counters and meters.
	Length int
}

func ipPacket(src, dst netip.Addr, proto uint8) Packet {
	p := Packet{EthType: EtherIPv4, Src: src, Dst: dst, Proto: proto, TTL: 64, Length: 64,
		EthSrc: [6]byte{2, 0, 0, 0, 0, 1}, EthDst: [6]byte{2, 0, 0, 0, 0, 2}}
	if src.Is6() {
		p.EthType = EtherIPv6
	}
	return p
}

// TCP returns a segment with the given control bits, in a frame of 64 bytes
// from 02:00:00:00:00:01 to 02:00:00:00:00:02, as do the other constructors.
func TCP(src, dst netip.AddrPort, flags uint16) Packet {
	p := ipPacket(src.Addr(), dst.Addr(), ProtoTCP)
	p.SrcPort, p.DstPort, p.TCPFlags = src.Port(), dst.Port(), flags
	return p
}

// UDP returns a datagram.
func UDP(src, dst netip.AddrPort) Packet {
	p := ipPacket(src.Addr(), dst.Addr(), ProtoUDP)
	p.SrcPort, p.DstPort = src.Port(), dst.Port()
	return p
}

// SCTP returns a packet of SCTP.
func SCTP(src, dst netip.AddrPort) Packet {
	p := ipPacket(src.Addr(), dst.Addr(), ProtoSCTP)
	p.SrcPort, p.DstPort = src.Port(), dst.Port()
	return p
}

// ICMP returns an ICMPv4 or ICMPv6 message, whichever the addresses are.
func ICMP(src, dst netip.Addr, icmpType, code uint8) Packet {
	proto := ProtoICMP
	if src.Is6() {
		proto = ProtoICMPv6
	}
	p := ipPacket(src, dst, proto)
	p.ICMPType, p.ICMPCode = icmpType, code
	return p
}

// ND returns a neighbour solicitation (135) or advertisement (136).
func ND(src, dst netip.Addr, icmpType uint8, target netip.Addr) Packet {
	p := ICMP(src, dst, icmpType, 0)
	p.TTL, p.NDTarget = 255, target
	return p
}

// ARP returns a request (1) or a reply (2) from one protocol address for
// another.
func ARP(op uint16, sender, target netip.Addr) Packet {
	return Packet{EthType: EtherARP, ARPOp: op, Src: sender, Dst: target, Length: 64,
		EthSrc: [6]byte{2, 0, 0, 0, 0, 1}, EthDst: [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		ARPSHA: [6]byte{2, 0, 0, 0, 0, 1}}
}

// From returns the packet as it comes in by a port.
func (p Packet) From(port uint32) Packet {
	p.InPort = port
	return p
}

// Tagged returns the packet behind an 802.1Q tag more.
func (p Packet) Tagged(id uint16, priority uint8) Packet {
	p.VLANs[1], p.VLANs[0] = p.VLANs[0], VLAN{TPID: EtherVLAN, ID: id & 0xfff, Priority: priority & 7}
	return p
}

func (p *Packet) isIPv4() bool { return p.EthType == EtherIPv4 }
func (p *Packet) isIPv6() bool { return p.EthType == EtherIPv6 }
func (p *Packet) isIP() bool   { return p.isIPv4() || p.isIPv6() }
func (p *Packet) isARP() bool  { return p.EthType == EtherARP }

// isL4 reports whether the packet has a transport header of that protocol.
func (p *Packet) isL4(proto uint8) bool {
	return p.isIP() && p.Proto == proto && p.Fragment != LaterFragment
}

func (p *Packet) isICMPv4() bool { return p.isIPv4() && p.isL4(ProtoICMP) }
func (p *Packet) isICMPv6() bool { return p.isIPv6() && p.isL4(ProtoICMPv6) }

// Types of ICMPv6 that are neighbour discovery.
const (
	ndSolicit = 135
	ndAdvert  = 136
)

func (p *Packet) isND(types ...uint8) bool {
	if !p.isICMPv6() || p.ICMPCode != 0 {
		return false
	}
	for _, t := range types {
		if p.ICMPType == t {
			return true
		}
	}
	return false
}

func (p *Packet) hasPorts() bool {
	return p.isL4(ProtoTCP) || p.isL4(ProtoUDP) || p.isL4(ProtoSCTP)
}

// pushVLAN adds a tag with ID and priority 0, as Open vSwitch does; beyond
// the second tag the innermost is no longer seen.
func (p *Packet) pushVLAN(tpid uint16) {
	p.VLANs[1], p.VLANs[0] = p.VLANs[0], VLAN{TPID: tpid}
}

func (p *Packet) popVLAN() { p.VLANs[0], p.VLANs[1] = p.VLANs[1], VLAN{} }
