package detector

import (
	"math"
	"slices"
	"time"
)

// Whose silence matters. Offices are full of machines that talk regularly and
// then leave: workstations with agents, telephones, containers that are replaced.
// So a silence is told only
//   - of a server that is still asked by whom it used to answer, and answers
//     nobody, or
//   - of a master: a client that polled at least masterOf devices which hardly
//     anybody else asks, or by industrial protocols, or
//   - of a client that kept its rhythm for a day and a night without a pause,
//     and did not take its leave: by ending the connection, or by a link that
//     went down.
const (
	masterOf = 3
	dayLong  = int64(24 * time.Hour)
	// fewestUnanswered requests in a row are no accident.
	fewestUnanswered = 3
	// silentByChance is the probability that none of the samples is an answer
	// though answers are sent.
	silentByChance = 1e-6
)

// unansweredSamples is how many samples of requests in a row, none of answers,
// are no accident, given how many there used to be of each; false when answers
// are too rare to be missed.
func unansweredSamples(up, down uint32) (needed uint32, answers bool) {
	share := float64(down) / max(float64(up)+float64(down), 1)
	if share < 0.05 {
		return 0, false
	}
	return uint32(max(math.Ceil(math.Log(silentByChance)/math.Log1p(-min(share, 0.9))), fewestUnanswered)), true
}

// hear notes that telemetry arrives.
func (w *plantWatch) hear(now int64) {
	if w.deaf(now) {
		w.awake = now
	}
	gap := min(now-w.heard, int64(time.Minute))
	w.lull += (float64(gap) - w.lull) / 256
	w.heard = now
}

// deaf reports whether it is telemetry that is silent, or everybody.
func (w *plantWatch) deaf(now int64) bool {
	return float64(now-w.heard) > 20*w.lull+float64(2*time.Second)
}

// expire looks for rhythms that are overdue.
func (w *plantWatch) expire(now int64) int64 {
	if w.beats.Len() == 0 {
		return math.MaxInt64
	}
	if next := w.looked + plantEvery; now < next {
		return next
	}
	if w.heard > w.looked && !w.deaf(now) {
		// As of the latest record of anybody: whether others fell silent after
		// that, nothing tells.
		for i, k := range w.beats.All() {
			w.look(k, w.beats.At(i), w.heard)
		}
	}
	w.looked = now
	return now + plantEvery
}

// look looks for a silence at either end of a rhythm.
func (w *plantWatch) look(k contactKey, b *beat, now int64) {
	if b.answers && b.unanswered > b.told {
		if d := w.unheard(k.dst, b, now); d != nil && (d.silent || b.unanswered-b.told >= b.needed) && w.alone(k.dst, d, b, false) {
			b.told = b.unanswered
			w.silent(k, k.dst, d, b, now, Evidence{"unanswered_requests", float64(b.unanswered), float64(b.needed - 1), 0.5})
			return
		}
	}
	if float64(now-b.last) <= w.quiet(b) {
		return
	}
	d := w.unheard(k.src, b, now)
	if d == nil || d.passed == d.last || now-d.last > int64(w.e.cfg.MaxKeepFiring) {
		return // long gone
	}
	why, matters := w.matters(k.src)
	if !matters {
		d.passed = d.last
		return
	}
	if d.silent || w.alone(k.src, d, b, true) {
		w.silent(k, k.src, d, b, now, why)
	}
}

// quiet is the silence of a rhythm, in nanoseconds, that is too long.
func (w *plantWatch) quiet(b *beat) float64 { return max(w.e.cfg.Rhythm.Quiet*b.period, 3*b.longest) }

// unheard returns a device that sends nothing at all any more, to anybody, though
// telemetry arrives and others are heard.
func (w *plantWatch) unheard(who address, b *beat, now int64) *device {
	_, d := w.devices.Find(who)
	if d == nil || float64(now-max(d.last, d.excused, w.awake)) <= w.quiet(b) {
		return nil
	}
	return d
}

// alone reports whether others went on while a device fell silent. When most
// fell silent at once it is the network, or what tells of it, and no device; then
// they are given time to come back. Whoever only answers is silent with the one
// that asks, which says nothing.
func (w *plantWatch) alone(who address, d *device, b *beat, asker bool) bool {
	within := int64(w.quiet(b) / 2)
	gone, living := 1, 0
	for i, a := range w.devices.All() {
		switch x := w.devices.At(i); {
		case a == who || asker && !x.asks:
		case x.last > d.last+within:
			living++
		case x.last >= d.last-within:
			gone++
		}
	}
	if gone > 1 && gone > living {
		d.excused = w.e.clock.now
		return false
	}
	return true
}

// matters reports whether it is an incident that a client falls silent, and why.
func (w *plantWatch) matters(client address) (why Evidence, yes bool) {
	var polled [masterOf]address
	devices, longest := 0, int64(0)
	for i, k := range w.beats.All() {
		b := w.beats.At(i)
		if k.src != client {
			continue
		}
		if !isAdaptive(k.port()) {
			longest = max(longest, b.last-b.since)
		}
		if devices < masterOf && w.fixed(k) && !slices.Contains(polled[:devices], k.dst) {
			polled[devices] = k.dst
			devices++
		}
	}
	if devices == masterOf {
		return Evidence{"devices_polled", masterOf, masterOf - 1, 0.5}, true
	}
	if longest < dayLong || w.unplugged(client) > 0 {
		return Evidence{}, false
	}
	return Evidence{"rhythm_hours", float64(longest) / float64(time.Hour), float64(dayLong) / float64(time.Hour), 0.5}, true
}

func (w *plantWatch) silent(k contactKey, who address, d *device, b *beat, now int64, why Evidence) {
	d.silent = true
	quiet := float64(now - d.last)
	evidence := []Evidence{{"silence_seconds", quiet / 1e9, b.period / 1e9, 0.5}, why}
	if down := w.unplugged(who); down > 0 {
		evidence = append(evidence, Evidence{"link_down_seconds", float64(down) / 1e9, 0, 0})
	}
	w.e.ledger.report(&report{
		key:   findingKey{kind: KindDeviceSilent, host: who},
		state: StateFiring, first: d.last, owner: w, host: who, proto: k.proto(), records: b.records, exporter: b.exporter,
		score: 1 - math.Exp(-quiet/b.period/8), confidence: 0.9,
		evidence: evidence,
		limits:   []Limit{{"silence_seconds", w.quiet(b) / 1e9}, {why.Feature, why.Baseline}},
	})
}
