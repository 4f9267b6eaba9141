package response

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// Station is where diverted traffic goes: a honeypot, a scrubber, or the port of
// copies, which has no address that anybody needs to know.
type Station struct {
	Address netip.Addr `json:"address,omitzero"`
	Port    string     `json:"port"` // interface on the switch of the target
}

// String names the station for people.
func (s Station) String() string {
	if s.Address.IsValid() {
		return s.Address.String() + " at " + s.Port
	}
	return s.Port
}

// resident finds which of the addresses lives on a switch, but not at a port.
func (m *Manager) resident(sw, not string, among ...netip.Addr) (topology.Host, bool) {
	snap := m.where.Snapshot()
	for _, a := range among {
		h, ok := snap.Host(a)
		if ok && a.IsValid() && h.Bound && !h.MAC.IsZero() && h.Port.Switch == sw && h.Port.Port != not && absent(snap, h.Port) == "" {
			return h, true
		}
	}
	return topology.Host{}, false
}

// absent says in words why nobody can be at a port; it is empty where somebody may
// be. Of a switch that is not known (any more) nothing is said.
func absent(snap *topology.Snapshot, at topology.PortID) string {
	sw, ok := snap.Switches[at.Switch]
	if !ok {
		return ""
	}
	switch p, there := sw.Ports[at.Port]; {
	case !there:
		return fmt.Sprintf("there is no port %s any more", at.Port)
	case !p.LinkUp:
		return fmt.Sprintf("the link of %s is down", at.Port)
	}
	return ""
}

// guardStation diverts only to a station that is there. Where there is none, one
// rung less is done, never more than was asked for.
func (m *Manager) guardStation(d *Decision) bool {
	switch d.Action {
	case ActionReroute:
		return m.guardHoneypot(d)
	case ActionScrub:
		return m.guardScrubber(d)
	case ActionMirror:
		return m.guardMirror(d)
	}
	return true
}

func (m *Manager) guardHoneypot(d *Decision) bool {
	if d.Target.Host == m.cfg.Honeypot {
		return d.guard("honeypot", false, "it is the honeypot itself")
	}
	if pot, ok := m.resident(d.Target.Switch, "", m.cfg.Honeypot); ok && d.Target.Host.IsValid() {
		d.Station = &Station{pot.Addr, pot.Port.Port}
		return d.guard("honeypot", true, "%s is known on %s", m.cfg.Honeypot, d.Target.Switch)
	}
	if !d.milder() {
		return d.guard("honeypot", false, "no honeypot is known on %s, and what is abused is not known more narrowly", d.Target.Switch)
	}
	return d.guard("honeypot", true, "no honeypot is known on %s: it is only kept from %s", d.Target.Switch, d.Target.abused())
}

func (m *Manager) guardScrubber(d *Decision) bool {
	others := slices.DeleteFunc(slices.Clone(m.cfg.Scrubbers), func(a netip.Addr) bool { return a == d.Target.Victim || a == d.Target.Host })
	if h, ok := m.resident(d.Target.Switch, d.Target.Port, others...); ok {
		d.Station = &Station{h.Addr, h.Port.Port}
		return d.guard("scrubber", true, "%s scrubs on %s", h.Addr, d.Target.Switch)
	}
	d.Action = ActionRateLimit
	return d.guard("scrubber", true, "no scrubber is known on %s beside where the flood enters: it is only limited", d.Target.Switch)
}

func (m *Manager) guardMirror(d *Decision) bool {
	at := topology.PortID{Switch: d.Target.Switch, Port: m.cfg.Mirror.Ports[d.Target.Switch]}
	why := absent(m.where.Snapshot(), at)
	switch {
	case at.Port == "":
		return d.guard("mirror", false, "no port for copies is configured on %s", at.Switch)
	case at.Port == d.Target.Port:
		return d.guard("mirror", false, "it lives where the copies would go, at %s", at.Port)
	case why != "":
		return d.guard("mirror", false, "%s", why)
	}
	d.Station = &Station{Port: at.Port}
	return d.guard("mirror", true, "copies go to %s", at.Port)
}

