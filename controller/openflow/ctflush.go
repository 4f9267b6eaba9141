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
// given (NXT_CT_FLUSH, Open vSwitch 3.1).
//
// ICMPv6 connections cannot be selected but by zone: the userspace tracker of
// Open vSwitch 3.1 aborts, and ovs-vswitchd with it, when it is to remove one
// by its tuple. An IPv6 address without Proto selects TCP, UDP and SCTP.
type CTFlush struct {
	Zone  *uint16 // nil is every zone
	Proto uint8   // IP protocol; a tuple with ports or ICMP needs it
	// Orig and Reply are the two directions of a connection. The userspace
	// tracker knows a translated connection by Orig.
	Orig, Reply CTTuple
}

// CTTuple is one direction of a connection; zero values select everything.
type CTTuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	ICMP             *CTICMP // of protocol 1, in place of ports
}

// CTICMP is what tells ICMP connections apart.
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

// IP protocols.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
)

func (t CTTuple) empty() bool { return t == CTTuple{} }

// byTuple says whether single connections are meant.
func (f CTFlush) byTuple() bool { return f.Proto != 0 || !f.Orig.empty() || !f.Reply.empty() }

// requests returns what is sent for the selection: IPv6 addresses are never
// sent without a protocol, which would select ICMPv6 too.
func (f CTFlush) requests() []CTFlush {
	if f.Proto != 0 || !f.is6() {
		return []CTFlush{f}
	}
	out := make([]CTFlush, 0, 3)
	for _, f.Proto = range [...]uint8{protoTCP, protoUDP, protoSCTP} {
		out = append(out, f)
	}
	return out
}

func (f CTFlush) is6() bool {
	for _, a := range [...]netip.Addr{f.Orig.Src, f.Orig.Dst, f.Reply.Src, f.Reply.Dst} {
		if a.IsValid() && a.Unmap().Is6() {
			return true
		}
	}
	return false
}

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
	if f.Proto == protoICMPv6 {
		return errors.New("conntrack flush: ICMPv6 connections go with their zone alone")
	}
	o := f.Orig
	if f.Proto == protoICMP && !(o.Src.IsValid() && o.Dst.IsValid() && o.ICMP != nil && f.Reply.empty()) {
		return errors.New("conntrack flush: of ICMP the switch selects one connection, by all of Orig, and no Reply")
	}
	if whole := o.Src.IsValid() && o.Dst.IsValid() && (o.SrcPort != 0 && o.DstPort != 0 || o.ICMP != nil); whole && f.Zone == nil {
		return errors.New("conntrack flush: a whole Orig needs a Zone, or the switch looks into zone 0 alone")
	}
	family := netip.Addr{}
	for _, t := range [...]CTTuple{f.Orig, f.Reply} {
		ports := t.SrcPort != 0 || t.DstPort != 0
		switch {
		case f.Proto == 0 && ports:
			return errors.New("conntrack flush: ports need a protocol")
		case f.Proto != protoICMP && t.ICMP != nil, f.Proto == protoICMP && ports:
			return fmt.Errorf("conntrack flush: ports or ICMP that protocol %d has not", f.Proto)
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
