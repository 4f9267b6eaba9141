package pipeline

import (
	"hash/fnv"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
)

// What a packet is to policy: the classes of its source and of its
// destination, each by the longest prefix, and then the class of the service
// of its connection. The last step knows who opened the connection, and so
// changes the ends of an answer over. From there on a packet and the answer to
// it look alike, and the rules' flows, which match nothing but classes, are for
// both.
//
// So an address costs two flows, however many rules there are, and one that
// moves to another class costs two changes and touches no rule.

// Priorities in the tables of classes.
const (
	prefixBase   uint16 = 100 // and the length of the prefix
	protocolOnly uint16 = 100
	answersOnly  uint16 = 1   // the answers that no service has a class for
	portsBase    uint16 = 200 // and the number of bits of the port that count
	icmpType     uint16 = 200
	icmpCode     uint16 = 201
	fragments    uint16 = 300
)

// class writes a class into its register.
func class(reg int, c compile.Class) openflow.Action {
	return openflow.Load{Dst: openflow.RegBits(reg, 0, 32), Value: uint64(c)}
}

// changeOver exchanges the classes of both ends, by way of the register for
// the service, which is written behind it.
func changeOver() []openflow.Action {
	whole := func(reg int) openflow.Subfield { return openflow.RegBits(reg, 0, 32) }
	return []openflow.Action{
		openflow.Move{Src: whole(openerReg), Dst: whole(serviceReg)},
		openflow.Move{Src: whole(responderReg), Dst: whole(openerReg)},
		openflow.Move{Src: whole(serviceReg), Dst: whole(responderReg)},
	}
}

// keptClass is where the class of a connection's service is kept with it.
func keptClass() openflow.Subfield {
	return openflow.Subfield{Field: openflow.FieldCTLabel, Bits: 32}
}

// classTables are for what nobody has named: class 0; and for fragments. To Open
// vSwitch those have no ports, and neither have they to conntrack in the
// userspace datapath (the kernel's puts them together). So they get the class
// that their connection had when it was entered; one that begins with fragments
// is judged by its protocol alone.
func (f *frame) classTables() {
	none := func(table uint8, priority uint16, m openflow.Match, actions []openflow.Action, reg int) {
		f.flows = append(f.flows, openflow.Flow{
			Table: f.layout.table(table), Priority: priority, Match: m, Cookie: cookie(CategoryMiss, uint32(table)),
			Instructions: openflow.Instructions{Actions: append(actions, class(reg, 0), f.to(table+1))},
		})
	}
	none(tableSource, missPriority, nil, nil, openerReg)
	none(tableDestination, missPriority, nil, nil, responderReg)
	none(tableService, missPriority, nil, nil, serviceReg)
	none(tableService, answersOnly, openflow.Match{openflow.Reg(markReg, replyMask, replyMask)}, changeOver(), serviceReg)
	known := openflow.Move{Src: keptClass(), Dst: openflow.RegBits(serviceReg, 0, 32)}
	for _, ip := range families() {
		m := openflow.Match{ip, openflow.IPFrag(openflow.FragYes), openflow.CTMark(enteredMark, enteredMark)}
		f.add(tableService, fragments, append(m, openflow.Reg(markReg, 0, replyMask)), known, f.to(tableEgress))
		f.add(tableService, fragments, append(slices.Clone(m), openflow.Reg(markReg, replyMask, replyMask)), append(changeOver(), known, f.to(tableEgress))...)
	}
}

// prefixObject is a prefix in a cookie.
func prefixObject(p netip.Prefix) uint32 {
	h := fnv.New32a()
	h.Write([]byte(p.String())) // never fails
	return h.Sum32()
}

// etherOf matches the family of a prefix.
func etherOf(p netip.Prefix) openflow.OXM {
	if p.Addr().Is4() {
		return openflow.EthType(flow.EtherIPv4)
	}
	return openflow.EthType(flow.EtherIPv6)
}