// guardMirrors bounds how many mirrors there are at once.
func (m *Manager) guardMirrors(d *Decision) bool {
	n := 0
	for id := range m.lives {
		if m.all[id].Action == ActionMirror {
			n++
		}
	}
	if n >= m.cfg.Mirror.Max {
		return d.guard("budget", false, "%d mirrors stand, at most %d may", n, m.cfg.Mirror.Max)
	}
	return d.guard("budget", true, "%d mirrors stand, at most %d", n, m.cfg.Mirror.Max)
}

// compileDiversion makes the rules that lead to a station.
func (m *Manager) compileDiversion(d *Decision) (err error) {
	t, p := &d.Target, m.cfg.Protected
	if d.Station == nil {
		return fmt.Errorf("%s: it is not known where to", d.Action)
	}
	h, _ := m.where.Snapshot().Host(d.Station.Address)
	switch d.Action {
	case ActionReroute:
		d.Intents, err = p.Reroute(segmentation.Reroute{Owner: d.ID, Switch: t.Switch, Port: t.Port, Host: t.Host,
			To: h.MAC, Remediation: m.cfg.Remediation, TTL: d.TTL, Why: d.Why})
	case ActionScrub:
		d.Intents, err = p.Scrub(segmentation.Scrub{Owner: d.ID, Switch: t.Switch, Port: t.Port, Victim: t.Victim, Proto: t.Proto,
			Source: t.Host, Reflector: t.Reflector, Station: h.MAC, StationPort: d.Station.Port, TTL: d.TTL, Why: d.Why})
	case ActionMirror:
		d.Intents, err = p.Mirror(segmentation.Mirror{Owner: d.ID, Switch: t.Switch, Port: t.Port, Host: t.Host, Victim: t.Victim,
			Proto: t.Proto, To: d.Station.Port, Limit: m.cfg.Mirror.Limit, TTL: d.TTL, Why: d.Why})
	}
	return err
}

// lost says in words why a station that a decision leads to is gone; it is empty
// where it is not. Somebody who is not seen is not gone for that.
func (m *Manager) lost(d *Decision) string {
	if d.Station == nil || !d.State.Holds() || d.State == StateProbation {
		return ""
	}
	snap, at := m.where.Snapshot(), topology.PortID{Switch: d.Target.Switch, Port: d.Station.Port}
	if why := absent(snap, at); why != "" {
		return why
	}
	if h, ok := snap.Host(d.Station.Address); ok && h.Bound && h.Port != at {
		return fmt.Sprintf("%s has moved to %s", h.Addr, h.Port.Port)
	}
	return ""
}

// down turns a decision into the one a rung below, where there is one that holds
// less traffic up.
func (d *Decision) down() bool {
	d.Station = nil
	if d.Action == ActionScrub {
		d.Action = ActionRateLimit
		return true
	}
	return d.milder()
}

// stepDown does one rung less in place of a decision that cannot stay as it is, and
// nothing where there is no such rung. The guard is what said so.
func (m *Manager) stepDown(ctx context.Context, d *Decision, l *life, guard, why string) {
	log := m.log.WithFields(logrus.Fields{"decision": d.ID, "why": why})
	down := *d
	down.Guards = slices.Clone(d.Guards)
	if !down.down() || !m.guardCompile(&down, detector.Finding{}) {
		m.rollBack(ctx, d, why)
		log.Error("rolled back: " + guard)
		return
	}
	log.WithField("action", down.Action).Error("one rung down: " + guard)
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
			m.rollBack(ctx, d, fmt.Sprintf("%s; the switch did not take less: %v", why, err))
			return
		}
		begun := d.Applied
		m.change(ctx, d, func(d *Decision) {
			d.Action, d.Target, d.Intents, d.Guards, d.Station = down.Action, down.Target, down.Intents, down.Guards, nil
			d.guard(guard, true, "%s: %s", why, d.lesser())
			d.State, d.Applied, d.Renewed, d.Proof = StateApplied, r.At, r.At, Proof{Installed: r.ReadBack}
		})
		m.begin(d, r.At)
		m.lives[d.ID].begun = begun
	})
	l.busy = l.busy && asked
}

// lesser says what a rung below does.
func (d *Decision) lesser() string {
	if d.Action == ActionRateLimit {
		return "it is now limited"
	}
	return fmt.Sprintf("it is now kept from %s alone", d.Target.abused())
}
