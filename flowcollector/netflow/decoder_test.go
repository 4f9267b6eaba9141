package netflow_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// fiveTuple is a template of addresses, ports, protocol, packets and octets.
func fiveTuple() fields { return fields{8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 2, 4, 1, 4} }

func fiveTupleRecord(proto uint8, src, dst uint16) []byte {
	b := []byte{10, 0, 0, 1, 10, 0, 0, 2}
	b = append(b, words(src, dst)...)
	return append(b, proto, 0, 0, 0, 7, 0, 0, 4, 0)
}

func TestIPFIXRecord(t *testing.T) {
	d := netflow.NewDecoder(netflow.Config{})
	rs := decode(t, d, ipfix(5, 0,
		set(2, template(256, append(fiveTuple(),
			6, 1, 10, 2, 14, 4, 56, 6, 80, 6, 58, 2, 192, 1, 89, 1, 152, 8, 153, 8, 150, 4))),
		set(256, fiveTupleRecord(6, 40000, 443),
			[]byte{0x12, 0, 12, 0, 0, 0, 14, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0, 100, 63, 0x80},
			[]byte{0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 250, 1, 2, 3, 4}, []byte{0, 0, 0})))
	want := flow.Record{
		Time: now, Duration: 250e6,
		Exporter: flow.Exporter{Addr: home().Addr(), Domain: 5}, Source: flow.SourceIPFIX,
		Verdict: flow.VerdictDropped, InPort: 12, OutPort: 14, Rate: 1, Packets: 7, Bytes: 1024,
		SrcMAC: flow.MAC{2, 0, 0, 0, 0, 1}, DstMAC: flow.MAC{2, 0, 0, 0, 0, 2},
		EtherType: flow.EtherIPv4, VLAN: 100,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 443, TCPFlags: flow.SYN | flow.ACK, TTL: 63,
	}
	if len(rs) != 1 || rs[0] != want {
		t.Errorf("records %+v\n want %+v", rs, want)
	}
}

func TestIPFIXVariableAndEnterpriseFields(t *testing.T) {
	long := append([]byte{255, 1, 0}, make([]byte, 256)...)
	names := map[uint32]string{}
	d := netflow.NewDecoder(netflow.Config{Interface: func(_ flow.Exporter, i uint32, name []byte) {
		names[i] = string(name)
	}})
	rs := decode(t, d, ipfix(5, 0,
		set(2, template(300, fields{10, 4, 82, 0xffff, 0x8000 | 898, 0xffff, 27, 16, 0x8000 | 1, 3, 28, 16, 4, 1, 178, 1, 179, 1})),
		set(300,
			[]byte{0, 0, 0, 9}, []byte("\x04eth9"), long,
			netip.MustParseAddr("fd00::1").AsSlice(), []byte{1, 2, 3}, netip.MustParseAddr("fd00::2").AsSlice(), []byte{58, 1, 4},
			[]byte{0, 0, 0, 8}, []byte("\x00"), []byte{0},
			netip.MustParseAddr("fd00::3").AsSlice(), []byte{1, 2, 3}, netip.MustParseAddr("ff02::1:ff00:4").AsSlice(), []byte{58, 135, 0})))
	if len(rs) != 2 {
		t.Fatalf("%d records, want 2", len(rs))
	}
	if r := rs[0]; r.InPort != 9 || r.Src != netip.MustParseAddr("fd00::1") || r.Dst != netip.MustParseAddr("fd00::2") ||
		r.EtherType != flow.EtherIPv6 || r.ICMPType != 1 || r.ICMPCode != 4 || r.Signal != flow.SignalUnreachable {
		t.Errorf("first record %+v", r)
	}
	if r := rs[1]; r.InPort != 8 || r.Src != netip.MustParseAddr("fd00::3") || r.Signal != flow.SignalARPRequest {
		t.Errorf("second record %+v", r)
	}
	if len(names) != 1 || names[9] != "eth9" {
		t.Errorf("interface names %v", names)
	}
}

