package detector

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// part is one packet of a TCP connection with its numbers.
type part struct {
	up       bool
	length   int // payload bytes
	flags    uint8
	seq, ack uint32
}

// connectionOf lays a TCP connection out: what the client sends, then what the
// server does, in segments of 1,448 bytes that are acknowledged each.
func connectionOf(up, down int) []part { return layout(up, -down) }

// layout lays a TCP connection out: bytes of the client are positive, those of
// the server negative.
func layout(turns ...int) []part {
	list := []part{{up: true, flags: flow.SYN}, {flags: flow.SYN | flow.ACK, ack: 1}, {up: true, flags: flow.ACK, seq: 1, ack: 1}}
	at := [2]uint32{1, 1}
	send := func(client bool, bytes int) {
		i := 0
		if !client {
			i = 1
		}
		for bytes > 0 {
			n := min(bytes, 1448)
			list = append(list, part{client, n, flow.ACK | flow.PSH, at[i], at[1-i]})
			at[i] += uint32(n)
			list = append(list, part{!client, 0, flow.ACK, at[1-i], at[i]})
			bytes -= n
		}
	}
	for _, n := range turns {
		send(n > 0, max(n, -n))
	}
	return append(list, part{true, 0, flow.FIN | flow.ACK, at[0], at[1]}, part{false, 0, flow.FIN | flow.ACK, at[1], at[0] + 1})
}

// wired plays a session as the tap and sFlow at a rate see it, over a time.
func (s *sim) wired(at int64, c *caller, list []part, over int64, rate int, rng *rand.Rand) {
	c.port0++
	base := [2]uint32{rng.Uint32(), rng.Uint32()}
	for i, g := range list {
		r := tcp(c.client, 40_000+c.port0%20_000, c.server, c.port, flow.SignalNone)
		r.TCPFlags, r.Bytes = g.flags, uint64(66+g.length)
		if !g.up {
			r.Src, r.Dst, r.SrcPort, r.DstPort = r.Dst, r.Src, r.DstPort, r.SrcPort
		}
		switch {
		case g.flags == flow.SYN:
			r.Signal = flow.SignalAttempt
		case g.flags == flow.SYN|flow.ACK:
			r.Signal = flow.SignalAccept
		case g.flags&flow.FIN != 0:
			r.Signal = flow.SignalFinish
		}
		now := at + int64(i)*over/int64(len(list))
		if r.Signal != flow.SignalNone {
			s.at(now, r)
		}
		if rng.IntN(rate) > 0 {
			continue
		}
		r.Source, r.Rate = flow.SourceSFlow, float64(rate)
		if rate == 1 {
			r.Source = flow.SourcePacket
		}
		i, j := 0, 1
		if !g.up {
			i, j = 1, 0
		}
		r.Seq, r.Ack = base[i]+g.seq, base[j]+g.ack
		if g.flags == flow.SYN {
			r.Ack = 0
		}
		s.at(now+1000, r)
	}
}

// Two samples of each connection tell which side sends more, long before the
// sizes of the samples do.
func TestExchangeBySequenceNumbers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		connection []part
		drip       bool
	}{ // the first two as TLS makes them
		"uploads":   {layout(1483, -1764, 64, 1208, 1025, -105, -24), true},
		"check-ins": {layout(1483, -1762, 64, 167, -205, -24), false},
		"fetches":   {layout(700, -40_000), false},
	} {
		drips := 0
		const runs = 100
		for seed := range uint64(runs) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newSim(t).warm()
			call := &caller{client: hostAddr(15), server: hostAddr(11), port: 443}
			for i := range int64(14) {
				s.wired(i*sec, call, c.connection, 5*ms, 10, rng)
			}
			s.quick(14 * sec)
			_, x := s.e.edges.table.Find(contactKeyOf(addressOf(call.client), addressOf(call.server), 443, flow.ProtoTCP))
			if x == nil {
				t.Fatal("no edge")
			}
			if v := x.exchanged(); v.known && v.ratio() >= dripRatio {
				drips++
			}
		}
		if c.drip && drips < runs*3/4 || !c.drip && drips > runs/10 {
			t.Errorf("%s: %d of %d runs look like uploads", name, drips, runs)
		}
	}
}

// What a stranger writes into sequence numbers counts for nothing beyond what
// a connection can carry.
func TestForgedSequenceNumbers(t *testing.T) {
	var p progress
	rng := random(t)
	for range 100_000 {
		p.follow(&flow.Record{SrcPort: 7, TCPFlags: flow.ACK, Seq: rng.Uint32(), Ack: rng.Uint32()}, true)
	}
	q := progress{}
	for i := range uint32(1000) { // 20 GB in one connection
		q.follow(&flow.Record{SrcPort: 7, TCPFlags: flow.ACK, Seq: i * 20_000_000, Ack: 5}, true)
	}
	q.fold()
	if got := float64(q.sums[0]); got < 19.9e9 || got > 20.1e9 || q.sums[1] != 0 {
		t.Errorf("20 GB become %v and %v", got, q.sums[1])
	}
}

