package detector

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// network is what a switch tells of 2,000 hosts that use 200 servers: of hundred
// records 86 are samples of traffic that goes on, nine are of the tap about
// connections that begin, are accepted and end, three are of names, and two ask for
// addresses. Each host uses eight services.
func network(n int) []flow.Record {
	rng := rand.New(rand.NewPCG(21, 22))
	list := make([]flow.Record, 0, n+2)
	for len(list) < n {
		n, use := rng.IntN(2000), rng.IntN(8)
		client, server := hostAddr(1000+n), hostAddr((7*n+31*use)%200)
		r := syn(client, server, []uint16{443, 80, 445, 5432, 443, 80, 8080, 22}[use])
		r.SrcPort = uint16(30_000 + rng.IntN(64))
		switch k := rng.IntN(94); {
		case k < 86:
			list = append(list, sampledOf(rng, r))
		case k < 89:
			f := r
			f.Signal, f.TCPFlags = flow.SignalFinish, flow.FIN|flow.ACK
			list = append(list, r, answer(r, flow.SignalAccept), f)
		case k < 92:
			q := udp(client, uint16(40_000+rng.IntN(64)), hostAddr(200+rng.IntN(20)), 53, 10)
			q.Source, q.Bytes = flow.SourceSFlow, 80
			list = append(list, q)
		default:
			list = append(list, arpRequest(1000+rng.IntN(2000), rng.IntN(200), true))
		}
	}
	for i := range list {
		b := list[i].SrcMAC
		list[i].InPort = 1 + (uint32(b[4])<<8|uint32(b[5]))%256
	}
	return list[:n]
}

// networkPace is the time between records, in nanoseconds.
const networkPace = 50_000

// sampledOf is a sample of the conversation that a record begins.
func sampledOf(rng *rand.Rand, r flow.Record) flow.Record {
	r.Source, r.Signal, r.Rate, r.TCPFlags, r.Bytes = flow.SourceSFlow, flow.SignalNone, 10, flow.ACK, 200
	r.Seq, r.Ack, r.TTL = rng.Uint32(), 1, 64
	if rng.IntN(3) > 0 {
		a := answer(r, flow.SignalNone)
		a.Source, a.Rate, a.TCPFlags, a.Bytes, a.Seq, a.TTL = r.Source, r.Rate, r.TCPFlags, 1400, rng.Uint32(), 64
		return a
	}
	return r
}

// sensorName names a detector by its type.
func sensorName(s sensor) string {
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", s), "*detector."), "Watch")
}

// choose keeps the detectors behind edges, windows and time that want says.
func (e *Engine) choose(want func(name string) bool) {
	drop := func(x any) bool { return !want(sensorName(x.(sensor))) }
	e.sensors.edges = slices.DeleteFunc(e.sensors.edges, func(s edgeSensor) bool { return drop(s) })
	e.sensors.windows = slices.DeleteFunc(e.sensors.windows, func(s windowSensor) bool { return drop(s) })
	e.sensors.times = slices.DeleteFunc(e.sensors.times, func(s timeSensor) bool { return drop(s) })
}

// BenchmarkDetectors measures what a record costs: with all detectors, with none
// but those that the engine calls for every record (scans, floods, addresses),
// and with each one of the others alone beside these.
func BenchmarkDetectors(b *testing.B) {
	names := []string{}
	e, err := New(DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	for _, make := range constructors() {
		names = append(names, sensorName(make(e)))
	}
	records := network(1 << 15)
	b.Run("all", func(b *testing.B) { benchmarkNetwork(b, records, func(string) bool { return true }) })
	b.Run("none", func(b *testing.B) { benchmarkNetwork(b, records, func(string) bool { return false }) })
	for _, only := range names {
		b.Run("alone/"+only, func(b *testing.B) { benchmarkNetwork(b, records, func(s string) bool { return s == only }) })
	}
}

func benchmarkNetwork(b *testing.B, records []flow.Record, want func(string) bool) {
	e, err := New(DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	e.choose(want)
	const batch = 64
	now := t0
	play := func(from int) {
		now += batch * networkPace
		part := records[from : from+batch]
		for i := range part {
			part[i].Time = now
		}
		e.Observe(part)
		e.Advance(now)
	}
	for from := 0; from < len(records); from += batch { // the edges become known
		play(from)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += batch {
		play(n % len(records))
	}
}

// BenchmarkMemory reports what an entry of each table takes, and all of them at
// the default limits. Time means nothing here.
func BenchmarkMemory(b *testing.B) {
	e, err := New(DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	total := 0
	for _, t := range e.tables() {
		b.Run(t.name, func(b *testing.B) {
			for b.Loop() {
			}
			b.ReportMetric(float64(t.Bytes())/float64(t.Cap()), "B/entry")
			b.ReportMetric(float64(t.Cap()), "entries")
		})
		total += t.Bytes()
	}
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
		}
		b.ReportMetric(float64(total)/float64(e.hosts.Cap()), "B/host")
	})
}

type namedTable struct {
	name string
	sized
}

type sized interface {
	Bytes() int
	Cap() int
}

// tables lists the tables whose size the limits set.
func (e *Engine) tables() []namedTable {
	list := []namedTable{
		{"hosts", e.hosts}, {"contacts", e.scan.contacts}, {"suspects", e.scan.suspects}, {"datagram pairs", e.datagrams.pairs},
		{"worm hosts", e.worm.hosts}, {"stations asking", e.arp.stations}, {"stations", e.links.stations}, {"bindings", e.links.bindings},
		{"ports", e.links.ports}, {"flood cells", e.flood.cells}, {"sessions", e.flood.sessions.table}, {"reflections", e.reflect.table},
		{"edges", e.edges.table}, {"circles", e.familiar.circles}, {"windows", e.windows.table}, {"baselines", e.anomaly.hosts},
		{"violators", e.policy.violators}, {"rhythms", e.plant.beats}, {"devices", e.plant.devices},
	}
	for _, s := range e.sensors.edges {
		switch w := s.(type) {
		case *loginWatch:
			list = append(list, namedTable{"guessers", w.guessers})
		case *lateralWatch:
			list = append(list, namedTable{"movers", w.movers})
		case *pressWatch:
			list = append(list, namedTable{"pressed services", w.table})
		case *exfilWatch:
			list = append(list, namedTable{"uploaders", w.uploaders})
		case *tunnelWatch:
			list = append(list, namedTable{"domains", w.domains})
		case *knockWatch:
			list = append(list, namedTable{"knockers", w.hosts})
		case *pingWatch:
			list = append(list, namedTable{"pingers", w.hosts})
		}
	}
	return list
}

// The addresses of the benchmark are those of a network, not of one host.
func TestBenchmarkNetwork(t *testing.T) {
	seen := map[netip.Addr]bool{}
	kinds := map[flow.Signal]int{}
	for _, r := range network(1 << 14) {
		seen[r.Src] = true
		kinds[r.Signal]++
	}
	if len(seen) < 2000 || len(kinds) < 5 {
		t.Errorf("%d hosts, signals %v", len(seen), kinds)
	}
	s := newSim(t)
	for i, r := range network(1 << 17) {
		s.at(int64(i)*networkPace, r)
	}
	s.run(10 * sec).quiet()
}