func TestSignals(t *testing.T) {
	for _, tt := range []struct {
		name           string
		proto          uint8
		dst            uint16
		flags, packets uint8
		want           flow.Signal
	}{
		{"one SYN", flow.ProtoTCP, 80, flow.SYN, 1, flow.SignalAttempt},
		{"three SYNs", flow.ProtoTCP, 80, flow.SYN, 3, flow.SignalAttempt},
		{"one SYN+ACK", flow.ProtoTCP, 80, flow.SYN | flow.ACK, 1, flow.SignalAccept},
		{"SYN, then ACK, or SYN+ACK twice", flow.ProtoTCP, 80, flow.SYN | flow.ACK, 2, flow.SignalNone},
		{"refusals", flow.ProtoTCP, 80, flow.RST | flow.ACK, 4, flow.SignalRefuse},
		{"a connection reset at its end", flow.ProtoTCP, 80, flow.SYN | flow.ACK | flow.RST, 9, flow.SignalNone},
		{"a whole connection", flow.ProtoTCP, 80, flow.SYN | flow.ACK | flow.PSH | flow.FIN, 9, flow.SignalNone},
		{"UDP", flow.ProtoUDP, 53, 0, 5, flow.SignalUDP},
		{"ICMP type in the port", flow.ProtoICMP, 3<<8 | 1, 0, 1, flow.SignalUnreachable},
		{"echo", flow.ProtoICMP, 8 << 8, 0, 1, flow.SignalICMP},
		{"GRE", 47, 0, 0, 1, flow.SignalNone},
	} {
		d := netflow.NewDecoder(netflow.Config{})
		rs := decode(t, d, ipfix(1, 0,
			set(2, template(256, fields{4, 1, 11, 2, 6, 2, 2, 1})),
			set(256, []byte{tt.proto}, words(tt.dst), []byte{0, tt.flags, tt.packets})))
		if len(rs) != 1 || rs[0].Signal != tt.want {
			t.Errorf("%s: %+v, want signal %d", tt.name, rs, tt.want)
		}
		if tt.proto != flow.ProtoTCP && tt.proto != flow.ProtoUDP && rs[0].DstPort != 0 {
			t.Errorf("%s: port %d of a protocol without ports", tt.name, rs[0].DstPort)
		}
	}
}

