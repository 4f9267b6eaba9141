package segment

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// given is what a switch was given, and what that was made of.
type given struct {
	part    *compile.Program
	program *compile.Program
	build   uint64
	sources []sourceguard.Port
	plan    *sourceguard.Plan
}

// delivery is what came of giving a switch something.
type delivery struct {
	name string
	given
	err error
}

// distribute gives each switch its part, side by side, and waits for a moment
// until they have it. One that takes longer, or hangs, delays no other: it gets
// what there is then when it is done.
func (k *Keeper) distribute(ctx context.Context, cur current, now time.Time) {
	names := k.cfg.Switches.Names()
	maps.DeleteFunc(k.has, func(name string, _ given) bool { return !slices.Contains(names, name) })
	var homes map[netip.Addr]string
	waiting := map[string]bool{}
	for _, name := range names {
		had := k.has[name]
		if k.busy[name] || k.retry[name].After(now) || had.program == cur.program && had.build == cur.build && had.plan == cur.plan {
			continue
		}
		if homes == nil {
			homes = place(&cur.inv)
		}
		next := given{local(cur.program, homes, name), cur.program, cur.build, at(cur.plan, name), cur.plan}
		samePart, sameGuards := had.part != nil && same(had.part, next.part), had.plan != nil && sameSources(had.sources, next.sources)
		if samePart && sameGuards {
			k.has[name] = next
			continue
		}
		k.busy[name], waiting[name] = true, true
		k.couriers.Go(func() { k.deliver(ctx, name, next, samePart, sameGuards) })
	}
	if len(waiting) == 0 {
		return
	}
	enough := time.NewTimer(lookEvery)
	defer enough.Stop()
	for len(waiting) > 0 {
		select {
		case d := <-k.arrived:
			k.settled(d)
			delete(waiting, d.name)
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// deliver gives a switch what is not the same there already.
func (k *Keeper) deliver(ctx context.Context, name string, g given, samePart, sameGuards bool) {
	bounded, cancel := context.WithTimeout(ctx, setTimeout)
	defer cancel()
	d := delivery{name: name, given: g}
	if !sameGuards {
		d.err = k.cfg.Switches.SetSources(bounded, name, g.sources)
	}
	if !samePart {
		d.err = errors.Join(d.err, k.cfg.Switches.SetPolicy(bounded, name, g.part))
	}
	select {
	case k.arrived <- d:
	case <-ctx.Done():
	}
}

// settled remembers what a switch has now.
func (k *Keeper) settled(d delivery) {
	delete(k.busy, d.name)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case d.err == nil:
		k.has[d.name] = d.given
		delete(k.failed, d.name)
		delete(k.retry, d.name)
	case !errors.Is(d.err, context.Canceled):
		if k.failed[d.name] != d.err.Error() {
			k.cfg.Log.WithError(d.err).WithField("bridge", d.name).Error("policies could not be enforced")
		}
		k.failed[d.name] = d.err.Error()
		k.retry[d.name] = time.Now().Add(time.Second)
	}
}
