// Package run carries out the steps of playbooks that are no rung of the ladder.
// Containment never waits for it: a run begins when the switch has answered.
//
// Every step is written down before it is attempted and when its result is
// known. After a crash a run goes on where it was. An attempt whose result is
// not known is made again with the same key, which every action passes on or
// makes harmless by itself; only a command is not run again, unless its step is
// marked idempotent: it is in doubt, and counts as failed.
package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/detector"
)

// Doer carries out one attempt of an action.
type Doer interface {
	// Do returns what is worth keeping of a success. It ends with ctx. An
	// error that Permanent made is not tried again.
	Do(ctx context.Context, c Call) (result string, err error)
}

// Call is an attempt.
type Call struct {
	// Key is the same for each attempt of a step, over restarts too, and for
	// no other.
	Key   string
	Args  playbook.Args // rendered
	Facts playbook.Facts
	// Attempt counts from 1.
	Attempt int
}

// World is what runs need to know of the rest of the controller.
type World interface {
	// Finding looks a finding up.
	Finding(id string) (detector.Finding, bool)
	// Circumstances are those of a finding now.
	Circumstances(f detector.Finding) response.Circumstances
	// Quiet is for how long nothing of an attack has been seen; 0 while its
	// finding fires.
	Quiet(ctx context.Context, finding, decision string) (time.Duration, error)
	// Braked reports whether nothing new is to be done.
	Braked() bool
	// Groups are those of the machine that somebody is a member of.
	Groups(who string) ([]string, error)
}

// Config is what an Executor needs.
type Config struct {
	Playbooks *playbook.Live
	// Response is that of the response: what it decides about is not ours to
	// begin.
	Response response.Config
	// MaxPerMinute bounds the runs of findings that are begun within a minute;
	// those of containments are within the budgets of these.
	MaxPerMinute int
	Store        Store
	// Owner says whose the runs are that this executor begins and goes on with.
	Owner string
	Do    Doer
	World World
	Log   logrus.FieldLogger
	// Emit is told each change of a run. It must not block.
	Emit func(Record)
}

const (
	maxActive  = 1024 // runs that have not ended
	kept       = 1000 // runs that have
	maxOthers  = 1 << 14
	maxAtOnce  = 8 // attempts
	queue      = 1024
	pollEvery  = 200 * time.Millisecond
	writeAgain = time.Second
	writeTime  = 2 * time.Second // also when the controller ends
	lookEvery  = time.Second     // for a clean signal
)

// ErrNotFound is wrapped when no run has the given ID.
var ErrNotFound = fmt.Errorf("no such run: %w", response.ErrNotFound)

// Executor runs playbooks. Run owns it; the rest may be called from anywhere.
type Executor struct {
	cfg   Config
	inbox chan func(context.Context)
	slots chan struct{}
	lost  atomic.Uint64
	// some says whether at least one playbook has steps: findings come on the
	// hot path, and usually there is nothing to do about them.
	some atomic.Pointer[steps]

	mu   sync.Mutex
	runs map[string]*active
	// begun is by which version of the playbooks findings began runs: another
	// version does not begin anew.
	begun  map[string]string
	others map[string]bool // runs that another controller has
	recent []time.Time     // begin of runs by findings, last minute
	ready  bool            // there may be runs to start
}

// active is a run with its playbook.
type active struct {
	rec    Record // guarded by Executor.mu
	book   playbook.Playbook
	source string
	going  bool          // a goroutine is at it
	undo   chan struct{} // closed when the run is to be undone
	undone bool          // undo is closed
	put    sync.Mutex    // writes of the run keep their order
	// gone ends when the run is another controller's; leave ends it.
	gone  context.Context
	leave context.CancelFunc
}

// newActive makes a run that nobody is at yet.
func newActive(rec Record, source string) *active {
	a := &active{rec: rec, source: source, undo: make(chan struct{})}
	a.gone, a.leave = context.WithCancel(context.Background())
	return a
}

// New returns an executor; it does nothing before Run.
func New(cfg Config) *Executor {
	return &Executor{cfg: cfg, begun: map[string]string{}, others: map[string]bool{}, inbox: make(chan func(context.Context), queue), slots: make(chan struct{}, maxAtOnce), runs: map[string]*active{}, ready: true}
}

// steps says of a set of playbooks whether any has steps.
type steps struct {
	set  *playbook.Set
	some bool
}

