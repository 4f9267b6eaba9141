package api_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
	"github.com/platelet-sdn/platelet/segmentation/recommend"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// desk answers for a controller and writes down what it is asked.
type desk struct{ asked []string }

func (d *desk) Playbooks() api.PlaybookStatus { return api.PlaybookStatus{Version: "v"} }
func (d *desk) ReloadPlaybooks(_ context.Context, who string) (api.PlaybookStatus, error) {
	d.asked = append(d.asked, "reload by "+who)
	return api.PlaybookStatus{}, fmt.Errorf("stay: %w", strictyaml.Errors{{File: "p.yaml", Line: 3, Column: 5, Msg: "bad"}})
}
func (d *desk) Status() any { return map[string]string{"mode": "observe"} }
func (d *desk) Findings() []detector.Finding {
	return []detector.Finding{{ID: "f-1", Kind: "port-scan"}}
}
func (d *desk) Explain(id string) (explain.Explanation, error) {
	for _, f := range d.Findings() {
		if f.ID == id {
			return explain.Of(f, d.Findings()), nil
		}
	}
	return explain.Explanation{}, fmt.Errorf("finding %s: %w", id, response.ErrNotFound)
}

func (d *desk) Decisions() []response.Decision     { return nil }
func (d *desk) Hosts() any                         { return []string{} }
func (d *desk) Topology() any                      { return []string{} }
func (d *desk) Rules(context.Context) (any, error) { return nil, errors.New("no switch") }
func (d *desk) Installed(context.Context) (any, error) {
	return []string{"installed"}, nil
}
func (d *desk) Runs() any                          { return []string{"run"} }
func (d *desk) Drift(context.Context) (any, error) { return []string{"drift"}, nil }
func (d *desk) note(format string, args ...any) error {
	d.asked = append(d.asked, fmt.Sprintf(format, args...))
	return nil
}
func (d *desk) Approve(_ context.Context, id, who, why string) error {
	return d.note("approve %s by %s for %s", id, who, why)
}
func (d *desk) Reject(_ context.Context, id, _, _ string) error {
	return fmt.Errorf("%w: %s", response.ErrNotFound, id)
}
func (d *desk) Release(_ context.Context, id, _, _ string) error {
	return fmt.Errorf("release %s: %w", id, response.ErrState)
}
func (d *desk) Extend(_ context.Context, id, who string, by time.Duration) error {
	return d.note("extend %s for %s by %s", id, by, who)
}

func (d *desk) Exempt(_ context.Context, x response.Exemption) error {
	return d.note("exempt %v from %v for %s by %s", x.Hosts, x.Kinds, x.Why, x.Who)
}

func (d *desk) Unexempt(_ context.Context, host netip.Addr, who string) error {
	return d.note("end of exemption of %s by %s", host, who)
}

func (d *desk) Exemptions() []response.Exemption { return []response.Exemption{{Why: "a licence"}} }

func (d *desk) Contain(_ context.Context, o response.Order) (string, error) {
	return "d-9", d.note("quarantine %s for %s by %s", o.Host, o.For, o.Who)
}

func (d *desk) Decision(_ context.Context, id string) (response.Decision, error) {
	return response.Decision{ID: id, Action: response.ActionQuarantine}, nil
}

func (d *desk) Preview(_ context.Context, o response.Order) (response.Decision, error) {
	return response.Decision{ID: "d-8", Action: response.ActionQuarantine, Target: response.Target{Host: o.Host}}, d.note("preview %s by %s", o.Host, o.Who)
}

func (d *desk) SetBrake(_ context.Context, on, release bool, _ string) error {
	return d.note("brake %v %v", on, release)
}

func (d *desk) Policies() any                           { return []string{"web"} }
func (d *desk) Sources(context.Context) (any, error)    { return []int{2}, nil }
func (d *desk) PolicyHits(context.Context) (any, error) { return []int{1}, nil }
func (d *desk) Staged() any                             { return struct{}{} }
func (d *desk) Recommend(o recommend.Options) ([]byte, error) {
	return []byte("policy"), d.note("recommend within %v", o.Internal)
}
func (d *desk) Workloads() any { return []string{"w"} }
func (d *desk) ReloadPolicies(_ context.Context, who string) error {
	return d.note("policies read again")
}

