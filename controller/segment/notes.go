package segment

import (
	"context"
	"time"
)

// saveEvery is how soon after another save what was learned is written down. What
// comes later than that is written at once: a controller that is killed before does
// not know it when it comes back, and what the switch enforces is undone.
const saveEvery = time.Second

// saveTimeout bounds what a disk may take to accept it.
const saveTimeout = 2 * time.Second

// resolveEvery is how often Resolved is told, if there is something to tell.
const resolveEvery = time.Second

// saving writes down what was learned, until it is told to stop, and then once
// more. It alone waits for that disk.
func (k *Keeper) saving(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			k.save(ctx)
			return
		case <-k.learned:
		}
		k.save(ctx)
		select {
		case <-stop:
			k.save(ctx)
			return
		case <-time.After(saveEvery):
		}
	}
}

// knows has what was learned written down.
func (k *Keeper) knows() {
	select {
	case k.learned <- struct{}{}:
	default:
	}
}

// save writes down who has which address, if that has changed, and does so also
// at the end of everything.
func (k *Keeper) save(ctx context.Context) {
	k.work.Lock()
	if k.store == nil || !k.memory.changed {
		k.work.Unlock()
		return
	}
	is := k.memory.copy() // to write out a hundred thousand takes longer than anybody may wait
	k.memory.changed = false
	k.work.Unlock()
	raw, err := is.encode()
	if err == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
		defer cancel()
		err = k.store.Save(ctx, raw)
	}
	if err != nil {
		k.work.Lock()
		k.memory.changed = true
		k.work.Unlock()
		k.knows()
		k.cfg.Log.WithError(err).Warn("who has which address could not be written down")
	}
}

// telling tells whom groups hold, until ctx ends. What it tells may take long.
func (k *Keeper) telling(ctx context.Context) {
	tick := time.NewTicker(resolveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			k.resolved(now)
		}
	}
}

// resolved tells whom groups hold, if that has changed since it did, and with
// each minute: what is in force may depend on it.
func (k *Keeper) resolved(now time.Time) {
	k.work.Lock()
	build, of, inv := k.builds, k.of, k.inv
	k.work.Unlock()
	minute := now.Unix() / 60
	if k.cfg.Resolved == nil || of == nil || build == k.told && minute == k.minute {
		return
	}
	k.told, k.minute = build, minute
	k.cfg.Resolved(of.inForce, inv, now)
}
