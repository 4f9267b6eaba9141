package openflow

import "strconv"

// fields is filled by buildFields at package load and never changed. Numbers
// and names are those of section 7.2.3.7 and of Open vSwitch's meta-flow.
var fields = buildFields()

// fieldBits holds, for each field, the bits that a match may ask for: those
// that the field has, apart from these.
var fieldBits = func() (v [fieldEnd][16]byte) {
	matched := map[Field]int{FieldVLAN: 13, FieldCTState: 8, FieldARPOp: 8}
	for f := range fields {
		bits, ok := matched[Field(f)]
		if !ok {
			bits = int(fields[f].bits)
		}
		for bit := range bits {
			v[f][int(fields[f].size)-1-bit/8] |= 1 << (bit % 8)
		}
	}
	return v
}()

func basic(n uint8) oxmHeader            { return oxmHeader{class: classBasic, field: n} }
func nxm0(n uint8) oxmHeader             { return oxmHeader{class: classNXM0, field: n} }
func nxm1(n uint8) oxmHeader             { return oxmHeader{class: classNXM1, field: n} }
func headers(h ...oxmHeader) []oxmHeader { return h }

func buildFields() (f [fieldEnd]fieldInfo) {
	metadataFields(&f)
	registerFields(&f)
	linkFields(&f)
	networkFields(&f)
	transportFields(&f)
	return f
}

func metadataFields(f *[fieldEnd]fieldInfo) {
	f[FieldPacketType] = fieldInfo{"packet_type", "", "OXM_OF_PACKET_TYPE", 4, 32, othersAlone, prereqNone, headers(basic(44))}
	f[FieldInPort] = fieldInfo{"in_port", "in_port_oxm", "OXM_OF_IN_PORT", 4, 32, matchExact | writable, prereqNone, headers(basic(0))}
	f[FieldInPort16] = fieldInfo{"in_port", "", "NXM_OF_IN_PORT", 2, 16, actionAlone | writable, prereqNone, headers(nxm0(0))}
	f[FieldMetadata] = fieldInfo{"metadata", "", "OXM_OF_METADATA", 8, 64, matchAndWrite, prereqNone, headers(basic(2))}
	f[FieldTunID] = fieldInfo{"tun_id", "", "NXM_NX_TUN_ID", 8, 64, matchAndWrite, prereqNone, headers(basic(38), nxm1(16))}
	f[FieldTunSrc] = fieldInfo{"tun_src", "", "NXM_NX_TUN_IPV4_SRC", 4, 32, matchAndWrite, prereqNone, headers(nxm1(31))}
	f[FieldTunDst] = fieldInfo{"tun_dst", "", "NXM_NX_TUN_IPV4_DST", 4, 32, matchAndWrite, prereqNone, headers(nxm1(32))}
	f[FieldTunIPv6Src] = fieldInfo{"tun_ipv6_src", "", "NXM_NX_TUN_IPV6_SRC", 16, 128, matchAndWrite, prereqNone, headers(nxm1(109))}
	f[FieldTunIPv6Dst] = fieldInfo{"tun_ipv6_dst", "", "NXM_NX_TUN_IPV6_DST", 16, 128, matchAndWrite, prereqNone, headers(nxm1(110))}
	f[FieldPktMark] = fieldInfo{"pkt_mark", "", "NXM_NX_PKT_MARK", 4, 32, matchAndWrite, prereqNone, headers(nxm1(33))}
	f[FieldConjID] = fieldInfo{"conj_id", "", "NXM_NX_CONJ_ID", 4, 32, matchExact, prereqNone, headers(nxm1(37))}
	f[FieldCTState] = fieldInfo{"ct_state", "", "NXM_NX_CT_STATE", 4, 32, matchAny, prereqNone, headers(nxm1(105))}
	f[FieldCTZone] = fieldInfo{"ct_zone", "", "NXM_NX_CT_ZONE", 2, 16, matchExact, prereqNone, headers(nxm1(106))}
	f[FieldCTMark] = fieldInfo{"ct_mark", "", "NXM_NX_CT_MARK", 4, 32, matchAndWrite, prereqNone, headers(nxm1(107))}
	f[FieldCTLabel] = fieldInfo{"ct_label", "", "NXM_NX_CT_LABEL", 16, 128, matchAndWrite, prereqNone, headers(nxm1(108))}
	f[FieldCTIPProto] = fieldInfo{"ct_nw_proto", "", "NXM_NX_CT_NW_PROTO", 1, 8, matchExact, prereqCT, headers(nxm1(119))}
	f[FieldCTIPv4Src] = fieldInfo{"ct_nw_src", "", "NXM_NX_CT_NW_SRC", 4, 32, matchAny, prereqCTIPv4, headers(nxm1(120))}
	f[FieldCTIPv4Dst] = fieldInfo{"ct_nw_dst", "", "NXM_NX_CT_NW_DST", 4, 32, matchAny, prereqCTIPv4, headers(nxm1(121))}
	f[FieldCTIPv6Src] = fieldInfo{"ct_ipv6_src", "", "NXM_NX_CT_IPV6_SRC", 16, 128, matchAny, prereqCTIPv6, headers(nxm1(122))}
	f[FieldCTIPv6Dst] = fieldInfo{"ct_ipv6_dst", "", "NXM_NX_CT_IPV6_DST", 16, 128, matchAny, prereqCTIPv6, headers(nxm1(123))}
	f[FieldCTTransportSrc] = fieldInfo{"ct_tp_src", "", "NXM_NX_CT_TP_SRC", 2, 16, matchAny, prereqCTPorts, headers(nxm1(124))}
	f[FieldCTTransportDst] = fieldInfo{"ct_tp_dst", "", "NXM_NX_CT_TP_DST", 2, 16, matchAny, prereqCTPorts, headers(nxm1(125))}
}

