package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// class is a kind of traffic that floods are made of.
type class uint8

const (
	classSYN class = iota
	classUDP
	classICMP
	classACK
	classes // how many there are
)

func (c class) kind() Kind {
	return [...]Kind{KindSYNFlood, KindUDPFlood, KindICMPFlood, KindACKFlood}[c]
}

func (c class) proto(victim address) uint8 {
	if c == classICMP && !victim.is4() {
		return flow.ProtoICMPv6
	}
	return [...]uint8{flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP, flow.ProtoTCP}[c]
}

// level says how a victim is doing.
type level uint8

const (
	calm       level = iota
	suspicious       // above half the alarm level
	alarmed
)

const (
	// minSamples is how many samples an alarm needs, however many packets
	// each stands for.
	minSamples = 12
	// majority is the share of the packets that makes one source the
	// attacker.
	majority = 0.8
	// exportBurst is how much traffic an aggregating exporter may hold back
	// and deliver at once, in seconds.
	exportBurst = 5
	// creditBurst is how much of MaxCredit may be used at once, in seconds.
	creditBurst = 0.25
	// overshoot bounds the statistic in alarm levels, so that the end of a
	// flood is seen soon.
	overshoot = 2
	binWidth  = int64(time.Second)
	// An answered stream whose answers are sampled looks unanswered now and
	// then. With r records between answers, a credit of ten and a drift well
	// below the stream's rate, the statistic passes n records by chance with
	// a probability of about exp(-0.83*n/r) (Lundberg's bound): n = patience*r
	// makes it one in ten million.
	patience = 20
	// oneStream multiplies the alarm level of UDP while all of it is one
	// conversation: that may be a transfer whose answers are yet to be seen.
	oneStream = 2.5
	// fewAnswers is how many sampled answers show that a stream has them.
	fewAnswers = 3
)

// cellKey names a victim, the port that its traffic comes in by, and the
// telemetry it is seen in: the tap and sFlow see the same packets, so each is
// counted by itself and whichever suffices first decides.
type cellKey struct {
	victim address
	rest   uint64 // inPort<<32 | exporter<<16 | class<<8 | source
}

// cell is the state of one key. Tests[1] is used for SYN only.
type cell struct {
	last   int64
	bin    int64
	tokens float64 // packets that answers may excuse now
	tests  [2]cusum
	rate   float64 // packets per second in the last full bin
	count  float64 // packets in the current bin
	// asked and answers count records of calm times, halved every second.
	asked, answers float32
	fires          bool
	seen           int64 // when the finding was last refreshed
	unreachable    int64 // when the victim last said that nobody listens
	ended          int64 // when its latest finding was resolved
}

const (
	testUnknown = 0 // also the only one of UDP and ICMP
	testAll     = 1
)

type floodWatch struct {
	e        *Engine
	cells    *bounded.Table[cellKey, cell]
	sessions sessions
	// segments is when one that neither opens nor ends was last seen,
	// segmentRate how many it stood for.
	segments    int64
	segmentRate float64
}

func newFloodWatch(e *Engine) *floodWatch {
	w := &floodWatch{e: e, sessions: newSessions(e.cfg.Limit.Sessions)}
	w.cells = bounded.New[cellKey](e.cfg.Limit.Cells, func(c *cell) int64 {
		switch {
		case c.fires:
			return rank(3, c.last)
		case c.tests[0].s > w.e.cfg.ICMP.Threshold/4 || c.tests[1].s > 0:
			return rank(2, c.last)
		case c.tests[0].base > 1:
			return rank(1, c.last)
		}
		return rank(0, c.last)
	})
	return w
}

// config returns the settings of a class, nil where it has one test only.
func (w *floodWatch) config(c class) [2]*FloodConfig {
	switch c {
	case classUDP:
		return [2]*FloodConfig{&w.e.cfg.UDP, nil}
	case classICMP:
		return [2]*FloodConfig{&w.e.cfg.ICMP, nil}
	case classACK:
		return [2]*FloodConfig{&w.e.cfg.ACK, nil}
	}
	return [2]*FloodConfig{&w.e.cfg.SYN.Unknown, &w.e.cfg.SYN.All}
}

func (w *floodWatch) key(victim address, inPort uint32, r *flow.Record, c class) cellKey {
	x := w.e.exporters.number(r.Exporter)
	return cellKey{victim, uint64(inPort)<<32 | uint64(x)<<16 | uint64(c)<<8 | uint64(r.Source)}
}

