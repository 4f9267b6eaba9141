package response

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// maxOwnAddresses is how many addresses a MAC may have and still be one
// host's; a router's MAC carries many.
const maxOwnAddresses = 4

// maxFiring bounds the findings that are remembered as firing; the detectors
// have a lower bound of their own.
const maxFiring = 1 << 16

// consider takes a finding's change of state.
func (m *Manager) consider(ctx context.Context, f detector.Finding) {
	switch f.State {
	case detector.StateResolved:
		delete(m.refused, f.ID)
		delete(m.firing, f.ID)
		delete(m.decidedBy, f.ID)
	case detector.StateFiring:
		if len(m.firing) < maxFiring {
			m.firing[f.ID] = struct{}{}
		}
		m.decide(ctx, f, time.Now())
	}
}

// reconsider offers refused findings again while they fire: a budget may be
// free by now, a port known, the brake off.
func (m *Manager) reconsider(ctx context.Context, now time.Time) {
	if now.Sub(m.reconsidered) < time.Second {
		return
	}
	m.reconsidered = now
	for _, f := range m.refused {
		m.decide(ctx, f, now)
	}
}

// decide takes a firing finding up the ladder, through the guards.
func (m *Manager) decide(ctx context.Context, f detector.Finding, now time.Time) {
	plan := m.cfg.plan(f, Circumstances{Now: now, Tags: Tags(m.where.Snapshot(), f)})
	if v, decided := m.decidedBy[f.ID]; decided && v != plan.Version {
		return
	}
	d, ok := propose(m.cfg, f, plan)
	if !ok {
		return
	}
	if e := m.all[d.ID]; e != nil && m.insufficient(e, f, now) {
		d.ID, d.Relieves = decisionID(f.ID, string(d.Action), "instead of "+string(e.Action)), e.ID
	}
	_, again := m.refused[f.ID]
	if e := m.all[d.ID]; e != nil && (!again || e.State != StateRefused) {
		return
	}
	d.Created = now
	if d.Relieves == "" {
		m.choose(&d, f, plan, now)
	}
	pass := m.guardTarget(&d, f, now)
	if e := m.standing(&d); pass && e != nil {
		delete(m.refused, f.ID)
		m.join(ctx, e, &d, now)
		return // what is wanted stands already
	}
	d.Relapse = m.relapses(&d, now)
	d.Hold = min(m.cfg.MinHold<<min(d.Relapse, 16), m.cfg.MaxHold)
	pass = pass && m.guardRest(&d, f, now)
	if pass {
		delete(m.refused, f.ID)
	}
	switch {
	case !pass && again:
	case !pass:
		if len(m.refused) < kept {
			m.refused[f.ID] = f
		}
		d.State, d.Ended = StateRefused, now
		m.change(ctx, &d, func(*Decision) {})
		m.log.WithFields(logrus.Fields{"decision": d.ID, "target": d.Target.String(), "why": d.lastVerdict()}).Warn("containment refused by a guard")
	case d.Mode == ModeAutonomous && d.People == 0:
		m.decidedBy[f.ID] = d.Version
		m.apply(ctx, &d, now, func() {})
	default:
		m.decidedBy[f.ID] = d.Version
		if d.Mode != ModeObserve {
			d.State = StateAwaitingApproval
		}
		d.WhatIf = m.whatIf(&d)
		m.change(ctx, &d, func(*Decision) {})
		m.log.WithFields(logrus.Fields{"decision": d.ID, "action": d.Action, "target": d.Target.String(), "port": d.Target.Port, "why": d.Why}).Warnf("containment %s", d.State)
	}
}

// sweep reports whether the target was caught by its MAC, asking for absent
// neighbours.
func (d *Decision) sweep() bool { return d.Kind == detector.KindARPSweep && !d.Target.MAC.IsZero() }

