package response

import (
	"fmt"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
)

// byKind names a playbook for each kind of finding.
type byKind struct{}

func (byKind) Plan(f detector.Finding, _ Circumstances) Plan {
	return Plan{Playbook: "p-" + string(f.Kind), Version: "1", Action: ActionQuarantine}
}

// What else a contained host does is told to the decision that contains it, once for
// each kind, and costs no budget.
func TestOtherKindsJoin(t *testing.T) {
	cfg := testConfig()
	cfg.Playbooks = byKind{}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.all[r.only(t).ID]
	other := func(kind detector.Kind, serial int) detector.Finding {
		f := scanBy(9, 9, serial)
		f.Kind = kind
		return f
	}
	budget, rules := len(r.recent), fmt.Sprint(r.led.rules)
	for range 3 { // as it is offered every second
		r.consider(ctx, other(detector.KindBruteForce, 2))
		r.consider(ctx, other(detector.KindBruteForce, 3))
		r.consider(ctx, scanBy(9, 9, 4))
		r.consider(ctx, other(detector.KindWorm, 5))
	}
	if r.only(t); len(d.Joined) != 2 || d.Joined[0].Kind != detector.KindBruteForce || d.Joined[0].Finding != "f-9-2" || d.Joined[0].Playbook != "p-brute-force" || d.Joined[1].Kind != detector.KindWorm {
		t.Fatalf("joined by %+v", d.Joined)
	}
	if len(r.recent) != budget || fmt.Sprint(r.led.rules) != rules || r.led.applied != 1 || d.State != StateApplied {
		t.Errorf("%d actions instead of %d, %d times applied, %s", len(r.recent), budget, r.led.applied, d.State)
	}
	if last := r.seen[len(r.seen)-1]; len(last.Joined) != 2 || last.ID != d.ID {
		t.Errorf("not told: %+v", last)
	}
	r.decide(ctx, other(detector.KindBruteForce, 6), time.Now().Add(cfg.RelapseWindow+time.Second))
	if len(d.Joined) != 3 {
		t.Errorf("after the window: %+v", d.Joined)
	}
	again := newRig(t, cfg)
	again.store = r.store
	again.Manager.store = r.store
	if err := again.Load(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if e := again.all[d.ID]; e == nil || len(e.Joined) != 3 {
		t.Errorf("after a restart: %+v", e)
	}
	again.consider(ctx, other(detector.KindWorm, 7))
	if e := again.all[d.ID]; len(e.Joined) != 3 {
		t.Errorf("joined again after a restart: %+v", e.Joined)
	}

	// Released and contained anew, all within the window.
	if err := r.releaseNow(d.ID); err != nil {
		t.Fatal(err)
	}
	r.consider(ctx, scanBy(9, 9, 8))
	r.consider(ctx, other(detector.KindWorm, 9))
	r.consider(ctx, other(detector.KindLateralMovement, 10))
	for id, e := range r.all {
		if id != d.ID && (len(e.Joined) != 1 || e.Joined[0].Kind != detector.KindLateralMovement) {
			t.Errorf("contained anew: %+v", e.Joined)
		}
	}
}
