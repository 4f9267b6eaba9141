package detector

import (
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
	"golang.org/x/net/dns/dnsmessage"
)

// BenchmarkConduct measures what the detectors of calls home, uploads and
// tunnels cost per event on an edge, against an event that concerns none of
// them, and reports what they keep per edge.
func BenchmarkConduct(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	client, server := hostAddr(15), hostAddr(11)
	data := tcp(client, 40_000, server, 443, flow.SignalNone)
	data.Source, data.Rate, data.Bytes, data.TCPFlags = flow.SourceSFlow, 10, 1514, flow.ACK
	tap := syn(client, server, 443)
	var query flow.Record
	if err := packet.Parse(frameOf(b, client, server, loot(rng, 60), dnsmessage.TypeTXT, false), &query); err != nil {
		b.Fatal(err)
	}
	query.Source, query.Rate, query.Packets, query.Bytes = flow.SourceSFlow, 10, 1, 150
	cases := []struct {
		name string
		r    flow.Record
		what edgePhase
		make func(*Engine) edgeSensor
	}{
		{"beacon/data", data, edgeTraffic, func(e *Engine) edgeSensor { return newBeaconWatch(e) }},
		{"beacon/open", tap, edgeOpened, func(e *Engine) edgeSensor { return newBeaconWatch(e) }},
		{"exfil/data", data, edgeTraffic, func(e *Engine) edgeSensor { return newExfilWatch(e) }},
		{"exfil/tap", tap, edgeOpened, func(e *Engine) edgeSensor { return newExfilWatch(e) }},
		{"tunnel/data", data, edgeTraffic, func(e *Engine) edgeSensor { return newTunnelWatch(e) }},
		{"tunnel/name", query, edgeTraffic, func(e *Engine) edgeSensor { return newTunnelWatch(e) }},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			s := newSim(b)
			w := c.make(s.e)
			k := contactKeyOf(addressOf(c.r.Src), addressOf(c.r.Dst), c.r.DstPort, c.r.Proto)
			x := &edge{}
			ev := edgeEvent{what: c.what, key: k, edge: x, r: &c.r, up: true, now: t0}
			b.ReportAllocs()
			for b.Loop() {
				ev.now += int64(rng.ExpFloat64() * 1e9)
				s.e.clock.now = ev.now
				c.r.DNS.Name++
				w.edge(&ev)
			}
			b.ReportMetric(float64(unsafe.Sizeof(x.rhythm)+unsafe.Sizeof(x.progress)+unsafe.Sizeof(x.upload)), "B/edge")
		})
	}
}

// Nothing is allocated for what is not found.
func TestConductAllocatesNothing(t *testing.T) {
	s := newSim(t)
	rng := rand.New(rand.NewPCG(1, 2))
	r := tcp(hostAddr(15), 40_000, hostAddr(11), 443, flow.SignalNone)
	r.Source, r.Rate, r.Bytes, r.TCPFlags = flow.SourceSFlow, 10, 1514, flow.ACK
	now, batch := t0, make([]flow.Record, 1)
	n := testing.AllocsPerRun(5000, func() {
		now += int64(rng.ExpFloat64() * 1e9)
		r.Time, r.Seq, r.Ack = now, r.Seq+1448, 1
		batch[0] = r
		s.e.Observe(batch)
		o := r
		o.Source, o.Rate, o.Signal, o.Bytes, o.SrcPort = flow.SourceTap, 1, flow.SignalAttempt, 0, uint16(now)
		batch[0] = o
		s.e.Observe(batch)
	})
	if n > 0 {
		t.Errorf("%v allocations per record", n)
	}
}