// covers reports whether the rules of other would add nothing to those of d.
func (d *Decision) covers(other *Decision) bool {
	a, b := d.Target, other.Target
	if a.Switch != b.Switch || a.Port != b.Port {
		return false
	}
	sameHost := b.Host.IsValid() && a.Host == b.Host
	sameMAC := !b.MAC.IsZero() && a.MAC == b.MAC
	if a.Lock || b.Lock {
		return a.Lock && b.Lock
	}
	if a.Forged || b.Forged {
		return a.Forged && sameMAC && !slices.Contains(d.spared(), b.Host)
	}
	if d.Action == ActionQuarantine {
		return sameHost || sameMAC && !b.Host.IsValid()
	}
	if d.Action == ActionReroute && other.Action != ActionQuarantine {
		return sameHost
	}
	return d.Action == other.Action && a.Host == b.Host && a.Victim == b.Victim && a.Proto == b.Proto &&
		a.Peer == b.Peer && a.Service == b.Service &&
		a.Reflector == b.Reflector && a.Asking == b.Asking && (d.Kind == detector.KindACKFlood) == (other.Kind == detector.KindACKFlood)
}

// relapses is how often the target has relapsed in a row, each time within the
// window after it was released or still on probation. The row counts, not what the
// window holds: holds outgrow the window, and the next one is to be longer still.
func (m *Manager) relapses(d *Decision, now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, e := range m.all {
		ended := e.State == StateReleased && now.Sub(e.Ended) < m.cfg.RelapseWindow
		if (ended || e.State == StateProbation) && e.Finding != "" && e.Action == d.Action &&
			e.Target.Host == d.Target.Host && e.Target.Victim == d.Target.Victim && e.Target.Port == d.Target.Port && e.Target.MAC == d.Target.MAC {
			n = max(n, e.Relapse+1)
		}
	}
	return n
}

// guardCompile makes the rules, which is where protected assets are refused.
func (m *Manager) guardCompile(d *Decision, f detector.Finding) bool {
	var err error
	switch d.Action {
	case ActionQuarantine:
		err = m.compileQuarantine(d)
	case ActionReroute, ActionScrub, ActionMirror:
		err = m.compileDiversion(d)
	case ActionSegment:
		t := &d.Target
		d.Intents, err = m.cfg.Protected.Segment(segmentation.Segment{Owner: d.ID, Switch: t.Switch, Port: t.Port, Host: t.Host, Peer: t.Peer,
			Proto: t.Proto, Service: t.Service, TTL: d.TTL, Sample: m.cfg.Sample, Why: d.Why})
	case ActionRateLimit:
		d.Intents, err = m.cfg.Protected.LimitFlood(segmentation.FloodLimit{
			Owner: d.ID, Switch: d.Target.Switch, Port: d.Target.Port, Victim: d.Target.Victim, Proto: d.Target.Proto,
			Source: d.Target.Host, Segments: d.Kind == detector.KindACKFlood, Reflector: d.Target.Reflector, Asking: d.Target.Asking, Sample: m.cfg.Sample, Honest: m.honest(d), Limit: limit(m.cfg, f.Baseline), TTL: d.TTL, Why: d.Why,
		})
	}
	if err != nil {
		return d.guard("compile", false, "%v", err)
	}
	return d.guard("compile", true, "%d rules, no protected asset is hit", len(d.Intents))
}

// honest lists the addresses that two-way evidence binds to the port where a
// forged flood enters.
func (m *Manager) honest(d *Decision) []netip.Addr {
	if d.Target.Host.IsValid() {
		return nil
	}
	var out []netip.Addr
	for _, h := range m.where.Snapshot().HostsAt(topology.PortID{Switch: d.Target.Switch, Port: d.Target.Port}) {
		if h.Bound {
			out = append(out, h.Addr)
		}
	}
	return out
}

// known are the stations that a port lock spares.
func (d *Decision) known() (out []flow.MAC) {
	for _, in := range d.Intents {
		if d.Target.Lock && in.Action == segmentation.ActionAllow {
			out = append(out, in.Match.SrcMAC)
		}
	}
	return out
}

