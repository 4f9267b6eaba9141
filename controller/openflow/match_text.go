package openflow

import (
	"encoding/binary"
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
	{0x0806, 0}: "arp",
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
		if short && (o.field == FieldEthType || o.field == FieldIPProto) {
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
	case FieldVLAN:
		if v := binary.BigEndian.Uint16(value); !o.masked && v&vlanPresent != 0 {
			return fmt.Sprintf("dl_vlan=%d", v&^vlanPresent)
		}
	}
	s := fields[o.field].name + "=" + o.valueText(value)
	if !o.masked {
		return s
	}
	if bits, ok := prefixLen(mask); ok && o.isAddress() {
		return s + "/" + strconv.Itoa(bits)
	}
	return s + "/" + o.valueText(mask)
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
	case FieldIPv4Src, FieldIPv4Dst, FieldIPv6Src, FieldIPv6Dst, FieldARPSPA, FieldARPTPA, FieldNDTarget:
		return true
	}
	return false
}

func (o OXM) valueText(v []byte) string {
	switch o.field {
	case FieldEthSrc, FieldEthDst, FieldARPSHA, FieldARPTHA:
		return net.HardwareAddr(v).String()
	}
	if o.isAddress() {
		a, _ := netip.AddrFromSlice(v)
		return a.String()
	}
	var n uint64
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	switch o.field {
	case FieldInPort:
		return PortText(uint32(n))
	case FieldEthType, FieldVLAN, FieldMetadata, FieldCTState, FieldCTMark:
		return fmt.Sprintf("0x%x", n)
	}
	if o.masked {
		return fmt.Sprintf("0x%x", n)
	}
	return strconv.FormatUint(n, 10)
}

// PortText returns a port number as ovs-ofctl prints it.
func PortText(p uint32) string {
	switch p {
	case PortInPort:
		return "IN_PORT"
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
	var s strings.Builder
	for i, name := range [8]string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"} {
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