func TestTapRecords(t *testing.T) {
	tuple := fields{138, 4, 8, 4, 12, 4, 7, 2, 11, 2, 4, 1, 2, 4, 1, 4}
	point := func(p uint32) []byte { return words(uint16(p>>16), uint16(p)) }
	record := func(p uint32) []byte {
		// Counters as Open vSwitch exports them: scaled up by what the
		// probability stands for, here 100 packets of 60 bytes.
		return append(point(p), 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 22, flow.ProtoTCP, 0, 0, 0, 100, 0, 0, 6000>>8, 6000&0xff)
	}
	for _, tt := range []struct {
		domain, point uint32
		source        flow.Source
		signal        flow.Signal
		rate          float64
		flags         uint8
		verdict       flow.Verdict
		rule          uint32
	}{
		{flow.TapDomain(3), flow.RulePoint(flow.RuleDenied, 77), flow.SourceTap, flow.SignalDropped, 65535. / 65, 0, flow.VerdictDropped, 77},
		{flow.TapDomain(3), flow.RulePoint(flow.RuleDeniedOpening, flow.MaxRule), flow.SourceTap, flow.SignalDropped, 1, 0, flow.VerdictDropped, flow.MaxRule},
		{flow.TapDomain(3), flow.RulePoint(flow.RuleLogged, 1), flow.SourceTap, flow.SignalLogged, 1, flow.SYN, 0, 1},
		{flow.TapDomain(3), flow.RulePoint(flow.RuleLogged, 0), flow.SourceIPFIX, flow.SignalNone, 1, 0, 0, 0},
		{9, flow.RulePoint(flow.RuleLogged, 1), flow.SourceIPFIX, flow.SignalNone, 1, 0, 0, 0},
		{flow.TapDomain(3), flow.TapPoint(flow.SignalAttempt, flow.FullProbability), flow.SourceTap, flow.SignalAttempt, 1, flow.SYN, 0, 0},
		{flow.TapDomain(3), flow.TapPoint(flow.SignalAccept, 13107), flow.SourceTap, flow.SignalAccept, 5, flow.SYN | flow.ACK, 0, 0},
		{flow.TapDomain(3), flow.TapPoint(flow.SignalRefuse, 65535), flow.SourceTap, flow.SignalRefuse, 1, flow.RST, 0, 0},
		{flow.TapDomain(3), flow.TapPoint(flow.SignalDropped, 655), flow.SourceTap, flow.SignalDropped, 65535. / 655, 0, flow.VerdictDropped, 0},
		{flow.TapDomain(3), 0, flow.SourceIPFIX, flow.SignalNone, 1, 0, 0, 0},
		{9, flow.TapPoint(flow.SignalAttempt, 65535), flow.SourceIPFIX, flow.SignalNone, 1, 0, 0, 0},
	} {
		d := netflow.NewDecoder(netflow.Config{})
		rs := decode(t, d, ipfix(tt.domain, 0, set(2, template(256, tuple)), set(256, record(tt.point))))
		if len(rs) != 1 {
			t.Fatalf("%d records", len(rs))
		}
		r := rs[0]
		if r.Source != tt.source || r.Signal != tt.signal || r.Rate != tt.rate || r.TCPFlags != tt.flags || r.Verdict != tt.verdict || r.Rule != tt.rule {
			t.Errorf("domain %#x point %#x: %+v", tt.domain, tt.point, r)
		}
		if tt.source == flow.SourceTap && (r.Packets != 1 || r.Bytes != 60) {
			t.Errorf("a tap record of %d packets, %d bytes", r.Packets, r.Bytes)
		}
		if r.Inner.Valid() {
			t.Error("a record without a packet has an inner one")
		}
	}
}

func TestV9(t *testing.T) {
	d := netflow.NewDecoder(netflow.Config{})
	options := append(words(500, 4, 8, 1, 4), words(34, 4, 35, 1)...) // scope System
	rs := decode(t, d, v9(7, 1,
		set(0, template(256, append(fiveTuple(), 22, 4, 21, 4)), words(0, 0)),
		set(1, options, words(0)),
		set(500, []byte{0, 0, 0, 0, 0, 0, 3, 232, 2, 0, 0, 0}),
		set(256, fiveTupleRecord(17, 5000, 53), []byte{0, 0, 0, 100, 0, 0, 1, 100}, []byte{0, 0})))
	if len(rs) != 1 {
		t.Fatalf("%d records, want 1", len(rs))
	}
	r := rs[0]
	if r.Rate != 1000 || r.Duration != 256e6 || r.Proto != flow.ProtoUDP || r.SrcPort != 5000 || r.Bytes != 1024 || r.Exporter.Domain != 7 {
		t.Errorf("record %+v", r)
	}
	decode(t, d, v9(7, 2, set(256)), v9(7, 5, set(256)))
	if got := d.Counts().Lost; got != 2 {
		t.Errorf("%d datagrams lost, want 2", got)
	}
}

