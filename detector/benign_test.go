package detector

import (
	"math/rand/v2"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Each test is a pattern of real networks that looks like an attack to a
// simpler detector. None may fire.

func random(t testing.TB) *rand.Rand {
	t.Helper()
	return rand.New(rand.NewPCG(1, 2))
}

// connection scripts a whole TCP connection, answered after rtt and closed by
// the client after d.
func (s *sim) connection(t int64, r flow.Record, rtt, d int64) {
	s.at(t, r)
	s.at(t+rtt, answer(r, flow.SignalAccept))
	r.Signal = flow.SignalFinish
	s.at(t+d, r)
}

func TestBenignBusyWebServer(t *testing.T) {
	t.Parallel()
	for _, warm := range []bool{false, true} {
		s, rng := newSim(t), random(t)
		if warm {
			s.warm()
		}
		for i := range 5000 * 5 {
			r := syn(clientAddr(rng.IntN(8)), hostAddr(2), 443)
			r.SrcPort = uint16(rng.IntN(60000))
			s.connection(int64(i)*sec/5000, r, ms, 5*ms+rng.Int64N(20*ms))
		}
		s.run(10 * sec)
		s.quiet()
	}
}

func TestBenignFlashCrowd(t *testing.T) {
	t.Parallel()
	rng := random(t)
	s := newSim(t, func(c *Config) { c.Limit.Hosts, c.Limit.Contacts = 1<<16, 1<<16 }).warm()
	client := 0
	for now := int64(0); now < 10*sec; {
		rate := 100 + 3000*min(now, 5*sec)/(5*sec) // new clients per second
		now += sec / rate
		client++
		for range 2 {
			r := syn(clientAddr(client), hostAddr(2), 443)
			r.SrcPort = uint16(rng.IntN(60000))
			s.connection(now, r, 20*ms, 50*ms+rng.Int64N(150*ms))
		}
	}
	s.run(12 * sec)
	s.quiet()
}

func TestBenignResolver(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 20_000 * 10 {
		now := int64(i) * sec / 20_000
		q := udp(clientAddr(rng.IntN(500)), uint16(1024+rng.IntN(60000)), hostAddr(53), 53, 100)
		if rng.IntN(100) == 0 { // the tap samples 1 %
			s.at(now, q)
		}
		if rng.IntN(100) == 0 {
			a := answer(q, flow.SignalUDP)
			a.Rate = 100
			s.at(now+ms, a)
		}
	}
	s.run(11 * sec)
	s.quiet()
}

// Bulk transfers whose receiver acknowledges every few packets, both sampled at
// 1 %: by chance no acknowledgement is sampled for quite a while.
func TestBenignQUICDownload(t *testing.T) {
	t.Parallel()
	for _, every := range []int{1, 2, 4} {
		for seed := range uint64(4) {
			s, rng := newSim(t), rand.New(rand.NewPCG(seed, 7))
			for now := int64(0); now < 10*sec; {
				rate := 1000 + 80_000*min(now, sec)/sec // slow start
				now += sec / rate
				r := udp(clientAddr(1), 443, hostAddr(2), 50_000, 100)
				if rng.IntN(100) == 0 {
					s.at(now, r)
				}
				if rng.IntN(100*every) == 0 {
					a := answer(r, flow.SignalUDP)
					a.Rate = 100
					s.at(now, a)
				}
			}
			s.run(11 * sec)
			s.quiet()
		}
	}
}

// A monitor asks every host, a fifth of which is dead, all at once, in every
// round, and starts with a whole rack that is off.
func TestBenignPollerParallel(t *testing.T) {
	for _, hosts := range []int{100, 400} {
		s, rng := newSim(t), random(t)
		for round := range 5 {
			for i := range hosts {
				out := flow.SignalAccept
				if i < 10 || i%5 == 0 {
					out = flow.SignalNone
				}
				s.probe(int64(round)*60*sec+rng.Int64N(20*ms), hostAddr(9), hostAddr(1000+i), 161, ms, out)
			}
		}
		s.run(400 * sec)
		s.quiet()
	}
}

func TestBenignPollerSequential(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 400 {
		out := flow.SignalAccept
		if rng.IntN(5) == 0 {
			out = flow.SignalNone
		}
		s.probe(int64(i)*100*ms, hostAddr(9), hostAddr(1000+i), 161, ms, out)
	}
	s.run(60 * sec)
	s.quiet()
}

func TestBenignPollerARP(t *testing.T) {
	s := newSim(t)
	ask := func(now int64, target int, alive bool) {
		q := flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPRequest, Rate: 1, Packets: 1,
			EtherType: flow.EtherARP, SrcMAC: macOf(hostAddr(9)), DstMAC: flow.MAC{255, 255, 255, 255, 255, 255}, InPort: 1}
		if alive {
			s.at(now, q)
			s.at(now+ms/2, flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPReply, Rate: 1, Packets: 1,
				EtherType: flow.EtherARP, SrcMAC: macOf(hostAddr(target)), DstMAC: macOf(hostAddr(9)), InPort: 2})
			return
		}
		for retry := range int64(3) {
			s.at(now+retry*sec, q)
		}
	}
	for round := range int64(10) {
		for i := range 100 {
			if i%5 == 0 {
				ask(round*60*sec+int64(i)*ms/10, 1000+i, false)
			} else if round == 0 {
				ask(int64(i)*ms/10, 1000+i, true) // cached from then on
			}
		}
	}
	s.run(700 * sec)
	s.quiet()
}

