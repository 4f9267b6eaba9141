package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/detector"
)

var errCrashed = errors.New("crashed")

// memory is a store that outlives executors, and that crashes the controller at
// a given write, before or after it.
type memory struct {
	mu     sync.Mutex
	m      map[string][]byte
	puts   int
	at     int  // crash at this write, 0 never
	after  bool // it was still written
	down   bool
	crash  func()
	failOn int    // one write fails, nothing crashes
	during func() // called at every write, before it is done
}

func (s *memory) Put(_ context.Context, k string, v []byte) error {
	if s.during != nil {
		s.during()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errCrashed
	}
	s.puts++
	if s.failOn == s.puts {
		return errors.New("disk full")
	}
	if s.at == s.puts {
		s.down = true
		if s.after {
			s.m[k] = v
		}
		s.crash()
		return errCrashed
	}
	s.m[k] = v
	return nil
}

func (s *memory) Delete(_ context.Context, k string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
	return nil
}

func (s *memory) Claim(_ context.Context, f func(string, []byte) ([]byte, bool)) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := map[string][]byte{}
	for k, v := range s.m {
		if next, want := f(k, v); want && next != nil {
			mine[k], s.m[k] = next, next
		} else if want {
			mine[k] = v
		}
	}
	return mine, nil
}

// hands carries nothing out but remembers what it was asked for. It stands for
// the outside: it outlives executors.
type hands struct {
	mu       sync.Mutex
	did      []string // keys, in order
	fail     map[string]int
	permanen map[string]bool
	crashAt  int // crash in the middle of this attempt, 0 never
	effect   bool
	crash    func()
	dead     bool
	wait     chan struct{} // attempts wait for it to be closed
}

func (h *hands) Do(ctx context.Context, c Call) (string, error) {
	if h.wait != nil {
		select {
		case <-h.wait:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead {
		return "", errCrashed
	}
	if h.crashAt == len(h.did)+1 {
		h.dead = true
		if h.effect {
			h.did = append(h.did, c.Key)
		}
		h.crash()
		return "", errCrashed
	}
	h.did = append(h.did, c.Key)
	if h.permanen[c.Facts.Step] {
		return "", Permanent(errors.New("no"))
	}
	if h.fail[c.Facts.Step] > 0 {
		h.fail[c.Facts.Step]--
		return "", errors.New("not now")
	}
	return "ok", nil
}

func (h *hands) times(suffix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, k := range h.did {
		if k[len("r-0123456789abcdef-"):] == suffix {
			n++
		}
	}
	return n
}

type world struct {
	mu    sync.Mutex
	quiet time.Duration
	brake bool
}

func (w *world) Finding(id string) (detector.Finding, bool) {
	f := finding()
	return f, f.ID == id
}
func (w *world) Circumstances(detector.Finding) response.Circumstances {
	return response.Circumstances{Now: time.Now()}
}
func (w *world) Quiet(context.Context, string, string) (time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.quiet, nil
}
func (w *world) Braked() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.brake
}

func (w *world) Groups(who string) ([]string, error) {
	if who == "nobody" {
		return nil, errors.New("no such user")
	}
	return map[string][]string{"alice": {"soc"}, "bob": {"soc", "net"}}[who], nil
}

func finding() detector.Finding {
	return detector.Finding{ID: "f-1", Kind: detector.KindPortScan, State: detector.StateFiring, Severity: detector.SeverityHigh, Host: netip.MustParseAddr("10.0.0.7"), Sequential: true}
}

func decision(s response.State) response.Decision {
	return response.Decision{ID: "d-1", Finding: "f-1", Kind: detector.KindPortScan, Action: response.ActionQuarantine, State: s, Playbook: "p", Target: response.Target{Host: finding().Host}}
}

func book(t testing.TB, steps string) []playbook.Playbook {
	t.Helper()
	books, err := playbook.Parse("p.yaml", []byte("apiVersion: playbook/v1\nplaybooks:\n- name: p\n"+steps))
	if err != nil {
		t.Fatal(err)
	}
	return books
}

type rig struct {
	*Executor
	store *memory
	hands *hands
	world *world
	stop  func()
}

func start(t testing.TB, books []playbook.Playbook, mode response.Mode, store *memory, h *hands, w *world) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	set := playbook.NewLive(playbook.NewSet(books))
	x := New(Config{Playbooks: set, Response: response.Config{Mode: mode, ApprovalWithin: time.Minute, Playbooks: set}, MaxPerMinute: 10, Store: store, Do: h, World: w, Log: log, Emit: func(Record) {}})
	ctx, cancel := context.WithCancel(t.Context())
	store.crash, h.crash = cancel, cancel
	if err := x.Load(ctx); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = x.Run(ctx) }()
	r := &rig{x, store, h, w, func() { cancel(); <-done }}
	t.Cleanup(r.stop)
	return r
}

