package openflow

// Field is a field of a packet, of its metadata or of the pipeline. The
// numeric order is the canonical order of a match, and it is one in which
// prerequisites come first, as section 7.2.3.6 demands.
type Field uint8

// Fields, named as Open vSwitch names them.
const (
	fieldUnknown    Field = iota
	FieldPacketType       // of other than Ethernet packets; first, because it stands for eth_type
	FieldInPort
	FieldInPort16 // NXM_OF_IN_PORT, the 16-bit form that load and move take
	FieldMetadata
	FieldTunID
	FieldTunSrc
	FieldTunDst
	FieldTunIPv6Src
	FieldTunIPv6Dst
	FieldPktMark
	FieldConjID
	FieldReg0
	FieldReg1
	FieldReg2
	FieldReg3
	FieldReg4
	FieldReg5
	FieldReg6
	FieldReg7
	FieldReg8
	FieldReg9
	FieldReg10
	FieldReg11
	FieldReg12
	FieldReg13
	FieldReg14
	FieldReg15
	FieldXReg0 // XReg n is Reg 2n (high half) and Reg 2n+1
	FieldXReg1
	FieldXReg2
	FieldXReg3
	FieldXReg4
	FieldXReg5
	FieldXReg6
	FieldXReg7
	FieldXXReg0 // XXReg n is Reg 4n (highest) to Reg 4n+3
	FieldXXReg1
	FieldXXReg2
	FieldXXReg3
	FieldCTState
	FieldCTZone
	FieldCTMark
	FieldCTLabel
	FieldEthDst
	FieldEthSrc
	FieldEthType
	FieldVLANTCI // NXM_OF_VLAN_TCI: the whole tag, for load and move
	FieldVLAN
	FieldVLANPCP
	FieldIPDSCP
	FieldIPToS // NXM_OF_IP_TOS: the DSCP in its place in the byte
	FieldIPECN
	FieldIPTTL
	FieldIPFrag
	FieldIPProto
	FieldIPv4Src
	FieldIPv4Dst
	FieldIPv6Src
	FieldIPv6Dst
	FieldIPv6Label
	FieldCTIPProto
	FieldCTIPv4Src
	FieldCTIPv4Dst
	FieldCTIPv6Src
	FieldCTIPv6Dst
	FieldCTTransportSrc
	FieldCTTransportDst
	FieldTCPSrc
	FieldTCPDst
	FieldTCPFlags
	FieldUDPSrc
	FieldUDPDst
	FieldSCTPSrc
	FieldSCTPDst
	FieldICMPType
	FieldICMPCode
	FieldICMPv6Type
	FieldICMPv6Code
	FieldARPOp
	FieldARPSPA
	FieldARPTPA
	FieldARPSHA
	FieldARPTHA
	FieldNDTarget
	FieldNDSLL
	FieldNDTLL
	fieldEnd
)

// OXM classes (section 7.2.3.3, and nicira-ext for NXM).
const (
	classNXM0         uint16 = 0x0000
	classNXM1         uint16 = 0x0001
	classBasic        uint16 = 0x8000
	classPacketReg    uint16 = 0x8001
	classExperimenter uint16 = 0xffff
)

// oxmHeader names a field on the wire; experimenter is valid for
// classExperimenter.
type oxmHeader struct {
	class        uint16
	field        uint8
	experimenter uint32
}

// prerequisite says what else a match must hold for a field to mean anything
// (section 7.2.3.8).
type prerequisite uint8

const (
	prereqNone prerequisite = iota
	prereqVLAN
	prereqIP // IPv4 or IPv6
	prereqIPv4
	prereqIPv6
	prereqARP
	prereqTCP
	prereqUDP
	prereqSCTP
	prereqICMP
	prereqICMPv6
	prereqND
	prereqNDSolicit
	prereqNDAdvert
	prereqCTIPv4
	prereqCTIPv6
	prereqCTPorts
	prereqCT // a connection's own addresses: a tracked, valid packet
)

// access says what a field is for.
type access uint8

const (
	matchExact    access = 1 << iota // a match may name it
	matchMasked                      // a match may mask it, bit by bit
	writable                         // an action may write it
	actionAlone                      // never in our matches: another field has its bits
	othersAlone                      // never in our matches
	matchAny      = matchExact | matchMasked
	matchAndWrite = matchAny | writable
)

// fieldInfo describes a field. We encode a match as the first header and
// understand all of them: Open vSwitch answers in the class that the
// connection's version makes standard, not in the one we asked in.
type fieldInfo struct {
	name    string // in a match, as ovs-ofctl prints it
	set     string // in set_field, where it differs
	nxm     string // as ovs-ofctl names it in load and move
	size    uint8  // bytes on the wire
	bits    uint8  // of these that count
	access  access
	needs   prerequisite
	headers []oxmHeader
}

// String returns the field's name in Open vSwitch's flow syntax.
func (f Field) String() string {
	if f == fieldUnknown || f >= fieldEnd {
		return "unknown field"
	}
	return fields[f].name
}

// Bits returns how many bits the field has, 0 for one that does not exist.
func (f Field) Bits() int {
	if f >= fieldEnd {
		return 0
	}
	return int(fields[f].bits)
}

// validBits returns the bits that count of the field's bytes on the wire.
func (f Field) validBits() []byte { return fieldBits[f][:fields[f].size] }

// setName is the field's name in a set_field action.
func (f Field) setName() string {
	if s := fields[f].set; s != "" {
		return s
	}
	return fields[f].name
}

// nxmHeader is the header that stands in the Nicira actions: the oldest that
// the field has, as Open vSwitch itself sends it.
func (f Field) nxmHeader() uint32 {
	info := &fields[f]
	best := info.headers[0]
	for _, h := range info.headers {
		if h.class < best.class {
			best = h
		}
	}
	return uint32(best.class)<<16 | uint32(best.field)<<9 | uint32(info.size)
}

// fieldOfHeader finds the field of a 32-bit header without mask.
func fieldOfHeader(h uint32) (Field, bool) {
	f := oxmHeader{class: uint16(h >> 16), field: uint8(h>>9) & 0x7f}.lookup()
	return f, f != fieldUnknown && h>>8&1 == 0 && uint8(h) == fields[f].size
}

// fieldByHeader is the inverse of fields: by class and number, and by name for
// those of experimenters.
var fieldByHeader = func() (m struct {
	nxm0, nxm1, basic, packetReg [128]Field
	experimenter                 map[oxmHeader]Field
}) {
	m.experimenter = map[oxmHeader]Field{}
	for f, info := range fields {
		for _, h := range info.headers {
			switch h.class {
			case classNXM0:
				m.nxm0[h.field] = Field(f)
			case classNXM1:
				m.nxm1[h.field] = Field(f)
			case classBasic:
				m.basic[h.field] = Field(f)
			case classPacketReg:
				m.packetReg[h.field] = Field(f)
			default:
				m.experimenter[h] = Field(f)
			}
		}
	}
	return m
}()

// lookup finds the field that a header names, fieldUnknown if there is none.
func (h oxmHeader) lookup() Field {
	switch h.class {
	case classNXM0:
		return fieldByHeader.nxm0[h.field&0x7f]
	case classNXM1:
		return fieldByHeader.nxm1[h.field&0x7f]
	case classBasic:
		return fieldByHeader.basic[h.field&0x7f]
	case classPacketReg:
		return fieldByHeader.packetReg[h.field&0x7f]
	}
	return fieldByHeader.experimenter[h]
}
