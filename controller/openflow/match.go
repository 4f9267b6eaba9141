package openflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// OXM is one field of a match: OpenFlow Extensible Match (section 7.2.3).
// It is a comparable value without owned memory.
type OXM struct {
	field       Field
	masked      bool
	value, mask [16]byte // left-aligned, info.size bytes valid
	raw         string   // the whole TLV of a field we do not know
}

// Field returns which field it matches; fields of other controllers' flows
// that this package does not know are "unknown field".
func (o OXM) Field() Field { return o.field }

// Match is a conjunction of fields; the empty match matches every packet.
type Match []OXM

// PrereqError says that a match uses a field without the fields that give it
// meaning (section 7.2.3.8). Open vSwitch's own tools widen such a match to
// everything; here it is an error before anything is sent.
type PrereqError struct {
	Field Field
	Needs string
}

func (e *PrereqError) Error() string {
	return fmt.Sprintf("match on %s needs %s", e.Field, e.Needs)
}

func oxm(f Field, value []byte) OXM {
	o := OXM{field: f}
	copy(o.value[:], value)
	return o
}

func oxmMasked(f Field, value, mask []byte) OXM {
	o := OXM{field: f, masked: true}
	copy(o.value[:], value)
	copy(o.mask[:], mask)
	return o
}

func oxm8(f Field, v uint8) OXM   { return oxm(f, []byte{v}) }
func oxm16(f Field, v uint16) OXM { return oxm(f, binary.BigEndian.AppendUint16(nil, v)) }
func oxm32(f Field, v uint32) OXM { return oxm(f, binary.BigEndian.AppendUint32(nil, v)) }
func oxm32m(f Field, v, m uint32) OXM {
	return oxmMasked(f, binary.BigEndian.AppendUint32(nil, v), binary.BigEndian.AppendUint32(nil, m))
}

// InPort matches the OpenFlow port that the packet came in by.
func InPort(port uint32) OXM { return oxm32(FieldInPort, port) }

// Reg matches the bits of a register (nicira-ext, NXM_NX_REG) that stand in
// mask.
func Reg(n int, value, mask uint32) OXM { return oxm32m(FieldReg0+Field(n&15), value, mask) }

// CTState matches connection tracking state bits (nicira-ext).
func CTState(value, mask uint32) OXM { return oxm32m(FieldCTState, value, mask) }

// CTMark matches the connection mark (nicira-ext).
func CTMark(value, mask uint32) OXM { return oxm32m(FieldCTMark, value, mask) }

// CTZone matches the connection tracking zone (nicira-ext).
func CTZone(zone uint16) OXM { return oxm16(FieldCTZone, zone) }

// EthSrc matches the source MAC address.
func EthSrc(mac [6]byte) OXM { return oxm(FieldEthSrc, mac[:]) }

// EthDst matches the destination MAC address.
func EthDst(mac [6]byte) OXM { return oxm(FieldEthDst, mac[:]) }

// EthDstMasked matches the bits of the destination MAC address that stand in
// mask, for example the multicast bit.
func EthDstMasked(mac, mask [6]byte) OXM { return oxmMasked(FieldEthDst, mac[:], mask[:]) }

// EthType matches the EtherType behind all VLAN tags.
func EthType(t uint16) OXM { return oxm16(FieldEthType, t) }

// vlanPresent is OFPVID_PRESENT (section 7.2.3.8).
const vlanPresent = 0x1000

// VLAN matches packets tagged with this VLAN ID.
func VLAN(id uint16) OXM { return oxm16(FieldVLAN, id&0xfff|vlanPresent) }

// IPProto matches the IP protocol or IPv6 next header.
func IPProto(p uint8) OXM { return oxm8(FieldIPProto, p) }

