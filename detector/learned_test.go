package detector

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/platelet-sdn/platelet/detector/model"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// siteModel learns from a made-up history that hosts whose conversations fail
// are attackers.
func siteModel(t testing.TB) *model.Model {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 1))
	var list []model.Example
	for i := range 600 {
		var w Window
		e := model.Example{Host: fmt.Sprint(i % 60), Set: i % 3, Malicious: i%60 < 20}
		opens := 4 + float64(r.IntN(20))
		w.Values[FeatureOpens], w.Values[FeatureServices] = opens, 1+float64(r.IntN(4))
		w.Values[FeatureAccepted] = opens
		if e.Malicious {
			w.Values[FeatureAccepted], w.Values[FeatureFailed], w.Values[FeatureFailedShare] = 0, opens, 1
		}
		e.Values = w.Vector()
		list = append(list, e)
	}
	m, err := model.Train(list, model.Options{Schema: ModelSchema(), Sets: []model.Set{{Name: "a"}, {Name: "b"}, {Name: "c"}}, Prior: 0.2})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// visits are conversations of a client with two servers, as a log tells them.
func visits(e *Engine, client netip.Addr, minutes int, fail bool) {
	for i := range minutes * 6 {
		at := int64(1e18) + int64(i)*10*sec
		server := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i%2)})
		up := flow.Record{Time: at, Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Proto: flow.ProtoTCP,
			Src: client, Dst: server, SrcPort: uint16(2000 + i), DstPort: 80, Packets: 3, Bytes: 300}
		down := up
		down.Src, down.Dst, down.SrcPort, down.DstPort, down.Signal = up.Dst, up.Src, up.DstPort, up.SrcPort, flow.SignalAccept
		if fail {
			down.Signal = flow.SignalRefuse
		}
		e.Observe([]flow.Record{up, down})
		e.Advance(at + sec)
	}
	e.Advance(int64(1e18) + int64(minutes+2)*60*sec)
}

