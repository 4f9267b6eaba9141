// Package image_test builds the lab's image with a real Docker daemon, without
// any registry, and furnishes containers from it as containerlab does.
package image_test

import (
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

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/dockertest"
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
	d := dockertest.Start(t, ctx)
	if out, err := d.Run(ctx, "sh", "build.sh", binary, tag); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	if out, err := d.Run(ctx, "sh", "build.sh", "/bin/sh"); err == nil || !strings.Contains(out, "is not static") {
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
		pids[name] = start(t, ctx, d, name)
	}
	wire(t, pids["h1"], pids["h3"])
	for name := range pids {
		n, _ := topo.Node(name)
		for _, line := range append(n.Exec, "sysctl -w net.ipv4.ip_forward=1", "ip link set dev eth1 mtu 1400", "ip addr show dev eth1") {
			words, err := shlex.Split(line)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := d.Docker(ctx, append([]string{"exec", name}, words...)...); err != nil {
				t.Errorf("%s: %s: %v: %s", name, line, err, out)
			}
		}
	}
	for _, to := range []string{"10.77.0.11", "fd77::11"} {
		if err := reach(ctx, pids["h3"], to); err != nil {
			t.Error(err)
		}
	}
	if out, err := d.Docker(ctx, "exec", "h1", "ip", "rule", "add", "x"); err == nil || !strings.Contains(out, `object "rule" is not supported`) {
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
func checkSize(t *testing.T, ctx context.Context, d *dockertest.Daemon, binary string) {
	t.Helper()
	out, err := d.Docker(ctx, "image", "inspect", "--format", "{{.Size}}", tag)
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
func checkIdle(t *testing.T, ctx context.Context, d *dockertest.Daemon) {
	t.Helper()
	start := time.Now()
	if out, err := d.Docker(ctx, "stop", "--time", "30", "h1", "h3"); err != nil {
		t.Fatal(out, err)
	}
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the nodes had to be killed, after %v", took)
	}
	out, err := d.Docker(ctx, "inspect", "--format", "{{.State.ExitCode}}", "h1", "h3")
	if err != nil || strings.Join(strings.Fields(out), " ") != "0 0" {
		t.Errorf("exit codes %q, %v", out, err)
	}
}

// start starts a node without a network, as containerlab does, and returns the
// number of its process. It gets of a privileged container's rights those that
// exec lines need, because not every machine can grant all of them.
func start(t *testing.T, ctx context.Context, d *dockertest.Daemon, name string) int {
	t.Helper()
	if out, err := d.Docker(ctx, "run", "--detach", "--name", name, "--network", "none", "--cap-add", "NET_ADMIN",
		"--security-opt", "systempaths=unconfined", "--sysctl", "net.ipv6.conf.all.disable_ipv6=0", tag); err != nil {
		t.Fatalf("docker run: %v: %s", err, out)
	}
	out, err := d.Docker(ctx, "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", name)
	var running bool
	var pid int
	if _, scanErr := fmt.Sscan(out, &running, &pid); err != nil || scanErr != nil || !running {
		logs, _ := d.Docker(ctx, "logs", name)
		t.Fatalf("%s does not run: %q, %v: %s", name, out, err, logs)
	}
	return pid
}