func registerFields(f *[fieldEnd]fieldInfo) {
	for i := range uint8(16) {
		n := strconv.Itoa(int(i))
		f[FieldReg0+Field(i)] = fieldInfo{"reg" + n, "", "NXM_NX_REG" + n, 4, 32, matchAndWrite, prereqNone, headers(nxm1(i))}
	}
	for i := range uint8(8) {
		n := strconv.Itoa(int(i))
		f[FieldXReg0+Field(i)] = fieldInfo{"xreg" + n, "", "OXM_OF_PKT_REG" + n, 8, 64, actionAlone | writable, prereqNone,
			headers(oxmHeader{class: classPacketReg, field: i})}
	}
	for i := range uint8(4) {
		n := strconv.Itoa(int(i))
		f[FieldXXReg0+Field(i)] = fieldInfo{"xxreg" + n, "", "NXM_NX_XXREG" + n, 16, 128, actionAlone | writable, prereqNone, headers(nxm1(111 + i))}
	}
}

func linkFields(f *[fieldEnd]fieldInfo) {
	f[FieldEthDst] = fieldInfo{"dl_dst", "eth_dst", "NXM_OF_ETH_DST", 6, 48, matchAndWrite, prereqNone, headers(basic(3), nxm0(1))}
	f[FieldEthSrc] = fieldInfo{"dl_src", "eth_src", "NXM_OF_ETH_SRC", 6, 48, matchAndWrite, prereqNone, headers(basic(4), nxm0(2))}
	f[FieldEthType] = fieldInfo{"dl_type", "eth_type", "NXM_OF_ETH_TYPE", 2, 16, matchExact, prereqNone, headers(basic(5), nxm0(3))}
	f[FieldVLANTCI] = fieldInfo{"vlan_tci", "", "NXM_OF_VLAN_TCI", 2, 16, actionAlone | writable, prereqNone, headers(nxm0(4))}
	f[FieldVLAN] = fieldInfo{"vlan_vid", "", "OXM_OF_VLAN_VID", 2, 12, matchAndWrite, prereqNone, headers(basic(6))}
	f[FieldVLANPCP] = fieldInfo{"dl_vlan_pcp", "vlan_pcp", "OXM_OF_VLAN_PCP", 1, 3, matchExact | writable, prereqVLAN, headers(basic(7))}
	f[FieldARPOp] = fieldInfo{"arp_op", "", "NXM_OF_ARP_OP", 2, 16, matchExact | writable, prereqARP, headers(basic(21), nxm0(15))}
	f[FieldARPSPA] = fieldInfo{"arp_spa", "", "NXM_OF_ARP_SPA", 4, 32, matchAndWrite, prereqARP, headers(basic(22), nxm0(16))}
	f[FieldARPTPA] = fieldInfo{"arp_tpa", "", "NXM_OF_ARP_TPA", 4, 32, matchAndWrite, prereqARP, headers(basic(23), nxm0(17))}
	f[FieldARPSHA] = fieldInfo{"arp_sha", "", "NXM_NX_ARP_SHA", 6, 48, matchAndWrite, prereqARP, headers(basic(24), nxm1(17))}
	f[FieldARPTHA] = fieldInfo{"arp_tha", "", "NXM_NX_ARP_THA", 6, 48, matchAndWrite, prereqARP, headers(basic(25), nxm1(18))}
}

