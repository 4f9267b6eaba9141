package detector

import (
	"encoding/base32"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

// frameOf makes a frame of a DNS query, or of the answer that repeats it.
func frameOf(t testing.TB, client, server netip.Addr, name string, kind dnsmessage.Type, response bool) []byte {
	t.Helper()
	n, err := dnsmessage.NewName(name)
	if err != nil {
		t.Fatal(err)
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, Response: response, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: kind, Class: dnsmessage.ClassINET}}}
	payload, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 42, 42+len(payload))
	b[12], b[14], b[22], b[23] = 0x08, 0x45, 64, flow.ProtoUDP
	total := 28 + len(payload)
	b[16], b[17], b[38], b[39] = byte(total>>8), byte(total), byte((total-20)>>8), byte(total-20)
	from, to := client.As4(), server.As4()
	ports := []byte{0xc0, 0x01, 0, 53}
	if response {
		from, to, ports = to, from, []byte{0, 53, 0xc0, 0x01}
	}
	copy(b[26:], from[:])
	copy(b[30:], to[:])
	copy(b[34:], ports)
	return append(b, payload...)
}

// lookUp scripts a query and its answer as a telemetry sees them: packets of a
// capture at rate 1, sampled headers of 128 bytes above, a log at rate 0.
func (s *sim) lookUp(at int64, client, server netip.Addr, name string, kind dnsmessage.Type, rate int, rng *rand.Rand) {
	s.t.Helper()
	for i, response := range []bool{false, true} {
		frame := frameOf(s.t, client, server, name, kind, response)
		r := flow.Record{Source: flow.SourcePacket, Rate: float64(max(rate, 1)), Packets: 1, Bytes: uint64(len(frame))}
		cut := len(frame)
		if rate > 1 {
			r.Source, cut = flow.SourceSFlow, min(128, cut)
			if rng.IntN(rate) > 0 {
				continue
			}
		}
		if err := packet.Parse(frame[:cut], &r); err != nil {
			s.t.Fatal(err)
		}
		if rate == 0 {
			r.Source, r.DNS, r.Signal, r.Bytes = flow.SourceLog, flow.DNS{}, flow.SignalAttempt, uint64(len(frame)-14)
			if response {
				r.Signal = flow.SignalAccept
			}
		}
		s.at(at+int64(i)*ms, r)
	}
}

// loot is a name that carries random octets, as tunnels make them.
func loot(rng *rand.Rand, octets int) string {
	b := make([]byte, octets)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	text := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b))
	var name strings.Builder
	for len(text) > 0 {
		n := min(63, len(text))
		name.WriteString(text[:n] + ".")
		text = text[n:]
	}
	return name.String() + "t.example."
}

func TestDNSTunnel(t *testing.T) {
	client, resolver := hostAddr(15), hostAddr(12)
	for name, c := range map[string]struct {
		octets, queries, rate int
		every                 int64
		kind                  dnsmessage.Type
	}{
		"50 a second, sampled":     {110, 150, 10, 20 * ms, dnsmessage.TypeTXT},
		"50 a second, 1:100":       {110, 1500, 100, 20 * ms, dnsmessage.TypeTXT},
		"50 a second, every one":   {110, 100, 1, 20 * ms, dnsmessage.TypeTXT},
		"50 a second, in a log":    {110, 300, 0, 20 * ms, dnsmessage.TypeTXT},
		"one in ten seconds":       {110, 120, 1, 10 * sec, dnsmessage.TypeA},
		"shorter names, addresses": {40, 300, 1, sec, dnsmessage.TypeA},
		"short samples of those":   {40, 3000, 10, 100 * ms, dnsmessage.TypeAAAA},
	} {
		t.Run(name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			for i := range c.queries {
				s.lookUp(int64(i)*c.every, client, resolver, loot(rng, c.octets), c.kind, c.rate, rng)
			}
			s.quick(int64(c.queries) * c.every)
			f, ok := s.kinds(client)[KindDNSTunnel]
			if !ok || len(s.kinds(client)) != 1 || f.Score < 0.6 || len(f.Victims) != 1 || f.Victims[0] != resolver || f.Sequential {
				t.Fatalf("fired %+v", s.fired())
			}
		})
	}
}

