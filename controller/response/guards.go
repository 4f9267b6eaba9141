package response

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

func (d *Decision) guard(name string, pass bool, format string, args ...any) bool {
	d.Guards = append(d.Guards, Verdict{Guard: name, Pass: pass, Why: fmt.Sprintf(format, args...)})
	return pass
}

func (d *Decision) lastVerdict() string {
	if len(d.Guards) == 0 {
		return ""
	}
	return d.Guards[len(d.Guards)-1].Why
}

// guardPlace finds where the target attaches: only an edge port of a switch
// that is ours to program will do.
func (m *Manager) guardPlace(d *Decision, f detector.Finding) bool {
	snap := m.where.Snapshot()
	port, ok := snap.PortByIndex(f.InPort)
	if !ok && d.Target.Host.IsValid() {
		if h, known := snap.Host(d.Target.Host); known && h.Bound {
			port, ok = snap.Port(h.Port)
		}
	}
	if !ok {
		return d.guard("place", false, "no switch port of ours is known for interface index %d", f.InPort)
	}
	d.Target.Switch, d.Target.Port = port.ID.Switch, port.ID.Port
	switch {
	case port.Type == topology.PortLink:
		return d.guard("place", false, "%s leads to another switch; containment is done where traffic enters", port.ID.Port)
	case port.Type == topology.PortLocal:
		return d.guard("place", false, "%s is the switch's own port", port.ID.Port)
	case snap.Switches[port.ID.Switch].OVN:
		return d.guard("place", false, "%s belongs to OVN, which is not programmed past its database", port.ID.Switch)
	case d.Target.Asking && !elsewhere(snap, d.Target.Victim, port.ID):
		return d.guard("place", false, "%s is not known to live elsewhere than at %s: its own questions would be limited", d.Target.Victim, port.ID.Port)
	case d.Kind == detector.KindACKFlood && !d.Target.Host.IsValid() && routed(snap, port.ID):
		return d.guard("place", false, "several hosts are behind one station at %s: their connections cannot be told from forged ones", port.ID.Port)
	}
	return d.guard("place", true, "%s on %s is an edge port", port.ID.Port, port.ID.Switch)
}

// elsewhere reports whether two-way evidence binds an address to another port.
func elsewhere(snap *topology.Snapshot, a netip.Addr, port topology.PortID) bool {
	h, ok := snap.Host(a)
	return ok && h.Bound && h.Port != port
}

// routed reports whether a station at a port has more addresses than a host of
// its own would, as a router has.
func routed(snap *topology.Snapshot, port topology.PortID) bool {
	addresses := map[flow.MAC]int{}
	for _, h := range snap.HostsAt(port) {
		if h.Bound {
			addresses[h.MAC]++
		}
		if addresses[h.MAC] > maxOwnAddresses {
			return true
		}
	}
	return false
}

// guardLimits holds the blast-radius budgets and the brake.
func (m *Manager) guardLimits(d *Decision, now time.Time) bool {
	if m.Braked() {
		return d.guard("brake", false, "the global brake is on")
	}
	if d.Action == ActionMirror {
		return m.guardMirrors(d)
	}
	if d.Action.Isolates() {
		n := m.isolated(func(Target) bool { return true })
		if n >= m.cfg.MaxQuarantines {
			return d.guard("budget", false, "%d hosts are in quarantine, at most %d may be", n, m.cfg.MaxQuarantines)
		}
	}
	if !m.guardGroups(d) {
		return false
	}
	for len(m.recent) > 0 && now.Sub(m.recent[0]) > time.Minute {
		m.recent = m.recent[1:]
	}
	if len(m.recent) >= m.cfg.MaxActions {
		return d.guard("budget", false, "%d containments within a minute, at most %d may be", len(m.recent), m.cfg.MaxActions)
	}
	return d.guard("budget", true, "%d containments within a minute, at most %d", len(m.recent), m.cfg.MaxActions)
}

// isolated counts the targets of some kind that are off the network.
func (m *Manager) isolated(which func(Target) bool) (n int) {
	for id := range m.lives {
		if d := m.all[id]; d.Action.Isolates() && d.State != StateProbation && which(d.Target) {
			n++
		}
	}
	return n
}

