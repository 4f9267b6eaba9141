package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// sampledOnly scripts segments as sFlow at 1:N shows them, with no tap beside.
type sampledOnly struct {
	*sim
	rng  *rand.Rand
	rate float64
}

func (s *sampledOnly) segment(t int64, src netip.Addr, sport uint16, dst netip.Addr, dport uint16, flags uint8) {
	if s.rng.Float64()*s.rate >= 1 {
		return
	}
	r := syn(src, dst, dport)
	r.Source, r.Rate, r.SrcPort, r.TCPFlags, r.Signal = flow.SourceSFlow, s.rate, sport, flags, flow.SignalNone
	switch flags {
	case flow.SYN:
		r.Signal = flow.SignalAttempt
	case flow.SYN | flow.ACK:
		r.Signal = flow.SignalAccept
	}
	s.at(t, r)
}

// visit is a conversation of as many data segments each way.
func (s *sampledOnly) visit(t int64, client, server netip.Addr, port uint16, data int) {
	cport := uint16(40_000 + s.rng.IntN(20_000))
	up := func(flags uint8) { s.segment(t, client, cport, server, port, flags); t += ms }
	down := func(flags uint8) { s.segment(t, server, port, client, cport, flags); t += ms }
	up(flow.SYN)
	down(flow.SYN | flow.ACK)
	up(flow.ACK)
	for range data {
		up(flow.ACK | flow.PSH)
		down(flow.ACK | flow.PSH)
	}
	up(flow.FIN | flow.ACK)
	down(flow.FIN | flow.ACK)
	up(flow.ACK)
}

func TestScanInSamplesAlone(t *testing.T) {
	for name, c := range map[string]struct {
		probes int
		rate   float64
		kind   Kind
		probe  func(i int) (netip.Addr, uint16)
		beside bool // the scanner also downloads
	}{
		"ports of one host, 1:10":           {1000, 10, KindPortScan, func(i int) (netip.Addr, uint16) { return hostAddr(9), uint16(1 + i) }, false},
		"ports of one host, 1:100":          {8000, 100, KindPortScan, func(i int) (netip.Addr, uint16) { return hostAddr(9), uint16(1 + i) }, false},
		"hosts of one service, 1:10":        {1000, 10, KindHostSweep, func(i int) (netip.Addr, uint16) { return hostAddr(1000 + i), 445 }, false},
		"beside a download of the attacker": {1000, 10, KindHostSweep, func(i int) (netip.Addr, uint16) { return hostAddr(1000 + i), 23 }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &sampledOnly{newSim(t).warm(), random(t), c.rate}
			for i := range c.probes {
				dst, port := c.probe(i)
				s.segment(int64(i)*5*ms, hostAddr(1), 50_000, dst, port, flow.SYN)
				if i%2 == 0 { // half is refused
					s.segment(int64(i)*5*ms+ms, dst, port, hostAddr(1), 50_000, flow.RST|flow.ACK)
				}
				if c.beside {
					s.visit(int64(i)*5*ms, hostAddr(1), hostAddr(7), 443, 10)
				}
			}
			s.run(int64(c.probes)*5*ms + sec)
			f := s.only(c.kind)
			if f.Host != hostAddr(1) || f.Sequential || f.MayContain() || f.Severity != SeverityMedium || f.Score >= 0.95 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// A slow scan is found as well: what decides is the number of samples.
func TestSlowScanInSamplesAlone(t *testing.T) {
	s := &sampledOnly{newSim(t).warm(), random(t), 10}
	for i := range 400 {
		s.segment(int64(i)*5*sec, hostAddr(1), 50_000, hostAddr(9), uint16(1+i), flow.SYN)
	}
	s.run(2000 * sec)
	s.only(KindPortScan)
}

func TestHonestInSamplesAlone(t *testing.T) {
	for name, play := range map[string]func(s *sampledOnly){
		"a crawler of a thousand sites": func(s *sampledOnly) {
			for i := range 3000 {
				s.visit(int64(i)*20*ms, hostAddr(1), hostAddr(1000+i), 443, 3)
			}
		},
		"a monitor that only connects": func(s *sampledOnly) {
			for i := range 20_000 {
				s.visit(int64(i)*20*ms, hostAddr(1), hostAddr(1000+i%500), uint16(8000+i%3), 0)
			}
		},
		"a client of a server that is down": func(s *sampledOnly) {
			for i := range 5000 {
				s.segment(int64(i)*100*ms, hostAddr(1), uint16(40_000+i%20_000), hostAddr(2), 443, flow.SYN)
			}
		},
		"a peer-to-peer client with dead peers": func(s *sampledOnly) {
			for i := range 2000 {
				peer, port := hostAddr(2000+i), uint16(1024+s.rng.IntN(60_000))
				if i%3 > 0 {
					s.segment(int64(i)*50*ms, hostAddr(1), 50_000, peer, port, flow.SYN)
				} else {
					s.visit(int64(i)*50*ms, hostAddr(1), peer, port, 20)
				}
			}
		},
		"a crawler whose openings the tap tells first": func(s *sampledOnly) {
			for i := range 3000 {
				s.probe(int64(i)*20*ms, hostAddr(1), hostAddr(1000+i), 443, ms, flow.SignalAccept)
				s.segment(int64(i)*20*ms, hostAddr(1), 50_000, hostAddr(1000+i), 443, flow.SYN)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, rate := range []float64{2, 10, 100} {
				s := &sampledOnly{newSim(t).warm(), random(t), rate}
				play(s)
				last := int64(0)
				for i := range s.script {
					last = max(last, s.script[i].Time-t0)
				}
				s.run(last + sec)
				for _, f := range s.fired() {
					if f.Kind == KindPortScan || f.Kind == KindHostSweep {
						t.Errorf("1:%v: false alarm: %s %v", rate, f.Kind, f.Evidence)
					}
				}
			}
		})
	}
}

func BenchmarkSampledSYN(b *testing.B) {
	for name, of := range map[string]uint32{"opening": 1, "early": 2, "later": 100} {
		b.Run(name, func(b *testing.B) {
			w := newSynWatch(newSim(b).e).(*synWatch)
			r := syn(hostAddr(1), hostAddr(2), 443)
			r.Source, r.Rate, r.TCPFlags = flow.SourceSFlow, 10, flow.ACK
			if of == 1 {
				r.TCPFlags = flow.SYN
			}
			x := &edge{up: volume{samples: of}}
			ev := edgeEvent{what: edgeTraffic, key: contactKeyOf(addressOf(r.Src), addressOf(r.Dst), 443, flow.ProtoTCP), edge: x, r: &r, up: true}
			b.ReportAllocs()
			for b.Loop() {
				w.edge(&ev)
			}
			b.ReportMetric(float64(unsafe.Sizeof(synKey{})+unsafe.Sizeof(synWalk{})), "B/walk")
		})
	}
}