func networkFields(f *[fieldEnd]fieldInfo) {
	f[FieldIPDSCP] = fieldInfo{"ip_dscp", "", "OXM_OF_IP_DSCP", 1, 6, matchExact | writable, prereqIP, headers(basic(8))}
	f[FieldIPToS] = fieldInfo{"nw_tos", "", "NXM_OF_IP_TOS", 1, 8, actionAlone | writable, prereqIP, headers(nxm0(5))}
	f[FieldIPECN] = fieldInfo{"nw_ecn", "", "NXM_NX_IP_ECN", 1, 2, matchExact | writable, prereqIP, headers(basic(9), nxm1(28))}
	f[FieldIPTTL] = fieldInfo{"nw_ttl", "", "NXM_NX_IP_TTL", 1, 8, matchExact | writable, prereqIP, headers(nxm1(29))}
	f[FieldIPFrag] = fieldInfo{"ip_frag", "", "NXM_NX_IP_FRAG", 1, 2, matchAny, prereqIP, headers(nxm1(26))}
	f[FieldIPProto] = fieldInfo{"nw_proto", "", "NXM_OF_IP_PROTO", 1, 8, matchExact, prereqIP, headers(basic(10), nxm0(6))}
	f[FieldIPv4Src] = fieldInfo{"nw_src", "ip_src", "NXM_OF_IP_SRC", 4, 32, matchAndWrite, prereqIPv4, headers(basic(11), nxm0(7))}
	f[FieldIPv4Dst] = fieldInfo{"nw_dst", "ip_dst", "NXM_OF_IP_DST", 4, 32, matchAndWrite, prereqIPv4, headers(basic(12), nxm0(8))}
	f[FieldIPv6Src] = fieldInfo{"ipv6_src", "", "NXM_NX_IPV6_SRC", 16, 128, matchAndWrite, prereqIPv6, headers(basic(26), nxm1(19))}
	f[FieldIPv6Dst] = fieldInfo{"ipv6_dst", "", "NXM_NX_IPV6_DST", 16, 128, matchAndWrite, prereqIPv6, headers(basic(27), nxm1(20))}
	f[FieldIPv6Label] = fieldInfo{"ipv6_label", "", "NXM_NX_IPV6_LABEL", 4, 20, matchAndWrite, prereqIPv6, headers(basic(28), nxm1(27))}
	f[FieldNDTarget] = fieldInfo{"nd_target", "", "NXM_NX_ND_TARGET", 16, 128, matchAndWrite, prereqND, headers(basic(31), nxm1(23))}
	f[FieldNDSLL] = fieldInfo{"nd_sll", "", "NXM_NX_ND_SLL", 6, 48, matchAndWrite, prereqNDSolicit, headers(basic(32), nxm1(24))}
	f[FieldNDTLL] = fieldInfo{"nd_tll", "", "NXM_NX_ND_TLL", 6, 48, matchAndWrite, prereqNDAdvert, headers(basic(33), nxm1(25))}
}

func transportFields(f *[fieldEnd]fieldInfo) {
	f[FieldTCPSrc] = fieldInfo{"tp_src", "tcp_src", "NXM_OF_TCP_SRC", 2, 16, matchAndWrite, prereqTCP, headers(basic(13), nxm0(9))}
	f[FieldTCPDst] = fieldInfo{"tp_dst", "tcp_dst", "NXM_OF_TCP_DST", 2, 16, matchAndWrite, prereqTCP, headers(basic(14), nxm0(10))}
	f[FieldTCPFlags] = fieldInfo{"tcp_flags", "", "NXM_NX_TCP_FLAGS", 2, 12, matchAny, prereqTCP, headers(nxm1(34),
		oxmHeader{class: classExperimenter, field: 42, experimenter: experimenterONF}, basic(42))}
	f[FieldUDPSrc] = fieldInfo{"tp_src", "udp_src", "NXM_OF_UDP_SRC", 2, 16, matchAndWrite, prereqUDP, headers(basic(15), nxm0(11))}
	f[FieldUDPDst] = fieldInfo{"tp_dst", "udp_dst", "NXM_OF_UDP_DST", 2, 16, matchAndWrite, prereqUDP, headers(basic(16), nxm0(12))}
	f[FieldSCTPSrc] = fieldInfo{"tp_src", "sctp_src", "OXM_OF_SCTP_SRC", 2, 16, matchAndWrite, prereqSCTP, headers(basic(17))}
	f[FieldSCTPDst] = fieldInfo{"tp_dst", "sctp_dst", "OXM_OF_SCTP_DST", 2, 16, matchAndWrite, prereqSCTP, headers(basic(18))}
	f[FieldICMPType] = fieldInfo{"icmp_type", "", "NXM_OF_ICMP_TYPE", 1, 8, matchExact | writable, prereqICMP, headers(basic(19), nxm0(13))}
	f[FieldICMPCode] = fieldInfo{"icmp_code", "", "NXM_OF_ICMP_CODE", 1, 8, matchExact | writable, prereqICMP, headers(basic(20), nxm0(14))}
	f[FieldICMPv6Type] = fieldInfo{"icmp_type", "icmpv6_type", "NXM_NX_ICMPV6_TYPE", 1, 8, matchExact | writable, prereqICMPv6, headers(basic(29), nxm1(21))}
	f[FieldICMPv6Code] = fieldInfo{"icmp_code", "icmpv6_code", "NXM_NX_ICMPV6_CODE", 1, 8, matchExact | writable, prereqICMPv6, headers(basic(30), nxm1(22))}
}
