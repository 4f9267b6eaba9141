package detector

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/detector/conformal"
)

// AnomalyConfig tunes the unsupervised ensemble.
type AnomalyConfig struct {
	// Hosts is how many hosts inside have a baseline, 490 bytes each.
	Hosts int
	// AlertRate is how many false findings of kind anomaly there are at most
	// per host and hour, on average, as long as hours are exchangeable. The
	// lower it is the longer is learned before anything is found: 2/rate
	// host-hours.
	AlertRate float64
	// Relearn is how long a host may differ from its baseline before that is
	// given up and learned anew, which is announced.
	Relearn time.Duration
	// Odds are the prior odds that what is unlike itself is harmless. They
	// make a probability of the models' verdict.
	Odds float64
	// Announce hears when learning is paused, resumed or started afresh. It
	// is called on the engine's goroutine and must not call back; may be nil.
	Announce func(Notice)
}

func defaultAnomaly() AnomalyConfig {
	return AnomalyConfig{Hosts: 1 << 17, AlertRate: 0.005, Relearn: 24 * time.Hour, Odds: 4}
}

func (c *AnomalyConfig) valid() bool {
	return c.Hosts > 0 && c.AlertRate > 0 && c.AlertRate < 1 && 2/c.AlertRate <= calibration && c.Relearn > 0 && c.Odds > 0
}

// Notice tells of a change in what is learned. Nothing adapts silently.
type Notice struct {
	Time int64      // Unix nanoseconds
	Host netip.Addr // invalid: all hosts
	What Learning
	Why  string
}

// Learning is what a Notice is about.
type Learning string

// What a Notice may tell.
const (
	LearningReady     Learning = "ready"     // enough was learned to judge
	LearningPaused    Learning = "paused"    // a host is unlike itself: nothing is learned from it
	LearningResumed   Learning = "resumed"   // it is like itself again
	LearningRelearned Learning = "relearned" // it stayed different: its baseline starts afresh
	LearningDrift     Learning = "drift"     // hosts as a whole differ from their baselines more than they did
)

// The models, each of a statistical family of its own. Two must agree.
const (
	modelForest  = iota // isolation: random cuts part it from all others early
	modelAutoenc        // reconstruction: its features do not fit each other
	modelGraph          // structure: its edges come in a burst
	modelShift          // change: it has left its baseline for good
	numModels
)

func modelNames() [numModels]string {
	return [numModels]string{"model_forest", "model_autoencoder", "model_graph", "model_shift"}
}

const (
	// calibration is how many host-hours are remembered, highRank from which
	// rank among them an hour of a host is taken at most once a day.
	calibration = 4096
	highRank    = 0.05
	// raiseAt is when a CUSUM pauses learning before there is a
	// calibration.
	raiseAt = 20
	// tellAfter is how long learning is paused until that is announced.
	tellAfter = int64(time.Hour)
	// materialDrift is the least drift worth telling of, as unusual measures
	// it: 7 spreads in sum over the features.
	materialDrift = 0.015
	// materialDeviation is the least deviation, in spreads, that is worth a finding.
	materialDeviation = 3
	// scoredEdges bounds what one host may cost per window.
	scoredEdges = 256
)

// anomalyWatch finds hosts that are unlike themselves.
type anomalyWatch struct {
	e     *Engine
	infos []FeatureInfo
	// log, hides and floors are the features' properties as arrays.
	log    [vectorSize]bool
	hides  [vectorSize]bool
	floors vector
	hosts  *bounded.Table[address, baseline]
	roles  [hostRoles]population
	outlier
	ready bool

	// Of the window that is judged.
	y, z, usual, caps vector
	hidden            [vectorSize]bool
}

func newAnomalyWatch(e *Engine) (*anomalyWatch, error) {
	w := &anomalyWatch{e: e, infos: append(Features(), FeatureInfo{Name: "edge_surprise", Unit: "1",
		Source: "edges", Log: true, Sampled: true, About: "highest MIDAS-F score of the conversations begun"})}
	for i, f := range w.infos {
		w.log[i], w.hides[i] = f.Log, !f.Sampled
	}
	w.floors = spreadFloors(w.infos)
	w.hosts = bounded.New[address](e.cfg.Anomaly.Hosts, (*baseline).worth)
	var err error
	if w.outlier, err = newOutlier(e.keys); err != nil {
		return nil, fmt.Errorf("detector: building the unsupervised numModels: %w", err)
	}
	return w, nil
}

