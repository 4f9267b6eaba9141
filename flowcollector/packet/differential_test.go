package packet_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// oracle parses a frame with gopacket, slowly and obviously.
func oracle(frame []byte) flow.Record {
	var r flow.Record
	vlans := 0
	for _, layer := range gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy).Layers() {
		switch l := layer.(type) {
		case *layers.Ethernet:
			r.SrcMAC, r.DstMAC = flow.MAC(l.SrcMAC), flow.MAC(l.DstMAC)
			r.EtherType = uint16(l.EthernetType)
		case *layers.Dot1Q:
			if vlans++; vlans == 1 {
				r.VLAN = l.VLANIdentifier
			}
			r.EtherType = uint16(l.Type)
		case *layers.IPv4:
			r.Src, r.Dst = addr(l.SrcIP), addr(l.DstIP)
			r.Proto, r.TTL = uint8(l.Protocol), l.TTL
		case *layers.IPv6:
			r.Src, r.Dst = addr(l.SrcIP), addr(l.DstIP)
			r.Proto, r.TTL = uint8(l.NextHeader), l.HopLimit
		case *layers.IPv6HopByHop:
			r.Proto = uint8(l.NextHeader)
		case *layers.IPv6Destination:
			r.Proto = uint8(l.NextHeader)
		case *layers.IPv6Routing:
			r.Proto = uint8(l.NextHeader)
		case *layers.IPv6Fragment:
			r.Proto = uint8(l.NextHeader)
		default:
			oracleTransport(layer, &r)
		}
	}
	return r
}

func oracleTransport(layer gopacket.Layer, r *flow.Record) {
	switch l := layer.(type) {
	case *layers.TCP:
		r.SrcPort, r.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
		r.TCPFlags, r.Seq, r.Ack = l.Contents[13], l.Seq, l.Ack
		switch {
		case l.RST:
			r.Signal = flow.SignalRefuse
		case l.SYN && l.FIN, !l.SYN && !l.ACK:
			r.Signal = flow.SignalProbe
		case l.SYN && l.ACK:
			r.Signal = flow.SignalAccept
		case l.SYN:
			r.Signal = flow.SignalAttempt
		case l.FIN:
			r.Signal = flow.SignalFinish
		}
	case *layers.UDP:
		r.SrcPort, r.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
		r.Signal = flow.SignalUDP
	case *layers.SCTP:
		r.SrcPort, r.DstPort = uint16(l.SrcPort), uint16(l.DstPort)
	case *layers.ICMPv4:
		r.ICMPType, r.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
		r.Signal = flow.SignalICMP
		if r.ICMPType == layers.ICMPv4TypeDestinationUnreachable {
			r.Signal = flow.SignalUnreachable
			r.Inner = oracleQuote(l.Payload, layers.LayerTypeIPv4)
		}
	case *layers.ICMPv6:
		r.ICMPType, r.ICMPCode = l.TypeCode.Type(), l.TypeCode.Code()
		r.Signal = flow.SignalICMP
		if r.ICMPType == layers.ICMPv6TypeDestinationUnreachable {
			r.Signal = flow.SignalUnreachable
			r.Inner = oracleQuote(l.Payload[4:], layers.LayerTypeIPv6)
		}
	case *layers.ICMPv6NeighborSolicitation:
		r.Signal, r.Dst = flow.SignalARPRequest, addr(l.TargetAddress)
		r.Claim.MAC = oracleOption(l.Options, layers.ICMPv6OptSourceAddress)
	case *layers.ICMPv6NeighborAdvertisement:
		r.Signal, r.Src = flow.SignalARPReply, addr(l.TargetAddress)
		r.Claim.MAC = oracleOption(l.Options, layers.ICMPv6OptTargetAddress)
	case *layers.ARP:
		r.Src, r.Dst = addr(l.SourceProtAddress), addr(l.DstProtAddress)
		r.Signal, r.Claim.MAC = flow.SignalARPRequest, flow.MAC(l.SourceHwAddress)
		if l.Operation == layers.ARPReply {
			r.Signal = flow.SignalARPReply
		}
	}
}

