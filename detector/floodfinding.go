package detector

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// refresh is how often a firing flood updates its finding.
const refresh = int64(10 * time.Millisecond)

// report turns a level into a finding or refreshes it.
func (w *floodWatch) report(x *cell, lvl level, r *flow.Record, victim address, c class) {
	now := w.e.clock.now
	switch {
	case lvl == calm:
		return
	case lvl == suspicious && !x.fires && !w.e.cfg.EmitPending:
		return
	case x.fires && now-x.seen < refresh:
		return
	}
	cfg := w.config(c)
	t, fc := &x.tests[0], cfg[0]
	if cfg[1] != nil && x.tests[1].s/cfg[1].Threshold > t.s/fc.Threshold {
		t, fc = &x.tests[1], cfg[1]
	}
	state := StateFiring
	if lvl == suspicious && !x.fires {
		state = StatePending
	}
	k := findingKey{kind: c.kind(), host: victim, inPort: r.InPort, exporter: w.e.exporters.number(r.Exporter)}
	who := w.attacker(t, r)
	a, changed := w.e.ledger.raise(w, k, state, t.began, who)
	x.seen = now
	if a == nil {
		return
	}
	if changed && x.ended != 0 { // it comes in pulses: the next is waited for
		a.pace = max(a.pace, float64(now-x.ended))
	}
	w.describe(a, x, t, fc, now)
	x.fires = x.fires || a.finding.State == StateFiring
	if !changed {
		return
	}
	a.victim(victim)
	w.blame(a, t, r, who, c.proto(victim))
	w.e.ledger.emit(a)
}

// describe fills in what changes while a flood lasts.
func (w *floodWatch) describe(a *active, x *cell, t *cusum, fc *FloodConfig, now int64) {
	f := &a.finding
	f.Records = int64(t.samples)
	f.Rate = t.packets / max(float64(now-t.began)/1e9, 1e-3)
	if x.rate > 0 && now-t.began > binWidth {
		f.Rate = x.rate
	}
	f.Baseline = t.base
	ratio := t.s / fc.Threshold
	// 0.97 at the alarm level; the statistic is a scaled log likelihood
	// ratio, so the miss probability falls exponentially with it.
	f.Score = 1 - math.Exp(-3.5*ratio)
	// The error of a rate from c samples is at most 196*sqrt(1/c) per cent
	// (Phaal and Panchen, "Packet sampling basics", sflow.org, 2002).
	f.Confidence = 0.99
	if sampled := t.packets / float64(max(t.samples, 1)); sampled > 1.5 {
		f.Confidence = 1 - min(0.5, 0.98/math.Sqrt(float64(max(t.samples, 1))))
	}
	f.Severity = SeverityHigh
	if f.Rate > 10*fc.Floor {
		f.Severity = SeverityCritical
	}
	if f.Sequential = w.certain(a, x, t); !f.Sequential {
		f.Severity = SeverityMedium
	}
	_, top := t.sources.top()
	share := top / max(t.packets, 1)
	a.explain(
		Evidence{"packets_per_second", math.Round(f.Rate), math.Round(t.drift(fc)), 1},
		Evidence{"excess_packets", math.Round(t.s), 0, 0},
		Evidence{"largest_source_share", math.Round(share*100) / 100, 0, 0},
	)
	a.bound("packets_per_second", math.Round(t.drift(fc)))
	a.bound("excess_packets", fc.Threshold)
}

// blame fills in who did it and where it enters.
func (w *floodWatch) blame(a *active, t *cusum, r *flow.Record, who address, proto uint8) {
	f := &a.finding
	f.Exporter, f.InPort = r.Exporter, r.InPort
	f.Proto, f.DstPort = proto, t.concentrated()
	f.Technique = "T1498.001" // Direct Network Flood
	if f.Kind == KindSYNFlood || f.Kind == KindACKFlood {
		f.Technique = "T1499.001" // OS Exhaustion Flood
	}
	f.HostMAC = r.SrcMAC
	f.Host, f.Spoofed = who.netip(), who == address{}
}

// certain reports whether what looks like a flood can be nothing else. One
// direction of many connections looks like a flood of segments, and a stream of
// datagrams that somebody listens to, such as video or an export of flows, like
// one of datagrams: those are for a person to judge.
func (w *floodWatch) certain(a *active, x *cell, t *cusum) bool {
	switch a.key.kind {
	case KindACKFlood:
		return w.e.inView(a.key.host)
	case KindUDPFlood:
		return !t.single() || x.unreachable >= t.began && x.unreachable > 0
	}
	return true
}

// unanswerable notes that src told dst that nobody listens.
func (w *floodWatch) unanswerable(r *flow.Record, src, dst address) {
	port := r.OutPort
	if _, h := w.e.hosts.Find(dst); h != nil && port == 0 {
		port = h.inPort
	}
	for source := flow.SourcePacket; source <= flow.SourceLog; source++ {
		k := w.key(src, port, r, classUDP)
		k.rest = k.rest&^0xff | uint64(source)
		if _, x := w.cells.Find(k); x != nil {
			x.unreachable = w.e.clock.now
		}
	}
}

// attacker returns the source of most of a flood, or zero when there is none
// or it is not believed.
func (w *floodWatch) attacker(t *cusum, r *flow.Record) address {
	src, packets := t.sources.top()
	if packets <= majority*t.packets || !w.believed(src, r) {
		return address{}
	}
	return src
}

// believed reports whether a flood's source is where it was when it proved to
// be real. One that never did is taken at its word: whoever it is, it sends.
func (w *floodWatch) believed(src address, r *flow.Record) bool {
	_, h := w.e.hosts.Find(src)
	return h == nil || h.home == 0 || r.InPort == 0 || h.home == r.InPort ||
		w.e.exporters.number(r.Exporter) != h.exporter
}

// resolved ends an episode in every cell of the key.
func (w *floodWatch) resolved(k findingKey) {
	c := class(0)
	for c < classes && c.kind() != k.kind {
		c++
	}
	for source := flow.SourcePacket; source <= flow.SourceLog; source++ {
		rest := uint64(k.inPort)<<32 | uint64(k.exporter)<<16 | uint64(c)<<8 | uint64(source)
		if _, x := w.cells.Find(cellKey{k.host, rest}); x != nil {
			x.fires, x.ended = false, w.e.clock.now
		}
	}
}
