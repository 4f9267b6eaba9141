package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// poll scripts one poll over a connection that is kept, packet by packet.
func (s *sim) poll(t int64, client, server netip.Addr, answered bool) {
	r := syn(client, server, 502)
	r.Source, r.Signal, r.TCPFlags, r.Bytes = flow.SourcePacket, flow.SignalNone, flow.PSH|flow.ACK, 66
	s.at(t, r)
	if answered {
		s.at(t+2*ms, answer(r, flow.SignalNone))
		r.TCPFlags = flow.ACK
		s.at(t+3*ms, r)
	}
}

// cell scripts two masters that poll four controllers every half second, give
// or take a tenth, without those that skip says.
func (s *sim) cell(from, until int64, skip func(t int64, master, plc int) (asked, answered bool)) {
	rng := rand.New(rand.NewPCG(3, uint64(from)))
	for t := from; t < until; t += sec / 2 {
		for m := range 2 {
			for p := range 4 {
				asked, answered := true, true
				if skip != nil {
					asked, answered = skip(t, m, p)
				}
				if asked {
					s.poll(t+rng.Int64N(50*ms), hostAddr(100+m), hostAddr(10+p), answered)
				}
			}
		}
	}
}

func TestDeviceSilent(t *testing.T) {
	dead := 900 * sec
	for name, c := range map[string]struct {
		skip func(t int64, m, p int) (bool, bool)
		who  netip.Addr
	}{
		"a controller that does not answer":  {func(t int64, m, p int) (bool, bool) { return t < dead || p != 2 || t%(10*sec) == 0, t < dead || p != 2 }, hostAddr(12)},
		"a controller that is asked as ever": {func(t int64, m, p int) (bool, bool) { return true, t < dead || p != 2 }, hostAddr(12)},
		"a master that is gone":              {func(t int64, m, p int) (bool, bool) { return t < dead || m != 1, true }, hostAddr(101)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.cell(0, dead+120*sec, c.skip)
			s.run(dead + 120*sec)
			var silent []Finding
			for _, f := range s.fired() {
				if f.Kind == KindDeviceSilent {
					silent = append(silent, f)
				}
			}
			if len(silent) == 0 || silent[0].Host != c.who || silent[0].Severity != SeverityLow {
				t.Fatalf("found %d: %s", len(silent), names(s.fired()))
			}
			if d := silent[0].Time - t0 - dead; d > 40*sec {
				t.Errorf("after %d s", d/sec)
			}
		})
	}
}

// Where all telemetry ends nobody is silent, nor while it begins again; a
// device that does not come back is.
func TestTelemetrySilent(t *testing.T) {
	for _, gone := range []bool{false, true} {
		s := newSim(t)
		s.cell(0, 900*sec, nil)
		s.cell(1200*sec, 1300*sec, func(t int64, _, plc int) (bool, bool) { return !gone || plc != 2 || t%(10*sec) == 0, !gone || plc != 2 })
		play := NewPlayback(s.e)
		s.sorted()
		for i := range s.script {
			play.Observe(&s.script[i])
		}
		play.Finish()
		for _, f := range s.fired() {
			if !gone || f.Kind != KindDeviceSilent || f.Host != hostAddr(12) {
				t.Errorf("%s of %v after %v", f.Kind, f.Host, time.Duration(f.Time-t0))
			}
		}
		if gone && len(s.fired()) == 0 {
			t.Error("a device that did not come back is not missed")
		}
	}
}

// names lists kinds and hosts of findings.
func names(list []Finding) (out string) {
	for _, f := range list {
		out += string(f.Kind) + " " + f.Host.String() + "; "
	}
	return out
}

// The same in samples of 1:10, where no single poll can be seen.
func TestDeviceSilentInSamples(t *testing.T) {
	s := newSim(t)
	rng := random(t)
	dead := 2400 * sec
	for now := int64(0); now < dead+300*sec; now += sec / 2 {
		for p := range 4 {
			for k := range 3 {
				if rng.IntN(10) != 0 || now >= dead && p == 2 && k > 0 {
					continue // the master goes on asking, the controller says nothing
				}
				r := syn(hostAddr(100), hostAddr(10+p), 502)
				if k == 1 {
					r = answer(r, flow.SignalNone)
				}
				r.Source, r.Signal, r.TCPFlags, r.Rate = flow.SourceSFlow, flow.SignalNone, flow.ACK, 10
				s.at(now+rng.Int64N(100*ms), r)
			}
		}
	}
	s.run(dead + 300*sec)
	if f := s.only(KindDeviceSilent); f.Host != hostAddr(12) {
		t.Errorf("%v", f.Host)
	}
}

