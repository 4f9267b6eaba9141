package response

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/detector"
)

// Nothing is let go before its least time, however quiet it is.
func TestLeastTimeOfContainment(t *testing.T) {
	for _, action := range []Action{ActionQuarantine, ActionSegment} {
		cfg := testConfig()
		cfg.Actions[detector.KindPortScan] = action
		r := newRig(t, cfg)
		f, ctx := scanBy(9, 9, 1), t.Context()
		r.consider(ctx, f)
		d := r.only(t)
		r.consider(ctx, resolved(f))
		for at := time.Second; at < cfg.MinHold; at += time.Second {
			r.tick(ctx, d.Applied.Add(at))
			if e := r.only(t); e.State == StateProbation || !e.State.Holds() {
				t.Fatalf("%s is %s after %s, the least is %s", action, e.State, at, cfg.MinHold)
			}
		}
		r.tick(ctx, d.Applied.Add(cfg.MinHold+time.Second))
		if e := r.only(t); e.State != StateProbation {
			t.Errorf("%s is %s after its least time", action, e.State)
		}
	}
}

// An attack that pauses for less than it must have been over is one containment, also
// where its finding comes and goes.
func TestPausesReleaseNobody(t *testing.T) {
	cfg := testConfig()
	cfg.Actions[detector.KindPortScan] = ActionSegment
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 0))
	d := r.only(t)
	now, dropped := d.Applied, uint64(0)
	for burst := range 20 {
		f := scanBy(9, 9, burst)
		r.decide(ctx, f, now)
		dropped += 100
		r.led.drop(d.ID, dropped)
		for pause := time.Second; pause < cfg.QuietFor; pause += time.Second {
			now = now.Add(time.Second)
			r.tick(ctx, now)
			if pause == time.Second {
				r.consider(ctx, resolved(f))
			}
		}
	}
	if n := len(r.all); n != 1 || r.all[d.ID].State != StateVerified || r.led.applied != 1 {
		t.Errorf("%d decisions, the first is %s; applied %d times", n, r.all[d.ID].State, r.led.applied)
	}
}

// flapper is a host that attacks again as soon as it can, or when it likes.
type flapper struct {
	*rig
	now    time.Time
	serial int
	holds  []time.Duration
}

func newFlapper(t interface{ Helper() }, cfg Config) *flapper {
	x := &flapper{rig: newRig(t, cfg), now: time.Now()}
	x.led.now = x.now
	return x
}

// second lets one pass. When the host attacks and is free, it is found.
func (x *flapper) second(ctx context.Context, attacks bool) {
	x.now = x.now.Add(time.Second)
	x.led.now = x.now
	free := true
	for id := range x.lives {
		free = free && x.all[id].State == StateProbation
	}
	if attacks && free {
		x.serial++
		f := scanBy(9, 9, x.serial)
		x.decide(ctx, f, x.now)
		for _, d := range x.all {
			if d.Finding == f.ID && d.State == StateApplied {
				x.holds = append(x.holds, d.Hold)
			}
		}
	}
	x.tick(ctx, x.now) // what it tries while it is held is dropped, and found by nobody
}

// Each relapse in a row is held for twice as long, up to the most, also when holds
// have outgrown the window; whoever keeps quiet for the window begins anew.
func TestBackOff(t *testing.T) {
	cfg := testConfig()
	x, ctx := newFlapper(t, cfg), t.Context()
	for len(x.holds) < 9 {
		x.second(ctx, true)
	}
	want := cfg.MinHold
	for i, h := range x.holds {
		if h != want {
			t.Errorf("hold %d is %s, want %s", i, h, want)
		}
		want = min(2*want, cfg.MaxHold)
	}
	if last := x.holds[len(x.holds)-1]; last != cfg.MaxHold {
		t.Errorf("it grew to %s, the most is %s", last, cfg.MaxHold)
	}
	quiet := cfg.MaxHold + cfg.Probation.Limited + cfg.Probation.Watched + cfg.RelapseWindow + 30*time.Second
	for range int(quiet / time.Second) {
		x.second(ctx, false)
	}
	x.second(ctx, true)
	if last := x.holds[len(x.holds)-1]; last != cfg.MinHold {
		t.Errorf("after a quiet time it is held for %s, want %s", last, cfg.MinHold)
	}
}

// However somebody comes and goes, a switch is not made to change its rules all the
// time: those who relapse are held for longer each time, those who do not have to wait
// for as long as that.
func TestFlappingIsDamped(t *testing.T) {
	cfg := testConfig()
	cfg.MaxActions = 1000 // not what damps here
	const hours = 2
	// Each containment costs two changes and its removal; in a row, or after a
	// window of quiet, so many can begin.
	row := 0
	for h, sum := cfg.MinHold, time.Duration(0); sum < hours*time.Hour; row++ {
		sum += h
		h = min(2*h, cfg.MaxHold)
	}
	most := row + int(hours*time.Hour/cfg.RelapseWindow)*row
	rapid.Check(t, func(t *rapid.T) {
		x, ctx := newFlapper(t, cfg), context.Background()
		on, off := rapid.IntRange(1, 120).Draw(t, "attacks for"), rapid.IntRange(0, 900).Draw(t, "pauses for")
		for s := range hours * 3600 {
			x.second(ctx, s%(on+off) < on)
		}
		if len(x.holds) > most {
			t.Fatalf("%d containments in %d hours, attacking %d s of %d", len(x.holds), hours, on, on+off)
		}
		if off < int(cfg.RelapseWindow/time.Second)/2 && len(x.holds) > row+2 {
			t.Fatalf("%d containments in a row in %d hours, %d would do (on %d s, off %d s): %v", len(x.holds), hours, row, on, off, x.holds)
		}
	})
}
