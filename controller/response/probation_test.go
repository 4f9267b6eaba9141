package response

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

// contained brings a host into verified quarantine and its attack to an end; what
// is dropped goes on, as when its honest programs do.
func (r *rig) contained(t *testing.T) (detector.Finding, time.Time) {
	t.Helper()
	f := scanBy(9, 9, 1)
	r.consider(t.Context(), f)
	d := r.only(t)
	r.led.drop(d.ID, 100)
	now := d.Applied.Add(settle + 100*time.Millisecond)
	r.tick(t.Context(), now)
	if d = r.only(t); d.State != StateVerified {
		t.Fatalf("not verified: %+v", d)
	}
	r.consider(t.Context(), resolved(f))
	return f, now
}

// seconds lets time pass, with a packet dropped in each.
func (r *rig) seconds(t *testing.T, id string, n int, now time.Time) time.Time {
	t.Helper()
	for range n {
		now = now.Add(time.Second)
		if c := r.led.counters[id]; len(c) > 0 {
			r.led.drop(id, c[0].Dropped+1)
		}
		r.tick(t.Context(), now)
	}
	return now
}

func limits(in []segmentation.Intent) bool {
	return len(in) > 0 && in[len(in)-1].Action == segmentation.ActionRateLimit
}

// A host whose honest programs go on trying comes back all the same: limited,
// watched, free.
func TestWayBack(t *testing.T) {
	r := newRig(t, testConfig())
	_, now := r.contained(t)
	id := r.only(t).ID
	now = r.seconds(t, id, int(r.cfg.MinHold/time.Second)+1, now)
	if d := r.only(t); d.State != StateProbation || d.Stage != StageLimited || !limits(r.led.rules[id]) {
		t.Fatalf("after the hold: %s %s, rules %v", d.State, d.Stage, r.led.rules[id])
	}
	now = r.seconds(t, id, int(r.cfg.Probation.Limited/time.Second)+1, now)
	if d := r.only(t); d.Stage != StageWatched || d.Restored.IsZero() || len(r.led.rules) != 0 {
		t.Fatalf("after the limit: %s %s, rules %v", d.State, d.Stage, r.led.rules)
	}
	r.seconds(t, id, int(r.cfg.Probation.Watched/time.Second)+1, now)
	if d := r.only(t); d.State != StateReleased || len(r.lives) != 0 {
		t.Fatalf("in the end: %s", d.State)
	}
	d := r.only(t)
	if d.Over.Before(d.Applied) || d.Restored.Sub(d.Over) < r.cfg.QuietFor+r.cfg.Probation.Limited {
		t.Errorf("over at %v, restored at %v", d.Over, d.Restored)
	}
	raw, err := d.MarshalJSON()
	if err != nil || !strings.Contains(string(raw), `"contained_s":`) || !strings.Contains(string(raw), `"recovery_s":`) {
		t.Errorf("%s, %v", raw, err)
	}
	var story []string
	for _, d := range r.seen {
		if s := strings.TrimSpace(string(d.State) + " " + string(d.Stage)); len(story) == 0 || story[len(story)-1] != s {
			story = append(story, s)
		}
	}
	if have, want := strings.Join(story, ", "), "proposed, applied, verified, probation limited, probation watched, released"; have != want {
		t.Errorf("told %q, want %q", have, want)
	}
}

// Whoever relapses on the way back is contained again, for twice as long, and
// the limit goes only when the quarantine stands.
func TestRelapseOnProbation(t *testing.T) {
	for _, stage := range []Stage{StageLimited, StageWatched} {
		t.Run(string(stage), func(t *testing.T) {
			r := newRig(t, testConfig())
			_, now := r.contained(t)
			id := r.only(t).ID
			now = r.seconds(t, id, int(r.cfg.MinHold/time.Second)+1, now)
			if stage == StageWatched {
				now = r.seconds(t, id, int(r.cfg.Probation.Limited/time.Second)+1, now)
			}
			if d := r.only(t); d.Stage != stage {
				t.Fatalf("%s, want %s", d.Stage, stage)
			}
			r.decide(t.Context(), scanBy(9, 9, 2), now)
			old, again := r.Decisions()[0], r.Decisions()[1]
			if old.State != StateReleased || !strings.Contains(old.Proof.Why, again.ID) {
				t.Errorf("the old decision is %s: %s", old.State, old.Proof.Why)
			}
			if again.State != StateApplied || again.Relapse != 1 || again.Hold != 2*r.cfg.MinHold || len(r.led.rules) != 1 {
				t.Errorf("the new one is %s, relapse %d, hold %s; rules of %d", again.State, again.Relapse, again.Hold, len(r.led.rules))
			}
		})
	}
}