func TestV5(t *testing.T) {
	header := append(words(5, 1, 0, 60000, 0, 0, 0, 0, 0, 100), 1, 2)
	header = append(header, words(1<<14|64)...)
	record := []byte{10, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 3, 0, 4}
	record = append(record, 0, 0, 0, 6, 0, 0, 2, 0, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0x10)
	record = append(record, 0x9c, 0x40, 0, 22, 0, flow.SYN, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	// The header is 24 octets, of which words made 20 + 4.
	if len(header) != 24 || len(record) != 48 {
		t.Fatalf("header %d, record %d octets", len(header), len(record))
	}
	d := netflow.NewDecoder(netflow.Config{})
	rs := decode(t, d, append(header, record...))
	want := flow.Record{
		Time: now, Duration: 32e6, // across a wrap of sysUpTime
		Exporter: flow.Exporter{Addr: home().Addr(), Domain: 258},
		Source:   flow.SourceIPFIX, Signal: flow.SignalAttempt, Verdict: flow.VerdictForwarded,
		InPort: 3, OutPort: 4, Rate: 64, Packets: 6, Bytes: 512, EtherType: flow.EtherIPv4,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		Proto: flow.ProtoTCP, SrcPort: 40000, DstPort: 22, TCPFlags: flow.SYN,
	}
	if len(rs) != 1 || rs[0] != want {
		t.Errorf("records %+v\n want %+v", rs, want)
	}
	_, err := d.Decode(nil, header, now, home())
	wantKind(t, err, netflow.KindLength)
}

// goflow2 v2.2.6 loops forever on these.
func TestEmptyTemplatesDoNotLoop(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		kind string
	}{
		{"IPFIX, no fields", ipfix(1, 0, set(2, words(256, 0)), set(256, make([]byte, 4))), netflow.KindTemplate},
		{"IPFIX, fields without octets", ipfix(1, 0, set(2, template(256, fields{8, 0, 1, 0})), set(256, make([]byte, 4))), netflow.KindEmptyTemplate},
		{"version 9, no fields", v9(1, 0, set(0, words(256, 0)), set(256, make([]byte, 4))), netflow.KindEmptyTemplate},
		{"version 9, empty options", v9(1, 0, set(1, words(256, 0, 0)), set(256, make([]byte, 4))), netflow.KindEmptyTemplate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			within(t, 10*time.Second, func() {
				rs, err := netflow.NewDecoder(netflow.Config{}).Decode(nil, tt.b, now, home())
				wantKind(t, err, tt.kind)
				if len(rs) != 0 {
					t.Errorf("%d records", len(rs))
				}
			})
		})
	}
}

func TestMalformed(t *testing.T) {
	ok := ipfix(1, 0, set(2, template(256, fiveTuple())), set(256, fiveTupleRecord(6, 1, 2)))
	for _, tt := range []struct {
		name    string
		b       []byte
		kind    string
		records int
	}{
		{"empty", nil, netflow.KindHeader, 0},
		{"short header", ok[:15], netflow.KindHeader, 0},
		{"version 7", append(words(7), ok[2:]...), netflow.KindVersion, 0},
		{"cut message", ok[:len(ok)-1], netflow.KindLength, 0},
		{"message shorter than its header", append(words(10, 15), ok[4:]...), netflow.KindLength, 0},
		{"set shorter than its header", ipfix(1, 0, words(2, 3), words(0, 0)), netflow.KindSet, 0},
		{"set beyond the message", ipfix(1, 0, words(2, 400)), netflow.KindSet, 0},
		{"half a set header", ipfix(1, 0, words(2)), netflow.KindSet, 0},
		{"template cut in a field", ipfix(1, 0, set(2, words(256, 2, 8, 4, 12))), netflow.KindTemplate, 0},
		{"enterprise number missing", ipfix(1, 0, set(2, words(256, 1, 0x8001, 4))), netflow.KindTemplate, 0},
		{"reserved template ID", ipfix(1, 0, set(2, template(255, fiveTuple()))), netflow.KindTemplate, 0},
		{"record beyond any datagram", ipfix(1, 0, set(2, template(256, fields{8, 65534, 12, 65534}))), netflow.KindTemplate, 0},
		{"too many fields", ipfix(1, 0, set(2, words(256, 65535))), netflow.KindTemplateLimit, 0},
		{"name beyond the set", ipfix(1, 0, set(2, template(256, fields{4, 1, 82, 0xffff})), set(256, []byte{6, 9, 'x'})), netflow.KindRecord, 0},
		{"long name beyond the set", ipfix(1, 0, set(2, template(256, fields{82, 0xffff})), set(256, []byte{255, 1})), netflow.KindRecord, 0},
		{"good sets beside a bad template", ipfix(1, 0,
			set(2, template(256, fiveTuple())), set(2, words(300, 9)), set(256, fiveTupleRecord(6, 1, 2))), netflow.KindTemplate, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs, err := netflow.NewDecoder(netflow.Config{}).Decode(nil, tt.b, now, home())
			wantKind(t, err, tt.kind)
			if len(rs) != tt.records {
				t.Errorf("%d records, want %d", len(rs), tt.records)
			}
		})
	}
}

