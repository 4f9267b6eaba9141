package sflow_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

const now = int64(1795389497e9)

func home() netip.Addr { return netip.MustParseAddr("192.0.2.1") }

func u32(vs ...uint32) (b []byte) {
	for _, v := range vs {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func concat(bs ...[]byte) (out []byte) {
	for _, b := range bs {
		out = append(out, b...)
	}
	return out
}

// structure is a format, a length and a content of whole words.
func structure(format uint32, bs ...[]byte) []byte {
	body := concat(bs...)
	for len(body)%4 != 0 {
		body = append(body, 0)
	}
	return concat(u32(format, uint32(len(body))), body)
}

// datagram is an sFlow datagram of agent 10.0.0.9 with these samples.
func datagram(seq, uptime uint32, samples ...[]byte) []byte {
	return concat(u32(5, 1), []byte{10, 0, 0, 9}, u32(3, seq, uptime, uint32(len(samples))), concat(samples...))
}

// frame is an Ethernet frame with a UDP datagram from 10.0.0.1 to 10.0.0.2.
func frame() []byte {
	return concat([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, ip())
}

func ip() []byte {
	return []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x9c, 0x40, 0, 53, 0, 8, 0, 0}
}

func rawHeader(protocol, length uint32, b []byte) []byte {
	return structure(1, u32(protocol, length, 4, uint32(len(b))), b)
}

func flowSample(rate, in, out uint32, records ...[]byte) []byte {
	return structure(1, u32(1, 0x20003e8, rate, 9, 0, in, out, uint32(len(records))), concat(records...))
}

func expandedSample(rate uint32, in, out [2]uint32, records ...[]byte) []byte {
	return structure(3, u32(1, 2, 1000, rate, 9, 0, in[0], in[1], out[0], out[1], uint32(len(records))), concat(records...))
}

func decode(t *testing.T, d *sflow.Decoder, ds ...[]byte) (rs []flow.Record) {
	t.Helper()
	for i, b := range ds {
		var err error
		if rs, err = d.Decode(rs, b, now, home()); err != nil {
			t.Fatalf("datagram %d: %v", i, err)
		}
	}
	return rs
}

func TestFlowSample(t *testing.T) {
	vlan := structure(1001, u32(100, 0, 100, 0))
	raw := rawHeader(1, 1518, frame())
	want := flow.Record{
		Time:     now,
		Exporter: flow.Exporter{Addr: netip.MustParseAddr("10.0.0.9"), Domain: 3},
		Source:   flow.SourceSFlow, Signal: flow.SignalUDP, Verdict: flow.VerdictForwarded,
		InPort: 12, OutPort: 14, Rate: 64, Packets: 1, Bytes: 1514,
		SrcMAC: flow.MAC{2, 0, 0, 0, 0, 1}, DstMAC: flow.MAC{2, 0, 0, 0, 0, 2},
		EtherType: flow.EtherIPv4, VLAN: 100,
		Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"),
		Proto: flow.ProtoUDP, SrcPort: 40000, DstPort: 53, TTL: 64,
	}
	d := sflow.NewDecoder(sflow.Config{})
	rs := decode(t, d, datagram(1, 1,
		flowSample(64, 12, 14, vlan, raw),
		structure(77, u32(1, 2, 3)), // a sample of unknown format
		expandedSample(64, [2]uint32{0, 12}, [2]uint32{0, 14}, raw, structure(4711<<12|1, u32(1)), vlan)))
	if len(rs) != 2 {
		t.Fatalf("%d records, want 2", len(rs))
	}
	for i, r := range rs {
		if r != want {
			t.Errorf("record %d\n got  %+v\n want %+v", i, r, want)
		}
	}
}

func TestPorts(t *testing.T) {
	const none = 0x3fffffff
	for _, tt := range []struct {
		in, out         uint32
		wantIn, wantOut uint32
		verdict         flow.Verdict
	}{
		{12, 14, 12, 14, flow.VerdictForwarded},
		{12, 0, 12, 0, flow.VerdictUnknown},
		{0, 14, 0, 14, flow.VerdictForwarded},
		{none, 14, 0, 14, flow.VerdictForwarded},
		{12, none, 12, 0, flow.VerdictForwarded},
		{12, 0x40000100, 12, 0, flow.VerdictDropped},
		{12, 0x40000000, 12, 0, flow.VerdictDropped},
		{12, 0x80000003, 12, 0, flow.VerdictForwarded},
		{12, 0xc0000001, 12, 0, flow.VerdictUnknown},
	} {
		raw := rawHeader(1, 64, frame())
		split := func(v uint32) [2]uint32 { return [2]uint32{v >> 30, v & none} }
		rs := decode(t, sflow.NewDecoder(sflow.Config{}),
			datagram(1, 1, flowSample(0, tt.in, tt.out, raw), expandedSample(0, split(tt.in), split(tt.out), raw)))
		for _, r := range rs {
			if r.InPort != tt.wantIn || r.OutPort != tt.wantOut || r.Verdict != tt.verdict {
				t.Errorf("input %#x, output %#x: %d to %d, verdict %d", tt.in, tt.out, r.InPort, r.OutPort, r.Verdict)
			}
			if r.Rate != 1 {
				t.Errorf("rate 0 became %v", r.Rate)
			}
		}
		if len(rs) != 2 {
			t.Errorf("%d records, want 2", len(rs))
		}
	}
}

func TestHeaders(t *testing.T) {
	d := sflow.NewDecoder(sflow.Config{})
	rs := decode(t, d, datagram(1, 1,
		flowSample(1, 1, 2, rawHeader(11, 32, ip())),
		flowSample(1, 1, 2, rawHeader(99, 32, ip())),
		flowSample(1, 1, 2),
		flowSample(1, 1, 2, rawHeader(1, 1518, frame()[:30])),
		flowSample(1, 1, 2, rawHeader(1, 2, nil))))
	if len(rs) != 3 {
		t.Fatalf("%d records, want 3", len(rs))
	}
	if rs[0].DstPort != 53 || rs[0].Bytes != 28 {
		t.Errorf("IPv4 header: %+v", rs[0])
	}
	if rs[1].EtherType != flow.EtherIPv4 || rs[1].Bytes != 1514 {
		t.Errorf("cut header: %+v", rs[1])
	}
	if rs[2].Bytes != 0 {
		t.Errorf("a frame shorter than what was stripped has %d bytes", rs[2].Bytes)
	}
	if c := d.Counts(); c.Headerless != 2 || c.Unparsed != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestAgentAddress(t *testing.T) {
	sample := flowSample(1, 1, 2, rawHeader(1, 64, frame()))
	rest := concat(u32(3, 1, 1, 1), sample)
	v6 := netip.MustParseAddr("2001:db8::9")
	for _, tt := range []struct {
		header []byte
		want   netip.Addr
	}{
		{concat(u32(5, 2), v6.AsSlice()), v6},
		{concat(u32(5, 1), []byte{0, 0, 0, 0}), home()},
	} {
		rs := decode(t, sflow.NewDecoder(sflow.Config{}), concat(tt.header, rest))
		if len(rs) != 1 || rs[0].Exporter.Addr != tt.want {
			t.Errorf("records %+v, want exporter %v", rs, tt.want)
		}
	}
}

func counterRecords() []byte {
	generic := concat(u32(12, 6), u32(2, 0x540be400), u32(1, 3), u32(0, 1000), u32(1, 2, 3, 4, 5, 6), u32(0, 2000), u32(7, 8, 9, 10, 11, 0))
	return concat(structure(1, generic), structure(1004, u32(0, 0xabcd, 7)), structure(1005, u32(4), []byte("eth7")), structure(2203, u32(1)))
}

func TestCounterSamples(t *testing.T) {
	var got []sflow.Counters
	var names []string
	d := sflow.NewDecoder(sflow.Config{Counters: func(c *sflow.Counters) {
		names = append(names, string(c.Name))
		copied := *c
		copied.Name = nil
		got = append(got, copied)
	}})
	decode(t, d, datagram(1, 1,
		structure(2, u32(1, 12, 4), counterRecords()),
		structure(4, u32(1, 0, 12, 4), counterRecords())))
	want := sflow.Counters{
		Time: now, Exporter: flow.Exporter{Addr: netip.MustParseAddr("10.0.0.9"), Domain: 3}, SourceIndex: 12,
		HasInterface: true,
		Interface: sflow.InterfaceCounters{
			Index: 12, Type: 6, Speed: 10e9, Direction: 1, AdminUp: true, OperUp: true,
			InOctets: 1000, InUnicast: 1, InMulticast: 2, InBroadcast: 3, InDiscards: 4, InErrors: 5, InUnknown: 6,
			OutOctets: 2000, OutUnicast: 7, OutMulticast: 8, OutBroadcast: 9, OutDiscards: 10, OutErrors: 11,
		},
		HasOpenFlow: true, OpenFlowPort: 7, DatapathID: 0xabcd,
	}
	if len(got) != 2 {
		t.Fatalf("%d counter samples, want 2", len(got))
	}
	for i := range got {
		if got[i].DatapathID != want.DatapathID || got[i].Interface != want.Interface || got[i].OpenFlowPort != 7 ||
			got[i].SourceIndex != 12 || got[i].Exporter != want.Exporter || got[i].Time != now || names[i] != "eth7" {
			t.Errorf("sample %d\n got  %+v %q\n want %+v", i, got[i], names[i], want)
		}
	}
}

func TestLostDatagrams(t *testing.T) {
	for _, tt := range []struct {
		name string
		ds   [][]byte
		want uint64
	}{
		{"no gap", [][]byte{datagram(1, 10), datagram(2, 20)}, 0},
		{"gaps", [][]byte{datagram(1, 10), datagram(5, 20), datagram(7, 30)}, 4},
		{"reordered", [][]byte{datagram(1, 10), datagram(3, 30), datagram(2, 20), datagram(4, 40)}, 1},
		{"restarted", [][]byte{datagram(500, 90000), datagram(1, 10), datagram(2, 20)}, 0},
		{"wrapped", [][]byte{datagram(0xffffffff, 10), datagram(0, 20), datagram(2, 30)}, 1},
	} {
		d := sflow.NewDecoder(sflow.Config{})
		decode(t, d, tt.ds...)
		if got := d.Counts().Lost; got != tt.want {
			t.Errorf("%s: %d lost, want %d", tt.name, got, tt.want)
		}
	}
}

func wantKind(t *testing.T, err error, kind string) {
	t.Helper()
	var e *sflow.Error
	if !errors.As(err, &e) || e.Kind != kind {
		t.Errorf("error %v, want one of kind %q", err, kind)
	}
}

// This datagram ends a process that uses goflow2 v2.2.6, which allocates as
// many records as it says it has.
func TestRecordCountIsNotBelieved(t *testing.T) {
	b := datagram(1, 1, structure(1, u32(1, 2, 64, 9, 0, 12, 14, 0xffffffff), u32(1, 0)))
	if len(b) < 76 || len(b) > 84 {
		t.Fatalf("%d bytes", len(b))
	}
	d := sflow.NewDecoder(sflow.Config{})
	allocs := testing.AllocsPerRun(100, func() {
		_, err := d.Decode(nil, b, now, home())
		wantKind(t, err, sflow.KindRecordCount)
	})
	const perError = 4 // the error, and the record that was not to be
	if allocs > perError {
		t.Errorf("%v allocations", allocs)
	}
	began := time.Now()
	if _, err := d.Decode(nil, b, now, home()); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("took %v, error %v", time.Since(began), err)
	}
}

func TestMalformed(t *testing.T) {
	ok := datagram(1, 1, flowSample(1, 1, 2, rawHeader(1, 64, frame())))
	patch := func(at int, v uint32) []byte {
		b := append([]byte(nil), ok...)
		binary.BigEndian.PutUint32(b[at:], v)
		return b
	}
	for _, tt := range []struct {
		name string
		b    []byte
		kind string
	}{
		{"empty", nil, sflow.KindHeader},
		{"short", ok[:7], sflow.KindHeader},
		{"no address", ok[:10], sflow.KindHeader},
		{"half an IPv6 address", concat(u32(5, 2), make([]byte, 15)), sflow.KindHeader},
		{"no sample count", ok[:26], sflow.KindHeader},
		{"version 4", patch(0, 4), sflow.KindVersion},
		{"address of type 3", patch(4, 3), sflow.KindAddress},
		{"too many samples", patch(24, 0xffffffff), sflow.KindSampleCount},
		{"sample beyond the datagram", patch(32, 0xfffffff0), sflow.KindSample},
		{"sample shorter than its header", datagram(1, 1, structure(1, u32(1, 2, 3))), sflow.KindSample},
		{"expanded sample shorter than its header", datagram(1, 1, structure(3, make([]byte, 40))), sflow.KindSample},
		{"counter sample shorter than its header", datagram(1, 1, structure(2, u32(1, 2))), sflow.KindSample},
		{"too many records", patch(64, 99), sflow.KindRecordCount},
		{"too many counter records", datagram(1, 1, structure(2, u32(1, 2, 0xffffffff))), sflow.KindRecordCount},
		{"record beyond the sample", patch(72, 9999), sflow.KindRecord},
		{"sampled bytes beyond the record", patch(88, 9999), sflow.KindRecord},
		{"raw header shorter than its header", datagram(1, 1, flowSample(1, 1, 2, structure(1, u32(1, 64)))), sflow.KindRecord},
		{"short switch record", datagram(1, 1, flowSample(1, 1, 2, structure(1001, u32(1)))), sflow.KindRecord},
		{"short interface counters", datagram(1, 1, structure(2, u32(1, 2, 1), structure(1, u32(1)))), sflow.KindRecord},
		{"short OpenFlow port", datagram(1, 1, structure(2, u32(1, 2, 1), structure(1004, u32(1)))), sflow.KindRecord},
		{"no port name", datagram(1, 1, structure(2, u32(1, 2, 1), structure(1005))), sflow.KindRecord},
		{"port name beyond the record", datagram(1, 1, structure(2, u32(1, 2, 1), structure(1005, u32(5)))), sflow.KindRecord},
		{"port name too long", datagram(1, 1, structure(2, u32(1, 2, 1), structure(1005, u32(300), make([]byte, 300)))), sflow.KindRecord},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rs, err := sflow.NewDecoder(sflow.Config{}).Decode(nil, tt.b, now, home())
			wantKind(t, err, tt.kind)
			if len(rs) != 0 {
				t.Errorf("%d records", len(rs))
			}
		})
	}
}

