package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

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

// unplugged is for how long the link of the port that a host is behind has been
// down, in nanoseconds, 0 when it is not or nobody said so.
func (w *plantWatch) unplugged(who address) int64 {
	_, h := w.e.hosts.Find(who)
	if h == nil || h.inPort == 0 {
		return 0
	}
	// A controller that has its switches on the same machine names no exporter.
	for _, x := range [...]uint16{h.exporter, w.e.exporters.number(flow.Exporter{})} {
		if _, f := w.flaps.Find(linkKey{x, h.inPort}); f != nil && f.down {
			return max(w.e.clock.now-f.last, 1)
		}
	}
	return 0
}