func (d *desk) Feedback(id string, actual bool, who, why string) (int, error) {
	if id != "f-1" {
		return 0, fmt.Errorf("%w: %s", response.ErrNotFound, id)
	}
	return 3, d.note("feedback %s %v by %s: %s", id, actual, who, why)
}

func serve(t *testing.T) (*desk, *api.Client, *api.Hub, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	d, hub, path := &desk{}, api.NewHub(), filepath.Join(dir, "s")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- api.NewServer(path, d, hub).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	c := api.NewClient(path)
	deadline := time.Now().Add(20 * time.Second)
	for c.Get(t.Context(), "status", &struct{}{}) != nil {
		if time.Now().After(deadline) {
			t.Fatal("no answer")
		}
		time.Sleep(time.Millisecond)
	}
	return d, c, hub, path
}

func TestWhoIsTakenFromTheKernel(t *testing.T) {
	d, c, _, path := serve(t)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", st, err)
	}
	if err := c.Act(t.Context(), "approve", "d-1", "it is one"); err != nil {
		t.Fatal(err)
	}
	id, err := c.Contain(t.Context(), response.Order{Host: netip.MustParseAddr("10.0.0.7"), For: time.Minute, Who: "somebody else"})
	if err != nil || id != "d-9" {
		t.Errorf("%q, %v", id, err)
	}
	for _, err := range []error{
		c.Extend(t.Context(), "d-1", time.Hour),
		c.Exempt(t.Context(), netip.MustParseAddr("10.0.0.8"), []detector.Kind{detector.KindPortScan}, nil, time.Hour, "audit"),
		c.Unexempt(t.Context(), netip.MustParseAddr("10.0.0.8")),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if err := c.Exempt(t.Context(), netip.MustParseAddr("10.0.0.8"), []detector.Kind{"noise"}, nil, time.Hour, ""); err == nil || !strings.Contains(err.Error(), "noise") {
		t.Errorf("exempt from what there is not: %v", err)
	}
	if err := c.Extend(t.Context(), "d-1", -time.Hour); err == nil {
		t.Error("extended backwards")
	}
	var list []response.Exemption
	if err := c.Get(t.Context(), "exemptions", &list); err != nil || len(list) != 1 {
		t.Errorf("exemptions %v, %v", list, err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"approve d-1 by " + me.Username + " for it is one", "quarantine 10.0.0.7 for 1m0s by " + me.Username, "extend d-1 for 1h0m0s by " + me.Username,
		"exempt [10.0.0.8/32] from [port-scan] for audit by " + me.Username, "end of exemption of 10.0.0.8 by " + me.Username}
	if strings.Join(d.asked, ";") != strings.Join(want, ";") {
		t.Errorf("asked %q, want %q", d.asked, want)
	}
}

func TestExplanation(t *testing.T) {
	_, c, _, _ := serve(t)
	var x explain.Explanation
	if err := c.Get(t.Context(), "findings/f-1/explanation", &x); err != nil || x.ID != "f-1" || x.Kind != detector.KindPortScan {
		t.Errorf("%+v, %v", x, err)
	}
	if err := c.Get(t.Context(), "findings/f-2/explanation", &x); err == nil || !strings.Contains(err.Error(), "f-2") {
		t.Errorf("a finding that is not there: %v", err)
	}
}

func TestErrorsReachTheCaller(t *testing.T) {
	_, c, _, path := serve(t)
	for what, err := range map[string]error{
		"no such decision": c.Act(t.Context(), "reject", "d-5", ""),
		"not possible now": c.Act(t.Context(), "release", "d-5", ""),
		"no switch":        c.Get(t.Context(), "rules", &struct{}{}),
		"404":              c.Get(t.Context(), "nonsense", &struct{}{}),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %q", err, what)
		}
	}
	for _, body := range []string{"{", `{"host":"x"}`, `{"host":"10.0.0.1","seconds":-1}`, `{"hosts":1}`, strings.Repeat("[", 1<<17)} {
		if reply := post(t, path, "/v1/quarantine", body); !strings.HasPrefix(reply, "HTTP/1.1 400") {
			t.Errorf("%.20q: %.60q", body, reply)
		}
	}
}

