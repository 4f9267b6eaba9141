package flowcollector_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	gonetflow "github.com/netsampler/goflow2/v2/decoders/netflow"
	gosflow "github.com/netsampler/goflow2/v2/decoders/sflow"
	"github.com/netsampler/goflow2/v2/producer"
	protoproducer "github.com/netsampler/goflow2/v2/producer/proto"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// fcsLen is the frame check sequence, which sFlow counts and we do not.
const fcsLen = 4

// oracle decodes with goflow2, which must only see captures: one of its
// decoders can be killed by a datagram, the other hangs.
type oracle struct {
	producer  producer.ProducerInterface
	templates gonetflow.NetFlowTemplateSystem
}

func newOracle(t testing.TB) *oracle {
	t.Helper()
	var cfg protoproducer.ProducerConfig
	compiled, err := cfg.Compile()
	if err != nil {
		t.Fatal(err)
	}
	p, err := protoproducer.CreateProtoProducer(compiled, protoproducer.CreateSamplingSystem)
	if err != nil {
		t.Fatal(err)
	}
	return &oracle{producer: p, templates: gonetflow.CreateTemplateSystem()}
}

func (o *oracle) produce(t testing.TB, msg any) []producer.ProducerMessage {
	t.Helper()
	ms, err := o.producer.Produce(msg, &producer.ProduceArgs{
		Src: exporterAddr(), SamplerAddress: exporterAddr().Addr(), TimeReceived: time.Unix(0, received()),
	})
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func (o *oracle) sflow(t testing.TB, b []byte) []producer.ProducerMessage {
	t.Helper()
	var p gosflow.Packet
	if err := gosflow.DecodeMessageVersion(bytes.NewBuffer(b), &p); err != nil {
		t.Fatal(err)
	}
	return o.produce(t, &p)
}

func (o *oracle) ipfix(t testing.TB, b []byte) []producer.ProducerMessage {
	t.Helper()
	var v9 gonetflow.NFv9Packet
	var p gonetflow.IPFIXPacket
	if err := gonetflow.DecodeMessageVersion(bytes.NewBuffer(b), o.templates, &v9, &p); err != nil {
		t.Fatal(err)
	}
	return o.produce(t, &p)
}

// common is what both sides know, in a form that can be compared.
type common struct {
	Src, Dst             netip.Addr
	SrcPort, DstPort     uint16
	Proto                uint8
	ICMPType, ICMPCode   uint8
	EtherType            uint16
	Bytes, Packets, Rate uint64
	InPort, OutPort      uint32
	Domain               uint32
	SrcMAC, DstMAC       flow.MAC
	TTL                  uint8
}

func ours(r *flow.Record) common {
	return common{
		Src: r.Src, Dst: r.Dst, SrcPort: r.SrcPort, DstPort: r.DstPort, Proto: r.Proto,
		ICMPType: r.ICMPType, ICMPCode: r.ICMPCode, EtherType: r.EtherType,
		Bytes: r.Bytes, Packets: r.Packets, Rate: uint64(r.Rate),
		InPort: r.InPort, OutPort: r.OutPort, Domain: r.Exporter.Domain,
		SrcMAC: r.SrcMAC, DstMAC: r.DstMAC, TTL: r.TTL,
	}
}

func theirs(t testing.TB, msg producer.ProducerMessage) common {
	t.Helper()
	m, ok := msg.(*protoproducer.ProtoProducerMessage)
	if !ok {
		t.Fatalf("oracle produced %T", msg)
	}
	addr := func(b []byte) netip.Addr {
		a, _ := netip.AddrFromSlice(b)
		return a
	}
	mac := func(v uint64) (a flow.MAC) {
		for i := range a {
			a[i] = byte(v >> (8 * (5 - i)))
		}
		return a
	}
	return common{
		Src: addr(m.SrcAddr), Dst: addr(m.DstAddr), SrcPort: uint16(m.SrcPort), DstPort: uint16(m.DstPort),
		Proto: uint8(m.Proto), ICMPType: uint8(m.IcmpType), ICMPCode: uint8(m.IcmpCode),
		EtherType: uint16(m.Etype), Bytes: m.Bytes, Packets: m.Packets, Rate: m.SamplingRate,
		InPort: m.InIf, OutPort: m.OutIf, Domain: m.ObservationDomainId,
		SrcMAC: mac(m.SrcMac), DstMAC: mac(m.DstMac), TTL: uint8(m.IpTtl),
	}
}

func TestSFlowAgreesWithGoflow2(t *testing.T) {
	for _, name := range sflowCaptures() {
		t.Run(name, func(t *testing.T) {
			o, d := newOracle(t), sflow.NewDecoder(sflow.Config{})
			total := 0
			for i, b := range datagrams(t, name) {
				rs, err := d.Decode(nil, b, received(), exporterAddr().Addr())
				if err != nil {
					t.Fatalf("datagram %d: %v", i, err)
				}
				ms := o.sflow(t, b)
				if len(rs) != len(ms) {
					t.Fatalf("datagram %d: %d records, oracle has %d", i, len(rs), len(ms))
				}
				for j := range rs {
					compareSFlow(t, &rs[j], theirs(t, ms[j]))
				}
				total += len(rs)
			}
			if total == 0 {
				t.Fatal("nothing compared")
			}
			t.Logf("%d records agree", total)
		})
	}
}

func compareSFlow(t *testing.T, r *flow.Record, want common) {
	t.Helper()
	got := ours(r)
	want.Bytes -= fcsLen
	want.Domain = got.Domain // goflow2 does not carry the sub-agent
	// goflow2 sets these only when ICMP is the first layer that it parses,
	// which behind Ethernet it never is.
	want.ICMPType, want.ICMPCode = got.ICMPType, got.ICMPCode
	switch format := want.OutPort >> 30; {
	case format == 1 && r.Verdict != flow.VerdictDropped:
		t.Errorf("output %#x is not a dropped packet: %+v", want.OutPort, r)
	case format != 1 && want.OutPort != 0 && r.Verdict != flow.VerdictForwarded:
		t.Errorf("output %#x is not a forwarded packet: %+v", want.OutPort, r)
	}
	if want.OutPort>>30 != 0 {
		want.OutPort = 0
	}
	switch {
	case r.EtherType == flow.EtherARP: // goflow2 does not look into ARP
		want.Src, want.Dst = got.Src, got.Dst
	case r.Signal == flow.SignalARPRequest: // our Dst is the address asked for
		want.Dst = got.Dst
	case r.Signal == flow.SignalARPReply: // our Src is the address answered for
		want.Src = got.Src
	}
	if got != want {
		t.Errorf("record differs\n ours   %+v\n theirs %+v", got, want)
	}
}

func TestIPFIXAgreesWithGoflow2(t *testing.T) {
	for _, name := range ipfixCaptures() {
		t.Run(name, func(t *testing.T) {
			o, d := newOracle(t), netflow.NewDecoder(netflow.Config{})
			total := 0
			for i, b := range datagrams(t, name) {
				rs, err := d.Decode(nil, b, received(), exporterAddr())
				if err != nil {
					t.Fatalf("datagram %d: %v", i, err)
				}
				ms := o.ipfix(t, b)
				if len(rs) != len(ms) {
					t.Fatalf("datagram %d: %d records, oracle has %d", i, len(rs), len(ms))
				}
				for j := range rs {
					compareIPFIX(t, &rs[j], theirs(t, ms[j]))
				}
				total += len(rs)
			}
			if total == 0 {
				t.Fatal("nothing compared")
			}
			if lost := d.Counts().Lost; lost != 0 {
				t.Errorf("%d records lost in a complete capture", lost)
			}
			t.Logf("%d records agree", total)
		})
	}
}

func compareIPFIX(t *testing.T, r *flow.Record, want common) {
	t.Helper()
	got := ours(r)
	want.Rate = 1 // goflow2 leaves 0 where nothing was exported
	// goflow2 knows neither ethernetType, nor layer2OctetDeltaCount, nor
	// ipTTL.
	want.TTL = got.TTL
	if !r.Src.IsValid() {
		want.EtherType, want.Bytes = got.EtherType, got.Bytes
	}
	if got != want {
		t.Errorf("record differs\n ours   %+v\n theirs %+v", got, want)
	}
}
