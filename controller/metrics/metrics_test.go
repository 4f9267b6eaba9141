package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// all reads one of everything.
func all(put Put) {
	for i, d := range definitions() {
		put(Reading(i), float64(i), make([]string, len(d.labels))...)
	}
}

// busy are metrics in which everything has happened once.
func busy() *Metrics {
	m, at := New(all), time.Unix(1e9, 0)
	m.Finding(&detector.Finding{ID: "f-1", Kind: detector.KindPortScan, State: detector.StateFiring})
	d := response.Decision{ID: "d-1", Finding: "f-1", Kind: detector.KindPortScan, Action: response.ActionQuarantine, FirstSeen: at, Applied: at.Add(4 * time.Millisecond),
		Over: at.Add(time.Second), Restored: at.Add(8 * time.Second)}
	for _, s := range []response.State{response.StateApplied, response.StateApplied, response.StateVerified, response.StateProbation, response.StateReleased} {
		d.State = s
		m.Decision(&d)
	}
	m.Decision(&response.Decision{ID: "d-2", State: response.StateRefused, Guards: []response.Verdict{{Guard: "place", Pass: true}, {Guard: "budget"}}})
	m.Enforced(OperationApply, time.Millisecond, nil)
	m.Enforced(OperationRenew, time.Millisecond, errors.New("away"))
	return m
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	srv := httptest.NewServer(m.Handler())
	defer srv.Close()
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %s: %s", err, resp.Status, raw)
	}
	return string(raw)
}

func TestWhatHappensIsCounted(t *testing.T) {
	m := busy()
	m.Adopted([]response.Decision{{ID: "d-3", State: response.StateApplied}})
	m.Decision(&response.Decision{ID: "d-3", State: response.StateApplied}) // as it was before a restart
	text := scrape(t, m)
	for _, want := range []string{
		`platelet_findings_total{kind="port-scan"} 1`,
		`platelet_decisions_total{action="quarantine",kind="port-scan",state="applied"} 1`,
		`platelet_decisions_total{action="quarantine",kind="port-scan",state="released"} 1`,
		`platelet_guard_refusals_total{guard="budget"} 1`,
		`platelet_time_to_contain_seconds_bucket{action="quarantine",le="0.0025"} 0`,
		`platelet_time_to_contain_seconds_bucket{action="quarantine",le="0.005"} 1`,
		`platelet_recovery_seconds_sum 7`,
		`platelet_enforcement_seconds_count{operation="apply"} 1`,
		`platelet_enforcement_failures_total{operation="apply"} 0`,
		`platelet_enforcement_failures_total{operation="renew"} 1`,
		`go_goroutines`, `process_resident_memory_bytes`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(text, `state="applied"} 2`) || strings.Contains(text, `kind="",state="applied"`) {
		t.Error("counted twice")
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	problems, err := promlint.New(bytes.NewBufferString(scrape(t, busy()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "platelet_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// The reference lists what is served, and is made from it: UPDATE=1 writes it.
func TestReference(t *testing.T) {
	const path = "REFERENCE.md"
	families, err := busy().registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("# Metrics reference\n\nMade from the code by a test. `metrics: {listen: \"127.0.0.1:9184\"}` serves them at `/metrics`, with those of the Go runtime (`go_…`) and of the\nprocess (`process_…`) beside them. No label is an address of a host.\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "platelet_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		slices.Sort(labels)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), kind(f), strings.Join(labels, ", "), f.GetHelp())
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the code says (%v): run UPDATE=1 go test ./controller/metrics", path, err)
	}
	if n := len(families); n < int(readings)+len(busy().own()) {
		t.Errorf("only %d metrics", n)
	}
}

func kind(f *dto.MetricFamily) string { return strings.ToLower(f.GetType().String()) }

// A reading that does not fit its definition is an error of the scrape, not a panic.
func TestWrongLabels(t *testing.T) {
	m := New(func(put Put) { put(Rules, 1) })
	if _, err := m.registry.Gather(); err == nil {
		t.Error("rules without a bridge")
	}
}
