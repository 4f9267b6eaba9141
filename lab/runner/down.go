package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Down takes a lab down: its processes, namespaces, links, the bridges it
// made, and the management network with its last lab. It works on whatever a
// crash left; without a record of the lab it goes by the marks in the kernel
// and in Open vSwitch. It is fs.ErrNotExist when there is no trace of the lab.
func Down(ctx context.Context, lab string, o Options) error {
	o = o.withDefaults()
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	s, err := load(o.StateDir, lab)
	if errors.Is(err, fs.ErrNotExist) {
		s, err = discover(ctx, h, lab, o)
	}
	if err != nil {
		return err
	}
	if err := s.remove(ctx, h); err != nil {
		return fmt.Errorf("take lab %s down: %w", lab, err)
	}
	release, err := lock(o.StateDir)
	if err != nil {
		return err
	}
	defer release()
	if s.Mgmt != nil {
		if err := s.releaseMgmt(h, o); err != nil {
			return fmt.Errorf("take lab %s down: %w", lab, err)
		}
	}
	return errors.Join(s.removeExport(), forget(o.StateDir, lab))
}

// releaseMgmt removes the management bridge, unless another lab is about to
// attach itself to it. The caller holds the lock.
func (s *state) releaseMgmt(h *netlink.Handle, o Options) error {
	labs, err := others(o.StateDir, s.Lab)
	if err != nil {
		return err
	}
	for _, other := range labs {
		if other.Mgmt != nil && other.Mgmt.Network == s.Mgmt.Network {
			return nil
		}
	}
	return removeMgmt(h, s.Mgmt.Network)
}