func fresh(t testing.TB, mode response.Mode, steps string) *rig {
	return start(t, book(t, steps), mode, &memory{m: map[string][]byte{}}, &hands{fail: map[string]int{}, permanen: map[string]bool{}}, &world{})
}

// until waits for the only run to be as it should.
func (r *rig) until(t testing.TB, what string, ok func(Record) bool) Record {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		all := r.Records()
		if len(all) == 1 && ok(all[0]) {
			return all[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: never, but %+v", what, all)
		}
		time.Sleep(time.Millisecond)
	}
}

func is(s State) func(Record) bool { return func(r Record) bool { return r.State == s } }

const twoHooks = `  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "http://x/"}}
  - {name: two, action: webhook, with: {url: "http://x/"}}
`

func TestRunFollowsTheContainment(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, twoHooks)
	r.Decision(decision(response.StateAwaitingApproval))
	r.Decision(decision(response.StateApplied))
	r.Decision(decision(response.StateApplied))
	r.Decision(decision(response.StateVerified))
	got := r.until(t, "done", is(StateDone))
	if got.Decision != "d-1" || got.Finding != "f-1" || got.Facts.Finding.Severity != detector.SeverityHigh {
		t.Errorf("%+v", got)
	}
	if want := []string{got.ID + "-one", got.ID + "-two"}; !slices.Equal(r.hands.did, want) {
		t.Errorf("did %v, want %v", r.hands.did, want)
	}
}

// A harder containment of the same finding takes a milder one's place: what the
// playbook does besides is not done twice, and is undone when the harder one is
// rolled back.
func TestOneRunForASuccessor(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, `  steps:
  - {name: contain, action: quarantine}
  - {name: a, action: webhook, with: {url: "http://x/"}, rollback: {action: webhook, with: {url: "http://x/"}}}
`)
	r.Decision(decision(response.StateApplied))
	r.until(t, "done", is(StateDone))
	harder := decision(response.StateApplied)
	harder.ID, harder.Relieves = "d-2", "d-1"
	r.Decision(harder)
	harder.State = response.StateRolledBack
	r.Decision(harder)
	r.until(t, "undone", is(StateUndone))
	if r.hands.times("a") != 1 || r.hands.times("a-undo") != 1 {
		t.Errorf("did %v", r.hands.did)
	}
}

func TestNothingButTellingWhereNothingIsDone(t *testing.T) {
	steps := `  steps:
  - {name: contain, action: quarantine}
  - {name: hook, action: webhook, with: {url: "http://x/"}}
  - {name: both, parallel: [{name: siem, action: notify, with: {syslog: {to: "udp:h:1"}}}, {name: hook2, action: webhook, with: {url: "http://x/"}}]}
`
	for _, c := range []struct {
		name string
		mode response.Mode
		tell func(*rig)
	}{
		{"refused by a guard", response.ModeAutonomous, func(r *rig) { r.Decision(decision(response.StateRefused)) }},
		{"people have to approve", response.ModeAdvise, func(r *rig) { r.Decision(decision(response.StateAwaitingApproval)) }},
		{"mode observe", response.ModeObserve, func(r *rig) { r.Decision(decision(response.StateProposed)) }},
		{"not enough to contain", response.ModeAutonomous, func(r *rig) { f := finding(); f.Sequential = false; r.Finding(f) }},
		{"nobody to limit it for", response.ModeAutonomous, func(r *rig) { f := finding(); f.Spoofed = true; r.Finding(f) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fresh(t, c.mode, steps)
			c.tell(r)
			got := r.until(t, "done", is(StateDone))
			if !got.Told || r.hands.times("siem") != 1 || len(r.hands.did) != 1 || got.Steps["hook"].State != StepSkipped {
				t.Errorf("did %v: %+v", r.hands.did, got)
			}
		})
	}
}

