// Package measure attacks a lab again and again and measures, from packet
// captures and not from the controller's own word, how long each attack went
// on and what it cost the innocent.
//
// What is measured is kept as raw samples, one Outcome per run; sums are
// computed from them alone. Nothing is inferred: what was not seen is null,
// and what the captures missed is reported.
package measure

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// session is a lab under measurement.
type session struct {
	Config
	lab     *runner.Lab
	traffic *benign.Traffic
	ctl     Controller
	former  []culprit // who attacked so far
	out     Lab
	began   time.Time
}

// Measure runs every attack on one lab. With an error it returns what had
// been measured until then. One attack that cannot be run does not end it:
// its error stands in the result.
func Measure(ctx context.Context, c Config) (out Lab, err error) {
	c = c.withDefaults()
	if err := c.Check(); err != nil {
		return Lab{}, err
	}
	lab, down, err := c.up(ctx)
	if err != nil {
		return Lab{}, err
	}
	defer func() { err = errors.Join(err, down()) }()
	s := &session{Config: c, lab: lab}
	if s.Benign == "" {
		s.Benign = profileFor(lab)
	}
	s.out = Lab{Name: lab.Name(), Nodes: len(lab.Nodes()) - len(lab.Bridges()), Bridges: len(lab.Bridges()),
		Datapath: datapath(ctx, lab.DB(), lab.Bridges()[0]), Benign: s.Benign, Method: c.method(), Attacks: []Attack{}}
	err = s.run(ctx)
	return s.out, err
}

// up brings the lab up, or uses the one there is.
func (c Config) up(ctx context.Context) (*runner.Lab, func() error, error) {
	if c.Lab != nil {
		return c.Lab, func() error { return nil }, nil
	}
	lab, err := runner.Up(ctx, c.Topology, c.Options)
	if err != nil {
		return nil, nil, err
	}
	return lab, func() error {
		// The lab goes also when the context is what ended the measurement.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return lab.Down(ctx)
	}, nil
}

// run starts honest traffic and the controller, and runs every attack.
func (s *session) run(ctx context.Context) (err error) {
	truth, err := s.truth("benign")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, truth.close()) }()
	if s.traffic, err = benign.Start(ctx, s.lab, benign.Options{Profile: s.Benign, Seed: s.Seed, Truth: truth.Truth}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.traffic.Stop()) }()
	if s.ctl, err = s.Controller(ctx, s.lab); err != nil {
		return fmt.Errorf("start the controller: %w", err)
	}
	defer func() {
		if e := s.ctl.Close(); e != nil && err == nil {
			err = e
		}
	}()
	if err := sleep(ctx, s.WarmUp); err != nil {
		return err
	}
	for _, name := range s.Attacks {
		if err := s.one(ctx, name); err != nil {
			return err
		}
		if s.Done != nil {
			if err := s.Done(s.out); err != nil {
				return err
			}
		}
	}
	return nil
}

// one runs one attack as often as it should be. Only what ends the whole
// session is an error.
func (s *session) one(ctx context.Context, name string) error {
	a, err := attack.Find(name)
	if err != nil {
		return err
	}
	out := newAttack(a, s.blind(a))
	err = s.series(ctx, a, &out)
	out.Summary = Summarise(out.Runs, a.Finding)
	if err != nil {
		out.Error = err.Error()
		fmt.Fprintf(s.Log, "%s: %v\n", a.Name, err)
	}
	s.out.Attacks = append(s.out.Attacks, out)
	if ctx.Err() != nil {
		return fmt.Errorf("measure %s: interrupted after %d runs of %s: %w", s.lab.Name(), len(out.Runs), a.Name, ctx.Err())
	}
	if died := s.ctl.Alive(); died != nil {
		// The next attack is entitled to a controller.
		if s.ctl, err = s.restart(ctx); err != nil {
			return errors.Join(died, err)
		}
	}
	return nil
}

// restart replaces a controller that died.
func (s *session) restart(ctx context.Context) (Controller, error) {
	_ = s.ctl.Close() // its end has been reported
	ctl, err := s.Controller(ctx, s.lab)
	if err != nil {
		return s.ctl, fmt.Errorf("start the controller again: %w", err)
	}
	return ctl, sleep(ctx, s.WarmUp)
}

// series prepares an attack, runs it as often as it should be, and undoes what
// was prepared.
func (s *session) series(ctx context.Context, a attack.Attack, out *Attack) (err error) {
	roles, err := attack.Cast(s.lab, 0)
	if err != nil {
		return err
	}
	undo, err := a.Prepare(ctx, s.lab, roles)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", a.Name, err)
	}
	defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	p := s.pace(a)
	for n := range p.runs {
		s.began = time.Now()
		o, err := s.once(ctx, a, roles, p, n)
		if err != nil {
			return fmt.Errorf("run %d of %d: %w", n+1, p.runs, err)
		}
		out.Runs = append(out.Runs, o)
		s.report(a, n, p.runs, o)
		if err := s.ctl.Alive(); err != nil {
			return fmt.Errorf("the controller died in run %d of %d: %w", n+1, p.runs, err)
		}
	}
	return nil
}

// phase is the longest period that attacks are spread over.
const phase = time.Second

