package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// pressKnown is how long a service must have been watched before a client
	// can be said to do what nobody did before. All of that time is habit.
	pressKnown = int64(600e9)
	// pressLasts is how long it goes on at least: a page with hundreds of
	// parts is fetched within a second.
	pressLasts = int64(2e9)
)

// pressKey is a service of a server.
type pressKey struct {
	server  address
	service uint64
}

// press is a CUSUM of the connections that a service accepts.
type press struct {
	born, last, bin int64
	test            cusum
	fires           bool
}

// pressWatch finds clients that occupy a service with connections that are
// all accepted, such as the tools that ask a web server for pages as fast as it
// can make them do (ATT&CK T1499.002, Service Exhaustion Flood). No test of
// packets sees that: a hundred connections a second are little for a network.
// It cannot tell them from a new proxy or a load test either, so it only
// alerts. Page's CUSUM (Biometrika 41, 1954), over connections per service,
// against what the service is used to.
type pressWatch struct {
	e       *Engine
	table   *bounded.Table[pressKey, press]
	clients *bounded.Table[contactKey, presser] // while a service is pressed
}

func newPressWatch(e *Engine) sensor {
	w := &pressWatch{e: e}
	w.table = bounded.New[pressKey](e.cfg.Limit.Cells, func(x *press) int64 {
		switch {
		case x.fires:
			return rank(2, x.last)
		case x.test.base > 0.1:
			return rank(1, x.last)
		}
		return rank(0, x.last)
	})
	w.clients = bounded.New[contactKey](e.cfg.Limit.Suspects, func(p *presser) int64 { return rank(int64(min(p.n/64, 7)), p.last) })
	return w
}

func (w *pressWatch) edge(ev *edgeEvent) {
	if ev.what != edgeAccepted || ev.key.proto() != flow.ProtoTCP {
		return
	}
	now := w.e.clock.now
	_, x, fresh := w.table.Put(pressKey{ev.key.dst, ev.key.service}, rank(0, now))
	if x == nil {
		return
	}
	if fresh {
		x.born, x.last, x.bin = now, now, now
	}
	cfg, t := &w.e.cfg.Press, &x.test
	if dt := float64(now-x.last) / 1e9; dt > 0 {
		x.last = now
		t.leak(cfg, dt)
	}
	if d := now - x.bin; d >= binWidth {
		if age := now - x.born; age < pressKnown {
			t.base += (t.bin/(float64(d)/1e9) - t.base) * float64(d) / float64(age)
			t.base = min(t.base, cfg.Cap/cfg.Margin)
			t.tense = true // learned already
		}
		t.learn(cfg, float64(d)/1e9)
		x.bin = now
	}
	n := max(ev.r.Rate, 1)
	t.add(now, n, ev.key.src, ev.r, &w.e.keys)
	t.s = min(t.s, overshoot*cfg.Threshold)
	t.bin += n
	t.tense = t.tense || t.s > cfg.Threshold/4
	if t.s < cfg.Threshold/4 || now-x.born < pressKnown || w.e.flood.raging(ev.r, ev.key.dst) {
		return
	}
	if _, most := t.sources.top(); most <= majority*t.packets {
		w.share(ev, x, n)
	} else if t.s > cfg.Threshold && now-t.began > pressLasts {
		w.report(ev, x)
	}
}

// presser is a client's part in what presses a service.
type presser struct {
	began, last int64
	s, n        float64 // the statistic, and the connections behind it
}

// share looks for clients of which each alone makes more connections than all
// together used to: several machines under one command, as no crowd does.
func (w *pressWatch) share(ev *edgeEvent, x *press, n float64) {
	cfg, now := &w.e.cfg.Press, ev.now
	_, p, fresh := w.clients.Put(ev.key, rank(0, now))
	if p == nil {
		return
	}
	drift := x.test.drift(cfg)
	if !fresh {
		p.s -= drift * float64(now-p.last) / 1e9
	}
	if fresh || p.s <= 0 {
		*p = presser{began: now}
	}
	p.last = now
	p.s, p.n = min(p.s+n, overshoot*cfg.Threshold), p.n+n
	if p.s < cfg.Threshold || now-p.began < pressLasts {
		return
	}
	rate := p.n / (float64(now-p.began) / 1e9)
	a := w.e.ledger.report(&report{
		key:   findingKey{kind: KindSYNFlood, host: ev.key.dst, peer: ev.key.src, service: ev.key.service},
		state: StateFiring, first: p.began, owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: flow.ProtoTCP, port: ev.key.port(),
		score: 0.9, confidence: 0.9, severity: SeverityMedium, technique: "T1499.002",
		records: int64(p.n), rate: rate, baseline: x.test.base,
		evidence: []Evidence{{Feature: "accepted_connections_per_second", Value: math.Round(rate), Baseline: math.Round(drift), Contribution: 1}},
		limits:   []Limit{{"accepted_connections_per_second", drift}},
	})
	x.fires = x.fires || a != nil
}

func (w *pressWatch) report(ev *edgeEvent, x *press) {
	t, now := &x.test, w.e.clock.now
	client, n := t.sources.top()
	rate := t.packets / max(float64(now-t.began)/1e9, 1)
	a := w.e.ledger.report(&report{
		key:   findingKey{kind: KindSYNFlood, host: ev.key.dst, peer: client, service: ev.key.service},
		state: StateFiring, first: t.began, owner: w, host: client, victims: []address{ev.key.dst},
		proto: flow.ProtoTCP, port: ev.key.port(),
		score: 0.9, confidence: 0.9, severity: SeverityMedium, technique: "T1499.002",
		records: int64(t.samples), rate: rate, baseline: t.base,
		evidence: []Evidence{
			{Feature: "accepted_connections_per_second", Value: math.Round(rate), Baseline: math.Round(t.drift(&w.e.cfg.Press)), Contribution: 1},
			{Feature: "largest_source_share", Value: math.Round(n/t.packets*100) / 100},
		},
		limits: []Limit{{"accepted_connections_per_second", t.drift(&w.e.cfg.Press)}, {"largest_source_share", majority}},
	})
	x.fires = x.fires || a != nil
}

func (w *pressWatch) resolved(k findingKey) {
	if _, x := w.table.Find(pressKey{k.host, k.service}); x != nil {
		x.fires = false
	}
	if i, p := w.clients.Find(contactKey{k.peer, k.host, k.service}); p != nil {
		w.clients.Delete(i)
	}
}

// raging reports whether attempts at a victim are known to be a flood.
func (w *floodWatch) raging(r *flow.Record, victim address) bool {
	for _, port := range []uint32{r.InPort, r.OutPort, 0} { // of an answer or of an attempt
		if _, x := w.cells.Find(w.key(victim, port, r, classSYN)); x != nil && x.fires {
			return true
		}
	}
	return false
}
