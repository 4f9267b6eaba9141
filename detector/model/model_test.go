package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// A network in three numbers: scanners contact many and fail, beacons are
// regular, and the third number says nothing.
func features() []Feature {
	return []Feature{{"servers", "1/min"}, {"failed_share", "1"}, {"regularity", "1"}, {"noise", "1"}}
}

// network makes windows of benign hosts and of attackers. Scale is the site's
// own idea of how much is normal.
func network(seed uint64, set, windows int, scale float64) []Example {
	r := rand.New(rand.NewPCG(seed, 1))
	var list []Example
	for i := range windows {
		e := Example{Set: set, Time: int64(i) * 60e9, Host: fmt.Sprintf("10.0.%d.%d", set, i%40)}
		e.Values = []float64{scale * (1 + 3*r.ExpFloat64()), 0.1 * r.Float64(), 0.5 * r.Float64(), r.NormFloat64()}
		if i%10 == 0 {
			e.Malicious, e.Host = true, fmt.Sprintf("10.0.%d.2%02d", set, i/10%8)
			if i%20 == 0 {
				e.Values[0], e.Values[1] = scale*(30+40*r.Float64()), 0.6+0.4*r.Float64()
			} else {
				e.Values[2] = 0.9 + 0.1*r.Float64()
			}
		}
		list = append(list, e)
	}
	return list
}

func options(sets ...string) Options {
	o := Options{Schema: NewSchema(features()), Seed: 7, Who: "tester", Tool: "platelet test", Created: time.Unix(1e9, 0)}
	for _, s := range sets {
		o.Sets = append(o.Sets, Set{Name: s})
	}
	return o
}