// cell finds or makes a cell and lets time pass in it.
func (w *floodWatch) cell(k cellKey, c class) *cell {
	now := w.e.clock.now
	_, x, fresh := w.cells.Put(k, rank(0, now))
	if x == nil {
		return nil
	}
	if fresh {
		x.last, x.bin = now, now
		x.tokens = w.config(c)[0].MaxCredit * creditBurst
		return x
	}
	w.pass(x, c, now)
	return x
}

// pass leaks the tests of a cell and closes its bin.
func (w *floodWatch) pass(x *cell, c class, now int64) {
	dt := float64(now-x.last) / 1e9
	if dt <= 0 {
		return
	}
	x.last = now
	cfg := w.config(c)
	x.tokens = min(x.tokens+cfg[0].MaxCredit*dt, cfg[0].MaxCredit*creditBurst)
	for i, fc := range cfg {
		if fc != nil {
			x.tests[i].leak(fc, dt)
		}
	}
	if d := now - x.bin; d >= binWidth {
		elapsed := float64(d) / 1e9
		for i, fc := range cfg {
			if fc != nil {
				x.tests[i].learn(fc, elapsed)
			}
		}
		x.rate, x.count, x.bin = x.count/elapsed, 0, now
		fade := float32(math.Exp2(-elapsed))
		x.asked, x.answers = x.asked*fade, x.answers*fade
	}
}

// syn counts a connection attempt towards dst.
func (w *floodWatch) syn(r *flow.Record, src, dst address, trusted bool) level {
	if w.e.link(r.InPort) || !dst.unicast() {
		return calm
	}
	x := w.cell(w.key(dst, r.InPort, r, classSYN), classSYN)
	if x == nil {
		return calm
	}
	packets := w.weigh(r, &x.tests[testAll], &w.e.cfg.SYN.All)
	if r.Source == flow.SourceLog && r.TCPFlags != flow.SYN {
		packets = 1 // a log's packets are those of the whole connection
	}
	x.count += packets
	lvl := w.add(x, testAll, &w.e.cfg.SYN.All, packets, r, src)
	if !trusted {
		lvl = max(lvl, w.add(x, testUnknown, &w.e.cfg.SYN.Unknown, packets, r, src))
	}
	w.report(x, lvl, r, dst, classSYN)
	return lvl
}

// trusted reports whether a source's attempts are left to the test of all:
// it is real, or nobody can be known yet, or it is a scanner that is already
// found, whose probes are not also a flood.
func (w *floodWatch) trusted(h *host) bool {
	if w.e.clock.now-w.e.clock.start < int64(w.e.cfg.WarmUp) {
		return true
	}
	return h != nil && (h.proven && !w.aborting(h) || h.firing > 0)
}

// A real client may reset connections as soon as they are accepted: how many in
// a row, without one of its other segments having been seen. With three of them
// in each, one client in a billion does abortsPerRate for every packet that a
// sample stands for by chance.
const (
	abortsMost    = 64
	abortsPerRate = 6.4
)

// sampled notes that segments that neither open nor end are seen, and how
// many each stands for.
func (w *floodWatch) sampled(r *flow.Record) { w.segments, w.segmentRate = w.e.clock.now, r.Rate }

// aborting reports whether a host opens connections for nothing. Where few
// segments or none are seen it cannot be told.
func (w *floodWatch) aborting(h *host) bool {
	need := max(abortsMost, abortsPerRate*w.segmentRate)
	return need < math.MaxUint8 && float64(h.aborts) >= need && w.segments != 0 && w.e.clock.now-w.segments < int64(time.Second)
}

// packets counts UDP or ICMP towards dst.
func (w *floodWatch) packets(r *flow.Record, src, dst address, c class) level {
	if w.e.link(r.InPort) || !dst.unicast() || group(r.DstMAC) {
		return calm
	}
	x := w.cell(w.key(dst, r.InPort, r, c), c)
	if x == nil {
		return calm
	}
	cfg := w.config(c)[0]
	packets := w.weigh(r, &x.tests[0], cfg)
	x.count += packets
	lvl := w.add(x, 0, cfg, packets, r, src)
	w.report(x, lvl, r, dst, c)
	return lvl
}

