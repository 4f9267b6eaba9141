package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestSYNFloodSpoofed(t *testing.T) {
	for _, c := range []struct {
		name   string
		warm   bool
		rate   int64 // packets per second
		within int64
	}{
		{"100k", true, 100_000, 10 * ms},
		{"100k just started", false, 100_000, 20 * ms},
		{"2k", true, 2000, 400 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			if c.warm {
				s.warm()
			}
			for i := range 5000 {
				s.at(int64(i)*sec/c.rate, syn(clientAddr(i*7919), hostAddr(2), 80))
			}
			s.run(3 * sec)
			f := s.only(KindSYNFlood)
			if d := f.Time - t0; d > c.within {
				t.Errorf("decided after %d us", d/1000)
			}
			if !f.Spoofed || f.Host.IsValid() || f.InPort != 1 || f.DstPort != 80 || f.Victims[0] != hostAddr(2) {
				t.Errorf("finding %+v", f)
			}
			if f.Rate < 0.5*float64(c.rate) || f.Rate > 2*float64(c.rate) {
				t.Errorf("rate %v, want about %d", f.Rate, c.rate)
			}
		})
	}
}

// hping3 -S --flood: the attacker's own kernel resets what the victim accepts.
func TestSYNFloodOneSource(t *testing.T) {
	for _, known := range []bool{false, true} {
		s := newSim(t).warm()
		if known {
			s.connection(0, syn(hostAddr(1), hostAddr(3), 80), ms, 5*ms)
		}
		begin := 100 * ms
		for i := range 5000 {
			r := syn(hostAddr(1), hostAddr(2), 80)
			r.SrcPort = uint16(i)
			s.at(begin+int64(i)*ms/110, r)
			a := answer(r, flow.SignalAccept)
			s.at(begin+int64(i)*ms/110+ms/10, a)
			s.at(begin+int64(i)*ms/110+ms/5, answer(a, flow.SignalRefuse))
		}
		s.run(sec)
		f := s.only(KindSYNFlood)
		if f.Spoofed || f.Host != hostAddr(1) {
			t.Errorf("finding %+v", f)
		}
		if d := f.Time - t0 - begin; d > 20*ms {
			t.Errorf("known=%v: decided after %d us", known, d/1000)
		}
	}
}

// A real host's address, seen at its own port, is not believed at another.
func TestSYNFloodWithStolenAddress(t *testing.T) {
	s := newSim(t).warm()
	s.connection(0, syn(hostAddr(1), hostAddr(3), 80), ms, 5*ms)
	for i := range 5000 {
		r := syn(hostAddr(1), hostAddr(2), 80)
		r.InPort = 7
		s.at(100*ms+int64(i)*ms/100, r)
	}
	s.run(sec)
	if f := s.only(KindSYNFlood); !f.Spoofed || f.Host.IsValid() || f.InPort != 7 {
		t.Errorf("finding %+v", f)
	}
}

func TestUDPFlood(t *testing.T) {
	for _, c := range []struct {
		name   string
		source flow.Source
		rate   float64
		spoof  bool
		ports  int // source ports
		within int64
	}{
		{"tap 1%", flow.SourceTap, 100, false, 60_000, 40 * ms},
		{"tap 1%, spoofed", flow.SourceTap, 100, true, 60_000, 40 * ms},
		{"sFlow 1:10", flow.SourceSFlow, 10, false, 60_000, 40 * ms},
		{"every packet", flow.SourcePacket, 1, false, 60_000, 40 * ms},
		{"one conversation", flow.SourceTap, 100, false, 1, 90 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t), random(t)
			for i := range 20_000 {
				if rng.Float64()*c.rate >= 1 {
					continue
				}
				src := hostAddr(1)
				if c.spoof {
					src = clientAddr(rng.IntN(1 << 20))
				}
				r := udp(src, uint16(i%c.ports), hostAddr(2), 9, c.rate)
				r.Source = c.source
				s.at(int64(i)*ms/100, r)
			}
			s.run(sec)
			f := s.only(KindUDPFlood)
			t.Logf("decided after %d us", (f.Time-t0)/1000)
			if d := f.Time - t0; d > c.within {
				t.Errorf("decided after %d us", d/1000)
			}
			if f.Spoofed != c.spoof || c.spoof == f.Host.IsValid() || f.DstPort != 9 || f.Proto != flow.ProtoUDP {
				t.Errorf("finding %+v", f)
			}
			if unsampled := c.rate == 1; unsampled != (f.Confidence > 0.95) {
				t.Errorf("confidence %v with rate %v", f.Confidence, c.rate)
			}
		})
	}
}