func TestRhythmBreak(t *testing.T) {
	t.Parallel()
	changed := 900 * sec
	for name, every := range map[string]int64{"slower": sec, "much slower": 3 * sec, "faster": sec / 5} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.cell(0, changed, nil)
			s.cell(changed, changed+120*sec, func(_ int64, m, p int) (bool, bool) { return m != 0 || p != 0, true })
			for now := changed; now < changed+120*sec; now += every {
				s.poll(now, hostAddr(100), hostAddr(10), true)
			}
			s.run(changed + 120*sec)
			f := s.only(KindRhythmBreak)
			if f.Host != hostAddr(100) || f.Victims[0] != hostAddr(10) || f.Sequential || f.ICS != "T0836" {
				t.Errorf("%s %s", names([]Finding{f}), f.ICS)
			}
			if d := f.Time - t0 - changed; d > 40*sec {
				t.Errorf("after %d s", d/sec)
			}
		})
	}
}

func TestAsymmetricLoss(t *testing.T) {
	s := newSim(t)
	rng := random(t)
	s.cell(0, 1000*sec, func(t int64, m, p int) (bool, bool) {
		return true, t < 900*sec || m != 0 || p != 1 || rng.IntN(3) > 0
	})
	s.run(1000 * sec)
	f := s.only(KindAsymmetricLoss)
	if f.Host.IsValid() || len(f.Victims) != 2 {
		t.Errorf("%s", names([]Finding{f}))
	}
}

func TestLinkFlap(t *testing.T) {
	s := newSim(t).warm()
	for i := range 12 {
		s.e.Link(flow.Exporter{}, 7, i%2 == 1, t0+int64(i)*5*sec)
		s.e.Link(flow.Exporter{}, 7, i%2 == 1, t0+int64(i)*5*sec) // told twice
	}
	for i := range 12 { // a link that is mended, with care
		s.e.Link(flow.Exporter{}, 8, i%2 == 1, t0+60*sec+int64(i)*50*sec)
	}
	if f := s.only(KindLinkFlap); f.InPort != 7 {
		t.Errorf("port %d", f.InPort)
	}
}

// A recording ends for all at once, and the time that is let pass after it is
// nobody's silence.
func TestRecordingEnds(t *testing.T) {
	s := newSim(t)
	s.cell(0, 900*sec, nil)
	for i := range 50 { // of ten seconds, so not overdue yet
		for now := int64(i) * sec / 5; now < 900*sec; now += 10 * sec {
			s.probe(now, hostAddr(100+i), hostAddr(200), 443, ms, flow.SignalAccept)
		}
	}
	s.run(900 * sec)
	s.e.Advance(t0 + 960*sec)
	s.e.Advance(t0 + 962*sec)
	s.quiet()
}

// What keeps no rhythm, or keeps it, or stops with everything else.
func TestBenignPlant(t *testing.T) {
	t.Parallel()
	for name, play := range map[string]func(s *sim){
		"polls that go on": func(s *sim) { s.cell(0, 3600*sec, func(_ int64, _, _ int) (bool, bool) { return true, true }) },
		"a poll lost now and then": func(s *sim) {
			rng := random(s.t)
			s.cell(0, 2400*sec, func(int64, int, int) (bool, bool) { return rng.IntN(500) > 0, rng.IntN(300) > 0 })
		},
		"telemetry that stops": func(s *sim) { s.cell(0, 900*sec, nil); s.cell(1200*sec, 1500*sec, nil) },
		"a plant that is shut down": func(s *sim) {
			s.cell(0, 900*sec, nil)
			for i := range 600 {
				s.probe(900*sec+int64(i)*sec, hostAddr(200), hostAddr(201), 443, ms, flow.SignalAccept)
			}
		},
		"a person": func(s *sim) {
			rng := random(s.t)
			for now := int64(0); now < 4*hour; now += int64(rng.ExpFloat64() * 5e9) {
				s.probe(now, hostAddr(1), hostAddr(2), 443, ms, flow.SignalAccept)
			}
			for i := range 3600 {
				s.probe(4*hour+int64(i)*sec, hostAddr(3), hostAddr(4), 80, ms, flow.SignalAccept)
			}
		},
		"a client that is switched off, in samples": func(s *sim) {
			rng := random(s.t)
			for now := int64(0); now < 2*hour; now += int64(rng.ExpFloat64() * 2e8) {
				client := rng.IntN(3)
				if client == 2 && now%(1200*sec) > 300*sec {
					continue // talks in bursts, five minutes in twenty
				}
				r := syn(hostAddr(100+client), hostAddr(2), 443)
				r.Source, r.Signal, r.TCPFlags, r.Rate = flow.SourceSFlow, flow.SignalNone, flow.ACK, 10
				s.at(now, r)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			s.t = t
			play(s)
			last := int64(0)
			for i := range s.script {
				last = max(last, s.script[i].Time-t0)
			}
			s.run(last + 10*sec)
			for _, f := range s.fired() {
				if info, _ := f.Kind.Info(); info.Family == FamilyRhythm {
					t.Errorf("false alarm: %s %v %v", f.Kind, f.Host, f.Evidence)
				}
			}
		})
	}
}
