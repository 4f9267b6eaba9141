package controller

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/flowcollector"
	"github.com/platelet-sdn/platelet/topology"
)

// listenToExports adds the local addresses to which the bridges export
// already: a read-only controller uses what is there.
func (c *Controller) listenToExports(ctx context.Context, fc *flowcollector.Config) {
	switches, err := firstTopology(ctx, c.db, 3*time.Second)
	if err != nil {
		if ctx.Err() == nil {
			c.log.Warn("the switch's database does not answer; listening to the configured addresses")
		}
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

// errSilent says that a database did not answer in time.
var errSilent = errors.New("does not answer")

// firstTopology waits until the database has shown its bridges.
func firstTopology(ctx context.Context, db *ovsdb.Client, within time.Duration) (map[string]topology.Switch, error) {
	known := make(chan map[string]topology.Switch, 1)
	db.OnTopology(func(s map[string]topology.Switch) {
		select {
		case known <- s:
		default:
		}
	})
	select {
	case s := <-known:
		return s, nil
	case <-time.After(within):
		return nil, errSilent
	case <-ctx.Done():
		return nil, ctx.Err()
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
