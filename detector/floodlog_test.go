package detector

import (
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// logged is the originator's direction of a connection in a log.
func logged(r flow.Record, packets uint64, lasted int64) flow.Record {
	r.Source, r.InPort, r.SrcMAC, r.DstMAC = flow.SourceLog, 0, flow.MAC{}, flow.MAC{}
	r.Packets, r.Bytes, r.Duration = packets, packets*100, lasted
	return r
}

// Floods as logs tell them: each connection once, by its beginning.
func TestFloodsInLogs(t *testing.T) {
	syn := func(i int) flow.Record {
		r := logged(syn(clientAddr(i*7919), hostAddr(2), 80), 1, 0)
		r.TCPFlags = flow.SYN
		return r
	}
	for _, c := range []struct {
		name string
		kind Kind
		gap  int64
		n    int
		make func(i int) flow.Record
		host bool
	}{
		{"attempts from many", KindSYNFlood, ms, 5000, syn, false},
		{"attempts of one connection", KindSYNFlood, sec, 5, func(int) flow.Record {
			r := logged(tcp(hostAddr(1), 1234, hostAddr(2), 80, flow.SignalAttempt), 50_000, sec)
			r.TCPFlags = flow.SYN
			return r
		}, true},
		{"datagrams in few long conversations", KindUDPFlood, sec, 5, func(i int) flow.Record {
			r := logged(udp(hostAddr(1), uint16(5000+i), hostAddr(2), 9, 1), 400_000, 10*sec)
			r.Signal = flow.SignalAttempt
			return r
		}, true},
		{"datagrams in short conversations", KindUDPFlood, ms / 20, 40_000, func(i int) flow.Record {
			r := logged(udp(hostAddr(1), uint16(i), hostAddr(2), 9, 1), 1, 0)
			r.Signal = flow.SignalAttempt
			return r
		}, true},
		{"one ping of a flood", KindICMPFlood, sec, 3, func(int) flow.Record {
			r := logged(udp(hostAddr(1), 0, hostAddr(2), 0, 1), 100_000, 5*sec)
			r.Proto, r.Signal, r.ICMPType = flow.ProtoICMP, flow.SignalICMP, 8
			return r
		}, true},
		{"segments of no connection", KindACKFlood, ms / 10, 20_000, func(i int) flow.Record {
			r := logged(tcp(hostAddr(1), uint16(i), hostAddr(2), 80, flow.SignalNone), 1, 0)
			r.TCPFlags = flow.ACK
			return r
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t).warm()
			for i := range c.n {
				s.at(int64(i)*c.gap, c.make(i))
			}
			s.run(int64(c.n)*c.gap + 5*sec)
			if f := s.only(c.kind); f.Host.IsValid() != c.host || f.Victims[0] != hostAddr(2) {
				t.Errorf("host %v, victims %v", f.Host, f.Victims)
			}
		})
	}
}

// A stream that somebody listens to is one opinion, one that is refused a
// flood.
func TestOneWayStream(t *testing.T) {
	for _, refused := range []bool{false, true} {
		s, rng := newSim(t).warm(), random(t)
		for i := range 20_000 {
			r := udp(hostAddr(1), 5000, hostAddr(2), 2055, 10)
			r.Source, r.OutPort = flow.SourceSFlow, 2
			s.sampled(rng, int64(i)*ms/20, r)
		}
		if refused {
			s.at(10*ms, flow.Record{Source: flow.SourceTap, Signal: flow.SignalUnreachable, Rate: 1, Packets: 1, InPort: 2,
				Proto: flow.ProtoICMP, ICMPType: 3, ICMPCode: 3, Src: hostAddr(2), Dst: hostAddr(1)})
		}
		s.run(sec)
		if f := s.only(KindUDPFlood); f.MayContain() != refused || (f.Severity == SeverityMedium) == refused {
			t.Errorf("refused %v: %v, %v", refused, f.Severity, f.Sequential)
		}
	}
}

// A tool that fetches pages as fast as it can, from one host, in a log of web
// traffic; a proxy that always did as much is no such tool, nor are many
// clients that come at once.
// Ten machines under one command: none has most of the connections, each makes
// more than all used to.
func TestServiceExhaustionTogether(t *testing.T) {
	t.Parallel()
	const rate, clients = 50, 10 // connections per second of each
	s, rng := newSim(t), random(t)
	for at := int64(0); at < 1200*sec; at += int64(rng.ExpFloat64() * float64(sec) / 2) {
		s.probe(at, clientAddr(1000+rng.IntN(100)), hostAddr(2), 80, ms, flow.SignalAccept)
	}
	for i := range rate * clients * 40 {
		s.probe(1200*sec+int64(i)*sec/(rate*clients), clientAddr(1+i%clients), hostAddr(2), 80, ms, flow.SignalAccept)
	}
	s.run(1241 * sec)
	found := map[netip.Addr]bool{}
	for _, f := range s.fired() {
		if f.Kind != KindSYNFlood || f.MayContain() || f.Severity != SeverityMedium || f.Victims[0] != hostAddr(2) || f.Time-t0 > 1235*sec {
			t.Errorf("%s of %v against %v, %s", f.Kind, f.Host, f.Victims, f.Severity)
		}
		found[f.Host] = true
	}
	if len(found) != clients {
		t.Errorf("%d of %d found", len(found), clients)
	}
}

func TestServiceExhaustion(t *testing.T) {
	t.Parallel()
	visit := func(s *sim, at int64, src, n int) {
		r := logged(tcp(clientAddr(src), uint16(1024+n%60_000), hostAddr(2), 80, flow.SignalAttempt), 8, 300*ms)
		r.TCPFlags = flow.SYN | flow.ACK | flow.FIN
		s.at(at, r)
		a := back(r)
		a.Signal = flow.SignalAccept
		s.at(at+50*ms, a)
	}
	for _, c := range []struct {
		name           string
		before, during int // connections per second
		clients        int
		found          bool
	}{
		{"one client", 2, 150, 1, true},
		{"a proxy as ever", 120, 150, 1, false},
		{"a crowd", 2, 150, 40, false},
		{"little", 2, 15, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, rng := newSim(t), random(t)
			n := 0
			// People come at random: a client that kept a rhythm would be missed.
			for at := int64(0); at < 2400*sec; at += int64(rng.ExpFloat64() * float64(sec) / float64(c.before)) {
				n++
				visit(s, at, 1000+n%3*min(c.clients-1, 1), n) // others, or the proxy alone
			}
			for i := range c.during * 30 {
				n++
				who := 1 + i%c.clients
				if c.before > 100 {
					who = 1000
				}
				visit(s, 2400*sec+int64(i)*sec/int64(c.during), who, n)
			}
			s.run(2500 * sec)
			if !c.found {
				s.quiet()
				return
			}
			f := s.only(KindSYNFlood)
			if f.Host != clientAddr(1) || f.MayContain() || f.Severity != SeverityMedium || f.Technique != "T1499.002" || f.Time-t0 > 2410*sec {
				t.Errorf("after %d s: %v, %v, %v", (f.Time-t0)/sec-2400, f.Host, f.Severity, f.Technique)
			}
		})
	}
}
