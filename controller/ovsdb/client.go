// Package ovsdb follows the Open_vSwitch database of one host: it publishes
// bridges and ports as topology, and commits changes on behalf of the packages
// that configure the switch. A database that is away is a state, not a
// failure: the client keeps trying and says so in its status.
package ovsdb

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/topology"
)

const (
	// DefaultEndpoint is where distributions put the database socket.
	DefaultEndpoint = "unix:/var/run/openvswitch/db.sock"
	// defaultRunDir holds the management sockets when the database is not
	// reached through a Unix socket.
	defaultRunDir = "/var/run/openvswitch"

	backoffMin = 50 * time.Millisecond
	backoffMax = 500 * time.Millisecond
	// settled is how long a connection must have lived for the next one to
	// be tried without back-off again.
	settled = 10 * time.Second
)

// ErrNotConnected says that the database cannot be reached now.
var ErrNotConnected = errors.New("not connected to the Open vSwitch database")

// Config says how to reach the database. The zero value is the local switch.
type Config struct {
	// Endpoint is unix:/ABSOLUTE/PATH, tcp:HOST:PORT or ssl:HOST:PORT;
	// empty means DefaultEndpoint.
	Endpoint string
	// RunDir is where ovs-vswitchd keeps its management sockets; empty
	// means the directory of the database socket.
	RunDir string
	// TLS is used by ssl endpoints.
	TLS *tls.Config
	// Log is where the client reports changes of its state; required.
	Log logrus.FieldLogger
}

// Status is the state of the connection.
type Status struct {
	Endpoint  string `json:"endpoint"`
	Connected bool   `json:"connected"`
	// Since is when Connected last changed.
	Since time.Time `json:"since"`
	// LastError is why the last attempt failed or the last connection
	// ended; it stays after a reconnect.
	LastError string `json:"last_error,omitempty"`
	// Reconnects counts connections after the first.
	Reconnects uint64 `json:"reconnects"`
}

// Client follows one database. Its methods are safe for concurrent use.
type Client struct {
	cfg     Config
	log     logrus.FieldLogger
	domains topology.Domains // of the goroutine in Run
	local   bool             // the database is of this machine

	mu       sync.Mutex
	status   Status
	sessions uint64
	db       client.Client // nil while not connected
	switches map[string]topology.Switch
	watchers map[*watcher]struct{}

	// deliver serialises topology callbacks, so that each of them sees the
	// changes in order.
	deliver   sync.Mutex
	callbacks []func(map[string]topology.Switch)
}

// New checks the configuration. Nothing is dialled before Run.
func New(cfg Config) (*Client, error) {
	if cfg.Endpoint == "" {
		cfg.Endpoint = DefaultEndpoint
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("database endpoint: %w", err)
	}
	// libovsdb silently falls back to a default address where it finds
	// nothing, which would be somebody else's switch.
	switch {
	case u.Scheme == client.UNIX && filepath.IsAbs(u.Path):
		if cfg.RunDir == "" {
			cfg.RunDir = filepath.Dir(u.Path)
		}
	case (u.Scheme == client.TCP || u.Scheme == client.SSL) && u.Opaque != "":
	default:
		return nil, fmt.Errorf("database endpoint %q is none of unix:/PATH, tcp:HOST:PORT, ssl:HOST:PORT", cfg.Endpoint)
	}
	if cfg.RunDir == "" {
		cfg.RunDir = defaultRunDir
	}
	return &Client{
		cfg:      cfg,
		local:    u.Scheme == client.UNIX,
		log:      cfg.Log.WithField("database", cfg.Endpoint),
		status:   Status{Endpoint: cfg.Endpoint, Since: time.Now()},
		watchers: map[*watcher]struct{}{},
	}, nil
}

// Run stays connected until ctx ends, and then returns nil. It must be called
// once only.
func (c *Client) Run(ctx context.Context) error {
	wait := backoffMin
	for {
		began := time.Now()
		err := c.session(ctx)
		c.down(err, ctx.Err() == nil)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > settled {
			wait = backoffMin
		}
		// Jitter keeps the controllers of many hosts from meeting at a
		// central database that comes back.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + rand.N(wait)/2):
		}
		wait = min(2*wait, backoffMax)
	}
}

// Status reports the state of the connection.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Mgmt is the path of a bridge's management socket, which speaks OpenFlow.
func (c *Client) Mgmt(bridge string) string {
	return filepath.Join(c.cfg.RunDir, bridge+".mgmt")
}

// DB is the current connection, for building operations. It fails with
// ErrNotConnected while there is none.
func (c *Client) DB() (client.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		return nil, ErrNotConnected
	}
	return c.db, nil
}

// Tables reads the database as this client last saw it: never older than the
// client's own last commit.
func (c *Client) Tables() (*Tables, error) {
	db, err := c.DB()
	if err != nil {
		return nil, err
	}
	cached := db.Cache()
	if cached == nil { // the connection has just ended
		return nil, ErrNotConnected
	}
	return read(cached), nil
}

// up notes a new connection.
func (c *Client) up(db client.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.db = db
	c.status.Connected, c.status.Since = true, time.Now()
	if c.sessions++; c.sessions > 1 {
		c.status.Reconnects++
	}
	c.log.Info("connected to the Open vSwitch database")
}

// down notes the end of a connection, or that an attempt failed. It warns once
// per outage, however many attempts that takes.
func (c *Client) down(err error, unexpected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.status.Connected || c.status.LastError == ""
	if c.db = nil; c.status.Connected {
		c.status.Connected, c.status.Since = false, time.Now()
	}
	if !unexpected || err == nil {
		return
	}
	c.status.LastError = err.Error()
	log := c.log.WithError(err)
	if first {
		log.Warn("Open vSwitch database is away; retrying")
		return
	}
	log.Debug("Open vSwitch database is still away")
}
