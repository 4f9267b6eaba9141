package openflow

import (
	"encoding/binary"
	"net/netip"
)

// sampleFlows uses every match constructor and every action.
func sampleFlows() []Flow {
	ip4, ip6, actions := EthType(0x0800), EthType(0x86dd), sampleActions()
	var out []Flow
	for i, m := range sampleMatches() {
		out = append(out, Flow{
			Table: uint8(i), Priority: uint16(100 + i), Cookie: 0x504c_0103_0000_0000 | uint64(i),
			HardTimeout: uint16(i % 3 * 30), Flags: uint16(i % 2), Match: m,
			Instructions: Instructions{Actions: actions[i%len(actions)]},
		})
	}
	for i, c := range sampleConntrack() {
		out = append(out, Flow{Table: 50, Priority: uint16(i), Match: Match{ip4, IPProto(6)}, Instructions: Instructions{Actions: []Action{c}}})
	}
	for i, l := range sampleLearn() {
		out = append(out, Flow{Table: 53, Priority: uint16(i), Match: Match{ip4, IPProto(132)}, Instructions: Instructions{Actions: []Action{l}}})
	}
	out = append(out,
		Flow{Table: 51, Match: Match{ip6, IPProto(17)}, Instructions: Instructions{Actions: []Action{DecTTL{}, Conntrack{
			Commit: true, NAT: &NAT{Src: true, Min: netip.MustParseAddr("fe80::1"), MinPort: 80}}}}},
		Flow{Table: 51, Priority: 1, Match: Match{ip4, CTState(CTTracked, CTTracked|CTInvalid)},
			Instructions: Instructions{Actions: []Action{Resubmit{Table: 4, CT: true}}}},
		Flow{Table: 52, Instructions: Instructions{Meter: 3, Actions: actions[1], ClearActions: true, Write: actions[2],
			Metadata: 3, MetadataMask: 7, Goto: 200, HasGoto: true}},
		Flow{Table: 30, Priority: 1, Instructions: Instructions{Meter: 9, Actions: actions[3]}},
		Flow{Table: 31, Priority: 1, Instructions: Instructions{Goto: 40, HasGoto: true}},
	)
	return out
}

func sampleMatches() []Match {
	p := netip.MustParsePrefix
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	multicast := [6]byte{1}
	ip4, ip6, arp := EthType(0x0800), EthType(0x86dd), EthType(0x0806)
	return []Match{
		nil,
		{InPort(3)},
		{InPort(PortLocal), EthSrc(mac), EthDst(mac)},
		{EthDstMasked(multicast, multicast)},
		{VLAN(77), ip4},
		{Reg(15, 0, 1<<31), Reg(3, 5, 0xff), Reg(0, 7, 0xffffffff)},
		{ip4, IPSrc(p("10.1.0.0/16")), IPDst(p("10.2.3.4/32"))},
		{ip4, IPSrc(p("10.2.3.4/0"))},
		{ip6, IPSrc(p("2001:db8::/33")), IPDst(p("2001:db8::1/128"))},
		{ip4, IPProto(6), TCPSrc(1000), TCPDst(443), TCPFlags(0x02, 0x12)},
		{ip6, IPProto(6), TCPFlags(0x04, 0x04)},
		{ip4, IPProto(17), UDPSrc(53), UDPDst(5353)},
		{ip6, IPProto(17), UDPDst(53)},
		{ip4, IPProto(132), SCTPSrc(1), SCTPDst(2)},
		{ip4, IPProto(1), ICMPType(3), ICMPCode(1)},
		{ip6, IPProto(58), ICMPv6Type(1), ICMPv6Code(4)},
		{ip6, IPProto(58), ICMPv6Type(135), NDTarget(netip.MustParseAddr("fe80::1"))},
		{arp, ARPOp(1), ARPSPA(p("10.0.0.0/24")), ARPTPA(p("10.0.0.9/32")), ARPSHA(mac)},
		{ip4, CTState(0x21, 0x21), CTZone(7), CTMark(0x10, 0xf0)},
		{CTState(CTTracked|CTEstablished, CTTracked|CTEstablished|CTInvalid), CTLabel([16]byte{15: 1, 3: 7}, [16]byte{15: 3, 3: 0xff})},
		{ip4, ConjID(5), Metadata(5, 7), PktMark(3, 0xff)},
		{TunID(7, 0xff), TunSrc(p("1.2.3.0/24")), TunDst(p("9.8.7.6/32")), Metadata(9, ^uint64(0))},
		{TunID(7, ^uint64(0)), TunSrc(p("fe80::/10"))},
		{Tagged()},
		{Untagged()},
		{VLAN(9), VLANPCP(3)},
		{VLAN(9).WithMask(0x1001)},
		{arp, ARPTHA(mac), ARPSHA(mac).WithMask(0xffffff000000)},
		{ip4, IPDSCP(5), IPECN(1), IPTTL(64), IPFrag(FragNotLater)},
		{ip4, IPFrag(FragFirst)},
		{ip6, IPFrag(FragYes), IPv6Label(5)},
		{ip4, IPSrcMasked(netip.MustParseAddr("1.0.3.0"), netip.MustParseAddr("255.0.255.0"))},
		{ip6, IPDstMasked(netip.MustParseAddr("fe80::1"), netip.MustParseAddr("ffff::ffff"))},
		{ip4, IPProto(6), TCPSrc(0x10).WithMask(0xfff0), TCPDst(0x8000).WithMask(0x8000)},
		{ip6, IPProto(58), ICMPv6Type(135), NDSLL(mac)},
		{ip6, IPProto(58), ICMPv6Type(136), NDTLL(mac)},
		{ip4, CTState(CTTracked, CTTracked|CTInvalid), CTIPProto(6), CTSrc(p("10.0.0.0/8")), CTDst(p("10.0.0.1/32")), CTTransportDst(80)},
	}
}

