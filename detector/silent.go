package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// expire looks for rhythms that are overdue.
func (w *plantWatch) expire(now int64) int64 {
	if w.beats.Len() == 0 {
		return math.MaxInt64
	}
	if next := w.looked + plantEvery; now < next {
		return next
	}
	if w.heard > w.looked { // else it is the telemetry that is silent
		w.look(w.heard)
	}
	w.looked = now
	return now + plantEvery
}

// look goes through all rhythms, at the time of the latest record of anybody:
// whether others fell silent after that, nothing tells. When most are overdue at
// once it is the network, or what tells of it, and no device.
func (w *plantWatch) look(now int64) {
	overdue := 0
	for i := range w.beats.All() {
		b := w.beats.At(i)
		b.overdue = w.late(b, now)
		if b.overdue {
			overdue++
		}
	}
	if overdue == 0 || overdue > 1 && 2*overdue > w.beats.Len() {
		return
	}
	for i, k := range w.beats.All() {
		if b := w.beats.At(i); b.overdue {
			w.missing(k, b, now)
		}
	}
}

// late reports whether a rhythm is overdue.
func (w *plantWatch) late(b *beat, now int64) bool {
	return float64(now-max(b.last, w.since)) > max(w.e.cfg.Rhythm.Quiet*b.period, 3*b.longest)
}

// missing blames whoever of an overdue pair sends nothing any more: the client
// if both do, for without it nobody asks.
func (w *plantWatch) missing(k contactKey, b *beat, now int64) {
	for _, who := range [...]address{k.src, k.dst} {
		_, d := w.devices.Find(who)
		if d == nil || float64(now-max(d.last, w.since)) <= w.e.cfg.Rhythm.Quiet*b.period {
			continue
		}
		if now-d.last > 2*int64(w.e.cfg.MaxKeepFiring) && !d.silent {
			continue // long gone
		}
		d.silent = true
		w.silent(k, who, d, b, now)
		return
	}
}

func (w *plantWatch) silent(k contactKey, who address, d *device, b *beat, now int64) {
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindDeviceSilent, host: who},
		state: StateFiring, first: d.last, owner: w, host: who, proto: k.proto(), records: b.records, exporter: b.exporter,
		score: 1 - math.Exp(-float64(now-d.last)/b.period/8), confidence: 0.9,
		evidence: []Evidence{{"silence_seconds", float64(now-d.last) / 1e9, b.period / 1e9, 1}},
		limits:   []Limit{{"silence_seconds", max(w.e.cfg.Rhythm.Quiet*b.period, 3*b.longest) / 1e9}},
	})
}

// linkKey names a port of a switch by its kernel interface index.
type linkKey struct {
	exporter uint16
	port     uint32
}

// flap is what is remembered of a port's link.
type flap struct {
	last    int64
	changes float64 // net of what drains
	total   int64
	first   int64
	down    bool
}

// Link tells that the link of a port (kernel interface index) came up or went
// down at a time (Unix nanoseconds). A link is up until told otherwise.
func (e *Engine) Link(x flow.Exporter, port uint32, up bool, t int64) {
	e.clock.tick(t)
	e.plant.link(linkKey{e.exporters.number(x), port}, up)
}

func (w *plantWatch) link(k linkKey, up bool) {
	now := w.e.clock.now
	_, f, fresh := w.flaps.Put(k, rank(0, now))
	if f == nil {
		return
	}
	if fresh {
		f.last = now
	}
	if f.down == !up {
		return
	}
	c := &w.e.cfg.Rhythm
	f.down = !up
	f.changes = max(f.changes-float64(now-f.last)/float64(c.FlapTime), 0)
	if f.changes == 0 {
		f.first = now
	}
	f.last = now
	f.changes++
	f.total++
	if f.changes < c.Flaps {
		return
	}
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindLinkFlap, inPort: k.port, exporter: k.exporter},
		state: StateFiring, first: f.first, owner: w, exporter: k.exporter, inPort: k.port,
		score: 1 - math.Exp(-3*f.changes/c.Flaps), confidence: 0.99, records: f.total,
		evidence: []Evidence{{"link_changes", f.changes, 0, 1}},
		limits:   []Limit{{"link_changes", c.Flaps - 1}},
	})
}
