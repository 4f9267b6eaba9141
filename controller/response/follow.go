package response

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
)

const (
	// enforcementLag is how long after the barrier packets may still pass
	// (11 ms were measured on the userspace datapath).
	enforcementLag = 50 * time.Millisecond
	// settle is the least time over which a proof is taken: flow counters
	// move every 500 ms, the thin sample and meters at once.
	settle = 200 * time.Millisecond
	// harmWatch is how long after an action harm rolls it back.
	harmWatch = 10 * time.Second
	// harmAttempts is the least number of known-good attempts that says
	// anything, and harmShare the part of the earlier success that must be
	// left.
	harmAttempts = 10
	harmShare    = 0.5
)

// tick follows every containment through proof, renewal and release.
func (m *Manager) tick(ctx context.Context, now time.Time) {
	m.expireApprovals(ctx, now)
	m.reconsider(ctx, now)
	for id, l := range m.lives {
		d := m.all[id]
		every := 500 * time.Millisecond
		if d.State == StateApplied {
			every = 100 * time.Millisecond
		}
		if l.busy || l.ending || now.Sub(l.polled) < every {
			continue
		}
		l.polled = now
		if d.State == StateProbation {
			m.probe(ctx, d, l, now)
			continue
		}
		if why := m.lost(d); why != "" {
			m.stepDown(ctx, d, l, "station", why)
			continue
		}
		m.follow(ctx, d, l, now)
	}
}

func (m *Manager) expireApprovals(ctx context.Context, now time.Time) {
	m.mu.Lock()
	var late []*Decision
	for _, d := range m.all {
		if d.State == StateAwaitingApproval && now.Sub(d.Created) > m.cfg.ApprovalWithin {
			late = append(late, d)
		}
	}
	m.mu.Unlock()
	for _, d := range late {
		m.end(ctx, d, StateExpired, now, fmt.Sprintf("nobody answered within %s: no action", m.cfg.ApprovalWithin))
	}
}

// follow is one look at one containment.
func (m *Manager) follow(ctx context.Context, d *Decision, l *life, now time.Time) {
	l.busy = true
	id, sw := d.ID, d.Target.Switch
	var counters []Counter
	var err error
	asked := m.on(ctx, sw, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		counters, err = m.enforce.Counters(ctx, sw, id)
	}, func(ctx context.Context) {
		if l.busy = false; m.lives[id] == l && !l.ending {
			m.followed(ctx, d, l, counters, err, now)
		}
	})
	l.busy = l.busy && asked
}

// followed goes on when the counters have been read.
func (m *Manager) followed(ctx context.Context, d *Decision, l *life, counters []Counter, err error, now time.Time) {
	if err != nil {
		// The switch is away; its rules heal when it returns. Quiet cannot
		// be told from blindness, so nothing is released meanwhile.
		l.activity = now
		m.renew(ctx, d, l, now)
		if now.Sub(d.Renewed) > d.TTL {
			m.end(ctx, d, StateExpired, now, fmt.Sprintf("not renewed within the TTL: %v", err))
		}
		return
	}
	m.measure(d, l, counters, now)
	if (now.Sub(d.Applied) < harmWatch || d.Action == ActionScrub) && m.harmful(d, now) {
		m.stepDown(ctx, d, l, "harm", d.Proof.Why)
		return
	}
	if d.State == StateApplied {
		m.prove(ctx, d, l, now)
	}
	if m.over(d, l, now) {
		m.lower(ctx, d, l, now)
		return
	}
	m.renew(ctx, d, l, now)
}

// measure brings proof and activity up to date.
func (m *Manager) measure(d *Decision, l *life, counters []Counter, now time.Time) {
	var matched, dropped, copied, returned uint64
	does := map[string]segmentation.Action{}
	for _, in := range d.Intents {
		does[in.ID] = in.Action
	}
	for _, c := range counters {
		switch does[c.Intent] {
		case segmentation.ActionAllow:
			if d.Action == ActionScrub {
				returned += c.Packets
			}
			continue
		case segmentation.ActionReroute: // gone from where it was meant for
			dropped += c.Packets
		}
		matched += c.Packets
		dropped += c.Dropped
		copied += c.Copied
	}
	passed := l.w.passed.Load()
	switch d.Action {
	case ActionRateLimit, ActionReroute, ActionScrub:
		passed = matched - min(dropped, matched)
	case ActionMirror: // everything passes, and is meant to
		passed, l.matched = 0, matched
	}
	// A restarted switch counts from zero again.
	newDrops := dropped - min(l.dropped, dropped)
	active := newDrops > 0 || now.Sub(time.Unix(0, l.w.last.Load())) < time.Second
	if m.judged(d) {
		active = passed > d.Proof.Passed
	}
	if active {
		l.activity = now
	}
	m.mu.Lock()
	d.Proof.Dropped = max(d.Proof.Dropped+newDrops, l.w.dropped.Load())
	d.Proof.Passed = passed
	switch d.Action {
	case ActionScrub:
		d.Proof.Handed, d.Proof.Returned = d.Proof.Dropped, max(d.Proof.Returned, returned)
	case ActionMirror:
		d.Proof.Handed = max(d.Proof.Handed, copied)
	}
	m.mu.Unlock()
	l.dropped = dropped
}

// judged reports whether the detectors can tell when the attack is over: of what a
// quarantine drops they see a sample, and know which of it the host did before it
// attacked. Its honest programs go on trying, and would never let it go.
func (m *Manager) judged(d *Decision) bool {
	switch d.Kind {
	case detector.KindPortScan, detector.KindHostSweep, detector.KindWorm:
		return d.Action == ActionQuarantine && m.cfg.Sample > 0
	}
	return d.Action == ActionReroute || d.Action == ActionScrub || d.Action == ActionMirror // they see all of it, from before it is diverted
}

