package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// playback runs the script as a recording is run, which lets days pass quickly.
func (s *sim) playback() *sim {
	s.sorted()
	p := NewPlayback(s.e)
	for i := range s.script {
		p.Observe(&s.script[i])
	}
	p.Finish()
	s.script = nil
	return s
}

// rhythmic returns what fired of that family.
func (s *sim) rhythmic() (list []Finding) {
	for _, f := range s.fired() {
		if f.Family == FamilyRhythm {
			list = append(list, f)
		}
	}
	return list
}

// beats scripts a client that asks a server at an interval and is answered, in a
// connection per request.
func (s *sim) beats(from, until, every int64, client, server netip.Addr, port uint16) {
	rng := rand.New(rand.NewPCG(5, uint64(from)))
	for t := from; t < until; t += every {
		r := syn(client, server, port)
		r.SrcPort = uint16(20_000 + rng.IntN(40_000))
		at := t + rng.Int64N(every/20)
		s.at(at, r)
		s.at(at+ms, answer(r, flow.SignalAccept))
	}
}

// keeps scripts the same within one connection that is kept, and ended by the
// client if bye.
func (s *sim) keeps(from, until, every int64, client, server netip.Addr, port uint16, bye bool) {
	r := syn(client, server, port)
	r.Source = flow.SourcePacket
	s.at(from, r)
	a := answer(r, flow.SignalAccept)
	s.at(from+ms, a)
	r.Signal, r.TCPFlags, a.Signal, a.TCPFlags = flow.SignalNone, flow.PSH|flow.ACK, flow.SignalNone, flow.PSH|flow.ACK
	t := from + every
	for ; t < until; t += every {
		s.at(t, r)
		s.at(t+ms, a)
	}
	if bye {
		r.Signal, r.TCPFlags = flow.SignalFinish, flow.FIN|flow.ACK
		s.at(t, r)
	}
}

// office is what goes on all the time: somebody who works.
func (s *sim) office(until int64) {
	rng := rand.New(rand.NewPCG(9, 9))
	for t := int64(0); t < until; t += int64(rng.ExpFloat64() * 8e9) {
		s.probe(t, hostAddr(200+rng.IntN(3)), hostAddr(210+rng.IntN(4)), 443, ms, flow.SignalAccept)
	}
}

const day = 24 * hour

// Machines of an office come and go, and nobody is told.
func TestBenignLeaving(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(s *sim){
		"workstations with agents, switched off in the evening": func(s *sim) {
			for i := range 8 {
				from := int64(i) * 311 * sec
				until := 9*hour + int64(i)*600*sec
				s.beats(from, until, 10*sec, hostAddr(1+i), hostAddr(100), 8530)
				s.beats(from, until, 30*sec, hostAddr(1+i), hostAddr(101), 445)
				s.keeps(from, until, 30*sec, hostAddr(1+i), hostAddr(102), 5985, false)
			}
			s.office(12 * hour)
		},
		"a lonely one": func(s *sim) {
			s.beats(0, 9*hour, 10*sec, hostAddr(1), hostAddr(100), 8530)
			s.beats(0, 9*hour, 30*sec, hostAddr(1), hostAddr(101), 9000)
			s.office(11 * hour)
		},
		"leases": func(s *sim) {
			for i := range 3 {
				for t := int64(i) * 300 * sec; t < 3*day; t += hour / 2 {
					r := udp(hostAddr(1+i), 68, hostAddr(103), 67, 1)
					s.at(t, r)
					s.at(t+ms, answer(r, flow.SignalUDP))
				}
			}
			s.office(4 * day)
		},
		"clocks, which ask less often the better they are": func(s *sim) {
			every := int64(64)
			for t := int64(0); t < 30*hour; t += every * sec {
				if t > 2*hour*every/64 && every < 1024 {
					every *= 2
				}
				r := udp(hostAddr(1), 123, hostAddr(104), 123, 1)
				s.at(t, r)
				s.at(t+ms, answer(r, flow.SignalUDP))
			}
			s.office(32 * hour)
		},
		"a container that is replaced": func(s *sim) {
			for i := range 4 { // the balancer that checks them
				s.beats(0, 2*hour, 5*sec, hostAddr(50), hostAddr(20+i), 8080)
				if i > 0 {
					s.beats(2*hour, 3*hour, 5*sec, hostAddr(50), hostAddr(20+i), 8080)
				}
			}
			for i := range 2 {
				s.at(2*hour+int64(i)*5*sec, syn(hostAddr(50), hostAddr(20), 8080))
			}
			s.beats(2*hour+10*sec, 3*hour, 5*sec, hostAddr(50), hostAddr(30), 8080)
			s.office(3 * hour)
		},
		"telephones that walk out": func(s *sim) {
			for i := range 4 {
				s.keeps(0, hour+int64(i)*900*sec, 25*sec, hostAddr(60+i), hostAddr(105), 5061, false)
			}
			s.office(3 * hour)
		},
		"somebody who uses what his agent uses": func(s *sim) {
			s.beats(0, 6*hour, 10*sec, hostAddr(1), hostAddr(100), 8443)
			rng := rand.New(rand.NewPCG(7, 7))
			for t := hour; t < 6*hour; t += int64(rng.ExpFloat64() * 120e9) {
				for k := range int64(30) { // a page and its parts
					r := syn(hostAddr(1), hostAddr(100), 8443)
					r.SrcPort = uint16(1024 + rng.IntN(18_000))
					at := t + k*int64(rng.ExpFloat64()*4e8)
					s.at(at, r)
					s.at(at+ms, answer(r, flow.SignalAccept))
				}
			}
			s.office(6 * hour)
		},
		"a logger that is stopped in order, after two days": func(s *sim) {
			s.keeps(0, 2*day, 30*sec, hostAddr(1), hostAddr(100), 1883, true)
			s.keeps(0, 50*hour, 30*sec, hostAddr(2), hostAddr(100), 1883, false)
			s.office(50 * hour)
		},
		"a master that is stopped in order": func(s *sim) {
			for i := range 4 {
				s.keeps(0, 2*hour, sec, hostAddr(90), hostAddr(91+i), 502, true)
			}
			s.office(3 * hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t)
			play(s)
			for _, f := range s.playback().rhythmic() {
				t.Errorf("false alarm: %s %v +%d s %v", f.Kind, f.Host, (f.Time-t0)/sec, f.Evidence)
			}
		})
	}
}

