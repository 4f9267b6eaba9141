package namespace

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cmd is an exec.Cmd whose process starts inside a namespace. Entering costs
// a few system calls, not another program.
type Cmd struct {
	*exec.Cmd
	// View is what the process sees of the machine; nil is what we see.
	View *View
	name string

	ended chan struct{}
	once  sync.Once
}

// Command prepares a program to run inside a namespace; an empty name is the
// one we are in.
func Command(ctx context.Context, name, program string, args ...string) *Cmd {
	return &Cmd{Cmd: exec.CommandContext(ctx, program, args...), name: name, ended: make(chan struct{})}
}

// Start starts the program.
func (c *Cmd) Start() error {
	if c.View != nil {
		return c.View.start(c.name, c.Cmd, c.ended)
	}
	return Do(c.name, c.Cmd.Start)
}

// Wait waits for the program's end.
func (c *Cmd) Wait() error {
	defer c.once.Do(func() { close(c.ended) })
	return c.Cmd.Wait()
}

// Run starts the program and waits for its end.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// CombinedOutput runs the program and returns what it printed.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Output runs the program and returns its standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}

// Processes lists the processes inside a namespace.
func Processes(name string) ([]int, error) {
	var want unix.Stat_t
	if err := unix.Stat(Path(name), &want); err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	pids, err := others()
	return slices.DeleteFunc(pids, func(pid int) bool { return !inside(pid, &want) }), err
}

// others lists all processes of the machine but ourselves.
func others() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != os.Getpid() {
			out = append(out, pid)
		}
	}
	return out, nil
}

// inside reports whether a process is in a namespace. One that ended, or is
// a kernel thread, is not.
func inside(pid int, want *unix.Stat_t) bool {
	var got unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/net", &got)
	return err == nil && got.Dev == want.Dev && got.Ino == want.Ino
}

// Kill ends every process inside a namespace: asked first, and after the
// grace period without asking. It returns when they are gone.
func Kill(ctx context.Context, name string, grace time.Duration) error {
	return KillAll(ctx, []string{name}, grace)
}

// KillAll ends every process inside several namespaces at once, so that many
// take no longer than one. Names that are not there are no error.
func KillAll(ctx context.Context, names []string, grace time.Duration) error {
	deadline := time.Now().Add(grace)
	asked := map[int]bool{}
	for {
		inside, err := processesOf(names)
		if err != nil || len(inside) == 0 {
			return err
		}
		for pid, name := range inside {
			switch {
			case time.Now().After(deadline):
				err = signal(name, pid, unix.SIGKILL)
			case !asked[pid]:
				asked[pid] = true
				err = signal(name, pid, unix.SIGTERM)
			}
			if err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("end processes in %s: %w", strings.Join(names, ", "), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// processesOf finds the processes inside any of several namespaces.
func processesOf(names []string) (map[int]string, error) {
	type id struct{ dev, ino uint64 }
	byID := map[id]string{}
	for _, name := range names {
		var st unix.Stat_t
		if !Exists(name) {
			continue
		}
		if err := unix.Stat(Path(name), &st); err != nil {
			return nil, fmt.Errorf("namespace %s: %w", name, err)
		}
		byID[id{uint64(st.Dev), st.Ino}] = name
	}
	if len(byID) == 0 {
		return nil, nil
	}
	pids, err := others()
	if err != nil {
		return nil, err
	}
	out := map[int]string{}
	for _, pid := range pids {
		var st unix.Stat_t
		if unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/net", &st) != nil {
			continue // ended, or a kernel thread
		}
		if name, ok := byID[id{uint64(st.Dev), st.Ino}]; ok {
			out[pid] = name
		}
	}
	return out, nil
}

// signal signals a process if it is still inside the namespace. The process
// descriptor rules out that the number was reused in between.
func signal(name string, pid int, sig unix.Signal) error {
	var want unix.Stat_t
	if err := unix.Stat(Path(name), &want); err != nil {
		return fmt.Errorf("namespace %s: %w", name, err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil // gone, or a thread that is leaving
	}
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if !inside(pid, &want) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// WithEnv lists the processes in our own network namespace whose environment,
// as it was when they started, holds "key=value" or, where the value is empty,
// the key with any value; the result tells the values by process. Ourselves
// are not among them.
func WithEnv(key, value string) (map[int]string, error) {
	var own unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &own); err != nil {
		return nil, fmt.Errorf("own namespace: %w", err)
	}
	pids, err := others()
	if err != nil {
		return nil, err
	}
	out := map[int]string{}
	for _, pid := range pids {
		if !inside(pid, &own) {
			continue
		}
		env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
		if err != nil {
			continue // ended, or a kernel thread
		}
		for kv := range bytes.SplitSeq(env, []byte{0}) {
			if v, ok := strings.CutPrefix(string(kv), key+"="); ok && (value == "" || v == value) {
				out[pid] = v
			}
		}
	}
	return out, nil
}
