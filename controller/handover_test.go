package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
)

// sharedState is a NATS server that several controllers use.
func sharedState(t *testing.T) string {
	t.Helper()
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(patience) {
		t.Fatal("the state server is not ready")
	}
	return srv.ClientURL()
}

// Two controllers with one state: the second leaves the runs of the first alone as
// long as that lives, and when it is killed goes on with them, once it has been
// silent for its term and the bridge is the second's. What comes back finds its runs
// gone.
func TestRunsChangeHands(t *testing.T) {
	first := newRig(t, "plt-hand")
	first.nats = sharedState(t)
	h := newHooks(t)
	settings := quick + first.withPlaybooks(`
- name: careful
  trigger: {kinds: [port-scan]}
  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "`+h.URL+`/one"}}
  - {name: sure, action: ask, with: {title: "Go on?"}}
  - {name: two, action: webhook, with: {url: "`+h.URL+`/two"}}
`)
	first.start(settings)
	first.scan("h5", first.addr("h1"))
	d := first.awaitState(first.addr("h5").String(), "verified")
	first.await("the question", func() bool { return len(first.runOf("careful").Asks) == 1 })
	begun := first.runOf("careful")

	second := first.beside("second")
	second.startOnly(settings)
	second.await("the second to be refused", second.refused)
	if all := second.decisions(); len(all) > 0 {
		t.Errorf("the second takes decisions of the first for its own: %s", pretty(all))
	}
	// Long enough for the second to take the first for gone, if it ever did.
	alive := time.Now()
	second.await("the first to have lived for more than a term", func() bool { return time.Since(alive) > 10*time.Second })
	if x := second.runOf("careful"); x.ID != "" || len(h.of("one")) != 1 {
		t.Fatalf("the second goes on with a run of the first: %s; %d hooks", pretty(x), len(h.of("one")))
	}

	killed := time.Now()
	first.kill()
	second.await("the second to hold the switch", second.holds)
	second.await("the run to change hands", func() bool { return slices.Equal(second.runOf("careful").Asks, begun.Asks) })
	t.Logf("taken over %v after the kill", time.Since(killed))
	first.startOnly(settings)
	first.await("the first to be refused", first.refused)
	if x := first.runOf("careful"); x.ID != "" {
		t.Errorf("both have the run: %s", pretty(x))
	}
	if out, err := first.run("approve", begun.Asks[0], "--socket", first.socket); err == nil {
		t.Errorf("approved at who has it no more: %s", out)
	}
	if out, err := second.run("approve", begun.Asks[0], "--why", "yes", "--socket", second.socket); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	second.await("the end of the run", func() bool { return second.runOf("careful").State == "done" })
	if n, m := len(h.of("one")), len(h.of("two")); n != 1 || m != 1 {
		t.Errorf("one was done %d times, two %d times", n, m)
	}
	second.stop()
	entries := second.audited()
	if e := after(t, &entries, "runs.taken", ""); e.Detail["runs"] != "1" {
		t.Errorf("%s of %s: %v", e.Sentence(), d.ID, e.Detail)
	}
}

// shared is a ledger in the words of the executor.
type shared struct{ *bus.Ledger }

func (s shared) Put(ctx context.Context, key string, value []byte) error {
	err := s.Ledger.Put(ctx, key, value)
	if errors.Is(err, bus.ErrTaken) {
		return fmt.Errorf("%w: %w", run.ErrTaken, err)
	}
	return err
}

// stuck carries steps out, of which one hangs.
type stuck struct {
	mu   sync.Mutex
	did  []string
	hang string
	free chan struct{}
}

func (s *stuck) Do(_ context.Context, c run.Call) (string, error) {
	s.mu.Lock()
	s.did = append(s.did, c.Facts.Step)
	s.mu.Unlock()
	if c.Facts.Step == s.hang {
		<-s.free
	}
	return "", nil
}

func (s *stuck) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.did)
}

type quietWorld struct{}

func (quietWorld) Finding(string) (detector.Finding, bool) { return detector.Finding{}, false }
func (quietWorld) Circumstances(detector.Finding) response.Circumstances {
	return response.Circumstances{}
}
func (quietWorld) Quiet(context.Context, string, string) (time.Duration, error) { return 0, nil }
func (quietWorld) Braked() bool                                                 { return false }
func (quietWorld) Groups(string) ([]string, error)                              { return nil, nil }

// A controller that hung and was taken for gone does nothing more for a run that
// another one has: its next write is refused, and that is before its next step.
func TestWhoWasTakenForGoneDoesNothingMore(t *testing.T) {
	url := sharedState(t)
	books, err := playbook.Parse("p.yaml", []byte(`apiVersion: playbook/v1
playbooks:
- name: p
  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "http://x/"}, timeout: 1h}
  - {name: two, action: webhook, with: {url: "http://x/"}}
`))
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	begin := func(owner string, do run.Doer) *run.Executor {
		state, err := bus.Open(t.Context(), bus.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(state.Close)
		ledger, err := state.Ledger(t.Context(), "runs")
		if err != nil {
			t.Fatal(err)
		}
		x := run.New(run.Config{Playbooks: playbook.NewLive(playbook.NewSet(books)), Response: response.Config{Mode: response.ModeAutonomous, ApprovalWithin: time.Hour},
			MaxPerMinute: 10, Store: shared{ledger}, Owner: owner, Do: do, World: quietWorld{}, Log: log, Emit: func(run.Record) {}})
		if err := x.Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = x.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		return x
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s", what)
			}
		}
	}
	hung, other := &stuck{hang: "one", free: make(chan struct{})}, &stuck{}
	a := begin("a", hung)
	b := begin("b", other)
	d := response.Decision{ID: "d-1", Finding: "f-1", Kind: detector.KindPortScan, Action: response.ActionQuarantine, State: response.StateApplied, Playbook: "p",
		Target: response.Target{Host: netip.MustParseAddr("10.0.0.7")}}
	a.Decision(d)
	eventually("the first to hang", func() bool { return len(hung.list()) == 1 })
	b.Decision(d) // it has the same run, and leaves it alone
	if n, err := b.Take(t.Context(), "c"); n != 0 || err != nil {
		t.Errorf("took %d runs of nobody, %v", n, err)
	}
	eventually("the second to leave it alone", func() bool { return len(b.Records()) == 0 })
	if n, err := b.Take(t.Context(), "a"); n != 1 || err != nil {
		t.Fatalf("took %d runs, %v", n, err)
	}
	eventually("the second to end it", func() bool { all := b.Records(); return len(all) == 1 && all[0].State == run.StateDone })
	close(hung.free)
	eventually("the first to give it up", func() bool { return len(a.Records()) == 0 })
	a.Decision(d)
	if did := other.list(); !slices.Equal(did, []string{"one", "two"}) {
		t.Errorf("the second did %v", did)
	}
	if n, err := a.Take(t.Context(), "b"); n != 0 || err != nil || len(a.Records()) != 1 { // which has ended
		t.Errorf("%d runs that go on, %v", n, err)
	}
	if did := hung.list(); !slices.Equal(did, []string{"one"}) {
		t.Errorf("the first did %v", did)
	}
}
