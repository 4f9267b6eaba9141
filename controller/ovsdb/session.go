package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/ovn-kubernetes/libovsdb/cache"
	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

const (
	connectTimeout = 5 * time.Second
	// probe is how often an idle connection is checked, so that a server
	// that hangs is noticed.
	probeInterval = 5 * time.Second
	probeTimeout  = 3 * time.Second
	// coalesce is how long a change waits for its companions: vswitchd
	// writes a new port's columns in several transactions.
	coalesce = 2 * time.Millisecond
)

// errGone ends a session whose connection was closed.
var errGone = errors.New("connection to the database ended")

// session is one connection from dial to end. Each has a libovsdb client of
// its own, without libovsdb's reconnect: a fresh cache is filled by a complete
// listing, so that rows which vanished meanwhile cannot linger in it, and
// nothing blocks while the database is away.
func (c *Client) session(ctx context.Context) error {
	dirty := make(chan struct{}, 1)
	db, gone, err := c.connect(ctx, dirty)
	if err != nil {
		return err
	}
	defer db.Close()
	c.up(db)
	probeErr := make(chan error, 1)
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()
	go probe(probing, db, probeErr)

	signal(dirty) // what the initial listing found
	pause := coalesce
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-gone:
			return errGone
		case err := <-probeErr:
			return fmt.Errorf("probe the database: %w", err)
		case <-dirty:
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
		drain(dirty)
		began := time.Now()
		if !c.refresh(db) {
			signal(dirty)
		}
		// A large site is rebuilt less often under a burst of changes, so
		// that following it costs a fifth of a core at most.
		pause = max(coalesce, 4*time.Since(began))
	}
}

// connect dials, checks the schema and fills the cache.
func (c *Client) connect(ctx context.Context, dirty chan struct{}) (client.Client, <-chan struct{}, error) {
	m, err := model.NewClientDBModel("Open_vSwitch", models())
	if err != nil {
		return nil, nil, fmt.Errorf("build the database model: %w", err)
	}
	log := funcr.New(func(prefix, args string) { c.log.Debug("libovsdb: ", prefix, " ", args) }, funcr.Options{})
	opts := []client.Option{client.WithEndpoint(c.cfg.Endpoint), client.WithLogger(&log)}
	if c.cfg.TLS != nil {
		opts = append(opts, client.WithTLSConfig(c.cfg.TLS))
	}
	db, err := client.NewOVSDBClient(m, opts...)
	if err != nil {
		return nil, nil, fmt.Errorf("build the database client: %w", err)
	}
	// libovsdb drops the notification when nobody is listening, so somebody
	// listens from before the connection exists.
	gone, notify := make(chan struct{}), db.DisconnectNotify()
	abandoned := make(chan struct{})
	go func() {
		select {
		case <-notify:
			close(gone)
		case <-abandoned:
		}
	}()
	dialing, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := db.Connect(dialing); err != nil {
		close(abandoned)
		return nil, nil, err
	}
	cached := db.Cache()
	if cached == nil { // lost again at once
		return nil, nil, errGone
	}
	changed := func(string, model.Model) { signal(dirty) }
	cached.AddEventHandler(&cache.EventHandlerFuncs{
		AddFunc: changed, DeleteFunc: changed,
		UpdateFunc: func(string, model.Model, model.Model) { signal(dirty) },
	})
	// One monitor for all tables: two of them corrupt the cache. Plain
	// monitor_cond, because libovsdb notices an inconsistent cache there and
	// disconnects, while with monitor_cond_since it carries on.
	if _, err := db.Monitor(dialing, &client.Monitor{Method: ovsdb.ConditionalMonitorRPC, Tables: monitored()}); err != nil {
		db.Close()
		return nil, nil, fmt.Errorf("monitor the database: %w", err)
	}
	return db, gone, nil
}

// probe checks that the server still answers.
func probe(ctx context.Context, db client.Client, failed chan<- error) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		echo, cancel := context.WithTimeout(ctx, probeTimeout)
		err := db.Echo(echo)
		cancel()
		if err != nil {
			failed <- err
			return
		}
	}
}

// signal sets a flag: a channel of capacity one.
func signal(flag chan struct{}) {
	select {
	case flag <- struct{}{}:
	default:
	}
}

// drain clears a flag.
func drain(flag chan struct{}) {
	select {
	case <-flag:
	default:
	}
}

// sleep reports whether the whole pause passed before ctx ended.
func sleep(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
