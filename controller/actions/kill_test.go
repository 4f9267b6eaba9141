package actions

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
)

// killed is set in the process that is to be killed: the directory of its state.
const killed = "PLATELET_TEST_KILLED"

const killedBook = `apiVersion: playbook/v1
playbooks:
- name: p
  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "%[1]s/one", secret: %[2]s/key}}
  - {name: cmd, action: exec, on_failure: continue, with: {command: c, args: ["%[2]s/ran"]}}
  - name: both
    parallel:
    - {name: two, action: webhook, with: {url: "%[1]s/two"}}
    - {name: feed, action: intel, with: {dir: %[2]s}}
  - {name: flaky, action: webhook, with: {url: "%[1]s/flaky"}, retries: {count: 10, backoff: 1ms}}
  - {name: last, action: webhook, with: {url: "%[1]s/last"}}
`

type nowhere struct{}

func (nowhere) Finding(string) (detector.Finding, bool) { return detector.Finding{}, false }
func (nowhere) Circumstances(detector.Finding) response.Circumstances {
	return response.Circumstances{Now: time.Now()}
}
func (nowhere) Quiet(context.Context, string, string) (time.Duration, error) { return 0, nil }
func (nowhere) Groups(string) ([]string, error)                              { return nil, nil }
func (nowhere) Braked() bool                                                 { return false }

// TestKilledProcess is the process that is killed. It runs the playbook to its
// end and prints what became of it.
func TestKilledProcess(t *testing.T) {
	dir := os.Getenv(killed)
	if dir == "" {
		t.Skip("is started by TestKilledAtAnyTime")
	}
	books, err := playbook.Parse("p.yaml", fmt.Appendf(nil, killedBook, os.Getenv(killed+"_URL"), dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	state, err := bus.Open(ctx, bus.Config{Dir: filepath.Join(dir, "state")})
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	bucket, err := state.Ledger(ctx, "runs")
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	x := run.New(run.Config{Playbooks: playbook.NewLive(playbook.NewSet(books)), Response: response.Config{Mode: response.ModeAutonomous, ApprovalWithin: time.Hour}, MaxPerMinute: 10, Store: bucket, World: nowhere{}, Log: log,
		Do: New(map[string]Command{"c": {Path: filepath.Join(dir, "c")}}), Emit: func(r run.Record) {
			if r.State.Ended() {
				cancel()
			}
		}})
	if err := x.Load(ctx); err != nil {
		t.Fatal(err)
	}
	x.Decision(response.Decision{ID: "d-1", Finding: "f-1", Kind: detector.KindPortScan, Severity: detector.SeverityHigh, Playbook: "p", State: response.StateApplied,
		Action: response.ActionQuarantine, Detected: time.Unix(1, 0), Target: response.Target{Host: netip.MustParseAddr("10.0.0.7")}})
	if all := x.Records(); len(all) == 1 && all[0].State.Ended() {
		cancel() // it had ended, and only that was not told
	}
	_ = x.Run(ctx)
	raw, err := json.Marshal(x.Records())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("records", string(raw))
}

// outside is the world that the killed process acts on.
type outside struct {
	*httptest.Server
	mu      sync.Mutex
	keys    map[string][]string // by path
	served  int
	killAt  int  // request
	after   bool // it was answered
	process *os.Process
}

func newOutside(t *testing.T) *outside {
	o := &outside{keys: map[string][]string{}}
	o.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.served++
		o.keys[r.URL.Path] = append(o.keys[r.URL.Path], r.Header.Get("Idempotency-Key"))
		if o.served == o.killAt && !o.after {
			_ = o.process.Kill()
			return
		}
		if r.URL.Path == "/flaky" && len(o.keys["/flaky"]) < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if o.served == o.killAt {
			_ = http.NewResponseController(w).Flush()
			_ = o.process.Kill()
		}
	}))
	t.Cleanup(o.Close)
	return o
}

// once runs the process until it ends or is killed, and returns what it printed.
func (o *outside) once(t *testing.T, dir string, kill time.Duration) (records []run.Record) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilledProcess$", "-test.v")
	cmd.Env = append(os.Environ(), killed+"="+dir, killed+"_URL="+o.URL)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	o.mu.Lock()
	err := cmd.Start()
	o.process = cmd.Process
	o.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	if err = cmd.Wait(); err != nil {
		if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
			t.Fatalf("%v: %s", err, out.String())
		}
		return nil
	}
	_, line, ok := strings.Cut(out.String(), "records ")
	line, _, _ = strings.Cut(line, "\n")
	if err := json.Unmarshal([]byte(line), &records); err != nil || !ok || len(records) != 1 {
		t.Fatalf("%v: %s", err, out.String())
	}
	return records
}

// Killed with SIGKILL at each request that it makes, before the answer and
// after, and at other times, the controller brings a playbook to its end: each
// hook has one key however often it comes, and the command ran at most once.
func TestKilledAtAnyTime(t *testing.T) {
	type kill struct {
		at    int
		after bool
		delay time.Duration
	}
	var kills []kill
	for at := 1; at <= 6; at++ { // one, two, three of flaky, last
		kills = append(kills, kill{at: at}, kill{at: at, after: true})
	}
	for _, ms := range []time.Duration{20, 60, 80, 100, 120, 160} {
		kills = append(kills, kill{delay: ms * time.Millisecond})
	}
	for _, k := range kills {
		name := fmt.Sprintf("request %d, after %v, delay %s", k.at, k.after, k.delay)
		dir, err := os.MkdirTemp("", "plk")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		for name, text := range map[string]string{"key": "k", "c": "#!/bin/sh\necho ran >> \"$1\"\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		o := newOutside(t)
		o.killAt, o.after = k.at, k.after
		records := o.once(t, dir, k.delay)
		if records != nil && k.at > 0 {
			t.Errorf("%s: was not killed", name)
		}
		for try := 0; records == nil && try < 3; try++ {
			records = o.once(t, dir, 0)
		}
		if records == nil || records[0].State != run.StateDone {
			t.Errorf("%s: did not come to its end: %+v", name, records)
			continue
		}
		o.check(t, name, dir, records[0])
	}
}

func (o *outside) check(t *testing.T, name, dir string, r run.Record) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, step := range []string{"one", "two", "flaky", "last"} {
		if len(o.keys["/"+step]) == 0 {
			t.Errorf("%s: %s never came", name, step)
		}
		for _, key := range o.keys["/"+step] {
			if key != r.ID+"-"+step {
				t.Errorf("%s: %s came with the key %s", name, step, key)
			}
		}
	}
	ran, _ := os.ReadFile(filepath.Join(dir, "ran"))
	n := strings.Count(string(ran), "ran")
	if s := r.Steps["cmd"].State; n > 1 || (s == run.StepDone) != (n == 1) && s != run.StepInDoubt {
		t.Errorf("%s: the command ran %d times and is %s", name, n, s)
	}
	if feeds, _ := filepath.Glob(filepath.Join(dir, "*.json")); len(feeds) != 1 {
		t.Errorf("%s: %d bundles", name, len(feeds))
	}
}
