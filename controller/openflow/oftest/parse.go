package oftest

import (
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// maxText bounds the text of one packet.
const maxText = 4096

// ParsePacket reads a packet in the syntax of ovs-appctl ofproto/trace,
// "tcp,in_port=1,nw_src=10.0.0.1,tp_dst=22,tcp_flags=syn". What is not
// mentioned is zero, except that an IP packet without nw_ttl has a TTL of 64
// and that addresses are 0.0.0.0 or ::.
func ParsePacket(text string) (Packet, error) {
	if len(text) > maxText {
		return Packet{}, fmt.Errorf("packet of %d characters", len(text))
	}
	p := Packet{TTL: 64, Length: 64}
	for part := range strings.SplitSeq(text, ",") {
		name, value, given := strings.Cut(strings.TrimSpace(part), "=")
		var err error
		if given {
			err = p.parseField(name, value)
		} else {
			err = p.parseName(name)
		}
		if err != nil {
			return Packet{}, fmt.Errorf("packet: %s: %w", part, err)
		}
	}
	p.fillAddresses()
	return p, nil
}

// fillAddresses gives the packet the addresses that its text left out.
func (p *Packet) fillAddresses() {
	zero := netip.IPv4Unspecified()
	switch {
	case p.isIPv6():
		zero = netip.IPv6Unspecified()
	case !p.isIPv4() && !p.isARP():
		p.TTL = 0
		return
	}
	if p.isARP() {
		p.TTL = 0
	}
	if !p.Src.IsValid() {
		p.Src = zero
	}
	if !p.Dst.IsValid() {
		p.Dst = zero
	}
	if p.isND(ndSolicit, ndAdvert) && !p.NDTarget.IsValid() {
		p.NDTarget = netip.IPv6Unspecified()
	}
}

func (p *Packet) parseName(name string) error {
	kinds := map[string]struct {
		ether uint16
		proto uint8
	}{
		"ip": {EtherIPv4, 0}, "ipv6": {EtherIPv6, 0}, "arp": {EtherARP, 0}, "icmp": {EtherIPv4, ProtoICMP},
		"icmp6": {EtherIPv6, ProtoICMPv6}, "tcp": {EtherIPv4, ProtoTCP}, "tcp6": {EtherIPv6, ProtoTCP},
		"udp": {EtherIPv4, ProtoUDP}, "udp6": {EtherIPv6, ProtoUDP}, "sctp": {EtherIPv4, ProtoSCTP}, "sctp6": {EtherIPv6, ProtoSCTP},
	}
	if name == "eth" { // says only that it is a frame
		return nil
	}
	k, ok := kinds[name]
	if !ok {
		return fmt.Errorf("unknown kind of packet")
	}
	p.EthType, p.Proto = k.ether, k.proto
	return nil
}

func (p *Packet) parseField(name, value string) error {
	switch name {
	case "in_port":
		return parsePort(&p.InPort, value)
	case "ct_state":
		return p.CT.State.parse(value)
	case "ct_label":
		return parseLabel(&p.CT.Label, value)
	case "tcp_flags":
		return parseFlags(&p.TCPFlags, value)
	case "nw_frag":
		i := slices.Index(fragmentNames[:], value)
		if i < 0 || value == "" {
			return fmt.Errorf("unknown fragment")
		}
		p.Fragment = Fragment(i)
		return nil
	case "recirc_id", "nd_reserved", "nd_options_type", "dp_hash", "skb_priority":
		return nil // no field of ours
	}
	if mac := p.macField(name); mac != nil {
		return parseMAC(mac, value)
	}
	if addr := p.addrField(name); addr != nil {
		a, err := netip.ParseAddr(value)
		*addr = a
		return err
	}
	n, err := strconv.ParseUint(value, 0, 64)
	if err != nil {
		return err
	}
	return p.parseNumber(name, n)
}

func (p *Packet) macField(name string) *[6]byte {
	return map[string]*[6]byte{"dl_src": &p.EthSrc, "dl_dst": &p.EthDst, "arp_sha": &p.ARPSHA, "arp_tha": &p.ARPTHA,
		"nd_sll": &p.NDSLL, "nd_tll": &p.NDTLL}[name]
}

func (p *Packet) addrField(name string) *netip.Addr {
	return map[string]*netip.Addr{"nw_src": &p.Src, "nw_dst": &p.Dst, "ipv6_src": &p.Src, "ipv6_dst": &p.Dst,
		"arp_spa": &p.Src, "arp_tpa": &p.Dst, "nd_target": &p.NDTarget, "tun_src": &p.TunSrc, "tun_dst": &p.TunDst,
		"ct_nw_src": &p.CT.Orig.Src, "ct_nw_dst": &p.CT.Orig.Dst,
		"ct_ipv6_src": &p.CT.Orig.Src, "ct_ipv6_dst": &p.CT.Orig.Dst}[name]
}

// parseNumber sets a field that is written as a number.
func (p *Packet) parseNumber(name string, n uint64) error {
	if r, ok := strings.CutPrefix(name, "reg"); ok {
		i, err := strconv.Atoi(r)
		if err != nil || i < 0 || i >= len(p.Regs) {
			return fmt.Errorf("unknown register")
		}
		p.Regs[i] = uint32(n)
		return nil
	}
	switch name {
	case "tun_id":
		p.TunID = n
	case "metadata":
		p.Metadata = n
	case "pkt_mark":
		p.Mark = uint32(n)
	case "ct_zone":
		p.CT.Zone = uint16(n)
	case "ct_mark":
		p.CT.Mark = uint32(n)
	case "ct_nw_proto":
		p.CT.Orig.Proto = uint8(n)
	case "ct_tp_src":
		p.CT.Orig.SrcPort = uint16(n)
	case "ct_tp_dst":
		p.CT.Orig.DstPort = uint16(n)
	default:
		return p.parseHeader(name, n)
	}
	return nil
}

func (p *Packet) parseHeader(name string, n uint64) error {
	switch name {
	case "vlan_tci", "vlan_tci1":
		if n != 0 {
			p.setTCI(n)
		}
	case "dl_vlan", "dl_vlan_pcp":
		p.VLANs[0].parse(name == "dl_vlan", n)
	case "dl_vlan1", "dl_vlan_pcp1":
		p.VLANs[1].parse(name == "dl_vlan1", n)
	case "dl_type":
		p.EthType = uint16(n)
	case "ipv6_label":
		p.FlowLabel = uint32(n)
	case "nw_proto":
		p.Proto = uint8(n)
	case "nw_tos":
		p.TOS = uint8(n)&^ecnMask | p.TOS&ecnMask
	case "nw_ecn":
		p.TOS = p.TOS&^ecnMask | uint8(n)&ecnMask
	case "nw_ttl":
		p.TTL = uint8(n)
	case "tp_src", "tcp_src", "udp_src", "sctp_src":
		p.SrcPort = uint16(n)
	case "tp_dst", "tcp_dst", "udp_dst", "sctp_dst":
		p.DstPort = uint16(n)
	case "icmp_type", "icmpv6_type":
		p.ICMPType = uint8(n)
	case "icmp_code", "icmpv6_code":
		p.ICMPCode = uint8(n)
	case "arp_op":
		p.ARPOp = uint16(n)
	default:
		return fmt.Errorf("unknown field")
	}
	return nil
}

func (v *VLAN) parse(id bool, n uint64) {
	v.TPID = EtherVLAN
	if id {
		v.ID = uint16(n & 0xfff)
	} else {
		v.Priority = uint8(n & 7)
	}
}

func parsePort(port *uint32, value string) error {
	for _, p := range []uint32{of.PortLocal, of.PortAny, of.PortController} {
		if value == of.PortText(p) {
			*port = p
			return nil
		}
	}
	n, err := strconv.ParseUint(value, 0, 32)
	*port = uint32(n)
	return err
}

func parseMAC(mac *[6]byte, value string) error {
	hw, err := net.ParseMAC(value)
	if err != nil || len(hw) != len(mac) {
		return fmt.Errorf("no MAC address")
	}
	copy(mac[:], hw)
	return nil
}

func (s *CTState) parse(value string) error {
	if n, err := strconv.ParseUint(value, 0, 8); err == nil {
		*s = CTState(n)
		return nil
	}
	*s = 0
	for name := range strings.SplitSeq(value, "|") {
		i := slices.IndexFunc(stateNames, func(n struct {
			bit  CTState
			name string
		}) bool {
			return n.name == name
		})
		if i < 0 {
			return fmt.Errorf("unknown state %q", name)
		}
		*s |= stateNames[i].bit
	}
	return nil
}

func parseLabel(label *[16]byte, value string) error {
	digits := strings.TrimPrefix(value, "0x")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) > len(label) {
		return fmt.Errorf("no label")
	}
	*label = [16]byte{}
	copy(label[len(label)-len(b):], b)
	return nil
}

func parseFlags(flags *uint16, value string) error {
	if n, err := strconv.ParseUint(value, 0, 12); err == nil {
		*flags = uint16(n)
		return nil
	}
	names := []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns", "[200]", "[400]", "[800]"}
	*flags = 0
	for name := range strings.SplitSeq(value, "|") {
		i := slices.Index(names, name)
		if i < 0 {
			return fmt.Errorf("unknown flag %q", name)
		}
		*flags |= 1 << i
	}
	return nil
}