// An exemption from everything has to be meant.
func TestExemptionsNameKinds(t *testing.T) {
	d, _, _, path := serve(t)
	for body, want := range map[string]string{
		`{"host":"10.0.0.8","seconds":60}`:                                                          "HTTP/1.1 400",
		`{"host":"10.0.0.8","seconds":60,"all":true,"kinds":["port-scan"]}`:                         "HTTP/1.1 400",
		`{"host":"10.0.0.8","seconds":60,"kinds":["brute-force"],"services":["ssh"]}`:               "HTTP/1.1 400",
		`{"host":"10.0.0.8","seconds":60,"all":true}`:                                               "HTTP/1.1 200",
		`{"host":"10.0.0.8","seconds":60,"kinds":["brute-force"],"services":["tcp/22","tcp/2222"]}`: "HTTP/1.1 200",
	} {
		if reply := post(t, path, "/v1/exemptions", body); !strings.HasPrefix(reply, want) {
			t.Errorf("%s: %.60q", body, reply)
		}
	}
	if len(d.asked) != 2 {
		t.Errorf("asked %q", d.asked)
	}
}

// What is only looked at is not done, and says so to whom it is shown.
func TestPreview(t *testing.T) {
	d, c, _, _ := serve(t)
	raw, err := c.Preview(t.Context(), response.Order{Host: netip.MustParseAddr("10.0.0.7"), For: time.Minute})
	if err != nil || !strings.Contains(string(raw), `"target":"10.0.0.7"`) || len(d.asked) != 1 || !strings.HasPrefix(d.asked[0], "preview 10.0.0.7 by ") {
		t.Errorf("%s, %v: asked %q", raw, err, d.asked)
	}
	var one struct{ ID string }
	if err := c.Get(t.Context(), "decisions/d-7", &one); err != nil || one.ID != "d-7" {
		t.Errorf("%+v, %v", one, err)
	}
}

func post(t *testing.T, socket, path, body string) string {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	buf := make([]byte, 512)
	n, _ := c.Read(buf)
	return string(buf[:n])
}

func TestEventsReachWatchersAndNeverBlock(t *testing.T) {
	_, c, hub, _ := serve(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ready, lines := make(chan struct{}), make(chan string, 10)
	go func() {
		_ = c.Events(ctx, func() { close(ready) }, func(line []byte) error { lines <- string(line); return nil })
	}()
	<-ready
	sleepy := hub.Subscribe()
	defer sleepy.Close()
	if err := hub.Publish(map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-lines:
		if got != `{"n":1}` {
			t.Errorf("got %s", got)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no event")
	}
	cancel()
	for range 5000 {
		_ = hub.Publish("x")
	}
	if hub.Lost() == 0 {
		t.Error("a watcher that does not read lost nothing")
	}
}

func TestLivingControllerKeepsItsSocket(t *testing.T) {
	_, _, hub, path := serve(t)
	if err := api.NewServer(path, &desk{}, hub).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another platelet") {
		t.Errorf("took the socket of a living controller: %v", err)
	}
}

func TestFeedback(t *testing.T) {
	d, c, _, _ := serve(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	n, err := c.Feedback(t.Context(), "f-1", false, "our own scanner")
	if err != nil || n != 3 || len(d.asked) != 1 || d.asked[0] != "feedback f-1 false by "+me.Username+": our own scanner" {
		t.Errorf("%d windows, %v, asked %q", n, err, d.asked)
	}
	if _, err := c.Feedback(t.Context(), "f-2", true, ""); err == nil || !strings.Contains(err.Error(), "f-2") {
		t.Errorf("a verdict on a finding that is not there: %v", err)
	}
	if _, err := c.Feedback(t.Context(), "f-1", true, strings.Repeat("x", 2000)); err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Errorf("a reason without end: %v", err)
	}
}

func TestFaultsOfPlaybooksComeBack(t *testing.T) {
	d, c, _, _ := serve(t)
	if _, err := c.ReloadPlaybooks(t.Context()); err == nil || !strings.Contains(err.Error(), "p.yaml:3:5: bad") {
		t.Errorf("%v", err)
	}
	if len(d.asked) != 1 || !strings.HasPrefix(d.asked[0], "reload by ") || strings.HasSuffix(d.asked[0], "by ") {
		t.Errorf("asked %q", d.asked)
	}
}