func TestRunOfAnAlertWaitsForPeople(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, "  people: 2\n  steps: [{name: a, action: webhook, with: {url: \"http://x/\"}}]\n")
	r.Finding(finding())
	id := r.until(t, "awaiting", is(StateAwaitingApproval)).ID
	ctx := t.Context()
	if err := r.Approve(ctx, id, "alice", ""); err != nil {
		t.Fatal(err)
	}
	if err := r.Approve(ctx, id, "alice", ""); !errors.Is(err, response.ErrState) {
		t.Errorf("alice twice: %v", err)
	}
	if err := r.Approve(ctx, "r-none", "alice", ""); !errors.Is(err, response.ErrNotFound) {
		t.Errorf("no such run: %v", err)
	}
	if got := r.until(t, "awaiting", is(StateAwaitingApproval)); len(r.hands.did) > 0 || len(got.Approvals) != 1 {
		t.Fatalf("one was enough: %+v", got)
	}
	if err := r.Approve(ctx, id, "bob", ""); err != nil {
		t.Fatal(err)
	}
	r.until(t, "done", is(StateDone))
	if err := r.Reject(ctx, id, "carol", ""); !errors.Is(err, response.ErrState) {
		t.Errorf("rejected when done: %v", err)
	}
}

func TestUnansweredIsNoAction(t *testing.T) {
	r := fresh(t, response.ModeAdvise, "  steps: [{name: a, action: webhook, with: {url: \"http://x/\"}}]\n")
	r.Finding(finding())
	r.until(t, "awaiting", is(StateAwaitingApproval))
	r.expire(t.Context(), time.Now().Add(2*time.Minute))
	r.until(t, "refused", is(StateRefused))
	if len(r.hands.did) > 0 {
		t.Error("done all the same")
	}
}

func TestConditionsRetriesAndFailures(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, `  steps:
  - {name: flaky, action: webhook, with: {url: "http://x/"}, retries: {count: 2, backoff: 1ms}}
  - {name: broken, action: webhook, with: {url: "http://x/"}, retries: {count: 5, backoff: 1ms}, on_failure: continue}
  - {name: mild, if: {severity: critical}, action: webhook, with: {url: "http://x/"}}
  - {name: instead, if: {steps: {broken: failed}}, action: webhook, with: {url: "http://x/"}}
  - {name: never, unless: {steps: {flaky: done}}, action: webhook, with: {url: "http://x/"}}
  - {name: last, action: webhook, with: {url: "http://x/"}, retries: {count: 1, backoff: 1ms}}
  - {name: after, action: webhook, with: {url: "http://x/"}}
`)
	r.hands.fail["flaky"], r.hands.permanen["broken"], r.hands.fail["last"] = 2, true, 9
	r.Finding(finding())
	got := r.until(t, "failed", is(StateFailed))
	for step, want := range map[string]int{"flaky": 3, "broken": 1, "mild": 0, "instead": 1, "never": 0, "last": 2, "after": 0} {
		if n := r.hands.times(step); n != want {
			t.Errorf("%s: %d attempts, want %d", step, n, want)
		}
	}
	if got.Steps["mild"].State != StepSkipped || got.Steps["last"].State != StepFailed || got.Why == "" || got.Steps["after"] != nil {
		t.Errorf("%+v", got)
	}
}