// Samples in front of the broken one are good.
func TestRecordsBeforeAnError(t *testing.T) {
	good := flowSample(1, 1, 2, rawHeader(1, 64, frame()))
	b := datagram(1, 1, good, structure(1, u32(1)))
	rs, err := sflow.NewDecoder(sflow.Config{}).Decode(nil, b, now, home())
	wantKind(t, err, sflow.KindSample)
	if len(rs) != 1 || rs[0].DstPort != 53 {
		t.Errorf("records %+v", rs)
	}
	var e *sflow.Error
	if errors.As(err, &e) && e.Offset != 28+len(good)+8 {
		t.Errorf("offset %d, want %d", e.Offset, 28+len(good)+8)
	}
}

// Agents that come and go must not make us grow.
func TestManyAgents(t *testing.T) {
	d := sflow.NewDecoder(sflow.Config{})
	b := datagram(1, 1)
	for i := range uint32(20000) {
		binary.BigEndian.PutUint32(b[12:], i)
		if _, err := d.Decode(nil, b, now+int64(i)*int64(time.Millisecond), home()); err != nil {
			t.Fatal(err)
		}
	}
	// Those that came first are still followed.
	binary.BigEndian.PutUint32(b[12:], 5)
	binary.BigEndian.PutUint32(b[16:], 4)
	if _, err := d.Decode(nil, b, now, home()); err != nil {
		t.Fatal(err)
	}
	if got := d.Counts().Lost; got != 2 {
		t.Errorf("%d lost, want 2", got)
	}
}