// covering returns the first of the prefixes that contains an address.
func covering(list []netip.Prefix, a netip.Addr) (netip.Prefix, bool) {
	for _, p := range list {
		if a.IsValid() && p.Contains(a) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

// guardExempt leaves alone whom the operators said to leave alone.
func (m *Manager) guardExempt(d *Decision, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range [][]Exemption{m.exempt, m.cfg.Exempt} {
		for _, x := range list {
			if x.covers(d, now) {
				return d.guard("exempt", false, "%s", x)
			}
		}
	}
	return true
}

// guardShared keeps an address that stands for many from being cut off: what it
// abuses is closed to it, where that is known.
func (m *Manager) guardShared(d *Decision) bool {
	p, shared := covering(m.cfg.Shared, d.Target.Host)
	if !shared || !d.Action.Isolates() {
		return true
	}
	if !d.milder() {
		return d.guard("shared", false, "%s stands for many (%s), and what it abuses is not known more narrowly", d.Target.Host, p)
	}
	return d.guard("shared", true, "%s stands for many (%s): it is only kept from %s", d.Target.Host, p, d.Target.abused())
}

// milder turns a decision that isolates a host into one that keeps it from what
// it abuses, where that is known.
func (d *Decision) milder() bool {
	if d.Narrow == nil || !d.Action.Isolates() {
		return false
	}
	at := d.Target
	d.Action, d.Target = ActionSegment, *d.Narrow
	d.Target.Switch, d.Target.Port = at.Switch, at.Port
	return true
}

// abused names what a segmented host is kept from.
func (t *Target) abused() string {
	switch {
	case t.Peer.IsValid() && t.Service != 0:
		return fmt.Sprintf("%s/%d of %s", flow.ProtoName(t.Proto), t.Service, t.Peer)
	case t.Peer.IsValid():
		return t.Peer.String()
	}
	return fmt.Sprintf("%s/%d", flow.ProtoName(t.Proto), t.Service)
}

// guardGroups bounds how many hosts of each group are cut off at once.
func (m *Manager) guardGroups(d *Decision) bool {
	if !d.Action.Isolates() {
		return true
	}
	for _, g := range m.cfg.Groups {
		if _, in := covering(g.Addresses, d.Target.Host); !in {
			continue
		}
		n := m.isolated(func(t Target) bool {
			_, in := covering(g.Addresses, t.Host)
			return in
		})
		if n >= g.Max {
			return d.guard("group", false, "%d hosts of %s are in quarantine, at most %d may be", n, g.Name, g.Max)
		}
	}
	return true
}

// leastPorts is how many ports with clients have to be known before a share of them
// means anything.
const leastPorts = 4

// guardImpact asks a person before a host is cut off on whom much of the network
// depends. It never refuses.
func (m *Manager) guardImpact(d *Decision) bool {
	if !d.Action.Isolates() || !d.Target.Host.IsValid() {
		return true
	}
	i := m.impact(d)
	d.Impact = &i
	if m.cfg.AskAbove > 0 && i.Known >= leastPorts && i.Share() > m.cfg.AskAbove {
		d.People = max(d.People, 1)
		return d.guard("impact", true, "hosts behind %d of %d ports depend on it: somebody has to approve", i.Served, i.Known)
	}
	return d.guard("impact", true, "hosts behind %d of %d ports depend on it", i.Served, i.Known)
}

// impact is what depends on a decision's host.
func (m *Manager) impact(d *Decision) Impact {
	at, _ := m.where.Snapshot().Port(topology.PortID{Switch: d.Target.Switch, Port: d.Target.Port})
	return m.watch.impact(d.Target.Host, at.IfIndex)
}

// guardCanary lets one containment of a playbook be the test of the next.
func (m *Manager) guardCanary(d *Decision, now time.Time) bool {
	if !d.Canary {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.all {
		if e.Playbook != d.Playbook || e.ID == d.ID || e.ID == d.Relieves { // which waits for d instead
			continue
		}
		switch {
		case e.State == StateApplied || e.State == StateProposed && e.Committed:
			return d.guard("canary", false, "%s of the same playbook is not proven yet", e.ID)
		case e.State == StateRolledBack && now.Sub(e.Ended) < m.cfg.RelapseWindow:
			d.People = max(d.People, 1)
			return d.guard("canary", true, "%s of the same playbook had to be rolled back: somebody has to approve", e.ID)
		}
	}
	return d.guard("canary", true, "no containment of the same playbook waits for its proof")
}