func sampleActions() [][]Action {
	return [][]Action{
		nil,
		{Output{Port: 2}},
		{Output{Port: PortNormal}},
		{Resubmit{Table: 206}},
		{Load{Dst: RegBits(15, 31, 1), Value: 1}, Resubmit{Table: 0}},
		{Sample{Probability: 655, CollectorSet: 7, Domain: 0x504c0001, Point: 1<<16 | 655}, Resubmit{Table: 207}},
		{SetField{Field: oxm32(FieldReg0+4, 99)}, Output{Port: PortNormal}},
		{OutputReg{Src: RegBits(3, 0, 16)}, Resubmit{InPort: 7, Table: 255}, Resubmit{InPort: 7, Table: 3}},
		{Move{Src: RegBits(1, 4, 8), Dst: Subfield{Field: FieldMetadata, Bits: 8}}, Move{Src: Whole(FieldEthSrc), Dst: Whole(FieldEthDst)}},
		{Load{Dst: Whole(FieldTunID), Value: 77}, Load{Dst: Subfield{Field: FieldXXReg0 + 1, Offset: 64, Bits: 8}, Value: 1}},
		{Conjunction{ID: 5, Clause: 1, Of: 2}, Conjunction{ID: 6, Clause: 3, Of: 3}},
		{Controller{MaxLen: 100, ID: 7, Reason: ReasonAction}, Controller{MaxLen: 65535, ID: 8, Reason: ReasonAction, Meter: 3}, Controller{MaxLen: 64, Reason: ReasonInvalidTTL, Meter: 5}, Output{Port: PortController, MaxLen: 65535}, ToGroup{ID: 9}, SetQueue{ID: 3}},
		{PushVLAN{EtherType: 0x8100}, SetField{Field: VLAN(6)}, PopVLAN{}},
		{CTClear{}, Output{Port: PortInPort}},
		{Note{Data: "held by us\x00\x00\x00\x00"}, Output{Port: 1}},
	}
}

// sampleConntrack is for flows of TCP over IPv4.
func sampleConntrack() []Conntrack {
	zone := RegBits(3, 0, 16)
	return []Conntrack{
		{},
		{Zone: 5, Table: 3, Recirc: true, NAT: &NAT{}},
		{Commit: true, Force: true, ZoneSrc: &zone, Alg: 21, Exec: []Action{
			Load{Dst: Subfield{Field: FieldCTMark, Bits: 1}, Value: 1}, Load{Dst: Subfield{Field: FieldCTLabel, Offset: 3, Bits: 7}, Value: 1},
			Move{Src: RegBits(3, 0, 32), Dst: Whole(FieldCTMark)}}},
		{Commit: true, NAT: &NAT{Src: true, Min: netip.MustParseAddr("1.2.3.4"), Max: netip.MustParseAddr("1.2.3.9"), MinPort: 5, MaxPort: 7, Random: true}},
		{Commit: true, NAT: &NAT{Dst: true, Min: netip.MustParseAddr("1.2.3.4"), Hash: true, Persistent: true}},
	}
}

