package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// knock scripts attempts of a stranger at one service, from a port of its own
// each, a minute apart.
func (s *sim) knock(from, to netip.Addr, port uint16, times int, source flow.Source) {
	for i := range times {
		r := syn(from, to, port)
		r.Source, r.SrcPort = source, uint16(40_000+i)
		now := int64(i) * 60 * sec
		s.at(now, r)
		if source == flow.SourceLog {
			s.at(now+sec, answer(r, flow.SignalSilence))
		}
	}
}

func TestKnocking(t *testing.T) {
	stranger := netip.MustParseAddr("203.0.113.5")
	for _, source := range []flow.Source{flow.SourceLog, flow.SourceTap} {
		s := newSim(t)
		s.knock(stranger, hostAddr(2), 7000, 40, source)
		s.run(2500 * sec)
		f := s.only(KindPortScan)
		if f.Host != stranger || f.Severity != SeverityLow || f.MayContain() || f.Time-t0 > 8*60*sec {
			t.Errorf("after %d s: %+v", (f.Time-t0)/sec, f)
		}
	}
}

func TestBenignRetries(t *testing.T) {
	stranger := netip.MustParseAddr("203.0.113.5")
	for _, c := range []struct {
		name     string
		from, to netip.Addr
		before   func(s *sim)
	}{
		{"a client of the own network", hostAddr(1), netip.MustParseAddr("198.51.100.7"), nil},
		{"a client of the same organisation", netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.7.7"), nil},
		{"a client that was served elsewhere", stranger, hostAddr(2), func(s *sim) {
			s.connection(-sec, syn(stranger, hostAddr(3), 443), ms, 5*ms)
		}},
		{"a stranger that we talk to", stranger, hostAddr(2), func(s *sim) {
			s.connection(-sec, syn(hostAddr(9), stranger, 443), ms, 5*ms)
		}},
		{"a service that is down", stranger, hostAddr(2), func(s *sim) {
			s.connection(-sec, syn(clientAddr(9), hostAddr(2), 5432), ms, 5*ms)
		}},
	} {
		for _, source := range []flow.Source{flow.SourceLog, flow.SourceTap} {
			s := newSim(t)
			if c.before != nil {
				c.before(s)
			}
			s.knock(c.from, c.to, 5432, 100, source)
			s.run(6100 * sec)
			for _, f := range s.fired() {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
	}
}

// A browser opens several connections at once, and sends each SYN again until it
// gives up.
func TestBenignRetransmissions(t *testing.T) {
	s, stranger := newSim(t), netip.MustParseAddr("203.0.113.5")
	for i := range 6 {
		r := syn(stranger, hostAddr(2), 443)
		r.SrcPort = uint16(40_000 + i)
		for _, again := range []int64{0, 1, 3, 7, 15, 31, 63} {
			s.at(again*sec+int64(i)*300*sec, r)
		}
	}
	s.run(2000 * sec)
	s.quiet()
}

// Many connections at once are not unanswered because they are many.
func TestBenignBurstOfStranger(t *testing.T) {
	s, stranger := newSim(t), netip.MustParseAddr("203.0.113.5")
	for i := range 30 {
		r := syn(stranger, hostAddr(2), 443)
		r.SrcPort = uint16(40_000 + i)
		s.connection(int64(i)*ms, r, 200*ms, sec)
	}
	s.run(10 * sec)
	s.quiet()
}