func TestBenignGatewayRetriesARP(t *testing.T) {
	s := newSim(t)
	for i := range int64(600) {
		s.at(i*sec/2, flow.Record{Source: flow.SourceTap, Signal: flow.SignalARPRequest, Rate: 1, Packets: 1,
			EtherType: flow.EtherARP, SrcMAC: macOf(hostAddr(1)), DstMAC: flow.MAC{255, 255, 255, 255, 255, 255}, InPort: 1})
	}
	s.run(310 * sec)
	s.quiet()
}

func TestBenignBackup(t *testing.T) {
	t.Parallel()
	s, rng := newSim(t), random(t)
	r := syn(hostAddr(1), hostAddr(2), 22)
	s.connection(0, r, ms, 9*sec)
	for i := range 100_000 { // 1 Gbit/s for ten seconds, sFlow 1:10
		r.Source, r.Signal, r.Rate, r.TCPFlags = flow.SourceSFlow, flow.SignalNone, 10, flow.ACK
		s.at(ms+int64(i)*sec/10_000+rng.Int64N(ms/10), r)
	}
	s.run(20 * sec)
	s.quiet()
}

func TestBenignDeadService(t *testing.T) {
	for _, out := range []flow.Signal{flow.SignalNone, flow.SignalRefuse} {
		s := newSim(t)
		for i := range 5000 {
			r := syn(hostAddr(1), hostAddr(2), 5432)
			r.SrcPort = uint16(20_000 + i)
			s.at(int64(i)*100*ms, r)
			if out != flow.SignalNone {
				s.at(int64(i)*100*ms+ms, answer(r, out))
			}
		}
		s.run(600 * sec)
		s.quiet()
	}
}

// A client whose three configured servers are all gone.
func TestBenignDeadServerList(t *testing.T) {
	s := newSim(t)
	for i := range 300 {
		s.probe(int64(i)*sec, hostAddr(1), hostAddr(10+i%3), 389, 0, flow.SignalNone)
	}
	s.run(310 * sec)
	s.quiet()
}

func TestBenignPeerToPeer(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 4000 {
		out := flow.SignalNone
		if rng.IntN(100) < 35 { // two peers in three are gone
			out = flow.SignalAccept
		}
		s.probe(int64(i)*50*ms, hostAddr(1), clientAddr(rng.IntN(1<<20)), uint16(1024+rng.IntN(64000)), 80*ms, out)
	}
	s.run(300 * sec)
	s.quiet()
}

// A crawler far from its targets opens 200 connections at once, from cold.
func TestBenignCrawler(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 2000 {
		out := flow.SignalAccept
		if rng.IntN(5) == 0 {
			out = flow.SignalNone
		}
		s.probe(int64(i/200)*2*sec+rng.Int64N(5*ms), hostAddr(1), clientAddr(i), 443, 100*ms+rng.Int64N(200*ms), out)
	}
	s.run(30 * sec)
	s.quiet()
}

// Answers that come after the timeout take the failure back.
func TestBenignSlowAnswers(t *testing.T) {
	s := newSim(t)
	for i := range 50 {
		s.probe(int64(i)*sec, hostAddr(1), clientAddr(i), 443, 700*ms, flow.SignalAccept)
	}
	s.run(60 * sec)
	s.quiet()
	if s.e.Stats().Late != 50 {
		t.Errorf("%d late answers, want 50", s.e.Stats().Late)
	}
}

func TestBenignBackscatter(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 5000 { // a stranger answers what somebody forged
		out := flow.SignalRefuse
		if i%2 == 0 {
			out = flow.SignalAccept
		}
		s.at(int64(i)*ms, tcp(clientAddr(1), 80, hostAddr(rng.IntN(200)), uint16(rng.IntN(60000)), out))
	}
	s.run(10 * sec)
	s.quiet()
}

func TestBenignAnnouncements(t *testing.T) {
	s := newSim(t)
	for i := range 2000 {
		for j, dst := range []string{"224.0.0.251", "239.255.255.250", "255.255.255.255", "10.0.0.255", "ff02::fb"} {
			r := udp(hostAddr(1), uint16(1024+i), hostAddr(2), uint16(1900+j), 1)
			r.Source, r.Dst = flow.SourcePacket, mustAddr(dst)
			s.at(int64(i)*10*ms, r)
		}
	}
	s.run(30 * sec)
	s.quiet()
}