// The victim answers every echo request, and is flooded nevertheless.
func TestICMPFloodAnswered(t *testing.T) {
	s := newSim(t)
	for i := range 10_000 {
		r := udp(hostAddr(1), 0, hostAddr(2), 0, 1)
		r.Proto, r.Signal, r.ICMPType = flow.ProtoICMP, flow.SignalICMP, 8
		s.at(int64(i)*ms/50, r)
		if i%10 == 0 { // sFlow sees some of the answers, the tap none
			sampled := r
			sampled.Source, sampled.Rate = flow.SourceSFlow, 10
			back := answer(sampled, flow.SignalICMP)
			back.ICMPType = 0
			s.at(int64(i)*ms/50, sampled)
			s.at(int64(i)*ms/50+ms/10, back)
		}
		a := answer(r, flow.SignalICMP)
		a.Proto, a.ICMPType = flow.ProtoICMP, 0
		s.at(int64(i)*ms/50+ms/10, a)
	}
	s.run(sec)
	if len(s.fired()) == 0 {
		t.Fatal("nothing fired")
	}
	for _, f := range s.fired() {
		if f.Host != hostAddr(1) {
			t.Errorf("its victim is blamed: %+v", f)
		}
	}
	f := s.fired()[0]
	if d := f.Time - t0; f.Kind != KindICMPFlood || f.Host != hostAddr(1) || d > 40*ms {
		t.Errorf("after %d us: %+v", d/1000, f)
	}
}

// An aggregated flow within the drift over its own length is normal however
// late its packets are told of; the same packets in a second are not.
func TestAggregatedFlows(t *testing.T) {
	for _, c := range []struct {
		lasted int64
		fires  bool
	}{{60 * sec, false}, {sec, true}} {
		s := newSim(t)
		for i := range int64(20) {
			r := udp(hostAddr(1), uint16(i), hostAddr(2), 9, 1)
			r.Source, r.Packets, r.Duration = flow.SourceIPFIX, 200_000, c.lasted
			s.at(i*sec, r)
		}
		s.run(30 * sec)
		if got := len(s.fired()) > 0; got != c.fires {
			t.Errorf("flows of %d s: fired=%v, want %v", c.lasted/sec, got, c.fires)
		}
	}
}

// One sampled packet that stands for a thousand is no flood.
func TestFloodNeedsSamples(t *testing.T) {
	s := newSim(t).warm()
	for i := range 8 {
		r := syn(clientAddr(i), hostAddr(2), 80)
		r.Source, r.Rate = flow.SourceSFlow, 1000
		s.at(int64(i)*100*ms, r)
	}
	s.run(5 * sec)
	s.quiet()
}

// Whoever raises the rate slowly teaches nothing beyond the cap: each ramp
// fires before it reaches twice of it.
func TestSlowRampFires(t *testing.T) {
	for _, percent := range []float64{1, 3, 10} {
		s := newSim(t)
		limit := s.e.cfg.UDP.Cap
		rate, now := 2000.0, int64(0)
		for len(s.fired()) == 0 {
			if rate > 2*limit {
				t.Fatalf("%v %%/min: at %.0f packets/s nothing fired", percent, rate)
			}
			r := udp(hostAddr(1), 9, hostAddr(2), 9, 500)
			r.Time = t0 + now
			s.e.Observe([]flow.Record{r})
			s.e.Advance(r.Time)
			dt := 500 / rate
			now += int64(dt * 1e9)
			rate *= 1 + percent/100*dt/60
		}
		t.Logf("%v %%/min: fired at %.0f packets/s after %d min", percent, rate, now/sec/60)
	}
}

// A finding of a flood ends some time after the flood does; what our own rules
// drop keeps it alive meanwhile, but starts none.
func TestFloodLife(t *testing.T) {
	s := newSim(t).warm()
	dropped := syn(clientAddr(1), hostAddr(2), 80)
	dropped.Signal, dropped.Rate = flow.SignalDropped, 1000
	for i := range 1000 {
		s.at(int64(i)*ms, dropped)
	}
	for i := range 2000 {
		s.at(2*sec+int64(i)*ms/100, syn(clientAddr(i*7919), hostAddr(2), 80))
	}
	for i := range int64(30) {
		s.at(3*sec+i*sec, dropped)
	}
	s.run(40 * sec)
	if f := s.only(KindSYNFlood); f.Time < t0+2*sec {
		t.Error("dropped packets alone raised a finding")
	}
	if list := s.e.Active(); len(list) != 1 || list[0].State != StateFiring {
		t.Fatalf("7 s after the last evidence: %+v", list)
	}
	s.run(60 * sec)
	last := s.emitted[len(s.emitted)-1]
	if len(s.emitted) != 2 || last.State != StateResolved || len(s.e.Active()) != 0 {
		t.Fatalf("emitted %+v", s.emitted)
	}
	if d := last.Time - t0; d < 42*sec || d > 45*sec {
		t.Errorf("resolved at %d s, want 10 s after the last drop at 32 s", d/sec)
	}
}

