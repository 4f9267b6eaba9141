package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// Store keeps runs over restarts. Several controllers may share one.
type Store interface {
	// Put fails with an error that wraps ErrTaken where somebody else has
	// written the value since.
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	// Claim reads every value and makes those ours that f wants, which are then
	// what f returned beside, or as they were where that is nil. Others' stay
	// theirs, and so does one that somebody else writes at the same time.
	Claim(ctx context.Context, f func(key string, value []byte) (next []byte, want bool)) (map[string][]byte, error)
}

// ErrTaken says that a run is another controller's by now.
var ErrTaken = errors.New("another controller has taken the run")

// Load reads the runs of earlier controllers of the same owner. Call it once,
// before Run.
func (x *Executor) Load(ctx context.Context) error {
	if _, err := x.claim(ctx, x.cfg.Owner, ""); err != nil {
		return fmt.Errorf("load runs of playbooks: %w", err)
	}
	return nil
}

// Take goes on with the runs of another owner, who is known to be gone, and returns
// how many there are that have not ended. Should the other come back after all, its
// next write fails.
func (x *Executor) Take(ctx context.Context, from string) (open int, err error) {
	if open, err = x.claim(ctx, from); err != nil {
		return open, fmt.Errorf("take over runs of playbooks of %s: %w", from, err)
	}
	return open, nil
}

// claim takes in the runs of some owners. Those that have not ended are written,
// so that whoever was at them before is not any more.
func (x *Executor) claim(ctx context.Context, owners ...string) (open int, err error) {
	mine, err := x.cfg.Store.Claim(ctx, func(key string, raw []byte) ([]byte, bool) {
		var s stored
		if err := json.Unmarshal(raw, &s); err != nil {
			x.cfg.Log.WithError(err).WithField("run", key).Error("stored run is unreadable; left alone")
			return nil, false
		}
		if !slices.Contains(owners, s.Owner) {
			return nil, false
		}
		if s.Record.State.Ended() && s.Owner == x.cfg.Owner {
			return nil, true
		}
		next, err := encode(&s.Record, s.Source, x.cfg.Owner)
		return next, err == nil
	})
	for _, raw := range mine {
		a, ok := x.revive(raw)
		if !ok {
			continue
		}
		x.mu.Lock()
		if x.runs[a.rec.ID] == nil {
			x.runs[a.rec.ID], x.ready = a, true
			delete(x.others, a.rec.ID)
			x.note(a)
			if !a.rec.State.Ended() {
				open++
			}
		}
		x.mu.Unlock()
	}
	return open, err
}

// revive makes a run of what was stored of it.
func (x *Executor) revive(raw []byte) (*active, bool) {
	var s stored
	if json.Unmarshal(raw, &s) != nil {
		return nil, false // which has been said
	}
	a := newActive(s.Record, s.Source)
	if a.rec.Steps == nil {
		a.rec.Steps = map[string]*StepRecord{}
	}
	books, err := playbook.Parse(s.Record.Playbook, []byte(s.Source))
	switch {
	case err == nil && len(books) == 1:
		a.book = books[0]
	case !s.Record.State.Ended():
		x.cfg.Log.WithError(err).WithField("run", s.Record.ID).Error("the playbook of a run cannot be read any more; the run ends")
		a.rec.State, a.rec.Why, a.rec.Ended = StateFailed, fmt.Sprintf("its playbook cannot be read any more: %v", err), time.Now()
	}
	return a, true
}

// giveUp leaves a run to the controller that has it by now.
func (x *Executor) giveUp(a *active) {
	a.leave()
	x.mu.Lock()
	if x.runs[a.rec.ID] == a {
		delete(x.runs, a.rec.ID)
	}
	if len(x.others) < maxOthers {
		x.others[a.rec.ID] = true
	}
	x.mu.Unlock()
	x.cfg.Log.WithField("run", a.rec.ID).Warn("another controller has this run of a playbook; left to it")
}
