package controller_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// What happens on a real switch is what Prometheus is shown.
func TestMetricsOfAContainment(t *testing.T) {
	r := newRig(t, "plt-metric")
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	r.start(quick + fmt.Sprintf("metrics: {listen: %q}\n", address))
	r.awaitReach("h5", r.addr("h1"), "before the attack")
	r.scan("h5", r.addr("h1"))
	r.awaitState(r.addr("h5").String(), "verified")
	// The first exchange may have been over before the switch was told to report.
	var text string
	r.await("a host that an exchange binds to its port", func() bool {
		r.reaches("h2", r.addr("h1"))
		text = scrape(t, "http://"+address+"/metrics")
		bound, ok := sample(text, `platelet_hosts{bound="true"}`)
		return ok && bound >= 1
	})
	for name, least := range map[string]float64{
		`platelet_findings_total{kind="port-scan"}`:                                      1,
		`platelet_decisions_total{action="quarantine",kind="port-scan",state="applied"}`: 1,
		`platelet_open_decisions{action="quarantine",kind="port-scan",state="verified"}`: 1,
		`platelet_time_to_contain_seconds_bucket{action="quarantine",le="5"}`:            1,
		`platelet_enforcement_seconds_count{operation="apply"}`:                          1,
		`platelet_records_total{protocol="ipfix"}`:                                       10,
		`platelet_detector_records_total`:                                                10,
		`platelet_quarantined_hosts`:                                                     1,
		fmt.Sprintf(`platelet_switch_connected{bridge="%s"}`, r.bridge):                  1,
		fmt.Sprintf(`platelet_rules{bridge="%s"}`, r.bridge):                             5,
		`platelet_audit_head_entries`:                                                    3,
		`platelet_exposure_conversations`:                                                2,
	} {
		if have, ok := sample(text, name); !ok || have < least {
			t.Errorf("%s is %v (%v), want %v or more", name, have, ok, least)
		}
	}
	if have, ok := sample(text, `platelet_losses_total{place="malformed"}`); !ok || have != 0 {
		t.Errorf("malformed datagrams: %v, %v", have, ok)
	}
	if bad := r.addr("h5").String(); strings.Contains(text, bad) {
		t.Errorf("%s is told to whoever reads metrics", bad)
	}
	problems, err := promlint.New(bytes.NewBufferString(text)).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "platelet_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Error(err)
	}
	if resp, err := http.Post("http://"+address+"/metrics", "", nil); err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("metrics take requests: %v, %+v", err, resp)
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %s", url, err, resp.Status)
	}
	return string(raw)
}

// sample finds a metric's value in the text format.
func sample(text, name string) (float64, bool) {
	line := regexp.MustCompile("(?m)^" + regexp.QuoteMeta(name) + " (.*)$").FindStringSubmatch(text)
	if line == nil {
		return 0, false
	}
	v, err := strconv.ParseFloat(line[1], 64)
	return v, err == nil
}
