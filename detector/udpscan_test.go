package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// portUnreachable is what a closed UDP port answers, as the tap shows it.
func portUnreachable(src, dst netip.Addr) flow.Record {
	return flow.Record{Source: flow.SourceTap, Signal: flow.SignalUnreachable, Rate: 1, Packets: 1, InPort: 2,
		Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: src, Dst: dst}
}

// tapUDP scripts a datagram if the tap's 3 % hit it.
func (s *sim) tapUDP(rng *rand.Rand, t int64, r flow.Record) {
	r.Rate = 1 / 0.03
	if rng.Float64() < 0.03 {
		s.at(t, r)
	}
}

func TestUDPScanTapped(t *testing.T) {
	for _, c := range []struct {
		name       string
		from       int // first port
		refused    bool
		gap, limit int64
	}{
		{"refused", 1, true, ms, 500 * ms},
		{"silent", 1, false, ms, 2 * sec},
		{"high ports, refused", 40_000, true, ms, sec},
		{"high ports, silent", 40_000, false, ms, 5 * sec},
		{"slow", 1, true, 20 * ms, 10 * sec},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(8) {
				s, rng := newSim(t).warm(), rand.New(rand.NewPCG(seed, 3))
				errors, refilled := 6.0, int64(0) // Linux: six at once, then one a second
				for i := range 8000 {
					now := int64(i) * c.gap
					s.tapUDP(rng, now, udp(hostAddr(1), 61_000, hostAddr(2), uint16(c.from+i), 1))
					if errors = min(errors+float64(now-refilled)/1e9, 6); c.refused && errors >= 1 {
						errors--
						s.at(now+ms/5, portUnreachable(hostAddr(2), hostAddr(1)))
					}
					refilled = now
				}
				s.run(8000*c.gap + sec)
				f := s.only(KindPortScan)
				if d := f.Time - t0; d > c.limit || f.Host != hostAddr(1) || f.Victims[0] != hostAddr(2) || f.Proto != flow.ProtoUDP || !f.Sequential {
					t.Errorf("seed %d: after %d ms: %+v", seed, d/ms, f)
				}
			}
		})
	}
}

// The same rate, estimated from samples, says how far the tap may be thinned.
func TestUDPScanRate(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 3000 {
		s.tapUDP(rng, int64(i)*ms, udp(hostAddr(1), 61_000, hostAddr(2), uint16(1+i), 1))
	}
	s.run(3 * sec)
	if list := s.e.Active(); len(list) != 1 || list[0].Rate < 500 || list[0].Rate > 2000 {
		t.Errorf("active %+v, want a rate of about 1000", list)
	}
}

// A scan that comes back soon after its finding is over is another finding, and
// takes as much to find: what it is called by must not be that of the first.
func TestUDPScanComesBack(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for _, begin := range []int64{0, 20 * sec} {
		for i := range 2000 {
			s.tapUDP(rng, begin+int64(i)*ms, udp(hostAddr(1), 61_000, hostAddr(2), uint16(1+i), 1))
			if i < 6 {
				s.at(begin+int64(i)*ms, portUnreachable(hostAddr(2), hostAddr(1)))
			}
		}
	}
	s.run(40 * sec)
	list := s.fired()
	if len(list) != 2 || list[0].ID == list[1].ID || list[1].FirstSeen-t0 < 20*sec || list[1].Time-t0-20*sec < 5*ms {
		t.Errorf("fired %+v", list)
	}
}

// A scan of high ports in a log or a capture of all packets.
func TestUDPScanHighPorts(t *testing.T) {
	for _, source := range []flow.Source{flow.SourcePacket, flow.SourceLog} {
		s := newSim(t)
		for i := range 200 {
			r := udp(hostAddr(1), 61_000, hostAddr(2), uint16(40_000+i), 1)
			if r.Source = source; source == flow.SourceLog {
				r.Signal = flow.SignalAttempt
			}
			s.at(int64(i)*100*ms, r)
		}
		s.run(30 * sec)
		if f := s.only(KindPortScan); f.Host != hostAddr(1) {
			t.Errorf("finding %+v", f)
		}
	}
}

