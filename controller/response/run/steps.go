package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// verdict is what follows from a step, the weightiest last.
type verdict int

const (
	goOn verdict = iota
	stop
	rollBack
	halt // ctx has ended: everything stays as it is written down
)

// execute carries a run out, from where it is.
func (x *Executor) execute(ctx context.Context, a *active) {
	defer x.leave(a)
	log := func() logrus.FieldLogger {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.cfg.Log.WithFields(logrus.Fields{"run": a.rec.ID, "playbook": a.rec.Playbook, "why": a.rec.Why})
	}
	v := rollBack
	if x.state(a) == StateRunning {
		v = x.forward(ctx, a)
	}
	switch v {
	case halt:
		return
	case goOn:
		if x.end(ctx, a, StateDone) {
			log().Info("playbook done")
		}
	case stop:
		if x.end(ctx, a, StateFailed) {
			log().Error("playbook stopped")
		}
	case rollBack:
		x.change(ctx, a, func(r *Record) { r.State = StateUndoing })
		if x.backward(ctx, a) && x.end(ctx, a, StateUndone) {
			log().Warn("playbook undone")
		}
	}
}

// leave says that nobody is at a run any more. One that was to be undone after its
// end had been decided, and before this, is still to be gone through backwards.
func (x *Executor) leave(a *active) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a.going = false
	if a.undone && (a.rec.State == StateDone || a.rec.State == StateFailed) {
		a.rec.State, a.rec.Ended, x.ready = StateUndoing, time.Time{}, true
	}
}

func (x *Executor) state(a *active) State {
	x.mu.Lock()
	defer x.mu.Unlock()
	return a.rec.State
}

// end ends a run; one that is to be undone since goes on backwards. It reports
// false where the run is not ours to end.
func (x *Executor) end(ctx context.Context, a *active, s State) bool {
	if ctx.Err() != nil || a.gone.Err() != nil {
		return false
	}
	x.change(ctx, a, func(r *Record) {
		if a.undone && s != StateUndone {
			r.State = StateUndoing
			return
		}
		r.State, r.Ended = s, time.Now().UTC()
	})
	return a.gone.Err() == nil
}

// forward does the steps one after the other.
func (x *Executor) forward(ctx context.Context, a *active) verdict {
	steps := a.book.Rest()
	for i := range steps {
		do := x.step
		if len(steps[i].Parallel) > 0 {
			do = x.branches
		}
		if v := do(ctx, a, &steps[i]); v != goOn {
			return v
		}
	}
	return goOn
}

// branches does steps at once; the weightiest verdict counts.
func (x *Executor) branches(ctx context.Context, a *active, s *playbook.Step) verdict {
	if runs, why := s.Wanted(a.rec.Facts, x.outcome(a)); !runs && x.record(a, s.Name).State == "" {
		x.change(ctx, a, func(r *Record) {
			for i := range s.Parallel {
				r.Steps[s.Parallel[i].Name] = &StepRecord{State: StepSkipped, Why: why}
			}
			r.Steps[s.Name] = &StepRecord{State: StepSkipped, Why: why}
		})
	}
	if a.gone.Err() != nil {
		return halt
	}
	if rec := x.record(a, s.Name); rec.ended() {
		return goOn
	}
	verdicts := make([]verdict, len(s.Parallel))
	var all sync.WaitGroup
	for i := range s.Parallel {
		all.Go(func() { verdicts[i] = x.step(ctx, a, &s.Parallel[i]) })
	}
	all.Wait()
	v := slices.Max(verdicts)
	if v == goOn {
		x.change(ctx, a, func(r *Record) { r.Steps[s.Name] = &StepRecord{State: StepDone, Ended: time.Now().UTC()} })
	}
	return v
}

// outcome looks up how a step ended.
func (x *Executor) outcome(a *active) func(string) playbook.Outcome {
	return func(name string) playbook.Outcome {
		rec := x.record(a, name)
		return rec.outcome()
	}
}

// record is a copy of what is known of a step.
func (x *Executor) record(a *active, name string) StepRecord {
	x.mu.Lock()
	defer x.mu.Unlock()
	if s := a.rec.Steps[name]; s != nil {
		return *s
	}
	return StepRecord{}
}

