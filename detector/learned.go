package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/model"
)

// maxReasons is how many features a learned-threat finding names.
const maxReasons = 5

// evens is the probability below which a threat is less likely than not: worth a
// look, no more.
const evens = 0.5

// ModelConfig says what the supervised classifier scores with.
type ModelConfig struct {
	// Active makes findings, Candidate is scored beside it without effect.
	// Nil ones are not there; Replace changes both in a running engine.
	Active, Candidate *model.Model
	// Scored receives every window with the probabilities that the models
	// gave it, NaN where there is no model or too little to judge by. It is
	// called on the engine's
	// goroutine, must not keep the window, and may be nil.
	Scored func(w *Window, active, candidate float64)
}

// ModelSchema describes Window.Values to models.
func ModelSchema() model.Schema {
	infos := Features()
	features := make([]model.Feature, len(infos))
	for i, f := range infos {
		features[i] = model.Feature{Name: f.Name, Meaning: f.Unit + "; " + f.Source + "; " + f.About}
	}
	return model.NewSchema(features)
}

// RisingFeatures names the features of which more is never less suspicious:
// whoever attacks cannot look benign by attacking more.
func RisingFeatures() []string {
	infos := Features()
	var names []string
	for _, f := range []int{FeatureOpens, FeatureFailed, FeatureFailedShare, FeatureServers, FeatureServices, FeatureServicesPerServer,
		FeatureNewEdges, FeatureNewEdgeShare, FeatureAdmin, FeaturePacketsOut, FeatureBytesOut, FeatureDNSQueries, FeatureDNSBytes,
		FeatureDNSFailed, FeatureTTLs, FeatureMACs} {
		names = append(names, infos[f].Name)
	}
	return names
}

// Replace changes the models of a running engine. It returns an error that wraps
// model.ErrSchema, and changes nothing, when one does not fit the features.
func (e *Engine) Replace(active, candidate *model.Model) error {
	if err := fits(active, candidate); err != nil {
		return err
	}
	e.cfg.Model.Active, e.cfg.Model.Candidate = active, candidate
	return nil
}

func fits(models ...*model.Model) error {
	for _, m := range models {
		if m == nil {
			continue
		}
		if err := m.Schema.Fits(ModelSchema()); err != nil {
			return err
		}
	}
	return nil
}

// learnedWatch lets a model that was trained on labels judge the windows of
// hosts. It is one vote of the family "classifier", never sequential, and does
// not learn while it runs: nobody can teach it by sending traffic.
type learnedWatch struct {
	e       *Engine
	scratch model.Scratch
	values  [NumFeatures]float64
	hidden  []int // features that sampling may hide
}

func newLearnedWatch(e *Engine) sensor {
	return &learnedWatch{e: e, hidden: hiddenFeatures()}
}

// resolved implements sensor; a window stands for itself, so there is nothing to
// forget.
func (w *learnedWatch) resolved(findingKey) {}

func (w *learnedWatch) window(win *Window) {
	c := &w.e.cfg.Model
	if c.Active == nil && c.Candidate == nil && c.Scored == nil || !win.Acts() {
		return
	}
	known := w.prepare(win)
	active, candidate := math.NaN(), math.NaN()
	judge := w.enough(win)
	if c.Active != nil && judge {
		active = c.Active.Score(w.values[:], &w.scratch)
	}
	if c.Candidate != nil && judge {
		candidate = c.Candidate.Score(w.values[:], &w.scratch)
	}
	if c.Scored != nil {
		c.Scored(win, active, candidate)
	}
	if active >= c.Threshold() {
		w.report(win, known)
	}
}

// fewConversations is how many a host inside must have begun in a minute to be
// judged by it: as many as the random walk needs. A single one that fails is all
// that a stranger who knocks shows, and what every honest client shows now and
// then.
const fewConversations = 4

// enough reports whether a host did enough in a window to be judged by it.
func (w *learnedWatch) enough(win *Window) bool {
	v := &win.Values
	return max(v[FeatureOpens], v[FeatureServices]) >= fewConversations-0.5 || !w.e.inside(win.addr)
}

