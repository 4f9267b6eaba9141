package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Ports of DHCP (RFC 2131, section 4.1; RFC 8415, section 7.2).
const (
	portDHCPServer  = 67
	portDHCPClient  = 68
	portDHCP6Client = 546
	portDHCP6Server = 547
)

// DHCPv4 messages (RFC 2131, section 2; RFC 2132, sections 3.5, 3.8, 9.6, 9.7).
const (
	dhcpLen       = 240 // with the magic cookie
	dhcpFromRelay = 24
	dhcpMagicAt   = 236
	dhcpMagic     = 0x63825363
	dhcpRequest   = 1
	dhcpReply     = 2
	dhcpPad       = 0
	dhcpRouters   = 3
	dhcpResolvers = 6
	dhcpType      = 53
	dhcpServerID  = 54
	dhcpEnd       = 255
)

// DHCPv6 messages (RFC 8415, section 8) and the option of resolvers (RFC 3646,
// section 3).
const (
	dhcp6Len       = 4
	dhcp6Relayed   = 12 // the first type that travels between relay and server
	dhcp6Resolvers = 23
)

// Neighbour discovery (RFC 4861, sections 4.2 and 4.6).
const (
	routerLen        = 16
	routerLifetimeAt = 6
	optSourceLink    = 1
	optTargetLink    = 2
	// maxOptions bounds the options that are looked at.
	maxOptions = 64
)

// rest returns what of a packet was captured from an offset into its payload
// on, up to where it ends by its own account.
func rest(b []byte, h *ipHeader, from int) []byte {
	at := h.payload + from
	end := min(h.end, len(b))
	if at >= end {
		return nil
	}
	return b[at:end]
}

// dhcp summarises a DHCP message. As with dns, what is none is no error.
func dhcp(b []byte, h *ipHeader, r *flow.Record) {
	m := rest(b, h, udpLen)
	switch {
	case r.SrcPort == portDHCPServer || r.DstPort == portDHCPServer:
		if h.src.Is4() && len(m) > 0 {
			dhcp4(m, r)
		}
	case r.SrcPort == portDHCP6Server || r.DstPort == portDHCP6Server:
		if h.src.Is6() && len(m) >= dhcp6Len {
			dhcp6(m, r)
		}
	}
}

func dhcp4(m []byte, r *flow.Record) {
	switch {
	case m[0] == dhcpReply && r.SrcPort == portDHCPServer:
		r.Claim.Flags = flow.ClaimServer
	case m[0] == dhcpRequest && r.DstPort == portDHCPServer:
		r.Claim.Flags = flow.ClaimClient
	default:
		return
	}
	if r.DstPort == portDHCPServer && r.SrcPort == portDHCPServer {
		r.Claim.Flags |= flow.ClaimRelayed
	}
	if len(m) < dhcpLen || binary.BigEndian.Uint32(m[dhcpMagicAt:]) != dhcpMagic {
		return // cut, or BOOTP
	}
	if binary.BigEndian.Uint32(m[dhcpFromRelay:]) != 0 {
		r.Claim.Flags |= flow.ClaimRelayed
	}
	o := dhcpOptions{}
	o.read(m[dhcpLen:])
	r.Claim.Type = o.kind
	if r.Claim.Flags&flow.ClaimServer != 0 {
		o.names(r)
	}
}

// dhcpOptions are the options of a DHCPv4 message that matter here.
type dhcpOptions struct {
	kind                         uint8
	routers, resolvers, serverID []byte
}

// read goes over the options; one that is cut ends them.
func (o *dhcpOptions) read(m []byte) {
	for len(m) >= 2 && m[0] != dhcpEnd {
		if m[0] == dhcpPad {
			m = m[1:]
			continue
		}
		n := int(m[1])
		if len(m) < 2+n {
			return
		}
		value := m[2 : 2+n]
		switch {
		case m[0] == dhcpType && n == 1:
			o.kind = value[0]
		case m[0] == dhcpRouters:
			o.routers = value
		case m[0] == dhcpResolvers:
			o.resolvers = value
		case m[0] == dhcpServerID && n == 4:
			o.serverID = value
		}
		m = m[2+n:]
	}
}

// names notes which routers and resolvers a server names, and whether it is
// one of them itself.
func (o *dhcpOptions) names(r *flow.Record) {
	if len(o.routers) >= 4 {
		r.Claim.Flags |= flow.ClaimRouter
	}
	if len(o.resolvers) >= 4 {
		r.Claim.Flags |= flow.ClaimResolver
	}
	if len(o.routers)+len(o.resolvers) > 0 {
		r.Claim.Names = hashName(o.routers) ^ hashName(o.resolvers)<<1
	}
	for _, list := range [][]byte{o.routers, o.resolvers} {
		for ; len(list) >= 4; list = list[4:] {
			a := [4]byte(list)
			if netip.AddrFrom4(a) == r.Src || len(o.serverID) == 4 && a == [4]byte(o.serverID) {
				r.Claim.Flags |= flow.ClaimSelf
			}
		}
	}
}

func dhcp6(m []byte, r *flow.Record) {
	switch {
	case m[0] >= dhcp6Relayed:
		r.Claim.Flags = flow.ClaimRelayed
		return
	case r.SrcPort == portDHCP6Server:
		r.Claim.Flags = flow.ClaimServer
	case r.DstPort == portDHCP6Server:
		r.Claim.Flags = flow.ClaimClient
	}
	r.Claim.Type = m[0]
	for m = m[dhcp6Len:]; len(m) >= 4; {
		kind, n := binary.BigEndian.Uint16(m), int(binary.BigEndian.Uint16(m[2:]))
		if len(m) < 4+n {
			return
		}
		if kind == dhcp6Resolvers && r.Claim.Flags&flow.ClaimServer != 0 && n >= 16 {
			r.Claim.Flags |= flow.ClaimResolver
			r.Claim.Names = hashName(m[4 : 4+n])
			selfResolver(m[4:4+n], r)
		}
		m = m[4+n:]
	}
}

// selfResolver notes whether the sender is among the resolvers that it names.
func selfResolver(list []byte, r *flow.Record) {
	for ; len(list) >= 16; list = list[16:] {
		if netip.AddrFrom16([16]byte(list)) == r.Src {
			r.Claim.Flags |= flow.ClaimSelf
		}
	}
}

// router summarises a router advertisement. One that passed a router is forged
// (RFC 4861, section 6.1.2) and stays mere ICMPv6.
func router(b []byte, h *ipHeader, r *flow.Record) {
	m := rest(b, h, 0)
	if h.ttl != neighbourHopLimit || r.ICMPCode != 0 || len(m) < routerLen {
		return
	}
	r.Claim.MAC = linkAddress(b, h, routerLen, optSourceLink)
	if binary.BigEndian.Uint16(m[routerLifetimeAt:]) != 0 {
		r.Claim.Flags = flow.ClaimRouter | flow.ClaimSelf
	}
}

// linkAddress returns the link-layer address option of a message of neighbour
// discovery, zero when there is none.
func linkAddress(b []byte, h *ipHeader, from int, want byte) flow.MAC {
	m := rest(b, h, from)
	for range maxOptions {
		if len(m) < 8 || m[1] == 0 || len(m) < 8*int(m[1]) {
			break
		}
		if m[0] == want {
			return flow.MAC(m[2:8])
		}
		m = m[8*int(m[1]):]
	}
	return flow.MAC{}
}