func oracleOption(list layers.ICMPv6Options, want layers.ICMPv6Opt) (m flow.MAC) {
	for _, o := range list {
		if o.Type == want && len(o.Data) >= len(m) {
			return flow.MAC(o.Data[:len(m)])
		}
	}
	return m
}

func oracleQuote(b []byte, first gopacket.LayerType) flow.Tuple {
	p := gopacket.NewPacket(b, first, gopacket.NoCopy)
	var t flow.Tuple
	var transport []byte
	switch l := p.NetworkLayer().(type) {
	case *layers.IPv4:
		t = flow.Tuple{Src: addr(l.SrcIP), Dst: addr(l.DstIP), Proto: uint8(l.Protocol)}
		transport = l.Payload
	case *layers.IPv6:
		t = flow.Tuple{Src: addr(l.SrcIP), Dst: addr(l.DstIP), Proto: uint8(l.NextHeader)}
		transport = l.Payload
	}
	if (t.Proto == flow.ProtoTCP || t.Proto == flow.ProtoUDP) && len(transport) >= 4 {
		t.SrcPort, t.DstPort = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	return t
}

func addr(ip []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a
}

func TestParseAgreesWithGopacketOnCaptures(t *testing.T) {
	signals := map[flow.Signal]int{}
	for i, frame := range capturedFrames(t) {
		var got flow.Record
		if err := packet.Parse(frame, &got); err != nil {
			t.Errorf("frame %d: %v", i, err)
		}
		got.Login = flow.LoginUnknown // nothing that gopacket would say
		if want := oracle(frame); got != want {
			t.Errorf("frame %d (%x)\n got %+v\nwant %+v", i, frame, got, want)
		}
		signals[got.Signal]++
	}
	for _, s := range []flow.Signal{
		flow.SignalNone, flow.SignalAttempt, flow.SignalAccept, flow.SignalRefuse, flow.SignalUnreachable,
		flow.SignalUDP, flow.SignalARPRequest, flow.SignalARPReply, flow.SignalFinish, flow.SignalICMP,
	} {
		if signals[s] == 0 {
			t.Errorf("the captures have no frame with signal %d", s)
		}
	}
}

func TestParseAgreesWithGopacketOnGeneratedPackets(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for i := range 5000 {
		frame := g.frame(t)
		var got flow.Record
		if err := packet.Parse(frame, &got); err != nil {
			t.Fatalf("packet %d (%x): %v", i, frame, err)
		}
		if want := oracle(frame); got != want {
			t.Fatalf("packet %d (%x)\n got %+v\nwant %+v", i, frame, got, want)
		}
	}
}

// generator makes random well-formed frames.
type generator struct {
	*rand.Rand
}

func (g generator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

func (g generator) frame(t *testing.T) []byte {
	t.Helper()
	var stack []gopacket.SerializableLayer
	types := []layers.EthernetType{layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeARP}
	etherType := types[g.IntN(len(types))]
	tags := g.IntN(3)
	next := func(tag int) layers.EthernetType {
		if tag < tags {
			return layers.EthernetTypeDot1Q
		}
		return etherType
	}
	stack = append(stack, &layers.Ethernet{SrcMAC: g.bytes(6), DstMAC: g.bytes(6), EthernetType: next(0)})
	for tag := range tags {
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: uint16(g.IntN(4096)), Priority: uint8(g.IntN(8)), Type: next(tag + 1)})
	}
	switch etherType {
	case layers.EthernetTypeARP:
		stack = append(stack, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
			Operation:       uint16(1 + g.IntN(2)),
			SourceHwAddress: g.bytes(6), SourceProtAddress: g.bytes(4), DstHwAddress: g.bytes(6), DstProtAddress: g.bytes(4),
		})
	case layers.EthernetTypeIPv4:
		stack = append(stack, g.ipv4()...)
	default:
		stack = append(stack, g.ipv6()...)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, stack...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func (g generator) ipv4() []gopacket.SerializableLayer {
	ip := &layers.IPv4{Version: 4, TTL: uint8(g.Uint32()), SrcIP: g.bytes(4), DstIP: g.bytes(4)}
	for range g.IntN(3) {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 7, OptionLength: 11, OptionData: g.bytes(9)})
	}
	if g.IntN(8) == 0 { // a fragment other than the first
		ip.Protocol, ip.FragOffset = layers.IPProtocolUDP, uint16(1+g.IntN(8000))
		return []gopacket.SerializableLayer{ip, gopacket.Payload(g.bytes(32))}
	}
	transport, proto := g.transport(layers.IPProtocolICMPv4)
	ip.Protocol = proto
	return append([]gopacket.SerializableLayer{ip}, transport...)
}

