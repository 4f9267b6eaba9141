// Package packet parses the headers of captured or sampled packets into flow
// records. It reads bytes that a stranger chose: every length is checked, every
// loop is bounded, nothing is allocated.
package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Tag protocol identifiers besides flow.EtherVLAN (IEEE 802.1Q, table 8-1, and
// the older one that many switches still send).
const (
	etherServiceVLAN uint16 = 0x88a8
	etherQinQ        uint16 = 0x9100
)

const (
	ethernetLen = 14
	tagLen      = 4
	maxTags     = 2      // what Open vSwitch parses, too
	minEther    = 0x0600 // below, the field is an IEEE 802.3 length
	vlanMask    = 0x0fff
)

// Parse fills r from an Ethernet frame, which may be cut at any length.
//
// It sets EtherType, VLAN (the outer tag), SrcMAC, DstMAC, Src, Dst, Proto,
// SrcPort, DstPort, TCPFlags, Seq, Ack, ICMPType, ICMPCode, TTL, Signal, Inner,
// DNS and Login as far as the frame carries them and leaves all other fields as
// they are, so r has to be reset between frames. A frame of a protocol that it
// does not know is no error. After an error, which is of type Error, r keeps
// what was parsed.
func Parse(frame []byte, r *flow.Record) error {
	if len(frame) < ethernetLen {
		return newError(Truncated, 0)
	}
	copy(r.DstMAC[:], frame)
	copy(r.SrcMAC[:], frame[6:])
	return network(frame, ethernetLen, binary.BigEndian.Uint16(frame[12:]), r)
}

// ParseIP fills r from a packet that starts with its IPv4 or IPv6 header, as
// link types without a link header deliver it. See Parse.
func ParseIP(pkt []byte, r *flow.Record) error {
	if len(pkt) == 0 {
		return newError(Truncated, 0)
	}
	switch pkt[0] >> 4 {
	case 4:
		return network(pkt, 0, flow.EtherIPv4, r)
	case 6:
		return network(pkt, 0, flow.EtherIPv6, r)
	}
	return newError(Malformed, 0)
}

// ParseEther fills r from what follows an EtherType, for link headers other
// than Ethernet's that carry one. See Parse.
func ParseEther(etherType uint16, payload []byte, r *flow.Record) error {
	return network(payload, 0, etherType, r)
}

// network parses what starts at off and is of the given EtherType.
func network(b []byte, off int, etherType uint16, r *flow.Record) error {
	for tags := 0; tags < maxTags && isTag(etherType); tags++ {
		if len(b) < off+tagLen {
			r.EtherType = etherType
			return newError(Truncated, off)
		}
		if tags == 0 {
			r.VLAN = binary.BigEndian.Uint16(b[off:]) & vlanMask
		}
		etherType = binary.BigEndian.Uint16(b[off+2:])
		off += tagLen
	}
	if etherType < minEther {
		return nil
	}
	r.EtherType = etherType
	switch etherType {
	case flow.EtherIPv4:
		return ipv4(b, off, r)
	case flow.EtherIPv6:
		return ipv6(b, off, r)
	case flow.EtherARP:
		return arp(b, off, r)
	}
	return nil
}

func isTag(etherType uint16) bool {
	return etherType == flow.EtherVLAN || etherType == etherServiceVLAN || etherType == etherQinQ
}

// ARP (RFC 826, "Packet format") for IPv4 over Ethernet.
const (
	arpLen      = 28
	arpEthernet = 1
	arpRequest  = 1
	arpReply    = 2
)

// arp parses an ARP packet; those that do not resolve IPv4 to Ethernet
// addresses are left alone.
func arp(b []byte, off int, r *flow.Record) error {
	if len(b) < off+8 {
		return newError(Truncated, off)
	}
	a := b[off:]
	if binary.BigEndian.Uint16(a) != arpEthernet || binary.BigEndian.Uint16(a[2:]) != flow.EtherIPv4 {
		return nil
	}
	if a[4] != 6 || a[5] != 4 {
		return newError(Malformed, off)
	}
	if len(a) < arpLen {
		return newError(Truncated, off)
	}
	r.Src = netip.AddrFrom4([4]byte(a[14:18]))
	r.Dst = netip.AddrFrom4([4]byte(a[24:28]))
	r.Claim.MAC = flow.MAC(a[8:14])
	switch binary.BigEndian.Uint16(a[6:]) {
	case arpRequest:
		r.Signal = flow.SignalARPRequest
	case arpReply:
		r.Signal = flow.SignalARPReply
	}
	return nil
}