func TestRestartOnProbation(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	_, now := r.contained(t)
	id := r.only(t).ID
	now = r.seconds(t, id, int(r.cfg.MinHold/time.Second)+1, now)
	limited := newRig(t, testConfig())
	limited.store.m = maps.Clone(r.store.m)
	if err := limited.Load(ctx, now); err != nil {
		t.Fatal(err)
	}
	if d := limited.only(t); d.Stage != StageLimited || !limits(limited.led.rules[id]) {
		t.Errorf("after a restart: %s %s, rules %v", d.State, d.Stage, limited.led.rules[id])
	}
	limited.seconds(t, id, int(r.cfg.Probation.Limited/time.Second)+1, now)
	if d := limited.only(t); d.Stage != StageWatched || len(limited.led.rules) != 0 {
		t.Errorf("the way back ended with the restart: %s %s", d.State, d.Stage)
	}
	free := newRig(t, testConfig())
	free.store.m = maps.Clone(limited.store.m)
	if err := free.Load(ctx, now); err != nil {
		t.Fatal(err)
	}
	if d := free.only(t); d.State != StateReleased || free.led.adopted != 0 {
		t.Errorf("watched, after a restart: %s", d.State)
	}
}

// Under the brake what is there stays.
func TestBrakeStopsTheWayBack(t *testing.T) {
	r := newRig(t, testConfig())
	_, now := r.contained(t)
	id := r.only(t).ID
	r.brake = true
	now = r.seconds(t, id, 300, now)
	if d := r.only(t); d.State != StateVerified {
		t.Fatalf("let go under the brake: %s", d.State)
	}
	r.brake = false
	now = r.seconds(t, id, 2, now)
	r.brake = true
	r.seconds(t, id, 300, now)
	if d := r.only(t); d.Stage != StageLimited || !limits(r.led.rules[id]) {
		t.Errorf("went on under the brake: %s %s", d.State, d.Stage)
	}
}

// A switch that does not take the limit keeps the quarantine, until it does.
func TestLimitThatFails(t *testing.T) {
	r := newRig(t, testConfig())
	_, now := r.contained(t)
	id := r.only(t).ID
	r.led.applyErr = errors.New("no such meter")
	now = r.seconds(t, id, int(r.cfg.MinHold/time.Second)+10, now)
	if d := r.only(t); d.State != StateVerified || limits(r.led.rules[id]) {
		t.Fatalf("with a switch that refuses: %s", d.State)
	}
	r.led.applyErr = nil
	r.seconds(t, id, 2, now)
	if d := r.only(t); d.Stage != StageLimited {
		t.Errorf("afterwards: %s", d.State)
	}
}

// A flood's limit and what people asked for go without a way back.
func TestReleasedAtOnce(t *testing.T) {
	r := newRig(t, testConfig())
	f := floodOn(7, 3, 1)
	r.consider(t.Context(), f)
	r.consider(t.Context(), resolved(f))
	d := r.only(t)
	r.seconds(t, d.ID, int(r.cfg.MinHold/time.Second)+20, d.Applied)
	if d = r.only(t); d.State != StateReleased || d.Restored.IsZero() {
		t.Errorf("a flood's limit: %s", d.State)
	}
}

// What is watched has no rules, and is not forgotten for that.
func TestWatchedIsNotForgotten(t *testing.T) {
	r := newRig(t, testConfig())
	_, now := r.contained(t)
	id := r.only(t).ID
	now = r.seconds(t, id, int((r.cfg.MinHold+r.cfg.Probation.Limited)/time.Second)+2, now)
	if d := r.only(t); d.Stage != StageWatched {
		t.Fatalf("%s %s", d.State, d.Stage)
	}
	for i := range kept + 10 { // more refusals than are kept, all of them later
		d := Decision{ID: fmt.Sprint("d-refused-", i), State: StateRefused, Created: now, Ended: now}
		r.change(t.Context(), &d, func(*Decision) {})
	}
	r.seconds(t, id, int(r.cfg.Probation.Watched/time.Second)+1, now)
	if len(r.lives) != 0 {
		t.Errorf("%d decisions are followed for ever", len(r.lives))
	}
}

// To extend is never to shorten.
func TestExtend(t *testing.T) {
	r := newRig(t, testConfig())
	run, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	defer func() { cancel(); <-done }()
	r.Handle(scanBy(9, 9, 1))
	eventually(t, "containment", func() bool { return len(r.Decisions()) == 1 && r.Decisions()[0].State == StateApplied })
	id := r.only(t).ID
	for _, by := range []time.Duration{time.Hour, time.Second} {
		if err := r.Extend(t.Context(), id, "op", by); err != nil {
			t.Fatal(err)
		}
	}
	if d := r.only(t); d.Hold < 59*time.Minute {
		t.Errorf("held for %s", d.Hold)
	}
}
