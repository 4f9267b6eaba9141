package flowtext

import (
	"strconv"
	"strings"

	"github.com/digitalocean/go-openvswitch/ovs"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// protocol tells the abbreviations of EtherType and IP protocol, which stand
// at the head of a match's text without a value, from fields.
func protocol(name string) (ovs.Protocol, bool) {
	switch p := ovs.Protocol(name); p {
	case ovs.ProtocolARP, ovs.ProtocolICMPv4, ovs.ProtocolICMPv6, ovs.ProtocolIPv4, ovs.ProtocolIPv6, ovs.ProtocolTCPv4, ovs.ProtocolTCPv6,
		ovs.ProtocolUDPv4, ovs.ProtocolUDPv6:
		return p, true
	}
	return "", false
}

// matches translates the text of a match, field by field: every one becomes
// exactly one ovs.Match, so none can be lost.
func matches(m openflow.Match) (proto ovs.Protocol, out []ovs.Match, ok bool) {
	text := m.String()
	if text == "" {
		return "", nil, true
	}
	for _, part := range strings.Split(text, ",") {
		name, value, valued := strings.Cut(part, "=")
		if !valued {
			if proto, ok = protocol(name); !ok { // sctp, rarp, ...
				return "", nil, false
			}
			continue
		}
		o, ok := match(name, value)
		if !ok {
			return "", nil, false
		}
		out = append(out, o)
	}
	return proto, out, true
}

// match translates one field; fields without a type of their own are an
// ovs.FieldMatch.
func match(name, value string) (ovs.Match, bool) {
	switch name {
	case "unknown":
		return nil, false
	case "dl_src":
		return ovs.DataLinkSource(value), true
	case "dl_dst":
		return ovs.DataLinkDestination(value), true
	case "nw_src":
		return ovs.NetworkSource(value), true
	case "nw_dst":
		return ovs.NetworkDestination(value), true
	case "ipv6_src":
		return ovs.IPv6Source(value), true
	case "ipv6_dst":
		return ovs.IPv6Destination(value), true
	case "arp_spa":
		return ovs.ARPSourceProtocolAddress(value), true
	case "arp_tpa":
		return ovs.ARPTargetProtocolAddress(value), true
	case "nd_target":
		return ovs.NeighborDiscoveryTarget(value), true
	case "ct_state":
		return ovs.ConnectionTrackingState(value), true
	case "tcp_flags":
		return ovs.TCPFlags(value), true
	case "nw_frag":
		return ovs.IPFrag(ovs.IPFragFlag(value)), true
	}
	if n, err := strconv.ParseUint(value, 10, 16); err == nil {
		if m := numeric(name, n); m != nil {
			return m, true
		}
	}
	return ovs.FieldMatch(name, value), true
}

// numeric translates a field with a number for its value and no mask; nil has
// no type of its own.
func numeric(name string, n uint64) ovs.Match {
	switch name {
	case "in_port":
		return ovs.InPortMatch(int(n))
	case "dl_vlan":
		return ovs.DataLinkVLAN(int(n))
	case "dl_vlan_pcp":
		return ovs.DataLinkVLANPCP(int(n))
	case "tp_src":
		return ovs.TransportSourcePort(uint16(n))
	case "tp_dst":
		return ovs.TransportDestinationPort(uint16(n))
	case "nw_proto":
		return ovs.NetworkProtocol(uint8(n))
	case "nw_ttl":
		return ovs.NetworkTTL(int(n))
	case "nw_ecn":
		return ovs.NetworkECN(int(n))
	case "nw_tos":
		return ovs.NetworkTOS(int(n))
	case "icmp_type":
		return ovs.ICMPType(uint8(n))
	case "icmp_code":
		return ovs.ICMPCode(uint8(n))
	case "arp_op":
		return ovs.ARPOperation(uint16(n))
	case "ct_zone":
		return ovs.ConnectionTrackingZone(uint16(n))
	}
	return nil
}
