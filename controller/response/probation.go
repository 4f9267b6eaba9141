package response

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"

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
	if m.cfg.Probation.Watched == 0 || !d.heldUp() || !d.Until.IsZero() {
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

// heldUp reports whether what comes back from the target when a decision ends was
// held up altogether: of the rest a relapse shows at once, and costs little.
func (d *Decision) heldUp() bool { return d.Action == ActionSegment || d.Action.Isolates() }