// step does a step, unless it was done.
func (x *Executor) step(ctx context.Context, a *active, s *playbook.Step) verdict {
	rec := x.record(a, s.Name)
	if rec.State == "" {
		runs, why := s.Wanted(a.rec.Facts, x.outcome(a))
		if a.rec.Told && s.Action != playbook.ActionNotify {
			runs, why = false, "this run only notifies"
		}
		if !runs {
			x.change(ctx, a, func(r *Record) { r.Steps[s.Name] = &StepRecord{State: StepSkipped, Why: why} })
			if a.gone.Err() != nil {
				return halt
			}
			return goOn
		}
	}
	if !rec.ended() {
		t := attempt{x: x, a: a, step: s, key: a.rec.ID + "-" + s.Name, stop: a.undo, steps: func(r *Record) map[string]*StepRecord { return r.Steps }}
		switch err := t.run(ctx); {
		case errors.Is(err, errHalt):
			return halt
		case errors.Is(err, errUndo):
			return rollBack
		}
		rec = x.record(a, s.Name)
	}
	select {
	case <-a.undo:
		return rollBack
	default:
	}
	if rec.outcome() != playbook.OutcomeFailed {
		return goOn
	}
	then := s.OnFailure
	if q, ok := s.With.Args.(playbook.Ask); ok && rec.State == StepUnanswered {
		then = map[playbook.OnTimeout]playbook.OnFailure{playbook.TimeoutRollback: playbook.FailRollback, playbook.TimeoutSkip: playbook.FailContinue}[q.OnTimeout]
	}
	if then == playbook.FailContinue {
		return goOn
	}
	x.mu.Lock()
	a.rec.Why = fmt.Sprintf("step %s: %s", s.Name, rec.Why)
	x.mu.Unlock()
	if then == playbook.FailRollback {
		return rollBack
	}
	return stop
}

// backward undoes the steps, the latest first, and reports whether it came to an
// end. What cannot be undone is said, and does not keep the rest.
func (x *Executor) backward(ctx context.Context, a *active) bool {
	x.mu.Lock()
	if a.rec.Undo == nil {
		a.rec.Undo = map[string]*StepRecord{}
	}
	x.mu.Unlock()
	steps := a.book.Rest()
	for i := len(steps) - 1; i >= 0; i-- {
		list := []playbook.Step{steps[i]}
		if len(steps[i].Parallel) > 0 {
			list = steps[i].Parallel
		}
		for j := len(list) - 1; j >= 0; j-- {
			rec := x.record(a, list[j].Name)
			u, ok := list[j].Undo()
			if !ok || rec.State != StepDone && rec.State != StepInDoubt && rec.State != StepStarted {
				continue
			}
			u.Retries = list[j].Retries
			t := attempt{x: x, a: a, step: &u, key: a.rec.ID + "-" + u.Name + "-undo", steps: func(r *Record) map[string]*StepRecord { return r.Undo }}
			if err := t.run(ctx); err != nil {
				return false
			}
		}
	}
	return true
}

// errUndo says that a run is to be undone, so that waiting has no use.
var errUndo = errors.New("the run is to be undone")

// attempt is a step that is being tried, forwards or backwards.
type attempt struct {
	x     *Executor
	a     *active
	step  *playbook.Step
	key   string
	stop  <-chan struct{} // ends waiting
	steps func(*Record) map[string]*StepRecord
}

func (t *attempt) record() StepRecord {
	t.x.mu.Lock()
	defer t.x.mu.Unlock()
	if s := t.steps(&t.a.rec)[t.step.Name]; s != nil {
		out := *s
		out.Question = s.Question.clone() // others answer it
		return out
	}
	return StepRecord{}
}

// set writes the step down. It fails with errHalt when ctx ended before.
func (t *attempt) set(ctx context.Context, rec StepRecord) error {
	t.x.change(ctx, t.a, func(r *Record) {
		if old := t.steps(r)[t.step.Name]; old != nil && old.Question != nil {
			rec.Question = old.Question // with what was answered meanwhile
		}
		t.steps(r)[t.step.Name] = &rec
	})
	if ctx.Err() != nil || t.a.gone.Err() != nil {
		return errHalt
	}
	return nil
}