func prefix(v4, v6 Field, p netip.Prefix) OXM {
	p = p.Masked()
	f, addr := v4, p.Addr().Unmap()
	if addr.Is6() {
		f = v6
	}
	bits := p.Bits()
	if p.Addr().Is4In6() {
		bits -= 96
	}
	value := addr.AsSlice()
	if bits == len(value)*8 {
		return oxm(f, value)
	}
	mask := make([]byte, len(value))
	for i := range mask {
		mask[i] = byte(0xff << (8 - min(8, max(0, bits-8*i))))
	}
	return oxmMasked(f, value, mask)
}

// IPSrc matches the IPv4 or IPv6 source address, whichever the prefix is.
func IPSrc(p netip.Prefix) OXM { return prefix(FieldIPv4Src, FieldIPv6Src, p) }

// IPDst matches the IPv4 or IPv6 destination address.
func IPDst(p netip.Prefix) OXM { return prefix(FieldIPv4Dst, FieldIPv6Dst, p) }

// TCPSrc matches the TCP source port.
func TCPSrc(port uint16) OXM { return oxm16(FieldTCPSrc, port) }

// TCPDst matches the TCP destination port.
func TCPDst(port uint16) OXM { return oxm16(FieldTCPDst, port) }

// TCPFlags matches those control bits that stand in mask (nicira-ext
// NXM_NX_TCP_FLAGS, which every Open vSwitch since 2.1 knows).
func TCPFlags(value, mask uint16) OXM {
	return oxmMasked(FieldTCPFlags, binary.BigEndian.AppendUint16(nil, value), binary.BigEndian.AppendUint16(nil, mask))
}

// UDPSrc matches the UDP source port.
func UDPSrc(port uint16) OXM { return oxm16(FieldUDPSrc, port) }

// UDPDst matches the UDP destination port.
func UDPDst(port uint16) OXM { return oxm16(FieldUDPDst, port) }

// SCTPSrc matches the SCTP source port.
func SCTPSrc(port uint16) OXM { return oxm16(FieldSCTPSrc, port) }

// SCTPDst matches the SCTP destination port.
func SCTPDst(port uint16) OXM { return oxm16(FieldSCTPDst, port) }

// ICMPType matches the ICMPv4 type.
func ICMPType(t uint8) OXM { return oxm8(FieldICMPType, t) }

// ICMPCode matches the ICMPv4 code.
func ICMPCode(c uint8) OXM { return oxm8(FieldICMPCode, c) }

// ICMPv6Type matches the ICMPv6 type.
func ICMPv6Type(t uint8) OXM { return oxm8(FieldICMPv6Type, t) }

// ICMPv6Code matches the ICMPv6 code.
func ICMPv6Code(c uint8) OXM { return oxm8(FieldICMPv6Code, c) }

// ARPOp matches the ARP operation, 1 request, 2 reply.
func ARPOp(op uint16) OXM { return oxm16(FieldARPOp, op) }

// ARPSPA matches the IPv4 sender address of an ARP packet.
func ARPSPA(p netip.Prefix) OXM { return prefix(FieldARPSPA, fieldUnknown, p) }

// ARPTPA matches the IPv4 target address of an ARP packet.
func ARPTPA(p netip.Prefix) OXM { return prefix(FieldARPTPA, fieldUnknown, p) }

// ARPSHA matches the hardware sender address of an ARP packet.
func ARPSHA(mac [6]byte) OXM { return oxm(FieldARPSHA, mac[:]) }

// NDTarget matches the target of IPv6 neighbour discovery.
func NDTarget(a netip.Addr) OXM { b := a.As16(); return oxm(FieldNDTarget, b[:]) }

// normal returns the field as the switch stores it: no value bits outside the
// mask, a full mask dropped. all is true when it matches every packet.
func (o OXM) normal() (n OXM, all bool) {
	if !o.masked || o.field == fieldUnknown {
		return o, false
	}
	full, empty := true, true
	for i := range int(fields[o.field].size) {
		o.value[i] &= o.mask[i]
		full = full && o.mask[i] == 0xff
		empty = empty && o.mask[i] == 0
	}
	if full {
		o.masked, o.mask = false, [16]byte{}
	}
	return o, empty
}

