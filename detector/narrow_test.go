package detector

import (
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// browse scripts new targets that answer, all the time: the credit of a busy
// workstation.
func (s *sim) browse(from int, until int64) {
	for i := 0; int64(i)*20*sec < until; i++ {
		for j := range 6 {
			s.probe(int64(i)*20*sec+int64(j)*100*ms, hostAddr(from), clientAddr(i*6+j), 443, 20*ms, flow.SignalAccept)
		}
	}
}

// A port every few minutes, of a host whose user is busy meanwhile.
func TestSlowScanOfBusyHost(t *testing.T) {
	for _, out := range []flow.Signal{flow.SignalRefuse, flow.SignalNone} {
		s := newSim(t)
		s.browse(1, 7200*sec)
		for i := range 24 {
			s.probe(int64(i)*300*sec, hostAddr(1), hostAddr(2), uint16(i+20), ms/5, out)
		}
		s.run(7300 * sec)
		f := s.only(KindPortScan)
		if n := (f.Time - t0) / (300 * sec); n > 9 || !f.Sequential || f.Severity != SeverityHigh {
			t.Errorf("after %d probes: %+v", n+1, f)
		}
	}
}

// A service of many hosts, half of which accept: the walk over all contacts
// stands still.
func TestSweepThatHalfSucceeds(t *testing.T) {
	s, rng := newSim(t), random(t)
	s.browse(1, 600*sec)
	for i := range 300 {
		out := flow.SignalRefuse
		if rng.IntN(2) == 0 {
			out = flow.SignalAccept
		}
		s.probe(int64(i)*2*sec, hostAddr(1), hostAddr(100+i), 445, ms/5, out)
	}
	s.run(700 * sec)
	if len(kindsOf(s.fired())[KindHostSweep]) == 0 {
		t.Errorf("fired %+v", s.fired())
	}
}

// A finding of the weaker test becomes one that may contain when the walk over
// all contacts decides as well.
func TestSweepBecomesSure(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		out := flow.SignalAccept
		if i%2 == 0 || i > 100 {
			out = flow.SignalRefuse
		}
		s.probe(int64(i)*sec, hostAddr(1), hostAddr(100+i), 445, ms/5, out)
	}
	s.run(201 * sec)
	if list := s.e.Active(); len(list) != 1 || !list[0].Sequential || list[0].Severity != SeverityHigh {
		t.Errorf("active %+v", list)
	}
}

// Data connections to ever new high ports, which a firewall lets die.
func TestBenignPassiveFTP(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		s.connection(int64(i)*30*sec, syn(hostAddr(1), hostAddr(2), 21), ms, 20*sec)
		s.probe(int64(i)*30*sec, hostAddr(1), clientAddr(i), 443, 5*ms, flow.SignalAccept)
		s.probe(int64(i)*30*sec+sec, hostAddr(1), hostAddr(2), uint16(50_000+i), 0, flow.SignalNone)
	}
	s.run(6100 * sec)
	s.quiet()
}

// Clients that try NetBIOS beside SMB, at servers of which none has it.
func TestBenignCompanionPort(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		s.probe(int64(i)*sec, hostAddr(1), hostAddr(100+i), 445, ms, flow.SignalAccept)
		s.probe(int64(i)*sec+2*ms, hostAddr(1), hostAddr(100+i), 139, ms, flow.SignalRefuse)
	}
	s.run(300 * sec)
	s.quiet()
}

// A mail relay: a quarter of the world's mail servers are gone.
func TestBenignMailRelay(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 3000 {
		out := flow.SignalAccept
		if i > 20 && rng.IntN(4) == 0 {
			out = flow.SignalNone
		}
		s.probe(int64(i)*sec, hostAddr(1), clientAddr(i), 25, 80*ms, out)
	}
	s.run(3100 * sec)
	s.quiet()
}

// The rate of a scan says how far the tap may be thinned for it; while it is, the
// finding lives on.
func TestScanRateAndThinnedTap(t *testing.T) {
	s := newSim(t)
	for i := range 20_000 {
		r := syn(hostAddr(1), hostAddr(2), uint16(i+1))
		now := int64(i) * ms
		if i < 2000 {
			s.at(now, r)
			s.at(now+ms/5, answer(r, flow.SignalRefuse))
		} else if i%10 == 0 {
			r.Rate = 10
			s.at(now, r)
		}
	}
	s.run(1900 * ms)
	if list := s.e.Active(); len(list) != 1 || list[0].Rate < 800 || list[0].Rate > 1200 {
		t.Errorf("full tap: %+v", list)
	}
	s.run(19_900 * ms)
	if list := s.e.Active(); len(list) != 1 || list[0].Rate < 800 || list[0].Rate > 1200 {
		t.Errorf("thinned tap: %+v", list)
	}
	s.only(KindPortScan)
}
