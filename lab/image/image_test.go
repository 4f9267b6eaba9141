// Package image_test builds the lab's image with a real Docker daemon, without
// any registry, and furnishes containers from it as containerlab does.
package image_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/shlex"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

const tag = "platelet-lab:latest"

// TestImage builds the image, runs two nodes of a topology from it, wires them
// up as containerlab would, and runs their exec lines by docker exec.
func TestImage(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	binary := build(t, ctx)
	d := startDocker(t, ctx)
	if out, err := d.run(ctx, "sh", "build.sh", binary, tag); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	if out, err := d.run(ctx, "sh", "build.sh", "/bin/sh"); err == nil || !strings.Contains(out, "is not static") {
		t.Errorf("a binary that needs libraries: %v: %s", err, out)
	}
	checkSize(t, ctx, d, binary)
	topo, err := clab.Load("../first.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	pids := map[string]int{}
	for _, name := range []string{"h1", "h3"} {
		n, _ := topo.Node(name)
		if n.Image != tag {
			t.Fatalf("%s runs from %q", name, n.Image)
		}
		pids[name] = d.start(t, ctx, name)
	}
	wire(t, pids["h1"], pids["h3"])
	for name := range pids {
		n, _ := topo.Node(name)
		for _, line := range append(n.Exec, "sysctl -w net.ipv4.ip_forward=1", "ip link set dev eth1 mtu 1400", "ip addr show dev eth1") {
			words, err := shlex.Split(line)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := d.docker(ctx, append([]string{"exec", name}, words...)...); err != nil {
				t.Errorf("%s: %s: %v: %s", name, line, err, out)
			}
		}
	}
	for _, to := range []string{"10.77.0.11", "fd77::11"} {
		if err := reach(ctx, pids["h3"], to); err != nil {
			t.Error(err)
		}
	}
	if out, err := d.docker(ctx, "exec", "h1", "ip", "rule", "add", "x"); err == nil || !strings.Contains(out, `object "rule" is not supported`) {
		t.Errorf("what ip cannot do here: %v: %s", err, out)
	}
	checkIdle(t, ctx, d)
}

// build makes the binary as the Makefile does.
func build(t *testing.T, ctx context.Context) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "platelet")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../controller/cmd/platelet")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// checkSize: the image holds the binary once.
func checkSize(t *testing.T, ctx context.Context, d *daemon, binary string) {
	t.Helper()
	out, err := d.docker(ctx, "image", "inspect", "--format", "{{.Size}}", tag)
	if err != nil {
		t.Fatal(out, err)
	}
	size, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if size < info.Size() || size > info.Size()+1<<20 {
		t.Errorf("the image has %d bytes, the binary %d", size, info.Size())
	}
	t.Logf("image of %.1f MB", float64(size)/1e6)
}

// wire puts a veth pair between two containers, under the names that
// containerlab gives the ends.
func wire(t *testing.T, a, b int) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Namespace = "eth1", 1500, netlink.NsPid(a)
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth1", PeerNamespace: netlink.NsPid(b)}); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{a, b} {
		if err := inside(pid, func() error {
			l, err := netlink.LinkByName("eth1")
			if err != nil {
				return err
			}
			return netlink.LinkSetUp(l)
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// reach connects to a port where nobody listens: the refusal came all the way
// back.
func reach(ctx context.Context, pid int, to string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := inside(pid, func() error {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(to, "9"))
		if err == nil {
			c.Close()
		}
		return err
	})
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%s does not answer: %w", to, err)
	}
	return nil
}

// inside runs f on a thread in the network namespace of a process. The thread
// ends with it.
func inside(pid int, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		ns, err := netns.GetFromPid(pid)
		if err == nil {
			err = netns.Set(ns)
			ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// checkIdle: a node's own program, which is the first process of its
// container, waits, and ends by itself when it is asked to.
func checkIdle(t *testing.T, ctx context.Context, d *daemon) {
	t.Helper()
	start := time.Now()
	if out, err := d.docker(ctx, "stop", "--time", "30", "h1", "h3"); err != nil {
		t.Fatal(out, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the nodes had to be killed, after %v", took)
	}
	out, err := d.docker(ctx, "inspect", "--format", "{{.State.ExitCode}}", "h1", "h3")
	if err != nil || strings.Join(strings.Fields(out), " ") != "0 0" {
		t.Errorf("exit codes %q, %v", out, err)
	}
}

// daemon is a Docker daemon of the test's own.
type daemon struct {
	dir    string
	socket string
}

// startDocker starts a daemon without networks in the test's namespaces.
func startDocker(t *testing.T, ctx context.Context) *daemon {
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
	d := &daemon{dir, "unix://" + filepath.Join(dir, "docker.sock")}
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
		out, err := d.docker(ctx, "version")
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
func (d *daemon) stop(t *testing.T, cmd *exec.Cmd, ended chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if out, err := d.docker(ctx, "ps", "--all", "--quiet"); err == nil && out != "" {
		if out, err := d.docker(ctx, append([]string{"rm", "--force"}, strings.Fields(out)...)...); err != nil {
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
// since startDocker asked for them.
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

// start starts a node without a network, as containerlab does, and returns the
// number of its process. It gets of a privileged container's rights those that
// exec lines need, because not every machine can grant all of them.
func (d *daemon) start(t *testing.T, ctx context.Context, name string) int {
	t.Helper()
	if out, err := d.docker(ctx, "run", "--detach", "--name", name, "--network", "none", "--cap-add", "NET_ADMIN",
		"--security-opt", "systempaths=unconfined", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0", tag); err != nil {
		t.Fatalf("docker run: %v: %s", err, out)
	}
	out, err := d.docker(ctx, "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", name)
	var running bool
	var pid int
	if _, scanErr := fmt.Sscan(out, &running, &pid); err != nil || scanErr != nil || !running {
		logs, _ := d.docker(ctx, "logs", name)
		t.Fatalf("%s does not run: %q, %v: %s", name, out, err, logs)
	}
	return pid
}

func (d *daemon) docker(ctx context.Context, args ...string) (string, error) {
	return d.run(ctx, "docker", args...)
}

func (d *daemon) run(ctx context.Context, program string, args ...string) (string, error) {
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
