package response

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
)

// ErrNotFound is wrapped when no decision has the given ID.
var ErrNotFound = errors.New("no such decision")

// errLater says that the answer comes later.
var errLater = errors.New("answered later")

// ErrState is wrapped when a decision is not in a state that allows what was
// asked.
var ErrState = errors.New("not possible now")

// ErrNotAllowed is wrapped when somebody may not do what they ask for.
var ErrNotAllowed = errors.New("not allowed")

// do runs f on Run's goroutine and waits for its result. An f that asks a
// switch returns errLater and calls answer when it has the result.
func (m *Manager) do(ctx context.Context, f func(ctx context.Context, answer func()) error) error {
	done := make(chan error, 1)
	select {
	case m.inbox <- func(ctx context.Context) {
		if err := f(ctx, func() { done <- nil }); !errors.Is(err, errLater) {
			done <- err
		}
	}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (m *Manager) find(id string) (*Decision, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.all[id]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return d, nil
}

// Approve says yes to a decision that awaits approval. The last one who is
// needed sets it going, through the same guards as everything else.
func (m *Manager) Approve(ctx context.Context, id, who string) error {
	return m.do(ctx, func(ctx context.Context, answer func()) error {
		d, err := m.find(id)
		if err != nil {
			return err
		}
		if d.State != StateAwaitingApproval {
			return fmt.Errorf("approve %s: it is %s: %w", id, d.State, ErrState)
		}
		if slices.Contains(d.Approvals, who) {
			return fmt.Errorf("approve %s: %s has approved it already, somebody else must: %w", id, who, ErrState)
		}
		if len(d.Approvals)+1 < d.People {
			m.change(ctx, d, func(d *Decision) { d.Approvals = append(slices.Clone(d.Approvals), who) })
			return nil
		}
		now := time.Now()
		asked := *d
		pass := m.guardLimits(&asked, now)
		m.mu.Lock()
		d.Approvals = append(slices.Clone(d.Approvals), who)
		d.Who, d.Guards = strings.Join(d.Approvals, " and "), asked.Guards
		m.mu.Unlock()
		if !pass {
			m.end(ctx, d, StateRefused, now, d.lastVerdict())
			return fmt.Errorf("approve %s: %s: %w", id, d.lastVerdict(), ErrState)
		}
		m.apply(ctx, d, now, answer)
		return errLater
	})
}

// Reject ends a decision that awaits approval.
func (m *Manager) Reject(ctx context.Context, id, who string) error {
	return m.do(ctx, func(ctx context.Context, _ func()) error {
		d, err := m.find(id)
		if err != nil {
			return err
		}
		if d.State != StateAwaitingApproval {
			return fmt.Errorf("reject %s: it is %s: %w", id, d.State, ErrState)
		}
		m.overrule(d, who)
		m.end(ctx, d, StateRefused, time.Now(), "rejected by "+who)
		return nil
	})
}

// Release takes a containment off at once.
func (m *Manager) Release(ctx context.Context, id, who string) error {
	return m.do(ctx, func(ctx context.Context, answer func()) error {
		d, err := m.find(id)
		if err != nil {
			return err
		}
		if !d.State.Holds() {
			return fmt.Errorf("release %s: it is %s: %w", id, d.State, ErrState)
		}
		if d.State != StateProbation && d.Finding != "" {
			m.overrule(d, who)
		}
		m.finish(ctx, d, StateReleased, "released by "+who, answer)
		return errLater
	})
}

// overrule notes that somebody did not want what was decided.
func (m *Manager) overrule(d *Decision, who string) {
	m.mu.Lock()
	d.Overruled = who
	m.mu.Unlock()
}

// Order is what somebody asks for by name.
type Order struct {
	Host netip.Addr
	// Peer and Proto with Service narrow it, as those of a Target; without
	// them the host is put in quarantine.
	Peer    netip.Addr
	Proto   uint8
	Service uint16
	// For is how long; the configuration's least hold if it is zero.
	For time.Duration
	Who string
}

// order makes a decision of what is asked for, through the guards; pass is whether
// they let it.
func (m *Manager) order(o Order, now time.Time) (d *Decision, pass bool, err error) {
	h, ok := m.where.Snapshot().Host(o.Host)
	if !ok {
		return nil, false, fmt.Errorf("contain %s: the host has not been seen: %w", o.Host, ErrState)
	}
	if o.For <= 0 {
		o.For = m.cfg.MinHold
	}
	d = &Decision{
		ID: decisionID(o.Host.String(), o.Who, now.String()), Action: ActionQuarantine, State: StateProposed, Who: o.Who,
		Why: "asked for by " + o.Who, Target: Target{Host: o.Host, MAC: h.MAC}, TTL: m.cfg.TTL, Created: now, Until: now.Add(o.For),
	}
	if o.Peer.IsValid() || o.Proto != 0 {
		d.Action, d.Target = ActionSegment, Target{Host: o.Host, Peer: o.Peer, Proto: o.Proto, Service: o.Service}
	}
	if pass = m.guardPlaceOf(d) && m.guardShared(d); pass && m.sameTarget(d) {
		return nil, false, fmt.Errorf("contain %s: what is asked for stands already: %w", o.Host, ErrState)
	}
	if d.Action.Isolates() { // nobody has to be asked any more, but it counts
		m.measureShare(d)
	}
	return d, pass && m.guardCompile(d, detector.Finding{}) && m.guardLimits(d, now), nil
}

// Preview says what Contain would do, the guards' answers and what it would have hit
// in the last hour included, and does nothing.
func (m *Manager) Preview(ctx context.Context, o Order) (out Decision, err error) {
	err = m.do(ctx, func(context.Context, func()) error {
		d, pass, err := m.order(o, time.Now())
		if err != nil {
			return err
		}
		if !pass {
			d.State = StateRefused
		}
		if d.Action.Isolates() {
			i := m.impact(d)
			d.Impact = &i
		}
		d.WhatIf = m.whatIf(d)
		out = *d
		return nil
	})
	return out, err
}

// Contain contains a host at somebody's word, within the same guards as everything
// else. The host must have been seen. It returns the decision's ID.
func (m *Manager) Contain(ctx context.Context, o Order) (id string, err error) {
	err = m.do(ctx, func(ctx context.Context, answer func()) error {
		now := time.Now()
		d, pass, err := m.order(o, now)
		if err != nil {
			return err
		}
		if !pass {
			return fmt.Errorf("contain %s: %s: %w", o.Host, d.lastVerdict(), ErrState)
		}
		id = d.ID
		m.apply(ctx, d, now, answer)
		return errLater
	})
	return id, err
}

// guardPlaceOf is guardPlace for a host without a finding.
func (m *Manager) guardPlaceOf(d *Decision) bool {
	snap := m.where.Snapshot()
	h, _ := snap.Host(d.Target.Host)
	port, _ := snap.Port(h.Port)
	return m.guardPlace(d, detector.Finding{InPort: port.IfIndex})
}

// SetBrake turns the global brake on or off. While it is on nothing new is
// done and what stands stays; release also takes everything off at once.
func (m *Manager) SetBrake(ctx context.Context, on, release bool, who string) error {
	return m.do(ctx, func(ctx context.Context, answer func()) error {
		m.mu.Lock()
		m.brake = on
		m.mu.Unlock()
		m.log.WithField("who", who).Warnf("global brake: on=%v release=%v", on, release)
		state := "off"
		if on {
			state = brakeOn
		}
		if err := m.store.Put(ctx, brakeKey, []byte(state)); err != nil {
			return fmt.Errorf("the brake holds, but would not survive a restart: %w", err)
		}
		if !release {
			return nil
		}
		left := 1
		one := func() {
			if left--; left == 0 {
				answer()
			}
		}
		for id := range m.lives {
			left++
			m.finish(ctx, m.all[id], StateReleased, "released by the brake of "+who, one)
		}
		one()
		return errLater
	})
}

// Expired tells that the switch has dropped the rules of a decision because
// their TTL ran out.
func (m *Manager) Expired(owner string) {
	select {
	case m.inbox <- func(ctx context.Context) {
		if d, err := m.find(owner); err == nil && d.State.Holds() {
			m.end(ctx, d, StateExpired, time.Now(), "the TTL ran out on the switch")
		}
	}:
	default:
		m.overrun.Add(1)
	}
}

// Extend holds a containment for at least this much longer from now on.
func (m *Manager) Extend(ctx context.Context, id, who string, by time.Duration) error {
	return m.do(ctx, func(ctx context.Context, _ func()) error {
		d, err := m.find(id)
		if err != nil {
			return err
		}
		if d.State != StateApplied && d.State != StateVerified {
			return fmt.Errorf("extend %s: it is %s: %w", id, d.State, ErrState)
		}
		until := time.Now().Add(by)
		m.log.WithFields(logrus.Fields{"decision": id, "who": who, "until": until}).Info("containment extended")
		m.change(ctx, d, func(d *Decision) {
			if d.Until.IsZero() {
				d.Hold = max(d.Hold, until.Sub(d.Applied))
			} else if until.After(d.Until) {
				d.Until = until
			}
		})
		return nil
	})
}