// DownAll takes every lab down: those with a record, and those of which only
// marks in the kernel and in Open vSwitch are left.
func DownAll(ctx context.Context, o Options) error {
	o = o.withDefaults()
	names, err := labs(o.StateDir)
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle()
	if err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	defer h.Close()
	var errs []error
	for _, name := range names {
		errs = append(errs, Down(ctx, name, o))
	}
	marked, err := marks(ctx, h, o)
	errs = append(errs, err)
	for _, name := range marked {
		if err := Down(ctx, name, o); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	release, err := lock(o.StateDir)
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	defer release()
	return errors.Join(append(errs, removeMgmt(h, ""), tidy(o.StateDir))...)
}

// remove removes all of a lab that is there. It goes on after an error, so
// that one stuck thing does not keep the rest alive.
func (s *state) remove(ctx context.Context, h *netlink.Handle) error {
	var errs []error
	var spaces []string
	for _, n := range s.Nodes {
		if n.Namespace != "" && !slices.Contains(spaces, n.Namespace) {
			spaces = append(spaces, n.Namespace)
		}
	}
	if !slices.Contains(spaces, s.parking()) && namespace.Exists(s.parking()) {
		spaces = append(spaces, s.parking())
	}
	errs = append(errs, namespace.KillAll(ctx, spaces, stopGrace), s.killShared(ctx))
	// Ports before interfaces: a row whose interface vanished first looks
	// healthy when the interface comes back, and forwards nothing.
	errs = append(errs, s.removeBridges(ctx, h))
	for i := range s.Links {
		for _, e := range s.Links[i].ends() {
			if e.Namespace == "" {
				errs = append(errs, removeLink(h, s.Lab, e.Name))
			}
		}
	}
	for _, ns := range spaces {
		errs = append(errs, namespace.Delete(ns))
	}
	return errors.Join(errs...)
}

// killShared ends the processes of nodes that have no network namespace of
// their own; they are known by their environment.
func (s *state) killShared(ctx context.Context) error {
	if !slices.ContainsFunc(s.Nodes, func(n node) bool { return n.Container && n.Namespace == "" }) {
		return nil
	}
	deadline := time.Now().Add(stopGrace)
	for {
		found, err := namespace.WithEnv(labEnv, s.Lab)
		if err != nil || len(found) == 0 {
			return err
		}
		sig := unix.SIGTERM
		if time.Now().After(deadline) {
			sig = unix.SIGKILL
		}
		for pid := range found {
			if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end processes of lab %s: %w", s.Lab, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// marks lists the labs that something carries the mark of: an interface, a
// namespace, a bridge of Open vSwitch or a process.
func marks(ctx context.Context, h *netlink.Handle, o Options) ([]string, error) {
	var out []string
	add := func(lab string) {
		if lab != "" && !slices.Contains(out, lab) {
			out = append(out, lab)
		}
	}
	links, err := linkList(h)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		if lab, ok := strings.CutPrefix(l.Attrs().Alias, markKey+"="); ok {
			add(lab)
		}
	}
	spaces, err := namespace.List()
	if err != nil {
		return nil, err
	}
	for _, ns := range spaces {
		if lab, err := labOf(ns); err == nil { // else not one of ours
			add(lab)
		}
	}
	found, err := namespace.WithEnv(labEnv, "")
	if err != nil {
		return nil, err
	}
	for _, lab := range found {
		add(lab)
	}
	inOVS, err := (&state{DB: o.DB, Bridges: []bridge{{OVS: true}}}).ovsBridges(ctx)
	if err == nil { // without a switch there is nothing in it
		for _, b := range inOVS {
			add(b.lab)
		}
	}
	return out, nil
}

// namespaceMark marks a lab's namespaces. It tells also which network
// namespace the lab's host is: a lab of another one, such as the machine's
// own seen from a container or a test, is not ours to take down.
func namespaceMark(lab string) (string, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return "", fmt.Errorf("own namespace: %w", err)
	}
	return fmt.Sprintf("%s=%s@%d", markKey, lab, st.Ino), nil
}

// labOf tells from a namespace's mark which lab of this host it belongs to;
// it is empty for one of no lab, or of another host's.
func labOf(ns string) (string, error) {
	mark, err := namespace.Mark(ns)
	if err != nil {
		return "", err
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(mark, markKey+"="), "@")
	if ours, err := namespaceMark(name); err != nil || mark != ours {
		return "", err
	}
	return name, nil
}

// discover makes up the record of a lab that has none from its marks.
func discover(ctx context.Context, h *netlink.Handle, lab string, o Options) (*state, error) {
	s := &state{Lab: lab, DB: o.DB}
	links, err := linkList(h)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		switch {
		case l.Attrs().Alias != markKey+"="+lab:
		case l.Type() == "bridge":
			s.Bridges = append(s.Bridges, bridge{Name: l.Attrs().Name, Made: true})
		default:
			s.Links = append(s.Links, link{A: end{Name: l.Attrs().Name}, B: end{Namespace: "-"}})
		}
	}
	spaces, err := namespace.List()
	if err != nil {
		return nil, err
	}
	for _, ns := range spaces {
		if of, err := labOf(ns); err == nil && of == lab {
			s.Nodes = append(s.Nodes, node{Namespace: ns})
		}
	}
	found, err := namespace.WithEnv(labEnv, lab)
	if err != nil {
		return nil, err
	}
	if len(found) > 0 {
		s.Nodes = append(s.Nodes, node{Container: true})
	}
	probe := &state{DB: o.DB, Bridges: []bridge{{OVS: true}}}
	if inOVS, err := probe.ovsBridges(ctx); err == nil {
		for name, b := range inOVS {
			if b.lab == lab {
				s.Bridges = append(s.Bridges, bridge{Name: name, OVS: true, Made: true})
			}
		}
	}
	if _, err := os.Stat(filepath.Join(o.StateDir, lab+".nodes")); len(s.Links)+len(s.Nodes)+len(s.Bridges) == 0 && err != nil {
		return nil, fmt.Errorf("lab %s is not up: %w", lab, fs.ErrNotExist)
	}
	if len(s.Links) > 0 { // ports of bridges that are not ours, found by their marks
		s.Bridges = append(s.Bridges, bridge{OVS: true})
	}
	return s, nil
}
