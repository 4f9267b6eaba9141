package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// visit scripts a TCP session of so many bytes each way as one telemetry tells
// it.
type visit struct {
	client, server netip.Addr
	port, from     uint16 // the server's and the client's port
	took           int64
	up, down       uint64
}

// logged is what a log of connections tells.
func (s *sim) logged(t int64, v visit) {
	r := syn(v.client, v.server, v.port)
	r.Source, r.SrcPort, r.Duration, r.InPort = flow.SourceLog, v.from, v.took, 0
	r.Packets, r.Bytes = 4+v.up/700, v.up
	s.at(t, r)
	a := answer(r, flow.SignalAccept)
	a.Duration, a.InPort = v.took, 0
	a.Packets, a.Bytes = 4+v.down/700, v.down
	s.at(t+min(v.took, 100*ms), a)
}

// tapped is what the connection tap tells, and sFlow at 1:10 of the rest, by
// counting instead of by chance.
func (s *sim) tapped(t int64, v visit, phase int) {
	r := syn(v.client, v.server, v.port)
	r.SrcPort = v.from
	s.at(t, r)
	s.at(t+ms, answer(r, flow.SignalAccept))
	for i, n := range []uint64{v.up, v.down} {
		for k := range int(n/1000) + 4 {
			if (k+phase+i)%10 != 0 {
				continue
			}
			d := r
			if i == 1 {
				d = answer(r, flow.SignalNone)
			}
			d.Source, d.Signal, d.Rate, d.TCPFlags, d.Packets, d.Bytes = flow.SourceSFlow, flow.SignalNone, 10, flow.ACK, 1, 60+n/uint64(n/1000+4)
			s.at(t+2*ms+int64(k)*v.took/int64(n/1000+5), d)
		}
	}
	r.Signal = flow.SignalFinish
	s.at(t+v.took, r)
	s.at(t+v.took, answer(r, flow.SignalFinish))
}

// failedLogin is a session in which one password is tried.
func failedLogin(client, server netip.Addr, i int) visit {
	return visit{client: client, server: server, port: 22, from: uint16(30_000 + i),
		took: 300 * ms, up: 1_900 + uint64(i%5)*8, down: 2_100}
}

// From outside or inside, fast or slower, in logs and on the tap.
func TestBruteForceSSH(t *testing.T) {
	for name, c := range map[string]struct {
		client netip.Addr
		every  int64
		n      int
		most   int64 // until it must be found
		tap    bool
	}{
		"log":             {clientAddr(1), sec / 10, 300, 4 * sec, false},
		"log, inside":     {hostAddr(9), sec / 10, 300, 4 * sec, false},
		"log, slow":       {mustAddr("198.51.100.7"), 40 * sec, 90, 3600 * sec, false},
		"log, very slow":  {mustAddr("198.51.100.7"), 50 * sec, 400, 4 * 3600 * sec, false},
		"tap and samples": {hostAddr(9), sec / 10, 300, 4 * sec, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			for i := range c.n {
				v := failedLogin(c.client, hostAddr(2), i)
				if c.tap {
					s.tapped(int64(i)*c.every, v, i)
				} else {
					s.logged(int64(i)*c.every, v)
				}
			}
			s.run(int64(c.n)*c.every + sec)
			f := s.only(KindBruteForce)
			if f.Host != c.client || f.DstPort != 22 || f.Sequential || f.Technique != "T1110.001" {
				t.Errorf("%+v", f)
			}
			if f.Time-t0 > c.most {
				t.Errorf("found after %d ms", (f.Time-t0)/ms)
			}
		})
	}
}

func TestPasswordSpray(t *testing.T) {
	for _, tap := range []bool{false, true} {
		s := newSim(t)
		for i := range 90 {
			v := failedLogin(hostAddr(9), hostAddr(10+i%5), i)
			if tap {
				s.tapped(int64(i)*sec/5, v, i)
			} else {
				s.logged(int64(i)*sec/5, v)
			}
		}
		s.run(20 * sec)
		if f := s.only(KindBruteForce); f.Technique != "T1110.003" || len(f.Victims) < 1 {
			t.Errorf("%+v", f)
		}
	}
}

