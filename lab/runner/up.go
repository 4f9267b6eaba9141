package runner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/shlex"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
)

// Up brings a topology up. When it fails, nothing of it stays.
func Up(ctx context.Context, t *clab.Topology, o Options) (*Lab, error) {
	o = o.withDefaults()
	if err := Check(t); err != nil {
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
	if err := s.checkFree(ctx, h); err != nil {
		return nil, err
	}
	if err := s.save(o.StateDir); err != nil {
		return nil, err
	}
	if err := s.build(ctx, h, t, o); err != nil {
		// The lab must go even when the context is what ended it.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return nil, errors.Join(err, Down(clean, s.Lab, o))
	}
	return &Lab{state: s, options: o}, nil
}

// checkFree makes sure that every name the plan takes is free, so that
// removing by name later removes only what was made.
func (s *state) checkFree(ctx context.Context, h *netlink.Handle) error {
	for _, n := range s.Nodes {
		if n.Namespace == "" {
			continue
		}
		if _, err := os.Lstat(namespace.Path(n.Namespace)); err == nil {
			return fmt.Errorf("namespace %s is already there: is lab %s up? (lab down, or --reconfigure, clears it away)", n.Namespace, s.Lab)
		}
	}
	for _, l := range s.Links {
		for _, e := range []end{l.A, l.B} {
			if e.Namespace != "" {
				continue
			}
			_, err := h.LinkByName(e.Name)
			var missing netlink.LinkNotFoundError
			if err == nil {
				return fmt.Errorf("interface %s is already there: is lab %s up? (lab down, or --reconfigure, clears it away)", e.Name, s.Lab)
			} else if !errors.As(err, &missing) {
				return fmt.Errorf("interface %s: %w", e.Name, err)
			}
		}
	}
	return s.findBridges(ctx, h)
}

// build makes everything that the plan names.
func (s *state) build(ctx context.Context, h *netlink.Handle, t *clab.Topology, o Options) error {
	places := []string{""}
	for _, n := range s.Nodes {
		if n.Namespace == "" {
			continue
		}
		if err := namespace.CreateMarked(n.Namespace, markKey+"="+s.Lab); err != nil {
			return err
		}
		places = append(places, n.Namespace)
	}
	for _, l := range s.Links {
		if err := s.makeLink(h, l); err != nil {
			return err
		}
	}
	for _, ns := range places {
		if err := s.finish(ns); err != nil {
			return err
		}
	}
	if err := s.makeBridges(ctx, h); err != nil {
		return err
	}
	if err := s.settle(ctx, h); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, n := range s.Nodes {
		def := t.Nodes[i].Definition
		group.Go(func() error { return s.configure(ctx, n, def, o) })
	}
	return group.Wait()
}

// configure sets a node's sysctls, starts its command and runs its exec
// lines, in this order.
func (s *state) configure(ctx context.Context, n node, def clab.Definition, o Options) error {
	if n.Kind == clab.KindBridge || n.Kind == clab.KindOVSBridge {
		return nil
	}
	for key, value := range def.Sysctls {
		file := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		err := namespace.Do(n.Namespace, func() error { return os.WriteFile(file, []byte(value), 0o644) })
		if err != nil {
			return fmt.Errorf("node %s: sysctl %s: %w", n.Name, key, err)
		}
	}
	if def.Entrypoint != "" || def.Cmd != "" {
		if err := s.startCommand(n, def, o); err != nil {
			return fmt.Errorf("node %s: %w", n.Name, err)
		}
	}
	for _, line := range def.Exec {
		words, err := shlex.Split(line)
		if err != nil || len(words) == 0 {
			return fmt.Errorf("node %s: exec %q: cannot be split into words: %w", n.Name, line, err)
		}
		words = o.program(words)
		cmd := namespace.Command(ctx, n.Namespace, words[0], words[1:]...)
		cmd.Env = append(os.Environ(), n.Env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("node %s: exec %q: %w: %s", n.Name, line, err, lastLine(string(out)))
		}
	}
	return nil
}

// startCommand starts a node's own program. It outlives us, in a session of
// its own, and ends with the lab.
func (s *state) startCommand(n node, def clab.Definition, o Options) error {
	line := def.Entrypoint + " " + def.Cmd
	words, err := shlex.Split(line)
	if err != nil || len(words) == 0 {
		return fmt.Errorf("cmd %q: cannot be split into words: %w", line, err)
	}
	// The lab image's own entry point is our binary.
	if def.Entrypoint == "" && imageName(n.Image) == labImage && o.program(words)[0] == words[0] {
		words = append([]string{labProgram}, words...)
	}
	words = o.program(words)
	if err := os.MkdirAll(logDir(o.StateDir, s.Lab), 0o755); err != nil {
		return fmt.Errorf("cmd: %w", err)
	}
	log, err := os.Create(filepath.Join(logDir(o.StateDir, s.Lab), n.Name+".log"))
	if err != nil {
		return fmt.Errorf("cmd: %w", err)
	}
	defer log.Close()
	cmd := namespace.Command(context.Background(), n.Namespace, words[0], words[1:]...)
	cmd.Env = append(os.Environ(), n.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cmd %q: %w", line, err)
	}
	go cmd.Wait() // reaps it while we live; its end is the node's business
	return nil
}
