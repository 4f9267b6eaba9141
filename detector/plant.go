package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// RhythmConfig tunes the detection of what used to happen and does not: plants
// poll on a fixed rhythm, and a change of it is a fault or an attack.
type RhythmConfig struct {
	// Learn is how long, and Cycles how often, a pair must have kept a
	// rhythm before it is expected to.
	Learn  time.Duration
	Cycles uint32
	// Jitter is the mean deviation of the logarithm of intervals below which
	// they are a rhythm.
	Jitter float64
	// Drift and Threshold are those of a CUSUM (Page 1954) of the logarithm
	// of an interval over the learned one.
	Drift, Threshold float64
	// Quiet is how many times its learned interval, or three times the
	// longest that it ever took, a pair must miss to be overdue.
	Quiet float64
	// Pairs bounds the rhythms that are followed, 190 bytes each and as many for
	// both ends.
	Pairs int
	// Flaps are the changes of a link's state, net of one in FlapTime, that
	// make a finding.
	Flaps    float64
	FlapTime time.Duration
}

func defaultRhythm() RhythmConfig {
	return RhythmConfig{Learn: 10 * time.Minute, Cycles: 64, Jitter: 0.15, Drift: 0.25, Threshold: 8, Quiet: 25, Pairs: 1 << 12,
		Flaps: 6, FlapTime: time.Minute}
}

func (c *RhythmConfig) valid() bool {
	return c.Learn > 0 && c.Cycles >= 8 && c.Jitter > 0 && c.Drift > 0 && c.Threshold > 0 && c.Quiet > 1 && c.Pairs > 0 &&
		c.Flaps > 1 && c.FlapTime > 0
}

// plantEdge is what an edge remembers while a rhythm is learned.
type plantEdge struct {
	since, last int64
	period      float32 // nanoseconds, robust
	jitter      float32 // mean deviation of the logarithm
	longest     float32 // interval
	n           uint32
	sampled     bool // learned from samples: only how often they come
	followed    bool // it is in the table
}

// beat is a rhythm that is expected to go on.
type beat struct {
	since, last      int64 // begin of the rhythm, latest cycle
	period, longest  float64
	slower, faster   float64 // CUSUM
	hurried          int64   // since when it is faster
	pace, unrest     float64 // of the intervals since then: mean logarithm, deviation
	loss             float64 // CUSUM of requests without an answer
	asked, answered  uint32  // since loss was 0
	unanswered, told uint32  // requests since the server's latest word; as of the latest report
	needed           uint32  // of these, for a silence
	talk             uint32  // cycles since the connection was opened
	open             bool    // the latest request was not answered yet
	answers          bool    // requests used to be answered
	sampled          bool
	records          int64
	exporter         uint16
}

// device is one end of rhythms.
type device struct {
	last    int64 // it sent something
	excused int64 // when others fell silent with it
	passed  int64 // the value of last for which its silence does not matter
	asks    bool  // it speaks of its own accord
	silent  bool
}

// plantWatch finds rhythms that break, devices that fall silent and answers
// that get lost, since field devices are polled at fixed intervals (Barbosa, Sadre
// and Pras, "Exploiting traffic periodicity in industrial control networks", Int. J.
// Critical Infrastructure Protection 13, 2016). Offices have rhythms as well, but
// there machines come and go; see silent.go for whose silence matters. Nothing
// of it is a reason to contain anything.
type plantWatch struct {
	e       *Engine
	beats   *bounded.Table[contactKey, beat]
	devices *bounded.Table[address, device]
	flaps   *bounded.Table[linkKey, flap]
	looked  int64   // when rhythms were last looked through
	heard   int64   // latest event on an edge, of anybody
	lull    float64 // usual time between events
	awake   int64   // since when telemetry arrives
}

// plantEvery is how often rhythms are looked through for those that are
// overdue.
const plantEvery = int64(time.Second)