// run tries until the step has ended, and writes each turn down.
func (t *attempt) run(ctx context.Context) error {
	rec := t.record()
	if rec.ended() {
		return nil
	}
	if rec.State == StepStarted && !t.step.Repeatable() {
		rec.State, rec.Ended, rec.Why = StepInDoubt, time.Now().UTC(), "the controller ended while the command may have run; it is not repeated"
		return t.set(ctx, rec)
	}
	again := rec.State == StepStarted || rec.State == StepAsking // the same attempt, made once more
	for {
		if err := t.unbraked(ctx); err != nil {
			return err
		}
		if !again {
			rec.Attempt++
		}
		again = false
		rec.State, rec.Why = StepStarted, ""
		var err error
		if rec.Question, err = t.question(&rec); err != nil {
			rec.State, rec.Ended, rec.Why = StepFailed, time.Now().UTC(), short(err.Error())
			return t.set(ctx, rec)
		}
		if rec.Question != nil {
			rec.State = StepAsking
		}
		if rec.Began.IsZero() {
			rec.Began = time.Now().UTC()
		}
		if err := t.set(ctx, rec); err != nil {
			return err
		}
		result, err := t.once(ctx, rec)
		if err != nil && ctx.Err() != nil {
			return errHalt // the result is not known
		}
		if errors.Is(err, errUndo) {
			rec.State, rec.Ended, rec.Why = StepSkipped, time.Now().UTC(), err.Error()
			return errors.Join(errUndo, t.set(ctx, rec))
		}
		if err == nil {
			rec.State, rec.Ended, rec.Result = StepDone, time.Now().UTC(), short(result)
			return t.set(ctx, rec)
		}
		rec.State, rec.Why = StepRetrying, short(err.Error())
		if errors.Is(err, errUnanswered) {
			rec.State, rec.Ended = StepUnanswered, time.Now().UTC()
			return t.set(ctx, rec)
		}
		if IsPermanent(err) || rec.Attempt > t.step.Retries.Count {
			rec.State, rec.Ended = StepFailed, time.Now().UTC()
			t.x.cfg.Log.WithError(err).WithFields(logrus.Fields{"run": t.a.rec.ID, "step": t.step.Name, "attempts": rec.Attempt}).Error("step of a playbook failed")
			return t.set(ctx, rec)
		}
		if err := t.set(ctx, rec); err != nil {
			return err
		}
		if !sleep(ctx, t.stop, t.step.Retries.Pause(rec.Attempt)) {
			return t.interrupted(ctx)
		}
	}
}

func (t *attempt) interrupted(ctx context.Context) error {
	if ctx.Err() != nil {
		return errHalt
	}
	return errUndo
}

// unbraked waits for the global brake to be off. Telling and undoing are
// nothing new.
func (t *attempt) unbraked(ctx context.Context) error {
	for t.stop != nil && t.step.Action != playbook.ActionNotify && t.x.cfg.World.Braked() {
		if !sleep(ctx, t.stop, pollEvery) {
			return t.interrupted(ctx)
		}
	}
	if ctx.Err() != nil {
		return errHalt
	}
	return nil
}

// once makes one attempt.
func (t *attempt) once(ctx context.Context, rec StepRecord) (string, error) {
	if rec.Question != nil {
		return t.ask(ctx)
	}
	facts := t.a.rec.Facts // never changed
	facts.Step = t.step.Name
	args, err := t.step.Render(facts)
	if err != nil {
		return "", Permanent(fmt.Errorf("arguments: %w", err))
	}
	if w, ok := args.(playbook.Wait); ok {
		return "", t.wait(ctx, w, rec.Began)
	}
	select {
	case t.x.slots <- struct{}{}:
		defer func() { <-t.x.slots }()
	case <-ctx.Done():
		return "", errHalt
	}
	ctx, cancel := context.WithTimeout(ctx, t.step.Deadline())
	defer cancel()
	return t.x.cfg.Do.Do(ctx, Call{Key: t.key, Args: args, Facts: facts, Attempt: rec.Attempt})
}

// wait lets time pass since the step began, a restart included.
func (t *attempt) wait(ctx context.Context, w playbook.Wait, began time.Time) error {
	if w.For > 0 {
		if !sleep(ctx, t.stop, time.Until(began.Add(w.For))) {
			return t.interrupted(ctx)
		}
		return nil
	}
	for {
		quiet, err := t.x.cfg.World.Quiet(ctx, t.a.rec.Finding, t.a.rec.Decision)
		if err == nil && quiet >= w.Clean {
			return nil
		}
		if time.Since(began) > t.step.Deadline() {
			return Permanent(fmt.Errorf("not clean within %s: quiet for %s, %s are needed", t.step.Deadline(), quiet.Round(time.Second), w.Clean))
		}
		if !sleep(ctx, t.stop, lookEvery) {
			return t.interrupted(ctx)
		}
	}
}
