package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/shlex"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
)

// process is a node's own command while we watch it.
type process struct{ ended chan struct{} }

// view is what a node's processes see.
func (s *state) view(n node, o Options) *namespace.View {
	if !n.Container {
		return nil
	}
	dir := nodeDir(o.StateDir, s.Lab, n.Name)
	v := &namespace.View{Hostname: n.Hostname, Dir: filepath.Join(dir, "view")}
	for _, file := range nodeFiles() {
		source := filepath.Join(dir, file.name)
		if _, err := os.Stat(source); err == nil {
			v.Mounts = append(v.Mounts, namespace.Mount{Source: source, Target: file.target})
		}
	}
	v.Mounts = append(v.Mounts, n.Mounts...)
	return v
}

// command prepares a program of the topology's to run in a node, the way a
// container's would: with its environment and user, from the root directory.
func (s *state) command(ctx context.Context, n node, o Options, words []string) (*namespace.Cmd, error) {
	words = o.program(words)
	cmd := namespace.Command(ctx, n.Namespace, words[0], words[1:]...)
	cmd.View = s.view(n, o)
	if !n.Container {
		cmd.Env = append(os.Environ(), n.Env...)
		return cmd, nil
	}
	cmd.Env = append(containerEnv(n.Hostname), n.Env...)
	cmd.Dir = "/"
	if n.User == "" {
		return cmd, nil
	}
	credential, err := credentialOf(n.User)
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return cmd, nil
}

// credentialOf finds a user of the host, by name or number, with a group or
// without: "nobody", "1000", "www-data:adm".
func credentialOf(text string) (*syscall.Credential, error) {
	name, group, hasGroup := strings.Cut(text, ":")
	out := &syscall.Credential{}
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		id, numErr := strconv.ParseUint(name, 10, 32)
		if numErr != nil {
			return nil, fmt.Errorf("user %q: the host has no such user", name)
		}
		out.Uid = uint32(id) // a number needs no name
	} else {
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errU, errG); err != nil {
			return nil, fmt.Errorf("user %q: %w", name, err)
		}
		out.Uid, out.Gid = uint32(uid), uint32(gid)
	}
	if !hasGroup {
		return out, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		g, err = user.LookupGroupId(group)
	}
	if err != nil {
		return nil, fmt.Errorf("user %q: the host has no group %q", text, group)
	}
	gid, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", group, err)
	}
	out.Gid = uint32(gid)
	return out, nil
}

// setSysctls sets a node's kernel parameters, which all belong to its network
// namespace. IPv6 is on in every node, as containerlab has it.
func setSysctls(n node, def clab.Definition) error {
	if !n.Container || n.Namespace == "" {
		return nil
	}
	values := map[string]string{"net.ipv6.conf.all.disable_ipv6": "0"}
	for k, v := range def.Sysctls {
		values[k] = v
	}
	return namespace.Do(n.Namespace, func() error {
		for key, value := range values {
			// Dots separate, and slashes stand for dots in names.
			path := strings.NewReplacer(".", "/", "/", ".").Replace(key)
			err := os.WriteFile("/proc/sys/"+path, []byte(value), 0o644)
			if errors.Is(err, os.ErrNotExist) && key == "net.ipv6.conf.all.disable_ipv6" {
				continue // a kernel without IPv6
			}
			if err != nil {
				return fmt.Errorf("sysctl %s: %w", key, err)
			}
		}
		return nil
	})
}

// startMain starts a node's own program. It outlives us, in a session of its
// own, and ends with the lab.
func (r *stageRun) startMain(n node, def clab.Definition) error {
	words, err := mainWords(def)
	if err != nil || len(words) == 0 || !n.Container {
		return err
	}
	dir := logDir(r.o.StateDir, r.Lab)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cmd: %w", err)
	}
	log, err := os.Create(filepath.Join(dir, n.Name+".log"))
	if err != nil {
		return fmt.Errorf("cmd: %w", err)
	}
	defer log.Close()
	cmd, err := r.command(context.Background(), n, r.o, words)
	if err != nil {
		return fmt.Errorf("cmd: %w", err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setsid = true
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cmd %q: %w", words, err)
	}
	p := &process{ended: make(chan struct{})}
	r.mu.Lock()
	r.mains[n.Name] = p
	r.mu.Unlock()
	go func() { // reaps it while we live; its end is the node's business
		_ = cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// mainWords is a node's own program with its arguments; empty when the file
// names none.
func mainWords(def clab.Definition) ([]string, error) {
	entry, err := shlex.Split(def.Entrypoint)
	if err != nil {
		return nil, fmt.Errorf("entrypoint %q: cannot be split into words: %w", def.Entrypoint, err)
	}
	words, err := shlex.Split(def.Cmd)
	if err != nil {
		return nil, fmt.Errorf("cmd %q: cannot be split into words: %w", def.Cmd, err)
	}
	// The lab image's own entry point is our binary; a command that names it
	// once more is taken for what it means.
	if len(entry) == 0 && len(words) > 0 && imageName(def.Image) == labImage && !ownProgram(words[0]) {
		entry = []string{"/" + labProgram}
	}
	return slices.Concat(entry, words), nil
}

// runExec runs a node's exec lines.
func (b *builder) runExec(ctx context.Context, n node, def clab.Definition) error {
	if !n.Container && n.Kind != clab.KindHost {
		return nil // containerlab runs nothing on bridges either
	}
	for _, line := range def.Exec {
		if err := b.runLine(ctx, n, line); err != nil {
			return err
		}
	}
	return nil
}

// runLine runs one command of the topology's in a node.
func (b *builder) runLine(ctx context.Context, n node, line string) error {
	p := planner{state: b.state, t: b.t}
	words, err := shlex.Split(p.magic(n.Name).Replace(line))
	if err != nil || len(words) == 0 {
		return fmt.Errorf("exec %q: cannot be split into words: %w", line, err)
	}
	cmd, err := b.command(ctx, n, b.o, words)
	if err != nil {
		return fmt.Errorf("exec %q: %w", line, err)
	}
	// A process in the background may keep the output open; its parent's end
	// is what counts.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("exec %q: %w: %s", line, err, lastLine(string(out)))
	}
	return nil
}

// Docker's times for health checks, where the file gives none.
const (
	healthInterval = 30 * time.Second
	healthTimeout  = 30 * time.Second
)

// waitHealthy runs a health check until it passes.
func (r *stageRun) waitHealthy(ctx context.Context, n node, h *clab.Healthcheck) error {
	words, err := healthWords(h)
	if err != nil {
		return err
	}
	interval, timeout := healthInterval, healthTimeout
	if h.Interval > 0 {
		interval = time.Duration(h.Interval) * time.Second
	}
	if h.Timeout > 0 {
		timeout = time.Duration(h.Timeout) * time.Second
	}
	for {
		var last error
		err := r.limited(ctx, func() error {
			try, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			cmd, err := r.command(try, n, r.o, words)
			if err != nil {
				return err
			}
			_, last = cmd.CombinedOutput()
			return nil
		})
		if err != nil || last == nil {
			return err
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return fmt.Errorf("not healthy: %w: %w", last, context.Cause(ctx))
		}
	}
}

// healthWords is the command of a health check.
func healthWords(h *clab.Healthcheck) ([]string, error) {
	switch {
	case h == nil || len(h.Test) < 2:
	case h.Test[0] == "CMD":
		return h.Test[1:], nil
	case h.Test[0] == "CMD-SHELL":
		return []string{"/bin/sh", "-c", h.Test[1]}, nil
	}
	return nil, errors.New("healthcheck: needs a test that begins with CMD or CMD-SHELL")
}
