package detector

import (
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func TestPortScanRefused(t *testing.T) {
	s := newSim(t)
	for i := range 1000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(2 * sec)
	f := s.only(KindPortScan)
	if d := f.Time - t0; d > 4*ms {
		t.Errorf("decided after %d us, want at the fourth refusal", d/1000)
	}
	if f.Host != hostAddr(1) || f.InPort != 1 || f.HostMAC != macOf(hostAddr(1)) || f.Victims[0] != hostAddr(2) ||
		!f.Sequential || f.Technique != "T1046" || f.Score < 0.99 || f.FirstSeen != t0+ms/5 {
		t.Errorf("finding %+v", f)
	}
	sum := 0.0
	for _, e := range f.Evidence {
		sum += e.Contribution
	}
	if sum < 0.999 || sum > 1.001 {
		t.Errorf("contributions add up to %v: %v", sum, f.Evidence)
	}
}

func TestPortScanSilent(t *testing.T) {
	s := newSim(t)
	for i := range 1000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), 0, flow.SignalNone)
	}
	s.run(2 * sec)
	f := s.only(KindPortScan)
	if d := f.Time - t0; d > 60*ms {
		t.Errorf("decided after %d ms, want the cap on unanswered contacts to do it", d/ms)
	}
}

func TestScanKinds(t *testing.T) {
	for _, c := range []struct {
		name   string
		target func(i int) (netip.Addr, uint16)
		kind   Kind
		port   uint16
	}{
		{"one host", func(i int) (netip.Addr, uint16) { return hostAddr(2), uint16(i + 1) }, KindPortScan, 0},
		{"two hosts", func(i int) (netip.Addr, uint16) { return hostAddr(2 + i%2), uint16(i + 1) }, KindPortScan, 0},
		{"one port", func(i int) (netip.Addr, uint16) { return hostAddr(2 + i), 445 }, KindHostSweep, 445},
		{"two ports", func(i int) (netip.Addr, uint16) { return hostAddr(2 + i/2), 80 + uint16(i%2) }, KindHostSweep, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t)
			for i := range 60 {
				dst, port := c.target(i)
				s.probe(int64(i)*ms, hostAddr(1), dst, port, ms/5, flow.SignalRefuse)
			}
			s.run(2 * sec)
			if f := s.only(c.kind); f.DstPort != c.port {
				t.Errorf("port %d, want %d", f.DstPort, c.port)
			}
		})
	}
}

// A scan of a few hosts, port by port, begins as a sweep; what it becomes is
// said as well.
func TestSweepBecomesPortScan(t *testing.T) {
	s := newSim(t)
	for i := range 60 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2+i%3), uint16(i/3+1), ms/5, flow.SignalRefuse)
	}
	s.run(2 * sec)
	list := s.fired()
	if len(list) != 2 || list[0].Kind != KindHostSweep || list[1].Kind != KindPortScan {
		t.Errorf("fired %+v", list)
	}
}

// A scan in random order over a /24 looks scattered at first.
func TestScatteredScanIsFound(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 1000 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(256+rng.IntN(200)), uint16(rng.IntN(60000)), ms/5, flow.SignalRefuse)
	}
	s.run(5 * sec)
	if len(s.fired()) == 0 {
		t.Error("not found")
	}
}

