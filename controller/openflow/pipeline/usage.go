package pipeline

import (
	"context"
	"time"
)

// usagePeriod is how often a local switch is asked what its datapath carries.
const usagePeriod = 2 * time.Second

// usageLoop reads what the datapath carries, for the status, and holds our
// conntrack zone to its limit. Everything else works without it.
func (b *Bridge) usageLoop(ctx context.Context) {
	if b.cfg.Datapath == nil {
		return
	}
	tick := time.NewTicker(usagePeriod)
	defer tick.Stop()
	var failed string
	for ctx.Err() == nil {
		err := b.readUsage(ctx)
		if err != nil && err.Error() != failed && ctx.Err() == nil {
			b.log.WithError(err).Debug("the datapath's usage is not known")
		}
		failed = ""
		if err != nil {
			failed = err.Error()
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	// A last look takes the limit off a zone that is not used any more.
	_ = b.readUsage(context.WithoutCancel(ctx))
}

// readUsage reads the usage once; it is not known after an error. The zone
// has a limit while it is used: Open vSwitch forgets limits when it restarts,
// and a limit that stays behind might meet somebody else.
func (b *Bridge) readUsage(ctx context.Context) error {
	zone := b.cfg.Layout.Zone
	u, err := b.cfg.Datapath.Usage(ctx, b.cfg.Name, zone)
	b.mu.Lock()
	b.status.Datapath = nil
	if err == nil {
		b.status.Datapath = &u
	}
	used := b.policy.tracks()
	b.mu.Unlock()
	switch limit := b.cfg.ZoneLimit; {
	case err != nil || limit == 0:
		return err
	case used && u.ZoneLimit != uint64(limit):
		return b.cfg.Datapath.LimitZone(ctx, u.Datapath, zone, limit)
	case !used && u.ZoneLimit == uint64(limit):
		return b.cfg.Datapath.LimitZone(ctx, u.Datapath, zone, 0)
	}
	return nil
}