func TestBenignTraceroute(t *testing.T) {
	s := newSim(t)
	for i := range 90 {
		r := udp(hostAddr(1), 50_000, clientAddr(1), uint16(33434+i), 1)
		r.Source = flow.SourcePacket
		s.at(int64(i)*5*ms, r)
	}
	s.run(10 * sec)
	s.quiet()
}

// A device answers discovery queries, sent to a group from ever new ports.
func TestBenignDiscoveryReplies(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		r := udp(hostAddr(1), 1900, hostAddr(2), uint16(50_000+i), 1)
		r.Source = flow.SourcePacket
		s.at(int64(i)*10*sec, r)
	}
	s.run(2100 * sec)
	s.quiet()
}

// A resolver in a capture that begins in the middle: its answers to unseen
// queries, some to ports that are closed by now, are no contacts of its own.
func TestBenignLateResolver(t *testing.T) {
	s := newSim(t)
	for i := range 500 {
		r := udp(hostAddr(53), 53, clientAddr(i), uint16(1024+i), 1)
		r.Source = flow.SourcePacket
		s.at(int64(i)*10*ms, r)
		u := flow.Record{Source: flow.SourcePacket, Signal: flow.SignalUnreachable, Rate: 1, Packets: 1,
			Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: clientAddr(i), Dst: hostAddr(53),
			Inner: flow.Tuple{Src: hostAddr(53), Dst: clientAddr(i), SrcPort: 53, DstPort: uint16(1024 + i), Proto: flow.ProtoUDP}}
		s.at(int64(i)*10*ms+ms, u)
	}
	s.run(10 * sec)
	s.quiet()
}

// Sampled attempts and answers prove nothing about each other.
func TestBenignSampled(t *testing.T) {
	s, rng := newSim(t), random(t)
	for i := range 20_000 {
		r := syn(hostAddr(i%20), clientAddr(rng.IntN(3000)), 443)
		r.Source, r.Rate = flow.SourceSFlow, 10
		if rng.IntN(10) == 0 {
			s.at(int64(i)*10*ms, r)
		}
		if rng.IntN(10) == 0 {
			a := answer(r, flow.SignalAccept)
			a.Rate = 10
			s.at(int64(i)*10*ms+ms, a)
		}
	}
	s.run(210 * sec)
	s.quiet()
	if s.e.Stats().Abstained == 0 {
		t.Error("no abstention was counted")
	}
}

// Only one direction passes the tap: no answer is ever seen, but connections
// are seen to end. Short ones end before the timeout.
func TestBenignOneDirection(t *testing.T) {
	s := newSim(t)
	for i := range 200 {
		r := syn(hostAddr(1), clientAddr(i), 443)
		s.at(int64(i)*100*ms, r)
		r.Signal = flow.SignalFinish
		s.at(int64(i)*100*ms+50*ms, r)
	}
	s.run(30 * sec)
	s.quiet()
}

func TestBenignPing(t *testing.T) {
	s := newSim(t)
	for i := range 1500 * 5 {
		r := udp(hostAddr(1), 0, hostAddr(2), 0, 1)
		r.Proto, r.Signal, r.ICMPType = flow.ProtoICMP, flow.SignalICMP, 8
		s.at(int64(i)*sec/1500, r)
		a := answer(r, flow.SignalICMP)
		a.Proto, a.Source = flow.ProtoICMP, r.Source
		s.at(int64(i)*sec/1500+ms/2, a)
	}
	s.run(10 * sec)
	s.quiet()
}

// A resolver that answers after its client gave up: the answers meet closed
// ports, which the tap shows in full, while of the questions it samples few.
func TestBenignResolverAnswersTooLate(t *testing.T) {
	for seed := range uint64(10) {
		s, rng := newSim(t), rand.New(rand.NewPCG(seed, 3))
		const rate = 33
		for i := range 4000 {
			now := int64(i) * 100 * ms
			q := udp(hostAddr(1), uint16(32768+rng.IntN(28000)), hostAddr(53), 53, rate)
			a := answer(q, flow.SignalUDP)
			a.Rate = rate
			if rng.IntN(rate) == 0 {
				s.at(now, q)
			}
			if rng.IntN(rate) == 0 {
				s.at(now+50*ms, a)
			}
			if rng.IntN(4) == 0 {
				s.at(now+51*ms, flow.Record{Source: flow.SourceTap, Signal: flow.SignalUnreachable, Rate: 1, Packets: 1, InPort: 1,
					Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: q.Src, Dst: q.Dst, SrcMAC: q.SrcMAC, DstMAC: q.DstMAC})
			}
		}
		s.run(410 * sec)
		s.quiet()
	}
}