// harmful compares how known-good conversations of others fare before and
// after; the attack itself may hurt them too, which is no reason to let go.
func (m *Manager) harmful(d *Decision, now time.Time) bool {
	begun := d.Applied
	if l := m.lives[d.ID]; l != nil && !l.begun.IsZero() { // harm is no norm
		begun = l.begun
	}
	_, before := m.watch.success(begun.Add(-harmWatch), begun)
	from := d.Applied.Add(enforcementLag)
	if l := m.lives[d.ID]; d.Action == ActionScrub && l != nil { // as long as it depends on somebody else
		if l.before == 0 {
			l.before = max(before, math.SmallestNonzeroFloat64)
		}
		before = l.before
		if lately := now.Add(-harmWatch); lately.After(from) {
			from = lately
		}
	}
	n, after := m.watch.success(from, now.Add(-enforcementLag))
	broke := ""
	if m.cfg.Health != nil {
		broke = m.cfg.Health.Broke(d.Probes, d.Applied)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if broke != "" {
		d.Proof.Harmless, d.Proof.Why = false, broke
		return true
	}
	d.Proof.Harmless = n < harmAttempts || after >= before*harmShare
	if n >= harmAttempts {
		d.hurts(before, after)
	}
	if !d.Proof.Harmless {
		d.Proof.Why = fmt.Sprintf("known-good connections of others succeed at %.0f %% (%d tried), %.0f %% before", after*100, n, before*100)
	}
	return !d.Proof.Harmless
}

// prove decides whether the containment holds.
func (m *Manager) prove(ctx context.Context, d *Decision, l *life, now time.Time) {
	since := now.Sub(l.applied)
	if since < settle {
		return
	}
	passes := d.Proof.Passed > 0
	if d.Action == ActionRateLimit {
		passes = float64(d.Proof.Passed) > allowed(d.Intents, since)
	}
	seen := d.Proof.Dropped > 0 || d.Proof.Handed > 0
	ended := since > time.Second && now.Sub(l.activity) > time.Second && l.matched == 0
	effective := !passes && (seen || ended)
	switch {
	case effective && d.Proof.Installed:
		m.change(ctx, d, func(d *Decision) {
			d.State, d.Verified, d.Proof.Effective, d.Proof.Why = StateVerified, now, true, ""
			if ended && !seen {
				d.Proof.Why = "the attack had ended when the rules stood"
			}
		})
		m.log.WithFields(logrus.Fields{"decision": d.ID, "dropped": d.Proof.Dropped}).Info("containment verified")
	case since > m.cfg.VerifyWithin && !l.retried:
		m.retry(ctx, d, l, now)
	}
}

// allowed is how many packets a rate limit may have let through by now.
func allowed(intents []segmentation.Intent, since time.Duration) float64 {
	n := 0.0
	for _, in := range intents {
		if in.Action == segmentation.ActionRateLimit {
			n += float64(in.Limit.Burst) + 1.2*float64(in.Limit.PacketsPerSecond)*(since.Seconds()+1)
		}
	}
	return n
}

// retry installs once more what could not be proven, and says so.
func (m *Manager) retry(ctx context.Context, d *Decision, l *life, now time.Time) {
	l.retried, l.applied = true, now
	m.log.WithFields(logrus.Fields{"decision": d.ID, "passed": d.Proof.Passed, "dropped": d.Proof.Dropped}).Error("containment not proven in time; installed once more")
	l.w.since = now.Add(enforcementLag).UnixNano()
	l.w.passed.Store(0)
	why := fmt.Sprintf("not proven within %s: %d attack packets passed, %d dropped; installed once more", m.cfg.VerifyWithin, d.Proof.Passed, d.Proof.Dropped)
	id, sw, intents := d.ID, d.Target.Switch, d.Intents
	var r Receipt
	var err error
	l.busy = true
	asked := m.on(ctx, sw, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		r, err = m.enforce.Apply(ctx, sw, id, intents)
	}, func(ctx context.Context) {
		if l.busy = false; m.lives[id] != l {
			return
		}
		m.change(ctx, d, func(d *Decision) {
			d.Proof.Installed, d.Proof.Why = err == nil && r.ReadBack, why
			if err == nil {
				d.Renewed = r.At
			}
		})
	})
	l.busy = l.busy && asked
}

// over reports whether the host may go: its time is up, or the attack has
// been over for long enough and the finding is resolved.
func (m *Manager) over(d *Decision, l *life, now time.Time) bool {
	if !d.Until.IsZero() {
		return !now.Before(d.Until)
	}
	_, firing := m.firing[d.Finding]
	return !firing && !m.brake && now.Sub(l.activity) >= m.cfg.QuietFor && now.Sub(d.Applied) >= d.Hold
}

// renew restarts the switch's timeout when a third of it is gone.
func (m *Manager) renew(ctx context.Context, d *Decision, l *life, now time.Time) {
	if l.busy || now.Sub(d.Renewed) < d.TTL/3 {
		return
	}
	l.busy = true
	id, sw, ttl := d.ID, d.Target.Switch, d.TTL
	var err error
	asked := m.on(ctx, sw, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		err = m.enforce.Renew(ctx, sw, id, ttl)
	}, func(ctx context.Context) {
		if l.busy = false; m.lives[id] != l {
			return
		}
		if err != nil && !errors.Is(err, ErrPending) {
			m.log.WithError(err).WithField("decision", id).Error("containment could not be renewed")
			return
		}
		m.mu.Lock()
		d.Renewed = now
		m.mu.Unlock()
		m.save(ctx, d)
	})
	l.busy = l.busy && asked
}
