package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// segment is a sampled TCP segment of an established connection.
func segment(src netip.Addr, sport uint16, dst netip.Addr, dport uint16, rate float64) flow.Record {
	r := tcp(src, sport, dst, dport, flow.SignalNone)
	r.Source, r.Rate, r.TCPFlags, r.OutPort = flow.SourceSFlow, rate, flow.ACK, 2
	if rate == 1 {
		r.Source = flow.SourcePacket
	}
	return r
}

// back is the other direction of a segment.
func back(r flow.Record) flow.Record {
	b := r
	b.Src, b.Dst, b.SrcPort, b.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
	b.SrcMAC, b.DstMAC = r.DstMAC, r.SrcMAC
	b.InPort, b.OutPort = r.OutPort, r.InPort
	return b
}

// resetOf is how a host refuses a segment of a connection it does not have.
func resetOf(r flow.Record) flow.Record {
	b := back(r)
	b.Signal, b.TCPFlags = flow.SignalRefuse, flow.RST
	return b
}

// sampled scripts a record with the probability that its rate says.
func (s *sim) sampled(rng *rand.Rand, t int64, r flow.Record) {
	if rng.Float64()*r.Rate < 1 {
		s.at(t, r)
	}
}

func TestACKFlood(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		rate    float64 // sampling
		spoofed bool
		resets  bool
		flags   uint8
		within  int64
	}{
		{"sFlow 1:10, reset", 10, false, true, flow.ACK, 60 * ms},
		{"sFlow 1:10, silent", 10, false, false, flow.ACK, 60 * ms},
		{"sFlow 1:10, forged", 10, true, true, flow.ACK, 60 * ms},
		{"sFlow 1:64, forged", 64, true, false, flow.ACK, 60 * ms},
		{"every packet", 1, false, true, flow.ACK | flow.PSH, 60 * ms},
		{"no flags", 1, true, false, 0, 60 * ms},
		{"FIN", 10, true, true, flow.FIN | flow.ACK, 60 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			s.conversation(rng, 0, sec/10, hostAddr(3), 5000, hostAddr(2), 80, 1, ms, 50)
			for i := range 20_000 {
				src := hostAddr(1)
				if c.spoofed {
					src = clientAddr(rng.IntN(1 << 20))
				}
				r := segment(src, uint16(1024+rng.IntN(60_000)), hostAddr(2), 80, c.rate)
				if r.TCPFlags = c.flags; c.flags&flow.FIN != 0 {
					r.Signal = flow.SignalFinish
				}
				s.sampled(rng, int64(i)*ms/100, r)
				if c.resets {
					a := resetOf(r)
					s.sampled(rng, int64(i)*ms/100+ms/20, a)
					if c.rate > 1 { // and each in the tap
						a.Source, a.Rate, a.OutPort = flow.SourceTap, 1, 0
						s.at(int64(i)*ms/100+ms/20, a)
					}
				}
			}
			s.run(sec)
			f := s.only(KindACKFlood)
			t.Logf("decided after %d us", (f.Time-t0)/1000)
			if d := f.Time - t0; d > c.within {
				t.Errorf("decided after %d us", d/1000)
			}
			if f.Spoofed != c.spoofed || f.Host.IsValid() == c.spoofed || f.InPort != 1 || f.DstPort != 80 ||
				f.Victims[0] != hostAddr(2) || f.Technique != "T1499.001" || !f.Sequential || f.Proto != flow.ProtoTCP {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

// Where what the victim sends is not seen, a flood of segments is one opinion.
func TestACKFloodOfSilentVictim(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 20_000 {
		s.sampled(rng, int64(i)*ms/100, segment(clientAddr(rng.IntN(1<<20)), 1234, hostAddr(2), 80, 10))
	}
	s.run(sec)
	if f := s.only(KindACKFlood); f.MayContain() || f.Severity != SeverityMedium {
		t.Errorf("finding %+v", f)
	}
}

// The same connection all the time: that it is refused and goes on tells it
// from a transfer of which one direction is seen.
func TestACKFloodOfOneConnection(t *testing.T) {
	for _, refused := range []bool{true, false} {
		s, rng := newSim(t).warm(), random(t)
		for i := range 200_000 {
			r := segment(hostAddr(1), 1234, hostAddr(2), 80, 10)
			s.sampled(rng, int64(i)*ms/100, r)
			if refused {
				s.sampled(rng, int64(i)*ms/100+ms/20, resetOf(r))
			}
		}
		s.run(3 * sec)
		if !refused {
			s.quiet()
		} else if f := s.only(KindACKFlood); f.Host != hostAddr(1) || f.Time-t0 > 1100*ms {
			t.Errorf("after %d ms: %+v", (f.Time-t0)/ms, f)
		}
	}
}

// Behind a port through which much honest traffic comes as well.
func TestACKFloodBesideHonestClients(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 100 { // downloads
		s.conversation(rng, 0, 3*sec, clientAddr(i), uint16(5000+i), hostAddr(2), 443, 10, 2*ms, 30)
	}
	for i := range 100_000 {
		s.sampled(rng, sec+int64(i)*ms/100, segment(clientAddr(1000+rng.IntN(1<<20)), uint16(rng.IntN(60_000)), hostAddr(2), 443, 10))
	}
	s.run(3 * sec)
	if f := s.only(KindACKFlood); !f.Spoofed || f.Time-t0-sec > 60*ms {
		t.Errorf("after %d ms: %+v", (f.Time-t0-sec)/ms, f)
	}
}

// conversation scripts an established connection from a moment on to another:
// every gap a segment of the client that is acknowledged, if answers is not 0,
// with so many per cent.
func (s *sim) conversation(rng *rand.Rand, from, to int64, src netip.Addr, sport uint16, dst netip.Addr, dport uint16, rate float64, gap int64, answers int) {
	r := segment(src, sport, dst, dport, rate)
	for now := from; now < to; now += gap/2 + rng.Int64N(gap) {
		s.sampled(rng, now, r)
		if rng.IntN(100) < answers {
			s.sampled(rng, now+ms/2, back(r))
		}
	}
}

// None of these is a flood of segments, whether or not their beginning was
// seen and whichever direction is.
func TestBenignEstablished(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		start   bool // the telemetry starts amid it
		count   int  // connections at once
		gap     int64
		answers int // per cent of the segments
		rate    float64
	}{
		{"8 bulk streams, acknowledged rarely", false, 8, ms / 10, 3, 10},
		{"8 bulk streams, one way", false, 8, ms / 10, 0, 10},
		{"100 bulk streams, one way, unsampled", false, 100, ms, 0, 1},
		{"restart amid 3,000 sessions", true, 3000, 100 * ms, 80, 10},
		{"restart amid 3,000 sessions, one way", true, 3000, 100 * ms, 0, 10},
		{"3,000 sessions wake up", false, 3000, 100 * ms, 80, 10},
		{"3,000 sessions wake up, 1:64", false, 3000, 20 * ms, 80, 64},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t), random(t)
			if !c.start {
				s.warm()
			}
			for i := range c.count {
				s.conversation(rng, rng.Int64N(c.gap), 8*sec*int64(min(c.gap, 10*ms))/(10*ms)+sec/2, clientAddr(i%500), uint16(2000+i), hostAddr(2), 443, c.rate, c.gap, c.answers)
			}
			s.run(10 * sec)
			s.quiet()
		})
	}
}

