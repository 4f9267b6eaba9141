package oftest

import (
	"fmt"
	"hash/fnv"
	"net"
	"strings"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// hash spreads packets over the buckets of a select group. It is the same
// for all packets of a connection's direction.
func (p *Packet) hash() uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, p.EthSrc, p.EthDst, p.EthType, p.Src, p.Dst, p.Proto, p.SrcPort, p.DstPort) // never fails
	return h.Sum32()
}

var stateNames = []struct {
	bit  CTState
	name string
}{{CTNew, "new"}, {CTEstablished, "est"}, {CTRelated, "rel"}, {CTReply, "rpl"}, {CTInvalid, "inv"}, {CTTracked, "trk"}}

// String returns the state as ofproto/trace prints it, "est|trk".
func (s CTState) String() string {
	var parts []string
	for _, n := range stateNames {
		if s&n.bit != 0 {
			parts = append(parts, n.name)
			s &^= n.bit
		}
	}
	if s != 0 {
		parts = append(parts, fmt.Sprintf("0x%x", uint32(s)))
	}
	if len(parts) == 0 {
		return "0"
	}
	return strings.Join(parts, "|")
}

// String returns the packet as ovs-appctl ofproto/trace takes it and prints
// it in the flow that it traces.
func (p Packet) String() string {
	var t flowText
	t.name(&p)
	t.pipeline(&p)
	t.link(&p)
	switch {
	case p.isARP():
		t.arp(&p)
	case p.isIP():
		t.network(&p)
		t.transport(&p)
	}
	return strings.Join(t.parts, ",")
}

// flowText collects "name=value".
type flowText struct{ parts []string }

func (t *flowText) add(name, format string, args ...any) {
	t.parts = append(t.parts, name+"="+fmt.Sprintf(format, args...))
}

// nonzero adds a number that is not zero.
func (t *flowText) nonzero(name string, v uint64) {
	if v != 0 {
		t.add(name, "0x%x", v)
	}
}

func (t *flowText) mac(name string, mac [6]byte) { t.add(name, "%s", net.HardwareAddr(mac[:])) }

var protoNames = map[uint8]string{ProtoTCP: "tcp", ProtoUDP: "udp", ProtoSCTP: "sctp"}

// name adds the abbreviation of EtherType and protocol.
func (t *flowText) name(p *Packet) {
	six := ""
	if p.isIPv6() {
		six = "6"
	}
	switch {
	case p.isARP():
		t.parts = append(t.parts, "arp")
	case p.isIP() && protoNames[p.Proto] != "":
		t.parts = append(t.parts, protoNames[p.Proto]+six)
	case p.isIPv4() && p.Proto == ProtoICMP:
		t.parts = append(t.parts, "icmp")
	case p.isIPv6() && p.Proto == ProtoICMPv6:
		t.parts = append(t.parts, "icmp6")
	case p.isIPv4():
		t.parts = append(t.parts, "ip")
	case p.isIPv6():
		t.parts = append(t.parts, "ipv6")
	}
}

func (t *flowText) pipeline(p *Packet) {
	t.nonzero("tun_id", p.TunID)
	t.nonzero("metadata", p.Metadata)
	t.nonzero("pkt_mark", uint64(p.Mark))
	if p.CT.State != 0 {
		t.add("ct_state", "%s", p.CT.State)
	}
	if p.CT.Zone != 0 {
		t.add("ct_zone", "%d", p.CT.Zone)
	}
	t.nonzero("ct_mark", uint64(p.CT.Mark))
	if p.CT.Label != ([16]byte{}) {
		t.add("ct_label", "0x%s", strings.TrimLeft(fmt.Sprintf("%x", p.CT.Label), "0"))
	}
	for i, r := range p.Regs {
		t.nonzero(fmt.Sprintf("reg%d", i), uint64(r))
	}
	t.add("in_port", "%s", of.PortText(p.InPort))
}

func (t *flowText) link(p *Packet) {
	if tag := p.VLANs[0]; tag.TPID == 0 {
		t.add("vlan_tci", "0x0000")
	} else {
		t.add("dl_vlan", "%d", tag.ID)
		t.add("dl_vlan_pcp", "%d", tag.Priority)
	}
	if tag := p.VLANs[1]; tag.TPID != 0 {
		t.add("dl_vlan1", "%d", tag.ID)
		t.add("dl_vlan_pcp1", "%d", tag.Priority)
	}
	t.mac("dl_src", p.EthSrc)
	t.mac("dl_dst", p.EthDst)
	if !p.isARP() && !p.isIP() {
		t.add("dl_type", "0x%04x", p.EthType)
	}
}

func (t *flowText) arp(p *Packet) {
	t.add("arp_spa", "%s", p.Src)
	t.add("arp_tpa", "%s", p.Dst)
	t.add("arp_op", "%d", p.ARPOp)
	t.mac("arp_sha", p.ARPSHA)
	t.mac("arp_tha", p.ARPTHA)
}

func (t *flowText) network(p *Packet) {
	src, dst := "nw_src", "nw_dst"
	if p.isIPv6() {
		src, dst = "ipv6_src", "ipv6_dst"
	}
	t.add(src, "%s", p.Src)
	t.add(dst, "%s", p.Dst)
	if p.isIPv6() {
		t.add("ipv6_label", "0x%05x", p.FlowLabel)
	}
	if name := t.parts[0]; name == "ip" || name == "ipv6" {
		t.add("nw_proto", "%d", p.Proto)
	}
	t.add("nw_tos", "%d", p.TOS&^ecnMask)
	t.add("nw_ecn", "%d", p.TOS&ecnMask)
	t.add("nw_ttl", "%d", p.TTL)
	t.add("nw_frag", "%s", fragmentNames[p.Fragment&3])
}

var fragmentNames = [4]string{"no", "first", "", "later"}

// transport names ports by their protocol: ofproto/trace takes tp_src for
// TCP's alone, though it prints it for all.
func (t *flowText) transport(p *Packet) {
	switch {
	case p.hasPorts():
		name := protoNames[p.Proto]
		t.add(name+"_src", "%d", p.SrcPort)
		t.add(name+"_dst", "%d", p.DstPort)
		if p.Proto == ProtoTCP {
			t.add("tcp_flags", "0x%x", p.TCPFlags)
		}
	case p.isICMPv4():
		t.add("icmp_type", "%d", p.ICMPType)
		t.add("icmp_code", "%d", p.ICMPCode)
	case p.isICMPv6():
		t.add("icmpv6_type", "%d", p.ICMPType)
		t.add("icmpv6_code", "%d", p.ICMPCode)
	}
	if p.isND(ndSolicit, ndAdvert) {
		t.add("nd_target", "%s", p.NDTarget)
	}
	if p.isND(ndSolicit) {
		t.mac("nd_sll", p.NDSLL)
	}
	if p.isND(ndAdvert) {
		t.mac("nd_tll", p.NDTLL)
	}
}
