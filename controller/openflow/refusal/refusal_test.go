package refusal_test

import (
	"bytes"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/platelet-sdn/platelet/controller/openflow/refusal"
)

var (
	client = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	server = net.HardwareAddr{2, 0, 0, 0, 0, 2}
)

func eth(t layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: client, DstMAC: server, EthernetType: t}
}

func ip4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 9, Id: 7, Protocol: proto, SrcIP: net.IPv4(10, 0, 0, 1).To4(), DstIP: net.IPv4(10, 0, 0, 2).To4()}
}

func ip6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 9, NextHeader: next, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
}

// verify fails where a checksum is wrong.
func verify(t testing.TB, p gopacket.Packet) {
	t.Helper()
	for _, l := range p.Layers() {
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(p.NetworkLayer()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) > 0 {
		t.Fatalf("checksums: %v, %+v\n%s", err, wrong, p)
	}
}

// frame serializes layers, with lengths and checksums.
func frame(t testing.TB, list ...gopacket.SerializableLayer) []byte {
	t.Helper()
	var network gopacket.NetworkLayer
	for _, l := range list {
		if n, ok := l.(gopacket.NetworkLayer); ok {
			network = n
		}
		if c, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := c.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// answer returns the decoded answer, whose checksums are right and which goes
// back where the question came from.
func answer(t *testing.T, question []byte) gopacket.Packet {
	t.Helper()
	b, ok := refusal.Answer(question)
	if !ok {
		t.Fatal("no answer")
	}
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	if p.ErrorLayer() != nil {
		t.Fatal(p.ErrorLayer().Error())
	}
	verify(t, p)
	asked := gopacket.NewPacket(question, layers.LayerTypeEthernet, gopacket.Default)
	if asked.NetworkLayer().NetworkFlow().Reverse() != p.NetworkLayer().NetworkFlow() || asked.LinkLayer().LinkFlow().Reverse() != p.LinkLayer().LinkFlow() {
		t.Fatalf("it does not go back:\n%s", p)
	}
	if again, ok := refusal.Answer(b); ok {
		t.Fatalf("the answer is answered: %x", again)
	}
	return p
}

func TestResets(t *testing.T) {
	payload := gopacket.Payload("hello")
	for name, tt := range map[string]struct {
		segment  layers.TCP
		payload  gopacket.Payload
		seq, ack uint32
		acks     bool
	}{
		"SYN":             {segment: layers.TCP{SYN: true, Seq: 1000}, ack: 1001, acks: true},
		"SYN at the end":  {segment: layers.TCP{SYN: true, Seq: 1<<32 - 1}, ack: 0, acks: true},
		"SYN with data":   {segment: layers.TCP{SYN: true, Seq: 1000}, payload: payload, ack: 1006, acks: true},
		"FIN without ACK": {segment: layers.TCP{FIN: true, Seq: 1000}, payload: payload, ack: 1006, acks: true},
		"data":            {segment: layers.TCP{ACK: true, PSH: true, Seq: 1000, Ack: 77}, payload: payload, seq: 77},
		"SYN+ACK":         {segment: layers.TCP{SYN: true, ACK: true, Seq: 1000, Ack: 77}, seq: 77},
	} {
		tt.segment.SrcPort, tt.segment.DstPort = 40000, 80
		tt.segment.Options = []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}
		for family, list := range map[string][]gopacket.SerializableLayer{
			"IPv4":   {eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP)},
			"IPv6":   {eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP)},
			"tagged": {eth(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Priority: 3, Type: layers.EthernetTypeIPv4}, ip4(layers.IPProtocolTCP)},
		} {
			t.Run(name+" "+family, func(t *testing.T) {
				p := answer(t, frame(t, append(list, &tt.segment, tt.payload)...))
				tcp := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
				if !tcp.RST || tcp.ACK != tt.acks || tcp.SYN || tcp.FIN || tcp.Seq != tt.seq || tcp.Ack != tt.ack || tcp.SrcPort != 80 || tcp.DstPort != 40000 {
					t.Errorf("%s", p)
				}
				if tag, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok != (family == "tagged") || ok && (tag.VLANIdentifier != 7 || tag.Priority != 3) {
					t.Errorf("tags: %s", p)
				}
			})
		}
	}
}