// compileLock spares the stations that two-way evidence binds to the port, and
// those of protected hosts however they were seen.
func (m *Manager) compileLock(d *Decision, at topology.PortID) error {
	l := segmentation.PortLock{Owner: d.ID, Switch: at.Switch, Port: at.Port, TTL: d.TTL, Sample: m.cfg.Sample, Why: d.Why}
	for _, h := range m.where.Snapshot().HostsAt(at) {
		_, protected := m.cfg.Protected.Covers(h.Addr)
		if (h.Bound || protected) && !slices.Contains(l.Known, h.MAC) {
			l.Known = append(l.Known, h.MAC)
		}
	}
	var err error
	d.Intents, err = segmentation.LockPort(l)
	return err
}

func (m *Manager) compileQuarantine(d *Decision) error {
	snap := m.where.Snapshot()
	at := topology.PortID{Switch: d.Target.Switch, Port: d.Target.Port}
	if d.Target.Lock {
		return m.compileLock(d, at)
	}
	if d.Target.Forged {
		return m.compileStation(d, at)
	}
	sweep := d.sweep() // before the MAC is filled in
	d.Target.Host = identify(snap, at, d.Target)
	q := segmentation.Quarantine{
		Owner: d.ID, Switch: at.Switch, Port: at.Port, Host: d.Target.Host, MAC: d.Target.MAC,
		Sweep: sweep, Claims: d.Kind == detector.KindARPSpoof && !d.Target.MAC.IsZero(), Remediation: m.cfg.Remediation, TTL: d.TTL, Sample: m.cfg.Sample, Why: d.Why,
	}
	here := true // as far as anybody knows
	if h, ok := snap.Host(q.Host); q.Host.IsValid() && ok {
		here = !h.Bound || h.Port == at
		// What is sent to an address is cut off for everybody: only where it
		// is certain that the address is this host's, and not forged.
		q.Attached = h.Bound && h.Port == at
		if q.MAC.IsZero() && h.Port == at {
			q.MAC = h.MAC
		}
	}
	if here && !q.MAC.IsZero() {
		q.ByMAC, q.Spared = m.ownMAC(snap, at, q)
	}
	d.Target.MAC = q.MAC
	var err error
	d.Intents, err = m.cfg.Protected.Quarantine(q)
	return err
}

// identify names a host that was caught by its MAC, or by an address of the
// link alone, by the address that people and remediation know it by.
func identify(snap *topology.Snapshot, at topology.PortID, t Target) netip.Addr {
	if t.MAC.IsZero() || t.Host.IsValid() && !t.Host.IsLinkLocalUnicast() {
		return t.Host
	}
	best := t.Host
	for _, h := range snap.HostsAt(at) { // by address: IPv4 comes first
		if h.MAC == t.MAC && h.Bound && !h.Addr.IsLinkLocalUnicast() {
			return h.Addr
		}
		if h.MAC == t.MAC && !h.Addr.IsLinkLocalUnicast() && !best.IsValid() {
			best = h.Addr
		}
	}
	return best
}

// ownMAC reports whether everything that the MAC sends is this one host's: few
// addresses behind it, none of them protected or a remediation host. Neighbours
// that nobody has ever answered to there do not make it a router: it may forge
// them. Those that are known to be behind it are then to be spared.
func (m *Manager) ownMAC(snap *topology.Snapshot, at topology.PortID, q segmentation.Quarantine) (own bool, spared []netip.Addr) {
	all, real := 0, 0
	for _, h := range snap.HostsAt(at) {
		if h.MAC != q.MAC || h.Addr.IsLinkLocalUnicast() {
			continue
		}
		if _, protected := m.cfg.Protected.Covers(h.Addr); protected {
			return false, nil
		}
		all++
		if h.Bound || !neighbours(h.Addr, q.Host) {
			real++
		}
		if h.Bound && h.Addr != q.Host {
			spared = append(spared, h.Addr)
		}
	}
	if all <= maxOwnAddresses {
		return true, nil
	}
	return real <= maxOwnAddresses, spared
}

// neighbours reports whether two addresses look like those of one link.
func neighbours(a, b netip.Addr) bool {
	if a.Is4() != b.Is4() || !b.IsValid() {
		return false
	}
	bits := 64
	if a.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(b, bits).Contains(a)
}
