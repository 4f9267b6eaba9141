package ovsdb

import (
	"reflect"

	"github.com/ovn-kubernetes/libovsdb/client"

	"github.com/platelet-sdn/platelet/topology"
)

// watcher is one subscriber to changes of any kind.
type watcher struct{ changed chan struct{} }

// Watch returns a channel that becomes readable after any change of the
// database, and after each reconnect, until stop is called. It is a level, not
// a queue: a slow reader sees one signal for many changes and reads the
// current state.
func (c *Client) Watch() (changed <-chan struct{}, stop func()) {
	w := &watcher{changed: make(chan struct{}, 1)}
	c.mu.Lock()
	c.watchers[w] = struct{}{}
	c.mu.Unlock()
	signal(w.changed) // what is there already
	return w.changed, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, w)
	}
}

// OnTopology has f called with the bridges by name: at once when they are
// known already, then after each change, in order, never at the same time.
// While the database is away the last topology stays in force. The maps are
// never changed after the call; f must be quick and must not call OnTopology.
func (c *Client) OnTopology(f func(map[string]topology.Switch)) {
	c.deliver.Lock()
	defer c.deliver.Unlock()
	c.callbacks = append(c.callbacks, f)
	if known := c.Switches(); known != nil {
		f(known)
	}
}

// Switches is the last topology published, nil before the first.
func (c *Client) Switches() map[string]topology.Switch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.switches
}

// refresh publishes the topology when it differs from the last one, and wakes
// the watchers. It reports false when the cache was caught in the middle of a
// transaction and has to be read again.
func (c *Client) refresh(db client.Client) bool {
	cached := db.Cache()
	if cached == nil { // the connection has just ended
		return true
	}
	next, whole := c.build(read(cached))
	if !whole {
		return false
	}
	if c.local {
		if err := joinByVeth(next); err != nil {
			c.log.WithError(err).Warn("links between bridges may be taken for hosts")
		}
	}
	c.deliver.Lock()
	c.mu.Lock()
	changed := c.switches == nil || !reflect.DeepEqual(c.switches, next)
	if changed {
		c.switches = next
	}
	c.mu.Unlock()
	if changed {
		for _, f := range c.callbacks {
			f(next)
		}
	}
	c.deliver.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		signal(w.changed)
	}
	return true
}
