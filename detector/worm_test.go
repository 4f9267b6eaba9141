package detector

import (
	"math/rand/v2"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// look scripts a host that looks for a service in its subnet: it asks for an
// address and, where somebody answers, connects. Of the addresses 200 to 239 one
// in eight is alive.
func (s *sim) look(t int64, from, target int, port uint16) (alive bool) {
	q := flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPRequest, Rate: 1, Packets: 1, EtherType: flow.EtherARP,
		SrcMAC: macOf(hostAddr(from)), DstMAC: flow.MAC{255, 255, 255, 255, 255, 255}, InPort: uint32(from)}
	s.at(t, q)
	if alive = target%8 == 0; !alive {
		return false
	}
	s.at(t+ms/10, flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPReply, Rate: 1, Packets: 1, EtherType: flow.EtherARP,
		SrcMAC: macOf(hostAddr(target)), DstMAC: macOf(hostAddr(from)), InPort: uint32(target)})
	r := syn(hostAddr(from), hostAddr(target), port)
	r.InPort = uint32(from)
	a := answer(r, flow.SignalAccept)
	a.InPort = uint32(target)
	s.at(t+ms/5, r)
	s.at(t+ms/2, a)
	return true
}

func kindsOf(list []Finding) map[Kind][]Finding {
	out := map[Kind][]Finding{}
	for _, f := range list {
		out[f.Kind] = append(out[f.Kind], f)
	}
	return out
}

// A worm goes from host to host; each of them looks for the same service. All
// are named, and who was first.
func TestWormSpreads(t *testing.T) {
	s := newSim(t)
	taken := []int{199}
	rng := rand.New(rand.NewPCG(1, 9))
	for generation, from := 0, 0; generation < 3 && from < len(taken); generation, from = generation+1, from+1 {
		begin := int64(generation) * 3 * sec
		for i := range 60 {
			to := 200 + rng.IntN(40)
			if s.look(begin+int64(i)*20*ms, taken[from], to, 445) && len(taken) < 3 {
				taken = append(taken, to)
			}
		}
	}
	s.run(20 * sec)
	byKind := kindsOf(s.fired())
	named := map[string]Finding{}
	for _, f := range byKind[KindWorm] {
		named[f.Host.String()] = f
	}
	if len(byKind[KindARPSweep]) < 3 {
		t.Errorf("sweeps %+v", byKind[KindARPSweep])
	}
	for i, h := range taken {
		f, ok := named[hostAddr(h).String()]
		if !ok || f.DstPort != 445 || f.Technique != "T1210" || f.Family != FamilyGraph {
			t.Errorf("host %d: %+v", i, f)
		}
		if i > 0 && (f.Origin != hostAddr(199) || !f.Sequential || f.Severity != SeverityHigh) {
			t.Errorf("host %d: origin %v: %+v", i, f.Origin, f)
		}
	}
}

// A log has no address resolution: the sweep is found by contacts that fail.
func TestWormInLog(t *testing.T) {
	s := newSim(t)
	attempt := func(now int64, from, to int, accepted bool) {
		r := syn(hostAddr(from), hostAddr(to), 22)
		r.Source = flow.SourceLog
		s.at(now, r)
		out, d := flow.SignalSilence, sec
		if accepted {
			out, d = flow.SignalAccept, 10*ms
		}
		s.at(now+d, answer(r, out))
	}
	for i := range 40 {
		attempt(int64(i)*100*ms, 1, 100+i, i%10 == 9)
		attempt(30*sec+int64(i)*100*ms, 109, 200+i, i%10 == 9)
	}
	s.run(60 * sec)
	worms := kindsOf(s.fired())[KindWorm]
	if len(worms) != 2 || worms[0].Host != hostAddr(109) || worms[0].Origin != hostAddr(1) || worms[1].Host != hostAddr(1) {
		t.Errorf("worms %+v", worms)
	}
}

// A jump host, and who uses it, came before a host that was taken otherwise: they
// are told of, but not acted against.
func TestWormAccusesNobodyOnTheWay(t *testing.T) {
	s := newSim(t)
	for i := range 5 {
		s.probe(int64(i)*sec, hostAddr(9), hostAddr(50+i), 22, ms, flow.SignalAccept)  // the administrator
		s.probe(int64(i)*sec, hostAddr(50), hostAddr(60+i), 22, ms, flow.SignalAccept) // the jump host
	}
	for i := range 40 {
		s.probe(60*sec+int64(i)*ms, hostAddr(60), hostAddr(200+i), 22, ms/5, flow.SignalRefuse)
	}
	s.run(70 * sec)
	named := map[string]bool{}
	for _, f := range s.fired() {
		if f.Host != hostAddr(60) && f.MayContain() {
			t.Errorf("finding %+v", f)
		}
		if f.Kind == KindWorm {
			named[f.Host.String()] = true
		}
	}
	if len(named) != 3 {
		t.Errorf("named %v, want the host, the jump host and the administrator", named)
	}
}

// A sweep for a service that nobody contacted the sweeper at is no more than that.
func TestSweepIsNoWorm(t *testing.T) {
	s := newSim(t)
	for i := range 40 {
		s.look(int64(i)*20*ms, 199, 200+i, 8443)
	}
	s.run(20 * sec)
	if w := kindsOf(s.fired())[KindWorm]; len(w) != 0 {
		t.Errorf("worms %+v", w)
	}
}

// Hosts that are used for what they use at others: jump hosts, mail relays,
// domain controllers, peers.
func TestRelaysAreNoWorms(t *testing.T) {
	for _, port := range []uint16{22, 25, 445, 6881} {
		s, rng := newSim(t), random(t)
		for i := range 3000 {
			from, to := rng.IntN(40), rng.IntN(40)
			if from == to {
				continue
			}
			r := syn(hostAddr(from), hostAddr(to), port)
			r.SrcPort = uint16(30_000 + i)
			s.connection(int64(i)*50*ms, r, ms, 100*ms)
		}
		s.run(200 * sec)
		if w := kindsOf(s.fired())[KindWorm]; len(w) != 0 {
			t.Errorf("port %d: worms %+v", port, w)
		}
	}
}
