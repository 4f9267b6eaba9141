package packet_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// dnsNames are names as they occur: short, of a country, of an address, of a
// mail blocklist, and one that carries something off.
var dnsNames = []string{
	"www.lab.example.", "example.", ".", "news.bbc.co.uk.", "9.0.77.10.in-addr.arpa.", "WwW.eXaMpLe.CoM.",
	"_services._dns-sd._udp.local.", strings.Repeat("a", 63) + "." + strings.Repeat("b", 63) + ".example.org.",
	"0.mfrggzdfmztwq2lknnwg23tpobyxe43uov3ho6dzpiydcmrtgq2tmnzygkq4wxy.7fhq2vh5t3zkd5v7bqj2l.t.example.",
}

// dnsFrame makes a query for a name, or the answer that refuses it.
func dnsFrame(t testing.TB, name string, kind dnsmessage.Type, response bool) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 7, Response: response, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}},
	}
	if response {
		m.RCode = dnsmessage.RCodeNameError
	}
	message, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	client, server := uint16(40_000), uint16(53)
	if response {
		client, server = server, client
	}
	return datagram(t, client, server, message)
}

// datagram puts a payload into a frame.
func datagram(t testing.TB, from, to uint16, payload []byte) []byte {
	t.Helper()
	frame := unhex(t, ethernet4+"4500 0000 0000 0000 4011 0000 "+addrs4+"0000 0000 0000 0000")
	binary.BigEndian.PutUint16(frame[16:], uint16(28+len(payload)))
	binary.BigEndian.PutUint16(frame[34:], from)
	binary.BigEndian.PutUint16(frame[36:], to)
	binary.BigEndian.PutUint16(frame[38:], uint16(8+len(payload)))
	return append(frame, payload...)
}

func parseDNS(t testing.TB, frame []byte) flow.DNS {
	t.Helper()
	var r flow.Record
	if err := packet.Parse(frame, &r); err != nil {
		t.Fatal(err)
	}
	return r.DNS
}

