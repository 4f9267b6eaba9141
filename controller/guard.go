package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// guardTimeout bounds what one switch may take for one guard.
const guardTimeout = time.Second

// guardProtected lets protected hosts pass before every emergency rule, as
// soon as two-way evidence shows where they attach. Switches are served side by
// side.
func (f *fleet) guardProtected(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	protected := f.cfg.ResponseConfig().Protected
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		bySwitch := map[string][]topology.Host{}
		for _, h := range f.c.tracker.Snapshot().Hosts {
			if _, ok := protected.Covers(h.Addr); ok && h.Bound {
				bySwitch[h.Port.Switch] = append(bySwitch[h.Port.Switch], h)
			}
		}
		var serving sync.WaitGroup
		for _, hosts := range bySwitch {
			serving.Go(func() { f.guardAll(ctx, protected, hosts) })
		}
		serving.Wait()
	}
}

// guardAll guards the hosts of one switch, until one fails: a switch that
// hangs is tried once a turn.
func (f *fleet) guardAll(ctx context.Context, protected segmentation.Protected, hosts []topology.Host) {
	for _, h := range hosts {
		err := f.guard(ctx, protected, h)
		f.mu.Lock()
		news := err != nil && f.unguarded[h.Addr] != err.Error()
		delete(f.unguarded, h.Addr)
		if err != nil {
			f.unguarded[h.Addr] = err.Error()
		}
		f.mu.Unlock()
		if news { // it is tried again every second
			f.c.log.WithError(err).WithField("host", h.Addr.String()).Warn("guard of a protected host could not be installed")
		}
		if err != nil {
			return
		}
	}
}

// guard installs a host's guard where it attaches now, and then takes away
// the one where it was before: an address that moved must not leave a way
// past containment behind.
func (f *fleet) guard(ctx context.Context, protected segmentation.Protected, h topology.Host) error {
	f.mu.Lock()
	was, guarded := f.guarded[h.Addr]
	f.mu.Unlock()
	if guarded && was == h.Port {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, guardTimeout)
	defer cancel()
	owner := "guard-" + h.Addr.String()
	intents, err := protected.Guard(owner, h.Port.Switch, h.Port.Port, h.Addr)
	if err != nil {
		return err
	}
	if _, err := f.Apply(ctx, h.Port.Switch, owner, intents); err != nil && !errors.Is(err, response.ErrPending) {
		return err
	}
	if guarded && was.Switch != h.Port.Switch {
		// Pending is as good: the wanted set has lost it.
		if err := f.Remove(ctx, was.Switch, owner); err != nil && !errors.Is(err, response.ErrPending) {
			return fmt.Errorf("remove the guard from %s, where it was: %w", was.Switch, err)
		}
	}
	f.mu.Lock()
	f.guarded[h.Addr] = h.Port
	f.mu.Unlock()
	f.c.log.WithFields(logrus.Fields{"host": h.Addr.String(), "switch": h.Port.Switch, "port": h.Port.Port}).Info("protected host guarded")
	return nil
}
