package run

import (
	"fmt"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// everyKind has steps of each sort that can be in the way of a crash.
const everyKind = `  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "http://x/"}, rollback: {action: webhook, with: {url: "http://x/"}}}
  - name: both
    parallel:
    - {name: cmd, action: exec, with: {command: c}, on_failure: continue, rollback: {action: webhook, with: {url: "http://x/"}}}
    - {name: again, action: exec, with: {command: c, idempotent: true}}
  - {name: sure, action: ask, with: {title: "Go on?", expires: 1ms, on_timeout: skip}}
  - {name: pause, action: wait, with: {for: 1ms}}
  - {name: flaky, action: webhook, with: {url: "http://x/"}, retries: {count: 3, backoff: 1ms}}
  - {name: last, action: webhook, with: {url: "http://x/"}%s}
`

// Whatever write a crash comes with, before it or after it, the next controller
// brings the run to its end: every step is done, a hook only ever with its one
// key, and the command that is not idempotent at most once.
func TestCrashAtEveryWrite(t *testing.T) {
	for _, rollback := range []bool{false, true} {
		for _, after := range []bool{false, true} {
			for at := 1; ; at++ {
				store := &memory{m: map[string][]byte{}, at: at, after: after}
				h := &hands{fail: map[string]int{"flaky": 1}, permanen: map[string]bool{}}
				crashed := crashOnce(t, store, h, rollback, fmt.Sprintf("write %d, after %v, rollback %v", at, after, rollback))
				if !crashed {
					if at < 12 {
						t.Errorf("only %d writes: the test shows too little", at-1)
					}
					break
				}
			}
		}
	}
}

// The same for a crash in the middle of an attempt, whether the attempt had its
// effect or not.
func TestCrashInEveryAttempt(t *testing.T) {
	for _, rollback := range []bool{false, true} {
		for _, effect := range []bool{false, true} {
			for at := 1; ; at++ {
				store := &memory{m: map[string][]byte{}}
				h := &hands{fail: map[string]int{"flaky": 1}, permanen: map[string]bool{}, crashAt: at, effect: effect}
				if !crashOnce(t, store, h, rollback, fmt.Sprintf("attempt %d, effect %v, rollback %v", at, effect, rollback)) {
					break
				}
			}
		}
	}
}

// crashOnce runs until the crash that was prepared, then once more without, and
// reports whether there was one.
func crashOnce(t *testing.T, store *memory, h *hands, rollback bool, name string) (crashed bool) {
	t.Helper()
	last, end := "", StateDone
	if rollback {
		last, end = ", on_failure: rollback", StateUndone
		h.permanen["last"] = true
	}
	books := book(t, fmt.Sprintf(everyKind, last))
	r := start(t, books, response.ModeAutonomous, store, h, &world{})
	r.Decision(decision(response.StateApplied))
	deadline := time.Now().Add(30 * time.Second)
	for {
		store.mu.Lock()
		crashed = store.down
		store.mu.Unlock()
		h.mu.Lock()
		crashed = crashed || h.dead
		h.mu.Unlock()
		all := r.Records()
		if crashed || len(all) == 1 && all[0].State.Ended() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: neither crashed nor ended: %+v", name, all)
		}
		time.Sleep(100 * time.Microsecond)
	}
	if crashed {
		store.mu.Lock()
		store.down = true // whatever was under way
		store.mu.Unlock()
		r.stop()
		store.at, store.down, h.crashAt, h.dead = 0, false, 0, false
		r = start(t, books, response.ModeAutonomous, store, h, &world{})
		r.Decision(decision(response.StateApplied)) // the response adopts it, and says so
	}
	got := r.until(t, name, is(end))
	r.stop()
	for _, step := range []string{"one", "again", "flaky", "last"} {
		if h.times(step) == 0 {
			t.Errorf("%s: %s was never done: %v", name, step, h.did)
		}
	}
	if n := h.times("cmd"); n > 1 || n == 0 && got.Steps["cmd"].State != StepInDoubt {
		t.Errorf("%s: the command ran %d times, and is %s", name, n, got.Steps["cmd"].State)
	}
	if s := got.Steps["sure"]; s == nil || s.State != StepUnanswered || s.Question.Title != "Go on?" {
		t.Errorf("%s: the question is %+v", name, s)
	}
	if rollback && (h.times("one-undo") == 0 || h.times("cmd-undo") == 0) {
		t.Errorf("%s: not undone: %v", name, h.did)
	}
	for _, k := range h.did {
		if k[:len(got.ID)] != got.ID {
			t.Errorf("%s: a key of another run: %s", name, k)
		}
	}
	return crashed
}
