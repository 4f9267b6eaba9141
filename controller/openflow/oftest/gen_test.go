package oftest

import (
	"net/netip"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// gen draws flows and packets from a universe so small that they meet.
type gen struct {
	t *rapid.T
	// stateful flows recirculate, the others have action sets: both together
	// crash the real switch.
	stateful bool
	// untagged flows push and pop no tags: a real packet can have a third one,
	// which no switch's flows see.
	untagged bool
	// loops lets flows that are not stateful resubmit backwards, so that some
	// never end.
	loops bool
}

func (g gen) n(label string, max int) int { return rapid.IntRange(0, max).Draw(g.t, label) }

// chance is true once in n times.
func (g gen) chance(label string, n int) bool { return g.n(label, n-1) == n-1 }

func pick[T any](g gen, label string, from ...T) T {
	return from[g.n(label, len(from)-1)]
}

func (g gen) addr4() netip.Addr {
	return pick(g, "addr", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("192.168.7.9"))
}

func (g gen) addr6() netip.Addr {
	return pick(g, "addr", netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fd00:1::1"), netip.MustParseAddr("fe80::9"))
}

func (g gen) mac() [6]byte {
	return pick(g, "mac", [6]byte{2, 0, 0, 0, 0, 1}, [6]byte{2, 0, 0, 0, 0, 2}, [6]byte{6, 0xaa, 0, 0, 0, 2}, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
}

func (g gen) l4() uint16 { return pick(g, "port", uint16(22), 23, 80, 443, 0x1f90) }

func (g gen) small() uint32 { return pick(g, "value", uint32(0), 1, 2, 3, 0x80000001) }

// packet draws a packet that could come in.
func (g gen) packet() Packet {
	p := g.headers()
	p.InPort = pick(g, "in_port", ports...)
	p.EthSrc, p.EthDst = g.mac(), g.mac()
	p.Length = 0
	if g.chance("metadata", 3) {
		p.Metadata = uint64(g.small())
	}
	if g.chance("tunnel", 5) {
		p.TunID = uint64(g.small())
	}
	if g.chance("registers", 3) {
		p.Regs[g.n("reg", 3)] = g.small()
	}
	if g.chance("tagged", 4) {
		p = p.Tagged(pick(g, "vid", uint16(5), 6, 4095), pick(g, "pcp", uint8(0), 3))
	}
	return p
}

func (g gen) headers() Packet {
	src, dst := g.addr4(), g.addr4()
	if g.chance("six", 3) {
		src, dst = g.addr6(), g.addr6()
	}
	from, to := netip.AddrPortFrom(src, g.l4()), netip.AddrPortFrom(dst, g.l4())
	var p Packet
	kind := g.n("kind", 7)
	if g.stateful {
		kind = max(kind, 2) // IP, which conntrack is about
	}
	switch kind {
	case 0:
		p = ARP(pick(g, "op", uint16(1), 2), g.addr4(), g.addr4())
		p.ARPSHA, p.ARPTHA = g.mac(), g.mac()
		return p
	case 1:
		return Packet{EthType: 0x88b5}
	case 2, 3:
		p = TCP(from, to, pick(g, "flags", SYN, SYN|ACK, ACK, RST, FIN|ACK, 0))
	case 4:
		p = UDP(from, to)
	case 5:
		p = SCTP(from, to)
	case 6:
		p = g.icmp(src, dst)
	case 7:
		p = ipPacket(src, dst, pick(g, "proto", uint8(2), 47, 89))
	}
	p.TTL = pick(g, "ttl", uint8(64), 64, 2, 1)
	p.TOS = pick(g, "tos", uint8(0), 0, 0x48, 0x49)
	if p.isIPv6() && g.chance("label", 4) {
		p.FlowLabel = 0x12345
	}
	if !p.isICMPv6() && g.chance("fragment", 8) {
		p = fragment(p, pick(g, "part", FirstFragment, LaterFragment))
	}
	return p
}

func (g gen) icmp(src, dst netip.Addr) Packet {
	if src.Is4() {
		return ICMP(src, dst, pick(g, "type", uint8(8), 0, 3), pick(g, "code", uint8(0), 1))
	}
	if g.chance("nd", 2) {
		p := ND(src, dst, pick(g, "type", uint8(ndSolicit), ndAdvert), g.addr6())
		if p.ICMPType == ndSolicit {
			p.NDSLL = g.mac()
		} else {
			p.NDTLL = g.mac()
		}
		return p
	}
	return ICMP(src, dst, pick(g, "type", uint8(128), 129, 1), 0)
}

// fragment makes a packet a part of one; later parts have no transport
// header.
func fragment(p Packet, f Fragment) Packet {
	p.Fragment = f
	if f == LaterFragment {
		p.SrcPort, p.DstPort, p.TCPFlags, p.ICMPType, p.ICMPCode = 0, 0, 0, 0, 0
	}
	return p
}

// match draws a match that at least the packet p meets, but for mutations,
// with the prerequisites of its fields.
func (g gen) match(p Packet) of.Match {
	var m of.Match
	if g.chance("m in_port", 4) {
		m = append(m, of.InPort(p.InPort))
	}
	if g.chance("m metadata", 6) {
		m = append(m, of.Metadata(p.Metadata&3, 3))
	}
	if g.chance("m reg", 3) {
		n := g.n("m which", 3)
		mask := pick(g, "m bits", uint32(1), 3, 0x80000000, 0xffffffff)
		m = append(m, of.Reg(n, p.Regs[n]&mask, mask))
	}
	if g.chance("m tun", 8) {
		m = append(m, of.TunID(p.TunID, ^uint64(0)))
	}
	if g.chance("m ct", 6) {
		mask := pick(g, "m ct mask", CTTracked, CTTracked|CTNew, CTEstablished, CTReply|CTTracked)
		m = append(m, of.CTState(uint32(p.CT.State&mask), uint32(mask)))
	}
	if g.chance("m src", 5) {
		m = append(m, of.EthSrc(p.EthSrc))
	}
	if g.chance("m dst", 5) {
		mask := [6]byte{1}
		m = append(m, of.EthDstMasked([6]byte{p.EthDst[0] & 1}, mask))
	}
	m = append(m, g.vlanMatch(p)...)
	if g.chance("m type", 4) {
		return m
	}
	m = append(m, of.EthType(p.EthType))
	switch {
	case p.isARP():
		return append(m, g.arpMatch(p)...)
	case p.isIP():
		return append(m, g.ipMatch(p)...)
	}
	return m
}

func (g gen) vlanMatch(p Packet) of.Match {
	tag := p.VLANs[0]
	switch g.n("m vlan", 11) {
	case 0:
		if tag.TPID != 0 {
			return of.Match{of.VLAN(tag.ID)}
		}
		return of.Match{of.Untagged()}
	case 1:
		if tag.TPID != 0 {
			return of.Match{of.Tagged()}
		}
	case 2:
		if tag.TPID != 0 {
			return of.Match{of.Tagged(), of.VLANPCP(tag.Priority)}
		}
	}
	return nil
}

func (g gen) arpMatch(p Packet) (m of.Match) {
	if g.chance("m op", 2) {
		m = append(m, of.ARPOp(p.ARPOp))
	}
	if g.chance("m spa", 2) {
		m = append(m, of.ARPSPA(netip.PrefixFrom(p.Src, pick(g, "m bits", 8, 24, 32))))
	}
	if g.chance("m tpa", 3) {
		m = append(m, of.ARPTPA(netip.PrefixFrom(p.Dst, pick(g, "m bits", 8, 24, 32))))
	}
	if g.chance("m sha", 4) {
		m = append(m, of.ARPSHA(p.ARPSHA))
	}
	return m
}

func (g gen) ipMatch(p Packet) (m of.Match) {
	width := p.Src.BitLen()
	if g.chance("m src", 2) {
		m = append(m, of.IPSrc(netip.PrefixFrom(p.Src, pick(g, "m bits", 7, 16, width-1, width))))
	}
	if g.chance("m dst", 2) {
		m = append(m, of.IPDst(netip.PrefixFrom(p.Dst, pick(g, "m bits", 7, 16, width-1, width))))
	}
	if g.chance("m dscp", 8) {
		m = append(m, of.IPDSCP(p.TOS>>2))
	}
	if g.chance("m ecn", 8) {
		m = append(m, of.IPECN(p.TOS&3))
	}
	if g.chance("m ttl", 8) {
		m = append(m, of.IPTTL(p.TTL))
	}
	if g.chance("m frag", 6) {
		m = append(m, of.IPFrag(map[Fragment]of.Fragment{NotFragment: of.FragNo, FirstFragment: of.FragFirst, LaterFragment: of.FragLater}[p.Fragment]))
	}
	if p.Fragment == LaterFragment || g.chance("m proto", 3) {
		return m
	}
	return append(append(m, of.IPProto(p.Proto)), g.l4Match(p)...)
}

func (g gen) l4Match(p Packet) (m of.Match) {
	src, dst := g.chance("m sport", 3), g.chance("m dport", 2)
	add := func(yes bool, o of.OXM) {
		if yes {
			m = append(m, o)
		}
	}
	switch p.Proto {
	case ProtoTCP:
		add(src, of.TCPSrc(p.SrcPort))
		add(dst, of.TCPDst(p.DstPort).WithMask(pick(g, "m mask", uint64(0xffff), 0xfffe, 0xff00)))
		mask := pick(g, "m flags", SYN, SYN|ACK, RST, 0xfff)
		add(g.chance("m tcp", 3), of.TCPFlags(p.TCPFlags&mask, mask))
	case ProtoUDP:
		add(src, of.UDPSrc(p.SrcPort))
		add(dst, of.UDPDst(p.DstPort).WithMask(pick(g, "m mask", uint64(0xffff), 0xfffe)))
	case ProtoSCTP:
		add(src, of.SCTPSrc(p.SrcPort))
		add(dst, of.SCTPDst(p.DstPort))
	case ProtoICMP:
		add(src && p.isIPv4(), of.ICMPType(p.ICMPType))
		add(dst && p.isIPv4(), of.ICMPCode(p.ICMPCode))
	case ProtoICMPv6:
		if !p.isIPv6() {
			return nil
		}
		nd := p.isND(ndSolicit, ndAdvert)
		add(src || nd, of.ICMPv6Type(p.ICMPType))
		add(dst, of.ICMPv6Code(p.ICMPCode))
		add(nd && dst, of.NDTarget(p.NDTarget))
	}
	return m
}

func endpoints() []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:22"), netip.MustParseAddrPort("10.0.0.2:80"), netip.MustParseAddrPort("10.1.0.1:443")}
}