func TestDNS(t *testing.T) {
	of := func(name string) flow.DNS { return parseDNS(t, dnsFrame(t, name, dnsmessage.TypeTXT, false)) }
	for name, c := range map[string]struct {
		sibling                 string // of the same zone
		length, carried, labels uint8
		longest                 uint8
	}{
		"www.lab.example.":        {"mail.LAB.example.", 15, 3, 3, 7},
		"news.bbc.co.uk.":         {"bbc.co.uk.", 14, 4, 4, 4},
		"data.ibm.de.":            {"x.ibm.de.", 11, 4, 3, 4},
		"lab.example.":            {"a.b.c.d.e.lab.example.", 11, 0, 2, 7},
		"9.0.77.10.in-addr.arpa.": {"10.0.77.10.in-addr.arpa.", 22, 9, 6, 7},
		"example.":                {"example.", 7, 0, 1, 7},
	} {
		d := of(name)
		if d.Length != c.length || d.Carried != c.carried || d.Labels != c.labels || d.Longest != c.longest {
			t.Errorf("%s: %+v", name, d)
		}
		if s := of(c.sibling); s.Zone != d.Zone || d.Zone == 0 || (s.Name == d.Name) != strings.EqualFold(name, c.sibling) {
			t.Errorf("%s and %s: %+v and %+v", name, c.sibling, d, s)
		}
		if d.Flags&flow.DNSReverse != 0 != strings.HasSuffix(name, ".arpa.") || !d.Valid() || d.Type != flow.DNSTypeTXT {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if a, b := of("www.example.com."), of("WwW.eXaMpLe.CoM."); a != b {
		t.Errorf("case matters: %+v and %+v", a, b)
	}
	if of("bbc.co.uk.").Zone == of("gov.co.uk.").Zone || of("www.lab.example.").Zone == of("www.lib.example.").Zone {
		t.Error("different registrations are one zone")
	}
	if d := parseDNS(t, dnsFrame(t, "www.lab.example.", dnsmessage.TypeA, true)); d.Code() != 3 || d.Flags&flow.DNSResponse == 0 ||
		d.Name != of("www.lab.example.").Name || d.Type != flow.DNSTypeA {
		t.Errorf("answer: %+v", d)
	}
}

// A tunnel's characters are as good as random, a person's are not. One name
// says little, some do.
func TestDNSEntropy(t *testing.T) {
	mean := func(names []string) float64 {
		sum := 0.0
		for _, name := range names {
			sum += float64(parseDNS(t, dnsFrame(t, name+".t.example.", dnsmessage.TypeTXT, false)).Entropy) / 32
		}
		return sum / float64(len(names))
	}
	rng := rand.New(rand.NewPCG(1, 2))
	var random []string
	for range 50 {
		var b strings.Builder
		for range 50 {
			b.WriteByte("abcdefghijklmnopqrstuvwxyz234567"[rng.IntN(32)])
		}
		random = append(random, b.String())
	}
	if bits := mean(random); bits < 4.6 || bits > 5.6 {
		t.Errorf("random names: %v bits per character, want about 5", bits)
	}
	words := []string{"production-database-replication-controller", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "000000000000000000000001",
		"the-printer-on-the-second-floor", "autodiscover-service-endpoint", "static-content-delivery-europe-west"}
	if bits := mean(words); bits > 4 {
		t.Errorf("words: %v bits per character", bits)
	}
	if bits := mean([]string{"www", "mail", "a"}); bits != 0 {
		t.Errorf("short names: %v bits per character, want none", bits)
	}
}

func TestDNSAgreesWithAnotherParser(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 2000 {
		var name strings.Builder
		for range 1 + rng.IntN(6) {
			for range 1 + rng.IntN(35) {
				name.WriteByte("abcdefghijkl-0123_ABC"[rng.IntN(21)])
			}
			name.WriteByte('.')
		}
		kind := dnsmessage.Type(1 + rng.IntN(255))
		frame := dnsFrame(t, name.String(), kind, rng.IntN(2) == 0)
		got := parseDNS(t, frame)
		var p dnsmessage.Parser
		h, err := p.Start(frame[42:])
		if err != nil {
			t.Fatal(err)
		}
		q, err := p.Question()
		if err != nil {
			t.Fatal(err)
		}
		labels := strings.Split(strings.TrimSuffix(q.Name.String(), "."), ".")
		longest := 0
		for _, l := range labels {
			longest = max(longest, len(l))
		}
		if int(got.Length) != len(q.Name.String())-1 || got.Type != uint16(q.Type) || int(got.Labels) != len(labels) ||
			int(got.Longest) != longest || got.Code() != uint8(h.RCode) || got.Flags&flow.DNSResponse != 0 != h.Response || got.Flags&flow.DNSCut != 0 {
			t.Fatalf("message %d for %s: %+v", i, name.String(), got)
		}
	}
}

// A sampled header of 128 bytes shows the beginning of a long name.
func TestDNSCut(t *testing.T) {
	frame := dnsFrame(t, strings.Repeat("a", 63)+"."+strings.Repeat("b", 63)+".t.example.", dnsmessage.TypeTXT, false)
	d := parseDNS(t, frame[:128])
	if d.Flags != flow.DNSQuery|flow.DNSCut || d.Zone != 0 || d.Length != 73 || d.Carried != 73 || d.Labels != 2 {
		t.Errorf("%+v", d)
	}
}

func TestDNSRefuses(t *testing.T) {
	good := dnsFrame(t, "www.lab.example.", dnsmessage.TypeA, false)
	message := good[42:]
	for name, frame := range map[string][]byte{
		"another port":     datagram(t, 40_000, 54, message),
		"no question":      datagram(t, 40_000, 53, append(unhex(t, "0007 0100 0000 0000 0000 0000"), message[12:]...)),
		"an update":        datagram(t, 40_000, 53, append(unhex(t, "0007 2800 0001 0000 0000 0000"), message[12:]...)),
		"only a header":    datagram(t, 40_000, 53, message[:12]),
		"ends in its name": datagram(t, 40_000, 53, message[:20]),
		"a pointer":        datagram(t, 40_000, 53, unhex(t, "0007 0100 0001 0000 0000 0000 c00c 0001 0001")),
		"too long":         datagram(t, 40_000, 53, append(message[:12:12], []byte(strings.Repeat("\x0fabcdefghijklmno", 17)+"\x00\x00\x01\x00\x01")...)),
		"something else":   datagram(t, 40_000, 53, []byte("\x16\xff\xff\xffnumbered probe 0123456789")),
	} {
		if d := parseDNS(t, frame); d != (flow.DNS{}) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	var r flow.Record
	if err := packet.Parse(good, &r); err != nil || !r.DNS.Valid() || r.Src != netip.MustParseAddr("10.0.0.1") {
		t.Errorf("the good one: %+v, %v", r, err)
	}
}

// BenchmarkParseDNS says what the summary costs: the same datagrams on DNS's
// port and on another one.
func BenchmarkParseDNS(b *testing.B) {
	for _, name := range []string{dnsNames[0], dnsNames[len(dnsNames)-1]} {
		frame := dnsFrame(b, name, dnsmessage.TypeTXT, false)
		for _, port := range []uint16{54, 53} {
			b.Run(fmt.Sprintf("octets=%d/port=%d", len(name), port), func(b *testing.B) {
				frame := datagram(b, 40_000, port, frame[42:])
				b.ReportAllocs()
				var r flow.Record
				for b.Loop() {
					r = flow.Record{}
					if err := packet.Parse(frame, &r); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