func newPlantWatch(e *Engine) *plantWatch {
	w := &plantWatch{e: e}
	c := &e.cfg.Rhythm
	w.beats = bounded.New[contactKey](c.Pairs, func(b *beat) int64 { return rank(0, b.last) })
	w.devices = bounded.New[address](2*c.Pairs, func(d *device) int64 { return rank(0, d.last) })
	w.flaps = bounded.New[linkKey](c.Pairs, func(f *flap) int64 { return rank(0, f.last) })
	return w
}

func (w *plantWatch) edge(ev *edgeEvent) {
	w.hear(ev.now)
	x := &ev.edge.plant
	if w.devices.Len() > 0 {
		w.alive(ev)
	}
	cycle, sampled := cycleOf(ev)
	if x.followed {
		w.follow(ev, cycle, sampled)
		return
	}
	if !cycle || sampled && ev.edge.opens >= 4 || !w.e.inside(ev.key.src) || !w.e.inside(ev.key.dst) {
		return // what somebody else's service does is his affair
	}
	w.learn(ev, sampled)
}

// cycleOf reports whether a record begins a cycle of asking and answering, or
// is a sample, which only says that there is traffic. What exporters and logs
// tell at times of their own choice has their rhythm.
func cycleOf(ev *edgeEvent) (cycle, sampled bool) {
	r := ev.r
	switch {
	case ev.what == edgeOpened:
		return true, false
	case ev.what != edgeTraffic || r.Source == flow.SourceIPFIX || r.Source == flow.SourceLog:
		return false, false
	case r.Rate > 1:
		return true, true
	}
	return ev.up && (r.Proto == flow.ProtoUDP || r.TCPFlags&flow.PSH != 0), false
}

// alive notes that a device sent something.
func (w *plantWatch) alive(ev *edgeEvent) {
	who := ev.key.dst
	if ev.up {
		who = ev.key.src
	}
	if _, d := w.devices.Find(who); d != nil {
		d.last = ev.now
	}
}

// learn takes an interval of a pair whose rhythm is not known.
func (w *plantWatch) learn(ev *edgeEvent, sampled bool) {
	x := &ev.edge.plant
	if x.last == 0 || x.sampled != sampled {
		*x = plantEdge{since: ev.now, last: ev.now, sampled: sampled}
		return
	}
	gap := float64(ev.now - x.last)
	if gap < 0.25*float64(x.period) && x.n > 8 && !sampled {
		return // of the same cycle
	}
	x.last = ev.now
	x.n++
	if x.period == 0 {
		x.period = float32(max(gap, 1))
		return
	}
	x.longest = max(x.longest, float32(gap))
	if sampled { // the mean, since samples come at random
		x.period += (float32(gap) - x.period) / float32(min(x.n, 256))
	} else {
		off := math.Log(max(gap, 1) / float64(x.period))
		step := min(max(off, -0.5), 0.5)
		x.period *= float32(math.Exp(step / float64(min(x.n, 16))))
		x.jitter += (float32(min(math.Abs(off), 2)) - x.jitter) / float32(min(x.n, plantRecent))
	}
	c := &w.e.cfg.Rhythm
	if !sampled && x.n >= plantRecent && float64(x.jitter) > c.Jitter {
		x.since = ev.now // a burst that is regular is no rhythm that was kept
	}
	if x.n < c.Cycles || ev.now-x.since < int64(c.Learn) {
		return
	}
	if sampled && x.n < 4*c.Cycles || !sampled && float64(x.jitter) > c.Jitter {
		return
	}
	w.expect(ev)
}

// plantRecent is over how many intervals regularity is averaged.
const plantRecent = 32

