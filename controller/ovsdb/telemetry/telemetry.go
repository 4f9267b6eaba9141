// Package telemetry turns on the export of flow telemetry on Open vSwitch
// bridges and puts back what was there before. Everything it creates carries
// its owner in external_ids, and a configuration of somebody else that it was
// told to replace is kept there in full: any later process can restore it,
// however this one ended.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// DefaultCollectorSetID is asked for when settings name none: "PL".
const DefaultCollectorSetID = 0x504c

const (
	// keys of external_ids
	ownerKey     = "owner"
	owner        = "platelet"
	previousKey  = "platelet-previous"
	requestedKey = "platelet-requested"

	// attempts bounds how often a change is planned anew because somebody
	// else was faster.
	attempts = 5
	// applyTimeout bounds how long vswitchd may take to apply a change.
	applyTimeout = 5 * time.Second
)

// ErrNoBridge says that a bridge does not exist (now).
var ErrNoBridge = errors.New("no such bridge")

// ErrNotOurs says that there is nothing of ours on the bridge to refresh.
var ErrNotOurs = errors.New("no collector set of ours on the bridge")

// Settings is the telemetry wanted on a bridge.
type Settings struct {
	// SFlowTarget is the sFlow collector, HOST:PORT; empty turns sFlow off.
	SFlowTarget string
	Sampling    int // one in so many packets
	Polling     int // seconds between counter samples
	Header      int // bytes of each sampled packet
	// Agent is the interface whose address identifies the exporter.
	Agent string

	// IPFIXTarget is the collector of the connection tap, HOST:PORT; empty
	// means no collector set.
	IPFIXTarget string
	// CollectorSetID is the collector set that tap rules name. Where it is
	// taken, the next free one is used: see Applied. Zero means
	// DefaultCollectorSetID.
	CollectorSetID uint32
	// Domain is written down with the collector set for operators to read;
	// the domain that is exported comes from the tap rules.
	Domain uint32

	// TakeForeign replaces an sFlow configuration of somebody else until
	// Restore; otherwise it is left alone.
	TakeForeign bool
}

// Applied says what is in force after Ensure.
type Applied struct {
	// SFlow is true when the bridge samples for us.
	SFlow bool `json:"sflow"`
	// CollectorSetID is the collector set for tap rules; zero without one.
	CollectorSetID uint32 `json:"collector_set_id"`
	// Changed is true when something had to be changed.
	Changed bool `json:"changed"`
	// Created is true when the collector set is new: templates will come
	// with its first record.
	Created bool `json:"created"`
	// LeftAlone lists what others have configured and keep.
	LeftAlone []LeftAlone `json:"left_alone,omitempty"`
}

// LeftAlone is a configuration that was not touched, and why.
type LeftAlone struct {
	What string `json:"what"`
	Why  string `json:"why"`
}

// Driver configures the bridges of one database. Its methods are safe for
// concurrent use, and take turns.
type Driver struct {
	db  *ovsdb.Client
	log logrus.FieldLogger
	mu  sync.Mutex
}

// NewDriver returns a driver on a client that somebody runs.
func NewDriver(db *ovsdb.Client, log logrus.FieldLogger) *Driver {
	return &Driver{db: db, log: log}
}

// retry plans a change again as long as the database moves under it.
func retry(f func() error) error {
	var err error
	for range attempts {
		if err = f(); !errors.Is(err, ovsdb.ErrChanged) {
			return err
		}
	}
	return err
}

// look reads the tables and finds a bridge.
func (d *Driver) look(bridge string) (*ovsdb.Tables, *ovsdb.Bridge, error) {
	t, err := d.db.Tables()
	if err != nil {
		return nil, nil, err
	}
	b, ok := t.Bridge(bridge)
	if !ok {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoBridge, bridge)
	}
	return t, b, nil
}

// settle waits, within bounds, until vswitchd has applied what was committed
// before, by an earlier process for example. A vswitchd that is away is no
// reason to wait: it will start from the final state.
func (d *Driver) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := d.db.WaitApplied(ctx); err != nil {
		d.log.WithError(err).Warn("configuring telemetry without confirmation of earlier changes")
	}
}

func ours(externalIDs map[string]string) bool { return externalIDs[ownerKey] == owner }

// sFlowOf finds a bridge's sFlow row.
func sFlowOf(t *ovsdb.Tables, b *ovsdb.Bridge) *ovsdb.SFlow {
	if b.SFlow == nil {
		return nil
	}
	return t.SFlows[*b.SFlow]
}

func describe(targets []string, sampling *int) string {
	s := "exports to " + strings.Join(slices.Sorted(slices.Values(targets)), ", ")
	if sampling != nil {
		s += fmt.Sprintf(", 1 in %d", *sampling)
	}
	return s
}
