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
		m.finish(ctx, d, StateReleased, "released by "+who, answer)
		return errLater
	})
}

// Quarantine contains a host at an operator's word, within the same guards,
// for the given time. The host must have been seen.
func (m *Manager) Quarantine(ctx context.Context, host netip.Addr, who string, ttl time.Duration) (id string, err error) {
	err = m.do(ctx, func(ctx context.Context, answer func()) error {
		now := time.Now()
		h, ok := m.where.Snapshot().Host(host)
		if !ok {
			return fmt.Errorf("quarantine %s: the host has not been seen: %w", host, ErrState)
		}
		if ttl <= 0 {
			ttl = m.cfg.MinHold
		}
		d := &Decision{
			ID: decisionID(host.String(), who, now.String()), Action: ActionQuarantine, State: StateProposed, Who: who,
			Why: "asked for by " + who, Target: Target{Host: host, MAC: h.MAC}, TTL: m.cfg.TTL, Created: now, Until: now.Add(ttl),
		}
		pass := m.guardPlaceOf(d) && !m.sameTarget(d) && m.guardShared(d) && m.guardCompile(d, detector.Finding{}) && m.guardLimits(d, now)
		if !pass {
			return fmt.Errorf("quarantine %s: %s: %w", host, d.lastVerdict(), ErrState)
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
			if !d.Until.IsZero() {
				d.Until = until
				return
			}
			d.Hold = until.Sub(d.Applied)
		})
		return nil
	})
}
