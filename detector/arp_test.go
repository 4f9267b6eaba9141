package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

func arpRequest(src int, target int, addresses bool) flow.Record {
	r := flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPRequest, Rate: 1, Packets: 1,
		EtherType: flow.EtherARP, SrcMAC: macOf(hostAddr(src)), InPort: 1,
		DstMAC: flow.MAC{255, 255, 255, 255, 255, 255}}
	if addresses {
		r.Source, r.Src, r.Dst = flow.SourcePacket, hostAddr(src), hostAddr(target)
	}
	return r
}

func TestARPSweep(t *testing.T) {
	for _, addresses := range []bool{false, true} {
		s := newSim(t)
		s.connection(0, syn(hostAddr(1), hostAddr(3), 80), ms, 5*ms) // tells whose MAC it is
		begin := sec
		for i := range 50 {
			s.at(begin+int64(i)*ms, arpRequest(1, 1000+i, addresses))
		}
		s.run(3 * sec)
		f := s.only(KindARPSweep)
		if d := f.Time - t0 - begin; d < 200*ms || d > 215*ms {
			t.Errorf("decided after %d ms, want right after the eighth timeout", d/ms)
		}
		if f.HostMAC != macOf(hostAddr(1)) || f.Host != hostAddr(1) || f.InPort != 1 || f.Technique != "T1018" {
			t.Errorf("finding %+v", f)
		}
		if addresses != (len(f.Victims) > 0) {
			t.Errorf("victims %v with addresses=%v", f.Victims, addresses)
		}
	}
}

// Where targets are visible, asking for the same few for ever is no sweep.
func TestARPRetriesOfFewTargets(t *testing.T) {
	s := newSim(t)
	for i := range 2000 {
		s.at(int64(i)*20*ms, arpRequest(1, 1000+i%4, true))
	}
	s.run(60 * sec)
	s.quiet()
}

func TestARPSweepBehindRouterNamesNoHost(t *testing.T) {
	s := newSim(t)
	for i := range 3 {
		r := syn(clientAddr(i), hostAddr(3), 80)
		r.SrcMAC = macOf(hostAddr(1))
		s.connection(int64(i)*ms, r, ms, 5*ms)
	}
	for i := range 50 {
		s.at(sec+int64(i)*ms, arpRequest(1, 1000+i, false))
	}
	s.run(3 * sec)
	if f := s.only(KindARPSweep); f.Host.IsValid() {
		t.Errorf("host %v is behind a router", f.Host)
	}
}

// One's own address is asked for before it is used (RFC 5227).
func TestAddressProbes(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		r := arpRequest(1, 1000+i, true)
		r.Src = mustAddr("0.0.0.0")
		s.at(int64(i)*ms, r)
		r.Src = r.Dst
		s.at(int64(i)*ms, r)
	}
	s.run(sec)
	s.quiet()
}

func TestNeighbourSolicitationSweep(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		r := arpRequest(1, 0, false)
		r.EtherType, r.Src, r.Dst = flow.EtherIPv6, mustAddr("fe80::1"), mustAddr("fe80::1:0")
		b := r.Dst.As16()
		b[15] = byte(i)
		r.Dst = addressFrom(b)
		s.at(int64(i)*ms, r)
	}
	s.run(sec)
	if f := s.only(KindARPSweep); f.Host != mustAddr("fe80::1") {
		t.Errorf("host %v", f.Host)
	}
}

// Who is scanned among decoys of the own subnet asks for the decoys, whom
// nobody knows, to answer them. That is no sweep; but what one's own port
// sends is no excuse, nor is what old acquaintances send.
func TestAskingForForgedSourcesIsNoSweep(t *testing.T) {
	const victim, decoys = 3, 10
	scan := func(s *sim, inPort uint32, from int64) {
		for i := range 1000 {
			r := syn(hostAddr(100+i%decoys), hostAddr(victim), uint16(i+1))
			r.SrcMAC, r.InPort = macOf(hostAddr(9)), inPort
			s.at(from+int64(i)*ms, r)
		}
		for i := range 5 * decoys { // each of them again and again
			r := arpRequest(victim, 0, false)
			s.at(from+300*ms+int64(i)*20*ms, r)
		}
	}
	sweeps := func(s *sim) (n int) {
		for _, f := range s.emitted {
			if f.Kind == KindARPSweep {
				n++
			}
		}
		return n
	}
	s := newSim(t)
	scan(s, 9, sec)
	s.run(5 * sec)
	if n := sweeps(s); n != 0 {
		t.Errorf("%d findings of a sweep by who was scanned", n)
	}

	s = newSim(t)
	scan(s, 1, sec) // port 1 is where the questions come from
	s.run(5 * sec)
	if sweeps(s) == 0 {
		t.Error("a station excused itself")
	}

	s = newSim(t)
	for i := range decoys { // known for long, though never proven
		r := syn(hostAddr(100+i), hostAddr(victim), 1)
		r.InPort = 9
		s.at(int64(i)*ms, r)
	}
	scan(s, 9, 60*sec)
	s.run(65 * sec)
	if sweeps(s) == 0 {
		t.Error("old acquaintances excuse")
	}
}
