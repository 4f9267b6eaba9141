package learn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

func testConfig(t *testing.T, mode response.LearningMode) Config {
	t.Helper()
	return Config{Mode: mode, Alpha: 0.1, Explore: 0.05, Seed: 1, Relapse: time.Minute, Verify: 3 * time.Second, StateDir: t.TempDir(), Log: quiet()}
}

// start is when the incidents of these tests begin.
var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func question(i int, host byte) response.Question {
	return response.Question{
		Decision: fmt.Sprintf("d-%d", i), Time: start.Add(time.Duration(i) * time.Hour), Mode: response.ModeAutonomous,
		Finding: detector.Finding{ID: fmt.Sprintf("f-%d", i), Kind: detector.KindPortScan, Score: 1, Confidence: 1},
		Target:  response.Target{Host: netip.AddrFrom4([4]byte{10, 0, 0, host})}, Rule: response.ActionQuarantine,
		Open: []response.Action{response.ActionSegment, response.ActionQuarantine},
	}
}

// decided is the decision that was made of a question, verified and released.
func decided(q response.Question, c response.Choice) response.Decision {
	d := response.Decision{
		ID: q.Decision, Finding: q.Finding.ID, Kind: q.Finding.Kind, Action: c.Action, Target: q.Target, Who: "playbook", Choice: &c,
		Created: q.Time, Applied: q.Time, Verified: q.Time.Add(300 * time.Millisecond), Ended: q.Time.Add(time.Minute), State: response.StateReleased,
		Cost: &response.Cost{},
	}
	d.Proof = response.Proof{Installed: true, Effective: true, Harmless: true, Dropped: 100}
	return d
}

// happen lets one incident happen from its beginning to when its reward is known.
func (l *Learner) happen(i int, change func(*response.Decision)) response.Choice {
	q := question(i, byte(i%200+1))
	c := l.Choose(q)
	d := decided(q, c)
	change(&d)
	l.Decision(d)
	l.tick(d.Ended.Add(l.cfg.Relapse))
	return c
}

func asIs(*response.Decision) {}

// logOf writes what waits, and reads the log.
func logOf(t *testing.T, l *Learner) *Log {
	t.Helper()
	w := &writer{dir: Dir(l.cfg.StateDir), most: maxFile}
	l.flush(w)
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	log, err := ReadLog(l.cfg.StateDir)
	if err != nil || len(log.Faults) > 0 {
		t.Fatalf("%v, %v", err, log.Faults)
	}
	return log
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		mode     response.LearningMode
		promoted bool
		want     response.LearningMode
	}{
		{response.LearningOff, false, response.LearningOff},
		{response.LearningShadow, true, response.LearningShadow},
		{response.LearningExplore, false, response.LearningExplore},
		{response.LearningLive, false, response.LearningShadow},
		{response.LearningLive, true, response.LearningLive},
	} {
		l := New(testConfig(t, c.mode))
		l.standing.Live = c.promoted
		others := 0
		for i := range 400 {
			// The rule earns little, a segment all.
			choice := l.happen(i, func(d *response.Decision) {
				if d.Action == response.ActionQuarantine {
					d.Overruled = "alice"
				}
			})
			if choice.Mode != c.want || choice.Propensity == 0 {
				t.Fatalf("%s: %+v", c.mode, choice)
			}
			if choice.Action != response.ActionQuarantine {
				others++
			}
		}
		switch {
		case c.want == response.LearningLive && others < 200,
			c.want == response.LearningExplore && (others == 0 || others > 60),
			c.want != response.LearningLive && c.want != response.LearningExplore && others > 0:
			t.Errorf("%s, promoted %v: another rung in %d of 400", c.mode, c.promoted, others)
		}
		log := logOf(t, l)
		if len(log.Choices) != 400 || len(log.Outcomes) != 400 {
			t.Fatalf("%s: %d choices, %d outcomes", c.mode, len(log.Choices), len(log.Outcomes))
		}
		if c.mode == response.LearningOff {
			if x := log.Choices[0]; x.Policy != "rule" || x.propensity(x.Rule) != 1 || len(x.Arms) != 2 {
				t.Errorf("off: %+v", x)
			}
		}
		if s := l.Status(); s.Mode != c.want || (s.Why != "") != (s.Mode != s.Configured) {
			t.Errorf("%s: status %+v", c.mode, s)
		}
	}
}