// A host that was benign for long and is taken over must not be protected by
// its past for longer than its credit lasts.
func TestTakenOverHost(t *testing.T) {
	s := newSim(t)
	for i := range 500 {
		s.probe(int64(i)*100*ms, hostAddr(1), clientAddr(i), 443, 20*ms, flow.SignalAccept)
	}
	begin := 50*sec + 600*sec
	for i := range 100 {
		s.probe(begin+int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(begin + sec)
	if d := s.only(KindPortScan).Time - t0 - begin; d > 10*ms {
		t.Errorf("found after %d ms", d/ms)
	}
}

func TestUDPScan(t *testing.T) {
	s := newSim(t)
	for i := range 40 {
		r := udp(hostAddr(1), 50_000, hostAddr(2), uint16(i+1), 1)
		r.Source = flow.SourcePacket
		s.at(int64(i)*100*ms, r)
		if i%5 == 0 { // the kernel limits how often it complains
			s.at(int64(i)*100*ms+ms, flow.Record{Source: flow.SourcePacket, Signal: flow.SignalUnreachable, Rate: 1,
				Packets: 1, Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: hostAddr(2), Dst: hostAddr(1),
				Inner: flow.Tuple{Src: hostAddr(1), Dst: hostAddr(2), SrcPort: 50_000, DstPort: uint16(i + 1), Proto: flow.ProtoUDP}})
		}
	}
	s.run(10 * sec)
	if f := s.only(KindPortScan); f.Proto != flow.ProtoUDP {
		t.Errorf("finding %+v", f)
	}
	if s.e.Stats().Unreachable == 0 {
		t.Error("no ICMP error was matched")
	}
}

func TestPingSweep(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		r := udp(hostAddr(1), 0, hostAddr(100+i), 0, 1)
		r.Source, r.Proto, r.Signal, r.ICMPType = flow.SourcePacket, flow.ProtoICMP, flow.SignalICMP, 8
		s.at(int64(i)*10*ms, r)
	}
	s.run(10 * sec)
	if f := s.only(KindHostSweep); f.Technique != "T1018" {
		t.Errorf("finding %+v", f)
	}
}

// The tap's ICMP errors do not say which packet they answer.
func TestUnreachableWithoutQuote(t *testing.T) {
	s := newSim(t)
	for i := range 10 {
		now := int64(i) * 20 * ms
		s.at(now, syn(hostAddr(1), hostAddr(2), uint16(i+1)))
		s.at(now+ms, flow.Record{Source: flow.SourceTap, Signal: flow.SignalUnreachable, Rate: 1, Packets: 1,
			Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: hostAddr(2), Dst: hostAddr(1), InPort: 2})
	}
	s.run(sec)
	if d := s.only(KindPortScan).Time - t0; d > 100*ms {
		t.Errorf("found after %d ms, want at the fourth error", d/ms)
	}
}

// Log records state outcomes from the responder's side; the originator's is
// understood too.
func TestLogSilence(t *testing.T) {
	for _, reversed := range []bool{true, false} {
		s := newSim(t)
		for i := range 6 {
			r := syn(hostAddr(1), hostAddr(2), uint16(i+1))
			r.Source = flow.SourceLog
			s.at(int64(i)*sec, r)
			q := r
			if reversed {
				q = answer(r, flow.SignalSilence)
			}
			q.Signal = flow.SignalSilence
			s.at(int64(i)*sec+sec, q)
		}
		s.run(20 * sec)
		s.only(KindPortScan)
	}
}

// After a finding has resolved the same scan is found again, though each of
// its contacts was seen before.
func TestScanComesBack(t *testing.T) {
	s := newSim(t)
	for _, begin := range []int64{0, 60 * sec, 120 * sec} {
		for i := range 100 {
			s.probe(begin+int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
		}
	}
	s.run(180 * sec)
	if len(s.fired()) != 3 || len(s.emitted) != 6 {
		t.Fatalf("%d findings fired, want 3: %+v", len(s.fired()), s.emitted)
	}
	if a, b := s.fired()[0].ID, s.fired()[1].ID; a == b {
		t.Errorf("two findings share the ID %s", a)
	}
}

// A slow scan is one finding, not one for every four probes.
func TestSlowScanIsOneFinding(t *testing.T) {
	s := newSim(t)
	for i := range 100 {
		s.probe(int64(i)*30*sec, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(3000 * sec)
	s.only(KindPortScan)
}

// A source whose probes are all it does is found while its target is flooded
// from invented addresses.
func TestScanDuringFlood(t *testing.T) {
	s := newSim(t).warm()
	s.probe(0, hostAddr(1), hostAddr(2), 9999, ms/5, flow.SignalRefuse)
	for i := range 20_000 {
		s.at(100*ms+int64(i)*ms/100, syn(clientAddr(i*7919), hostAddr(2), 80))
	}
	for i := range 100 {
		s.probe(150*ms+int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(2 * sec)
	kinds := map[Kind]int{}
	for _, f := range s.fired() {
		kinds[f.Kind]++
	}
	if kinds[KindPortScan] != 1 || kinds[KindSYNFlood] != 1 {
		t.Errorf("fired %v", kinds)
	}
	if s.e.Stats().Gated == 0 {
		t.Error("the flood's sources were not kept out of the walk")
	}
}

func TestThinnedRepliesAbstain(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		now := int64(i) * 10 * ms
		s.at(now, syn(hostAddr(1), clientAddr(i), 443))
		if i%10 == 0 {
			a := answer(syn(hostAddr(3), clientAddr(i), 443), flow.SignalAccept)
			a.Rate = 100
			s.at(now+ms, a)
		}
	}
	s.run(2 * sec)
	s.quiet()
	if s.e.Stats().Abstained == 0 {
		t.Error("no abstention counted")
	}
}

func TestClockSteps(t *testing.T) {
	s := newSim(t)
	s.e.Advance(t0)
	s.e.Advance(t0 - 3600*sec) // disorder: ignored
	if s.e.clock.now != t0 {
		t.Fatal("one stray tick turned time back")
	}
	for i := range int64(clockPatience) {
		s.e.Advance(t0 - 3600*sec + i)
	}
	if s.e.Stats().ClockSteps != 1 {
		t.Fatalf("%d steps, want 1", s.e.Stats().ClockSteps)
	}
	base := t0 - 3599*sec
	for i := range 10 {
		r := syn(hostAddr(1), hostAddr(2), uint16(i+1))
		r.Time = base + int64(i)*ms
		a := answer(r, flow.SignalRefuse)
		a.Time = r.Time + ms/2
		s.e.Observe([]flow.Record{r, a})
	}
	f := s.only(KindPortScan)
	if d := f.Time - base; d < 0 || d > sec {
		t.Errorf("reported at %v, want the outside's time %v", time.Unix(0, f.Time), time.Unix(0, base))
	}
	s.e.Advance(base + 365*24*3600*sec)
	if len(s.e.Active()) != 0 {
		t.Error("a year later the finding is still active")
	}
}

func TestIgnoredHost(t *testing.T) {
	s := newSim(t, func(c *Config) {
		c.Ignore = func(a netip.Addr, k Kind) bool { return a == hostAddr(1) && k.Scanning() }
	})
	for i := range 100 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
		s.probe(int64(i)*ms, hostAddr(3), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(sec)
	if f := s.only(KindPortScan); f.Host != hostAddr(3) {
		t.Errorf("host %v", f.Host)
	}
}

// Who may scan may not flood: a scanner that is taken over is found by what it does
// besides.
func TestIgnoredScannerIsFoundForTheRest(t *testing.T) {
	s := newSim(t, func(c *Config) {
		c.Ignore = func(a netip.Addr, k Kind) bool { return a == hostAddr(1) && k.Scanning() }
	})
	for i := range int64(20_000) {
		s.at(i*ms/10, syn(hostAddr(1), hostAddr(2), 80))
	}
	s.run(3 * sec)
	if f := s.only(KindSYNFlood); f.Host != hostAddr(1) {
		t.Errorf("host %v", f.Host)
	}
}

func TestPendingBeforeFiring(t *testing.T) {
	s := newSim(t, func(c *Config) { c.EmitPending = true })
	for i := range 10 {
		s.probe(int64(i)*ms, hostAddr(1), hostAddr(2), uint16(i+1), ms/5, flow.SignalRefuse)
	}
	s.run(30 * sec)
	var states []State
	for _, f := range s.emitted {
		states = append(states, f.State)
		if f.ID != s.emitted[0].ID {
			t.Errorf("the finding changed its ID")
		}
	}
	if len(states) != 3 || states[0] != StatePending || states[1] != StateFiring || states[2] != StateResolved {
		t.Errorf("states %v", states)
	}
}