func TestErrorOffset(t *testing.T) {
	b := ipfix(1, 0, set(2, template(256, fiveTuple())), set(2, words(300, 9)))
	_, err := netflow.NewDecoder(netflow.Config{}).Decode(nil, b, now, home())
	const want = "netflow: bad template at byte 60" // header, set, set header, template header
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestUnknownTemplateIsReported(t *testing.T) {
	var got []uint16
	d := netflow.NewDecoder(netflow.Config{Unknown: func(e flow.Exporter, set uint16) {
		if e.Addr != home().Addr() || e.Domain != 4 {
			t.Errorf("exporter %+v", e)
		}
		got = append(got, set)
	}})
	if rs := decode(t, d, ipfix(4, 0, set(256, make([]byte, 20)), set(4, make([]byte, 8)), set(300))); len(rs) != 0 {
		t.Errorf("%d records", len(rs))
	}
	if len(got) != 2 || got[0] != 256 || got[1] != 300 {
		t.Errorf("unknown sets %v, want 256 and 300", got)
	}
}

func TestLostRecords(t *testing.T) {
	data := func(domain, seq uint32, n int) []byte {
		return ipfix(domain, seq, set(256, make([]byte, n)))
	}
	one := func(domain uint32) []byte { return ipfix(domain, 0, set(2, template(256, fields{4, 1}))) }
	for _, tt := range []struct {
		name string
		ds   [][]byte
		want uint64
	}{
		{"no gap", [][]byte{data(1, 0, 3), data(1, 3, 2), data(1, 5, 1)}, 0},
		{"a gap of 4", [][]byte{data(1, 0, 3), data(1, 7, 2)}, 4},
		{"reordered", [][]byte{data(1, 0, 3), data(1, 5, 2), data(1, 3, 2), data(1, 7, 1)}, 2},
		{"restarted", [][]byte{data(1, 5000000, 3), data(1, 0, 2), data(1, 2, 2)}, 0},
		{"wrapped", [][]byte{data(1, 0xfffffffe, 2), data(1, 0, 2)}, 0},
		{"one sequence per domain", [][]byte{data(1, 0, 3), data(2, 700, 1), data(1, 3, 1), data(2, 701, 1)}, 0},
		{"one sequence for all domains", [][]byte{data(1, 0, 3), data(2, 3, 1), data(1, 4, 1), data(2, 5, 1), data(2, 7, 1)}, 1},
		{"not known behind an unknown set", [][]byte{data(1, 0, 3), ipfix(1, 3, set(300, make([]byte, 9))), data(1, 8, 1)}, 0},
	} {
		d := netflow.NewDecoder(netflow.Config{})
		decode(t, d, one(1), one(2))
		// The templates have started the sequences at 0; begin anew.
		d = netflow.NewDecoder(netflow.Config{Templates: templatesOf(t, one(1), one(2))})
		decode(t, d, tt.ds...)
		if got := d.Counts().Lost; got != tt.want {
			t.Errorf("%s: %d lost, want %d", tt.name, got, tt.want)
		}
	}
}