// resolved implements sensor: each window stands for itself.
func (w *anomalyWatch) resolved(findingKey) {}

// edge scores conversations in the graph of hosts.
func (w *anomalyWatch) edge(ev *edgeEvent) {
	if ev.what != edgeOpened && !ev.fresh || !w.e.inside(ev.key.src) {
		return
	}
	b := w.baseline(ev.key.src)
	if b == nil || b.edges >= scoredEdges {
		return
	}
	b.edges++
	s := w.graph.Edge(w.node(ev.key.src), w.node(ev.key.dst), w.minute(ev.now))
	// What is anomalous about the destination is not the source's doing.
	b.surprise = max(b.surprise, float32(max(s.Edge, s.Source)))
}

// minute counts from 1 when learning began.
func (w *anomalyWatch) minute(now int64) int64 {
	return (now-w.e.clock.start)/windowLength + 1 + w.minutes
}

func (w *anomalyWatch) baseline(h address) *baseline {
	_, b, fresh := w.hosts.Put(h, rank(0, w.e.clock.now))
	if fresh {
		b.seen = w.e.clock.now
	}
	return b
}

// window judges a host's minute, then learns from it if nothing speaks
// against.
func (w *anomalyWatch) window(win *Window) {
	if !w.e.inside(win.addr) {
		return
	}
	b := w.baseline(win.addr)
	if b == nil {
		return
	}
	b.seen = w.e.clock.now
	w.transform(win, b)
	b.edges, b.surprise = 0, 0
	suspicious := w.accused(win.addr)
	p := &w.roles[b.role]
	season := p.season(win.Start)
	odd := false
	if b.windows >= apprenticeFor {
		season.usual(&w.usual)
		b.standardise(&w.y, &w.usual, &w.hidden, &w.z)
		odd = w.judge(win, b, suspicious)
	}
	if suspicious || odd || b.raised != 0 {
		w.e.stats.Unlearned++
		return
	}
	if b.windows >= settledAfter && w.admit(w.group(win.addr)) {
		season.vote(b, &w.y, &w.floors, &w.hidden, win.Start)
	}
	p.caps(&w.caps)
	b.learn(&w.y, &w.floors, &w.caps, &w.hidden)
	w.poll(win.addr, b)
}

// transform takes the logarithm of features of many magnitudes, and marks
// those that sampling hides.
func (w *anomalyWatch) transform(win *Window, b *baseline) {
	complete := win.Complete()
	b.partial = !complete
	for i := range w.y {
		v := float64(b.surprise)
		if i < NumFeatures {
			v = win.Values[i]
		}
		if w.log[i] {
			v = math.Log1p(max(v, 0))
		}
		w.y[i], w.hidden[i] = v, w.hides[i] && !complete
	}
}

// poll lets a host vote in its role's population, once an hour, and looks at
// its role.
func (w *anomalyWatch) poll(h address, b *baseline) {
	const every = int64(time.Hour)
	if b.windows < apprenticeFor || b.seen-b.voted < every {
		return
	}
	b.voted = b.seen
	b.assign()
	if w.admit(w.group(h)) {
		w.roles[b.role].vote(b, &w.floors)
	}
}

// group is what one contributor to shared models may be: everything behind a
// port, or a station, or an address. An attacker with many addresses is one.
func (w *anomalyWatch) group(h address) uint64 {
	_, x := w.e.hosts.Find(h)
	switch {
	case x != nil && x.inPort != 0:
		return w.e.hash(uint64(x.exporter)<<32 | uint64(x.inPort))
	case x != nil && !x.mac.IsZero():
		m := x.mac
		return w.e.hash(1<<48 | uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 | uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5]))
	}
	return w.e.keys.address(h)
}