// A guess that succeeds is followed by a session that does something.
func TestBruteForceThatSucceeds(t *testing.T) {
	s := newSim(t)
	for i := range 60 {
		s.logged(int64(i)*sec, failedLogin(mustAddr("198.51.100.7"), hostAddr(2), i))
	}
	v := failedLogin(mustAddr("198.51.100.7"), hostAddr(2), 60)
	v.up, v.down, v.took = 20_000, 400_000, 30*sec
	s.logged(60*sec, v)
	s.logged(61*sec, failedLogin(mustAddr("198.51.100.7"), hostAddr(2), 61))
	s.run(62 * sec)
	s.only(KindBruteForce)
	for _, f := range s.e.Active() {
		for _, ev := range f.Evidence {
			if ev.Feature == "session_after_guesses_bytes" && ev.Value > 400_000 {
				return
			}
		}
	}
	t.Errorf("the session after the guesses is no evidence: %+v", s.e.Active())
}

// Somebody outside knocks every hour at a telnet port that is closed.
func TestKnockingFromOutside(t *testing.T) {
	s := newSim(t)
	for i := range 14 {
		r := syn(mustAddr("198.51.100.7"), hostAddr(2), 23)
		r.Source, r.SrcPort = flow.SourceLog, uint16(30_000+i)
		s.at(int64(i)*3000*sec, r)
		s.at(int64(i)*3000*sec+sec, func() flow.Record { a := answer(r, flow.SignalSilence); return a }())
	}
	s.run(15 * 3000 * sec)
	if f := s.only(KindBruteForce); f.Severity != SeverityLow {
		t.Errorf("%+v", f)
	}
}

// What follows looks like guessing to a counter of sessions. None may fire.
func TestBenignLogins(t *testing.T) {
	t.Parallel()
	rng := random(t)
	server := hostAddr(2)
	for name, play := range map[string]func(s *sim){
		// Ansible copies its modules in every task.
		"configuration management": func(s *sim) {
			for i := range 400 {
				s.logged(int64(i)*sec/2, visit{hostAddr(9), hostAddr(10 + i%20), 22, uint16(20_000 + i), 400 * ms,
					60_000 + rng.Uint64N(60_000), 4_000 + rng.Uint64N(2_000)})
			}
		},
		"continuous integration": func(s *sim) {
			for i := range 25 {
				s.logged(int64(i)*2*sec, visit{hostAddr(9), server, 22, uint16(20_000 + i), sec, 3_000, 4_000 + rng.Uint64N(400_000)})
			}
		},
		"polling a repository": func(s *sim) {
			for i := range 1000 {
				s.logged(int64(i)*60*sec, visit{hostAddr(9), server, 22, uint16(20_000 + i), 500 * ms, 2_500, 4_400})
			}
		},
		"port checks": func(s *sim) {
			for i := range 4000 {
				s.logged(int64(i)*sec, visit{hostAddr(9), hostAddr(10 + i%30), 22, uint16(20_000 + i), 5 * ms, 25, 45})
			}
		},
		"a monitor that logs in": func(s *sim) {
			for i := range 3000 {
				s.logged(int64(i)*6*sec, visit{hostAddr(9), hostAddr(10 + i%50), 22, uint16(20_000 + i), 300 * ms, 2_400, 3_900})
			}
		},
		"a person": func(s *sim) {
			for i := range 60 {
				s.logged(int64(i)*40*sec+rng.Int64N(30*sec), visit{clientAddr(9), server, 22, uint16(20_000 + i), 30 * sec, 9_000, 30_000})
			}
		},
		"mail": func(s *sim) {
			for i := range 2000 {
				s.logged(int64(i)*7*sec, visit{hostAddr(9 + i%8), server, 993, uint16(20_000 + i), sec, 900, 3_000 + rng.Uint64N(9_000)})
			}
		},
		"pages from a database": func(s *sim) {
			for i := range 4000 {
				s.logged(int64(i)*sec/50, visit{hostAddr(9), server, 3306, uint16(20_000 + i), 5 * ms, 700, 300 + rng.Uint64N(4_000)})
			}
		},
		"the same on the tap": func(s *sim) {
			for i := range 4000 {
				s.tapped(int64(i)*sec/50, visit{hostAddr(9), server, 3306, uint16(20_000 + i), 5 * ms, 700, 300}, i)
			}
		},
		"fetching from a repository, on the tap": func(s *sim) {
			for i := range 200 {
				s.tapped(int64(i)*sec/2, visit{hostAddr(9), server, 22, uint16(20_000 + i), 300 * ms, 3_000, 60_000}, i)
			}
		},
		"backups at night": func(s *sim) {
			for i := range 40 {
				s.logged(int64(i)*10*sec, visit{hostAddr(9), hostAddr(10 + i), 22, uint16(20_000 + i), 8 * sec, 90_000, 5_000_000})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, func(c *Config) { c.Limit.Edges = 1 << 12 })
			s.t = t
			play(s)
			last := int64(0)
			for i := range s.script {
				last = max(last, s.script[i].Time-t0)
			}
			s.run(last + 10*sec)
			s.quiet()
		})
	}
}