// sampleLearn is for flows of SCTP over IPv4.
func sampleLearn() []Learn {
	result := RegBits(15, 24, 1)
	return []Learn{
		{Table: 9},
		{Table: 5, HardTimeout: 60, Priority: 7, FinIdle: 3, FinHard: 4, SendRemoved: true, Specs: []LearnSpec{
			{Src: Whole(FieldEthSrc), Dst: Whole(FieldEthDst)}, {Src: Whole(FieldVLANTCI), Dst: Whole(FieldVLANTCI)},
			{Kind: LearnOutput, Src: Whole(FieldInPort16)}}},
		{Table: 210, Priority: 2, IdleTimeout: 120, Cookie: 0x504c_0311_0000_0001, DeleteLearned: true, Limit: 1024, Result: &result, Specs: []LearnSpec{
			{Value: 0x800, Dst: Whole(FieldEthType)}, {Value: 132, Dst: Whole(FieldIPProto)},
			{Src: Whole(FieldIPv4Dst), Dst: Whole(FieldIPv4Src)}, {Src: Whole(FieldIPv4Src), Dst: Whole(FieldIPv4Dst)},
			{Src: Whole(FieldSCTPDst), Dst: Whole(FieldSCTPSrc)}, {Src: Whole(FieldSCTPSrc), Dst: Whole(FieldSCTPDst)},
			{Kind: LearnLoad, Value: 5, Dst: RegBits(15, 29, 3)}, {Kind: LearnLoad, Src: RegBits(15, 30, 1), Dst: RegBits(15, 30, 1)},
			{Kind: LearnLoad, Value: 1 << 40, Dst: Whole(FieldMetadata)}}},
		{Table: 4, Limit: 1, Specs: []LearnSpec{{Value: 3, Dst: RegBits(3, 4, 17)}, {Src: RegBits(3, 0, 5), Dst: RegBits(4, 8, 5)}}},
	}
}

// asStats puts a flow into a flow statistics reply's body, as a switch would.
func asStats(f *Flow) []byte {
	b := make([]byte, flowStatsLen)
	b[2] = f.Table
	binary.BigEndian.PutUint16(b[12:], f.Priority)
	binary.BigEndian.PutUint16(b[14:], f.IdleTimeout)
	binary.BigEndian.PutUint16(b[16:], f.HardTimeout)
	binary.BigEndian.PutUint16(b[18:], f.Flags)
	binary.BigEndian.PutUint16(b[20:], f.Importance)
	binary.BigEndian.PutUint64(b[24:], f.Cookie)
	b = f.Instructions.append(f.Match.append(b))
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b
}

// refusedBySwitch returns an action in which we see nothing wrong, and which
// the switch refuses when it reads it: a Nicira action that does not exist.
func refusedBySwitch() Action {
	return UnknownAction(appendNicira(nil, 16, 0xfff0)) + "\x00\x00\x00\x00\x00\x00"
}

// sampleGroups has every type of group.
func sampleGroups() []Group {
	return []Group{
		{ID: 1, Type: GroupAll, Buckets: []Bucket{{Actions: []Action{Output{Port: 1}}}, {Actions: []Action{PopVLAN{}, Output{Port: 2}}}}},
		{ID: 2, Type: GroupSelect, Buckets: []Bucket{{Weight: 10, Actions: []Action{Output{Port: 1}}}, {Weight: 20}}},
		{ID: 3, Type: GroupIndirect, Buckets: []Bucket{{Actions: []Action{Load{Dst: RegBits(4, 0, 32), Value: 7}, Resubmit{Table: 9}}}}},
		{ID: 4, Type: GroupFastFailover, Buckets: []Bucket{
			{WatchPort: 1, Actions: []Action{Output{Port: 1}}}, {WatchGroup: 3, Actions: []Action{ToGroup{ID: 3}}}}},
		{ID: groupMax, Type: GroupAll},
	}
}

// asGroupDesc puts a group into a group description reply's body.
func asGroupDesc(g *Group) []byte {
	b := []byte{0, 0, byte(g.Type), 0}
	b = binary.BigEndian.AppendUint32(b, g.ID)
	for i := range g.Buckets {
		b = g.Buckets[i].append(b)
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b
}
