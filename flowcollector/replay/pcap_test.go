package replay_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/netflow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
	"github.com/platelet-sdn/platelet/flowcollector/sflow"
)

// captured is a packet of a capture.
type captured struct {
	at    time.Time
	wire  int
	frame []byte
}

func readCapture(t testing.TB, name string) []captured {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapgo.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var packets []captured
	for {
		frame, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			return packets
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, captured{info.Timestamp, info.Length, frame})
	}
}

// plain returns packets of traffic, all IP.
func plain(t testing.TB) []captured {
	t.Helper()
	packets := readCapture(t, "../packet/testdata/ovs-samples.pcap")
	return slices.DeleteFunc(packets, func(p captured) bool {
		return binary.BigEndian.Uint16(p.frame[12:]) == flow.EtherARP
	})
}

type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

// writePcap writes a pcap by hand, in any byte order and resolution.
func writePcap(packets []captured, order byteOrder, nano bool, link uint32) []byte {
	magic, unit := uint32(0xa1b2c3d4), time.Microsecond
	if nano {
		magic, unit = 0xa1b23c4d, time.Nanosecond
	}
	put := func(b []byte, fields ...uint32) []byte {
		for _, v := range fields {
			b = order.AppendUint32(b, v)
		}
		return b
	}
	b := put(nil, magic)
	b = order.AppendUint16(order.AppendUint16(b, 2), 4)
	b = put(b, 0, 0, 65535, link)
	for _, p := range packets {
		b = put(b, uint32(p.at.Unix()), uint32(p.at.Nanosecond())/uint32(unit), uint32(len(p.frame)), uint32(p.wire))
		b = append(b, p.frame...)
	}
	return b
}

// expected are the records of plain traffic.
func expected(t testing.TB, packets []captured, resolution time.Duration) []flow.Record {
	t.Helper()
	var records []flow.Record
	for _, p := range packets {
		r := flow.Record{
			Time: p.at.Truncate(resolution).UnixNano(), Source: flow.SourcePacket,
			Rate: 1, Packets: 1, Bytes: uint64(p.wire),
		}
		if err := packet.Parse(p.frame, &r); err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	return records
}

func compare(t *testing.T, got, want []flow.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("record %d\n got %s\nwant %s", i, line(&got[i]), line(&want[i]))
		}
	}
}

func TestPcapByteOrdersAndResolutions(t *testing.T) {
	packets := plain(t)
	for _, order := range []byteOrder{binary.BigEndian, binary.LittleEndian} {
		for _, nano := range []bool{false, true} {
			resolution := time.Microsecond
			if nano {
				resolution = time.Nanosecond
			}
			data := writePcap(packets, order, nano, uint32(layers.LinkTypeEthernet))
			got, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
			if stats.Malformed != 0 {
				t.Errorf("%v nano=%v: %+v", order, nano, stats)
			}
			compare(t, got, expected(t, packets, resolution))
		}
	}
}

// TestLinkTypes wraps the same packets into all link headers that are read.
func TestLinkTypes(t *testing.T) {
	sll := []byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0}
	sll2 := []byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 6, 2, 0, 0, 0, 0, 9, 0, 0}
	mac := flow.MAC{2, 0, 0, 0, 0, 9}
	for name, c := range map[string]struct {
		link uint32
		mac  flow.MAC
		wrap func(frame []byte) []byte
	}{
		"raw":         {101, flow.MAC{}, func(f []byte) []byte { return f[14:] }},
		"raw of BSD":  {12, flow.MAC{}, func(f []byte) []byte { return f[14:] }},
		"sll":         {113, mac, func(f []byte) []byte { return slices.Concat(sll, f[12:]) }},
		"sll2":        {276, mac, func(f []byte) []byte { return slices.Concat(f[12:14], sll2[2:], f[14:]) }},
		"null":        {0, flow.MAC{}, func(f []byte) []byte { return slices.Concat([]byte{2, 0, 0, 0}, f[14:]) }},
		"loop":        {108, flow.MAC{}, func(f []byte) []byte { return slices.Concat([]byte{0, 0, 0, 2}, f[14:]) }},
		"with an FCS": {1 | 0x14000000, flow.MAC{}, func(f []byte) []byte { return f }},
	} {
		t.Run(name, func(t *testing.T) {
			packets := plain(t)
			want := expected(t, packets, time.Microsecond)
			for i := range packets {
				packets[i].frame = c.wrap(packets[i].frame)
				packets[i].wire = max(packets[i].wire, len(packets[i].frame))
				want[i].Bytes = uint64(packets[i].wire)
				if c.link&0xffff != 1 {
					want[i].SrcMAC, want[i].DstMAC = c.mac, flow.MAC{}
				}
			}
			data := writePcap(packets, binary.LittleEndian, false, c.link)
			got, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
			if stats.Malformed != 0 {
				t.Errorf("stats %+v", stats)
			}
			compare(t, got, want)
		})
	}
}

func TestPcapngWithSeveralInterfaces(t *testing.T) {
	packets := plain(t)
	want := expected(t, packets, time.Nanosecond)
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, layers.LinkTypeEthernet)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := w.AddInterface(pcapgo.NgInterface{Name: "tun0", LinkType: layers.LinkTypeRaw, SnapLength: 65535, TimestampResolution: 9})
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		info := gopacket.CaptureInfo{Timestamp: p.at, CaptureLength: len(p.frame), Length: p.wire}
		if i%2 == 1 {
			p.frame = p.frame[14:]
			info.CaptureLength, info.InterfaceIndex = len(p.frame), raw
			want[i].SrcMAC, want[i].DstMAC = flow.MAC{}, flow.MAC{}
		}
		if err := w.WritePacket(info, p.frame); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	got, stats := readAll(t, replay.Options{Stdin: &b}, replay.Stdin)
	if stats.Malformed != 0 {
		t.Errorf("stats %+v", stats)
	}
	compare(t, got, want)
}