func TestRewards(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*response.Decision)
		least    float64
		most     float64
		censored string
	}{
		"proven at once":       {asIs, 0.85, 0.95, ""},
		"half of it passed":    {func(d *response.Decision) { d.Proof.Passed = 100 }, 0.35, 0.45, ""},
		"never proven":         {func(d *response.Decision) { d.Verified, d.Proof.Effective = time.Time{}, false }, 0.4, 0.5, ""},
		"overruled":            {func(d *response.Decision) { d.Overruled = "alice" }, 0.3, 0.45, ""},
		"others were hurt":     {func(d *response.Decision) { d.Cost = &response.Cost{Others: 0.5} }, 0.6, 0.7, ""},
		"honest work was cut":  {func(d *response.Decision) { d.Cost = &response.Cost{Own: 4, Cut: 4} }, 0.7, 0.8, ""},
		"it needed another":    {func(d *response.Decision) { d.Successor = "d-x" }, 0.6, 0.7, ""},
		"rolled back for harm": {func(d *response.Decision) { d.State, d.Proof.Harmless = response.StateRolledBack, false }, 0.3, 0.45, ""},
		"rejected": {func(d *response.Decision) {
			d.State, d.Applied, d.Verified, d.Proof, d.Overruled = response.StateRefused, time.Time{}, time.Time{}, response.Proof{}, "alice"
		}, 0, 0, ""},
		"nobody answered": {func(d *response.Decision) {
			d.State, d.Applied, d.Verified, d.Proof = response.StateExpired, time.Time{}, time.Time{}, response.Proof{}
		}, 0, 0, "nothing was done"},
		"not taken": {func(d *response.Decision) {
			d.State, d.Proof = response.StateRolledBack, response.Proof{Harmless: true}
		}, 0, 0, "the switch did not take it"},
		"the TTL ran out":     {func(d *response.Decision) { d.State = response.StateExpired }, 0, 0, "the controller or the switch was away"},
		"the attack was over": {func(d *response.Decision) { d.Proof.Dropped = 0 }, 0.85, 0.95, ""},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(testConfig(t, response.LearningOff))
			l.happen(1, c.change)
			o, ok := logOf(t, l).Outcomes["d-1"]
			if !ok || o.Censored != c.censored || o.Reward < c.least || o.Reward > c.most {
				t.Errorf("%+v; want %v to %v, censored %q", o, c.least, c.most, c.censored)
			}
		})
	}
}

// A reward is known when an attack would have come back, or when it has.
func TestRelapseCounts(t *testing.T) {
	l := New(testConfig(t, response.LearningOff))
	q := question(1, 9)
	d := decided(q, l.Choose(q))
	l.Decision(d)
	l.tick(d.Ended.Add(l.cfg.Relapse - time.Second))
	if len(l.done) > 0 {
		t.Fatal("settled too early")
	}
	again := question(2, 9)
	again.Time = d.Ended.Add(10 * time.Second)
	l.Decision(response.Decision{ID: "d-2", Who: "playbook", Target: again.Target, Created: again.Time, State: response.StateProposed})
	l.tick(d.Ended.Add(11 * time.Second))
	if o := logOf(t, l).Outcomes["d-1"]; o.Parts.Relapsed != 1 {
		t.Errorf("%+v", o)
	}
}

// What an operator says later changes the reward, and what was learned from it.
func TestVerdicts(t *testing.T) {
	l := New(testConfig(t, response.LearningShadow))
	l.happen(1, asIs)
	x := ContextOf(question(1, 2))
	before := l.policy.Mean(x, response.ActionQuarantine)
	l.Verdict("f-1", false, "alice", start)
	if o := logOf(t, l).Outcomes["d-1"]; o.Parts.Overruled != 1 || o.Reward > 0.45 {
		t.Errorf("after the verdict: %+v", o)
	}
	if after := l.policy.Mean(x, response.ActionQuarantine); after > before/2+0.01 {
		t.Errorf("expected %.3f before the verdict, %.3f after it", before, after)
	}
	l.Verdict("f-1", true, "alice", start)
	if o := logOf(t, l).Outcomes["d-1"]; o.Parts.Overruled != 0 || o.Reward < 0.85 {
		t.Errorf("taken back: %+v", o)
	}
	if l.policy.Learned() != 1 {
		t.Errorf("%d rewards from one decision", l.policy.Learned())
	}
}

// A controller that is killed learns on from the log, as if it had not been.
func TestRestart(t *testing.T) {
	cfg := testConfig(t, response.LearningExplore)
	l := New(cfg)
	for i := range 60 {
		l.happen(i, asIs)
	}
	going, gone := question(100, 7), question(101, 8)
	d := decided(going, l.Choose(going))
	l.Choose(gone)
	logOf(t, l) // all is written; and now it is killed
	again := New(cfg)
	if err := again.Load([]response.Decision{d}, start); err != nil {
		t.Fatal(err)
	}
	x := ContextOf(going)
	for _, a := range []response.Action{response.ActionSegment, response.ActionQuarantine} {
		if l.policy.Mean(x, a) != again.policy.Mean(x, a) || l.policy.optimism(x, a) != again.policy.optimism(x, a) {
			t.Errorf("%s: learned otherwise from the log", a)
		}
	}
	if a, b := l.policy.kept, again.policy.kept; a.n != b.n || a.earned != b.earned {
		t.Errorf("accounts: %+v and %+v", a, b)
	}
	again.tick(d.Ended.Add(cfg.Relapse))
	log := logOf(t, again)
	if o := log.Outcomes["d-100"]; o.Censored != "" || o.Reward < 0.8 {
		t.Errorf("what ended meanwhile: %+v", o)
	}
	if o := log.Outcomes["d-101"]; o.Censored == "" {
		t.Errorf("what nobody knows any more: %+v", o)
	}
}