func trained(t testing.TB) *Model {
	t.Helper()
	var list []Example
	for set := range 3 {
		list = append(list, network(uint64(set), set, 600, 1+float64(set))...)
	}
	m, err := Train(list, options("a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTrainLearnsWhatTransfers(t *testing.T) {
	m := trained(t)
	if m.Calibration.Held != "sets" || len(m.Metrics) != 3 {
		t.Fatalf("calibrated on %q with metrics of %d sets, want those of 3 sets left out", m.Calibration.Held, len(m.Metrics))
	}
	for _, x := range m.Metrics {
		if x.AUC < 0.98 || x.Found < x.Attackers-1 || x.False > DefaultBudget {
			t.Errorf("%s, left out: AUC %.3f, %d of %d attackers, %.2f false windows per host-hour", x.Set, x.AUC, x.Found, x.Attackers, x.False)
		}
		if x.AUC <= x.Rule.AUC {
			t.Errorf("%s: no better than the rule %q at %v (AUC %.3f against %.3f)", x.Set, x.Rule.Feature, x.Rule.Cut, x.AUC, x.Rule.AUC)
		}
	}
	var s Scratch
	scan, beacon, calm := []float64{60, 0.9, 0.2, 0}, []float64{3, 0, 0.97, 0}, []float64{3, 0, 0.2, 0}
	if p := m.Score(scan, &s); p < m.Threshold {
		t.Errorf("a scan has %.3f, below the threshold %.3f", p, m.Threshold)
	}
	if p := m.Score(beacon, &s); p < m.Threshold {
		t.Errorf("a beacon has %.3f, below the threshold %.3f", p, m.Threshold)
	}
	if p := m.Score(calm, &s); p > DefaultPrior {
		t.Errorf("a calm window has %.3f, more than the prior %v", p, DefaultPrior)
	}
}

func TestExplanationAddsUp(t *testing.T) {
	m := trained(t)
	r := rand.New(rand.NewPCG(1, 2))
	var s Scratch
	for range 200 {
		v := []float64{100 * r.Float64(), r.Float64(), r.Float64(), r.NormFloat64()}
		if r.IntN(4) == 0 {
			v[r.IntN(4)] = math.NaN()
		}
		score, base, parts := m.Explain(v, &s)
		sum := base
		for _, p := range parts {
			sum += p.LogOdds
			if x := v[p.Feature]; x < p.Low || x >= p.High {
				t.Fatalf("%v is not within [%v, %v)", x, p.Low, p.High)
			}
			if math.IsNaN(v[p.Feature]) {
				t.Fatal("what is not known took part")
			}
		}
		if math.Abs(sigmoid(sum)-score) > 1e-9 || score != m.Score(v, &s) {
			t.Fatalf("%v: parts add up to %.6f, the score is %.6f", v, sigmoid(sum), score)
		}
	}
	_, _, parts := m.Explain([]float64{60, 0.9, 0.2, 0}, &s)
	if f := parts[0].Feature; f != 0 && f != 1 {
		t.Errorf("a scan is carried by %q", m.Schema.Names[f])
	}
}

// What must not lower a score does not, even where the data say so.
func TestRisingFeaturesRise(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	var list []Example
	for i := range 900 { // attackers of one server among benign hosts of many
		e := Example{Set: i % 3, Host: fmt.Sprint(i % 90), Malicious: i%90 < 30}
		e.Values = []float64{5 + 20*r.Float64(), 0.2 * r.Float64(), r.Float64(), r.NormFloat64()}
		if e.Malicious {
			e.Values[0], e.Values[1] = 1, 0.1+0.6*r.Float64()
		}
		list = append(list, e)
	}
	o := options("a", "b", "c")
	free, err := Train(list, o)
	if err != nil {
		t.Fatal(err)
	}
	o.Rising = []string{"servers"}
	m, err := Train(list, o)
	if err != nil {
		t.Fatal(err)
	}
	var s Scratch
	for range 300 {
		v := []float64{1, r.Float64(), r.Float64(), r.NormFloat64()}
		last := m.Score(v, &s)
		for v[0] = 2; v[0] < 60; v[0]++ {
			p := m.Score(v, &s)
			if p < last {
				t.Fatalf("with %v servers the score falls from %v to %v", v[0], last, p)
			}
			last = p
		}
	}
	if v := []float64{1, 0.5, 0.5, 0}; free.Score(v, &s) < free.Score([]float64{30, 0.5, 0.5, 0}, &s) {
		t.Error("the data do not show what this test is about")
	}
}

// No value, however extreme, moves a score further than the last bin.
func TestExtremesAreBounded(t *testing.T) {
	m := trained(t)
	var s Scratch
	far, edge := m.Score([]float64{math.Inf(1), 0.05, 0.2, 1e300}, &s), m.Score([]float64{1e6, 0.05, 0.2, 100}, &s)
	if far != edge {
		t.Errorf("infinity scores %.4f, a million %.4f", far, edge)
	}
	low := m.Score([]float64{math.Inf(-1), 0, 0, math.Inf(-1)}, &s)
	if math.IsNaN(low) || math.IsNaN(far) {
		t.Error("an extreme value gives no number")
	}
}

func TestTrainingIsReproducible(t *testing.T) {
	a, b := trained(t), trained(t)
	if a.Hash() != b.Hash() || a.Hash() == "" {
		t.Errorf("the same training gives %.12s and %.12s", a.Hash(), b.Hash())
	}
}

func TestFileSurvives(t *testing.T) {
	m := trained(t)
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	if back.Hash() != m.Hash() {
		t.Errorf("hash %s, written %s", back.Hash(), m.Hash())
	}
	again, err := back.Encode()
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("a second writing differs (%v)", err)
	}
	var s Scratch
	for _, e := range network(9, 0, 100, 2) {
		if x, y := m.Score(e.Values, &s), back.Score(e.Values, &s); x != y {
			t.Fatalf("scores %v, after reading %v", x, y)
		}
	}
	if p := back.Provenance; p.Who != "tester" || len(p.Sets) != 3 || p.Sets[1].Malicious != 60 || p.Sets[1].Benign != 540 || p.Sets[1].Hosts != 44 {
		t.Errorf("provenance %+v", p)
	}
}

func TestDecodeRefuses(t *testing.T) {
	raw, err := trained(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	forge := func(change func(m map[string]any)) string {
		var f file
		if err := json.Unmarshal(raw, &f); err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(f.Model, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if f.Model, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		f.SHA256 = digest(f.Model)
		out, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	for name, c := range map[string]struct{ text, want string }{
		"nothing":       {"", "unexpected end"},
		"garbage":       {"\x00\xff not a model", "invalid character"},
		"another file":  {`{"format":"x","version":1}`, "its format"},
		"a later one":   {strings.Replace(text, `"version":1`, `"version":9`, 1), "version 9"},
		"tampered with": {strings.Replace(text, `"threshold":0`, `"threshold":1`, 1), "has changed"},
		"cut off":       {text[:len(text)/2], "unexpected end"},
		"too large":     {text + strings.Repeat(" ", MaxFile), "larger"},
		"a wrong tree":  {forge(func(m map[string]any) { m["trees"].([]any)[0].(map[string]any)["feature"] = []int{400, -1, -1} }), "tree 0"},
		"no bins":       {forge(func(m map[string]any) { m["bins"] = []any{} }), "bins of 0"},
		"wild weights": {forge(func(m map[string]any) {
			m["trees"].([]any)[0].(map[string]any)["value"] = []float64{9, 0, 0, 0, 0, 0, 0}
		}), "out of range"},
		"short anchors": {forge(func(m map[string]any) { m["anchors"].([]any)[0].(map[string]any)["values"] = []float64{1} }), "anchor"},
		"unknown parts": {forge(func(m map[string]any) { m["run"] = "rm" }), "unknown field"},
	} {
		m, err := Decode(strings.NewReader(c.text))
		if m != nil || !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestSchemaSaysWhatDiffers(t *testing.T) {
	is := func(f ...Feature) error { return NewSchema(features()).Fits(NewSchema(f)) }
	f := features()
	if err := is(f...); err != nil {
		t.Error(err)
	}
	for want, other := range map[string][]Feature{
		`"failed_share" in place 2, here is "regularity"`: {f[0], f[2], f[1], f[3]},
		`"noise" in place 4, here is nothing`:             f[:3],
		"it knows 4, here are 5":                          append(features(), Feature{"more", ""}),
		"their meaning has changed":                       {{"servers", "1/hour"}, f[1], f[2], f[3]},
	} {
		if err := is(other...); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestTooFewLabels(t *testing.T) {
	list := network(1, 0, 60, 1)
	if _, err := Train(list, options("a")); !errors.Is(err, ErrLabels) {
		t.Errorf("%d windows with 6 malicious ones: %v", len(list), err)
	}
	if _, err := Train(nil, options("a")); !errors.Is(err, ErrLabels) {
		t.Error("learned from nothing")
	}
}

// What a site teaches moves the model, and the model still knows what it knew.
func TestContinueOnSite(t *testing.T) {
	base := trained(t)
	r := rand.New(rand.NewPCG(3, 3))
	// A monitor: many servers, all of them answer. The base never saw one.
	monitor := func() []float64 { return []float64{100 + 50*r.Float64(), 0, 0.95, r.NormFloat64()} }
	var list []Example
	for i := range 120 {
		list = append(list, Example{Values: monitor(), Host: "10.9.0.1", Time: int64(i) * 60e9})
	}
	list = append(list, network(5, 0, 300, 2)...)
	o := options("site")
	o.Base = base
	m, err := Train(list, o)
	if err != nil {
		t.Fatal(err)
	}
	var s Scratch
	before, after := base.Score(monitor(), &s), m.Score(monitor(), &s)
	if after >= before || after >= m.Threshold {
		t.Errorf("the monitor scored %.3f, and %.3f after being shown (threshold %.3f)", before, after, m.Threshold)
	}
	if p := m.Score([]float64{60, 0.9, 0.2, 0}, &s); p < 3*DefaultPrior || p < after {
		t.Errorf("a scan scores %.3f: forgotten (the monitor %.3f)", p, after)
	}
	if m.Provenance.Base != base.Hash() || len(m.Anchors) <= len(base.Anchors) {
		t.Error("the model does not say what it continues, or lost its anchors")
	}
}

// Labels that are all turned over are refused.
func TestPoisonedLabelsAreRefused(t *testing.T) {
	base := trained(t)
	list := network(5, 0, 2000, 2)
	for i := range list {
		list[i].Malicious = !list[i].Malicious
	}
	o := options("site")
	o.Base = base
	if _, err := Train(list, o); !errors.Is(err, ErrFlips) {
		t.Errorf("accepted: %v", err)
	}
	o.Force = true
	if _, err := Train(list, o); err != nil {
		t.Errorf("refused though forced: %v", err)
	}
}

// One host, however many windows it sends, weighs no more than hostWindows.
func TestLoudHostIsBounded(t *testing.T) {
	list := network(5, 0, 600, 2)
	before, err := Train(list, options("a"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20000 { // a scan, labelled benign
		list = append(list, Example{Values: []float64{60, 0.9, 0.2, 0}, Host: "10.6.6.6", Time: int64(i)})
	}
	after, err := Train(list, options("a"))
	if err != nil {
		t.Fatal(err)
	}
	var s Scratch
	scan := []float64{80, 0.7, 0.1, 0}
	if p, q := before.Score(scan, &s), after.Score(scan, &s); q < DefaultPrior {
		t.Errorf("a scan scores %.3f before, %.3f after one host called 20,000 of its own benign", p, q)
	}
}

func TestAUC(t *testing.T) {
	for want, list := range map[float64][]scored{
		1:    {{0, 0}, {1, 1}, {0.5, 0}},
		0.5:  {{1, 0}, {1, 1}},
		0.25: {{1, 0}, {0, 1}, {1, 1}},
		0:    {{1, 0}},
	} {
		if got := auc(list); got != want {
			t.Errorf("auc(%v) = %v, want %v", list, got, want)
		}
	}
}

// Calibration on what was held out: of the windows given p, a share p is
// malicious, when both classes weigh the same.
func TestCalibrationIsHonest(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 8))
	var list []held
	for i := range 4000 {
		class := i % 2
		// Overconfident learners: log odds three times what they should be.
		list = append(list, held{x: 3 * (float64(2*class-1) + 1.4*r.NormFloat64()), weight: 1, class: class})
	}
	c := fitCalibration(list, 0.5, "sets")
	var n, hits, p float64
	for _, h := range list {
		if q := c.probability(h.x); q > 0.7 && q < 0.9 {
			n, p, hits = n+1, p+q, hits+float64(h.class)
		}
	}
	if n < 100 || math.Abs(hits/n-p/n) > 0.06 {
		t.Errorf("of %v windows with a mean of %.3f, %.3f are malicious", n, p/n, hits/n)
	}
	if c := fitCalibration([]held{{x: 9, weight: 1, class: 0}, {x: -9, weight: 1, class: 1}}, 0.01, "sets"); c.Slope != 0 {
		t.Errorf("learners that are worse than chance keep a say of %v", c.Slope)
	}
}

func TestScoringDoesNotAllocate(t *testing.T) {
	m := trained(t)
	var s Scratch
	v := []float64{3, 0.1, 0.3, 0}
	m.Score(v, &s)
	if n := testing.AllocsPerRun(100, func() { m.Score(v, &s) }); n != 0 {
		t.Errorf("%v allocations per window", n)
	}
}

func BenchmarkScore(b *testing.B) {
	m := trained(b)
	var s Scratch
	list := network(4, 0, 1000, 2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Score(list[i%len(list)].Values, &s)
	}
}

func BenchmarkTrain(b *testing.B) {
	list := network(4, 0, 10000, 2)
	for b.Loop() {
		if _, err := Train(list, options("a")); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/window")
}
