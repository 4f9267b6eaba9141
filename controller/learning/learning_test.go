package learning

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

// vector is a window of a host, half of whose conversations fail if it attacks.
func vector(r *rand.Rand, attack bool) []float64 {
	v := make([]float64, detector.NumFeatures)
	opens := float64(5 + r.IntN(20))
	v[detector.FeatureOpens], v[detector.FeatureServices], v[detector.FeatureAccepted] = opens, 2, opens
	if attack {
		v[detector.FeatureFailed], v[detector.FeatureFailedShare], v[detector.FeatureAccepted] = opens, 1, 0
		v[detector.FeatureServices] = opens
	}
	return v
}

func train(t *testing.T, seed uint64, base *model.Model) *model.Model {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	var list []model.Example
	for i := range 400 {
		attack := i%4 == 0
		list = append(list, model.Example{Values: vector(r, attack), Malicious: attack, Host: fmt.Sprint(i % 80), Time: int64(i)})
	}
	m, err := model.Train(list, model.Options{Schema: detector.ModelSchema(), Sets: []model.Set{{Name: "made up"}}, Seed: seed, Base: base, Prior: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func quiet() logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func TestRegistryLife(t *testing.T) {
	dir := t.TempDir()
	r := OpenRegistry(dir)
	if s, err := r.State(); err != nil || s.Active != 0 || s.Previous != -1 || s.Candidate != 0 {
		t.Fatalf("%+v, %v", s, err)
	}
	if _, err := r.Rollback("me", ""); !errors.Is(err, ErrVersion) {
		t.Errorf("rolled back to nothing: %v", err)
	}
	m := train(t, 1, nil)
	v, err := r.Add(m, "me", "first")
	if err != nil || v != 1 {
		t.Fatal(v, err)
	}
	if err := r.Promote(1, "me", "", false); !errors.Is(err, ErrNotYet) {
		t.Errorf("promoted without a shadow: %v", err)
	}
	// Another pair's shadow proves nothing.
	good := model.Shadow{Windows: 1e6, Labels: 50, Active: "x", Candidate: m.Hash()}
	if err := r.SaveShadow(good); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(1, "me", "", false); !errors.Is(err, ErrNotYet) {
		t.Errorf("promoted on another pair's shadow: %v", err)
	}
	starter, err := r.Load(0)
	if err != nil {
		t.Fatal(err)
	}
	good.Active = starter.Hash()
	if err := r.SaveShadow(good); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(1, "me", "", false); err != nil {
		t.Fatal(err)
	}
	if s, _ := r.State(); s.Active != 1 || s.Previous != 0 || s.Candidate != 0 || len(s.Changes) != 2 || s.Changes[1].Who != "me" {
		t.Errorf("%+v", s)
	}
	if v, err := r.Rollback("me", "worse"); err != nil || v != 0 {
		t.Errorf("rolled back to v%d, %v", v, err)
	}
	if _, err := r.Rollback("me", ""); !errors.Is(err, ErrVersion) {
		t.Errorf("rolled back twice: %v", err)
	}
	if err := r.Promote(7, "me", "because", true); !errors.Is(err, ErrVersion) {
		t.Errorf("promoted what is not there: %v", err)
	}
}

func TestRegistryKeepsWhatIsInUse(t *testing.T) {
	r := OpenRegistry(t.TempDir())
	m := train(t, 1, nil)
	if _, err := r.Add(m, "me", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(1, "me", "test", true); err != nil {
		t.Fatal(err)
	}
	for range keptVersions + 4 {
		if _, err := r.Add(m, "me", ""); err != nil {
			t.Fatal(err)
		}
	}
	list, err := r.Versions()
	if err != nil || len(list) != keptVersions+2 || !slices.Contains(list, 1) || slices.Contains(list, 2) {
		t.Errorf("%v, %v", list, err)
	}
}

// A file that somebody changed is not loaded, and is not promoted either.
func TestTamperedModelIsRefused(t *testing.T) {
	r := OpenRegistry(t.TempDir())
	if _, err := r.Add(train(t, 1, nil), "me", ""); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(r.file(1))
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(r.file(1), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(1, "me", "x", true); !errors.Is(err, model.ErrFile) {
		t.Errorf("%v", err)
	}
}

func TestShadowDecides(t *testing.T) {
	good := model.Shadow{Windows: model.ShadowWindows, Labels: 4, ActiveLoss: 2, CandidateLoss: 1.9, ActiveAlarms: 9, CandidateAlarms: 12}
	if ok, why := good.Promotable(); !ok {
		t.Error(why)
	}
	for want, change := range map[string]func(*model.Shadow){
		"windows":     func(s *model.Shadow) { s.Windows-- },
		"verdicts":    func(s *model.Shadow) { s.Labels = model.ShadowLabels - 1 },
		"worse":       func(s *model.Shadow) { s.CandidateLoss = 3 },
		"more alarms": func(s *model.Shadow) { s.CandidateAlarms = 20 },
	} {
		s := good
		change(&s)
		if ok, why := s.Promotable(); ok || !strings.Contains(why, want) {
			t.Errorf("%v %q, want %q", ok, why, want)
		}
	}
}

func TestVerdictsSurvive(t *testing.T) {
	dir := t.TempDir()
	v := OpenVerdicts(dir)
	x := Verdict{Finding: "f-1", Kind: detector.KindBeacon, Host: netip.MustParseAddr("10.0.0.1"), Real: true, Who: "ann",
		Time: time.Unix(1e9, 0).UTC(), Schema: "s", Windows: []Vector{{1, math.NaN(), 0.25}}}
	if err := v.Add(x); err != nil {
		t.Fatal(err)
	}
	// A crash cut the next one off.
	f, err := os.OpenFile(v.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"finding":"f-2","ki`)
	f.Close()
	x.Finding, x.Real = "f-3", false
	if err := v.Add(x); err != nil {
		t.Fatal(err)
	}
	x.Finding, x.Time = "f-1", time.Unix(1e9+1, 0).UTC() // changed her mind
	if err := v.Add(x); err != nil {
		t.Fatal(err)
	}
	list, malformed, err := v.All()
	if err != nil || malformed != 1 || len(list) != 2 {
		t.Fatalf("%d verdicts, %d malformed, %v", len(list), malformed, err)
	}
	last := list[1]
	if last.Finding != "f-1" || last.Real || last.Windows[0][2] != 0.25 || !math.IsNaN(last.Windows[0][1]) {
		t.Errorf("%+v", last)
	}
	x.Why = strings.Repeat("x", maxWhy+1)
	if err := v.Add(x); err == nil {
		t.Error("a reason without end is kept")
	}
}

// However many verdicts one operator gives in a day, they weigh no more than
// operatorPerDay; those of all no more than verdictsPerDay.
func TestOperatorsAreBounded(t *testing.T) {
	schema := detector.ModelSchema()
	weigh := func(operators, each int) map[string]float64 {
		var list []Verdict
		for o := range operators {
			for i := range each {
				w := Vector(make([]float64, len(schema.Names)))
				list = append(list, Verdict{Finding: fmt.Sprint(o, i), Who: fmt.Sprint("op", o), Time: time.Unix(1e9, 0),
					Host: netip.AddrFrom4([4]byte{10, 0, byte(o), byte(i)}), Schema: schema.Hash, Windows: []Vector{w, w, w, w}})
			}
		}
		sum := map[string]float64{}
		examples, skipped := examplesOf(list, schema, 0)
		if skipped != 0 {
			t.Errorf("%d skipped", skipped)
		}
		for _, e := range examples {
			sum["all"] += e.Weight
			sum[e.Host[:strings.LastIndex(e.Host, ".")]] += e.Weight
		}
		return sum
	}
	near := func(a, b float64) bool { return math.Abs(a-b) < 1e-6 }
	if s := weigh(1, 200); !near(s["all"], operatorPerDay) {
		t.Errorf("one operator weighs %v", s["all"])
	}
	if s := weigh(1, 3); !near(s["all"], 3) {
		t.Errorf("three verdicts weigh %v", s["all"])
	}
	if s := weigh(10, 100); s["all"] > verdictsPerDay+1e-6 || !near(s["10.0.4"], s["10.0.7"]) {
		t.Errorf("ten operators weigh %v", s)
	}
	if list, skipped := examplesOf([]Verdict{{Schema: "another", Windows: []Vector{{1}}}}, schema, 0); len(list) != 0 || skipped != 1 {
		t.Errorf("verdicts on other features are used: %v, %d skipped", list, skipped)
	}
}

func TestHistoryIsASample(t *testing.T) {
	dir := t.TempDir()
	h := OpenHistory(dir)
	schema := detector.ModelSchema()
	start := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	loud := netip.MustParseAddr("10.0.0.1")
	add := func(host netip.Addr, at time.Time) {
		t.Helper()
		p := past{Host: host, Start: at.UnixNano(), Schema: schema.Hash, Values: make(Vector, len(schema.Names))}
		if err := h.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		add(loud, start.Add(time.Duration(i)*time.Minute))
	}
	for i := range 3 * hourWindows {
		add(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), start.Add(time.Minute))
	}
	list, skipped, err := h.Examples(schema, 3, nil)
	if err != nil || skipped != 0 || len(list) != hourWindows {
		t.Fatalf("%d windows kept of one hour, %d skipped, %v", len(list), skipped, err)
	}
	n := 0
	for _, e := range list {
		if e.Host == loud.String() {
			n++
		}
		if e.Malicious || e.Set != 3 || e.Weight != historyWeight {
			t.Fatalf("%+v", e)
		}
	}
	if n != hostHourWindow {
		t.Errorf("%d windows of the loudest host", n)
	}
	// What a confirmed finding is about is no example of benign conduct.
	list, skipped, err = h.Examples(schema, 3, []Verdict{{Real: true, Host: loud, At: start.Add(3 * time.Hour).UnixNano()}})
	if err != nil || skipped != hostHourWindow || len(list) != hourWindows-hostHourWindow {
		t.Errorf("%d windows, %d skipped, %v", len(list), skipped, err)
	}
	add(loud, start.AddDate(0, 0, historyDays+1))
	if names, _ := filepath.Glob(filepath.Join(h.dir, "*.jsonl")); len(names) != 1 {
		t.Errorf("after %d days there are %v", historyDays+1, names)
	}
}

// engineSide plays the detectors: it scores windows with whatever models it was
// given.
type engineSide struct {
	site              *Site
	active, candidate *model.Model
	applied           chan struct{}
}

func (e *engineSide) apply(active, candidate *model.Model) error {
	e.active, e.candidate = active, candidate
	e.applied <- struct{}{}
	return nil
}

func startSite(t *testing.T, dir string) *engineSide {
	t.Helper()
	e := &engineSide{applied: make(chan struct{}, 100)}
	e.site = NewSite(dir, e.apply, quiet())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.site.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	e.await(t, "models", func() bool { return len(e.applied) > 0 })
	<-e.applied
	return e
}

func (e *engineSide) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %s: %+v", what, patience, e.site.Status())
		}
	}
}

// window is a minute of a host, begun so many minutes after the epoch of tests.
func (e *engineSide) window(r *rand.Rand, host netip.Addr, minute int, attack, suspicious bool) {
	var s model.Scratch
	w := detector.Window{Host: host, Start: int64(1e18) + int64(minute)*60e9, Rate: 1, Suspicious: suspicious}
	w.End = w.Start + 60e9
	copy(w.Values[:], vector(r, attack))
	active, candidate := math.NaN(), math.NaN()
	if e.active != nil {
		active = e.active.Score(w.Values[:], &s)
	}
	if e.candidate != nil {
		candidate = e.candidate.Score(w.Values[:], &s)
	}
	e.site.Window(&w, active, candidate)
}

// From findings over verdicts and a training to a promotion.
func TestSiteLearns(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(5, 5))
	e := startSite(t, dir)
	bad := netip.MustParseAddr("10.0.0.66")
	firing := func(id string, host netip.Addr, minute int) {
		e.site.Finding(detector.Finding{ID: id, Kind: detector.KindAnomaly, State: detector.StateFiring, Host: host,
			FirstSeen: int64(1e18) + int64(minute)*60e9})
	}
	for i := range 600 {
		e.window(r, netip.AddrFrom4([4]byte{10, 0, 1, byte(i % 200)}), i/10, false, false)
	}
	e.window(r, bad, 30, true, false)
	firing("f-a", bad, 30)
	e.window(r, bad, 31, true, true) // a window that is complete after the finding fires
	behindOf := func(id string) int {
		e.site.mu.Lock()
		defer e.site.mu.Unlock()
		return len(e.site.behind[id].windows)
	}
	e.await(t, "window behind the finding", func() bool { return behindOf("f-a") >= 2 })
	if n, err := e.site.Feedback("f-a", true, "ann", "saw it"); err != nil || n != 2 {
		t.Fatalf("%d windows behind the finding, %v", n, err)
	}
	if _, err := e.site.Feedback("f-none", true, "ann", ""); !errors.Is(err, response.ErrNotFound) {
		t.Errorf("%v", err)
	}

	e.await(t, "history", func() bool {
		c, err := Collect(t.Context(), detector.DefaultConfig(), nil, nil, dir)
		return err == nil && len(c.Sets) == 2 && len(c.Examples) > 200
	})
	c, err := Collect(t.Context(), detector.DefaultConfig(), nil, nil, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range c.Examples {
		if x.Host == bad.String() && !x.Malicious {
			t.Error("a window of the attacker stands in the history as benign")
		}
	}
	base := train(t, 2, nil)
	m, err := model.Train(c.Examples, model.Options{Schema: detector.ModelSchema(), Sets: c.Sets, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.site.registry.Add(m, "ann", ""); err != nil {
		t.Fatal(err)
	}
	e.await(t, "candidate", func() bool { return e.site.Status().Candidate == 1 })

	for i := range model.ShadowWindows + 10 {
		e.window(r, netip.AddrFrom4([4]byte{10, 0, 2, byte(i % 200)}), 100+i/10, false, false)
		if i%1000 == 0 {
			e.await(t, "windows taken in", func() bool { return len(e.site.windows) == 0 })
		}
	}
	e.await(t, "comparison", func() bool { return e.site.Status().Shadow.Windows >= model.ShadowWindows })
	if err := e.site.registry.Promote(1, "ann", "", false); !errors.Is(err, ErrNotYet) {
		t.Errorf("promoted without verdicts since the training: %v", err)
	}
	for i := range model.ShadowLabels {
		id, host := fmt.Sprint("f-b", i), netip.AddrFrom4([4]byte{10, 0, 3, byte(i)})
		e.window(r, host, 300, true, false)
		firing(id, host, 300)
		e.await(t, "window behind the finding", func() bool { return behindOf(id) > 0 })
		for range 3 { // said three times, counted once
			if _, err := e.site.Feedback(id, true, "ann", ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := e.site.Status(); s.Shadow.Labels != model.ShadowLabels {
		t.Fatalf("%+v", s)
	}
	ok, why := e.site.Status().Shadow.Promotable()
	err = e.site.registry.Promote(1, "ann", "", false)
	if ok != (err == nil) {
		t.Errorf("promotable: %v (%s); promoted: %v", ok, why, err)
	}
}

// A model file that does not load leaves the detectors without that model, says
// so once, and nothing else fails.
func TestSiteSurvivesABadModel(t *testing.T) {
	dir := t.TempDir()
	r := OpenRegistry(dir)
	if _, err := r.Add(train(t, 1, nil), "me", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.Promote(1, "me", "test", true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.file(1), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := startSite(t, dir)
	e.await(t, "fault", func() bool { return strings.Contains(e.site.Status().Faults["load models"], "v1 is not used") })
	if e.active != nil {
		t.Error("a bad model is used")
	}
}
