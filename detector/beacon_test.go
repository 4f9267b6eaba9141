package detector

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// intervals draws n of a distribution.
func intervals(n int, draw func() float64) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = draw()
	}
	return list
}

func TestRegularIntervals(t *testing.T) {
	rng := random(t)
	for name, c := range map[string]struct {
		gaps int
		draw func() float64
	}{
		"a timer":                   {fewestCheckIns, func() float64 { return 60 }},
		"20 % jitter":               {8, func() float64 { return 0.8 + 0.4*rng.Float64() }},
		"30 % jitter, hours":        {12, func() float64 { return 3600 * (0.7 + 0.6*rng.Float64()) }},
		"40 % jitter below a sleep": {14, func() float64 { return 300 * (0.6 + 0.4*rng.Float64()) }},
		"50 % jitter":               {rhythmGaps, func() float64 { return 30 * (0.5 + rng.Float64()) }},
	} {
		found := 0
		for range 100 {
			if g := regularityOf(intervals(c.gaps, c.draw)); g.evidence >= needed(g) {
				found++
			}
		}
		if found < 80 {
			t.Errorf("%s: %d of 100 found with %d intervals", name, found, c.gaps)
		}
	}
	// Two that got lost, and a night in which the host slept.
	gaps := intervals(rhythmGaps, func() float64 { return 60 * (0.9 + 0.2*rng.Float64()) })
	gaps[3], gaps[9] = 120, 30_000
	if g := regularityOf(gaps); g.evidence < rhythmDecides || g.period < 54 || g.period > 66 || g.jitter > 0.11 {
		t.Errorf("with strays: %+v", g)
	}
}

// Chance is not a rhythm, nor are people.
func TestIrregularIntervals(t *testing.T) {
	rng := random(t)
	for name, draw := range map[string]func() float64{
		"chance": func() float64 { return rng.ExpFloat64() },
		"people": func() float64 {
			if rng.IntN(10) < 7 {
				return 0.3 + rng.ExpFloat64()/2
			}
			return 60 * rng.ExpFloat64()
		},
		"thinking":    func() float64 { return math.Exp(0.8 * rng.NormFloat64()) },
		"heavy tails": func() float64 { return math.Pow(rng.Float64(), -1) - 1 },
	} {
		gaps, found := intervals(10_000, draw), 0
		for i := rhythmGaps; i < len(gaps); i++ {
			window := append([]float64(nil), gaps[i-rhythmGaps:i]...)
			if g := regularityOf(window); g.evidence >= needed(g) {
				found++
			}
		}
		if found > 10 {
			t.Errorf("%s: %d windows of 10,000 look regular", name, found)
		}
	}
}

// An interval survives its coding, at any length.
func TestGapCode(t *testing.T) {
	for _, seconds := range []float64{0.3, 1, 60, 86_400, 700_000} {
		if got := gapSeconds(codeGap(int64(seconds * 1e9))); math.Abs(got/seconds-1) > 0.001 {
			t.Errorf("%v s becomes %v s", seconds, got)
		}
	}
	var y rhythm
	for i := range int64(70_000) {
		y.note(t0 + i*sec)
	}
	if g := y.judge(); y.count < fewestCheckIns || math.Abs(g.period-1) > 0.001 || g.gaps != rhythmGaps {
		t.Errorf("after %d intervals: %+v", y.count, g)
	}
}

// caller is a client that turns to a service.
type caller struct {
	client, server netip.Addr
	port           uint16
	source         flow.Source
	up, down       uint64 // bytes per session
	port0          uint16
}

// call scripts a session. Up and down are what is exchanged in it, in logs.
func (s *sim) call(at int64, c *caller, outcome flow.Signal) {
	r := syn(c.client, c.server, c.port)
	c.port0++
	r.SrcPort, r.Source = 40_000+c.port0%20_000, c.source
	r.Packets, r.Bytes = 1+c.up/500, c.up
	s.at(at, r)
	if outcome == flow.SignalNone {
		return
	}
	a := answer(r, outcome)
	a.Packets, a.Bytes = 1+c.down/500, c.down
	s.at(at+ms, a)
}

// crowd scripts honest clients that browse, so that one that is alone with a
// service is one of several.
func (s *sim) crowd(until int64) {
	rng := rand.New(rand.NewPCG(5, 6))
	for i := range 6 {
		c := &caller{client: hostAddr(100 + i), server: hostAddr(80), port: 80, source: flow.SourceTap}
		for now := int64(0); now < until; now += int64(rng.ExpFloat64() * 20e9) {
			s.call(now, c, flow.SignalAccept)
		}
	}
}

// kinds returns the kinds of findings that name a host.
func (s *sim) kinds(host netip.Addr) map[Kind]Finding {
	m := map[Kind]Finding{}
	for _, f := range s.fired() {
		if f.Host == host {
			m[f.Kind] = f
		}
	}
	return m
}