func TestRollbackGoesBackwards(t *testing.T) {
	undo := `rollback: {action: webhook, with: {url: "http://x/"}}`
	steps := `  steps:
  - {name: contain, action: quarantine}
  - {name: a, action: webhook, with: {url: "http://x/"}, ` + undo + `}
  - name: b
    parallel:
    - {name: b1, action: webhook, with: {url: "http://x/"}, ` + undo + `}
    - {name: b2, action: webhook, with: {url: "http://x/"}}
  - {name: c, action: webhook, with: {url: "http://x/"}, on_failure: rollback, ` + undo + `}
`
	r := fresh(t, response.ModeAutonomous, steps)
	r.hands.permanen["c"] = true
	r.Decision(decision(response.StateApplied))
	r.until(t, "undone", is(StateUndone))
	if n := len(r.hands.did); r.hands.times("c-undo") != 0 || r.hands.times("b2-undo") != 0 || r.hands.times("b1-undo") != 1 || r.hands.did[n-1][19:] != "a-undo" {
		t.Errorf("did %v", r.hands.did)
	}

	t.Run("when the containment is rolled back", func(t *testing.T) {
		r := fresh(t, response.ModeAutonomous, steps)
		r.Decision(decision(response.StateApplied))
		r.until(t, "done", is(StateDone))
		r.Decision(decision(response.StateRolledBack))
		r.Decision(decision(response.StateRolledBack))
		r.until(t, "undone", is(StateUndone))
		if r.hands.times("c-undo") != 1 || r.hands.times("a-undo") != 1 {
			t.Errorf("did %v", r.hands.did)
		}
	})
	t.Run("while its end is written down", func(t *testing.T) {
		store := &memory{m: map[string][]byte{}}
		var late sync.Once
		var r *rig
		started := make(chan struct{})
		store.during = func() {
			<-started
			if all := r.Records(); len(all) != 1 || all[0].State != StateDone {
				return
			}
			late.Do(func() {
				r.Decision(decision(response.StateRolledBack))
				r.until(t, "told", func(rec Record) bool { return rec.Why != "" })
			})
		}
		r = start(t, book(t, steps), response.ModeAutonomous, store, &hands{fail: map[string]int{}, permanen: map[string]bool{}}, &world{})
		close(started)
		r.Decision(decision(response.StateApplied))
		r.until(t, "undone", is(StateUndone))
		if r.hands.times("c-undo") != 1 || r.hands.times("a-undo") != 1 {
			t.Errorf("did %v", r.hands.did)
		}
	})
	t.Run("while it waits", func(t *testing.T) {
		r := fresh(t, response.ModeAutonomous, `  steps:
  - {name: contain, action: quarantine}
  - {name: a, action: webhook, with: {url: "http://x/"}, `+undo+`}
  - {name: w, action: wait, with: {clean: 1h}, timeout: 2h}
`)
		r.Decision(decision(response.StateApplied))
		r.until(t, "waiting", func(rec Record) bool { return rec.Steps["w"] != nil })
		r.Decision(decision(response.StateRolledBack))
		r.until(t, "undone", is(StateUndone))
		if r.hands.times("a-undo") != 1 {
			t.Errorf("did %v", r.hands.did)
		}
	})
}

// Releasing everything undoes what containments began, and what is under way.
func TestUndo(t *testing.T) {
	steps := "  steps: [{name: a, action: webhook, with: {url: \"http://x/\"}, rollback: {action: webhook, with: {url: \"http://x/\"}}}, {name: w, action: wait, with: {for: %s}}]\n"
	r := fresh(t, response.ModeAutonomous, fmt.Sprintf(steps, "1h"))
	r.Finding(finding())
	r.until(t, "waiting", func(rec Record) bool { return rec.Steps["w"] != nil })
	r.world.mu.Lock()
	r.world.brake = true // which does not keep from undoing
	r.world.mu.Unlock()
	r.Undo("enough", nil)
	if got := r.until(t, "undone", is(StateUndone)); r.hands.times("a-undo") != 1 || got.Why != "enough" {
		t.Errorf("did %v: %+v", r.hands.did, got)
	}

	r = fresh(t, response.ModeAutonomous, fmt.Sprintf(steps, "1ms"))
	r.Finding(finding())
	r.until(t, "done", is(StateDone))
	r.Undo("enough", []string{"d-other"})
	r.Decision(decision(response.StateRolledBack))
	r.until(t, "done", is(StateDone))
	if r.hands.times("a-undo") != 0 {
		t.Error("what had ended without a containment was undone")
	}
}

func TestWaitForACleanSignal(t *testing.T) {
	steps := "  steps: [{name: w, action: wait, with: {clean: 10s}, timeout: %s}, {name: a, action: webhook, with: {url: \"http://x/\"}}]\n"
	r := fresh(t, response.ModeAutonomous, fmt.Sprintf(steps, "1h"))
	r.Finding(finding())
	r.until(t, "waiting", func(rec Record) bool { return rec.Steps["w"] != nil })
	r.world.mu.Lock()
	r.world.quiet = 11 * time.Second
	r.world.mu.Unlock()
	r.until(t, "done", is(StateDone))

	r = fresh(t, response.ModeAutonomous, fmt.Sprintf(steps, "1ms"))
	r.Finding(finding())
	if got := r.until(t, "failed", is(StateFailed)); len(r.hands.did) > 0 || got.Steps["w"].State != StepFailed {
		t.Errorf("%+v", got)
	}
}

func TestBrakeHoldsStepsUp(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, `  steps:
  - {name: siem, action: notify, with: {syslog: {to: "udp:h:1"}}}
  - {name: hook, action: webhook, with: {url: "http://x/"}}
`)
	r.world.brake = true
	r.Finding(finding())
	r.until(t, "told", func(rec Record) bool { return rec.Steps["siem"] != nil && rec.Steps["siem"].State == StepDone })
	time.Sleep(2 * pollEvery) // nothing may happen meanwhile: that cannot be waited for
	if n := r.hands.times("hook"); n > 0 {
		t.Fatal("the brake did not hold")
	}
	r.world.mu.Lock()
	r.world.brake = false
	r.world.mu.Unlock()
	r.until(t, "done", is(StateDone))
}

