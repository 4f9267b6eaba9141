package openflow

import (
	"encoding/binary"
	"net/netip"
)

// InPort matches the OpenFlow port that the packet came in by.
func InPort(port uint32) OXM { return oxm32(FieldInPort, port) }

// Reg matches the bits of a register (nicira-ext, NXM_NX_REG) that stand in
// mask.
func Reg(n int, value, mask uint32) OXM { return oxm32m(FieldReg0+Field(n&15), value, mask) }

// Connection tracking state bits (nicira-ext, NXM_NX_CT_STATE).
const (
	CTNew         uint32 = 1 << 0
	CTEstablished uint32 = 1 << 1
	CTRelated     uint32 = 1 << 2
	CTReply       uint32 = 1 << 3
	CTInvalid     uint32 = 1 << 4
	CTTracked     uint32 = 1 << 5
	CTSrcNAT      uint32 = 1 << 6
	CTDstNAT      uint32 = 1 << 7
)

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

// ARPTHA matches the hardware target address of an ARP packet.
func ARPTHA(mac [6]byte) OXM { return oxm(FieldARPTHA, mac[:]) }

// NDTarget matches the target of IPv6 neighbour discovery.
func NDTarget(a netip.Addr) OXM { b := a.As16(); return oxm(FieldNDTarget, b[:]) }

// NDTargetIn matches the targets of IPv6 neighbour discovery in a prefix.
func NDTargetIn(p netip.Prefix) OXM { return prefix(fieldUnknown, FieldNDTarget, p) }

// NDSLL matches the source link-layer address of a neighbour solicitation.
func NDSLL(mac [6]byte) OXM { return oxm(FieldNDSLL, mac[:]) }

// NDTLL matches the target link-layer address of a neighbour advertisement.
func NDTLL(mac [6]byte) OXM { return oxm(FieldNDTLL, mac[:]) }

// Metadata matches those bits of the pipeline's metadata that stand in mask.
func Metadata(value, mask uint64) OXM { return oxm64m(FieldMetadata, value, mask) }

// TunID matches those bits of the tunnel key (a VNI, a GRE key) that stand in
// mask.
func TunID(value, mask uint64) OXM { return oxm64m(FieldTunID, value, mask) }

// TunSrc matches the outer source address of a tunnelled packet.
func TunSrc(p netip.Prefix) OXM { return prefix(FieldTunSrc, FieldTunIPv6Src, p) }

// TunDst matches the outer destination address of a tunnelled packet.
func TunDst(p netip.Prefix) OXM { return prefix(FieldTunDst, FieldTunIPv6Dst, p) }

// PktMark matches those bits of the packet's mark that stand in mask
// (nicira-ext, NXM_NX_PKT_MARK; Linux's skb mark).
func PktMark(value, mask uint32) OXM { return oxm32m(FieldPktMark, value, mask) }

// ConjID matches packets for which every clause of a conjunction has matched
// (nicira-ext, NXM_NX_CONJ_ID).
func ConjID(id uint32) OXM { return oxm32(FieldConjID, id) }

// CTLabel matches those bits of the connection's label that stand in mask
// (nicira-ext), most significant byte first.
func CTLabel(value, mask [16]byte) OXM { return oxmMasked(FieldCTLabel, value[:], mask[:]) }

// CTIPProto matches the protocol of the connection's original direction; like
// all fields of a connection's own tuple it needs a tracked, valid packet.
func CTIPProto(p uint8) OXM { return oxm8(FieldCTIPProto, p) }

// CTSrc matches the source of the connection's original direction.
func CTSrc(p netip.Prefix) OXM { return prefix(FieldCTIPv4Src, FieldCTIPv6Src, p) }

// CTDst matches the destination of the connection's original direction.
func CTDst(p netip.Prefix) OXM { return prefix(FieldCTIPv4Dst, FieldCTIPv6Dst, p) }

// CTTransportSrc matches the source port of the connection's original
// direction.
func CTTransportSrc(port uint16) OXM { return oxm16(FieldCTTransportSrc, port) }

