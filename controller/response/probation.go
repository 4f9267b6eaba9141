package response

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

// lower begins the way back: the attack is over. A host in quarantine is limited
// first, so that a relapse costs little; where that makes no sense it is free at
// once, and watched.
func (m *Manager) lower(ctx context.Context, d *Decision, l *life, now time.Time) {
	p := &m.cfg.Probation
	m.mu.Lock()
	d.Over = l.activity
	m.mu.Unlock()
	log := m.log.WithFields(logrus.Fields{"decision": d.ID, "target": d.Target.String()})
	if p.Limited == 0 || !d.Action.Isolates() || !d.Target.Host.IsValid() || !d.Until.IsZero() {
		log.Info("the attack is over: releasing")
		m.restore(ctx, d, l, now)
		return
	}
	intents, err := m.cfg.Protected.LimitHost(segmentation.HostLimit{Owner: d.ID, Switch: d.Target.Switch, Port: d.Target.Port,
		Host: d.Target.Host, Remediation: m.cfg.Remediation, Limit: p.Limit, TTL: d.TTL, Why: "probation after " + d.Why})
	if err != nil {
		log.WithError(err).Warn("the way back cannot be limited: releasing")
		m.restore(ctx, d, l, now)
		return
	}
	log.Info("the attack is over: on probation, limited")
	id, sw := d.ID, d.Target.Switch
	l.busy = true
	asked := m.on(ctx, sw, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = m.enforce.Apply(ctx, sw, id, intents)
	}, func(ctx context.Context) {
		if l.busy = false; m.lives[id] != l || l.ending {
			return
		}
		if err != nil && !errors.Is(err, ErrPending) {
			m.log.WithError(err).WithField("decision", id).Error("the switch did not take the limit; the quarantine stays")
			return
		}
		m.change(ctx, d, func(d *Decision) {
			d.State, d.Stage, d.Lowered, d.Intents = StateProbation, StageLimited, now, intents
			if err == nil {
				d.Renewed = now // a little earlier, so nothing runs out unseen
			}
		})
		l.w = nil // what passes now is no leak
		m.refollow()
	})
	l.busy = l.busy && asked
}

// restore takes the last rules off and goes on watching for a while.
func (m *Manager) restore(ctx context.Context, d *Decision, l *life, now time.Time) {
	if m.cfg.Probation.Watched == 0 || d.Action == ActionRateLimit || !d.Until.IsZero() {
		m.mu.Lock()
		d.Restored = now
		m.mu.Unlock()
		m.finish(ctx, d, StateReleased, "", func() {})
		return
	}
	id := d.ID
	l.busy = true
	asked := m.remove(ctx, d, func(ctx context.Context) {
		if l.busy = false; m.lives[id] != l || l.ending {
			return
		}
		m.change(ctx, d, func(d *Decision) {
			d.State, d.Stage, d.Lowered, d.Restored, d.Committed = StateProbation, StageWatched, now, now, false
		})
		l.w = nil
		m.refollow()
	})
	l.busy = l.busy && asked
}

// probe follows a decision on probation.
func (m *Manager) probe(ctx context.Context, d *Decision, l *life, now time.Time) {
	since := now.Sub(d.Lowered)
	switch {
	case d.Stage == StageWatched && since >= m.cfg.Probation.Watched:
		m.end(ctx, d, StateReleased, now, "")
	case d.Stage == StageWatched:
	case since >= m.cfg.Probation.Limited && !m.brake, now.Sub(d.Renewed) > d.TTL:
		m.restore(ctx, d, l, now)
	default:
		m.renew(ctx, d, l, now)
	}
}

// supersede ends the probation of a target that is contained anew: it has
// relapsed.
func (m *Manager) supersede(ctx context.Context, by *Decision) {
	for id := range m.lives {
		d := m.all[id]
		if d.State != StateProbation || id == by.ID || d.Target.Switch != by.Target.Switch || d.Target.Port != by.Target.Port ||
			d.Target.Host != by.Target.Host || !d.Target.Host.IsValid() && d.Target.MAC != by.Target.MAC {
			continue
		}
		m.succeeded(d, by)
		m.finish(ctx, d, StateReleased, "relapsed: "+by.ID, func() {})
	}
}

// hurt answers harm to others: one rung down where there is one, else the
// containment is rolled back.
func (m *Manager) hurt(ctx context.Context, d *Decision, l *life) {
	down := *d
	down.Guards = slices.Clone(d.Guards)
	if !down.milder() || !m.guardCompile(&down, detector.Finding{}) {
		m.rollBack(ctx, d, d.Proof.Why)
		m.log.WithField("decision", d.ID).Error("containment rolled back: it hurt others")
		return
	}
	m.log.WithFields(logrus.Fields{"decision": d.ID, "action": down.Action, "why": d.Proof.Why}).Error("containment hurts others: one rung down")
	var r Receipt
	var err error
	l.busy = true
	asked := m.on(ctx, d.Target.Switch, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r, err = m.enforce.Apply(ctx, down.Target.Switch, down.ID, down.Intents)
	}, func(ctx context.Context) {
		if l.busy = false; m.lives[d.ID] != l || l.ending {
			return
		}
		if err != nil {
			m.rollBack(ctx, d, fmt.Sprintf("%s; the switch did not take less: %v", d.Proof.Why, err))
			return
		}
		begun := d.Applied
		m.change(ctx, d, func(d *Decision) {
			d.Action, d.Target, d.Intents, d.Guards = down.Action, down.Target, down.Intents, down.Guards
			d.guard("harm", true, "%s: it is now kept from %s alone", d.Proof.Why, d.Target.abused())
			d.State, d.Applied, d.Renewed, d.Proof = StateApplied, r.At, r.At, Proof{Installed: r.ReadBack}
		})
		m.begin(d, r.At)
		m.lives[d.ID].begun = begun
	})
	l.busy = l.busy && asked
}