// Short connections, sampled, without a tap that shows them open.
func TestBenignShortConnectionsSampled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate   float64
		oneWay bool
	}{{1, false}, {10, false}, {64, false}, {10, true}, {1, true}} {
		s, rng := newSim(t).warm(), random(t)
		for i := range 3000 * 4 {
			at := int64(i) * sec / 3000
			r := segment(clientAddr(rng.IntN(2000)), uint16(rng.IntN(60_000)), hostAddr(2), 443, c.rate)
			open := r
			open.Signal, open.TCPFlags = flow.SignalAttempt, flow.SYN
			s.sampled(rng, at, open)
			accept := back(open)
			accept.Signal, accept.TCPFlags = flow.SignalAccept, flow.SYN|flow.ACK
			if !c.oneWay {
				s.sampled(rng, at+ms, accept)
			}
			for n := range int64(5) {
				s.sampled(rng, at+2*ms+n*ms, r)
				if !c.oneWay {
					s.sampled(rng, at+3*ms+n*ms, back(r))
				}
			}
			r.Signal, r.TCPFlags = flow.SignalFinish, flow.FIN|flow.ACK
			s.sampled(rng, at+8*ms, r)
			if !c.oneWay {
				s.sampled(rng, at+9*ms, back(r))
			}
		}
		s.run(6 * sec)
		s.quiet()
	}
}

// A server is restarted: every client's next segment is refused. Some
// downloads are aborted: what is on the way is refused as well.
func TestBenignServerRestart(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for i := range 3000 {
		s.conversation(rng, 0, 2*sec, clientAddr(i), 5000, hostAddr(2), 443, 10, 100*ms, 80)
		r := segment(clientAddr(i), 5000, hostAddr(2), 443, 10)
		at := 2*sec + rng.Int64N(100*ms)
		s.sampled(rng, at, r)
		a := resetOf(r)
		a.Source, a.Rate = flow.SourceTap, 1
		s.at(at+ms, a)
	}
	abort := segment(hostAddr(2), 443, clientAddr(1), 5000, 10)
	for i := range 3000 {
		s.sampled(rng, 3*sec+int64(i)*ms/100, abort)
		s.sampled(rng, 3*sec+int64(i)*ms/100+ms, resetOf(abort))
	}
	s.run(5 * sec)
	s.quiet()
}

// A scan among forged sources, and what a SYN flood is answered with, are no
// flood of segments towards whoever started them.
func TestResetsAreNoFlood(t *testing.T) {
	s := newSim(t).warm()
	for i := range 20_000 {
		r := segment(hostAddr(1), uint16(i), hostAddr(2), 81, 10)
		r.Signal, r.TCPFlags = flow.SignalAttempt, flow.SYN
		s.at(int64(i)*ms/100, resetOf(r))
	}
	s.run(sec)
	s.quiet()
}