// accused reports whether a finding of another kind names a host.
func (w *anomalyWatch) accused(h address) bool {
	for _, a := range w.e.ledger.byHost[h] {
		if a.key.kind != KindAnomaly {
			return true
		}
	}
	return false
}

// judge scores a standardised window, calibrates the scores, and reports the
// host when two families agree that it is unlike itself. It returns whether they
// do.
func (w *anomalyWatch) judge(win *Window, b *baseline, suspicious bool) (odd bool) {
	const f = featureSurprise
	surprise := 0.0
	if !w.hidden[f] {
		surprise = max(0, (w.y[f]-b.expect(f, &w.usual))/float64(b.spread[f]))
	}
	var scores, p [numModels]float64
	w.score(&w.z, surprise, b.accumulate(&w.z), &scores)
	peers := w.peers(b.role, w.needed())
	for m, s := range scores {
		p[m] = peers[m].P(s)
	}
	w.e.stats.Judged++
	w.freeze(win, b, scores[modelShift], p[modelShift])
	w.keep(win, b, &scores, suspicious)
	combined := conformal.Second(p[:]...)
	if w.ready && combined <= w.e.cfg.Anomaly.AlertRate && w.deviates() {
		b.hour.found = true
		w.report(win, b, &p, combined)
		return true
	}
	group := w.group(win.addr)
	if suspicious || !w.admit(group) {
		return false
	}
	w.watchDrift(win.Start)
	// Like high hours, high windows are learned once a day, so that repeating
	// them does not make them normal.
	if b.raised == 0 && (!w.ready || slices.Min(p[:]) > highRank || w.highWindows.take(group, b.hour.number/24)) {
		w.learn(&w.z)
	}
	return false
}

// watchDrift looks whether hosts as a whole move away from their baselines.
// Nothing follows from it by itself: hosts that stay away are learned anew one
// by one, see freeze.
func (w *anomalyWatch) watchDrift(at int64) {
	change, drifted := w.drift.Add(w.unusual(at, distance(&w.z)))
	if !drifted || change.After-change.Before < materialDrift || !w.ready {
		return
	}
	w.e.stats.Drifts++
	const toSpreads = 2 * clipAbove * vectorSize
	w.announce(netip.Addr{}, LearningDrift, fmt.Sprintf("hosts exceed their baselines by %.1f spreads in sum more than they did at this time of day",
		(change.After-change.Before)*toSpreads))
}

// freeze pauses learning from a host that has left its baseline, resumes when it
// is back, and gives the baseline up when it stays away.
func (w *anomalyWatch) freeze(win *Window, b *baseline, shift, p float64) {
	raised := shift > raiseAt
	if w.ready {
		raised = p <= highRank
	}
	raised = raised && b.windows >= settledAfter
	host := win.addr.netip()
	away := win.End - b.raised
	switch {
	case !raised:
		if b.told {
			w.announce(host, LearningResumed, "it is like its baseline again")
		}
		b.raised, b.told = 0, false
	case b.raised == 0:
		b.raised = win.End
	case away >= int64(w.e.cfg.Anomaly.Relearn):
		b.forget()
		w.e.stats.Relearned++
		w.announce(host, LearningRelearned, fmt.Sprintf("it has been unlike its baseline for %v", w.e.cfg.Anomaly.Relearn))
	case away >= tellAfter && !b.told:
		b.told = true
		w.announce(host, LearningPaused, fmt.Sprintf("it has exceeded its baseline for an hour, by %.0f spreads in sum", shift))
	}
}

func (w *anomalyWatch) announce(h netip.Addr, what Learning, why string) {
	if f := w.e.cfg.Anomaly.Announce; f != nil {
		f(Notice{Time: w.e.clock.outside(w.e.clock.now), Host: h, What: what, Why: why})
	}
}

// keep gathers a host's highest scores of an hour, and remembers those of an
// hour that is over.
func (w *anomalyWatch) keep(win *Window, b *baseline, scores *[numModels]float64, suspicious bool) {
	h := &b.hour
	if n := win.Start / int64(time.Hour); n != h.number {
		w.remember(win.addr, b)
		*h = bestOfHour{number: n}
	}
	for m, s := range scores {
		h.best[m] = max(h.best[m], float32(s))
	}
	h.windows++
	h.tainted = h.tainted || suspicious
}