func TestFindingsDoNotBeginRunsWithoutEnd(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, "  steps: [{name: a, action: webhook, with: {url: \"http://x/\"}}]\n")
	for i := range 100 {
		f := finding()
		f.ID = fmt.Sprint("f-", i)
		r.Finding(f)
	}
	deadline := time.Now().Add(30 * time.Second)
	for r.Lost() < 90 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if n := len(r.Records()); n != 10 {
		t.Errorf("%d runs, at most 10 are allowed within a minute", n)
	}
}

func TestNothingIsDoneThatCannotBeWrittenDown(t *testing.T) {
	r := fresh(t, response.ModeAutonomous, twoHooks)
	r.store.failOn = 2 // the start of the first step
	r.Decision(decision(response.StateApplied))
	r.until(t, "done", is(StateDone))
	if len(r.hands.did) != 2 {
		t.Errorf("did %v", r.hands.did)
	}
}

// What began by playbooks that were replaced since goes on by those, also in a
// decision that waited meanwhile; a finding that goes on begins nothing anew.
func TestReplacedPlaybooks(t *testing.T) {
	hook := func(name string) string {
		return "  steps: [{name: " + name + ", action: webhook, with: {url: \"http://x/\"}}]\n"
	}
	r := fresh(t, response.ModeAutonomous, hook("old"))
	r.hands.wait = make(chan struct{})
	r.Finding(finding())
	r.until(t, "begun", func(rec Record) bool { return rec.Steps["old"] != nil })
	first := r.cfg.Playbooks.Current().Version()
	r.cfg.Playbooks.Replace(playbook.NewSet(book(t, strings.Replace(hook("new"), "steps", "about: another\n  steps", 1))))
	close(r.hands.wait)
	r.until(t, "done", is(StateDone))
	r.Finding(finding())
	d := decision(response.StateApplied)
	d.ID, d.Finding, d.Version = "d-2", "f-2", first
	r.Decision(d)
	d.ID, d.Finding, d.Version = "d-3", "f-3", r.cfg.Playbooks.Current().Version()
	r.Decision(d)
	deadline := time.Now().Add(30 * time.Second)
	for {
		done := map[string]string{} // step by decision
		for _, rec := range r.Records() {
			for name := range rec.Steps {
				if rec.State == StateDone {
					done[rec.Decision] = name
				}
			}
		}
		if len(done) == 3 {
			if done[""] != "old" || done["d-2"] != "old" || done["d-3"] != "new" {
				t.Errorf("did %v", done)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("did %v: %+v", done, r.Records())
		}
		time.Sleep(time.Millisecond)
	}
	if n := len(r.Records()); n != 3 {
		t.Errorf("%d runs", n)
	}
}

// A finding that joins a containment has its playbook's steps done, once, when the
// rules stand, and with the approval that nobody was asked for before.
func TestJoinedFindingHasItsSteps(t *testing.T) {
	for _, people := range []int{0, 1} {
		r := fresh(t, response.ModeAutonomous, fmt.Sprintf("  people: %d\n", people)+twoHooks)
		d := decision(response.StateProposed)
		d.Playbook, d.Committed = "", true // by an operator
		d.Joined = []response.Join{{Finding: "f-2", Kind: detector.KindBruteForce, Playbook: "p", Time: time.Now()}}
		r.Decision(d)
		d.State = response.StateApplied
		r.Decision(d)
		d.State = response.StateVerified
		r.Decision(d)
		if people > 0 {
			got := r.until(t, "awaiting", is(StateAwaitingApproval))
			if err := r.Approve(t.Context(), got.ID, "alice", ""); err != nil {
				t.Fatal(err)
			}
		}
		got := r.until(t, "done", is(StateDone))
		if !got.Joined || got.Finding != "f-2" || got.Decision != "d-1" || got.Facts.Finding.Kind != detector.KindBruteForce || r.hands.times("one") != 1 || r.hands.times("two") != 1 {
			t.Errorf("did %v: %+v", r.hands.did, got)
		}
		r.Decision(decision(response.StateRolledBack)) // nothing to undo here, but it is meant
		r.until(t, "undone", is(StateUndone))
	}
}