func (g generator) ipv6() []gopacket.SerializableLayer {
	ip := &layers.IPv6{Version: 6, HopLimit: uint8(g.Uint32()), SrcIP: g.bytes(16), DstIP: g.bytes(16)}
	transport, proto := g.transport(layers.IPProtocolICMPv6)
	ip.NextHeader = proto
	if g.IntN(3) > 0 {
		return append([]gopacket.SerializableLayer{ip}, transport...)
	}
	ip.NextHeader = layers.IPProtocolIPv6Destination
	options := &layers.IPv6Destination{Options: []*layers.IPv6DestinationOption{{OptionType: 1, OptionData: g.bytes(4 + 8*g.IntN(3))}}}
	options.NextHeader = proto
	return append([]gopacket.SerializableLayer{ip, options}, transport...)
}

func (g generator) transport(icmp layers.IPProtocol) ([]gopacket.SerializableLayer, layers.IPProtocol) {
	payload := gopacket.Payload(g.bytes(g.IntN(40)))
	sport, dport := uint16(g.Uint32()), uint16(g.Uint32())
	switch g.IntN(4) {
	case 0:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), DataOffset: 5, Seq: g.Uint32(), Ack: g.Uint32()}
		flags := g.Uint32()
		tcp.FIN, tcp.SYN, tcp.RST, tcp.PSH = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0
		tcp.ACK, tcp.URG, tcp.ECE, tcp.CWR = flags&16 != 0, flags&32 != 0, flags&64 != 0, flags&128 != 0
		return []gopacket.SerializableLayer{tcp, payload}, layers.IPProtocolTCP
	case 1:
		return []gopacket.SerializableLayer{&layers.UDP{SrcPort: layers.UDPPort(sport), DstPort: layers.UDPPort(dport)}, payload}, layers.IPProtocolUDP
	case 2:
		return []gopacket.SerializableLayer{&layers.SCTP{SrcPort: layers.SCTPPort(sport), DstPort: layers.SCTPPort(dport)}}, layers.IPProtocolSCTP
	}
	return g.icmp(icmp), icmp
}

// icmp makes an echo or an unreachable that quotes a UDP packet.
func (g generator) icmp(proto layers.IPProtocol) []gopacket.SerializableLayer {
	echo := g.IntN(2) == 0
	if proto == layers.IPProtocolICMPv4 {
		typ := uint8(layers.ICMPv4TypeEchoRequest)
		if !echo {
			typ = layers.ICMPv4TypeDestinationUnreachable
		}
		l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, uint8(g.IntN(16)))}
		return []gopacket.SerializableLayer{l, gopacket.Payload(g.quote4())}
	}
	typ := uint8(layers.ICMPv6TypeEchoRequest)
	if !echo {
		typ = layers.ICMPv6TypeDestinationUnreachable
	}
	l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(typ, uint8(g.IntN(8)))}
	return []gopacket.SerializableLayer{l, gopacket.Payload(append(make([]byte, 4), g.quote6()...))}
}

func (g generator) quote4() []byte {
	q := make([]byte, 28)
	q[0], q[8], q[9] = 0x45, 64, flow.ProtoUDP
	binary.BigEndian.PutUint16(q[2:], uint16(len(q)))
	copy(q[12:], g.bytes(16))
	binary.BigEndian.PutUint16(q[24:], 8)
	return q
}

func (g generator) quote6() []byte {
	q := make([]byte, 48)
	q[0], q[6], q[7] = 0x60, flow.ProtoUDP, 64
	binary.BigEndian.PutUint16(q[4:], 8)
	copy(q[8:], g.bytes(36))
	binary.BigEndian.PutUint16(q[44:], 8)
	return q
}
