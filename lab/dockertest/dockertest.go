// Package dockertest starts a Docker daemon of a test's own, in its own
// namespaces, without networks and without any registry.
package dockertest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Daemon is a Docker daemon of the test's own.
type Daemon struct {
	dir    string
	socket string // as DOCKER_HOST has it
}

// Start starts a daemon without networks in the test's namespaces.
func Start(t *testing.T, ctx context.Context) *Daemon {
	t.Helper()
	for _, program := range []string{"dockerd", "docker", "containerd", "runc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is not installed; scripts/install-deps.sh --test installs it where no init system would start it", program)
		}
	}
	mountCgroups(t)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pldk") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &Daemon{dir, "unix://" + filepath.Join(dir, "docker.sock")}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs", "--cgroup-parent="+filepath.Base(dir),
		"--data-root="+filepath.Join(dir, "data"), "--exec-root="+filepath.Join(dir, "exec"), "--pidfile="+filepath.Join(dir, "pid"), "--host="+d.socket)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is for us alone
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { d.stop(t, cmd, ended) })
	for {
		out, err := d.Docker(ctx, "version")
		if err == nil {
			return d
		}
		select {
		case err := <-ended:
			ended <- err
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("dockerd: %v\n%s", err, text)
		case <-ctx.Done():
			t.Fatalf("dockerd does not answer: %s", out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop removes the containers and ends the daemon.
func (d *Daemon) stop(t *testing.T, cmd *exec.Cmd, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out, err := d.Docker(ctx, "ps", "--all", "--quiet"); err == nil && out != "" {
		if out, err := d.Docker(ctx, append([]string{"rm", "--force"}, strings.Fields(out)...)...); err != nil {
			t.Error(out, err)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-ctx.Done():
		t.Error("dockerd does not end")
		_ = cmd.Process.Kill()
		<-ended
	}
	reap(t)
	parents, _ := filepath.Glob("/sys/fs/cgroup/*/" + filepath.Base(d.dir))
	for _, p := range append(parents, "/sys/fs/cgroup/"+filepath.Base(d.dir)) {
		if err := unix.Rmdir(p); err != nil && !errors.Is(err, unix.ENOENT) {
			t.Errorf("remove %s: %v", p, err)
		}
	}
}

// reap waits for the processes that the daemon's leave behind, which are ours
// since Start asked for them.
func reap(t *testing.T) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); ; {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.ECHILD) {
			return
		}
		if time.Now().After(late) {
			t.Errorf("processes of the daemon go on: %v", err)
			return
		}
		if pid == 0 {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// Socket is the path of the daemon's socket.
func (d *Daemon) Socket() string { return strings.TrimPrefix(d.socket, "unix://") }

// Docker runs the client, and returns what it printed.
func (d *Daemon) Docker(ctx context.Context, args ...string) (string, error) {
	return d.Run(ctx, "docker", args...)
}

// Run runs a program with the daemon as the one to talk to.
func (d *Daemon) Run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.socket, "DOCKER_BUILDKIT=0")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// mountCgroups makes the machine's control groups visible in the test's own
// mounts, where /sys is a fresh one. Docker starts no container without.
func mountCgroups(t *testing.T) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	hierarchies := map[string]string{} // of version 1: directory to options
	for line := range strings.Lines(string(data)) {
		if _, rest, ok := strings.Cut(line, ":"); ok {
			controllers, _, _ := strings.Cut(rest, ":")
			if name, named := strings.CutPrefix(controllers, "name="); named {
				hierarchies[name] = "none," + controllers
			} else if controllers != "" {
				hierarchies[controllers] = controllers
			}
		}
	}
	if len(hierarchies) == 0 {
		if err := unix.Mount("cgroup2", root, "cgroup2", 0, ""); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := unix.Mount("tmpfs", root, "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	for name, options := range hierarchies {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("cgroup", dir, "cgroup", 0, options); err != nil {
			t.Fatalf("mount control group %s: %v", options, err)
		}
	}
}