// Whose silence is one for others.
func TestSilenceThatMatters(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		play   func(s *sim)
		who    netip.Addr
		why    string // feature
		within int64  // after the silence begins
	}{
		"a server that everybody goes on asking": {func(s *sim) {
			for i := range 20 {
				s.beats(int64(i)*sec, 2*hour, 10*sec, hostAddr(1+i), hostAddr(100), 5432)
				for t := 2 * hour; t < 3*hour; t += 10 * sec {
					s.at(t+int64(i)*sec, syn(hostAddr(1+i), hostAddr(100), 5432))
				}
			}
			s.office(3 * hour)
		}, hostAddr(100), "unanswered_requests", 300 * sec},
		"a controller, when half of the office has gone home": {func(s *sim) {
			for i := range 20 {
				s.beats(0, hour+int64(i)*60*sec, 10*sec, hostAddr(1+i), hostAddr(100), 8530)
			}
			s.keeps(0, 4*hour, sec, hostAddr(90), hostAddr(91), 502, false)
			s.keeps(0, 4*hour+600*sec, sec, hostAddr(90), hostAddr(92), 502, false)
			for t := 4 * hour; t < 4*hour+600*sec; t += sec {
				r := syn(hostAddr(90), hostAddr(91), 502)
				r.Source, r.Signal, r.TCPFlags = flow.SourcePacket, flow.SignalNone, flow.PSH|flow.ACK
				s.at(t, r)
			}
			s.office(5 * hour)
		}, hostAddr(91), "unanswered_requests", 60 * sec},
		"a master": {func(s *sim) {
			for i := range 4 {
				s.keeps(0, 2*hour, sec, hostAddr(90), hostAddr(91+i), 502, false)
				s.keeps(0, 3*hour, sec, hostAddr(80), hostAddr(91+i), 502, false)
			}
			s.office(3 * hour)
		}, hostAddr(90), "devices_polled", 60 * sec},
		"the only master": {func(s *sim) {
			for i := range 4 {
				s.keeps(0, 2*hour, sec, hostAddr(90), hostAddr(91+i), 502, false)
			}
			s.office(3 * hour)
		}, hostAddr(90), "devices_polled", 180 * sec}, // what is left to hear is rare
		"a sensor that had never paused": {func(s *sim) {
			s.keeps(0, 2*day, 30*sec, hostAddr(1), hostAddr(100), 1883, false)
			s.keeps(0, 2*day+hour, 30*sec, hostAddr(2), hostAddr(100), 1883, false)
			s.office(2*day + hour)
		}, hostAddr(1), "rhythm_hours", 1800 * sec},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSim(t)
			c.play(s)
			list := s.playback().rhythmic()
			if len(list) != 1 || list[0].Kind != KindDeviceSilent || list[0].Host != c.who {
				t.Fatalf("fired %s, want a silence of %v", names(list), c.who)
			}
			f := list[0]
			if f.Evidence[1].Feature != c.why || f.Severity != SeverityLow || f.MayContain() {
				t.Errorf("%+v", f)
			}
			if d := f.Time - f.FirstSeen; d > c.within {
				t.Errorf("told after %d s", d/sec)
			}
		})
	}
}

// A device whose link goes down has left; one that is asked is missed all the
// same, and its link is named.
func TestLinkExplainsSilence(t *testing.T) {
	t.Parallel()
	play := func(asked bool) []Finding {
		s := newSim(t)
		s.keeps(0, 2*day, 30*sec, hostAddr(1), hostAddr(100), 1883, false)
		s.keeps(0, 2*day+hour, 30*sec, hostAddr(2), hostAddr(100), 1883, false)
		if asked {
			s.beats(0, 2*day, 30*sec, hostAddr(2), hostAddr(1), 502)
			for t := 2 * day; t < 2*day+hour; t += 30 * sec {
				s.at(t, syn(hostAddr(2), hostAddr(1), 502))
			}
		}
		s.office(2*day + hour)
		for i := range s.script {
			if s.script[i].Src == hostAddr(1) {
				s.script[i].InPort = 9
			}
		}
		s.sorted()
		p := NewPlayback(s.e)
		told := false
		for i := range s.script {
			if !told && s.script[i].Time >= t0+2*day {
				s.e.Link(flow.Exporter{}, 9, false, t0+2*day)
				told = true
			}
			p.Observe(&s.script[i])
		}
		p.Finish()
		return s.rhythmic()
	}
	if list := play(false); len(list) != 0 {
		t.Errorf("a device that was unplugged: %s", names(list))
	}
	list := play(true)
	if len(list) != 1 || list[0].Host != hostAddr(1) || list[0].Evidence[len(list[0].Evidence)-1].Feature != "link_down_seconds" {
		t.Errorf("a device that is asked and was unplugged: %+v", list)
	}
}
