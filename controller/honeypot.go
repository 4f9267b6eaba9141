package controller

import (
	"context"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// honeypot leaves out what a honeypot says in the names of those for whom it
// answers: taken at its word, it would have their addresses, and be a spoofer.
// Only what enters by its own port is left out, so nobody else can hide there.
type honeypot struct {
	addr netip.Addr // its own
	port atomic.Uint32
}

// each calls f with the runs of a batch that are nobody's pretence.
func (h *honeypot) each(batch []flow.Record, f func([]flow.Record)) {
	port := h.port.Load()
	if port == 0 {
		f(batch)
		return
	}
	runs(batch, func(r *flow.Record) bool { return r.InPort == port && r.Src.IsValid() && r.Src != h.addr }, f)
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

// honeypotEvery is how often it is looked up where the honeypot lives.
const honeypotEvery = 200 * time.Millisecond

// followHoneypot keeps up with where the honeypot lives. Once known it is
// forgotten only when it moves.
func (c *Controller) followHoneypot(ctx context.Context) error {
	if !c.honeypot.addr.IsValid() {
		return nil
	}
	tick := time.NewTicker(honeypotEvery)
	defer tick.Stop()
	for {
		snap := c.tracker.Snapshot()
		if h, ok := snap.Host(c.honeypot.addr); ok && h.Bound {
			if p, ok := snap.Port(h.Port); ok && p.IfIndex != 0 {
				c.honeypot.port.Store(p.IfIndex)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