func TestBeacon(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.9")
	for name, c := range map[string]struct {
		caller
		period, jitter float64 // seconds, relative
		calls          int
		outcome        flow.Signal
		severity       Severity
	}{
		"HTTP every second": {caller{server: hostAddr(11), port: 8000, source: flow.SourceTap}, 1, 0.2, 10, flow.SignalAccept, SeverityMedium},
		"HTTPS every second, in a log": {caller{server: hostAddr(11), port: 8443, source: flow.SourceLog, up: 2500, down: 2700},
			1, 0.2, 10, flow.SignalAccept, SeverityMedium},
		"every minute, half of it jitter": {caller{server: outside, port: 443, source: flow.SourceTap}, 60, 0.5, 60, flow.SignalAccept, SeverityMedium},
		"every two hours":                 {caller{server: outside, port: 443, source: flow.SourceLog, up: 900, down: 3000}, 7200, 0.3, 24, flow.SignalAccept, SeverityMedium},
		"nobody answers any more":         {caller{server: outside, port: 1177, source: flow.SourceLog, up: 104}, 12, 0.22, 20, flow.SignalSilence, SeverityMedium},
		"a timer, at an odd port":         {caller{server: outside, port: 4444, source: flow.SourceTap}, 30, 0, 12, flow.SignalAccept, SeverityMedium},
	} {
		t.Run(name, func(t *testing.T) {
			s, rng := newSim(t).warm(), random(t)
			c.client = hostAddr(15)
			now := 10 * sec
			for range c.calls {
				s.call(now, &c.caller, c.outcome)
				now += int64(c.period * (1 - c.jitter + 2*c.jitter*rng.Float64()) * 1e9)
			}
			s.crowd(min(now, 120*sec))
			s.quick(now)
			f, ok := s.kinds(c.client)[KindBeacon]
			if !ok || len(s.kinds(c.client)) != 1 || len(s.fired()) > c.calls/fewestCheckIns {
				t.Fatalf("fired %+v", s.fired())
			}
			if f.Severity != c.severity || f.Sequential || f.DstPort != c.port || len(f.Victims) != 1 || f.Victims[0] != c.server {
				t.Errorf("finding %+v", f)
			}
			if f.Score < beaconFires || f.Score > 0.999 || f.Confidence < 0.9 || len(f.Evidence) < 2 {
				t.Errorf("score %v, confidence %v, %+v", f.Score, f.Confidence, f.Evidence)
			}
		})
	}
}

// quick is run without a tick every 2 ms: for hours and days.
func (s *sim) quick(until int64) {
	s.sorted()
	for i := range s.script {
		s.e.Advance(s.script[i].Time)
		s.e.Observe(s.script[i : i+1])
	}
	s.script = s.script[:0]
	s.e.Advance(t0 + until)
	s.tickedTo = t0 + until
}

// A rhythm that ends resolves its finding, and has to be found anew.
func TestBeaconEnds(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	c := &caller{client: hostAddr(15), server: hostAddr(11), port: 8000, source: flow.SourceTap}
	now := sec
	round := func(n int) {
		for range n {
			s.call(now, c, flow.SignalAccept)
			now += 800*ms + rng.Int64N(400*ms)
		}
	}
	s.crowd(60 * sec)
	round(12)
	s.quick(now + 60*sec)
	if list := s.e.Active(); len(list) != 0 {
		t.Fatalf("still active: %+v", list)
	}
	now += 60 * sec
	round(5)
	s.quick(now)
	if n := len(s.fired()); n != 1 {
		t.Fatalf("%d findings after a few calls more", n)
	}
	round(8)
	s.quick(now)
	if n := len(s.fired()); n != 2 {
		t.Errorf("%d findings, want a second", n)
	}
}

// A connection that is kept shows its rhythm where every packet is seen.
func TestBeaconWithinAConnection(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	r := tcp(hostAddr(15), 50_000, netip.MustParseAddr("203.0.113.9"), 6667, flow.SignalAttempt)
	r.Source = flow.SourcePacket
	s.at(0, r)
	s.at(ms, answer(r, flow.SignalAccept))
	for now := sec; now < 600*sec; now += 24*sec + rng.Int64N(12*sec) {
		q := r
		q.Signal, q.TCPFlags, q.Bytes = flow.SignalNone, flow.PSH|flow.ACK, 90
		s.at(now, q)
		p := answer(q, flow.SignalNone)
		p.TCPFlags, p.Bytes = flow.PSH|flow.ACK, 110
		s.at(now+20*ms, p)
	}
	s.quick(610 * sec)
	if f, ok := s.kinds(hostAddr(15))[KindBeacon]; !ok || f.DstPort != 6667 {
		t.Errorf("fired %+v", s.fired())
	}
}

