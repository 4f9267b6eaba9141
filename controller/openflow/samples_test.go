package openflow

import (
	"encoding/binary"
	"net/netip"
)

// sampleFlows uses every match constructor and every action.
func sampleFlows() []Flow {
	p := netip.MustParsePrefix
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	multicast := [6]byte{1}
	ip4, ip6, arp := EthType(0x0800), EthType(0x86dd), EthType(0x0806)
	matches := []Match{
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
	}
	actions := [][]Action{
		nil,
		{Output{Port: 2}},
		{Output{Port: PortNormal}},
		{Resubmit{Table: 206}},
		{LoadReg{Reg: 15, Offset: 31, Bits: 1, Value: 1}, Resubmit{Table: 0}},
		{Sample{Probability: 655, CollectorSet: 7, Domain: 0x504c0001, Point: 1<<16 | 655}, Resubmit{Table: 207}},
		{SetField{Field: oxm32(FieldReg0+4, 99)}, Output{Port: PortNormal}},
	}
	var out []Flow
	for i, m := range matches {
		out = append(out, Flow{
			Table: uint8(i), Priority: uint16(100 + i), Cookie: 0x504c_0103_0000_0000 | uint64(i),
			HardTimeout: uint16(i % 3 * 30), Flags: uint16(i % 2), Match: m,
			Instructions: Instructions{Actions: actions[i%len(actions)]},
		})
	}
	out = append(out,
		Flow{Table: 30, Priority: 1, Instructions: Instructions{Meter: 9, Actions: actions[3]}},
		Flow{Table: 31, Priority: 1, Instructions: Instructions{Goto: 40, HasGoto: true}},
	)
	return out
}

// asStats puts a flow into a flow statistics reply's body, as a switch would.
func asStats(f *Flow) []byte {
	b := make([]byte, flowStatsLen)
	b[2] = f.Table
	binary.BigEndian.PutUint16(b[12:], f.Priority)
	binary.BigEndian.PutUint16(b[14:], f.IdleTimeout)
	binary.BigEndian.PutUint16(b[16:], f.HardTimeout)
	binary.BigEndian.PutUint16(b[18:], f.Flags)
	binary.BigEndian.PutUint64(b[24:], f.Cookie)
	b = f.Instructions.append(f.Match.append(b))
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b
}
