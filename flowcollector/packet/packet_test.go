package packet_test

import (
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// unhex decodes hexadecimal with spaces in it.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	ethernet4 = "020000000002 020000000001 0800 "
	ethernet6 = "020000000002 020000000001 86dd "
	// From 10.0.0.1 to 10.0.0.2 and fe80::1 to fe80::2; the length and the
	// protocol are left out.
	addrs4 = "0a000001 0a000002 "
	addrs6 = "fe800000000000000000000000000001 fe800000000000000000000000000002 "
	// tcpSYN is a header from port 4660 to 22.
	tcpSYN = "1234 0016 00000001 00000000 5002 ffff 0000 0000 "
)

func ipv4TCP(length string, fragment string) string {
	return ethernet4 + "4500 " + length + " 0000 " + fragment + " 4006 0000 " + addrs4
}

func TestParseStopsWhereItShould(t *testing.T) {
	v4 := netip.MustParseAddr("10.0.0.1")
	v6 := netip.MustParseAddr("fe80::1")
	for name, c := range map[string]struct {
		frame  string
		kind   packet.Kind // 0: no error
		offset int
		src    netip.Addr
		dport  uint16
		signal flow.Signal
	}{
		"empty":                     {"", packet.Truncated, 0, netip.Addr{}, 0, 0},
		"ethernet cut":              {"020000000002 020000000001 08", packet.Truncated, 0, netip.Addr{}, 0, 0},
		"unknown ethertype":         {"0180c200000e 020000000001 88cc 0207", 0, 0, netip.Addr{}, 0, 0},
		"tag cut":                   {"020000000002 020000000001 8100 00", packet.Truncated, 14, netip.Addr{}, 0, 0},
		"three tags":                {"020000000002 020000000001 88a8 0001 8100 0002 8100 0003 0800 4500", 0, 0, netip.Addr{}, 0, 0},
		"ipv4 cut":                  {ethernet4 + "4500 0028", packet.Truncated, 14, netip.Addr{}, 0, 0},
		"ipv4 of version 5":         {ethernet4 + "5500 0028 0000 0000 4006 0000 " + addrs4, packet.Malformed, 14, netip.Addr{}, 0, 0},
		"ipv4 header too short":     {ethernet4 + "4400 0028 0000 0000 4006 0000 " + addrs4, packet.Malformed, 14, netip.Addr{}, 0, 0},
		"ipv4 shorter than header":  {ethernet4 + "4500 0013 0000 0000 4006 0000 " + addrs4, packet.Malformed, 14, netip.Addr{}, 0, 0},
		"syn":                       {ipv4TCP("0028", "0000") + tcpSYN, 0, 0, v4, 22, flow.SignalAttempt},
		"syn of unknown length":     {ipv4TCP("0000", "0000") + tcpSYN, 0, 0, v4, 22, flow.SignalAttempt},
		"first fragment":            {ipv4TCP("0028", "2000") + tcpSYN, 0, 0, v4, 22, flow.SignalAttempt},
		"later fragment":            {ipv4TCP("0028", "0001") + tcpSYN, 0, 0, v4, 0, 0},
		"tcp cut before the ports":  {ipv4TCP("0028", "0000") + "1234", packet.Truncated, 34, v4, 0, 0},
		"tcp cut before the flags":  {ipv4TCP("0028", "0000") + "1234 0016 00000001", packet.Truncated, 34, v4, 22, 0},
		"tcp in a short packet":     {ipv4TCP("001c", "0000") + tcpSYN, packet.Malformed, 34, v4, 22, 0},
		"tcp with data offset 4":    {ipv4TCP("0028", "0000") + "1234 0016 00000001 00000000 4002", packet.Malformed, 34, v4, 22, 0},
		"ports are not the padding": {ethernet4 + "4500 0014 0000 0000 4011 0000 " + addrs4 + "1234 0035 0008 0000", packet.Malformed, 34, v4, 0, 0},
		"udp cut behind the ports":  {ethernet4 + "4500 001c 0000 0000 4011 0000 " + addrs4 + "1234 0035", 0, 0, v4, 53, flow.SignalUDP},
		"arp cut":                   {"ffffffffffff 020000000001 0806 0001 0800 0604 0001 0200", packet.Truncated, 14, netip.Addr{}, 0, 0},
		"arp of a strange size":     {"ffffffffffff 020000000001 0806 0001 0800 0804 0001 0200", packet.Malformed, 14, netip.Addr{}, 0, 0},
		"ipv6 cut":                  {ethernet6 + "60000000 0014", packet.Truncated, 14, netip.Addr{}, 0, 0},
		"ipv6 syn":                  {ethernet6 + "60000000 0014 06 40 " + addrs6 + tcpSYN, 0, 0, v6, 22, flow.SignalAttempt},
		"ipv6 extension cut":        {ethernet6 + "60000000 0028 3c 40 " + addrs6 + "0600", packet.Truncated, 54, v6, 0, 0},
		"ipv6 extension beyond end": {ethernet6 + "60000000 0008 3c 40 " + addrs6 + "06ff 0000 0000 0000", packet.Malformed, 54 + 2048, v6, 0, 0},
		"ipv6 authentication":       {ethernet6 + "60000000 0020 33 40 " + addrs6 + "0601 0000 00000000 00000000 " + tcpSYN, 0, 0, v6, 22, flow.SignalAttempt},
		"ipv6 first fragment":       {ethernet6 + "60000000 001c 2c 40 " + addrs6 + "0600 0001 00000000 " + tcpSYN, 0, 0, v6, 22, flow.SignalAttempt},
		"ipv6 later fragment":       {ethernet6 + "60000000 001c 2c 40 " + addrs6 + "0600 0008 00000000 " + tcpSYN, 0, 0, v6, 0, 0},
		"ipv6 endless extensions":   {ethernet6 + "60000000 0050 3c 40 " + addrs6 + strings.Repeat("3c00 0000 0000 0000 ", 10), packet.Malformed, 54 + 64, v6, 0, 0},
		"ipv6 no next header":       {ethernet6 + "60000000 0000 3b 40 " + addrs6, 0, 0, v6, 0, 0},
		"icmp cut":                  {ethernet4 + "4500 0020 0000 0000 4001 0000 " + addrs4 + "03", packet.Truncated, 34, v4, 0, 0},
		"unreachable without quote": {ethernet4 + "4500 0020 0000 0000 4001 0000 " + addrs4 + "0301 0000 00000000", 0, 0, v4, 0, flow.SignalUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			var r flow.Record
			err := packet.Parse(unhex(t, c.frame), &r)
			var e packet.Error
			if errors.As(err, &e) != (c.kind != 0) || e.Kind() != c.kind || e.Offset() != min(c.offset, 126) {
				t.Errorf("error %v, want kind %v at byte %d", err, c.kind, c.offset)
			}
			if r.Src != c.src || r.DstPort != c.dport || r.Signal != c.signal {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestNeighbourDiscoveryReadsLikeARP(t *testing.T) {
	const target = "fe800000000000000000000000000099 "
	source, destination := netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::2")
	asked := netip.MustParseAddr("fe80::99")
	for name, c := range map[string]struct {
		hopLimit, icmp string
		src, dst       netip.Addr
		signal         flow.Signal
	}{
		"solicitation":            {"ff", "8700 0000 00000000 " + target, source, asked, flow.SignalARPRequest},
		"advertisement":           {"ff", "8800 0000 60000000 " + target, asked, destination, flow.SignalARPReply},
		"routed, hence forged":    {"fe", "8800 0000 60000000 " + target, source, destination, flow.SignalICMP},
		"code other than 0":       {"ff", "8801 0000 60000000 " + target, source, destination, flow.SignalICMP},
		"router advertisement":    {"ff", "8600 0000 00000000 " + target, source, destination, flow.SignalICMP},
		"echo request":            {"ff", "8000 0000 00000000 " + target, source, destination, flow.SignalICMP},
		"destination unreachable": {"ff", "0104 0000 00000000 " + target, source, destination, flow.SignalUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			var r flow.Record
			if err := packet.Parse(unhex(t, ethernet6+"60000000 0018 3a "+c.hopLimit+addrs6+c.icmp), &r); err != nil {
				t.Fatal(err)
			}
			if r.Src != c.src || r.Dst != c.dst || r.Signal != c.signal {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestTCPSignal(t *testing.T) {
	for flags, want := range map[uint8]flow.Signal{
		flow.SYN:                       flow.SignalAttempt,
		flow.SYN | flow.ECE | flow.CWR: flow.SignalAttempt,
		flow.SYN | flow.FIN:            flow.SignalProbe,
		flow.SYN | flow.FIN | flow.ACK: flow.SignalProbe,
		flow.FIN:                       flow.SignalProbe,
		flow.FIN | flow.PSH | flow.URG: flow.SignalProbe,
		flow.PSH:                       flow.SignalProbe,
		flow.ECE:                       flow.SignalProbe,
		flow.SYN | flow.ACK:            flow.SignalAccept,
		flow.SYN | flow.RST:            flow.SignalRefuse,
		flow.RST | flow.ACK:            flow.SignalRefuse,
		flow.RST | flow.FIN:            flow.SignalRefuse,
		flow.FIN | flow.ACK:            flow.SignalFinish,
		flow.PSH | flow.ACK:            flow.SignalNone,
		flow.ACK:                       flow.SignalNone,
		0:                              flow.SignalProbe,
	} {
		if got := packet.TCPSignal(flags); got != want {
			t.Errorf("flags %#02x: signal %d, want %d", flags, got, want)
		}
	}
}

// A frame may be cut anywhere. What is parsed of the rest has to be what is
// parsed of the whole, never something else.
func TestParseOfCutFrames(t *testing.T) {
	frames := capturedFrames(t)
	for _, name := range dnsNames {
		frames = append(frames, dnsFrame(t, name, dnsmessage.TypeTXT, true))
	}
	for i, frame := range frames {
		var whole flow.Record
		if err := packet.Parse(frame, &whole); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		for n := range frame {
			var part flow.Record
			err := packet.Parse(frame[:n:n], &part)
			var e packet.Error
			if err != nil && (!errors.As(err, &e) || e.Kind() != packet.Truncated) {
				t.Fatalf("frame %d cut at %d: %v", i, n, err)
			}
			if err == nil && part.Signal != whole.Signal {
				t.Fatalf("frame %d cut at %d: signal %d without an error, want %d", i, n, part.Signal, whole.Signal)
			}
			if !within(part, whole) {
				t.Fatalf("frame %d cut at %d:\n got %+v\nfrom %+v", i, n, part, whole)
			}
		}
	}
}

// within reports whether each field of part is unset or that of whole.
func within(part, whole flow.Record) bool {
	var zero flow.Record
	ok := func(unset, same bool) bool { return unset || same }
	return ok(part.Src == zero.Src, part.Src == whole.Src) && ok(part.Dst == zero.Dst, part.Dst == whole.Dst) &&
		ok(part.Proto == 0, part.Proto == whole.Proto) && ok(part.Signal == 0, part.Signal == whole.Signal) &&
		ok(part.SrcPort == 0, part.SrcPort == whole.SrcPort) && ok(part.DstPort == 0, part.DstPort == whole.DstPort) &&
		ok(part.TCPFlags == 0, part.TCPFlags == whole.TCPFlags) && ok(part.ICMPType == 0, part.ICMPType == whole.ICMPType) &&
		ok(part.DNS == zero.DNS, part.DNS.Flags&^flow.DNSCut&^flow.DNSReverse == whole.DNS.Flags&^flow.DNSReverse && part.DNS.Length <= whole.DNS.Length) &&
		ok(!part.Inner.Valid(), part.Inner.Src == whole.Inner.Src && part.Inner.Dst == whole.Inner.Dst)
}

func TestParseIPAndParseEtherAgreeWithParse(t *testing.T) {
	for i, frame := range capturedFrames(t) {
		var want, ip, ether flow.Record
		if err := packet.Parse(frame, &want); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if err := packet.ParseEther(want.EtherType, frame[14:], &ether); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		want.SrcMAC, want.DstMAC = flow.MAC{}, flow.MAC{}
		if ether != want {
			t.Errorf("frame %d: ParseEther %+v, want %+v", i, ether, want)
		}
		if want.EtherType == flow.EtherARP {
			continue
		}
		if err := packet.ParseIP(frame[14:], &ip); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if ip != want {
			t.Errorf("frame %d: ParseIP %+v, want %+v", i, ip, want)
		}
	}
	for _, broken := range [][]byte{nil, {0x00}, {0x50}, {0x45}, {0x60, 0}} {
		if err := packet.ParseIP(broken, &flow.Record{}); err == nil {
			t.Errorf("ParseIP(%x): no error", broken)
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	frames := append(capturedFrames(t), dnsFrame(t, dnsNames[0], dnsmessage.TypeA, false))
	var r flow.Record
	var failed int
	allocs := testing.AllocsPerRun(10, func() {
		for _, frame := range frames {
			// Whole and cut, so that errors are made, too.
			for _, n := range []int{len(frame), 40, 20, 10} {
				r = flow.Record{}
				if err := packet.Parse(frame[:min(n, len(frame))], &r); err != nil {
					failed++
				}
			}
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if failed == 0 {
		t.Error("no frame was cut short: the errors were not measured")
	}
}

func TestUDP(t *testing.T) {
	const header = "4500 0020 0000 0000 4011 0000 " + addrs4
	for name, c := range map[string]struct {
		etherType uint16
		pkt       string
		payload   string
		ok        bool
	}{
		"whole":            {flow.EtherIPv4, header + "1234 18c7 000c 0000 01020304", "01020304", true},
		"padded":           {flow.EtherIPv4, header + "1234 18c7 000c 0000 01020304 0000", "01020304", true},
		"cut":              {flow.EtherIPv4, header + "1234 18c7 000c 0000 0102", "", false},
		"length too long":  {flow.EtherIPv4, header + "1234 18c7 000d 0000 01020304 05", "", false},
		"length too short": {flow.EtherIPv4, header + "1234 18c7 0007 0000 01020304", "", false},
		"first fragment":   {flow.EtherIPv4, strings.Replace(header, "0000 0000 4011", "0000 2000 4011", 1) + "1234 18c7 000c 0000 01020304", "", false},
		"tcp":              {flow.EtherIPv4, strings.Replace(header, "4011", "4006", 1) + "1234 18c7 000c 0000 01020304", "", false},
		"ipv6":             {flow.EtherIPv6, "60000000 000c 11 40 " + addrs6 + "1234 18c7 000c 0000 01020304", "01020304", true},
		"arp":              {flow.EtherARP, header, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			d, ok := packet.UDP(c.etherType, unhex(t, c.pkt))
			if ok != c.ok || hex.EncodeToString(d.Payload) != c.payload {
				t.Fatalf("payload %x, %v", d.Payload, ok)
			}
			if ok && (d.Src.Port() != 0x1234 || d.Dst.Port() != 6343) {
				t.Errorf("from %v to %v", d.Src, d.Dst)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, frame := range capturedFrames(f) {
		f.Add(frame)
	}
	for _, name := range dnsNames {
		f.Add(dnsFrame(f, name, dnsmessage.TypeTXT, true))
	}
	for payload := range said() {
		f.Add(segment(f, payload))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r flow.Record
		err := packet.Parse(frame, &r)
		var e packet.Error
		if err != nil && (!errors.As(err, &e) || e.Kind() != packet.Truncated && e.Kind() != packet.Malformed) {
			t.Fatalf("error %v is not of the package", err)
		}
		if r.Src.IsValid() && r.Src.Is4() != r.Dst.Is4() {
			t.Fatalf("from %v to %v", r.Src, r.Dst)
		}
		hasPorts := r.SrcPort != 0 || r.DstPort != 0
		if hasPorts && r.Proto != flow.ProtoTCP && r.Proto != flow.ProtoUDP && r.Proto != flow.ProtoSCTP {
			t.Fatalf("ports with protocol %d", r.Proto)
		}
		if r.TCPFlags != 0 && r.Proto != flow.ProtoTCP {
			t.Fatalf("control bits with protocol %d", r.Proto)
		}
		if r.Signal != flow.SignalNone && !(r.Src.IsValid() && r.Dst.IsValid()) {
			t.Fatalf("signal %d without addresses", r.Signal)
		}
		if r.Inner.Valid() && r.Signal != flow.SignalUnreachable {
			t.Fatal("a quoted packet outside of unreachable")
		}
		if d := r.DNS; d != (flow.DNS{}) && (!d.Valid() || r.Proto != flow.ProtoUDP || d.Carried > d.Length || d.Longest > 63) {
			t.Fatalf("DNS %+v in protocol %d", d, r.Proto)
		}
		if r.Login != flow.LoginUnknown && r.Proto != flow.ProtoTCP {
			t.Fatalf("a login in protocol %d", r.Proto)
		}
		if len(frame) > 14 {
			packet.UDP(r.EtherType, frame[14:])
		}
	})
}

func BenchmarkParse(b *testing.B) {
	frames := capturedFrames(b)
	b.ReportAllocs()
	var r flow.Record
	for i := 0; b.Loop(); i++ {
		r = flow.Record{}
		_ = packet.Parse(frames[i%len(frames)], &r)
	}
}
