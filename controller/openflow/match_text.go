package openflow

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// protocols gives the names by which ovs-ofctl abbreviates an EtherType and
// an IP protocol.
var protocols = map[[2]uint32]string{
	{0x0800, 0}: "ip", {0x0800, 1}: "icmp", {0x0800, 6}: "tcp", {0x0800, 17}: "udp", {0x0800, 132}: "sctp",
	{0x86dd, 0}: "ipv6", {0x86dd, 58}: "icmp6", {0x86dd, 6}: "tcp6", {0x86dd, 17}: "udp6", {0x86dd, 132}: "sctp6",
	{0x0806, 0}: "arp", {0x8035, 0}: "rarp",
}

// String returns the match in ovs-ofctl's flow syntax; the match on every
// packet is the empty string.
func (m Match) String() string {
	c := m.Canonical()
	var parts []string
	ethType, _ := c.exact(FieldEthType)
	ipProto, _ := c.exact(FieldIPProto)
	name, short := protocols[[2]uint32{ethType, ipProto}]
	if short {
		parts = append(parts, name)
	}
	for _, o := range c {
		if short && (o.field == FieldEthType || o.field == FieldIPProto && ipProto != 0) {
			continue
		}
		parts = append(parts, o.String())
	}
	return strings.Join(parts, ",")
}

// String returns the field as "name=value" or "name=value/mask" in
// ovs-ofctl's syntax.
func (o OXM) String() string {
	if o.field == fieldUnknown {
		return fmt.Sprintf("unknown=%x", o.raw)
	}
	size := fields[o.field].size
	value, mask := o.value[:size], o.mask[:size]
	switch o.field {
	case FieldTCPFlags:
		return "tcp_flags=" + flagText(binary.BigEndian.Uint16(value), binary.BigEndian.Uint16(mask), o.masked)
	case FieldCTState:
		if o.masked {
			return "ct_state=" + stateText(binary.BigEndian.Uint32(value), binary.BigEndian.Uint32(mask))
		}
	case FieldIPFrag:
		if name := o.fragName(); name != "" {
			return "nw_frag=" + name
		}
	case FieldIPDSCP:
		return fmt.Sprintf("nw_tos=%d", value[0]<<2)
	case FieldVLAN:
		if v := binary.BigEndian.Uint16(value); !o.masked && v&vlanPresent != 0 {
			return fmt.Sprintf("dl_vlan=%d", v&^vlanPresent)
		}
	}
	return fields[o.field].name + "=" + o.maskedText()
}

// maskedText prints the value and, if there is one, the mask.
func (o OXM) maskedText() string {
	size := fields[o.field].size
	s := o.valueText(o.value[:size])
	if !o.masked {
		return s
	}
	if bits, ok := prefixLen(o.mask[:size]); ok && o.isAddress() {
		return s + "/" + strconv.Itoa(bits)
	}
	return s + "/" + o.valueText(o.mask[:size])
}

// prefixLen returns the number of leading ones of a mask, if nothing but
// zeros follows them.
func prefixLen(mask []byte) (int, bool) {
	n := 0
	for n < len(mask)*8 && mask[n/8]&(0x80>>(n%8)) != 0 {
		n++
	}
	for i := n; i < len(mask)*8; i++ {
		if mask[i/8]&(0x80>>(i%8)) != 0 {
			return 0, false
		}
	}
	return n, true
}

func (o OXM) isAddress() bool {
	switch o.field {
	case FieldIPv4Src, FieldIPv4Dst, FieldIPv6Src, FieldIPv6Dst, FieldARPSPA, FieldARPTPA, FieldNDTarget, FieldTunSrc, FieldTunDst,
		FieldTunIPv6Src, FieldTunIPv6Dst, FieldCTIPv4Src, FieldCTIPv4Dst, FieldCTIPv6Src, FieldCTIPv6Dst:
		return true
	}
	return false
}

func (o OXM) isMAC() bool {
	switch o.field {
	case FieldEthSrc, FieldEthDst, FieldARPSHA, FieldARPTHA, FieldNDSLL, FieldNDTLL:
		return true
	}
	return false
}

// valueText prints a value, or a mask, of the field.
func (o OXM) valueText(v []byte) string {
	if o.isMAC() {
		return net.HardwareAddr(v).String()
	}
	if o.isAddress() {
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	}
	if len(v) > 8 {
		return "0x" + strings.TrimLeft(hex.EncodeToString(v[:len(v)-1]), "0") + hex.EncodeToString(v[len(v)-1:])
	}
	var n uint64
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	switch o.field {
	case FieldPacketType:
		return fmt.Sprintf("(%d,0x%x)", n>>16, n&0xffff)
	case FieldInPort:
		return PortText(uint32(n))
	case FieldEthType, FieldVLAN, FieldMetadata, FieldTunID, FieldCTState, FieldCTMark, FieldPktMark, FieldIPv6Label:
		return fmt.Sprintf("0x%x", n)
	}
	if o.masked {
		return fmt.Sprintf("0x%x", n)
	}
	return strconv.FormatUint(n, 10)
}

// fragName returns which fragments are meant, as IPFrag has them, and "" for
// what it does not have.
func (o OXM) fragName() string {
	o, _ = o.normal()
	for f, name := range [...]string{FragNo: "no", FragFirst: "first", FragLater: "later", FragYes: "yes", FragNotLater: "not_later"} {
		if n, _ := IPFrag(Fragment(f)).normal(); n == o {
			return name
		}
	}
	return ""
}

// stateText prints connection tracking state bits as "+trk-inv".
func stateText(value, mask uint32) string {
	if mask>>8 != 0 {
		return fmt.Sprintf("0x%x/0x%x", value, mask)
	}
	return signedBits(value, mask, []string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"})
}

func signedBits(value, mask uint32, names []string) string {
	var s strings.Builder
	for i, name := range names {
		if mask&(1<<i) == 0 {
			continue
		}
		sign := byte('-')
		if value&(1<<i) != 0 {
			sign = '+'
		}
		s.WriteByte(sign)
		s.WriteString(name)
	}
	return s.String()
}

// PortText returns a port number as ovs-ofctl prints it.
func PortText(p uint32) string {
	switch p {
	case PortInPort:
		return "IN_PORT"
	case PortTable:
		return "TABLE"
	case PortNormal:
		return "NORMAL"
	case PortFlood:
		return "FLOOD"
	case PortAll:
		return "ALL"
	case PortController:
		return "CONTROLLER"
	case PortLocal:
		return "LOCAL"
	case PortAny:
		return "ANY"
	}
	return strconv.FormatUint(uint64(p), 10)
}

// flagText renders TCP flags as "+syn-ack" when they are masked.
func flagText(value, mask uint16, masked bool) string {
	if !masked || mask > 0xff {
		if masked {
			return fmt.Sprintf("0x%x/0x%x", value, mask)
		}
		return fmt.Sprintf("0x%x", value)
	}
	return signedBits(uint32(value), uint32(mask), []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"})
}
