package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Sixty sources ask one target for three ports each: no walk over the contacts of
// one of them decides.
func TestDistributedScan(t *testing.T) {
	s := newSim(t)
	for i := range 180 {
		s.probe(int64(i)*3*sec, clientAddr(i%60), hostAddr(2), uint16(1000+i), ms, flow.SignalRefuse)
	}
	s.run(700 * sec)
	named, target := map[netip.Addr]bool{}, 0
	for _, f := range s.fired() {
		if f.Kind != KindPortScan || f.MayContain() || f.Severity == SeverityHigh || f.Victims[0] != hostAddr(2) {
			t.Errorf("finding %+v", f)
		}
		if !f.Host.IsValid() {
			target++
		}
		named[f.Host] = true
	}
	if target == 0 || len(named) < 5 {
		t.Errorf("%d findings about the target, %d sources named", target, len(named)-1)
	}
}

// What every exposed host hears, by day and by night.
func TestBenignBackgroundRadiation(t *testing.T) {
	t.Parallel()
	s, rng := newSim(t), random(t)
	for i := range 4000 {
		s.probe(int64(i)*20*sec, clientAddr(rng.IntN(1<<16)), hostAddr(2), uint16(rng.IntN(2000)), 0, flow.SignalNone)
	}
	s.run(81_000 * sec)
	for _, f := range s.fired() {
		if !f.Host.IsValid() || f.Severity == SeverityHigh {
			t.Errorf("finding %+v", f)
		}
	}
}

// A server goes down: all its clients fail, at its few ports.
func TestBenignOutage(t *testing.T) {
	s := newSim(t)
	for i := range 5000 {
		s.probe(int64(i)*50*ms, clientAddr(i%800), hostAddr(2), []uint16{80, 443, 8080}[i%3], 0, flow.SignalNone)
	}
	s.run(300 * sec)
	s.quiet()
}

func (s *sim) ping(t int64, from, to, size int, answered bool) {
	r := udp(hostAddr(from), 0, hostAddr(to), 0, 1)
	r.Source, r.Proto, r.Signal, r.ICMPType, r.Bytes = flow.SourcePacket, flow.ProtoICMP, flow.SignalICMP, 8, uint64(size)
	s.at(t, r)
	if answered {
		a := answer(r, flow.SignalICMP)
		a.Proto, a.ICMPType, a.Bytes = flow.ProtoICMP, 0, uint64(size)
		s.at(t+ms, a)
	}
}

// Discovery of hosts that are there.
func TestAnsweredPingSweep(t *testing.T) {
	s := newSim(t)
	for i := range 20 {
		s.ping(int64(i)*50*ms, 1, 100+i, 42, true)
	}
	s.run(20 * sec)
	if f := s.only(KindHostSweep); f.Technique != "T1018" || f.MayContain() || f.Time-t0 > 500*ms {
		t.Errorf("finding %+v", f)
	}
}

// A monitor's pings carry data, and those of a DHCP server that looks whether
// addresses are free come one by one.
func TestBenignPings(t *testing.T) {
	s := newSim(t)
	for i := range 100 {
		s.ping(int64(i)*20*ms, 1, 100+i, 98, true)
		s.ping(int64(i)*20*sec, 2, 300+i%3, 42, false)
	}
	s.run(2100 * sec)
	s.quiet()
}

// IPv6 is scanned like IPv4.
func TestIPv6Scans(t *testing.T) {
	from, to := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	s := newSim(t)
	for i := range 100 {
		for _, sig := range []flow.Signal{flow.SignalAttempt, flow.SignalProbe} {
			src := from
			if sig == flow.SignalProbe {
				src = from.Next().Next()
			}
			r := flow.Record{Source: flow.SourceTap, Signal: sig, Rate: 1, Packets: 1, Proto: flow.ProtoTCP, EtherType: flow.EtherIPv6,
				Src: src, Dst: to, SrcPort: 50_000, DstPort: uint16(i + 1), InPort: 1}
			a := r
			a.Signal, a.Src, a.Dst, a.SrcPort, a.DstPort, a.InPort = flow.SignalRefuse, to, src, r.DstPort, r.SrcPort, 2
			s.at(int64(i)*ms, r)
			s.at(int64(i)*ms+ms/5, a)
		}
	}
	s.run(5 * sec)
	list := s.fired()
	if len(list) != 2 || list[0].Kind != KindPortScan || list[1].Kind != KindPortScan || list[1].Time-t0 > 4*ms {
		t.Errorf("fired %+v", list)
	}
}
