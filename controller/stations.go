package controller

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// stations leave out what a honeypot says in the names of those for whom it
// answers, and what a scrubber sends on for those whose traffic it cleans: taken
// at their word, they would have their addresses, and be spoofers. Only what
// enters by their own ports is left out, so nobody else can hide there.
type stations []station

// station is a host that sends for others.
type station struct {
	addr netip.Addr // its own
	port *atomic.Uint32
}

// newStations are those of the configuration.
func newStations(addrs ...netip.Addr) (list stations) {
	for _, a := range addrs {
		if a.IsValid() {
			list = append(list, station{a, &atomic.Uint32{}})
		}
	}
	return list
}

// each calls f with the runs of a batch that are nobody's pretence.
func (s stations) each(batch []flow.Record, f func([]flow.Record)) {
	known := false
	for i := range s {
		known = known || s[i].port.Load() != 0
	}
	if !known {
		f(batch)
		return
	}
	runs(batch, s.pretends, f)
}

// pretends reports whether a record is of what a station sends for others.
func (s stations) pretends(r *flow.Record) bool {
	for i := range s {
		if r.InPort != 0 && r.InPort == s[i].port.Load() && r.Src.IsValid() && r.Src != s[i].addr {
			return true
		}
	}
	return false
}

// runs calls f with the runs of a batch that skip leaves.
func runs(batch []flow.Record, skip func(*flow.Record) bool, f func([]flow.Record)) {
	from := 0
	for i := range batch {
		if !skip(&batch[i]) {
			continue
		}
		if from < i {
			f(batch[from:i])
		}
		from = i + 1
	}
	if from < len(batch) {
		f(batch[from:])
	}
}

// stationsEvery is how often it is looked up where the stations live.
const stationsEvery = 200 * time.Millisecond

// followStations keeps up with where the stations live. Once known they are
// forgotten only when they move.
func (c *Controller) followStations(ctx context.Context) error {
	if len(c.stations) == 0 {
		return nil
	}
	tick := time.NewTicker(stationsEvery)
	defer tick.Stop()
	for {
		snap := c.tracker.Snapshot()
		for i := range c.stations {
			if h, ok := snap.Host(c.stations[i].addr); ok && h.Bound {
				if p, ok := snap.Port(h.Port); ok && p.IfIndex != 0 {
					c.stations[i].port.Store(p.IfIndex)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
