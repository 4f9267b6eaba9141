package controller

import (
	"net"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
	"github.com/platelet-sdn/platelet/topology"
)

// copied takes the packets that a bridge copies to us, as records of where they
// entered the network.
func (c *Controller) copied(bridge string) func(pipeline.Copy) {
	return func(x pipeline.Copy) {
		sw := c.tracker.Snapshot().Switches[bridge]
		r, ok := copyRecord(sw, x)
		if !ok {
			return
		}
		r.Time = time.Now().UnixNano()
		if err := packet.Parse(x.Frame, &r); err != nil {
			c.malformedCopies.Add(1)
			return
		}
		batch := [...]flow.Record{r}
		c.engineMu.Lock()
		c.engine.Observe(batch[:])
		c.engineMu.Unlock()
	}
}

// copyRecord says where a copied packet entered, in the terms of the tap; ok is
// false when that was at another bridge, or is not known.
func copyRecord(sw topology.Switch, x pipeline.Copy) (r flow.Record, ok bool) {
	p, ok := sw.Ports[x.Port]
	if !ok || p.Type == topology.PortLink || p.IfIndex == 0 {
		return r, false
	}
	from := netip.AddrFrom4([4]byte{127, 0, 0, 1}) // as the tap of this machine has it
	if a, ok := x.From.(*net.TCPAddr); ok {
		from = a.AddrPort().Addr().Unmap()
	}
	return flow.Record{
		Exporter: flow.Exporter{Addr: from, Domain: sw.TapDomain}, Source: flow.SourceCopy, InPort: p.IfIndex,
		Rate: 1, Packets: 1, Bytes: uint64(len(x.Frame)),
	}, true
}

// trunk reports whether a port leads to another switch. The bridge's own port
// does not: the machine itself is a station of the link, often its gateway.
func (c *Controller) trunk(ifIndex uint32) bool {
	p, ok := c.tracker.Snapshot().PortByIndex(ifIndex)
	return ok && p.Type == topology.PortLink
}
