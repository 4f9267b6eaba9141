package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
)

// Down takes a lab down: its processes, namespaces, links, and the bridges
// it made. It works on whatever a crash left; without a record of the lab it
// goes by the marks in the kernel and in Open vSwitch. It is fs.ErrNotExist
// when there is no trace of the lab.
func Down(ctx context.Context, lab string, o Options) error {
	o = o.withDefaults()
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	s, err := load(o.StateDir, lab)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = discover(h, lab, o)
	}
	if err != nil {
		return err
	}
	if err := s.remove(ctx, h); err != nil {
		return fmt.Errorf("take lab %s down: %w", lab, err)
	}
	return forget(o.StateDir, lab)
}

// DownAll takes every recorded lab down.
func DownAll(ctx context.Context, o Options) error {
	o = o.withDefaults()
	names, err := labs(o.StateDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, Down(ctx, name, o))
	}
	return errors.Join(errs...)
}

// remove removes all of a lab that is there. It goes on after an error, so
// that one stuck thing does not keep the rest alive.
func (s *state) remove(ctx context.Context, h *netlink.Handle) error {
	var errs []error
	for _, n := range s.Nodes {
		if n.Namespace != "" {
			errs = append(errs, namespace.Kill(ctx, n.Namespace, stopGrace))
		}
	}
	// Ports before interfaces: a row whose interface vanished first looks
	// healthy when the interface comes back, and forwards nothing.
	errs = append(errs, s.removeBridges(ctx, h))
	for _, l := range s.Links {
		for _, e := range []end{l.A, l.B} {
			if e.Namespace == "" {
				errs = append(errs, removeLink(h, s.Lab, e.Name))
			}
		}
	}
	for _, n := range s.Nodes {
		if n.Namespace != "" {
			errs = append(errs, namespace.Delete(n.Namespace))
		}
	}
	return errors.Join(errs...)
}

// discover makes up the record of a lab that has none from the marks on its
// interfaces and the names of its namespaces.
func discover(h *netlink.Handle, lab string, o Options) (*state, error) {
	s := &state{Lab: lab, DB: o.DB}
	links, err := h.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Alias != markKey+"="+lab {
			continue
		}
		switch l.Type() {
		case "veth":
			s.Links = append(s.Links, link{A: end{Name: l.Attrs().Name}, B: end{Namespace: "-"}})
		case "bridge":
			s.Bridges = append(s.Bridges, bridge{Name: l.Attrs().Name, Made: true})
		}
	}
	if err := s.discoverNamespaces(o); err != nil {
		return nil, err
	}
	if len(s.Links)+len(s.Nodes)+len(s.Bridges) == 0 {
		return nil, fmt.Errorf("lab %s is not up: %w", lab, fs.ErrNotExist)
	}
	s.Bridges = append(s.Bridges, bridge{OVS: true}) // found by their marks
	return s, nil
}

// discoverNamespaces finds the lab's namespaces by name, leaving those of
// recorded labs: lab "a" must not take those of lab "a-b".
func (s *state) discoverNamespaces(o Options) error {
	taken := map[string]bool{}
	names, err := labs(o.StateDir)
	if err != nil {
		return err
	}
	for _, name := range names {
		other, err := load(o.StateDir, name)
		if err != nil {
			return err
		}
		for _, n := range other.Nodes {
			taken[n.Namespace] = true
		}
	}
	entries, err := os.ReadDir(namespace.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list namespaces: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "clab-"+s.Lab+"-") && e.Type().IsRegular() && !taken[e.Name()] {
			s.Nodes = append(s.Nodes, node{Namespace: e.Name()})
		}
	}
	return nil
}