// expect begins to follow a pair whose rhythm is known.
func (w *plantWatch) expect(ev *edgeEvent) {
	x := &ev.edge.plant
	_, b, _ := w.beats.Put(ev.key, rank(0, ev.now))
	if b == nil {
		return
	}
	*b = beat{since: x.since, last: ev.now, period: float64(x.period), longest: float64(x.longest), sampled: x.sampled,
		needed: fewestUnanswered, answers: ev.edge.answered(), exporter: w.e.exporters.number(ev.r.Exporter)}
	if x.sampled {
		b.needed, b.answers = unansweredSamples(ev.edge.up.samples, ev.edge.down.samples)
	}
	x.followed = true
	for _, who := range [...]address{ev.key.src, ev.key.dst} {
		_, d, fresh := w.devices.Put(who, rank(0, ev.now))
		if fresh {
			d.last = ev.now
		}
		if d != nil && who == ev.key.src {
			d.asks = true
		}
	}
	w.e.wake(ev.now + plantEvery)
}

// follow takes a record of a pair whose rhythm is known.
func (w *plantWatch) follow(ev *edgeEvent, cycle, sampled bool) {
	i, b := w.beats.Find(ev.key)
	if b == nil { // its place was taken
		ev.edge.plant = plantEdge{}
		return
	}
	b.records++
	if !ev.up && ev.what != edgeClosed {
		b.open = false
	}
	if !ev.up {
		b.unanswered, b.told = 0, 0
	}
	switch {
	case ev.what == edgeOpened:
		b.talk = 0
	case ev.what == edgeClosed && ev.up && b.talk >= kept && 2*b.unanswered < b.needed:
		w.beats.Delete(i) // a connection that was kept is over in good order
		ev.edge.plant = plantEdge{}
		return
	}
	if !cycle || b.sampled != sampled {
		return
	}
	gap := float64(ev.now - b.last)
	if gap < 0.25*b.period && !sampled && b.faster == 0 && gap < float64(plantBurst) {
		return
	}
	if b.talk++; ev.up {
		b.unanswered++
	}
	if gap > w.quiet(b) {
		b.since = ev.now // it paused
	}
	b.last = ev.now
	if b.sampled {
		b.longest = max(b.longest, min(gap, 2*b.longest))
		return
	}
	w.beat(ev, b, gap)
	w.lose(ev, b)
}

// kept is for how many cycles a connection lasts whose end is also that of the
// rhythm.
const kept = 3

// plantBurst is within what records are of one cycle whatever its length.
const plantBurst = 20 * time.Millisecond

// beat tests an interval.
func (w *plantWatch) beat(ev *edgeEvent, b *beat, gap float64) {
	if b.answers && b.unanswered > 1 {
		return // whoever gets no answers has reason to try at another pace
	}
	c := &w.e.cfg.Rhythm
	off := math.Log(max(gap, 1) / b.period)
	x := min(max(off, -1.5), 1.5)
	b.slower = min(max(b.slower+x-c.Drift, 0), 2*c.Threshold)
	b.faster = min(max(b.faster-x-c.Drift, 0), 2*c.Threshold)
	b.hurry(off, ev.now)
	s := max(b.slower, b.faster)
	if s < c.Threshold/2 { // what is normal is not learned from what is not
		b.longest = max(b.longest, min(gap, 2*b.period))
		b.period *= math.Exp(0.01 * min(max(x, -0.1), 0.1))
	}
	if s < c.Threshold || b.slower < c.Threshold && !b.quickened(c, ev.now) || !w.fixed(ev.key) {
		return
	}
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindRhythmBreak, host: ev.key.src, peer: ev.key.dst, service: ev.key.service},
		state: StateFiring, first: ev.now - int64(gap), owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), records: b.records,
		score: 1 - math.Exp(-3*s/c.Threshold), confidence: 0.9,
		evidence: []Evidence{{"interval_seconds", gap / 1e9, b.period / 1e9, 1}},
		limits:   []Limit{{"interval_seconds", b.period * math.Exp(math.Copysign(c.Drift, x)) / 1e9}},
	})
}

