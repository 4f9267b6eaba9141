package response

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
)

// Join is another kind of finding about the target of a containment that stands:
// the switch has nothing more to do, and the other steps of its playbook have.
type Join struct {
	Finding  string        `json:"finding"`
	Kind     detector.Kind `json:"kind"`
	Playbook string        `json:"playbook"`
	Version  string        `json:"version,omitempty"` // see Decision.Version
	Why      string        `json:"why"`
	Time     time.Time     `json:"time"`
}

// maxJoined bounds what one decision is joined by.
const maxJoined = 64

// standing returns the containment that covers what is asked for, the oldest if
// there are several; nil for none.
func (m *Manager) standing(d *Decision) (by *Decision) {
	for id := range m.lives {
		e := m.all[id]
		if e.State != StateProbation && e.covers(d) && (by == nil || cmp.Or(e.Created.Compare(by.Created), cmp.Compare(e.ID, by.ID)) < 0) {
			by = e
		}
	}
	return by
}

// sameTarget reports whether a containment stands already that covers what is
// asked for.
func (m *Manager) sameTarget(d *Decision) bool { return m.standing(d) != nil }

// join attaches a finding of another kind to the containment that covers it, once
// for each target and kind within the window of relapses. It begins nothing on a
// switch, and no budget knows of it.
func (m *Manager) join(ctx context.Context, to, d *Decision, now time.Time) {
	if d.Playbook == "" || d.Finding == to.Finding || d.Kind == to.Kind || len(to.Joined) >= maxJoined || m.joined(d, now) {
		return
	}
	j := Join{Finding: d.Finding, Kind: d.Kind, Playbook: d.Playbook, Version: d.Version, Why: d.Why, Time: now}
	m.log.WithFields(logrus.Fields{"decision": to.ID, "finding": j.Finding, "kind": j.Kind, "playbook": j.Playbook}).Warn("another kind of attack by who is contained")
	m.change(ctx, to, func(to *Decision) { to.Joined = append(slices.Clone(to.Joined), j) })
}

// joined reports whether the playbook of a kind of finding was begun for a target
// within the window.
func (m *Manager) joined(d *Decision, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.all {
		if !e.Target.sameAs(&d.Target) {
			continue
		}
		if e.Kind == d.Kind && e.Finding != "" && e.State != StateRefused && now.Sub(e.Created) < m.cfg.RelapseWindow {
			return true
		}
		if slices.ContainsFunc(e.Joined, func(j Join) bool { return j.Kind == d.Kind && now.Sub(j.Time) < m.cfg.RelapseWindow }) {
			return true
		}
	}
	return false
}

// sameAs reports whether two targets are about the same host or, where none is
// known, about the same victim.
func (t *Target) sameAs(other *Target) bool {
	switch {
	case t.Host.IsValid() && other.Host.IsValid():
		return t.Host == other.Host
	case !t.MAC.IsZero() && !other.MAC.IsZero():
		return t.MAC == other.MAC
	}
	return t.Host == other.Host && t.MAC == other.MAC && t.Victim == other.Victim && t.Switch == other.Switch && t.Port == other.Port
}
