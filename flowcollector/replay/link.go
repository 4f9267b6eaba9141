package replay

import (
	"encoding/binary"
	"fmt"

	"github.com/gopacket/gopacket/layers"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// Raw IP has other numbers in captures of the BSDs than in the registry (101).
const (
	linkRawBSD     layers.LinkType = 12
	linkRawOpenBSD layers.LinkType = 14
)

// linkError is a link type that we do not read.
type linkError struct {
	link layers.LinkType
}

// Error implements the error interface.
func (e *linkError) Error() string {
	return fmt.Sprintf("link type %d (%s) is not supported; supported are Ethernet, raw IP, Linux cooked (SLL, SLL2) and loopback",
		uint(e.link), e.link)
}

func knownLink(link layers.LinkType) bool {
	switch link {
	case layers.LinkTypeEthernet, layers.LinkTypeLinuxSLL, layers.LinkTypeLinuxSLL2, layers.LinkTypeNull, layers.LinkTypeLoop:
		return true
	}
	return isRaw(link)
}

func isRaw(link layers.LinkType) bool {
	switch link {
	case layers.LinkTypeRaw, layers.LinkTypeIPv4, layers.LinkTypeIPv6, linkRawBSD, linkRawOpenBSD:
		return true
	}
	return false
}

// frame is a packet behind its link header.
type frame struct {
	// ethernet is the whole frame, where there is an Ethernet header.
	ethernet  []byte
	srcMAC    flow.MAC
	etherType uint16
	payload   []byte
}

// parse fills r.
func (f *frame) parse(r *flow.Record) error {
	if f.ethernet != nil {
		return packet.Parse(f.ethernet, r)
	}
	r.SrcMAC = f.srcMAC
	return packet.ParseEther(f.etherType, f.payload, r)
}

// openFrame splits the link header off (tcpdump.org/linktypes.html).
func openFrame(link layers.LinkType, b []byte) (frame, error) {
	const (
		ethernetLen, sllLen, sll2Len, nullLen = 14, 16, 20, 4
		macLen                                = 6
	)
	need := func(n int) error {
		if len(b) < n {
			return fmt.Errorf("%d bytes are too short for link type %s", len(b), link)
		}
		return nil
	}
	switch {
	case link == layers.LinkTypeEthernet:
		if err := need(ethernetLen); err != nil {
			return frame{}, err
		}
		f := frame{ethernet: b, etherType: binary.BigEndian.Uint16(b[12:]), payload: b[ethernetLen:]}
		f.untag()
		return f, nil
	case link == layers.LinkTypeLinuxSLL:
		if err := need(sllLen); err != nil {
			return frame{}, err
		}
		f := frame{etherType: binary.BigEndian.Uint16(b[14:]), payload: b[sllLen:]}
		if binary.BigEndian.Uint16(b[4:]) == macLen {
			f.srcMAC = flow.MAC(b[6:12])
		}
		return f, nil
	case link == layers.LinkTypeLinuxSLL2:
		if err := need(sll2Len); err != nil {
			return frame{}, err
		}
		f := frame{etherType: binary.BigEndian.Uint16(b), payload: b[sll2Len:]}
		if b[11] == macLen {
			f.srcMAC = flow.MAC(b[12:18])
		}
		return f, nil
	case link == layers.LinkTypeNull || link == layers.LinkTypeLoop:
		// The address family's number and byte order are those of the
		// machine that captured; the IP version says the same.
		if err := need(nullLen); err != nil {
			return frame{}, err
		}
		return openIP(b[nullLen:])
	case isRaw(link):
		return openIP(b)
	}
	return frame{}, &linkError{link}
}

// openIP tells IPv4 from IPv6.
func openIP(b []byte) (frame, error) {
	if len(b) > 0 {
		switch b[0] >> 4 {
		case 4:
			return frame{etherType: flow.EtherIPv4, payload: b}, nil
		case 6:
			return frame{etherType: flow.EtherIPv6, payload: b}, nil
		}
	}
	return frame{}, fmt.Errorf("no IPv4 or IPv6 packet behind the link header")
}

// untag moves etherType and payload behind a VLAN tag, so that export datagrams
// are found in captures of trunks, too.
func (f *frame) untag() {
	const tagLen = 4
	if f.etherType == flow.EtherVLAN && len(f.payload) >= tagLen {
		f.etherType = binary.BigEndian.Uint16(f.payload[2:])
		f.payload = f.payload[tagLen:]
	}
}
