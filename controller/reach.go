package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/topology"
)

const (
	// identityCheck is how often a bridge that dials us is looked up again
	// while we wait for it: created anew, it has another datapath ID.
	identityCheck = time.Second
	// refusalPause is the least time between two lines about connections that
	// we turned away.
	refusalPause = time.Second
)

// reach knows how each bridge is reached, and listens for those that dial us.
type reach struct {
	cfg      config.OVS
	dialer   openflow.Dialer
	switches func() map[string]topology.Switch // as the database has them
	log      logrus.FieldLogger

	mu        sync.Mutex
	listeners map[string]*openflow.Listener // by target, in full
	refused   int                           // connections, since the last line about them
	said      time.Time
}

func newReach(cfg config.OVS, switches func() map[string]topology.Switch, log logrus.FieldLogger) *reach {
	return &reach{
		cfg: cfg, dialer: openflow.Dialer{TLS: cfg.TLS.Files()}, switches: switches, log: log,
		listeners: map[string]*openflow.Listener{},
	}
}

// database is how the database is reached.
func database(cfg config.OVS, log logrus.FieldLogger) ovsdb.Config {
	c := ovsdb.Config{Endpoint: cfg.DB, RunDir: cfg.RunDir, Log: log}
	if address, secure := strings.CutPrefix(cfg.DB, "ssl:"); secure {
		host, _, err := net.SplitHostPort(address)
		if err != nil { // ovsdb says so in its own words
			host = address
		}
		c.TLS = cfg.TLS.Files().Client(host)
	}
	return c
}

// configure fills in how a bridge is reached; mgmt is its management socket,
// if it is on this machine.
func (r *reach) configure(c *pipeline.Config, mgmt string) error {
	target := r.cfg.OpenFlow[c.Name]
	if target == "" {
		if !r.cfg.HasSockets() {
			return errors.New("the database is reached over the network, so the bridge's OpenFlow target must stand in ovs.openflow")
		}
		target = "unix:" + mgmt
	}
	t, err := openflow.ParseTarget(target)
	if err != nil {
		return err
	}
	c.Target, c.Dialer = t.String(), r.dialer
	switch {
	case t.Passive():
		name := c.Name
		c.Dial = func(ctx context.Context) (*openflow.Conn, error) { return r.await(ctx, t.String(), name) }
	case t.Scheme == "unix":
		c.Datapath = &datapath.Local{Dir: filepath.Dir(t.Path)}
	}
	return nil
}

// listen opens every target at which bridges are awaited.
func (r *reach) listen(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for bridge, target := range r.cfg.OpenFlow {
		t, err := openflow.ParseTarget(target)
		if err != nil {
			return err
		}
		if !t.Passive() {
			continue
		}
		// Whoever reads this later, looking for flows, should find why.
		r.log.WithFields(logrus.Fields{"bridge": bridge, "target": t.String()}).
			Info("bridge is to dial us: adding its first active controller, and removing its last, flushes all its flows")
		if r.listeners[t.String()] != nil {
			continue
		}
		l, err := r.dialer.Listen(ctx, target, r.turnedAway)
		if err != nil {
			return fmt.Errorf("await bridge %s: %w", bridge, err)
		}
		r.listeners[t.String()] = l
	}
	return nil
}

func (r *reach) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.listeners {
		l.Close()
	}
	r.listeners = map[string]*openflow.Listener{}
}

// await waits until a bridge has dialled us.
func (r *reach) await(ctx context.Context, target, bridge string) (*openflow.Conn, error) {
	r.mu.Lock()
	l := r.listeners[target]
	r.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("%s: %w", target, net.ErrClosed)
	}
	for {
		// A bridge that the database does not have yet has 0, as nobody has.
		id, _ := strconv.ParseUint(r.switches()[bridge].DatapathID, 16, 64)
		short, cancel := context.WithTimeout(ctx, identityCheck)
		conn, err := l.Dial(short, id)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return conn, err
		}
	}
}

// turnedAway reports connections that were refused, not more often than
// somebody can read.
func (r *reach) turnedAway(from net.Addr, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused++
	if time.Since(r.said) < refusalPause {
		return
	}
	r.log.WithError(err).WithFields(logrus.Fields{"from": from.String(), "refused": r.refused}).Warn("OpenFlow connection refused")
	r.refused, r.said = 0, time.Now()
}
