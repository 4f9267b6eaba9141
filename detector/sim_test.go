package detector

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	ms  = int64(time.Millisecond)
	sec = int64(time.Second)
	// t0 is when simulated time begins, Unix nanoseconds.
	t0 = int64(1_700_000_000) * sec
)

// sim plays records to an engine in order of time, with a tick every 2 ms as
// the live driver does.
type sim struct {
	t        testing.TB
	e        *Engine
	emitted  []Finding
	script   []flow.Record
	tickedTo int64
}

func newSim(t testing.TB, change ...func(*Config)) *sim {
	t.Helper()
	s := &sim{t: t}
	cfg := DefaultConfig()
	cfg.Seed = 1
	cfg.Anomaly.Hosts = 1 << 10
	cfg.Limit = LimitConfig{Hosts: 1 << 14, Contacts: 1 << 14, Pending: 1 << 14,
		Suspects: 1 << 10, MACs: 1 << 8, Cells: 1 << 10, Sessions: 1 << 14, Edges: 1 << 13, Windows: 1 << 12, Findings: 64}
	cfg.Link.Stations, cfg.Link.Bindings, cfg.Link.Ports, cfg.Link.Servers = 1<<10, 1<<10, 1<<8, 1<<8
	cfg.Login.Clients, cfg.Lateral.Hosts, cfg.Policy.Hosts, cfg.Tunnel.Domains, cfg.Rhythm.Pairs = 1<<10, 1<<10, 1<<10, 1<<10, 1<<8
	cfg.Emit = func(f Finding) {
		s.emitted = append(s.emitted, f)
		if f.State == StateFiring && len(f.Evidence) > 0 && len(f.Limits) == 0 {
			t.Errorf("%s of %v does not say what would have kept it from firing", f.Kind, f.Host)
		}
	}
	for _, c := range change {
		c(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.e = e
	return s
}

// warm lets the warm-up pass without traffic.
func (s *sim) warm() *sim {
	s.e.Advance(t0 - 3600*sec)
	s.tickedTo = t0
	return s
}

func (s *sim) at(t int64, r flow.Record) {
	r.Time = t0 + t
	s.script = append(s.script, r)
}

// run plays the script, then lets time pass until the given moment.
func (s *sim) run(until int64) *sim {
	s.sorted()
	if s.tickedTo == 0 {
		s.tickedTo = t0
	}
	for i := range s.script {
		s.tick(s.script[i].Time)
		s.e.Observe(s.script[i : i+1])
	}
	s.script = s.script[:0]
	s.tick(t0 + until)
	return s
}

// sorted puts the script into the order of time.
func (s *sim) sorted() {
	slices.SortStableFunc(s.script, func(a, b flow.Record) int { return int(min(max(a.Time-b.Time, -1), 1)) })
}

func (s *sim) tick(to int64) {
	for s.tickedTo+2*ms <= to {
		s.tickedTo += 2 * ms
		s.e.Advance(s.tickedTo)
	}
}

// fired returns the findings that reached the firing state.
func (s *sim) fired() []Finding {
	var list []Finding
	for _, f := range s.emitted {
		if f.State == StateFiring {
			list = append(list, f)
		}
	}
	return list
}

func (s *sim) quiet() {
	s.t.Helper()
	for _, f := range s.fired() {
		s.t.Errorf("false alarm: %s host=%v spoofed=%v victims=%v at +%v: %v", f.Kind, f.Host, f.Spoofed,
			f.Victims, time.Duration(f.Time-t0), f.Evidence)
	}
}

// only returns the one finding that fired.
func (s *sim) only(kind Kind) Finding {
	s.t.Helper()
	list := s.fired()
	if len(list) != 1 || list[0].Kind != kind {
		s.t.Fatalf("fired %+v, want one %s", list, kind)
	}
	return list[0]
}

// host returns an address in 10.0.0.0/8, client one in 100.64.0.0/10.
func hostAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func clientAddr(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{100, 64 + byte(n>>16&63), byte(n >> 8), byte(n)})
}

func addressFrom(b [16]byte) netip.Addr { return netip.AddrFrom16(b) }

func mustAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// macOf is the station that an address is behind: clients are outside, behind
// one router.
func macOf(a netip.Addr) flow.MAC {
	b := a.As4()
	if b[0] == 100 {
		return flow.MAC{2, 0, 100}
	}
	return flow.MAC{2, 0, b[0], b[1], b[2], b[3]}
}

func tcp(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, s flow.Signal) flow.Record {
	return flow.Record{Source: flow.SourceTap, Signal: s, Rate: 1, Packets: 1, Proto: flow.ProtoTCP,
		EtherType: flow.EtherIPv4, Src: src, Dst: dst, SrcPort: sport, DstPort: dport, InPort: 1,
		SrcMAC: macOf(src), DstMAC: macOf(dst)}
}

func syn(src, dst netip.Addr, dport uint16) flow.Record {
	return tcp(src, 40000, dst, dport, flow.SignalAttempt)
}

// answer is the reply to a record.
func answer(r flow.Record, s flow.Signal) flow.Record {
	a := tcp(r.Dst, r.DstPort, r.Src, r.SrcPort, s)
	a.InPort, a.Proto, a.Source = 2, r.Proto, r.Source
	return a
}

func udp(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, rate float64) flow.Record {
	r := tcp(src, sport, dst, dport, flow.SignalUDP)
	r.Proto, r.Rate = flow.ProtoUDP, rate
	return r
}

// probe scripts an attempt and its outcome after d; SignalNone is silence.
func (s *sim) probe(t int64, src, dst netip.Addr, dport uint16, d int64, outcome flow.Signal) {
	r := syn(src, dst, dport)
	s.at(t, r)
	if outcome != flow.SignalNone {
		s.at(t+d, answer(r, outcome))
	}
}