// TestExportDatagrams compares with the decoders fed by hand.
func TestExportDatagrams(t *testing.T) {
	for _, name := range []string{"ovs-sflow-s1-p5", "ovs-sflow-drop", "ovs-ipfix-bridge-s1-t1", "ovs-ipfix-flow-sample", "ovs-ipfix-drop"} {
		t.Run(name, func(t *testing.T) {
			path := "../testdata/" + name + ".pcap"
			const payloadAt = 42
			s, n := sflow.NewDecoder(sflow.Config{}), netflow.NewDecoder(netflow.Config{})
			from := netip.MustParseAddr("127.0.0.1")
			var want []flow.Record
			for _, p := range readCapture(t, path) {
				var err error
				if strings.Contains(name, "sflow") {
					want, err = s.Decode(want, p.frame[payloadAt:], p.at.UnixNano(), from)
				} else {
					port := binary.BigEndian.Uint16(p.frame[34:])
					want, err = n.Decode(want, p.frame[payloadAt:], p.at.UnixNano(), netip.AddrPortFrom(from, port))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			got, stats := readAll(t, replay.Options{}, path)
			if stats.Malformed != 0 || stats.Untemplated != 0 || len(got) == 0 {
				t.Errorf("stats %+v", stats)
			}
			compare(t, got, want)
		})
	}
}

func TestDataSetsWithoutTemplateAreCounted(t *testing.T) {
	// The templates come first; without them only data sets are left.
	packets := readCapture(t, "../testdata/ovs-ipfix-flow-sample.pcap")
	data := writePcap(packets[100:], binary.LittleEndian, false, uint32(layers.LinkTypeEthernet))
	got, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
	if len(got) != 0 || stats.Untemplated == 0 || stats.Malformed != 0 {
		t.Errorf("%d records, stats %+v", len(got), stats)
	}
}

// datagram makes a frame with a UDP payload.
func datagram(t testing.TB, port uint16, payload []byte) captured {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}}
	udp := &layers.UDP{SrcPort: 40000, DstPort: layers.UDPPort(port)}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4},
		ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return captured{time.Unix(1700000000, 0), len(buf.Bytes()), buf.Bytes()}
}

func TestWhatIsAnExportDatagram(t *testing.T) {
	sample := readCapture(t, "../testdata/ovs-sflow-drop.pcap")[0].frame[42:]
	ipfix := readCapture(t, "../testdata/ovs-ipfix-drop.pcap")[0].frame[42:]
	v5 := make([]byte, 24+48)
	v5[1], v5[3] = 5, 1
	dns := append([]byte{0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "\x07example\x03com\x00\x00\x01\x00\x01"...)
	for name, c := range map[string]struct {
		port      uint16
		payload   []byte
		traffic   bool // a record of the packet itself
		malformed int64
	}{
		"sFlow on any port":               {9999, sample, false, 0},
		"IPFIX on any port":               {9999, ipfix, false, 0},
		"NetFlow version 5":               {9999, v5, false, 0},
		"cut sFlow on any port":           {9999, sample[:len(sample)-4], true, 0},
		"cut sFlow on the sFlow port":     {6343, sample[:len(sample)-4], false, 1},
		"cut IPFIX on any port":           {9999, ipfix[:len(ipfix)-4], true, 0},
		"cut IPFIX on the IPFIX port":     {4739, ipfix[:len(ipfix)-4], false, 1},
		"a DNS query numbered 9":          {53, dns, true, 0},
		"a DNS query on the NetFlow port": {2055, append([]byte{1}, dns...), true, 0},
		"nothing":                         {6343, nil, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			data := writePcap([]captured{datagram(t, c.port, c.payload)}, binary.LittleEndian, false, 1)
			records, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
			traffic := slices.ContainsFunc(records, func(r flow.Record) bool { return r.Source == flow.SourcePacket })
			if traffic != c.traffic || stats.Malformed != c.malformed {
				t.Errorf("traffic %v, stats %+v", traffic, stats)
			}
		})
	}
}

func TestBrokenPackets(t *testing.T) {
	good := plain(t)[0]
	short, cut, strange := good, good, good
	short.frame = good.frame[:10] // no addresses: malformed
	cut.frame = good.frame[:36]   // addresses, but no transport: a record
	strange.frame = append(bytes.Clone(good.frame[:14]), 0xff)
	data := writePcap([]captured{good, short, cut, strange, good}, binary.LittleEndian, false, 1)
	records, stats := readAll(t, replay.Options{Stdin: bytes.NewReader(data)}, replay.Stdin)
	if len(records) != 3 || stats.Malformed != 2 {
		t.Fatalf("%d records, stats %+v", len(records), stats)
	}
	if stats.Faults[0].Position != 2 || stats.Faults[1].Position != 4 {
		t.Errorf("faults %v", stats.Faults)
	}
	if records[1].Src != records[0].Src || records[1].SrcPort != 0 {
		t.Errorf("the cut packet is %s", line(&records[1]))
	}
}