// anySteps reports whether there may be something to do about findings.
func (x *Executor) anySteps() bool {
	set, known := x.cfg.Playbooks.Current(), x.some.Load()
	if known == nil || known.set != set {
		known = &steps{set, slices.ContainsFunc(set.Playbooks(), func(p playbook.Playbook) bool { return somethingToDo(&p, false) })}
		x.some.Store(known)
	}
	return known.some
}

// Permanent marks an error that another attempt would only repeat.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ err error }

func (p *permanentError) Error() string { return p.err.Error() }
func (p *permanentError) Unwrap() error { return p.err }

// Run carries runs out until ctx ends; what is under way then goes on with the
// next Load.
func (x *Executor) Run(ctx context.Context) error {
	var going sync.WaitGroup
	defer going.Wait()
	start := func(a *active) {
		going.Go(func() {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(a.gone, cancel)()
			x.execute(ctx, a)
		})
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		x.startReady(start)
		select {
		case <-ctx.Done():
			return nil
		case f := <-x.inbox:
			f(ctx)
		case <-tick.C:
			x.expire(ctx, time.Now())
		}
	}
}

// startReady starts the runs that have something to do and nobody at it.
func (x *Executor) startReady(start func(*active)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ready {
		return
	}
	x.ready = false
	for _, a := range x.runs {
		if !a.going && (a.rec.State == StateRunning || a.rec.State == StateUndoing) {
			a.going = true
			start(a)
		}
	}
}

// Finding takes a finding that fires; to be told of it again does no harm. It
// never blocks.
func (x *Executor) Finding(f detector.Finding) {
	if f.State == detector.StateFiring && x.anySteps() {
		x.enqueue(func(ctx context.Context) { x.consider(ctx, f) })
	}
}

// Decision takes a change of a decision; to be told of it again does no harm. It
// never blocks.
func (x *Executor) Decision(d response.Decision) {
	if d.Playbook != "" || len(d.Joined) > 0 {
		x.enqueue(func(ctx context.Context) { x.follow(ctx, d) })
	}
}

func (x *Executor) enqueue(f func(context.Context)) {
	select {
	case x.inbox <- f:
	default:
		x.lost.Add(1)
	}
}

// Lost is how many findings and decisions did not fit into the queue or a
// budget. Findings are offered again while they fire.
func (x *Executor) Lost() uint64 { return x.lost.Load() }

// Records lists the runs, oldest first.
func (x *Executor) Records() []Record {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]Record, 0, len(x.runs))
	for _, a := range x.runs {
		out = append(out, a.rec.clone())
	}
	slices.SortFunc(out, func(a, b Record) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// change changes a run, writes it down and tells of it.
func (x *Executor) change(ctx context.Context, a *active, f func(*Record)) {
	x.mu.Lock()
	f(&a.rec)
	x.mu.Unlock()
	x.write(ctx, a)
}

// write returns when the run is written down, or ctx has ended: without that
// nothing further is done.
func (x *Executor) write(ctx context.Context, a *active) {
	a.put.Lock()
	defer a.put.Unlock()
	for {
		x.mu.Lock()
		a.rec.Time = time.Now().UTC()
		rec := a.rec.clone()
		x.mu.Unlock()
		raw, err := encode(&rec, a.source, x.cfg.Owner)
		if err == nil {
			err = x.put(ctx, rec.ID, raw)
		}
		if err == nil {
			x.cfg.Emit(rec)
			return
		}
		if errors.Is(err, ErrTaken) {
			x.giveUp(a)
			return
		}
		if ctx.Err() == nil {
			x.cfg.Log.WithError(err).WithField("run", rec.ID).Error("run of a playbook could not be written down; it waits")
		}
		if !sleep(ctx, nil, writeAgain) {
			return
		}
	}
}

// put has a deadline of its own: what is known when the controller ends is still
// written down.
func (x *Executor) put(ctx context.Context, key string, raw []byte) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTime)
	defer cancel()
	return x.cfg.Store.Put(ctx, key, raw)
}