// Threshold is the probability from which windows are reported; above 1, so
// never, without a model.
func (c *ModelConfig) Threshold() float64 {
	if c.Active == nil {
		return math.Inf(1)
	}
	return c.Active.Threshold
}

// prepare copies the features, without those that cannot be known: outcomes that
// sampling hides, where a count of zero answers means nothing, and what is new
// while everything is. It returns the share of the features that is known.
func (w *learnedWatch) prepare(win *Window) float64 {
	w.values = win.Values
	unknown := 0
	if !win.Complete() {
		for _, i := range w.hidden {
			w.values[i] = math.NaN()
		}
		unknown += len(w.hidden)
	}
	if !win.Settled {
		w.values[FeatureNewEdges], w.values[FeatureNewEdgeShare] = math.NaN(), math.NaN()
		unknown += 2
	}
	if win.Rate > 1 {
		unknown += w.forgetVolumes(win)
	}
	return 1 - float64(unknown)/NumFeatures
}

// volumeSamples is how many samples a volume takes: their number errs by a half of
// itself then. Of fewer, and of none above all, a model would learn what the
// sampling missed as if the host had not done it.
const volumeSamples = 4

// forgetVolumes hides the volumes of which too few samples came and returns how
// many features that are.
func (w *learnedWatch) forgetVolumes(win *Window) (unknown int) {
	var list []int
	if win.Sent < volumeSamples {
		list = append(list, FeaturePacketsOut, FeatureBytesOut, FeatureSizeMean, FeatureSizeSpread, FeatureTCPShare, FeatureUDPShare, FeatureICMPShare)
	}
	if win.Received < volumeSamples {
		list = append(list, FeaturePacketsIn, FeatureBytesIn)
	}
	if win.Sent+win.Received < volumeSamples {
		list = append(list, FeatureOutShare)
	}
	for _, i := range list {
		w.values[i] = math.NaN()
	}
	return len(list)
}

// Acts reports whether the host began anything: who only answers is not judged
// by what others ask of it.
func (w *Window) Acts() bool { return w.Values[FeatureServices] > 0 }

// Complete reports whether the outcomes of conversations were seen: nothing was
// sampled, or the connection tap told of every attempt beside the samples.
func (w *Window) Complete() bool {
	v := &w.Values
	return w.Rate <= 1 || v[FeatureOpens]+v[FeatureServed] > 0
}

// Vector returns the features as a model takes them, NaN where one cannot be
// known.
func (w *Window) Vector() []float64 {
	x := learnedWatch{hidden: hiddenFeatures()}
	x.prepare(w)
	return x.values[:]
}

func hiddenFeatures() []int {
	var list []int
	for i, f := range Features() {
		if !f.Sampled {
			list = append(list, i)
		}
	}
	return list
}

// report makes a finding of a window, with the features that carried the score.
func (w *learnedWatch) report(win *Window, known float64) {
	m := w.e.cfg.Model.Active
	score, _, parts := m.Explain(w.values[:], &w.scratch)
	infos := Features()
	sum := 0.0
	for _, p := range parts {
		sum += max(p.LogOdds, 0)
	}
	evidence := make([]Evidence, 0, maxReasons)
	for _, p := range parts {
		if p.LogOdds > 0 && len(evidence) < maxReasons {
			evidence = append(evidence, Evidence{Feature: infos[p.Feature].Name, Value: w.values[p.Feature],
				Baseline: m.Normal[p.Feature], Contribution: p.LogOdds / sum})
		}
	}
	severity := SeverityMedium
	if score < evens {
		severity = SeverityLow
	}
	now := w.e.clock.now
	w.e.ledger.report(&report{
		severity: severity,
		key:      findingKey{kind: KindLearnedThreat, host: win.addr}, state: StateFiring, first: now - windowLength, owner: w,
		host: win.addr, score: score, confidence: known, evidence: evidence, records: int64(win.Records),
		limits: []Limit{{"model_probability", justBelow(w.e.cfg.Model.Threshold())}},
	})
}
