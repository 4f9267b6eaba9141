package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/telemetry"
)

// ErrUnclean is wrapped where something of Platelet's is left behind.
var ErrUnclean = errors.New("not clean")

const (
	// cleanWithin bounds how long a database or a bridge may take to answer, and
	// a dead holder to be known as one.
	cleanWithin = 15 * time.Second
	// cleanRetry is how often a bridge is tried that cannot be written to yet.
	cleanRetry = 50 * time.Millisecond
)

// cleaner takes what is Platelet's off switches on which no Platelet runs.
type cleaner struct {
	cfg      config.File
	log      logrus.FieldLogger
	db       *ovsdb.Client
	locks    *ovsdb.Locks
	reach    *reach
	instance pipeline.Instance
}

// Clean takes everything of Platelet's off the bridges that the configuration
// names, and puts their telemetry back as it was before: what a killed controller left behind, and
// policies that were kept. It returns the bridges that are clean. A bridge that a running controller holds
// is left alone, and one of OVN's is never touched; the error says which are not clean, and why. What the state holds
// is not changed: a controller that is started again contains again whom it had contained.
func Clean(ctx context.Context, cfg config.File, log logrus.FieldLogger) ([]string, error) {
	c := &cleaner{cfg: cfg, log: log, instance: pipeline.Instance{ID: newName(), Who: "clean, " + who()}}
	var err error
	if c.db, err = ovsdb.New(database(cfg.OVS, log)); err != nil {
		return nil, err
	}
	if c.locks, err = ovsdb.NewLocks(database(cfg.OVS, log)); err != nil {
		return nil, err
	}
	c.reach = newReach(cfg.OVS, c.db.Switches, log)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := c.reach.listen(ctx); err != nil {
		return nil, err
	}
	defer c.reach.close()
	var clean []string
	group, gctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.db.Run(gctx) })
	group.Go(func() error { return c.locks.Run(gctx) })
	group.Go(func() (err error) {
		defer cancel()
		clean, err = c.clean(gctx)
		return err
	})
	return clean, group.Wait()
}

// clean cleans the bridges side by side.
func (c *cleaner) clean(ctx context.Context) ([]string, error) {
	switches, err := firstTopology(ctx, c.db, cleanWithin)
	if err != nil {
		return nil, fmt.Errorf("%w: the switch's database at %s %w: %s", ErrUnclean, c.cfg.OVS.DB, err, c.db.Status().LastError)
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(switches)) {
		if sw := switches[name]; !sw.OVN && c.cfg.Cares(name) {
			names = append(names, name)
		}
	}
	zones := map[uint16]bool{}
	errs := make([]error, len(names))
	var running sync.WaitGroup
	for i, name := range names {
		zone := pipeline.ZoneOf(name, c.cfg.OVS.BaseZone, zones)
		zones[zone] = true
		running.Go(func() { errs[i] = c.bridge(ctx, name, zone) })
	}
	running.Wait()
	var clean []string
	for i, name := range names {
		if errs[i] == nil {
			clean = append(clean, name)
		}
	}
	t := telemetry.NewManager(c.db, c.log)
	t.Mine(func(bridge string) bool { return slices.Contains(clean, bridge) })
	if err := t.RestoreAll(ctx); err != nil {
		errs = append(errs, fmt.Errorf("%w: restore telemetry: %w", ErrUnclean, err))
	}
	return clean, errors.Join(errs...)
}

// bridge cleans one.
func (c *cleaner) bridge(ctx context.Context, name string, zone uint16) error {
	lease := leaseOf(c.locks, name)
	cfg := pipeline.Config{
		Name: name, Layout: pipeline.Layout{Base: c.cfg.OVS.BaseTable, Zone: zone},
		Log: c.log, Instance: c.instance, Lease: lease,
	}
	if err := c.reach.configure(&cfg, c.db.Mgmt(name)); err != nil {
		return fmt.Errorf("%w: bridge %s: %w", ErrUnclean, name, err)
	}
	b, err := pipeline.New(cfg)
	if err != nil {
		return fmt.Errorf("%w: bridge %s: %w", ErrUnclean, name, err)
	}
	ctx, cancel := context.WithTimeout(ctx, cleanWithin)
	defer cancel()
	var running sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	defer running.Wait()
	defer cancel()
	for {
		err := b.RemoveAll(ctx)
		if err == nil {
			return nil
		}
		st := b.Status()
		state, _ := lease.State()
		if state == pipeline.LeaseOthers && st.HeldBy != "" {
			return fmt.Errorf("%w: bridge %s: %s: stop that one first", ErrUnclean, name, st.HeldBy)
		}
		if !errors.Is(err, pipeline.ErrNotConnected) {
			return fmt.Errorf("%w: bridge %s: %w", ErrUnclean, name, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: bridge %s: %w: %s", ErrUnclean, name, err, st.LastError)
		case <-time.After(cleanRetry):
		}
	}
}
