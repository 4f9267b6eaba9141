// Package metrics shows the controller to Prometheus: what it decided and how fast,
// what it lost, and how it is. REFERENCE.md lists every metric, and is made from
// this package by a test.
//
// Nothing has an address of a host for a label: there may be a million, and who may
// read metrics need not know who was found to attack.
package metrics

import (
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// Metrics counts what happens, and asks for the rest when it is scraped. Its methods
// may be called side by side; they do not wait.
type Metrics struct {
	registry  *prometheus.Registry
	findings  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	contained *prometheus.HistogramVec
	recovered prometheus.Histogram
	enforced  *prometheus.HistogramVec
	failed    *prometheus.CounterVec

	mu     sync.Mutex
	states map[string]response.State // of decisions that are not over
	fired  map[string]struct{}       // IDs of findings
}

// maxFired bounds the findings that are remembered as firing.
const maxFired = 1 << 16

// New returns metrics that take their readings from read, at each scrape.
func New(read func(Put)) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), states: map[string]response.State{}, fired: map[string]struct{}{},
		findings:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "platelet_findings_total", Help: "Findings that fired, by kind."}, []string{"kind"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "platelet_decisions_total", Help: "Decisions that reached a state, by the kind of finding (empty for an operator's own), the action and the state."}, []string{"kind", "action", "state"}),
		refusals:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "platelet_guard_refusals_total", Help: "Decisions that a guard refused, by guard; each once, however often it is looked at again."}, []string{"guard"}),
		contained: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "platelet_time_to_contain_seconds", Help: "Time from the first record of the evidence to the switch's answer that the rules are installed, by action.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"action"}),
		recovered: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "platelet_recovery_seconds", Help: "Time from the last sign of an attack until its target had everything back.", Buckets: []float64{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600}}),
		enforced:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "platelet_enforcement_seconds", Help: "Time that a switch took for a request about a decision's rules, by operation: apply (to its barrier and the read back), renew, remove.", Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1}}, []string{"operation"}),
		failed:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "platelet_enforcement_failures_total", Help: "Requests about a decision's rules that a switch did not carry out, by operation; those to a switch that is away are carried out when it returns, and count."}, []string{"operation"}),
	}
	for _, c := range m.own() {
		m.registry.MustRegister(c)
	}
	m.registry.MustRegister(newReader(read), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, op := range []string{OperationApply, OperationRenew, OperationRemove} { // so that the first failure is seen to be one
		m.failed.WithLabelValues(op)
	}
	return m
}

func (m *Metrics) own() []prometheus.Collector {
	return []prometheus.Collector{m.findings, m.decisions, m.refusals, m.contained, m.recovered, m.enforced, m.failed}
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 5 * time.Second})
}

// Adopted takes the decisions of an earlier run: what they went through then is not
// counted once more.
func (m *Metrics) Adopted(list []response.Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range list {
		if !over(list[i].State) {
			m.states[list[i].ID] = list[i].State
		}
	}
}

// Finding takes a finding's change of state.
func (m *Metrics) Finding(f *detector.Finding) {
	m.mu.Lock()
	_, known := m.fired[f.ID]
	switch {
	case f.State == detector.StateResolved:
		delete(m.fired, f.ID)
	case f.State == detector.StateFiring && !known && len(m.fired) < maxFired:
		m.fired[f.ID] = struct{}{}
	}
	m.mu.Unlock()
	if f.State == detector.StateFiring && !known {
		m.findings.WithLabelValues(string(f.Kind)).Inc()
	}
}

// Decision takes a change of a decision.
func (m *Metrics) Decision(d *response.Decision) {
	m.mu.Lock()
	before := m.states[d.ID]
	switch {
	case over(d.State):
		delete(m.states, d.ID)
	case d.State == response.StateProposed && !d.Committed: // and so it stays: only observed
	default:
		m.states[d.ID] = d.State
	}
	m.mu.Unlock()
	if before == d.State {
		return
	}
	m.decisions.WithLabelValues(string(d.Kind), string(d.Action), string(d.State)).Inc()
	switch {
	case d.State == response.StateApplied && d.Finding != "" && d.Action.Contains():
		m.contained.WithLabelValues(string(d.Action)).Observe(d.Applied.Sub(d.FirstSeen).Seconds())
	case d.State == response.StateRefused:
		if n := len(d.Guards); n > 0 && !d.Guards[n-1].Pass {
			m.refusals.WithLabelValues(d.Guards[n-1].Guard).Inc()
		}
	case over(d.State) && !d.Restored.IsZero() && !d.Over.IsZero():
		m.recovered.Observe(d.Restored.Sub(d.Over).Seconds())
	}
}

func over(s response.State) bool {
	return s == response.StateRolledBack || s == response.StateReleased || s == response.StateExpired || s == response.StateRefused
}

// Operations on the rules of a decision.
const (
	OperationApply  = "apply"
	OperationRenew  = "renew"
	OperationRemove = "remove"
)

// Enforced takes a switch's answer to an operation.
func (m *Metrics) Enforced(operation string, took time.Duration, err error) {
	m.enforced.WithLabelValues(operation).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(operation).Inc()
	}
}