// Where nothing is done there is nothing to learn.
func TestOnlyObserved(t *testing.T) {
	l := New(testConfig(t, response.LearningExplore))
	q := question(1, 2)
	q.Mode, q.Open = response.ModeObserve, []response.Action{response.ActionQuarantine}
	l.Choose(q)
	if o := logOf(t, l).Outcomes["d-1"]; o.Censored != "only observed" || l.policy.Learned() != 0 || len(l.open) != 0 {
		t.Errorf("%+v", o)
	}
}

// A live policy that earns too little falls back to the rule, whoever promoted it,
// and what it did since stays known over a restart.
func TestFallsBack(t *testing.T) {
	cfg := testConfig(t, response.LearningLive)
	l := New(cfg)
	for i := range 200 { // the rule earns well
		l.happen(i, asIs)
	}
	good := &Report{Promotable: true, Advantage: Bounds{Low: 0.1}, Judged: 200}
	if err := Promote(cfg.StateDir, good, "alice", "figures"); err != nil {
		t.Fatal(err)
	}
	var told []Change
	l.OnChange(func(c Change) { told = append(told, c) })
	l.follow()
	if m, why := l.mode(); m != response.LearningLive || why != "" {
		t.Fatalf("%s, %s", m, why)
	}
	bad := func(d *response.Decision) { d.Overruled = "bob" }
	late := func(i int) int { return int(time.Since(start).Hours()) + 10 + i } // after the promotion
	for i := range lately {
		l.happen(late(i), bad)
	}
	if m, _ := l.mode(); m != response.LearningShadow {
		t.Fatalf("still %s after %d bad decisions", m, lately)
	}
	l.follow()
	s, err := ReadStanding(cfg.StateDir)
	if err != nil || s.Live || len(s.Changes) != 2 || s.last().Who != "platelet" || !strings.Contains(s.last().Why, "is expected of the rule") {
		t.Fatalf("%+v, %v", s, err)
	}
	if len(told) != 2 || told[0].What != Promoted || told[1].What != Demoted {
		t.Errorf("told %+v", told)
	}
	if st := l.Status(); st.Mode != response.LearningShadow || !strings.Contains(st.Why, "demoted by platelet") {
		t.Errorf("%+v", st)
	}
}

func TestPromotionNeedsAReport(t *testing.T) {
	dir := t.TempDir()
	err := Promote(dir, (&Log{}).Report(Judge{Alpha: 0.1}), "alice", "hope")
	if !errors.Is(err, ErrNotYet) {
		t.Errorf("promoted on an empty log: %v", err)
	}
	if err := Demote(dir, "alice", "to be sure"); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadStanding(dir); err != nil || s.Live || s.last().Why != "to be sure" {
		t.Errorf("%+v, %v", s, err)
	}
	if err := os.WriteFile(standingFile(dir), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStanding(dir); err == nil {
		t.Error("a damaged file was read as one")
	}
}

// Run writes what is chosen at once, and what is left at its end.
func TestRunWrites(t *testing.T) {
	l := New(testConfig(t, response.LearningShadow))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	l.Choose(question(1, 2))
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if log, err := ReadLog(l.cfg.StateDir); err == nil && len(log.Choices) == 1 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("a choice was not written")
		case <-tick.C:
		}
	}
	l.Choose(question(2, 3))
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if log, err := ReadLog(l.cfg.StateDir); err != nil || len(log.Choices) != 2 {
		t.Errorf("%d choices, %v", len(log.Choices), err)
	}
}

// The queue is bounded, and what does not fit is counted.
func TestQueueIsBounded(t *testing.T) {
	l := New(testConfig(t, response.LearningOff))
	n := 0
	for ; l.counts.Lost == 0 && n < 1<<16; n++ {
		q := question(n, 2)
		q.Mode = response.ModeObserve
		l.Choose(q)
	}
	if l.counts.Lost == 0 || len(l.queue) > maxQueue {
		t.Errorf("%d choices, %d bytes wait", n, len(l.queue))
	}
}

// A disk that cannot be written to is said, what did not get there is counted, and
// when it can be the log goes on.
func TestLogReturns(t *testing.T) {
	l := New(testConfig(t, response.LearningOff))
	if err := os.WriteFile(Dir(l.cfg.StateDir), nil, 0o600); err != nil { // in the place of the directory
		t.Fatal(err)
	}
	w := &writer{dir: Dir(l.cfg.StateDir), most: maxFile}
	l.Choose(question(1, 2))
	l.flush(w)
	if s := l.Status(); s.Lost != 1 || s.Fault == "" {
		t.Errorf("%+v", s)
	}
	if err := os.Remove(Dir(l.cfg.StateDir)); err != nil {
		t.Fatal(err)
	}
	l.Choose(question(2, 2))
	l.flush(w)
	if log, err := ReadLog(l.cfg.StateDir); err != nil || len(log.Choices) != 1 || l.Status().Fault != "" {
		t.Errorf("%+v, %v", log, err)
	}
	if err := w.close(); err != nil {
		t.Error(err)
	}
}
