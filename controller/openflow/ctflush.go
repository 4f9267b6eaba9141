package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// CTFlush selects entries of the connection tracker. Without Proto, Orig and
// Reply it selects a whole zone (NXT_CT_FLUSH_ZONE, Open vSwitch 2.6), or,
// without Zone too, every entry; else the connections that have all that is
// given (NXT_CT_FLUSH, Open vSwitch 3.1), in zone 0 if Zone is nil.
type CTFlush struct {
	Zone  *uint16
	Proto uint8 // IP protocol; a tuple with ports or ICMP needs it
	// Orig and Reply are the two directions of a connection. The userspace
	// tracker knows connections by Orig.
	Orig, Reply CTTuple
}

// CTTuple is one direction of a connection; zero values select everything.
type CTTuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	ICMP             *CTICMP // of protocol 1 or 58, in place of ports
}

// CTICMP is what tells ICMP connections apart. Open vSwitch wants an address
// beside it.
type CTICMP struct {
	ID         uint16
	Type, Code uint8
}

// Nicira messages that flush the connection tracker, and the parts of theirs
// (nicira-ext, enum nx_ct_flush_tlv_type and nx_ct_flush_tuple_tlv_type).
const (
	nxtCTFlushZone uint32 = 29
	nxtCTFlush     uint32 = 32

	ctFlushOrig  uint16 = 0
	ctFlushReply uint16 = 1
	ctFlushZone  uint16 = 2

	ctTupleSrc      uint16 = 0
	ctTupleDst      uint16 = 1
	ctTupleSrcPort  uint16 = 2
	ctTupleDstPort  uint16 = 3
	ctTupleICMPID   uint16 = 4
	ctTupleICMPType uint16 = 5
	ctTupleICMPCode uint16 = 6
)

func (t CTTuple) empty() bool { return t == CTTuple{} }

// byTuple says whether single connections are meant.
func (f CTFlush) byTuple() bool { return f.Proto != 0 || !f.Orig.empty() || !f.Reply.empty() }

// appendCTFlush appends the whole message.
func appendCTFlush(b []byte, xid uint32, f *CTFlush) []byte {
	start := len(b)
	b = appendHeader(b, TypeExperimenter, xid)
	b = binary.BigEndian.AppendUint32(b, experimenterNicira)
	if f.Zone != nil && !f.byTuple() {
		b = binary.BigEndian.AppendUint32(b, nxtCTFlushZone)
		b = binary.BigEndian.AppendUint16(zeros(b, 6), *f.Zone)
	} else {
		b = binary.BigEndian.AppendUint32(b, nxtCTFlush)
		b = zeros(append(b, f.Proto), 7)
		b = f.Orig.append(b, ctFlushOrig)
		b = f.Reply.append(b, ctFlushReply)
		if f.Zone != nil {
			b = appendTLV16(b, ctFlushZone, *f.Zone)
		}
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// append encodes the tuple as one TLV that holds others. Addresses are IPv6,
// IPv4-mapped where they are IPv4; every TLV is padded to eight bytes.
func (t CTTuple) append(b []byte, kind uint16) []byte {
	if t.empty() {
		return b
	}
	start := len(b)
	b = append(b, byte(kind>>8), byte(kind), 0, 0, 0, 0, 0, 0)
	for i, a := range [...]netip.Addr{ctTupleSrc: t.Src, ctTupleDst: t.Dst} {
		if a.IsValid() {
			a16 := a.As16()
			b = append(b, 0, byte(i), 0, 20)
			b = zeros(append(b, a16[:]...), 4)
		}
	}
	for i, p := range [...]uint16{ctTupleSrcPort: t.SrcPort, ctTupleDstPort: t.DstPort} {
		if p != 0 {
			b = appendTLV16(b, uint16(i), p)
		}
	}
	if t.ICMP != nil {
		b = appendTLV16(b, ctTupleICMPID, t.ICMP.ID)
		b = append(b, 0, byte(ctTupleICMPType), 0, 5, t.ICMP.Type, 0, 0, 0)
		b = append(b, 0, byte(ctTupleICMPCode), 0, 5, t.ICMP.Code, 0, 0, 0)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func appendTLV16(b []byte, kind, value uint16) []byte {
	b = append(b, byte(kind>>8), byte(kind), 0, 6)
	return append(b, byte(value>>8), byte(value), 0, 0)
}

// Validate reports what the switch would reject and can be told from the
// request alone.
func (f *CTFlush) Validate() error {
	const icmp, icmp6 = 1, 58
	family := netip.Addr{}
	for _, t := range [...]CTTuple{f.Orig, f.Reply} {
		switch {
		case f.Proto == 0 && (t.SrcPort != 0 || t.DstPort != 0 || t.ICMP != nil):
			return errors.New("conntrack flush: ports and ICMP need a protocol")
		case t.ICMP != nil && f.Proto != icmp && f.Proto != icmp6:
			return fmt.Errorf("conntrack flush: protocol %d has no ICMP type", f.Proto)
		case t.ICMP != nil && !t.Src.IsValid() && !t.Dst.IsValid():
			return errors.New("conntrack flush: ICMP needs an address")
		case (f.Proto == icmp || f.Proto == icmp6) && (t.SrcPort != 0 || t.DstPort != 0):
			return errors.New("conntrack flush: ICMP has no ports")
		}
		for _, a := range [...]netip.Addr{t.Src, t.Dst} {
			if !a.IsValid() {
				continue
			}
			if family.IsValid() && family.Unmap().Is4() != a.Unmap().Is4() {
				return errors.New("conntrack flush: addresses of two families")
			}
			family = a
		}
	}
	return nil
}

// String returns the selection in the syntax of ovs-ofctl ct-flush.
func (f CTFlush) String() string {
	var parts []string
	if f.Zone != nil {
		parts = append(parts, fmt.Sprintf("zone=%d", *f.Zone))
	}
	if !f.byTuple() {
		return strings.Join(parts, " ")
	}
	parts = append(parts, "'"+f.Orig.text(f.Proto)+"'")
	if !f.Reply.empty() {
		parts = append(parts, "'"+f.Reply.text(f.Proto)+"'")
	}
	return strings.Join(parts, " ")
}

func (t CTTuple) text(proto uint8) string {
	var parts []string
	for i, a := range [...]netip.Addr{t.Src, t.Dst} {
		if a.IsValid() {
			name := "ct_nw_"
			if !a.Unmap().Is4() {
				name = "ct_ipv6_"
			}
			parts = append(parts, name+[...]string{"src", "dst"}[i]+"="+a.Unmap().String())
		}
	}
	if proto != 0 {
		parts = append(parts, fmt.Sprintf("ct_nw_proto=%d", proto))
	}
	if t.SrcPort != 0 {
		parts = append(parts, fmt.Sprintf("ct_tp_src=%d", t.SrcPort))
	}
	if t.DstPort != 0 {
		parts = append(parts, fmt.Sprintf("ct_tp_dst=%d", t.DstPort))
	}
	if t.ICMP != nil {
		parts = append(parts, fmt.Sprintf("icmp_type=%d,icmp_code=%d,icmp_id=%d", t.ICMP.Type, t.ICMP.Code, t.ICMP.ID))
	}
	return strings.Join(parts, ",")
}