// udpLookAlikes send datagrams to many ports, for good reasons.
func TestBenignUDPLookAlikes(t *testing.T) {
	t.Parallel()
	a, b := hostAddr(1), hostAddr(2)
	for _, c := range []struct {
		name string
		play func(s *sim, rng *rand.Rand)
	}{
		{"server answers a client's ever new ports", func(s *sim, rng *rand.Rand) {
			for i := range 20_000 {
				q := udp(b, uint16(32_768+i%28_000), a, 9999, 1)
				s.tapUDP(rng, int64(i)*ms, q)
				s.tapUDP(rng, int64(i)*ms+ms/2, answer(q, flow.SignalUDP))
				if i%50 == 0 { // the client did not wait
					s.at(int64(i)*ms+ms, portUnreachable(b, a))
				}
			}
		}},
		{"one-way media streams, a few ended", func(s *sim, rng *rand.Rand) {
			for i := range 60_000 {
				s.tapUDP(rng, int64(i)*ms/2, udp(a, uint16(20_000+i%48), b, uint16(16_384+2*(i%48)), 1))
				if i%2000 == 0 {
					s.at(int64(i)*ms/2, portUnreachable(b, a))
				}
			}
		}},
		{"log to a dead collector", func(s *sim, rng *rand.Rand) {
			for i := range 30_000 {
				s.tapUDP(rng, int64(i)*ms, udp(a, 40_000, b, 514, 1))
				if i%1000 < 2 {
					s.at(int64(i)*ms, portUnreachable(b, a))
				}
			}
		}},
		{"traceroute", func(s *sim, rng *rand.Rand) {
			for i := range 2000 {
				r := udp(a, 50_000, b, uint16(33_434+i%90), 1)
				r.Source = flow.SourcePacket
				s.at(int64(i)*5*ms, r)
				if i%90 > 80 {
					s.at(int64(i)*5*ms+ms, portUnreachable(b, a))
				}
			}
		}},
		{"a device answers discovery", func(s *sim, rng *rand.Rand) {
			for i := range 300 {
				for j := range 4 {
					r := udp(a, 1900, b, uint16(50_000+i), 1)
					r.Source = flow.SourcePacket
					s.at(int64(i)*15*sec+int64(j)*ms, r)
				}
				s.at(int64(i)*15*sec+20*ms, portUnreachable(b, a))
			}
		}},
		{"peers", func(s *sim, rng *rand.Rand) {
			for i := range 60_000 {
				peer := clientAddr(rng.IntN(3000))
				q := udp(a, 6881, peer, uint16(1024+mix(uint64(peer.As4()[3]))%60_000), 1)
				s.tapUDP(rng, int64(i)*ms/2, q)
				switch rng.IntN(10) {
				case 0:
					s.at(int64(i)*ms/2+40*ms, portUnreachable(peer, a))
				case 1, 2, 3, 4:
					s.tapUDP(rng, int64(i)*ms/2+40*ms, answer(q, flow.SignalUDP))
				}
			}
		}},
		{"resolver", func(s *sim, rng *rand.Rand) {
			for i := range 60_000 {
				q := udp(a, uint16(1024+rng.IntN(60_000)), clientAddr(rng.IntN(40)), 53, 1)
				s.tapUDP(rng, int64(i)*ms/2, q)
				s.tapUDP(rng, int64(i)*ms/2+20*ms, answer(q, flow.SignalUDP))
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(4) {
				s := newSim(t).warm()
				c.play(s, rand.New(rand.NewPCG(seed, 5)))
				s.run(40 * sec)
				s.quiet()
			}
		})
	}
}

func BenchmarkSampledUDP(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			n := from + i
			batch[i] = udp(clientAddr(n%4096), uint16(n), hostAddr(n%64), 443, 33)
			if n%2 == 1 {
				batch[i] = answer(batch[i], flow.SignalUDP)
			}
		}
	})
}
