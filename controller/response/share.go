package response

import (
	"math"
)

// leastMinutes is how many minutes of traffic have to be known before a share of it
// means anything.
const leastMinutes = 5

// guardTraffic asks a person before the hosts that are off the network are, together,
// those of too much of its traffic. It never refuses.
//
// A host's share is that of a baseline: of the conversations that were answered,
// bytes or packets, whichever is more, within Config.TrafficWindow before the first
// evidence of the attack. So nobody is spared for what he sends in an attack, however
// much that is, nor for what nobody ever answered. Who behaves for that long, and has
// others answer, can become a host about which a person is asked; the milder rungs
// ask nobody. Where less than five minutes are known from before the evidence there
// is no share, and containment goes on.
func (m *Manager) guardTraffic(d *Decision) bool {
	if !d.Action.Isolates() || !d.Target.Host.IsValid() {
		return true
	}
	minutes := m.measureShare(d)
	if minutes < leastMinutes {
		return d.guard("traffic", true, "only %s of traffic are known from before the first evidence", many(minutes, "minute"))
	}
	total := d.TrafficShare
	for id := range m.lives {
		e := m.all[id]
		if e.Action.Isolates() && e.State != StateProbation && e.Target.Host != d.Target.Host {
			total += e.TrafficShare
		}
	}
	const says = "it had %.0f %% of the traffic of %s before the first evidence, with those in quarantine %.0f %%"
	if m.cfg.MaxTraffic > 0 && total > m.cfg.MaxTraffic {
		d.People = max(d.People, 1)
		return d.guard("traffic", true, says+": somebody has to approve", 100*d.TrafficShare, many(minutes, "minute"), 100*total)
	}
	return d.guard("traffic", true, says, 100*d.TrafficShare, many(minutes, "minute"), 100*total)
}

// measureShare takes the share of a decision's host down, and returns of how many
// minutes it is.
func (m *Manager) measureShare(d *Decision) (minutes int) {
	before := int64(math.MaxInt64) // who is asked for by name may be anybody
	if d.Finding != "" {
		before = d.FirstSeen.UnixNano()
	}
	share, minutes := m.watch.traffic.Share(d.Target.Host, before, m.cfg.TrafficWindow)
	if minutes >= leastMinutes {
		d.TrafficShare = share
	}
	return minutes
}
