package controller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// identify returns who we are: an ID that the state keeps over restarts, and
// for people the machine and the process.
func identify(ctx context.Context, state *bus.Bus) (pipeline.Instance, error) {
	const key = "instance"
	bucket, err := state.Bucket(ctx, "identity")
	if err != nil {
		return pipeline.Instance{}, err
	}
	kept, err := bucket.All(ctx)
	if err != nil {
		return pipeline.Instance{}, fmt.Errorf("read who we are: %w", err)
	}
	id := string(kept[key])
	if id == "" {
		var raw [8]byte
		_, _ = rand.Read(raw[:]) // never fails
		id = hex.EncodeToString(raw[:])
		if err := bucket.Put(ctx, key, []byte(id)); err != nil {
			return pipeline.Instance{}, fmt.Errorf("write down who we are: %w", err)
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return pipeline.Instance{ID: id, Who: fmt.Sprintf("process %d on %s", os.Getpid(), host)}, nil
}

// lease is the lock that the switch's database keeps for a bridge: it ends
// with our process, however that ends, and then goes to the next who waits.
type lease struct{ *ovsdb.Lock }

func (f *fleet) lease(bridge string) lease {
	// Names of locks are identifiers, those of bridges need not be.
	return lease{f.c.locks.Lock("platelet_" + hex.EncodeToString([]byte(bridge)))}
}

// State implements pipeline.Lease.
func (l lease) State() (pipeline.LeaseState, time.Time) {
	state, since := l.Lock.State()
	switch state {
	case ovsdb.LockHeld:
		return pipeline.LeaseHeld, since
	case ovsdb.LockOthers:
		return pipeline.LeaseOthers, since
	}
	return pipeline.LeaseUnknown, since
}

// mine reports whether the telemetry of a bridge is ours to configure: once we
// have held the bridge, or have its lease while its OpenFlow cannot be reached,
// and until another Platelet holds it.
func (f *fleet) mine(bridge string) bool {
	b, err := f.bridge(bridge)
	if err != nil {
		return false
	}
	st := b.Status()
	if st.HeldBy != "" {
		return false
	}
	state, _ := f.lease(bridge).State()
	return st.Connects > 0 || state == pipeline.LeaseHeld
}