// endpointFlows give the packets from and to a prefix its class.
func (l Layout) endpointFlows(p netip.Prefix, c compile.Class) []openflow.Flow {
	object, ip := prefixObject(p), etherOf(p)
	flowOf := func(table uint8, side openflow.OXM, reg int) openflow.Flow {
		return openflow.Flow{
			Table: l.table(table), Priority: prefixBase + uint16(p.Bits()), Cookie: cookie(CategoryEndpoint, object),
			Match:        openflow.Match{ip, side}.Canonical(),
			Instructions: openflow.Instructions{Actions: []openflow.Action{class(reg, c), openflow.Resubmit{Table: l.table(table + 1)}}},
		}
	}
	return []openflow.Flow{flowOf(tableSource, openflow.IPSrc(p), openerReg), flowOf(tableDestination, openflow.IPDst(p), responderReg)}
}

// serviceFlows give connections to a service its class: what opens them, by
// where it goes to, and answers, by where they come from.
func (l Layout) serviceFlows(s compile.ServiceMatch, c compile.Class) []openflow.Flow {
	h := fnv.New32a()
	h.Write([]byte{uint8(s.Proto), byte(s.Port >> 8), byte(s.Port), byte(s.PortMask >> 8), byte(s.PortMask), s.Type, s.Code}) // never fails
	object := h.Sum32()
	var out []openflow.Flow
	for _, answer := range []bool{false, true} {
		actions, side := []openflow.Action(nil), openflow.Reg(markReg, 0, replyMask)
		if answer {
			actions, side = changeOver(), openflow.Reg(markReg, replyMask, replyMask)
		}
		actions = append(actions, class(serviceReg, c), openflow.Resubmit{Table: l.table(tableEgress)})
		for _, m := range serviceMatches(s, answer) {
			out = append(out, openflow.Flow{
				Table: l.table(tableService), Priority: servicePriority(s), Cookie: cookie(CategoryService, object),
				Match: append(m, side), Instructions: openflow.Instructions{Actions: actions},
			})
		}
	}
	return out
}

// servicePriority puts the more specific match first.
func servicePriority(s compile.ServiceMatch) uint16 {
	switch {
	case s.HasCode:
		return icmpCode
	case s.HasType:
		return icmpType
	case s.PortMask != 0:
		return portsBase + uint16(bits.OnesCount16(s.PortMask))
	}
	return protocolOnly
}

// serviceMatches returns the matches for a service, or for the answers of one:
// one for each family, none for the answers to what is no question.
func serviceMatches(s compile.ServiceMatch, answer bool) []openflow.Match {
	proto := uint8(s.Proto)
	if s.HasType {
		return icmpMatches(s, answer)
	}
	var out []openflow.Match
	for _, ip := range families() {
		m := openflow.Match{ip, openflow.IPProto(proto)}
		if s.PortMask != 0 {
			m = append(m, portField(proto, answer)(s.Port).WithMask(uint64(s.PortMask)))
			if s.Port == 0 { // which fragments seem to have
				m = append(m, openflow.IPFrag(openflow.FragNo))
			}
		}
		out = append(out, m)
	}
	return out
}

// portField is the port of the side to which a connection was opened.
func portField(proto uint8, answer bool) func(uint16) openflow.OXM {
	fields := map[uint8][2]func(uint16) openflow.OXM{
		flow.ProtoTCP: {openflow.TCPDst, openflow.TCPSrc}, flow.ProtoUDP: {openflow.UDPDst, openflow.UDPSrc},
		flow.ProtoSCTP: {openflow.SCTPDst, openflow.SCTPSrc},
	}[proto]
	if answer {
		return fields[1]
	}
	return fields[0]
}

func icmpMatches(s compile.ServiceMatch, answer bool) []openflow.Match {
	proto, t := uint8(s.Proto), s.Type
	if answer {
		questions := map[[2]uint8]uint8{ // RFC 792, RFC 4443
			{flow.ProtoICMP, 8}: 0, {flow.ProtoICMP, 13}: 14, {flow.ProtoICMP, 15}: 16, {flow.ProtoICMPv6, 128}: 129,
		}
		var ok bool
		if t, ok = questions[[2]uint8{proto, t}]; !ok {
			return nil
		}
	}
	m := openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.IPProto(proto), openflow.ICMPType(t)}
	code := openflow.ICMPCode
	if proto == flow.ProtoICMPv6 {
		m = openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.IPProto(proto), openflow.ICMPv6Type(t)}
		code = openflow.ICMPv6Code
	}
	if s.HasCode {
		m = append(m, code(s.Code))
	}
	return []openflow.Match{m}
}