// once runs the attack once, from a clean state.
func (s *session) once(ctx context.Context, a attack.Attack, roles attack.Roles, p pace, n int) (_ Outcome, err error) {
	// Of its own for each run, so that neither order nor number of the others
	// changes it.
	rng := rand.New(rand.NewPCG(s.Seed, fingerprint(s.lab.Name(), a.Name, strconv.Itoa(n))))
	wait := s.Before + time.Duration(rng.Int64N(int64(phase)))
	seed := rng.Uint64()
	truth, err := s.truth(fmt.Sprintf("%s-%d", a.Name, n+1))
	if err != nil {
		return Outcome{}, err
	}
	defer func() { err = errors.Join(err, truth.close()) }()
	if err := s.ctl.Reset(ctx); err != nil {
		return Outcome{}, errors.Join(fmt.Errorf("reset the controller: %w", err), s.ctl.Alive())
	}
	events, stop, err := subscribe(ctx, s.ctl)
	if err != nil {
		return Outcome{}, errors.Join(err, s.ctl.Alive())
	}
	defer stop()
	before := time.Now()
	// Whatever works in ticks of its own must not be met at the same moment
	// of its tick every time.
	if err := sleep(ctx, wait); err != nil {
		return Outcome{}, err
	}
	shot := &Shot{former: s.former, Lab: s.lab, Attack: a, Roles: roles, Hold: p.hold, Patience: p.patience, AnyMeans: s.AnyMeans, Events: events,
		Settings: attack.Settings{Truth: truth.Truth, Seed: seed}}
	o, err := shot.fire(ctx)
	if err != nil {
		return Outcome{}, err
	}
	awaited := s.awaitRelease(ctx, &o, events, n)
	if err := sleep(ctx, time.Until(o.ended.Add(s.After))); err != nil {
		return Outcome{}, err
	}
	after := time.Now()
	// Only now: a containment of the wrong host may come late.
	o.events = append(o.events, drain(events)...)
	if err := s.ctl.Alive(); err != nil {
		o.note = appendNote(o.note, "the controller died")
	}
	out, guilty, err := shot.judge(o)
	if err != nil {
		return Outcome{}, err
	}
	s.former = append(s.former, guilty...)
	if out.Benign, err = s.fared(ctx, before, o, after, guilty); err != nil {
		return Outcome{}, err
	}
	out.Awaited = awaited
	if !awaited.OK {
		out.Release = Span{} // by chance within the time after, which is no measurement
	}
	out.show(o.trace)
	return out, nil
}

// awaitRelease waits, in the runs that it should, until the controller has
// let go of everything by itself, and returns for how long it would have or
// has waited.
func (s *session) awaitRelease(ctx context.Context, o *observation, events <-chan Event, run int) Span {
	if run >= s.Releases {
		return Span{}
	}
	late := time.NewTimer(time.Until(o.ended.Add(s.ReleaseWithin)))
	defer late.Stop()
	open := func() bool {
		n := map[string]bool{}
		for _, e := range o.events {
			switch {
			case e.Type != Decision:
			case e.State == StateApplied:
				n[e.ID] = true
			case slices.Contains([]string{StateReleased, StateExpired, StateRolledBack}, e.State):
				delete(n, e.ID)
			}
		}
		return len(n) > 0
	}
	for open() {
		select {
		case <-ctx.Done():
			return Span{}
		case <-late.C:
			return Took(s.ReleaseWithin)
		case e, ok := <-events:
			if !ok {
				return Took(time.Since(o.ended))
			}
			o.events = append(o.events, e)
		}
	}
	return Took(time.Since(o.ended))
}

// report logs a run.
func (s *session) report(a attack.Attack, n, of int, o Outcome) {
	all := o.Benign.Total()
	fmt.Fprintf(s.Log, "%s %s run %d/%d: detected %s as %v, contained %s, released %s, delivered %d of %d, benign flows harmed %d of %d, false containments %v, missed by capture %d; took %.1f s%s\n",
		s.lab.Name(), a.Name, n+1, of, o.TTD, o.Kinds, o.TTC, o.Release, o.Delivered, o.Sent, all.Harmed, all.Flows, o.False, o.Missed,
		time.Since(s.began).Seconds(), because(o.Note))
}

// truthFile is the ground truth of one run.
type truthFile struct {
	*agent.Truth
	file *os.File
}

// truth opens a file for ground truth, where it is kept.
func (s *session) truth(name string) (truthFile, error) {
	if s.Truth == "" {
		return truthFile{Truth: agent.NewTruth(nil)}, nil
	}
	f, err := os.Create(filepath.Join(s.Truth, s.lab.Name()+"-"+name+".jsonl"))
	if err != nil {
		return truthFile{}, fmt.Errorf("ground truth: %w", err)
	}
	return truthFile{agent.NewTruth(f), f}, nil
}

func (t truthFile) close() error {
	err := t.Flush()
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
	}
	return err
}

// fingerprint makes a number of words.
func fingerprint(words ...string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(strings.Join(words, "\x00")))
	return h.Sum64()
}

func appendNote(note, more string) string {
	if note == "" {
		return more
	}
	return note + "; " + more
}

// subscribe follows the controller's events, and takes them in as they come,
// so that a busy measurement never holds the controller up.
func subscribe(ctx context.Context, ctl Controller) (<-chan Event, func(), error) {
	ctx, stop := context.WithCancel(ctx)
	from, err := ctl.Events(ctx)
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("follow the controller: %w", err)
	}
	to := make(chan Event, 4096)
	go func() {
		defer close(to)
		for e := range from {
			select {
			case to <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to, stop, nil
}

// drain takes what is there without waiting.
func drain(events <-chan Event) []Event {
	var out []Event
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return out
			}
			out = append(out, e)
		default:
			return slices.Clip(out)
		}
	}
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("measure: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
