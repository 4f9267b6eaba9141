package response

import (
	"context"
	"net/netip"

	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// forgers is how many addresses of one station, none of which anybody has ever
// answered to there, are in quarantine when the next one shows that it forges
// them. Decoys of a scanner are many and come at once; hosts behind a router are
// known from the answers that they got.
const forgers = 2

// unmask takes the station for the target where it sends in the names of others:
// each of them in quarantine would only use up the budget.
func (m *Manager) unmask(d *Decision) {
	if d.Action != ActionQuarantine || d.Target.MAC.IsZero() || !d.Target.Host.IsValid() || m.boundAt(d.Target) {
		return
	}
	masks := 0
	for id := range m.lives {
		if e := m.all[id]; e.mask(d) && !m.boundAt(e.Target) {
			masks++
		}
	}
	if masks < forgers {
		return
	}
	d.Target.Host, d.Target.Forged, d.Narrow = netip.Addr{}, true, nil
	d.guard("source", true, "%d addresses that nobody has answered to there attack from %s at once: it is cut off whatever address it takes",
		masks+1, d.Target.MAC)
}

// mask reports whether d is about an address that the target of another one may
// have taken.
func (d *Decision) mask(other *Decision) bool {
	a, b := d.Target, other.Target
	return d.Action == ActionQuarantine && d.Finding != "" && d.State != StateProbation && a.Host.IsValid() && a.Host != b.Host &&
		a.Switch == b.Switch && a.Port == b.Port && a.MAC == b.MAC
}

// boundAt reports whether two-way evidence binds a target's address to its port.
func (m *Manager) boundAt(t Target) bool {
	h, ok := m.where.Snapshot().Host(t.Host)
	return ok && h.Bound && h.Port == topology.PortID{Switch: t.Switch, Port: t.Port}
}

// compileStation spares the addresses that are known behind the station, and
// protected ones however they were seen.
func (m *Manager) compileStation(d *Decision, at topology.PortID) (err error) {
	c := segmentation.StationCut{Owner: d.ID, Switch: at.Switch, Port: at.Port, MAC: d.Target.MAC, TTL: d.TTL, Sample: m.cfg.Sample, Why: d.Why}
	for _, h := range m.where.Snapshot().HostsAt(at) {
		_, protected := m.cfg.Protected.Covers(h.Addr)
		if h.MAC == c.MAC && (h.Bound || protected) {
			c.Spared = append(c.Spared, h.Addr)
		}
	}
	d.Intents, err = segmentation.CutStation(c)
	return err
}

// spared are the addresses that a station cut lets go on.
func (d *Decision) spared() (out []netip.Addr) {
	for _, in := range d.Intents {
		if d.Target.Forged && in.Action == segmentation.ActionAllow {
			out = append(out, in.Match.Src.Addr())
		}
	}
	return out
}

// absorb ends the quarantines of a station's masks when the station itself is cut
// off.
func (m *Manager) absorb(ctx context.Context, by *Decision) {
	if !by.Target.Forged {
		return
	}
	for id := range m.lives {
		if d := m.all[id]; id != by.ID && d.mask(by) && !m.boundAt(d.Target) {
			m.finish(ctx, d, StateReleased, "its address was forged: "+by.ID, func() {})
		}
	}
}