// remember adds a host's hour to the calibration. High hours count once per port
// and day and those with a finding once a week, which is more often than a
// harmless host has them: so the promise holds, and whoever repeats an attack
// does not make it the norm.
func (w *anomalyWatch) remember(addr address, b *baseline) {
	h := &b.hour
	if h.windows == 0 || h.tainted || !w.mature() {
		return
	}
	high, peers := false, w.peers(b.role, w.needed())
	for m, s := range h.best {
		high = high || w.ready && peers[m].P(float64(s)) <= highRank
	}
	group := w.group(addr)
	if high && !w.highHours.take(group, h.number/24) || h.found && !w.foundHours.take(group, h.number/(7*24)) {
		return
	}
	for m, s := range h.best {
		w.histories[roleNone][m].Add(float64(s))
		if b.role != roleNone {
			w.histories[b.role][m].Add(float64(s))
		}
	}
	if !w.ready && w.hours() >= w.needed() {
		w.ready = true
		w.announce(netip.Addr{}, LearningReady, fmt.Sprintf("%d host-hours were learned", w.hours()))
	}
}

// needed is how many host-hours it takes until the second of the models can have
// a p-value as low as the alert rate.
func (w *anomalyWatch) needed() int {
	return int(math.Ceil(numModels/2/w.e.cfg.Anomaly.AlertRate)) - 1
}

// deviates reports whether any feature is far enough off to tell somebody.
func (w *anomalyWatch) deviates() bool {
	for _, z := range w.z {
		if z >= materialDeviation {
			return true
		}
	}
	return false
}

// report makes a finding of a window: the features that carried it, against what
// is normal for this host, then the models that agree, with their p-values
// against the rate that was promised.
func (w *anomalyWatch) report(win *Window, b *baseline, p *[numModels]float64, combined float64) {
	c := &w.e.cfg.Anomaly
	evidence := w.reasons(b)
	agree := 0
	for m, name := range modelNames() {
		if p[m] <= c.AlertRate {
			agree++
			evidence = append(evidence, Evidence{Feature: name, Value: p[m], Baseline: c.AlertRate})
		}
	}
	severity := SeverityLow
	if agree > 2 {
		severity = SeverityMedium
	}
	known := 0
	for _, hidden := range w.hidden {
		if !hidden {
			known++
		}
	}
	w.e.ledger.report(&report{
		key: findingKey{kind: KindAnomaly, host: win.addr}, state: StateFiring, owner: w,
		first: w.e.clock.now - windowLength, host: win.addr, severity: severity,
		score: conformal.Posterior(combined, c.Odds), confidence: float64(known) / vectorSize,
		evidence: evidence, limits: w.limits(b), records: int64(win.Records),
	})
}

// limits are the values up to which features are of no interest, of all that
// exceed theirs: with all of them within, nothing would have been found. Nil when
// there are more than can be told.
func (w *anomalyWatch) limits(b *baseline) (list []Limit) {
	for i, z := range w.z {
		if z < materialDeviation {
			continue
		}
		if len(list) == maxEvidence {
			return nil
		}
		y := b.expect(i, &w.usual) + materialDeviation*float64(b.spread[i])
		list = append(list, Limit{w.infos[i].Name, justBelow(w.natural(i, y))})
	}
	return list
}

// reasons are the features above normal that carry most of the score, in their
// own units.
func (w *anomalyWatch) reasons(b *baseline) []Evidence {
	shares := w.explain(&w.z)
	var list []Evidence
	for range maxEvidence - numModels {
		best := -1
		for i, x := range shares {
			if x > 0 && w.z[i] > 1 && (best < 0 || x > shares[best]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		list = append(list, Evidence{Feature: w.infos[best].Name, Value: w.natural(best, w.y[best]),
			Baseline: w.natural(best, b.expect(best, &w.usual)), Contribution: shares[best]})
		shares[best] = 0
	}
	return list
}
