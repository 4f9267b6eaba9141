package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// asked is a question over UDP that enters at port 1, reply its answer from
// port 2.
func asked(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, source flow.Source, rate float64) flow.Record {
	r := udp(src, sport, dst, dport, rate)
	r.Source, r.Bytes = source, 70
	if source == flow.SourceSFlow {
		r.OutPort = 2
	}
	return r
}

func reply(r flow.Record, size uint64) flow.Record {
	b := back(r)
	b.InPort, b.Bytes = 2, size
	if r.Source == flow.SourceSFlow {
		b.OutPort = 1
	}
	return b
}

// speak lets a host be seen to send, at port 1.
func (s *sim) speak(h netip.Addr) {
	s.connection(0, syn(h, hostAddr(200), 443), ms, 5*ms)
}

func TestAmplification(t *testing.T) {
	for _, c := range []struct {
		name     string
		port     uint16
		rate     float64
		source   flow.Source
		forged   int // questions in the victim's name, per second
		answers  int // per second
		size     uint64
		within   int64
		proven   bool
		contains bool
	}{
		{"DNS, sFlow", 53, 10, flow.SourceSFlow, 2000, 2000, 1300, 250 * ms, true, true},
		{"NTP, sFlow", 123, 10, flow.SourceSFlow, 500, 5000, 480, 250 * ms, true, true},
		{"DNS, tap 1 %", 53, 100, flow.SourceTap, 2000, 2000, 1300, 2500 * ms, true, true},
		{"memcached, answers alone", 11211, 10, flow.SourceSFlow, 0, 20_000, 1400, 300 * ms, true, true},
		{"DNS, answers alone, every packet", 53, 1, flow.SourcePacket, 0, 2000, 1300, 300 * ms, true, true},
		{"victim not in view", 389, 10, flow.SourceSFlow, 0, 50_000, 1400, 100 * ms, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			if c.proven {
				s.speak(hostAddr(1))
			}
			for i := range c.forged * 3 {
				q := asked(hostAddr(1), 6666, hostAddr(50+i%4), c.port, c.source, c.rate)
				q.InPort, q.SrcMAC = 7, macOf(hostAddr(7))
				s.sampled(rng, sec+int64(i)*sec/int64(c.forged), q)
			}
			for i := range c.answers * 3 {
				s.sampled(rng, sec+int64(i)*sec/int64(c.answers)+ms/2, reply(asked(hostAddr(1), 6666, hostAddr(50+i%4), c.port, c.source, c.rate), c.size))
			}
			s.run(5 * sec)
			f := s.first(KindAmplification)
			if c.contains {
				s.only(KindAmplification)
			}
			t.Logf("decided after %d ms", (f.Time-t0-sec)/ms)
			if d := f.Time - t0 - sec; d > c.within {
				t.Errorf("decided after %d ms", d/ms)
			}
			if f.Host.IsValid() || !f.Spoofed || f.Victims[0] != hostAddr(1) || f.MayContain() != c.contains {
				t.Errorf("finding %+v", f)
			}
			if want := uint32(7); c.forged > 0 && (f.InPort != want || f.HostMAC != macOf(hostAddr(7))) {
				t.Errorf("enters at %d by %v, want %d", f.InPort, f.HostMAC, want)
			}
		})
	}
}

// first returns the first finding of a kind that fired.
func (s *sim) first(kind Kind) Finding {
	s.t.Helper()
	for _, f := range s.fired() {
		if f.Kind == kind {
			return f
		}
	}
	s.t.Fatalf("no %s fired", kind)
	return Finding{}
}

// The forged questions alone: the reflectors answer elsewhere.
func TestForgedQuestions(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	s.speak(hostAddr(1))
	s.client(rng, 0, 6*sec, 20, hostAddr(1), hostAddr(53), 53, 10, 1, 400) // it has questions of its own
	for i := range 5000 {
		q := asked(hostAddr(1), 6666, hostAddr(50), 53, flow.SourceSFlow, 10)
		q.InPort, q.SrcMAC = 7, macOf(hostAddr(7))
		s.sampled(rng, sec+int64(i)*ms, q)
	}
	s.run(7 * sec)
	if f := s.only(KindAmplification); f.InPort != 7 {
		t.Errorf("finding %+v", f)
	}
}

// Seen on two switches with a router in between, the questions are forged where
// the forger is, not where the router passes them on.
func TestForgedQuestionsPassedOn(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 1))
		passedOn(newSim(t).warm(), rng, 123, 10) // many answers to a question
		passedOn(newSim(t).warm(), rng, 53, 1)
	}
}

func passedOn(s *sim, rng *rand.Rand, port uint16, answers int64) {
	router, reflector := stationAt(20), hostAddr(50)
	s.speak(hostAddr(1)) // at port 1
	for i := range 2000 {
		at := sec + int64(i)*ms/2
		q := asked(hostAddr(1), 6666, reflector, port, flow.SourceSFlow, 10)
		q.InPort, q.SrcMAC = 7, macOf(hostAddr(7))
		s.sampled(rng, at, q)
		q.InPort, q.SrcMAC, q.OutPort = router.port, router.mac, 50
		s.sampled(rng, at, q) // on the reflector's side of the router
		for n := range answers {
			b := back(q)
			b.Bytes, b.InPort, b.OutPort, b.SrcMAC, b.DstMAC = 480, 50, router.port, macOf(reflector), router.mac
			s.sampled(rng, at+ms+n*ms/100, b)
			b.InPort, b.OutPort, b.SrcMAC, b.DstMAC = 21, 1, router.mac, macOf(hostAddr(1))
			s.sampled(rng, at+ms+n*ms/100, b)
		}
	}
	s.run(3 * sec)
	if f := s.only(KindAmplification); f.InPort != 7 || f.HostMAC != macOf(hostAddr(7)) {
		s.t.Errorf("enters at %d by %v", f.InPort, f.HostMAC)
	}
}