// weigh returns the packets that a record adds. What an aggregated flow sent
// within the drift over its own duration is normal, however late it is told.
func (w *floodWatch) weigh(r *flow.Record, t *cusum, cfg *FloodConfig) float64 {
	packets := r.ScaledPackets()
	if packets == 0 {
		packets = max(r.Rate, 1)
	}
	if r.Duration > 0 {
		packets = max(packets-t.drift(cfg)*float64(r.Duration)/1e9, 0)
	}
	return packets
}

func (w *floodWatch) add(x *cell, i int, cfg *FloodConfig, packets float64, r *flow.Record, src address) level {
	if packets == 0 {
		return calm
	}
	t := &x.tests[i]
	alarm := max(cfg.Threshold, minSamples*r.Rate)
	if x.answers >= fewAnswers {
		alarm = max(alarm, patience*r.Rate*min(float64(x.asked/x.answers), cfg.Credit))
	}
	if t.s <= alarm/2 { // what alarms says nothing of calm times
		x.asked++
	}
	if r.Source == flow.SourceIPFIX {
		alarm += exportBurst * t.drift(cfg)
	}
	t.add(w.e.clock.now, packets, src, r, &w.e.keys)
	if cfg == &w.e.cfg.UDP && t.single() {
		alarm *= oneStream
	}
	t.s = min(t.s, overshoot*alarm)
	t.bin += packets
	if t.s > cfg.Threshold/4 {
		t.tense = true
	}
	switch {
	case t.s > alarm && (t.samples >= minSamples || r.Packets >= minSamples || x.fires):
		return alarmed
	case t.s > alarm/2:
		return suspicious
	}
	return calm
}

// finished credits a completed TCP connection of src to dst, and remembers
// that src is real.
func (w *floodWatch) finished(r *flow.Record, src, dst address) {
	if w.e.link(r.InPort) {
		return
	}
	_, h := w.e.hosts.Find(src)
	if h == nil {
		return
	}
	k := w.key(dst, r.InPort, r, classSYN)
	if r.Source == flow.SourceLog {
		k = w.key(dst, 0, r, classSYN)
	}
	if _, x := w.cells.Find(k); x != nil {
		w.pass(x, classSYN, w.e.clock.now)
		n := w.credit(x, max(r.Rate, 1), &w.e.cfg.SYN.All)
		x.tests[testAll].lower(n)
		x.tests[testAll].bin -= n
		if h.unproven > 0 {
			h.unproven--
			x.tests[testUnknown].lower(n)
			x.tests[testUnknown].bin -= n
		}
	}
	w.e.prove(h, r)
}

// answer credits what src sends to dst against what came from dst's side: a
// resolver answers every query, a flood's victim has nothing to say.
func (w *floodWatch) answer(r *flow.Record, src, dst address, c class) {
	x := w.asking(r, src, dst, c)
	if x == nil {
		return
	}
	x.answers++
	w.excuse(x, c, max(r.ScaledPackets(), 1)*w.config(c)[0].Credit)
}

// excuse takes packets from a cell's first test, as far as its credit goes.
func (w *floodWatch) excuse(x *cell, c class, packets float64) {
	w.pass(x, c, w.e.clock.now)
	n := w.credit(x, packets, w.config(c)[0])
	x.tests[0].lower(n)
	x.tests[0].bin -= n
}

// asking finds the cell of what dst sends to src, which src may be answering.
func (w *floodWatch) asking(r *flow.Record, src, dst address, c class) *cell {
	port := r.OutPort
	if port == 0 || r.Source != flow.SourceSFlow {
		if _, h := w.e.hosts.Find(dst); h != nil {
			port = h.inPort
		}
	}
	_, x := w.cells.Find(w.key(src, port, r, c))
	return x
}

// solicited reports whether dst's side asked src within the last second: the
// victim of a flood that it answers must not be taken for a flooder itself.
// Answers to questions that somebody forged elsewhere are not solicited.
func (w *floodWatch) solicited(r *flow.Record, src, dst address, c class) bool {
	x := w.asking(r, src, dst, c)
	return x != nil && w.e.clock.now-x.last < int64(1e9)
}

// credit takes packets from what answers may still excuse.
func (w *floodWatch) credit(x *cell, packets float64, cfg *FloodConfig) float64 {
	packets = min(packets, x.tokens)
	x.tokens -= packets
	return packets
}
