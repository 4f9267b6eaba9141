package controller

import (
	"sync/atomic"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

// entrance tells records of packets that enter the network from those of
// packets under way: one that crosses three bridges is sampled at each of
// them, and counts once, where it entered.
type entrance struct {
	// links is nil where no bridge leads to another.
	links atomic.Pointer[links]
}

// links is how bridges that are cared for lead to one another.
type links struct {
	// ports are the ports to another bridge, by interface index.
	ports map[uint32]bool
	// numberless are the domains of bridges whose only ports without an
	// interface index are patch ports to another bridge.
	numberless map[uint32]bool
}

// set takes the switches, of which cares says whether they are watched.
func (e *entrance) set(switches map[string]topology.Switch, cares func(topology.Switch) bool) {
	watched := map[string]bool{} // interfaces of bridges that are cared for
	for _, sw := range switches {
		for name := range sw.Ports {
			watched[name] = watched[name] || cares(sw)
		}
	}
	l := links{map[uint32]bool{}, map[uint32]bool{}}
	for _, sw := range switches {
		patched, others := false, false
		for _, p := range sw.Ports {
			link := p.Type == topology.PortLink && watched[p.Peer]
			switch {
			case p.IfIndex != 0:
				if link {
					l.ports[p.IfIndex] = true
				}
			case link:
				patched = true
			default:
				others = true
			}
		}
		if patched && !others {
			l.numberless[sw.TapDomain] = true
		}
	}
	if len(l.ports) == 0 && len(l.numberless) == 0 {
		e.links.Store(nil)
		return
	}
	e.links.Store(&l)
}

// each calls f with the runs of a batch that are records of packets entering.
func (e *entrance) each(batch []flow.Record, f func([]flow.Record)) {
	l := e.links.Load()
	if l == nil {
		f(batch)
		return
	}
	runs(batch, l.underWay, f)
}

// underWay reports whether a record is of a packet that came from another
// bridge. The tap shows no interface for a patch port, which the kernel does
// not know.
func (l *links) underWay(r *flow.Record) bool {
	if r.InPort == 0 {
		return r.Source == flow.SourceTap && l.numberless[r.Exporter.Domain]
	}
	return l.ports[r.InPort]
}