// hurry follows the intervals of a pair that is faster than it was.
func (b *beat) hurry(off float64, now int64) {
	switch {
	case b.faster == 0:
		b.hurried = 0
	case b.hurried == 0:
		b.hurried, b.pace, b.unrest = now, off, 0
	default:
		d := off - b.pace
		b.unrest += (min(math.Abs(d), 2) - b.unrest) / 16
		b.pace += min(max(d, -0.5), 0.5) / 16
	}
}

// quickened reports whether a pair that is faster has a rhythm again. Requests of
// somebody else to the same service, between those of the rhythm, come quickly
// too, but at any time.
func (b *beat) quickened(c *RhythmConfig, now int64) bool {
	const cycles = 10
	return b.unrest <= 2*c.Jitter && float64(now-b.hurried) >= cycles*b.period
}

// fixed reports whether a rhythm is one that only people change: that of an
// industrial protocol, or with a device that hardly anybody else asks. Clients of
// servers change theirs by themselves (RFC 5905 doubles it), and without harm.
func (w *plantWatch) fixed(k contactKey) bool {
	switch p := k.port(); {
	case isFieldbus(p):
		return true
	case isAdaptive(p):
		return false
	}
	return w.e.familiar.usage(k).clients < manyClients
}

// Of the requests of a rhythm few lose their answer; lossNormal is what is
// tolerated, lossFound what is looked for, lossDoubt the log likelihood ratio
// that decides, one in ten thousand.
const (
	lossNormal, lossFound = 0.02, 0.2
	lossDoubt             = 9.2
)

// tolerableLoss is the share of requests without answer up to which the test does
// not drift towards a decision.
func tolerableLoss() float64 {
	miss, hit := math.Log(lossFound/lossNormal), math.Log((1-lossNormal)/(1-lossFound))
	return hit / (miss + hit)
}

// lose tests whether the request before was answered. Where none is, the device
// is silent and nothing is asymmetric.
func (w *plantWatch) lose(ev *edgeEvent, b *beat) {
	missed := b.open
	b.open = true
	if !b.answers || ev.r.Source == flow.SourceLog { // a log says so itself, later
		return
	}
	b.asked++
	if missed {
		b.loss = min(b.loss+math.Log(lossFound/lossNormal), 2*lossDoubt)
	} else {
		b.answered++
		b.loss = max(b.loss+math.Log((1-lossFound)/(1-lossNormal)), 0)
	}
	if b.loss == 0 {
		b.asked, b.answered = 0, 0
	}
	if b.loss < lossDoubt || b.answered*8 < b.asked {
		return
	}
	lost := 1 - float64(b.answered)/float64(b.asked)
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindAsymmetricLoss, host: ev.key.dst, peer: ev.key.src, service: ev.key.service},
		state: StateFiring, first: ev.now - int64(float64(b.asked)*b.period), owner: w, victims: []address{ev.key.src, ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), records: b.records, exporter: b.exporter,
		score: 1 - math.Exp(-3*b.loss/lossDoubt), confidence: 0.8,
		evidence: []Evidence{{"requests_without_answer", lost, lossNormal, 1}},
		limits:   []Limit{{"requests_without_answer", tolerableLoss()}},
	})
}

// resolved: the test begins again, with what is normal kept.
func (w *plantWatch) resolved(k findingKey) {
	switch k.kind {
	case KindRhythmBreak:
		if i, b := w.beats.Find(contactKey{k.host, k.peer, k.service}); b != nil {
			// It has a rhythm of its own by now, or none: learned anew.
			w.beats.Delete(i)
		}
	case KindAsymmetricLoss:
		if _, b := w.beats.Find(contactKey{k.peer, k.host, k.service}); b != nil {
			b.loss, b.asked, b.answered = 0, 0, 0
		}
	case KindDeviceSilent:
		if _, d := w.devices.Find(k.host); d != nil {
			d.silent, d.passed = false, d.last // told once
		}
	}
}