// A flood that comes in bursts is one finding, as long as the pauses are shorter
// than a finding outlives its evidence.
func TestBurstsAreOneFinding(t *testing.T) {
	s := newSim(t).warm()
	pause := int64(s.e.cfg.KeepFiring) - sec
	for burst := range int64(6) {
		for i := range int64(2000) {
			s.at(burst*pause+i*ms/10, syn(clientAddr(int(burst*2000+i)*7919), hostAddr(2), 80))
		}
	}
	s.run(5*pause + 2*sec)
	if f := s.only(KindSYNFlood); f.State != StateFiring {
		t.Errorf("%s", f.State)
	}
	if len(s.emitted) != 1 {
		t.Errorf("%d changes of state", len(s.emitted))
	}
}

func TestLinkPortsAreNoIngress(t *testing.T) {
	s := newSim(t, func(c *Config) { c.Edge = func(p uint32) bool { return p != 1 } }).warm()
	for i := range 5000 {
		s.at(int64(i)*ms/100, syn(clientAddr(i*7919), hostAddr(2), 80))
	}
	s.run(sec)
	s.quiet()
	for i := range 20 {
		s.probe(2*sec+int64(i)*ms, hostAddr(7), hostAddr(2), uint16(i), ms/5, flow.SignalRefuse)
	}
	s.run(3 * sec)
	if f := s.only(KindPortScan); f.InPort != 0 || !f.HostMAC.IsZero() {
		t.Errorf("a scan behind a link was located at %d, %v", f.InPort, f.HostMAC)
	}
}

// Of a scan that nothing contains the tap shows one attempt in a hundred. It is
// known to go on, and to end.
func TestThinnedScanPersists(t *testing.T) {
	s := newSim(t)
	for i := range 4000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	for i := range 600 {
		r := syn(hostAddr(1), hostAddr(2), uint16(5000+i))
		r.Rate = 100
		s.at(4*sec+int64(i)*100*ms, r)
	}
	s.run(60 * sec)
	if f := s.e.Active(); len(f) != 1 || f[0].Kind != KindPortScan {
		t.Fatalf("%d findings, want that of the scan", len(f))
	}
	s.run(140 * sec)
	if f := s.e.Active(); len(f) != 0 {
		t.Errorf("long after its end: %v", f[0].Kind)
	}
}

// The same from a host that is known, where samples show that it says nothing
// in the connections that it is given. One that does, and resets them in the
// end, is busy.
func TestSYNFloodOfAborts(t *testing.T) {
	const rate = 2000 // far below what a busy client may do
	for _, c := range []struct {
		busy     bool
		sampling float64
	}{{false, 10}, {true, 10}, {false, 1000}} { // the last cannot be told
		s, rng := newSim(t).warm(), random(t)
		s.connection(0, syn(hostAddr(1), hostAddr(3), 80), ms, 5*ms)
		s.conversation(rng, 0, 5*sec, hostAddr(4), 5000, hostAddr(2), 80, c.sampling, 100*ms/int64(c.sampling), 80) // others
		for i := range rate * 3 {
			at := 100*ms + int64(i)*sec/rate
			r := syn(hostAddr(1), hostAddr(2), 80)
			r.SrcPort = uint16(i)
			s.at(at, r)
			a := answer(r, flow.SignalAccept)
			s.at(at+ms/10, a)
			for n := range int64(3) {
				if c.busy {
					s.sampled(rng, at+ms/5+n*ms/10, segment(hostAddr(1), uint16(i), hostAddr(2), 80, c.sampling))
				}
			}
			s.at(at+ms, tcp(hostAddr(1), uint16(i), hostAddr(2), 80, flow.SignalRefuse))
		}
		s.run(5 * sec)
		if c.busy || c.sampling > 40 {
			s.quiet()
		} else if f := s.only(KindSYNFlood); f.Host != hostAddr(1) {
			t.Errorf("finding of %v", f.Host)
		}
	}
}

// A flood in pulses is one flood: after the second the next is waited for.
func TestPulses(t *testing.T) {
	s := newSim(t)
	for pulse := range int64(6) {
		for i := range int64(5000) {
			s.at(pulse*60*sec+i*ms/100, udp(hostAddr(1), uint16(i), hostAddr(2), 9, 1))
		}
	}
	s.run(400 * sec)
	if list := s.fired(); len(list) != 2 {
		t.Errorf("%d findings, want one of the first pulse and one of the rest", len(list))
	}
	s.run(1200 * sec)
	if len(s.e.Active()) != 0 {
		t.Error("it fires for ever")
	}
}