// The same names below many domains, each too few for a tunnel.
func TestDNSTunnelOverManyDomains(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 800 {
		name := strings.Replace(loot(rng, 90), "t.example.", fmt.Sprintf("d%d.example.", i%60), 1)
		s.lookUp(int64(i)*sec, hostAddr(15), hostAddr(12), name, dnsmessage.TypeTXT, 1, rng)
	}
	s.quick(800 * sec)
	if _, ok := s.kinds(hostAddr(15))[KindDNSTunnel]; !ok {
		t.Errorf("fired %+v", s.fired())
	}
}

func TestDNSTunnelEnds(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range int64(200) {
		s.lookUp(i*20*ms, hostAddr(15), hostAddr(12), loot(rng, 110), dnsmessage.TypeTXT, 1, rng)
	}
	s.quick(120 * sec)
	s.lookUp(121*sec, hostAddr(15), hostAddr(12), loot(rng, 110), dnsmessage.TypeTXT, 1, rng)
	s.quick(130 * sec)
	if n := len(s.fired()); n != 1 || len(s.e.Active()) != 0 {
		t.Errorf("%d findings, active %+v", n, s.e.Active())
	}
}

func TestBenignNames(t *testing.T) {
	t.Parallel()
	rng := random(t)
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "0123456789abcdef"[rng.IntN(16)]
		}
		return string(b)
	}
	for name, c := range map[string]struct {
		make  func(i int) string
		every int64
	}{
		"people":           {make: func(int) string { return fmt.Sprintf("host-%d.lab.example.", rng.IntN(500)) }, every: 400 * ms},
		"content networks": {make: func(int) string { return fmt.Sprintf("d%s.cloud%d.front.example.", hex(13), rng.IntN(9)) }, every: 300 * ms},
		"a virus scanner":  {make: func(int) string { return hex(32) + ".avqs.example." }, every: 200 * ms},
		"addresses in reverse": {make: func(i int) string {
			return strings.TrimSuffix(strings.Repeat("a.b.c.d.", 8), ".") + fmt.Sprintf(".%d.%d.ip6.arpa.", i%16, rng.IntN(16))
		}, every: 20 * ms},
		"long, but the same": {make: func(i int) string {
			return fmt.Sprintf("%s-%d.telemetry.region-west.monitoring.example.", strings.Repeat("x", 50), i%30)
		}, every: 100 * ms},
		"a blocklist": {make: func(int) string {
			return fmt.Sprintf("%d.%d.%d.%d.zen.list.example.", rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(256))
		}, every: 50 * ms},
	} {
		for _, rate := range []int{0, 1, 10} {
			t.Run(fmt.Sprintf("%s/%d", name, rate), func(t *testing.T) {
				s := newSim(t).warm()
				for i := range 3000 {
					s.lookUp(int64(i)*c.every, hostAddr(15), hostAddr(12), c.make(i), dnsmessage.TypeA, rate, rng)
				}
				s.quick(3000 * c.every)
				if f, ok := s.kinds(hostAddr(15))[KindDNSTunnel]; ok {
					t.Errorf("%.2f %+v", f.Score, f.Evidence)
				}
			})
		}
	}
}

// A resolver asks for what its clients do.
func TestBenignForwarder(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range int64(300) {
		name := loot(rng, 110)
		s.lookUp(i*20*ms, hostAddr(15), hostAddr(12), name, dnsmessage.TypeTXT, 1, rng)
		s.lookUp(i*20*ms+ms, hostAddr(12), netip.MustParseAddr("203.0.113.53"), name, dnsmessage.TypeTXT, 1, rng)
	}
	s.quick(10 * sec)
	if len(s.kinds(hostAddr(12))) != 0 || len(s.kinds(hostAddr(15))) != 1 {
		t.Errorf("fired %+v", s.fired())
	}
}

// Names that somebody invents to fill the table do not push a tunnel out.
func TestDNSTunnelAmongInventedDomains(t *testing.T) {
	s, rng := newSim(t, func(c *Config) { c.Tunnel.Domains = 64 }).warm(), random(t)
	for i := range 3000 {
		s.lookUp(int64(i)*10*ms, hostAddr(15), hostAddr(12), strings.Replace(loot(rng, 30), "t.example", fmt.Sprintf("d%d.example", i), 1), dnsmessage.TypeA, 1, rng)
		if i%20 == 0 {
			s.lookUp(int64(i)*10*ms+ms, hostAddr(16), hostAddr(12), loot(rng, 110), dnsmessage.TypeTXT, 1, rng)
		}
	}
	s.quick(40 * sec)
	if _, ok := s.kinds(hostAddr(16))[KindDNSTunnel]; !ok {
		t.Errorf("fired %+v", s.fired())
	}
}
