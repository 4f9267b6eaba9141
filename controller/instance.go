package controller

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// identify returns who we are: an ID that stays the same over restarts, and for
// people the machine and the process.
func identify(ctx context.Context, state *bus.Bus, cfg *config.File) (pipeline.Instance, error) {
	id := cfg.State.Instance
	switch {
	case id != "":
	case cfg.State.NATS != "": // what is kept there is everybody's
		id = machineName(hostname(), cfg)
	default:
		var err error
		if id, err = keptName(ctx, state); err != nil {
			return pipeline.Instance{}, err
		}
	}
	return pipeline.Instance{ID: id, Who: who()}, nil
}

func hostname() string {
	host, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return host
}

// who names the process for people.
func who() string { return fmt.Sprintf("process %d on %s", os.Getpid(), hostname()) }

// machineName tells controllers apart that share a state: by the machine, and by
// the socket and the directory that no other one of the machine can have.
func machineName(host string, cfg *config.File) string {
	machine, _ := os.ReadFile("/etc/machine-id") // not everywhere
	sum := sha256.Sum256([]byte(strings.Join([]string{host, string(machine), cfg.API.Socket, cfg.State.Dir}, "\n")))
	return hex.EncodeToString(sum[:8])
}

// keptName is made up once and kept in the state.
func keptName(ctx context.Context, state *bus.Bus) (string, error) {
	const key = "instance"
	bucket, err := state.Bucket(ctx, "identity")
	if err != nil {
		return "", err
	}
	kept, err := bucket.All(ctx)
	if err != nil {
		return "", fmt.Errorf("read who we are: %w", err)
	}
	if id := string(kept[key]); id != "" {
		return id, nil
	}
	id := newName()
	if err := bucket.Put(ctx, key, []byte(id)); err != nil {
		return "", fmt.Errorf("write down who we are: %w", err)
	}
	return id, nil
}

// newName is nobody's yet.
func newName() string {
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	return hex.EncodeToString(raw[:])
}

// lease is the lock that the switch's database keeps for a bridge: it ends
// with our process, however that ends, and then goes to the next who waits.
type lease struct{ *ovsdb.Lock }

func leaseOf(locks *ovsdb.Locks, bridge string) lease {
	// Names of locks are identifiers, those of bridges need not be.
	return lease{locks.Lock("platelet_" + hex.EncodeToString([]byte(bridge)))}
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
	state, _ := leaseOf(f.c.locks, bridge).State()
	return st.Connects > 0 || state == pipeline.LeaseHeld
}
