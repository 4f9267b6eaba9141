package packet_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

var (
	serverMAC = net.HardwareAddr{2, 0, 0, 0, 0, 9}
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
)

// frameOf serializes layers, with lengths.
func frameOf(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, list...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// dhcpFrame is a DHCPv4 message from a server to clients, or the other way.
func dhcpFrame(t testing.TB, from, to layers.UDPPort, op layers.DHCPOp, kind layers.DHCPMsgType, src string, more ...layers.DHCPOption) []byte {
	options := append(layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})}, more...)
	return frameOf(t,
		&layers.Ethernet{SrcMAC: serverMAC, DstMAC: broadcast, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.ParseIP(src), DstIP: net.IPv4bcast},
		&layers.UDP{SrcPort: from, DstPort: to},
		&layers.DHCPv4{Operation: op, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, ClientHWAddr: serverMAC, Options: options})
}

func claimOf(t testing.TB, frame []byte) flow.Claim {
	t.Helper()
	var r flow.Record
	if err := packet.Parse(frame, &r); err != nil {
		t.Fatal(err)
	}
	return r.Claim
}

func TestDHCPClaims(t *testing.T) {
	const reply, request = layers.DHCPOpReply, layers.DHCPOpRequest
	option := func(o layers.DHCPOpt, addrs ...byte) layers.DHCPOption { return layers.NewDHCPOption(o, addrs) }
	offer := func(router, resolver byte) flow.Claim {
		return claimOf(t, dhcpFrame(t, 67, 68, reply, layers.DHCPMsgTypeOffer, "10.0.0.1",
			option(layers.DHCPOptRouter, 10, 0, 0, router), option(layers.DHCPOptDNS, 10, 0, 0, resolver)))
	}
	const named = flow.ClaimServer | flow.ClaimRouter | flow.ClaimResolver
	own, other := offer(1, 2), offer(3, 2)
	if own.Type != flow.DHCPOffer || own.Flags != named|flow.ClaimSelf || own.Names == 0 {
		t.Errorf("a server that names itself: %+v", own)
	}
	if other.Flags != named || other.Names == own.Names {
		t.Errorf("a server that names another: %+v, not %+v", other, own)
	}
	for name, c := range map[string]struct {
		frame []byte
		want  flow.Claim
	}{
		"discover": {dhcpFrame(t, 68, 67, request, layers.DHCPMsgTypeDiscover, "0.0.0.0"), flow.Claim{Type: 1, Flags: flow.ClaimClient}},
		"nothing named": {dhcpFrame(t, 67, 68, reply, layers.DHCPMsgTypeNak, "10.0.0.1"),
			flow.Claim{Type: flow.DHCPNak, Flags: flow.ClaimServer}},
		"to a relay": {dhcpFrame(t, 67, 67, reply, layers.DHCPMsgTypeAck, "10.0.0.1"),
			flow.Claim{Type: flow.DHCPAck, Flags: flow.ClaimServer | flow.ClaimRelayed}},
		"a client that answers": {dhcpFrame(t, 68, 67, reply, layers.DHCPMsgTypeOffer, "10.0.0.1"), flow.Claim{}},
	} {
		if got := claimOf(t, c.frame); got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
	whole := dhcpFrame(t, 67, 68, reply, layers.DHCPMsgTypeOffer, "10.0.0.1", option(layers.DHCPOptRouter, 10, 0, 0, 1))
	for n := 42; n < len(whole); n++ { // sampled headers end where they like
		if c := claimOf(t, whole[:n]); n > 42 && c.Flags&flow.ClaimServer == 0 || n == 42 && c != (flow.Claim{}) {
			t.Errorf("cut at %d: %+v", n, c)
		}
	}
}

func TestDHCPv6Claims(t *testing.T) {
	server := netip.MustParseAddr("fe80::9")
	message := func(kind layers.DHCPv6MsgType, from, to layers.UDPPort, resolver netip.Addr) flow.Claim {
		return claimOf(t, frameOf(t,
			&layers.Ethernet{SrcMAC: serverMAC, DstMAC: broadcast, EthernetType: layers.EthernetTypeIPv6},
			&layers.IPv6{Version: 6, HopLimit: 1, NextHeader: layers.IPProtocolUDP, SrcIP: server.AsSlice(), DstIP: net.ParseIP("fe80::1")},
			&layers.UDP{SrcPort: from, DstPort: to},
			&layers.DHCPv6{MsgType: kind, TransactionID: []byte{1, 2, 3}, Options: layers.DHCPv6Options{
				layers.NewDHCPv6Option(layers.DHCPv6OptDNSServers, resolver.AsSlice())}}))
	}
	if c := message(layers.DHCPv6MsgTypeAdvertise, 547, 546, server); c.Type != 2 || c.Flags != flow.ClaimServer|flow.ClaimResolver|flow.ClaimSelf {
		t.Errorf("advertise: %+v", c)
	}
	if c := message(layers.DHCPv6MsgTypeReply, 547, 546, netip.MustParseAddr("fd00::53")); c.Flags != flow.ClaimServer|flow.ClaimResolver || c.Names == 0 {
		t.Errorf("reply: %+v", c)
	}
	if c := message(layers.DHCPv6MsgTypeSolicit, 546, 547, server); c.Flags != flow.ClaimClient || c.Names != 0 {
		t.Errorf("solicit: %+v", c)
	}
}

func TestRouterAdvertisementClaims(t *testing.T) {
	advertise := func(hops uint8, lifetime uint16) flow.Claim {
		return claimOf(t, frameOf(t,
			&layers.Ethernet{SrcMAC: serverMAC, DstMAC: broadcast, EthernetType: layers.EthernetTypeIPv6},
			&layers.IPv6{Version: 6, HopLimit: hops, NextHeader: layers.IPProtocolICMPv6, SrcIP: net.ParseIP("fe80::9"), DstIP: net.ParseIP("ff02::1")},
			&layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeRouterAdvertisement, 0)},
			&layers.ICMPv6RouterAdvertisement{HopLimit: 64, RouterLifetime: lifetime, Options: layers.ICMPv6Options{
				{Type: layers.ICMPv6OptMTU, Data: []byte{0, 0, 0, 0, 5, 220}}, {Type: layers.ICMPv6OptSourceAddress, Data: serverMAC}}}))
	}
	if c := advertise(255, 1800); c.Flags != flow.ClaimRouter|flow.ClaimSelf || c.MAC != flow.MAC(serverMAC) {
		t.Errorf("a router: %+v", c)
	}
	if c := advertise(255, 0); c.Flags != 0 || c.MAC != flow.MAC(serverMAC) { // it no longer is a default router
		t.Errorf("a router that retires: %+v", c)
	}
	if c := advertise(254, 1800); c != (flow.Claim{}) {
		t.Errorf("a router from afar: %+v", c)
	}
}
