package audit

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

// Isolated, so that mounts go with the test.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(writeForEver(dir))
	}
	os.Exit(ovs.Isolate(m.Run))
}

// patience is how long a test waits for what should take milliseconds.
const patience = 30 * time.Second

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

func silent() logrus.FieldLogger {
	l := logrus.New()
	l.SetLevel(logrus.PanicLevel)
	return l
}

func configIn(dir string) Config {
	return Config{Dir: filepath.Join(dir, "audit"), Key: filepath.Join(dir, "audit.key"), FileSize: 1 << 20, Checkpoint: time.Minute, Log: silent()}
}

// running starts a log that ends with the test, or by the returned function.
func running(t testing.TB, cfg Config) (*Log, func() error) {
	t.Helper()
	l := New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	ended := false
	stop := func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { _ = stop() })
	return l, stop
}

// numbered is the nth of a row of events.
func numbered(n int) Event {
	return Event{
		What: DecisionPrefix + "applied", Who: "playbook", Why: fmt.Sprintf("port-scan by 10.0.0.%d: \"<&>\u2028\" 0.2", n), Decision: fmt.Sprintf("d-%d", n),
		Before: "proposed", After: "applied", Action: response.ActionQuarantine, Guards: []response.Verdict{{Guard: "place", Pass: true, Why: "p1 on s1"}},
		Proof: &response.Proof{Installed: true, Dropped: 12}, Rules: []Rule{{Intent: fmt.Sprintf("d-%d/0", n), Switch: "s1"}},
	}
}

// written is a log of n events and the controller's end.
func written(t testing.TB, cfg Config, n int) {
	t.Helper()
	l, stop := running(t, cfg)
	for i := range n {
		l.Record(numbered(i))
	}
	l.Record(Event{What: EventStopped, Who: "platelet"})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func verify(t testing.TB, path string, opt Options) *Report {
	t.Helper()
	r, err := Verify(path, opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsWrittenIsWhole(t *testing.T) {
	cfg := configIn(t.TempDir())
	written(t, cfg, 100)
	written(t, cfg, 100) // a second run goes on
	var events []string
	r := verify(t, cfg.Dir, Options{Each: func(e Entry) error { events = append(events, e.What); return nil }})
	if !r.OK() || r.Entries != 203 || r.Proven != 203 || r.Files != 1 || len(r.Keys) != 1 {
		t.Errorf("%+v", r)
	}
	if len(events) != 203 || events[0] != EventBegun {
		t.Errorf("%d events, the first %s", len(events), events[0])
	}
	info, err := os.Stat(cfg.Key)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key can be read by others: %v %v", info.Mode(), err)
	}
}

func TestFilesRotateAndTheChainGoesOn(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.FileSize = 8 << 10
	for range 3 {
		written(t, cfg, 700) // in batches of up to 256
	}
	r := verify(t, cfg.Dir, Options{})
	if !r.OK() || r.Files < 5 || r.Proven != r.Entries || r.Entries != int64(2103+r.Files) {
		t.Fatalf("%+v", r)
	}
	files, err := listFiles(cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files { // each by itself
		if one := verify(t, f.path, Options{}); !one.OK() || one.First != f.first {
			t.Errorf("%s: %+v", f.name(), one)
		}
	}
	if err := os.Remove(files[0].path); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, cfg.Dir, Options{}); r.OK() {
		t.Error("the first file is gone, and nobody misses it")
	}
	if r := verify(t, cfg.Dir, Options{Archived: true}); !r.OK() || r.First != files[1].first || r.Proven != r.Entries {
		t.Errorf("with the first file archived: %+v", r)
	}
	written(t, cfg, 10) // goes on without the archived one
	if r := verify(t, cfg.Dir, Options{Archived: true}); !r.OK() {
		t.Errorf("written behind an archived file: %+v", r)
	}
}

// Verifying a log that is being written finds no fault in it.
func TestVerifyWhileWriting(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.FileSize, cfg.Checkpoint = 4<<10, time.Millisecond
	l, stop := running(t, cfg)
	for n := range 30 {
		for i := range 20 {
			l.Record(numbered(i))
		}
		within(t, "the log to grow", func() bool { return l.Status().Entries > int64(n*10) })
		if r := verify(t, cfg.Dir, Options{}); !r.OK() {
			t.Fatalf("look %d: %v", n, r.Faults)
		}
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// Whoever makes findings by the thousand fills no disk and crowds nothing out:
// what was done is all there, and how much is not.
func TestFloodOfFindings(t *testing.T) {
	cfg := configIn(t.TempDir())
	l := New(cfg)
	flood := func(n int) {
		for i := range n {
			l.Record(Event{What: FindingPrefix + "firing", Who: "platelet", Finding: fmt.Sprint("f-", i)})
			l.Record(Event{What: DecisionPrefix + "refused", Who: "playbook", After: "refused", Decision: fmt.Sprint("d-", i)})
		}
	}
	flood(3 * queueSize)
	if s := l.Status(); s.Queued != cheapQueue || s.Thinned != 6*queueSize-cheapQueue || s.Lost != 0 {
		t.Fatalf("%+v", s)
	}
	for i := range 100 {
		l.Record(numbered(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	within(t, "the queue to be written", func() bool { s := l.Status(); return s.Queued == 0 && s.Entries > cheapQueue+100 })
	flood(10000)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	applied, cheap, thinned := 0, 0, uint64(0)
	r := verify(t, cfg.Dir, Options{Each: func(e Entry) error {
		switch {
		case e.What == DecisionPrefix+"applied":
			applied++
		case e.cheap():
			cheap++
		case e.What == EventLost:
			n, err := strconv.ParseUint(e.Detail["events"], 10, 64)
			thinned += n
			return err
		}
		return nil
	}})
	if !r.OK() || applied != 100 || float64(cheap) > cheapBurst+cheapRate*patience.Seconds() || thinned != l.Status().Thinned {
		t.Errorf("%d applied, %d cheap: %+v", applied, cheap, r)
	}
}

// Checkpoints are written more often than they are logged, and the last one is
// logged at the end.
func TestCheckpointsAreLogged(t *testing.T) {
	cfg := configIn(t.TempDir())
	cfg.Checkpoint = time.Nanosecond
	log, hook := logtest.NewNullLogger()
	cfg.Log = log
	l, stop := running(t, cfg)
	for i := range 20 {
		l.Record(numbered(i))
		within(t, "a checkpoint", func() bool { return l.Status().Proven == int64(i+2) })
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	kept := ""
	for _, e := range hook.AllEntries() {
		kept += fmt.Sprintf("checkpoint=%q\n", e.Data["checkpoint"])
	}
	r := verify(t, cfg.Dir, Options{Outside: map[string][]byte{"log": []byte(kept)}})
	if n := len(hook.AllEntries()); n != 2 || !r.OK() || r.Checkpoints != 21+n {
		t.Errorf("%d logged: %+v", n, r)
	}
}
