// Package wire puts frames on the wire of a lab: builds them, resolves who
// takes them next, and sends them from a station at an exact rate, within a
// budget and never to an address outside the station's fence.
package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Path is what the frames of one conversation have in common.
type Path struct {
	SrcMAC, DstMAC net.HardwareAddr
	// Src and Dst are of one family; a v4-mapped address counts as IPv4.
	Src, Dst netip.Addr
	// TTL is the time to live, or hop limit; 64 when 0.
	TTL uint8
	// ID is the identification of an IPv4 packet.
	ID uint16
}

// Flags are those of a TCP segment, as in the last octet of its flag field.
type Flags uint8

// The flags of TCP (RFC 9293, section 3.1).
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// Segment is a TCP segment.
type Segment struct {
	SrcPort, DstPort uint16
	Seq, Ack         uint32
	Flags            Flags
	Window           uint16
	// MSS is the maximum segment size option; none when 0.
	MSS     uint16
	Payload []byte
}

// TCP builds a frame with a TCP segment.
func (p Path) TCP(s Segment) ([]byte, error) {
	t := &layers.TCP{
		SrcPort: layers.TCPPort(s.SrcPort), DstPort: layers.TCPPort(s.DstPort), Seq: s.Seq, Ack: s.Ack, Window: s.Window,
		FIN: s.Flags&FIN != 0, SYN: s.Flags&SYN != 0, RST: s.Flags&RST != 0, PSH: s.Flags&PSH != 0, ACK: s.Flags&ACK != 0, URG: s.Flags&URG != 0,
	}
	if s.MSS != 0 {
		t.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, s.MSS)}}
	}
	return p.build(layers.IPProtocolTCP, t, gopacket.Payload(s.Payload))
}

// UDP builds a frame with a UDP datagram.
func (p Path) UDP(srcPort, dstPort uint16, payload []byte) ([]byte, error) {
	u := &layers.UDP{SrcPort: layers.UDPPort(srcPort), DstPort: layers.UDPPort(dstPort)}
	return p.build(layers.IPProtocolUDP, u, gopacket.Payload(payload))
}

// Echo builds a frame with an ICMP or ICMPv6 echo request.
func (p Path) Echo(id, seq uint16, payload []byte) ([]byte, error) {
	if p.Dst.Unmap().Is4() {
		i := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: id, Seq: seq}
		return p.build(layers.IPProtocolICMPv4, i, gopacket.Payload(payload))
	}
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	e := &layers.ICMPv6Echo{Identifier: id, SeqNumber: seq}
	return p.build(layers.IPProtocolICMPv6, i, e, gopacket.Payload(payload))
}

// Solicit builds a neighbour solicitation (RFC 4861, section 4.3) for an IPv6
// address from the path's source, to the target's solicited-node group.
func (p Path) Solicit(target netip.Addr) ([]byte, error) {
	p.Dst, p.TTL = solicitedNode(target), 255
	p.DstMAC = groupMAC(p.Dst)
	i := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
	n := &layers.ICMPv6NeighborSolicitation{
		TargetAddress: target.AsSlice(),
		Options:       layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: p.SrcMAC}},
	}
	return p.build(layers.IPProtocolICMPv6, i, n)
}

// checksummed is a layer whose checksum covers addresses of the layer below.
type checksummed interface {
	SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
}

// build puts Ethernet and IP in front of the layers.
func (p Path) build(proto layers.IPProtocol, rest ...gopacket.SerializableLayer) ([]byte, error) {
	src, dst := p.Src.Unmap(), p.Dst.Unmap()
	if !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() {
		return nil, fmt.Errorf("frame from %v to %v: want two addresses of one family", p.Src, p.Dst)
	}
	if p.TTL == 0 {
		p.TTL = 64
	}
	eth := &layers.Ethernet{SrcMAC: p.SrcMAC, DstMAC: p.DstMAC, EthernetType: layers.EthernetTypeIPv4}
	var all []gopacket.SerializableLayer
	var below gopacket.NetworkLayer
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, TTL: p.TTL, Id: p.ID, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		all, below = append(all, ip), ip
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: p.TTL, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		all, below = append(all, ip), ip
	}
	if c, ok := rest[0].(checksummed); ok {
		if err := c.SetNetworkLayerForChecksum(below); err != nil {
			return nil, fmt.Errorf("frame: %w", err)
		}
	}
	return serialize(eth, append(all, rest...)...)
}

// serialize writes layers out with right lengths and checksums. It takes off
// gopacket's padding to 60 octets: that is the work of a network card, and no
// frame on a veth pair looks like that.
func serialize(eth *layers.Ethernet, rest ...gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, rest...); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	length := offL3 + len(buf.Bytes())
	if err := eth.SerializeTo(buf, gopacket.SerializeOptions{}); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	return buf.Bytes()[:length], nil
}

// Neighbour is one side of an ARP packet.
type Neighbour struct {
	MAC  net.HardwareAddr
	Addr netip.Addr // IPv4
}

// ARPRequest asks everybody for the hardware address of an IPv4 address.
func ARPRequest(from Neighbour, target netip.Addr) ([]byte, error) {
	return arp(layers.ARPRequest, from, Neighbour{net.HardwareAddr{0, 0, 0, 0, 0, 0}, target}, from.MAC, Broadcast())
}

// ARPReply tells one neighbour that an address is at a hardware address, true
// or not. Via is the hardware address that the frame itself comes from.
func ARPReply(claim, to Neighbour, via net.HardwareAddr) ([]byte, error) {
	return arp(layers.ARPReply, claim, to, via, to.MAC)
}

func arp(op uint16, from, to Neighbour, src, dst net.HardwareAddr) ([]byte, error) {
	if !from.Addr.Is4() || !to.Addr.Is4() {
		return nil, fmt.Errorf("ARP from %v for %v: want IPv4 addresses", from.Addr, to.Addr)
	}
	return serialize(
		&layers.Ethernet{SrcMAC: src, DstMAC: dst, EthernetType: layers.EthernetTypeARP},
		&layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: op,
			SourceHwAddress: from.MAC, SourceProtAddress: from.Addr.AsSlice(), DstHwAddress: to.MAC, DstProtAddress: to.Addr.AsSlice(),
		})
}

// Broadcast is the hardware address of everybody.
func Broadcast() net.HardwareAddr { return net.HardwareAddr{255, 255, 255, 255, 255, 255} }

// solicitedNode is an address's group (RFC 4291, section 2.7.1).
func solicitedNode(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// groupMAC is the hardware address of a multicast group (RFC 1112, 6.4; RFC
// 2464, section 7).
func groupMAC(a netip.Addr) net.HardwareAddr {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return net.HardwareAddr{1, 0, 0x5e, b[1] & 0x7f, b[2], b[3]}
	}
	b := a.As16()
	return net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}
}