func learnedEngine(t testing.TB, m ModelConfig) (*Engine, *[]Finding) {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Model, cfg.Seed = m, 1
	cfg.Limit = LimitConfig{Hosts: 1 << 10, Contacts: 1 << 10, Pending: 1 << 10, Suspects: 1 << 8, MACs: 1 << 6,
		Cells: 1 << 8, Sessions: 1 << 8, Edges: 1 << 10, Windows: 1 << 8, Findings: 64}
	var found []Finding
	cfg.Emit = func(f Finding) {
		if f.Kind == KindLearnedThreat && f.State == StateFiring {
			found = append(found, f)
		}
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e, &found
}

func TestLearnedThreat(t *testing.T) {
	m := siteModel(t)
	client := netip.MustParseAddr("10.0.0.77")
	e, found := learnedEngine(t, ModelConfig{Active: m})
	visits(e, client, 5, true)
	if len(*found) != 1 {
		t.Fatalf("%d findings about a host whose conversations fail, want 1", len(*found))
	}
	f := (*found)[0]
	if f.Host != client || f.Sequential || f.MayContain() || f.Severity != SeverityMedium || f.Family != FamilyClassifier || f.Score < m.Threshold {
		t.Errorf("%+v", f)
	}
	if len(f.Evidence) == 0 || f.Evidence[0].Contribution <= 0 || f.Evidence[0].Value == f.Evidence[0].Baseline {
		t.Errorf("the score is not explained: %+v", f.Evidence)
	}

	e, found = learnedEngine(t, ModelConfig{Active: m})
	visits(e, client, 5, false)
	if len(*found) != 0 {
		t.Errorf("a host whose conversations succeed is found: %+v", (*found)[0])
	}
}

// One conversation that fails is what a stranger who knocks shows, and what an
// honest client inside shows now and then.
func TestSingleFailureInside(t *testing.T) {
	for client, want := range map[string]int{"10.0.0.77": 0, "203.0.113.77": 1} {
		e, found := learnedEngine(t, ModelConfig{Active: siteModel(t)})
		for i := range 5 {
			at := int64(1e18) + int64(i)*120*sec
			up := flow.Record{Time: at, Source: flow.SourceLog, Signal: flow.SignalAttempt, Rate: 1, Proto: flow.ProtoTCP,
				Src: netip.MustParseAddr(client), Dst: netip.MustParseAddr("10.0.0.1"), SrcPort: uint16(2000 + i), DstPort: 80, Packets: 3, Bytes: 300}
			down := up
			down.Src, down.Dst, down.SrcPort, down.DstPort, down.Signal = up.Dst, up.Src, up.DstPort, up.SrcPort, flow.SignalRefuse
			e.Observe([]flow.Record{up, down})
			e.Advance(at + 100*sec)
		}
		if len(*found) != want {
			t.Errorf("%s: %d findings, want %d", client, len(*found), want)
		}
	}
}

// A candidate is scored and has no effect.
func TestCandidateHasNoEffect(t *testing.T) {
	n := 0
	e, found := learnedEngine(t, ModelConfig{Candidate: siteModel(t), Scored: func(w *Window, active, candidate float64) {
		if n++; !math.IsNaN(active) || !(candidate > 0.2) {
			t.Errorf("scores %v and %v of %v", active, candidate, w.Values)
		}
	}})
	visits(e, netip.MustParseAddr("10.0.0.77"), 5, true)
	if n == 0 || len(*found) != 0 {
		t.Errorf("%d windows scored, %d findings", n, len(*found))
	}
}

func TestModelMustFit(t *testing.T) {
	list := []model.Example{}
	for i := range 40 {
		list = append(list, model.Example{Values: []float64{float64(i % 2)}, Malicious: i%2 == 0, Host: fmt.Sprint(i)})
	}
	other, err := model.Train(list, model.Options{Schema: model.NewSchema([]model.Feature{{Name: "else"}}), Sets: []model.Set{{Name: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.Model.Active = other
	if _, err := New(cfg); !errors.Is(err, model.ErrSchema) {
		t.Errorf("a model of other features is taken: %v", err)
	}
	e, _ := learnedEngine(t, ModelConfig{})
	if err := e.Replace(nil, other); !errors.Is(err, model.ErrSchema) {
		t.Errorf("a candidate of other features is taken: %v", err)
	}
	if err := e.Replace(siteModel(t), nil); err != nil {
		t.Error(err)
	}
}

// Where only samples are seen, outcomes are not known, and nothing is concluded
// from their absence.
func TestSamplingHidesOutcomes(t *testing.T) {
	w := Window{Rate: 10}
	w.Values[FeatureServices], w.Values[FeaturePacketsOut] = 3, 100
	w.Sent, w.Received = 10, 10
	v := w.Vector()
	if !math.IsNaN(v[FeatureFailedShare]) || !math.IsNaN(v[FeatureOpens]) || v[FeaturePacketsOut] != 100 {
		t.Errorf("%v", v)
	}
	if !math.IsNaN(v[FeatureNewEdgeShare]) {
		t.Error("an engine that has just begun knows what is new")
	}
	w.Values[FeatureOpens] = 4 // the tap tells
	if v := w.Vector(); v[FeatureOpens] != 4 || v[FeatureFailedShare] != 0 {
		t.Errorf("%v", v)
	}
}

// That no packet of a host was sampled says nothing of how much it was sent.
func TestFewSamplesAreNoVolume(t *testing.T) {
	w := Window{Rate: 100, Sent: 9}
	w.Values[FeatureOpens], w.Values[FeatureServices], w.Values[FeaturePacketsOut], w.Values[FeatureOutShare] = 40, 3, 900, 1
	v := w.Vector()
	if !math.IsNaN(v[FeaturePacketsIn]) || !math.IsNaN(v[FeatureBytesIn]) || v[FeaturePacketsOut] != 900 || v[FeatureOutShare] != 1 {
		t.Errorf("%v", v)
	}
	w.Sent = 1
	if v := w.Vector(); !math.IsNaN(v[FeaturePacketsOut]) || !math.IsNaN(v[FeatureTCPShare]) || !math.IsNaN(v[FeatureOutShare]) || v[FeatureOpens] != 40 {
		t.Errorf("%v", v)
	}
	w.Rate = 1 // of what was not sampled, one packet is one packet
	if v := w.Vector(); v[FeaturePacketsOut] != 900 || v[FeaturePacketsIn] != 0 {
		t.Errorf("%v", v)
	}
}

// Whoever changes a feature makes the starter model again: make starter.
func TestStarterFits(t *testing.T) {
	m, err := model.Starter()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Schema.Fits(ModelSchema()); err != nil {
		t.Error(err)
	}
}

func BenchmarkLearnedWindow(b *testing.B) {
	m := siteModel(b)
	e, _ := learnedEngine(b, ModelConfig{Active: m, Candidate: m})
	w := &learnedWatch{e: e, hidden: hiddenFeatures()}
	win := Window{Rate: 1}
	win.Values[FeatureOpens], win.Values[FeatureServices], win.Values[FeatureAccepted] = 8, 3, 8
	b.ReportAllocs()
	for b.Loop() {
		w.window(&win)
	}
}