// What is regular and honest.
func TestBenignRhythms(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.80")
	rng := random(t)
	jitter := func(seconds, part float64) func() float64 {
		return func() float64 { return seconds * (1 - part + 2*part*rng.Float64()) }
	}
	for name, c := range map[string]struct {
		caller
		clients, servers int
		wait             func() float64
	}{
		"time":                    {caller{port: 123}, 1, 1, jitter(64, 0.1)},
		"a monitor":               {caller{port: 9999}, 1, 8, jitter(9, 0.1)},
		"metrics":                 {caller{port: 9100}, 1, 1, jitter(15, 0)},
		"a field bus":             {caller{port: 502}, 1, 1, jitter(0.5, 0)},
		"sensors, one broker":     {caller{port: 18_830}, 6, 1, jitter(10, 0.2)},
		"telemetry of a system":   {caller{port: 443, server: outside}, 1, 1, jitter(900, 0.001)},
		"health checks":           {caller{port: 7777}, 1, 1, jitter(5, 0.005)},
		"a steady test of a page": {caller{port: 80}, 2, 1, jitter(0.1, 0)},
		"updates by the clock":    {caller{port: 80, down: 768 << 10}, 4, 1, jitter(8, 0.05)},
		"backups in turn":         {caller{port: 873, up: 2 << 20}, 3, 1, jitter(9, 0.2)},
		"a feed":                  {caller{port: 443, server: outside, down: 400 << 10}, 1, 1, jitter(300, 0.001)},
		"people":                  {caller{port: 443, server: outside}, 1, 1, func() float64 { return math.Exp(3 + rng.NormFloat64()) }},
		"a dead service":          {caller{port: 5432}, 1, 1, jitter(0.5, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t).warm()
			for client := range c.clients {
				for server := range c.servers {
					call := c.caller
					call.client, call.source = hostAddr(15+client), flow.SourceLog
					if !call.server.IsValid() {
						call.server = hostAddr(200 + server)
					}
					now := rng.Int64N(10 * sec)
					for range 200 {
						s.call(now, &call, flow.SignalAccept)
						now += int64(c.wait() * 1e9)
					}
				}
			}
			s.crowd(60 * sec)
			s.quick(0)
			for _, f := range s.fired() {
				if f.Kind == KindBeacon || f.Kind == KindExfiltration {
					t.Errorf("%s of %v to %v: %.2f %+v", f.Kind, f.Host, f.Victims, f.Score, f.Evidence)
				}
			}
		})
	}
}

// Where connections are sampled, intervals mean nothing.
func TestSampledRhythmIsNone(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	for now := int64(0); now < 3600*sec; now += 800*ms + rng.Int64N(400*ms) {
		r := syn(hostAddr(15), hostAddr(11), 8000)
		r.Source, r.Rate, r.SrcPort = flow.SourceSFlow, 10, uint16(now)
		if rng.IntN(10) == 0 {
			s.at(now, r)
		}
	}
	s.quick(3600 * sec)
	s.quiet()
}

// An attacker cannot make his service a common one by attempts in the names of
// others that nobody answers.
func TestBeaconAmongInventedClients(t *testing.T) {
	s, rng := newSim(t).warm(), random(t)
	c := &caller{client: hostAddr(15), server: netip.MustParseAddr("203.0.113.9"), port: 4444, source: flow.SourceTap}
	for i := range 50 {
		s.at(int64(i)*ms, syn(hostAddr(1000+i), c.server, c.port))
	}
	now := sec
	for range 12 {
		s.call(now, c, flow.SignalAccept)
		now += 24*sec + rng.Int64N(12*sec)
	}
	s.quick(now)
	if f, ok := s.kinds(c.client)[KindBeacon]; !ok || f.Severity != SeverityMedium {
		t.Errorf("fired %+v", s.fired())
	}
}

func BenchmarkRegularity(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var y rhythm
	now := t0
	for b.Loop() {
		now += 900*ms + rng.Int64N(200*ms)
		y.note(now)
		y.judge()
	}
}

// njRAT asks a controller that is gone, again and again; the host is otherwise
// that of a person.
func TestBeaconOfNjRAT(t *testing.T) {
	l := readLabelled(t, "testdata/njrat.csv.gz")
	found, _ := l.detect(t)
	for host, list := range found {
		for _, f := range list {
			if f.Kind != KindBeacon {
				continue
			}
			if host != netip.MustParseAddr("192.168.1.115") || f.DstPort != 1177 || f.Severity != SeverityMedium {
				t.Errorf("found %+v", f)
			}
			return
		}
	}
	t.Errorf("no beacon found: %+v", found)
}
