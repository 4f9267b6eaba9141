package openflow

// Field is a match field. The numeric order is the canonical order of a
// match, and it is one in which prerequisites come first, as section 7.2.3.6
// demands.
type Field uint8

// Match fields, named as Open vSwitch names them.
const (
	fieldUnknown Field = iota
	FieldInPort
	FieldMetadata
	FieldReg0
	FieldReg15   = FieldReg0 + 15
	FieldCTState = FieldReg15 + iota - 4
	FieldCTZone
	FieldCTMark
	FieldEthDst
	FieldEthSrc
	FieldEthType
	FieldVLAN
	FieldIPDSCP
	FieldIPProto
	FieldIPv4Src
	FieldIPv4Dst
	FieldIPv6Src
	FieldIPv6Dst
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
	fieldEnd
)

// OXM classes (section 7.2.3.3, and nicira-ext for NXM).
const (
	classNXM0         uint16 = 0x0000
	classNXM1         uint16 = 0x0001
	classBasic        uint16 = 0x8000
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
	prereqIP                // IPv4 or IPv6
	prereqIPv4
	prereqIPv6
	prereqARP
	prereqTCP
	prereqUDP
	prereqSCTP
	prereqICMP
	prereqICMPv6
	prereqND
)

// fieldInfo describes a field. We encode as the first header and understand
// all of them: Open vSwitch answers in the class that the connection's
// version makes standard, not in the one we asked in.
type fieldInfo struct {
	name     string
	size     uint8
	maskable bool
	needs    prerequisite
	headers  []oxmHeader
}

func basic(field uint8) []oxmHeader { return []oxmHeader{{class: classBasic, field: field}} }
func nxm1(field uint8) []oxmHeader  { return []oxmHeader{{class: classNXM1, field: field}} }

// fields is filled by buildFields at package load and never changed.
var fields = buildFields()

func buildFields() (f [fieldEnd]fieldInfo) {
	f[FieldInPort] = fieldInfo{"in_port", 4, false, prereqNone, basic(0)}
	f[FieldMetadata] = fieldInfo{"metadata", 8, true, prereqNone, basic(2)}
	for i, name := range [16]string{"reg0", "reg1", "reg2", "reg3", "reg4", "reg5", "reg6", "reg7",
		"reg8", "reg9", "reg10", "reg11", "reg12", "reg13", "reg14", "reg15"} {
		f[FieldReg0+Field(i)] = fieldInfo{name, 4, true, prereqNone, nxm1(uint8(i))}
	}
	f[FieldCTState] = fieldInfo{"ct_state", 4, true, prereqNone, nxm1(105)}
	f[FieldCTZone] = fieldInfo{"ct_zone", 2, false, prereqNone, nxm1(106)}
	f[FieldCTMark] = fieldInfo{"ct_mark", 4, true, prereqNone, nxm1(107)}
	f[FieldEthDst] = fieldInfo{"dl_dst", 6, true, prereqNone, basic(3)}
	f[FieldEthSrc] = fieldInfo{"dl_src", 6, true, prereqNone, basic(4)}
	f[FieldEthType] = fieldInfo{"dl_type", 2, false, prereqNone, basic(5)}
	f[FieldVLAN] = fieldInfo{"vlan_vid", 2, true, prereqNone, basic(6)}
	f[FieldIPDSCP] = fieldInfo{"ip_dscp", 1, false, prereqIP, basic(8)}
	f[FieldIPProto] = fieldInfo{"nw_proto", 1, false, prereqIP, basic(10)}
	f[FieldIPv4Src] = fieldInfo{"nw_src", 4, true, prereqIPv4, basic(11)}
	f[FieldIPv4Dst] = fieldInfo{"nw_dst", 4, true, prereqIPv4, basic(12)}
	f[FieldIPv6Src] = fieldInfo{"ipv6_src", 16, true, prereqIPv6, basic(26)}
	f[FieldIPv6Dst] = fieldInfo{"ipv6_dst", 16, true, prereqIPv6, basic(27)}
	f[FieldTCPSrc] = fieldInfo{"tp_src", 2, true, prereqTCP, basic(13)}
	f[FieldTCPDst] = fieldInfo{"tp_dst", 2, true, prereqTCP, basic(14)}
	f[FieldTCPFlags] = fieldInfo{"tcp_flags", 2, true, prereqTCP, []oxmHeader{
		{class: classNXM1, field: 34},
		{class: classExperimenter, field: 42, experimenter: experimenterONF},
		{class: classBasic, field: 42}}}
	f[FieldUDPSrc] = fieldInfo{"tp_src", 2, true, prereqUDP, basic(15)}
	f[FieldUDPDst] = fieldInfo{"tp_dst", 2, true, prereqUDP, basic(16)}
	f[FieldSCTPSrc] = fieldInfo{"tp_src", 2, true, prereqSCTP, basic(17)}
	f[FieldSCTPDst] = fieldInfo{"tp_dst", 2, true, prereqSCTP, basic(18)}
	f[FieldICMPType] = fieldInfo{"icmp_type", 1, false, prereqICMP, basic(19)}
	f[FieldICMPCode] = fieldInfo{"icmp_code", 1, false, prereqICMP, basic(20)}
	f[FieldICMPv6Type] = fieldInfo{"icmp_type", 1, false, prereqICMPv6, basic(29)}
	f[FieldICMPv6Code] = fieldInfo{"icmp_code", 1, false, prereqICMPv6, basic(30)}
	f[FieldARPOp] = fieldInfo{"arp_op", 2, false, prereqARP, basic(21)}
	f[FieldARPSPA] = fieldInfo{"arp_spa", 4, true, prereqARP, basic(22)}
	f[FieldARPTPA] = fieldInfo{"arp_tpa", 4, true, prereqARP, basic(23)}
	f[FieldARPSHA] = fieldInfo{"arp_sha", 6, true, prereqARP, basic(24)}
	f[FieldARPTHA] = fieldInfo{"arp_tha", 6, true, prereqARP, basic(25)}
	f[FieldNDTarget] = fieldInfo{"nd_target", 16, true, prereqND, basic(31)}
	return f
}

// fieldByHeader is the inverse of fields.
var fieldByHeader = func() map[oxmHeader]Field {
	m := make(map[oxmHeader]Field, 2*len(fields))
	for f, info := range fields {
		for _, h := range info.headers {
			m[h] = Field(f)
		}
	}
	return m
}()

// String returns the field's name in Open vSwitch's flow syntax.
func (f Field) String() string {
	if f == fieldUnknown || f >= fieldEnd {
		return "unknown field"
	}
	return fields[f].name
}