// Canonical returns the match as the switch stores it: fields in canonical
// order, redundant masks removed. Two matches select the same packets on the
// switch if and only if their canonical forms are equal.
func (m Match) Canonical() Match {
	c := make(Match, 0, len(m))
	for _, o := range m {
		if n, all := o.normal(); !all {
			c = append(c, n)
		}
	}
	slices.SortFunc(c, compareOXM)
	return c
}

func compareOXM(a, b OXM) int {
	if a.field != b.field {
		return int(a.field) - int(b.field)
	}
	if a.raw < b.raw {
		return -1
	}
	if a.raw > b.raw {
		return 1
	}
	return 0
}

// Key returns a string that is equal for equal matches, for use in maps.
func (m Match) Key() string { return string(m.Canonical().appendOXMs(nil)) }

// exact returns the value of a field of at most 32 bits, if it is matched
// without a mask.
func (m Match) exact(f Field) (uint32, bool) {
	for i := range m {
		if m[i].field == f && !m[i].masked {
			var v uint32
			for _, b := range m[i].value[:fields[f].size] {
				v = v<<8 | uint32(b)
			}
			return v, true
		}
	}
	return 0, false
}

// Validate reports what the switch would reject: an unencodable field, a
// field given twice, or a missing prerequisite (*PrereqError).
func (m Match) Validate() error {
	var seen [fieldEnd]bool
	for i := range m {
		f := m[i].field
		if f == fieldUnknown || f >= fieldEnd {
			if m[i].raw == "" {
				return fmt.Errorf("match: field %d cannot be encoded", i)
			}
			continue
		}
		if seen[f] {
			return fmt.Errorf("match: %s is given twice", f)
		}
		seen[f] = true
		if m[i].masked && !fields[f].maskable {
			return fmt.Errorf("match: %s cannot be masked", f)
		}
		if need := m.missing(fields[f].needs); need != "" {
			return &PrereqError{Field: f, Needs: need}
		}
	}
	return nil
}

// transports gives, per prerequisite, the IP protocol number it stands for.
var transports = map[prerequisite]struct {
	name   string
	number uint32
}{prereqTCP: {"tcp", 6}, prereqUDP: {"udp", 17}, prereqSCTP: {"sctp", 132}}

// missing names what the match lacks to satisfy a prerequisite.
func (m Match) missing(p prerequisite) string {
	ethType, _ := m.exact(FieldEthType)
	ipProto, _ := m.exact(FieldIPProto)
	isIP := ethType == 0x0800 || ethType == 0x86dd
	switch p {
	case prereqNone:
		return ""
	case prereqIP:
		return unless(isIP, "eth_type 0x0800 or 0x86dd")
	case prereqIPv4:
		return unless(ethType == 0x0800, "eth_type 0x0800")
	case prereqIPv6:
		return unless(ethType == 0x86dd, "eth_type 0x86dd")
	case prereqARP:
		return unless(ethType == 0x0806, "eth_type 0x0806")
	case prereqICMP:
		return unless(ethType == 0x0800 && ipProto == 1, "eth_type 0x0800 and ip_proto 1 (icmp)")
	case prereqICMPv6:
		return unless(ethType == 0x86dd && ipProto == 58, "eth_type 0x86dd and ip_proto 58 (icmp6)")
	case prereqND:
		t, ok := m.exact(FieldICMPv6Type)
		return unless(ok && (t == 135 || t == 136), "icmp6 type 135 or 136")
	default:
		t := transports[p]
		if isIP && ipProto == t.number {
			return ""
		}
		return fmt.Sprintf("eth_type 0x0800 or 0x86dd and ip_proto %d (%s)", t.number, t.name)
	}
}

func unless(ok bool, need string) string {
	if ok {
		return ""
	}
	return need
}
