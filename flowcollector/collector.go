// Package flowcollector receives telemetry (sFlow, IPFIX, NetFlow) from the
// network and hands on flow records.
//
// Each socket has a thread of its own that receives batches of datagrams with
// one system call and decodes them in place, without queues and without
// allocation. Every loss is counted where it happens: see Stats.
package flowcollector

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/platelet-sdn/platelet/flowcollector/netflow"
)

// Collector receives and decodes telemetry.
type Collector struct {
	cfg       Config
	log       logrus.FieldLogger
	peers     peers
	templates *netflow.Templates
	sflow     counters
	ipfix     counters

	mu        sync.Mutex
	listeners []*listener
}

// New checks the configuration. It opens nothing: Listen and Run do.
func New(cfg Config) (*Collector, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Shards == 0 {
		cfg.Shards = 1
	}
	log := cfg.Log
	if log == nil {
		silent := logrus.New()
		silent.SetOutput(io.Discard)
		log = silent
	}
	return &Collector{
		cfg:       cfg,
		log:       log.WithField("component", "flowcollector"),
		peers:     newPeers(cfg.Peers),
		templates: netflow.NewTemplates(cfg.TemplateLimits),
	}, nil
}

// Listen opens the sockets; datagrams queue up from now on. Run calls it if
// the caller has not. Close releases the sockets if Run is never called.
func (c *Collector) Listen() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.listeners != nil {
		return nil
	}
	ls, err := c.open()
	if err != nil {
		return errors.Join(err, closeAll(ls))
	}
	c.listeners = ls
	return nil
}

func (c *Collector) open() (ls []*listener, err error) {
	for _, p := range []struct {
		protocol  Protocol
		addresses []netip.AddrPort
	}{
		{ProtocolSFlow, c.cfg.SFlow},
		{ProtocolIPFIX, c.cfg.IPFIX},
	} {
		for _, a := range p.addresses {
			for range c.cfg.Shards {
				l, err := listen(p.protocol, a, c.cfg.Shards > 1)
				if err != nil {
					return ls, fmt.Errorf("listen for %s on %v: %w", p.protocol, a, err)
				}
				ls = append(ls, l)
				a = l.address // further shards share the port that was picked
			}
		}
	}
	return ls, nil
}

func closeAll(ls []*listener) error {
	var errs []error
	for _, l := range ls {
		errs = append(errs, l.close())
	}
	return errors.Join(errs...)
}

// Addresses returns the addresses that sockets are bound to, in the order of
// the configuration; it is empty before Listen.
func (c *Collector) Addresses(p Protocol) []netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	var as []netip.AddrPort
	for i, l := range c.listeners {
		if l.protocol == p && i%c.cfg.Shards == 0 {
			as = append(as, l.address)
		}
	}
	return as
}

// Close releases the sockets of a Collector that has not been run. It cannot be
// used again.
func (c *Collector) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return closeAll(c.listeners)
}

// Run receives until ctx is done, then returns nil within milliseconds. It
// returns an error when a socket cannot be opened or fails. It is to be called
// once.
func (c *Collector) Run(ctx context.Context) (err error) {
	if err := c.Listen(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.loadTemplates(ctx)
	group, ctx := errgroup.WithContext(ctx)
	c.mu.Lock()
	for i, l := range c.listeners {
		c.report(l)
		r := c.newReceiver(l, i == 0)
		group.Go(func() error { return r.run(ctx) })
		group.Go(func() error {
			<-ctx.Done()
			return l.wake()
		})
	}
	c.mu.Unlock()
	if c.cfg.Templates != nil {
		group.Go(func() error { return c.saveTemplates(ctx) })
	}
	return group.Wait()
}

func (c *Collector) report(l *listener) {
	log := c.log.WithFields(logrus.Fields{"protocol": l.protocol, "address": l.address, "buffer": l.buffer})
	if l.buffer < receiveBuffer {
		log.Warn("listening with a smaller socket buffer than wanted: raise net.core.rmem_max or grant CAP_NET_ADMIN")
		return
	}
	log.Info("listening")
}

// Stats returns a snapshot. It may be called at any time.
func (c *Collector) Stats() Stats {
	s := Stats{SFlow: c.sflow.snapshot(), IPFIX: c.ipfix.snapshot()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.listeners {
		s.Listeners = append(s.Listeners, ListenerStats{
			Protocol:      l.protocol,
			Address:       l.address,
			ReceiveBuffer: l.buffer,
			KernelDrops:   l.drops.Load(),
		})
	}
	return s
}
