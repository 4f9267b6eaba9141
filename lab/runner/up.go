package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
)

// Up brings a topology up. When it fails, nothing of it stays.
func Up(ctx context.Context, t *clab.Topology, o Options) (*Lab, error) {
	o = o.withDefaults()
	if err := Verify(t); err != nil {
		return nil, err
	}
	s, err := plan(t, o)
	if err != nil {
		return nil, err
	}
	if o.Reconfigure {
		if err := Down(ctx, s.Lab, o); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reconfigure: %w", err)
		}
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	if err := s.claim(ctx, h, t, o); err != nil {
		return nil, err
	}
	b := builder{state: s, t: t, o: o, h: h}
	if err := b.build(ctx); err != nil {
		// The lab must go even when the context is what ended it.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, Down(clean, s.Lab, o))
	}
	return &Lab{state: s, options: o}, nil
}

// claim finds out that all names are free, decides on addresses and writes
// the record down, while no other runner does the same.
func (s *state) claim(ctx context.Context, h *netlink.Handle, t *clab.Topology, o Options) error {
	release, err := lock(o.StateDir)
	if err != nil {
		return err
	}
	defer release()
	if err := s.checkFree(ctx, h); err != nil {
		return err
	}
	labs, err := others(o.StateDir, s.Lab)
	if err != nil {
		return err
	}
	if err := s.adopt(h); err != nil {
		return err
	}
	if err := s.allocate(t, labs); err != nil {
		return err
	}
	if err := s.checkSubnets(h); err != nil {
		return err
	}
	if err := s.save(o.StateDir); err != nil {
		return err
	}
	return s.makeMgmtOrForget(h, o)
}

// makeMgmtOrForget makes the management bridge. The record goes when that
// fails, because nothing else is there yet.
func (s *state) makeMgmtOrForget(h *netlink.Handle, o Options) error {
	err := s.makeMgmt(h)
	if err == nil {
		return nil
	}
	if s.Mgmt != nil {
		err = errors.Join(err, removeMgmt(h, s.Mgmt.Network))
	}
	return errors.Join(err, forget(o.StateDir, s.Lab))
}

// builder makes what a plan names.
type builder struct {
	*state
	t *clab.Topology
	o Options
	h *netlink.Handle
}

// build makes everything. A lab without stages is made in large steps, each
// for all nodes; one with stages node by node.
func (b *builder) build(ctx context.Context) error {
	if err := b.prepareDirs(); err != nil {
		return err
	}
	staged := false
	for _, n := range b.t.Nodes {
		staged = staged || len(n.Stages) > 0 || n.StartupDelay > 0
	}
	if staged {
		if err := b.makeBridges(ctx, b.h, false); err != nil {
			return err
		}
	} else if err := b.makeAll(ctx); err != nil {
		return err
	}
	if err := b.runStages(ctx, staged); err != nil {
		return err
	}
	if staged {
		if err := b.settle(ctx, b.h); err != nil {
			return err
		}
	}
	return b.export()
}

// makeAll makes all namespaces, then all links, then all bridges.
func (b *builder) makeAll(ctx context.Context) error {
	for _, n := range b.Nodes {
		if err := b.makeNamespace(n); err != nil {
			return err
		}
	}
	if err := b.makeInnerBridges(); err != nil {
		return err
	}
	if err := b.makeLinuxBridges(b.h); err != nil {
		return err
	}
	ends := map[string][]placed{}
	for i := range b.Links {
		l := &b.Links[i]
		if err := b.makeLink(b.h, *l); err != nil {
			return err
		}
		for _, e := range l.ends() {
			ends[e.Namespace] = append(ends[e.Namespace], placed{e, l.Type})
		}
	}
	for ns, list := range ends {
		if err := b.finish(ns, list); err != nil {
			return err
		}
	}
	for _, n := range b.Nodes {
		if err := b.addressMgmt(n); err != nil {
			return err
		}
	}
	if err := b.makeOVS(ctx, true); err != nil {
		return err
	}
	return b.settle(ctx, b.h)
}

// makeNamespace makes a node's namespace, unless it lives in another's.
func (b *builder) makeNamespace(n node) error {
	if n.Namespace == "" || n.Shares {
		return nil
	}
	mark, err := namespaceMark(b.Lab)
	if err != nil {
		return err
	}
	return namespace.CreateMarked(n.Namespace, mark)
}

// makeInnerBridges makes the bridges inside nodes.
func (b *builder) makeInnerBridges() error {
	for _, br := range b.Bridges {
		if br.Namespace == "" {
			continue
		}
		if err := makeInnerBridge(br); err != nil {
			return err
		}
	}
	return nil
}

func makeInnerBridge(br bridge) error {
	return namespace.Do(br.Namespace, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return fmt.Errorf("netlink: %w", err)
		}
		defer h.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name = br.Name
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
			return fmt.Errorf("make bridge %s in %s: %w", br.Name, br.Namespace, err)
		}
		return up(h, br.Name, "")
	})
}