// prune forgets the oldest runs that have ended, beyond what is kept.
func (x *Executor) prune(ctx context.Context) {
	x.mu.Lock()
	var old []*active
	for _, a := range x.runs {
		if a.rec.State.Ended() && !a.going {
			old = append(old, a)
		}
	}
	slices.SortFunc(old, func(a, b *active) int { return a.rec.Ended.Compare(b.rec.Ended) })
	old = old[:max(0, len(old)-kept)]
	for _, a := range old {
		delete(x.runs, a.rec.ID)
		if a.rec.Decision == "" {
			delete(x.begun, a.rec.Finding)
		}
	}
	x.mu.Unlock()
	for _, a := range old {
		if err := x.cfg.Store.Delete(ctx, a.rec.ID); err != nil {
			x.cfg.Log.WithError(err).Warn("old run could not be deleted")
		}
	}
}

// sleep reports whether the time passed, with neither ctx nor stop ending it.
func sleep(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-stop:
	}
	return false
}

// find looks a run up.
func (x *Executor) find(id string) (*active, error) {
	a, ok := x.runs[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return a, nil
}

// Owns reports whether an ID is that of a run.
func Owns(id string) bool { return len(id) > 2 && id[:2] == "r-" }

// Approve says yes to a run that awaits approval, or to a question of one; the
// last one who is needed sets it going.
func (x *Executor) Approve(ctx context.Context, id, who, why string) error {
	return x.answer(ctx, id, Answer{Yes: true, Who: who, Why: short(why), Time: time.Now().UTC()})
}

// Reject ends a run that awaits approval, or says no to a question of one.
func (x *Executor) Reject(ctx context.Context, id, who, why string) error {
	return x.answer(ctx, id, Answer{Who: who, Why: short(why), Time: time.Now().UTC()})
}

func (x *Executor) answer(ctx context.Context, id string, with Answer) error {
	x.mu.Lock()
	a := x.runs[id]
	if a == nil || a.rec.State != StateAwaitingApproval {
		x.mu.Unlock()
		return x.reply(ctx, id, with)
	}
	err := a.rec.take(with)
	x.mu.Unlock()
	if err != nil {
		return err
	}
	x.write(ctx, a)
	return ctx.Err()
}

// take adds an answer to a run that awaits approval.
func (r *Record) take(a Answer) error {
	if !a.Yes {
		r.State, r.Why, r.Ended = StateRefused, "rejected by "+a.Who, a.Time
		r.Answers = append(r.Answers, a)
		return nil
	}
	if slices.Contains(r.Approvals, a.Who) {
		return fmt.Errorf("approve %s: %s has approved it already, somebody else must: %w", r.ID, a.Who, response.ErrState)
	}
	r.Answers = append(r.Answers, a)
	if r.Approvals = append(r.Approvals, a.Who); len(r.Approvals) >= r.People {
		r.State = StateRunning
	}
	return nil
}

// expire refuses what nobody answered.
func (x *Executor) expire(ctx context.Context, now time.Time) {
	x.mu.Lock()
	var late []*active
	x.ready = true // whatever came from elsewhere
	for _, a := range x.runs {
		if a.rec.State == StateAwaitingApproval && now.Sub(a.rec.Created) > x.cfg.Response.ApprovalWithin {
			a.rec.State, a.rec.Why, a.rec.Ended = StateRefused, fmt.Sprintf("nobody answered within %s: no action", x.cfg.Response.ApprovalWithin), now.UTC()
			late = append(late, a)
		}
	}
	x.mu.Unlock()
	for _, a := range late {
		x.write(ctx, a)
	}
}

// Undo undoes what was run for decisions, and what is under way without one. It
// never blocks.
func (x *Executor) Undo(why string, decisions []string) {
	x.enqueue(func(ctx context.Context) {
		x.undo(ctx, why, func(r *Record) bool {
			return r.Decision == "" && !r.State.Ended() || slices.Contains(decisions, r.Decision)
		})
	})
}

// undo undoes the runs that are meant, also those that have ended.
func (x *Executor) undo(ctx context.Context, why string, meant func(*Record) bool) {
	x.mu.Lock()
	var list []*active
	for _, a := range x.runs {
		if !meant(&a.rec) || a.rec.Told || a.undone || a.rec.State == StateUndoing || a.rec.State == StateUndone || a.rec.State == StateRefused {
			continue
		}
		a.undone = true
		close(a.undo)
		a.rec.Why = why
		if !a.going {
			a.rec.State, a.rec.Ended = StateUndoing, time.Time{}
		}
		list = append(list, a)
	}
	x.mu.Unlock()
	for _, a := range list {
		x.write(ctx, a)
	}
}

var errHalt = errors.New("the controller ends")

// IsPermanent reports whether an error is one that Permanent made.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}