// client scripts questions and their answers, so many per second and question.
func (s *sim) client(rng *rand.Rand, from, to, perSecond int64, src, dst netip.Addr, port uint16, rate float64, answers int, size uint64) {
	for now := from; now < to; now += sec/perSecond/2 + rng.Int64N(sec/perSecond) {
		q := asked(src, uint16(1024+rng.IntN(60_000)), dst, port, flow.SourceSFlow, rate)
		s.sampled(rng, now, q)
		for n := range int64(answers) {
			s.sampled(rng, now+ms+n*ms/10, reply(q, size))
		}
	}
}

// Whoever asks may be answered, however much and however large.
func TestBenignAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		port      uint16
		rate      float64
		answers   int
		perSecond int64
	}{
		{"recursion, unsampled", 53, 1, 1, 5000},
		{"recursion, 1:10", 53, 10, 1, 20_000},
		{"recursion, 1:64", 53, 64, 1, 20_000},
		{"recursion, 1:100, some sent twice", 53, 100, 2, 10_000},
		{"SNMP bulk", 161, 10, 1, 3000},
		{"memcached values", 11211, 10, 30, 1000},
		{"QUIC, acknowledged rarely", 443, 10, 20, 2000},
		{"QUIC, 1:100", 443, 100, 20, 4000},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			s.speak(hostAddr(1))
			s.client(rng, sec, 5*sec, c.perSecond, hostAddr(1), hostAddr(53), c.port, c.rate, c.answers, 1200)
			s.run(7 * sec)
			for _, f := range s.fired() {
				if f.Kind == KindAmplification {
					t.Errorf("false alarm: %v, %v", f.Victims, f.Evidence)
				}
			}
		})
	}
}

// A host moves to another port and asks on: its questions are its own.
func TestBenignMovedClient(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	s.speak(hostAddr(1))
	s.client(rng, 0, 2*sec, 2000, hostAddr(1), hostAddr(53), 53, 10, 1, 600)
	for now := 2 * sec; now < 5*sec; now += sec / 2000 {
		q := asked(hostAddr(1), uint16(rng.IntN(60_000)), hostAddr(53), 53, flow.SourceSFlow, 10)
		q.InPort = 9
		s.sampled(rng, now, q)
		a := reply(q, 600)
		a.OutPort = 9
		s.sampled(rng, now+ms, a)
	}
	s.run(6 * sec)
	s.quiet()
}

// A resolver and a time server answer strangers by the thousand.
func TestBenignServersOfStrangers(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 40_000 {
		at := int64(i) * ms / 10
		s.sampled(rng, at, asked(clientAddr(rng.IntN(3000)), uint16(1024+rng.IntN(60_000)), hostAddr(2), 53, flow.SourceSFlow, 10))
		s.sampled(rng, at, reply(asked(clientAddr(rng.IntN(3000)), 5000, hostAddr(2), 53, flow.SourceSFlow, 10), 900))
		// Old clients ask from port 123, and not each is answered.
		if i%3 != 0 {
			continue
		}
		s.sampled(rng, at, asked(clientAddr(rng.IntN(3000)), 123, hostAddr(3), 123, flow.SourceSFlow, 10))
	}
	s.run(6 * sec)
	s.quiet()
}

// What services that amplify send to a victim by the hundred thousand is no
// flood by one of them: it was made to.
func TestReflectorsAreNotBlamed(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	s.speak(hostAddr(1))
	for i := range 100_000 {
		s.sampled(rng, sec+int64(i)*ms/100, reply(asked(hostAddr(1), 6666, hostAddr(50), 123, flow.SourceSFlow, 10), 480))
	}
	s.run(3 * sec)
	if f := s.only(KindAmplification); f.Host.IsValid() {
		t.Errorf("finding %+v", f)
	}
}

// A log tells the question, with all packets of a download, before its answer.
func TestBenignDownloadsInLogs(t *testing.T) {
	s := newSim(t).warm()
	for i := range 200 {
		r := logged(udp(hostAddr(1), uint16(2000+i), clientAddr(1), 443, 1), 900, 30*sec)
		r.Signal = flow.SignalAttempt
		s.at(int64(i)*10*sec, r)
		a := logged(back(r), 40_000, 30*sec)
		a.Signal, a.Bytes = flow.SignalAccept, 40_000*1300
		s.at(int64(i)*10*sec+ms, a)
	}
	s.run(2100 * sec)
	s.quiet()
}

func BenchmarkAmplification(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			batch[i] = reply(asked(hostAddr((from+i)%500), 6666, hostAddr(2000+i%4), 53, flow.SourceSFlow, 10), 1200)
		}
	})
}

func BenchmarkAnswered(b *testing.B) {
	benchmark(b, func(batch []flow.Record, from int, _ int64) {
		for i := range batch {
			q := asked(hostAddr((from+i)/2%500), 6666, hostAddr(2000), 53, flow.SourceSFlow, 10)
			if batch[i] = q; (from+i)%2 == 1 {
				batch[i] = reply(q, 1200)
			}
		}
	})
}
