package controller

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector"
	"github.com/platelet-sdn/platelet/topology"
)

// listenToExports adds the local addresses to which the bridges export
// already: a read-only controller uses what is there.
func (c *Controller) listenToExports(ctx context.Context, fc *flowcollector.Config) {
	known := make(chan map[string]topology.Switch, 1)
	c.db.OnTopology(func(s map[string]topology.Switch) {
		select {
		case known <- s:
		default:
		}
	})
	var switches map[string]topology.Switch
	select {
	case switches = <-known:
	case <-time.After(3 * time.Second):
		c.log.Warn("the switch's database does not answer; listening to the configured addresses")
		return
	case <-ctx.Done():
		return
	}
	own := c.ownAddresses()
	for name := range switches {
		if !c.cfg.Cares(name) {
			continue
		}
		x, err := c.telemetry.Driver().Observe(ctx, name)
		if err != nil {
			c.log.WithError(err).WithField("bridge", name).Warn("exports could not be read")
			continue
		}
		if x.SFlow != nil {
			fc.SFlow = addLocal(fc.SFlow, own, x.SFlow.Targets)
		}
		if x.IPFIX != nil {
			fc.IPFIX = addLocal(fc.IPFIX, own, x.IPFIX.Targets)
		}
		for _, set := range x.CollectorSets {
			fc.IPFIX = addLocal(fc.IPFIX, own, set.Targets)
		}
	}
}

// tellTemplates says why nothing is seen while IPFIX comes that nobody can read
// yet: to ask for its templates would change the switch.
func (c *Controller) tellTemplates(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n := c.collector.Stats().IPFIX.UnknownTemplate
		if n == c.unknownTemplates.Swap(n) || time.Since(told) < templateInterval {
			continue
		}
		told = time.Now()
		c.log.WithField("records", n).Warn("IPFIX records cannot be read before their exporter repeats its templates, which Open vSwitch does every ten minutes unless template_interval says otherwise; " +
			"read-only, it is not asked to; templates that were seen are kept")
	}
}

// templateInterval is how often Open vSwitch sends templates if nobody says
// otherwise.
const templateInterval = 10 * time.Minute

// addLocal adds those targets that are addresses of this machine.
func addLocal(list []netip.AddrPort, own []netip.Addr, targets []string) []netip.AddrPort {
	for _, t := range targets {
		ap, err := netip.ParseAddrPort(t)
		if err != nil || slices.Contains(list, ap) {
			continue
		}
		if ap.Addr().IsLoopback() || slices.Contains(own, ap.Addr()) {
			list = append(list, ap)
		}
	}
	return list
}

// ownAddresses are this machine's; none where they cannot be read.
func (c *Controller) ownAddresses() []netip.Addr {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		c.log.WithError(err).Warn("own addresses unknown; only loopback exporters count as local")
	}
	var own []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr())
		}
	}
	return own
}