// CTTransportDst matches the destination port of the connection's original
// direction.
func CTTransportDst(port uint16) OXM { return oxm16(FieldCTTransportDst, port) }

// Tagged matches packets with a VLAN tag, whichever it is.
func Tagged() OXM {
	return oxmMasked(FieldVLAN, []byte{vlanPresent >> 8, 0}, []byte{vlanPresent >> 8, 0})
}

// Untagged matches packets without a VLAN tag.
func Untagged() OXM { return oxm16(FieldVLAN, 0) }

// VLANPCP matches the priority (0 to 7) of the VLAN tag.
func VLANPCP(priority uint8) OXM { return oxm8(FieldVLANPCP, priority&7) }

// IPDSCP matches the differentiated services code point, 0 to 63.
func IPDSCP(dscp uint8) OXM { return oxm8(FieldIPDSCP, dscp&63) }

// IPECN matches the explicit congestion notification bits, 0 to 3.
func IPECN(ecn uint8) OXM { return oxm8(FieldIPECN, ecn&3) }

// IPTTL matches the IPv4 time to live or the IPv6 hop limit.
func IPTTL(ttl uint8) OXM { return oxm8(FieldIPTTL, ttl) }

// IPv6Label matches the IPv6 flow label, 20 bits.
func IPv6Label(label uint32) OXM { return oxm32(FieldIPv6Label, label&0xfffff) }

// Fragment says which fragments IPFrag selects.
type Fragment uint8

// Fragments. Open vSwitch matches ports of a first fragment only.
const (
	FragNo       Fragment = iota // whole packets
	FragFirst                    // fragments at offset 0
	FragLater                    // fragments with another offset
	FragYes                      // every fragment
	FragNotLater                 // whole packets and first fragments
)

// Bits of NXM_NX_IP_FRAG.
const (
	fragAny   = 1
	fragLater = 2
)

// IPFrag matches IP fragments (nicira-ext, NXM_NX_IP_FRAG).
func IPFrag(f Fragment) OXM {
	switch f {
	case FragFirst:
		return oxm8(FieldIPFrag, fragAny)
	case FragLater:
		return oxm8(FieldIPFrag, fragAny|fragLater)
	case FragYes:
		return oxmMasked(FieldIPFrag, []byte{fragAny}, []byte{fragAny})
	case FragNotLater:
		return oxmMasked(FieldIPFrag, []byte{0}, []byte{fragLater})
	}
	return oxm8(FieldIPFrag, 0)
}

// WithMask narrows a numeric field of at most 64 bits (a port, a MAC
// address, a register) to the bits that stand in mask, the field's last bit
// being the mask's last. Validate refuses fields that the switch takes
// without mask only.
func (o OXM) WithMask(mask uint64) OXM {
	if o.field == fieldUnknown || fields[o.field].size > 8 {
		return o
	}
	size := int(fields[o.field].size)
	var m [8]byte
	binary.BigEndian.PutUint64(m[:], mask)
	return oxmMasked(o.field, o.value[:size], m[8-size:])
}

// IPSrcMasked matches those bits of the source address that stand in mask,
// which need not be a prefix; both are IPv4 or both IPv6.
func IPSrcMasked(addr, mask netip.Addr) OXM {
	return addrMasked(FieldIPv4Src, FieldIPv6Src, addr, mask)
}

// IPDstMasked matches those bits of the destination address that stand in
// mask; see IPSrcMasked.
func IPDstMasked(addr, mask netip.Addr) OXM {
	return addrMasked(FieldIPv4Dst, FieldIPv6Dst, addr, mask)
}

func addrMasked(v4, v6 Field, addr, mask netip.Addr) OXM {
	switch {
	case addr.Is4() && mask.Is4():
		return oxmMasked(v4, addr.AsSlice(), mask.AsSlice())
	case addr.Is6() && mask.Is6():
		return oxmMasked(v6, addr.AsSlice(), mask.AsSlice())
	}
	return OXM{} // no field: Validate refuses it
}
