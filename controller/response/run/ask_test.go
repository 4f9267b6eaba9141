package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

const asking = `  steps:
  - {name: contain, action: quarantine}
  - {name: one, action: webhook, with: {url: "http://x/"}, rollback: {action: webhook, with: {url: "http://x/"}}}
  - {name: sure, action: ask, with: {title: "Set {{.Host.Address}} up anew?", %s}, on_failure: %s}
  - {name: two, action: webhook, with: {url: "http://x/"}}
`

func ask(t *testing.T, with, onFailure string) (*rig, string) {
	t.Helper()
	r := fresh(t, response.ModeAutonomous, fmt.Sprintf(asking, with, onFailure))
	r.Decision(decision(response.StateApplied))
	return r, r.asked(t)
}

// asked waits for the only question, and returns its ID.
func (r *rig) asked(t *testing.T) string {
	t.Helper()
	return r.until(t, "a question", func(rec Record) bool { return len(rec.Asks) == 1 }).Asks[0]
}

func TestQuestionWaitsForPeople(t *testing.T) {
	r, id := ask(t, "groups: [soc], who: [root], people: 2", "stop")
	ctx := t.Context()
	if q := r.Records()[0].Steps["sure"].Question; q.Title != "Set 10.0.0.7 up anew?" || q.People != 2 || time.Until(q.Expires) < 50*time.Minute {
		t.Errorf("%+v", q)
	}
	for who, want := range map[string]error{"carol": ErrNotAllowed, "nobody": nil} {
		if err := r.Approve(ctx, id, who, ""); err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v", who, err)
		}
	}
	if err := r.Approve(ctx, id, "alice", "it is old"); err != nil {
		t.Fatal(err)
	}
	if err := r.Approve(ctx, id, "alice", ""); !errors.Is(err, response.ErrState) {
		t.Errorf("alice twice: %v", err)
	}
	if err := r.Approve(ctx, id[:idLength]+"-one", "bob", ""); !errors.Is(err, response.ErrState) {
		t.Errorf("no such question: %v", err)
	}
	if r.hands.times("two") > 0 {
		t.Fatal("one was enough")
	}
	if err := r.Approve(ctx, id[:idLength], "bob", ""); err != nil { // of a run that asks one question
		t.Fatal(err)
	}
	got := r.until(t, "done", is(StateDone))
	a := got.Steps["sure"].Question.Answers
	if len(a) != 2 || !a[0].Yes || a[0].Who != "alice" || a[0].Why != "it is old" || a[0].Time.IsZero() || got.Steps["sure"].Result != "approved by alice and bob" || len(got.Asks) > 0 {
		t.Errorf("%+v", got.Steps["sure"])
	}
	if want := []string{got.ID + "-one", got.ID + "-two"}; !slices.Equal(r.hands.did, want) {
		t.Errorf("did %v, want %v", r.hands.did, want)
	}
	if err := r.Reject(ctx, id, "bob", ""); !errors.Is(err, response.ErrState) {
		t.Errorf("rejected when done: %v", err)
	}
}

func TestNoAndNoAnswer(t *testing.T) {
	for _, c := range []struct {
		name, with, onFailure string
		no                    bool
		end                   State
		sure                  StepState
		two, undone           int
	}{
		{"no", "expires: 1h, on_timeout: skip", "stop", true, StateFailed, StepFailed, 0, 0},
		{"no, and back", "expires: 1h, on_timeout: skip", "rollback", true, StateUndone, StepFailed, 0, 1},
		{"no, and on", "expires: 1h", "continue", true, StateDone, StepFailed, 1, 0},
		{"no answer", "expires: 1ms", "continue", false, StateFailed, StepUnanswered, 0, 0},
		{"no answer, and back", "expires: 1ms, on_timeout: rollback", "stop", false, StateUndone, StepUnanswered, 0, 1},
		{"no answer, and on", "expires: 1ms, on_timeout: skip", "rollback", false, StateDone, StepUnanswered, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := fresh(t, response.ModeAutonomous, fmt.Sprintf(asking, c.with, c.onFailure))
			r.Decision(decision(response.StateApplied))
			if c.no {
				if err := r.Reject(t.Context(), r.asked(t), "carol", "not today"); err != nil {
					t.Fatal(err)
				}
			}
			got := r.until(t, string(c.end), is(c.end))
			if s := got.Steps["sure"]; s.State != c.sure || c.no && s.Why != "rejected by carol: not today" {
				t.Errorf("%+v", s)
			}
			if n, m := r.hands.times("two"), r.hands.times("one-undo"); n != c.two || m != c.undone {
				t.Errorf("did %v", r.hands.did)
			}
		})
	}
}

// A late answer is none, also where nobody has looked at the clock yet.
func TestLateAnswer(t *testing.T) {
	q := &Question{People: 1, Expires: time.Now()}
	if err := q.take("x", Answer{Yes: true, Who: "alice", Time: q.Expires}); !errors.Is(err, response.ErrState) || len(q.Answers) > 0 {
		t.Errorf("%v, %v", err, q.Answers)
	}
}

// Whatever write a crash comes with, a question is not asked anew, an answer that was
// acknowledged stays, and what follows is done once.
func TestCrashWhileAsking(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			name := fmt.Sprintf("write %d, after %v", at, after)
			store := &memory{m: map[string][]byte{}, at: at, after: after}
			h := &hands{fail: map[string]int{}, permanen: map[string]bool{}}
			books := book(t, fmt.Sprintf(asking, "people: 2", "stop"))
			r := start(t, books, response.ModeAutonomous, store, h, &world{})
			r.Decision(decision(response.StateApplied))
			first := r.answerUntilCrash(t, store)
			crashed := store.isDown()
			if crashed {
				r.stop()
				store.at, store.down = 0, false
				r = start(t, books, response.ModeAutonomous, store, h, &world{})
				r.Decision(decision(response.StateApplied))
				again := r.answerUntilCrash(t, store)
				if !first.IsZero() && !again.Equal(first) {
					t.Errorf("%s: expires %s, and after the crash %s", name, first, again)
				}
			}
			got := r.until(t, name, is(StateDone))
			if a := got.Steps["sure"].Question.Answers; len(a) != 2 || a[0].Who == a[1].Who || h.times("two") == 0 {
				t.Errorf("%s: %+v, did %v", name, a, h.did)
			}
			r.stop()
			if !crashed {
				if at < 8 {
					t.Errorf("only %d writes: the test shows too little", at-1)
				}
				break
			}
		}
	}
}

func (s *memory) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

// answerUntilCrash says yes, twice, until the run is done or the controller gone; it
// returns when the question that was written down expires.
func (r *rig) answerUntilCrash(t *testing.T, store *memory) (expires time.Time) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !store.isDown() {
		all := r.Records()
		if len(all) == 1 && all[0].State == StateDone {
			return all[0].Steps["sure"].Question.Expires
		}
		if len(all) == 1 && len(all[0].Asks) == 1 && store.has("asking") {
			expires = all[0].Steps["sure"].Question.Expires
			for _, who := range []string{"alice", "bob"} {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond) // for want of a store it waits
				_ = r.Approve(ctx, all[0].Asks[0], who, "")                           // who has said so is told
				cancel()
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("neither crashed nor done: %+v", all)
		}
		time.Sleep(100 * time.Microsecond)
	}
	return expires
}

// has reports whether a text is written down.
func (s *memory) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.m {
		if bytes.Contains(v, []byte(`"`+text+`"`)) {
			return true
		}
	}
	return false
}
