package response

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

// errBusySwitch says that more waits for a switch than is worth waiting for.
var errBusySwitch = errors.New("too many requests wait for this switch")

// apply acts on a decision and writes it down, both at once: every
// millisecond counts, and a crash in between heals either way. Rules that no
// stored decision claims are removed at the next start, a stored decision
// whose rules are missing is installed then, and the TTL bounds both. Other
// switches' decisions do not wait for this one's; then is called when it has
// answered.
func (m *Manager) apply(ctx context.Context, d *Decision, now time.Time, then func()) {
	if d.Action.Contains() {
		m.recent = append(m.recent, now)
	}
	m.mu.Lock()
	d.Committed, d.State = true, StateProposed // nobody can answer it any more
	m.all[d.ID] = d
	m.mu.Unlock()
	m.lives[d.ID] = &life{busy: true} // it counts for budgets, and is not decided twice
	stored := *d
	written := make(chan struct{})
	go func() { defer close(written); m.save(ctx, &stored) }()
	m.emit(stored) // what is about to happen is known even where nothing comes of it

	var r Receipt
	var err error
	var enforced time.Duration
	asked := m.on(ctx, stored.Target.Switch, func(ctx context.Context) {
		actx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r, err = m.enforce.Apply(actx, stored.Target.Switch, stored.ID, stored.Intents)
		enforced = time.Since(now)
		<-written // what follows is written after it
	}, func(ctx context.Context) {
		fields := logrus.Fields{"waited": now.Sub(d.Detected), "enforced": enforced, "written": time.Since(now)}
		m.applied(ctx, d, r, err, fields)
		then()
	})
	if !asked {
		<-written
		m.applied(ctx, d, r, errBusySwitch, nil)
		then()
	}
}

// applied follows on a switch's answer to a containment.
func (m *Manager) applied(ctx context.Context, d *Decision, r Receipt, err error, timing logrus.Fields) {
	log := m.log.WithFields(timing).WithFields(logrus.Fields{"decision": d.ID, "action": d.Action, "target": d.Target.String(), "why": d.Why})
	switch {
	case err == nil:
		log.Warn("contained")
	case errors.Is(err, ErrPending):
		log.WithError(err).Warn("containment waits for the switch")
		r.At = time.Now()
	default:
		log.WithError(err).Error("containment failed")
		m.rollBack(ctx, d, fmt.Sprintf("the switch did not take it: %v", err))
		return
	}
	if m.lives[d.ID].ending {
		return // released while it was on its way
	}
	m.begin(d, r.At)
	hit := m.whatIf(d) // now that every millisecond does not count any more
	m.change(ctx, d, func(d *Decision) {
		d.WhatIf = hit
		d.State, d.Applied, d.Renewed, d.Proof.Installed = StateApplied, r.At, r.At, r.ReadBack
	})
	m.supersede(ctx, d)
	m.absorb(ctx, d)
	m.relieve(ctx, d)
}

// rollBack takes the rules off and ends the decision.
func (m *Manager) rollBack(ctx context.Context, d *Decision, why string) {
	m.finish(ctx, d, StateRolledBack, why, func() {})
}

// finish takes a decision's rules off and then ends it; then is called
// afterwards. If the switch is away they leave the wanted set all the same, and
// go when it returns or by their TTL.
func (m *Manager) finish(ctx context.Context, d *Decision, s State, why string, then func()) {
	l := m.lives[d.ID]
	if l == nil || l.ending {
		then()
		return
	}
	l.ending = true
	id := d.ID
	end := func(ctx context.Context) {
		if m.lives[id] == l { // else it ended by itself meanwhile
			m.end(ctx, d, s, time.Now(), why)
		}
		then()
	}
	if !m.remove(ctx, d, end) {
		end(ctx)
	}
}

// remove asks the switch to take a decision's rules off; then is called when it
// has answered. It returns false when the switch could not even be asked.
func (m *Manager) remove(ctx context.Context, d *Decision, then func(ctx context.Context)) bool {
	id, sw := d.ID, d.Target.Switch
	return m.on(ctx, sw, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := m.enforce.Remove(ctx, sw, id); err != nil && !errors.Is(err, ErrPending) {
			m.log.WithError(err).WithField("decision", id).Error("rules could not be removed; their TTL ends them")
		}
	}, then)
}
