package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const hour = 3600 * sec

// admit scripts a tapped session.
func (s *sim) admit(t int64, client, server netip.Addr, port uint16, n int, out flow.Signal) {
	r := syn(client, server, port)
	r.SrcPort = uint16(20_000 + n%40_000)
	s.at(t, r)
	if out != flow.SignalNone {
		s.at(t+ms, answer(r, out))
	}
}

// administer scripts days in which an administrator, a backup server and a
// monitor do the same every ten minutes.
func (s *sim) administer(until int64) {
	n := 0
	for t := int64(0); t < until; t += 1800 * sec {
		for i := range 10 {
			n++
			s.admit(t+int64(i)*sec, hostAddr(100), hostAddr(10+i), 22, n, flow.SignalAccept)
			s.admit(t+int64(i)*sec, hostAddr(101), hostAddr(10+i), 445, n, flow.SignalAccept)
			s.admit(t+int64(i)*sec, hostAddr(102), hostAddr(10+i), 22, n, flow.SignalAccept)
			s.admit(t+int64(i)*sec, hostAddr(102), hostAddr(10+i), 3389, n, flow.SignalAccept)
		}
	}
}

// An intruder tries four ways into five hosts and goes on from the third, as
// soon as anything is known of the network at all.
func TestLateralMovementAtOnce(t *testing.T) {
	s := newSim(t)
	n := 0
	walk := func(t int64, from int) {
		for i, k := range random(s.t).Perm(20) {
			n++
			out := flow.SignalAccept
			if 10+k/4 == from {
				continue
			}
			s.admit(t+int64(i)*sec/5, hostAddr(from), hostAddr(10+k/4), []uint16{445, 3389, 5985, 22}[k%4], n, out)
		}
	}
	walk(0, 9)
	walk(5*sec, 12)
	s.run(20 * sec)
	list := s.fired()
	if len(list) != 2 || list[0].Kind != KindLateralMovement || list[0].Host != hostAddr(9) || list[1].Host != hostAddr(12) {
		t.Fatalf("%+v", list)
	}
	if d := list[0].Time - t0; d > 4*sec {
		t.Errorf("found after %d ms", d/ms)
	}
	if list[0].Sequential || len(list[0].Victims) < 3 {
		t.Errorf("%+v", list[0])
	}
	chain := false
	for _, ev := range list[1].Evidence {
		chain = chain || ev.Feature == "hosts_in_a_chain" && ev.Value == 2
	}
	if !chain {
		t.Errorf("no chain: %+v", list[1].Evidence)
	}
}

// An intruder who comes back an hour later is found again: what began in an
// attack is not learned.
func TestLateralMovementComesBack(t *testing.T) {
	s := newSim(t)
	for n := range 3 {
		for i, k := range random(t).Perm(20) {
			s.admit(int64(n)*hour+int64(i)*sec/5, hostAddr(9), hostAddr(10+k/4), []uint16{445, 3389, 5985, 22}[k%4], n*100+i, flow.SignalAccept)
		}
	}
	s.run(4 * hour)
	if n := len(s.fired()); n != 3 {
		t.Errorf("found %d times, want 3", n)
	}
}

// Where it is known who administers whom, one way into each host is enough,
// slowly too, and a chain needs less.
func TestLateralMovementWhereRolesAreKnown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		gap   int64
		chain bool
		most  int
	}{
		"at once":  {sec, false, 5},
		"slowly":   {300 * sec, false, 8},
		"in steps": {200 * sec, true, 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t)
			start := 30 * hour
			s.administer(start + hour)
			if c.chain {
				s.admit(start-60*sec, hostAddr(8), hostAddr(9), 22, 1, flow.SignalAccept)
			}
			for i := range 9 {
				s.admit(start+int64(i)*c.gap, hostAddr(9), hostAddr(10+i), 22, i, flow.SignalAccept)
			}
			s.run(start + hour)
			f := s.only(KindLateralMovement)
			if f.Host != hostAddr(9) {
				t.Errorf("%+v", f)
			}
			if n := (f.Time-t0-start)/c.gap + 1; n > int64(c.most) {
				t.Errorf("found at the %dth host", n)
			}
		})
	}
}

// A new network in which everything is new, and changes that every network
// sees. None may fire.
func TestBenignAdministration(t *testing.T) {
	t.Parallel()
	known := 30 * hour
	for name, play := range map[string]func(s *sim){
		"roles that stay": func(s *sim) { s.administer(60 * hour) },
		"configuration management from a cold start": func(s *sim) {
			for i := range 200 {
				s.admit(int64(i)*sec/4, hostAddr(9), hostAddr(20+i), 22, i, flow.SignalAccept)
			}
		},
		"Windows servers from a cold start": func(s *sim) {
			for i := range 60 {
				s.admit(int64(i)*sec, hostAddr(9), hostAddr(20+i), 135, i, flow.SignalAccept)
				s.admit(int64(i)*sec+ms, hostAddr(9), hostAddr(20+i), 445, i, flow.SignalAccept)
				s.admit(int64(i)*sec+2*ms, hostAddr(9), hostAddr(20+i), 139, i, flow.SignalAccept)
			}
		},
		"a jump host from a cold start": func(s *sim) {
			for i := range 30 {
				s.admit(int64(i)*60*sec, hostAddr(200+i%5), hostAddr(9), 22, i, flow.SignalAccept)
				s.admit(int64(i)*60*sec+10*sec, hostAddr(9), hostAddr(20+i%10), 22, i, flow.SignalAccept)
			}
		},
		"workstations that open shares": func(s *sim) {
			s.administer(known)
			for i := range 40 {
				for k := range 3 {
					s.admit(known+int64(i)*60*sec+int64(k)*sec, hostAddr(300+i), hostAddr(20+k), 445, i, flow.SignalAccept)
				}
			}
		},
		"new servers under administration": func(s *sim) {
			s.administer(known)
			for i := range 3 {
				for k := range 3 {
					s.admit(known+int64(i)*60*sec, hostAddr(100+k), hostAddr(500+i), 22, i, flow.SignalAccept)
				}
			}
		},
		"outside": func(s *sim) {
			s.administer(known)
			for i := range 50 {
				s.admit(known+int64(i)*sec, hostAddr(9), clientAddr(1<<15+i), 22, i, flow.SignalAccept)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, func(c *Config) {
				c.Limit.Edges = 1 << 12
				private := func(a netip.Addr) bool { return a.Is4() && a.As4()[0] == 10 }
				c.Inside = private
			})
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

// A scan of one host's ports tries every way into it, of which some may even
// be open, and is no movement.
func TestScanIsNoLateralMovement(t *testing.T) {
	for _, open := range []bool{false, true} {
		s := newSim(t)
		for i, port := range random(t).Perm(8000) {
			out := flow.SignalNone
			if open && port == 22 {
				out = flow.SignalAccept
			}
			s.admit(int64(i)*ms, hostAddr(9), hostAddr(10), uint16(port+1), i, out)
		}
		s.run(30 * sec)
		s.only(KindPortScan)
	}
}
