package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Datagram is a whole UDP datagram inside a frame.
type Datagram struct {
	Src, Dst netip.AddrPort
	// Payload is a part of the frame.
	Payload []byte
}

const udpLen = 8

// UDP returns the UDP datagram in what follows an EtherType (see ParseEther),
// untagged; ok is false when there is none or not all of it: recorded telemetry
// is decoded from these bytes, so half a datagram is of no use.
func UDP(etherType uint16, b []byte) (d Datagram, ok bool) {
	var h ipHeader
	var err Error
	moreFragments := false
	switch etherType {
	case flow.EtherIPv4:
		h, err = ipv4Header(b, 0)
		moreFragments = err == 0 && b[6]&0x20 != 0
	case flow.EtherIPv6:
		h, err = ipv6Header(b, 0)
	default:
		return Datagram{}, false
	}
	if err != 0 || h.fragment || moreFragments || h.proto != flow.ProtoUDP || h.need(b, udpLen) != 0 {
		return Datagram{}, false
	}
	u := b[h.payload:]
	length := int(binary.BigEndian.Uint16(u[4:]))
	if length < udpLen || h.need(b, length) != 0 {
		return Datagram{}, false
	}
	return Datagram{
		Src:     netip.AddrPortFrom(h.src, binary.BigEndian.Uint16(u)),
		Dst:     netip.AddrPortFrom(h.dst, binary.BigEndian.Uint16(u[2:])),
		Payload: u[udpLen:length],
	}, true
}