// said scripts a sampled answer of the server.
func (s *sim) said(t int64, v visit, what flow.Login, rate float64) {
	r := answer(syn(v.client, v.server, v.port), flow.SignalNone)
	r.Source, r.Rate, r.TCPFlags, r.Bytes, r.Login = flow.SourceSFlow, rate, flow.ACK, 300, what
	s.at(t, r)
}

// The server of a login form says 401, and every tenth packet is seen.
func TestBruteForceHTTP(t *testing.T) {
	for _, rate := range []float64{1, 10, 100} {
		s := newSim(t)
		v := visit{client: hostAddr(9), server: hostAddr(2), port: 8080}
		for i := range 40 {
			s.said(int64(i)*int64(rate)*sec/20, v, flow.LoginRefused, rate)
		}
		s.run(300 * sec)
		f := s.only(KindBruteForce)
		if f.DstPort != 8080 || f.Score < 0.9 || f.Sequential {
			t.Errorf("1:%v: %+v", rate, f)
		}
	}
}

// Clients that ask without a password first, as those of NTLM do, or whose
// password has expired and who try again every ten minutes.
func TestBenignRefusals(t *testing.T) {
	t.Parallel()
	s := newSim(t)
	v := visit{client: hostAddr(9), server: hostAddr(2), port: 80}
	for i := range 3000 {
		what := flow.LoginRefused
		if i%3 == 2 {
			what = flow.LoginAnswered
		}
		s.said(int64(i)*sec/20, v, what, 1)
	}
	v.client = hostAddr(8)
	for i := range 500 {
		s.said(int64(i)*600*sec, v, flow.LoginRefused, 1)
	}
	s.run(500 * 600 * sec)
	s.quiet()
}

// Twelve guesses at a time at an SSH server on another port, packet by packet:
// its greeting says what it is.
func TestBruteForceAtAnotherPort(t *testing.T) {
	s := newSim(t)
	for i := range 66 {
		now := int64(i/12)*2*sec + int64(i%12)*ms
		r := syn(mustAddr("198.51.100.7"), hostAddr(2), 902)
		r.Source, r.SrcPort, r.Bytes = flow.SourcePacket, uint16(30_000+i), 74
		s.at(now, r)
		s.at(now+ms, answer(r, flow.SignalAccept))
		for k := range int64(6) {
			d := r
			d.Signal, d.TCPFlags, d.Bytes = flow.SignalNone, flow.ACK, 300
			a := answer(d, flow.SignalNone)
			a.Bytes = 350
			if k == 0 {
				a.Login = flow.LoginGreeting
			}
			s.at(now+ms+k*150*ms+int64(i), d)
			s.at(now+2*ms+k*150*ms+int64(i), a)
		}
		r.Signal = flow.SignalFinish
		s.at(now+sec, r)
		s.at(now+sec+ms, answer(r, flow.SignalFinish))
	}
	s.run(20 * sec)
	if f := s.only(KindBruteForce); f.DstPort != 902 {
		t.Errorf("%+v", f)
	}
}
