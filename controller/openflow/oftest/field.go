package oftest

import (
	"net/netip"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// cfi is the bit of a VLAN TCI that stands for a tag's presence.
const cfi = 0x1000

// ecnMask is the ECN's part of the TOS byte.
const ecnMask = 3

func (p *Packet) tci() uint64 {
	if p.VLANs[0].TPID == 0 {
		return 0
	}
	return uint64(p.VLANs[0].Priority)<<13 | cfi | uint64(p.VLANs[0].ID)
}

// setTCI writes the outer tag; writing a tag onto a packet without one
// makes it an 802.1Q tag.
func (p *Packet) setTCI(v uint64) {
	if v&cfi == 0 {
		p.popVLAN()
		return
	}
	if p.VLANs[0].TPID == 0 {
		p.VLANs[0].TPID = EtherVLAN
	}
	p.VLANs[0].ID, p.VLANs[0].Priority = uint16(v&0xfff), uint8(v>>13&7)
}

// has reports whether the packet meets a field's prerequisites (section
// 7.2.3.8): actions on a field that the packet does not have do nothing.
func (p *Packet) has(f of.Field) bool {
	switch f {
	case of.FieldVLANPCP:
		return p.VLANs[0].TPID != 0
	case of.FieldIPDSCP, of.FieldIPToS, of.FieldIPECN, of.FieldIPTTL, of.FieldIPFrag, of.FieldIPProto:
		return p.isIP()
	case of.FieldIPv4Src, of.FieldIPv4Dst:
		return p.isIPv4()
	case of.FieldIPv6Src, of.FieldIPv6Dst, of.FieldIPv6Label:
		return p.isIPv6()
	case of.FieldTCPSrc, of.FieldTCPDst, of.FieldTCPFlags:
		return p.isL4(ProtoTCP)
	case of.FieldUDPSrc, of.FieldUDPDst:
		return p.isL4(ProtoUDP)
	case of.FieldSCTPSrc, of.FieldSCTPDst:
		return p.isL4(ProtoSCTP)
	case of.FieldICMPType, of.FieldICMPCode:
		return p.isICMPv4()
	case of.FieldICMPv6Type, of.FieldICMPv6Code:
		return p.isICMPv6()
	case of.FieldARPOp, of.FieldARPSPA, of.FieldARPTPA, of.FieldARPSHA, of.FieldARPTHA:
		return p.isARP()
	case of.FieldNDTarget:
		return p.isND(ndSolicit, ndAdvert)
	case of.FieldNDSLL:
		return p.isND(ndSolicit)
	case of.FieldNDTLL:
		return p.isND(ndAdvert)
	}
	return p.hasTuple(f)
}

// hasTuple is has for the fields of a connection's original direction.
func (p *Packet) hasTuple(f of.Field) bool {
	valid := p.CT.State&(CTTracked|CTInvalid) == CTTracked
	switch f {
	case of.FieldCTIPProto:
		return valid
	case of.FieldCTIPv4Src, of.FieldCTIPv4Dst:
		return valid && p.isIPv4()
	case of.FieldCTIPv6Src, of.FieldCTIPv6Dst:
		return valid && p.isIPv6()
	case of.FieldCTTransportSrc, of.FieldCTTransportDst:
		return valid && p.isIP() && (p.CT.Orig.Proto == ProtoTCP || p.CT.Orig.Proto == ProtoUDP || p.CT.Orig.Proto == ProtoSCTP)
	}
	return true
}

// get returns a field's value, zero where the packet does not have it.
func (p *Packet) get(f of.Field) bits {
	if !p.has(f) {
		return bits{}
	}
	if r, size, ok := registers(f); ok {
		var v bits
		for i := range size {
			v = v.shl(32).or(number(uint64(p.Regs[r+i])))
		}
		return v
	}
	switch f {
	case of.FieldInPort, of.FieldInPort16:
		return number(uint64(p.InPort))
	case of.FieldMetadata:
		return number(p.Metadata)
	case of.FieldTunID:
		return number(p.TunID)
	case of.FieldTunSrc, of.FieldTunIPv6Src:
		return addrOf(p.TunSrc, f == of.FieldTunSrc)
	case of.FieldTunDst, of.FieldTunIPv6Dst:
		return addrOf(p.TunDst, f == of.FieldTunDst)
	case of.FieldPktMark:
		return number(uint64(p.Mark))
	}
	if v, ok := p.getConntrack(f); ok {
		return v
	}
	if v, ok := p.getLink(f); ok {
		return v
	}
	return p.getNetwork(f)
}

// registers says which of the 32-bit registers a register field spans.
func registers(f of.Field) (first, n int, ok bool) {
	switch {
	case f >= of.FieldReg0 && f <= of.FieldReg15:
		return int(f - of.FieldReg0), 1, true
	case f >= of.FieldXReg0 && f <= of.FieldXReg7:
		return 2 * int(f-of.FieldXReg0), 2, true
	case f >= of.FieldXXReg0 && f <= of.FieldXXReg3:
		return 4 * int(f-of.FieldXXReg0), 4, true
	}
	return 0, 0, false
}

// addrOf returns an address if it is of the family asked for.
func addrOf(a netip.Addr, v4 bool) bits {
	if !a.IsValid() || a.Is4() != v4 {
		return bits{}
	}
	return fromBytes(a.AsSlice())
}

func toAddr(v bits, v4 bool) netip.Addr {
	b := v.bytes()
	if v4 {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

func (p *Packet) getConntrack(f of.Field) (bits, bool) {
	switch f {
	case of.FieldCTState:
		return number(uint64(p.CT.State)), true
	case of.FieldCTZone:
		return number(uint64(p.CT.Zone)), true
	case of.FieldCTMark:
		return number(uint64(p.CT.Mark)), true
	case of.FieldCTLabel:
		return fromBytes(p.CT.Label[:]), true
	case of.FieldCTIPProto:
		return number(uint64(p.CT.Orig.Proto)), true
	case of.FieldCTIPv4Src, of.FieldCTIPv6Src:
		return addrOf(p.CT.Orig.Src, f == of.FieldCTIPv4Src), true
	case of.FieldCTIPv4Dst, of.FieldCTIPv6Dst:
		return addrOf(p.CT.Orig.Dst, f == of.FieldCTIPv4Dst), true
	case of.FieldCTTransportSrc:
		return number(uint64(p.CT.Orig.SrcPort)), true
	case of.FieldCTTransportDst:
		return number(uint64(p.CT.Orig.DstPort)), true
	}
	return bits{}, false
}

func (p *Packet) getLink(f of.Field) (bits, bool) {
	switch f {
	case of.FieldEthDst:
		return fromBytes(p.EthDst[:]), true
	case of.FieldEthSrc:
		return fromBytes(p.EthSrc[:]), true
	case of.FieldEthType:
		return number(uint64(p.EthType)), true
	case of.FieldVLANTCI:
		return number(p.tci()), true
	case of.FieldVLAN:
		return number(p.tci() & 0x1fff), true
	case of.FieldVLANPCP:
		return number(p.tci() >> 13), true
	case of.FieldARPOp:
		return number(uint64(p.ARPOp)), true
	case of.FieldARPSPA:
		return addrOf(p.Src, true), true
	case of.FieldARPTPA:
		return addrOf(p.Dst, true), true
	case of.FieldARPSHA:
		return fromBytes(p.ARPSHA[:]), true
	case of.FieldARPTHA:
		return fromBytes(p.ARPTHA[:]), true
	}
	return bits{}, false
}

func (p *Packet) getNetwork(f of.Field) bits {
	switch f {
	case of.FieldIPDSCP:
		return number(uint64(p.TOS >> 2))
	case of.FieldIPToS:
		return number(uint64(p.TOS &^ ecnMask))
	case of.FieldIPECN:
		return number(uint64(p.TOS & ecnMask))
	case of.FieldIPTTL:
		return number(uint64(p.TTL))
	case of.FieldIPFrag:
		return number(uint64(p.Fragment))
	case of.FieldIPProto:
		return number(uint64(p.Proto))
	case of.FieldIPv4Src, of.FieldIPv6Src:
		return addrOf(p.Src, f == of.FieldIPv4Src)
	case of.FieldIPv4Dst, of.FieldIPv6Dst:
		return addrOf(p.Dst, f == of.FieldIPv4Dst)
	case of.FieldIPv6Label:
		return number(uint64(p.FlowLabel))
	case of.FieldTCPSrc, of.FieldUDPSrc, of.FieldSCTPSrc:
		return number(uint64(p.SrcPort))
	case of.FieldTCPDst, of.FieldUDPDst, of.FieldSCTPDst:
		return number(uint64(p.DstPort))
	case of.FieldTCPFlags:
		return number(uint64(p.TCPFlags))
	case of.FieldICMPType, of.FieldICMPv6Type:
		return number(uint64(p.ICMPType))
	case of.FieldICMPCode, of.FieldICMPv6Code:
		return number(uint64(p.ICMPCode))
	case of.FieldNDTarget:
		return addrOf(p.NDTarget, false)
	case of.FieldNDSLL:
		return fromBytes(p.NDSLL[:])
	case of.FieldNDTLL:
		return fromBytes(p.NDTLL[:])
	}
	return bits{}
}

// set writes a field that actions may write; it reports whether it could.
func (p *Packet) set(f of.Field, v bits) bool {
	if !p.has(f) {
		return false
	}
	if r, n, ok := registers(f); ok {
		for i := range n {
			p.Regs[r+i] = uint32(v.shr(32 * (n - 1 - i)).lo)
		}
		return true
	}
	switch f {
	case of.FieldInPort, of.FieldInPort16:
		p.InPort = uint32(v.lo)
	case of.FieldMetadata:
		p.Metadata = v.lo
	case of.FieldTunID:
		p.TunID = v.lo
	case of.FieldTunSrc, of.FieldTunIPv6Src:
		p.TunSrc = toAddr(v, f == of.FieldTunSrc)
	case of.FieldTunDst, of.FieldTunIPv6Dst:
		p.TunDst = toAddr(v, f == of.FieldTunDst)
	case of.FieldPktMark:
		p.Mark = uint32(v.lo)
	case of.FieldCTMark:
		p.CT.Mark = uint32(v.lo)
	case of.FieldCTLabel:
		p.CT.Label = v.bytes()
	default:
		return p.setLink(f, v) || p.setNetwork(f, v) || p.setTransport(f, v)
	}
	return true
}

func toMAC(v bits) [6]byte {
	b := v.bytes()
	return [6]byte(b[10:])
}

func (p *Packet) setLink(f of.Field, v bits) bool {
	switch f {
	case of.FieldEthDst:
		p.EthDst = toMAC(v)
	case of.FieldEthSrc:
		p.EthSrc = toMAC(v)
	case of.FieldVLANTCI:
		p.setTCI(v.lo)
	case of.FieldVLAN:
		p.setTCI(p.tci()&^0x1fff | v.lo&0xfff | cfi)
	case of.FieldVLANPCP:
		p.setTCI(p.tci()&0x1fff | v.lo<<13 | cfi)
	case of.FieldARPOp:
		p.ARPOp = uint16(v.lo)
	case of.FieldARPSPA:
		p.Src = toAddr(v, true)
	case of.FieldARPTPA:
		p.Dst = toAddr(v, true)
	case of.FieldARPSHA:
		p.ARPSHA = toMAC(v)
	case of.FieldARPTHA:
		p.ARPTHA = toMAC(v)
	default:
		return false
	}
	return true
}

func (p *Packet) setNetwork(f of.Field, v bits) bool {
	switch f {
	case of.FieldIPDSCP:
		p.TOS = uint8(v.lo<<2) | p.TOS&ecnMask
	case of.FieldIPToS:
		p.TOS = uint8(v.lo)&^ecnMask | p.TOS&ecnMask
	case of.FieldIPECN:
		p.TOS = p.TOS&^ecnMask | uint8(v.lo)&ecnMask
	case of.FieldIPTTL:
		p.TTL = uint8(v.lo)
	case of.FieldIPv4Src, of.FieldIPv6Src:
		p.Src = toAddr(v, f == of.FieldIPv4Src)
	case of.FieldIPv4Dst, of.FieldIPv6Dst:
		p.Dst = toAddr(v, f == of.FieldIPv4Dst)
	case of.FieldIPv6Label:
		p.FlowLabel = uint32(v.lo)
	default:
		return false
	}
	return true
}

func (p *Packet) setTransport(f of.Field, v bits) bool {
	switch f {
	case of.FieldTCPSrc, of.FieldUDPSrc, of.FieldSCTPSrc:
		p.SrcPort = uint16(v.lo)
	case of.FieldTCPDst, of.FieldUDPDst, of.FieldSCTPDst:
		p.DstPort = uint16(v.lo)
	case of.FieldICMPType, of.FieldICMPv6Type:
		p.ICMPType = uint8(v.lo)
	case of.FieldICMPCode, of.FieldICMPv6Code:
		p.ICMPCode = uint8(v.lo)
	case of.FieldNDTarget:
		p.NDTarget = toAddr(v, false)
	case of.FieldNDSLL:
		p.NDSLL = toMAC(v)
	case of.FieldNDTLL:
		p.NDTLL = toMAC(v)
	default:
		return false
	}
	return true
}