func TestExfiltration(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.9")
	for name, c := range map[string]struct {
		caller
		mbytes int
		rate   int
	}{
		"to an odd port outside":     {caller{server: outside, port: 4443}, 8, 1},
		"the same, sampled":          {caller{server: outside, port: 4443}, 8, 10},
		"inside, to a new server":    {caller{server: hostAddr(11), port: 443}, 8, 10},
		"much, to a web site, 1:100": {caller{server: outside, port: 443}, 100, 100},
	} {
		t.Run(name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			s.crowd(60 * sec)
			c.client = hostAddr(15)
			s.wired(30*sec, &c.caller, connectionOf(c.mbytes<<20, 200), int64(c.mbytes)*sec, c.rate, rng)
			s.quick(200 * sec)
			f, ok := s.kinds(c.client)[KindExfiltration]
			if !ok || len(s.fired()) != 1 || f.DstPort != c.port || f.Victims[0] != c.server || f.Sequential {
				t.Fatalf("fired %+v", s.fired())
			}
			if f.Score < beaconFires || f.Confidence < 0.5 || f.Severity == SeverityHigh {
				t.Errorf("finding %+v", f)
			}
		})
	}
}

// Two kilobytes a second, each time on a new connection: regular, but what
// matters is that it uploads.
func TestExfiltrationDrip(t *testing.T) {
	for name, c := range map[string]struct {
		rate, calls int
		log         bool
	}{
		"every packet": {1, 10, false}, "sampled": {10, 40, false}, "a log": {1, 10, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			s.crowd(60 * sec)
			call := &caller{client: hostAddr(15), server: hostAddr(11), port: 443, source: flow.SourceLog, up: 4600, down: 2600}
			now := 30 * sec
			for range c.calls {
				if c.log {
					s.call(now, call, flow.SignalAccept)
				} else {
					s.wired(now, call, connectionOf(3800, 1900), 5*ms, c.rate, rng)
				}
				now += 995*ms + rng.Int64N(10*ms)
			}
			s.quick(now)
			f, ok := s.kinds(call.client)[KindExfiltration]
			if !ok || f.Technique != "T1030" {
				t.Fatalf("fired %+v", s.fired())
			}
			if len(f.Agrees) > 0 {
				t.Errorf("one rhythm is two votes: %+v", f.Agrees)
			}
		})
	}
}

func TestBenignUploads(t *testing.T) {
	t.Parallel()
	outside := netip.MustParseAddr("203.0.113.80")
	for name, c := range map[string]struct {
		caller
		clients  int
		up, down int // kB per session
		sessions int
		rate     int
	}{
		"backups in turn":         {caller{server: hostAddr(11), port: 873}, 4, 2048, 1, 20, 10},
		"a lone backup":           {caller{server: hostAddr(11), port: 22}, 1, 50_000, 1, 1, 10},
		"attachments":             {caller{server: outside, port: 443}, 1, 9_000, 30, 3, 1},
		"a call":                  {caller{server: outside, port: 443}, 1, 60_000, 50_000, 1, 10},
		"a measurement of speed":  {caller{server: outside, port: 8080}, 1, 60_000, 90_000, 1, 1},
		"all upload to one place": {caller{server: hostAddr(11), port: 8081}, 5, 20_000, 10, 1, 10},
		"a file server":           {caller{server: hostAddr(11), port: 445}, 1, 40_000, 10, 1, 10},
		"iperf":                   {caller{server: hostAddr(11), port: 5201}, 1, 60_000, 1, 1, 10},
		"a busy web server":       {caller{server: hostAddr(11), port: 80}, 5, 1, 9_000, 3, 10},
	} {
		t.Run(name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			s.crowd(60 * sec)
			for i := range c.clients {
				call := c.caller
				call.source = flow.SourceTap
				call.client = hostAddr(15 + i)
				s.call(int64(i)*100*ms, &call, flow.SignalAccept)
				for n := range c.sessions {
					s.wired(int64(n*c.clients+i)*20*sec+1, &call, connectionOf(c.up<<10, c.down<<10), 15*sec, c.rate, rng)
				}
			}
			s.quick(3600 * sec)
			for _, f := range s.fired() {
				if f.Kind == KindExfiltration || f.Kind == KindBeacon {
					t.Errorf("%s of %v: %.2f %+v", f.Kind, f.Host, f.Score, f.Evidence)
				}
			}
		})
	}
}