func TestErrors(t *testing.T) {
	udp := &layers.UDP{SrcPort: 40000, DstPort: 53}
	long := gopacket.Payload(bytes.Repeat([]byte{1}, 1400))
	for name, tt := range map[string]struct {
		list   []gopacket.SerializableLayer
		code   uint8
		longer int // than the packet
	}{
		"UDP":       {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp, gopacket.Payload("x")}, 3, 28},
		"long UDP":  {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), udp, long}, 3, 576 - 1400 - 28},
		"ping":      {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8}}, 13, 28},
		"GRE":       {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolGRE), gopacket.Payload{0, 0, 8, 0}}, 13, 28},
		"UDP6":      {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp, gopacket.Payload("x")}, 4, 48},
		"long UDP6": {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolUDP), udp, long}, 4, 1280 - 1400 - 48},
		"ping6":     {[]gopacket.SerializableLayer{eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 128 << 8}, gopacket.Payload{0, 1, 0, 1}}, 1, 48},
	} {
		t.Run(name, func(t *testing.T) {
			question := frame(t, tt.list...)
			p := answer(t, question)
			whole := gopacket.NewPacket(question, layers.LayerTypeEthernet, gopacket.Default).NetworkLayer()
			asked := append(bytes.Clone(whole.LayerContents()), whole.LayerPayload()...) // without padding
			if got := len(p.Data()) - 14 - len(asked); got != tt.longer {
				t.Errorf("%d bytes longer than the question, want %d", got, tt.longer)
			}
			var quoted []byte
			if e, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
				if e.TypeCode.Type() != 3 || e.TypeCode.Code() != tt.code {
					t.Errorf("%s", p)
				}
				quoted = e.Payload
			} else if e := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); e.TypeCode.Type() != 1 || e.TypeCode.Code() != tt.code {
				t.Errorf("%s", p)
			} else {
				quoted = e.Payload[4:]
			}
			if !bytes.HasPrefix(asked, quoted) || len(quoted) < 500 && len(quoted) != len(asked) {
				t.Errorf("it quotes %x of %x", quoted, asked)
			}
		})
	}
}

func TestIsSilent(t *testing.T) {
	udp := &layers.UDP{SrcPort: 40000, DstPort: 53}
	syn := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true}
	group := eth(layers.EthernetTypeIPv4)
	group.DstMAC = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	multicast, later, forged := ip4(layers.IPProtocolUDP), ip4(layers.IPProtocolUDP), ip4(layers.IPProtocolTCP)
	multicast.DstIP, later.FragOffset, forged.SrcIP = net.IPv4(224, 0, 0, 5).To4(), 100, net.IPv4(255, 255, 255, 255).To4()
	nobody := ip6(layers.IPProtocolICMPv6)
	nobody.SrcIP = net.IPv6zero
	for name, b := range map[string][]byte{
		"reset":             frame(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), &layers.TCP{RST: true}),
		"broadcast":         frame(t, group, ip4(layers.IPProtocolUDP), udp),
		"multicast":         frame(t, eth(layers.EthernetTypeIPv4), multicast, udp),
		"later fragment":    frame(t, eth(layers.EthernetTypeIPv4), later, gopacket.Payload("0123456789")),
		"from all":          frame(t, eth(layers.EthernetTypeIPv4), forged, syn),
		"echo reply":        frame(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{}),
		"ICMP error":        frame(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 3<<8 | 3}),
		"ICMPv6 error":      frame(t, eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 1 << 8}, gopacket.Payload("0123")),
		"neighbours":        frame(t, eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), &layers.ICMPv6{TypeCode: 135 << 8}, gopacket.Payload("0123456789")),
		"from nobody":       frame(t, eth(layers.EthernetTypeIPv6), nobody, &layers.ICMPv6{TypeCode: 128 << 8}, gopacket.Payload("0123")),
		"ICMPv4 over IPv6":  frame(t, eth(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv4), gopacket.Payload{8, 0, 0, 0, 0, 0, 0, 0}),
		"ARP":               frame(t, eth(layers.EthernetTypeARP), gopacket.Payload("0123456789")),
		"nothing":           nil,
		"half a tag":        append(bytes.Repeat([]byte{2}, 12), 0x81, 0),
		"half a header":     frame(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP))[:20],
		"half a TCP header": frame(t, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), gopacket.Payload("0123456789")),
	} {
		if a, ok := refusal.Answer(b); ok {
			t.Errorf("%s is answered: %x", name, a)
		}
	}
}

// Whatever comes, an answer is well formed, is no larger than it may be, and is
// not answered itself: nobody can be made to talk in circles.
func FuzzAnswer(f *testing.F) {
	f.Add(frame(f, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP), &layers.TCP{SYN: true, Seq: 7}))
	f.Add(frame(f, eth(layers.EthernetTypeDot1Q), &layers.Dot1Q{Type: layers.EthernetTypeIPv6}, ip6(layers.IPProtocolUDP), &layers.UDP{DstPort: 53}))
	f.Add(frame(f, eth(layers.EthernetTypeIPv6), ip6(0), gopacket.Payload{17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0}))
	f.Add(frame(f, eth(layers.EthernetTypeIPv4), ip4(layers.IPProtocolICMPv4), &layers.ICMPv4{TypeCode: 8 << 8}))
	f.Fuzz(func(t *testing.T, question []byte) {
		before := bytes.Clone(question)
		b, ok := refusal.Answer(question)
		if !bytes.Equal(before, question) {
			t.Fatal("the question was changed")
		}
		if !ok {
			return
		}
		if len(b) > 1280+14+8 {
			t.Fatalf("%d bytes", len(b))
		}
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if p.NetworkLayer() == nil {
			t.Fatalf("%x", b)
		}
		verify(t, p)
		if again, ok := refusal.Answer(b); ok {
			t.Fatalf("the answer is answered: %x", again)
		}
	})
}
