package agent_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// hereVar makes this test program a process that tries to stand where it is:
// it holds the state directory, the interface and further subnets.
const hereVar = "PLATELET_TEST_HERE"

func tryHere() int {
	words := strings.Fields(os.Getenv(hereVar))
	var further []netip.Prefix
	for _, w := range words[2:] {
		further = append(further, netip.MustParsePrefix(w))
	}
	s, err := agent.Here(words[1], further, runner.Options{StateDir: words[0]})
	if err != nil {
		fmt.Println("refused:", err)
		return 0
	}
	fmt.Println("stands:", s.Node, s.Iface, "fence", s.Fence)
	return 0
}

// stand runs this program with a command in front, such as unshare.
func stand(t *testing.T, cmd *exec.Cmd, here string, env ...string) string {
	t.Helper()
	cmd.Env = append(append(os.Environ(), hereVar+"="+here), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestHereIsInsideALab tries to stand everywhere.
func TestHereIsInsideALab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	dir := env.Options.StateDir
	stranger := "plstranger" + lab.Name()
	if err := namespace.Create(stranger); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespace.Delete(stranger); err != nil {
			t.Error(err)
		}
	})
	inside := func(name string) *exec.Cmd { return exec.CommandContext(ctx, "ip", "netns", "exec", name, self(t)) }
	own := "clab-" + lab.Name() + "-h5"
	container := "CLAB_LABEL_CONTAINERLAB=first"
	for _, c := range []struct {
		name string
		cmd  *exec.Cmd
		here string
		env  []string
		want string
	}{
		{"in a node", inside(own), dir + " eth1", nil, "stands: h5 eth1 fence 10.77.0.0/24, fd77::/64"},
		{"in a node, at the management interface", inside(own), dir + " eth0", nil, "is for management"},
		{"in a node, at loopback", inside(own), dir + " lo", nil, "no interface on a lab's links"},
		{"in a node, at an interface that it has not", inside(own), dir + " eth2", nil, "has no eth2 at h5 (it has eth1)"},
		{"in a node, with a wider fence", inside(own), dir + " eth1 10.0.0.0/8", nil, "it has all its subnets already"},
		{"in a node, but nothing is recorded", inside(own), filepath.Join(dir, "none") + " eth1", nil, "was made by none of the recorded labs (there are none)"},
		{"in somebody else's namespace", inside(stranger), dir + " eth1", nil, "was made by none of the recorded labs (" + lab.Name() + ")"},
		{"in none", exec.CommandContext(ctx, self(t)), dir + " eth1", nil, "this is no container of containerlab's either"},
		{"in none, as a container", exec.CommandContext(ctx, self(t)), dir + " eth1", []string{container}, "but this is no container"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := stand(t, c.cmd, c.here, c.env...); !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant %q", got, c.want)
			}
		})
	}
}

// TestHereInAContainer furnishes what containerlab's containers look like
// from inside: processes and a network of their own, the first process this
// program.
func TestHereInAContainer(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	mark := "CLAB_LABEL_CONTAINERLAB=first"
	const wire = "ip link add eth1 type veth peer name far && ip addr add 10.99.0.5/24 dev eth1 && ip link set eth1 up && "
	for _, c := range []struct {
		name, script, here string
		want               string
	}{
		// exec keeps the number 1 of the shell.
		{"as first process", wire + "export " + mark + "; exec " + self(t), dir + " eth1 192.168.7.0/24 fd00::/64", "eth1 fence 192.168.7.0/24, fd00::/64, 10.99.0.0/24"},
		{"a public subnet", wire + "export " + mark + "; exec " + self(t), dir + " eth1 9.9.9.0/24", "the internet routes 9.9.9.0/24"},
		{"a range wider than a private one", wire + "export " + mark + "; exec " + self(t), dir + " eth1 192.0.0.0/8", "the internet routes 192.0.0.0/8"},
		{"without containerlab's mark", wire + "exec " + self(t), dir + " eth1", "CLAB_LABEL_CONTAINERLAB is not set"},
		{"another first process", wire + "export " + mark + "; " + self(t) + "; true", dir + " eth1", "not for the container's first process"},
		{"another image", "export " + mark + "; exec sh -c '" + wire + self(t) + "; true'", dir + " eth1", "another exe than this program"},
		{"without addresses", "ip link add eth1 type veth peer name far && export " + mark + "; exec " + self(t), dir + " eth1", "has no subnet to stay in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.CommandContext(ctx, "unshare", "--pid", "--net", "--mount-proc", "--fork", "sh", "-c", c.script)
			if got := stand(t, cmd, c.here); !strings.Contains(got, c.want) {
				t.Errorf("%s\nwant %q", got, c.want)
			}
		})
	}
}

// TestTheMachineIsNoLab tries to stand in the network that the kernel started
// with, where these tests were started from.
func TestTheMachineIsNoLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	outside := fmt.Sprintf("/proc/%d/ns/net", os.Getppid()) // the process that isolated us
	own, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if there, err := os.Readlink(outside); err != nil || there == own {
		t.Fatalf("the starter's network is %s, %v; ours is %s", there, err, own)
	}
	initial := exec.CommandContext(ctx, "nsenter", "--net="+outside, "test", "-e", "/proc/sys/net/core/netdev_budget").Run() == nil
	got := stand(t, exec.CommandContext(ctx, "nsenter", "--net="+outside, self(t)), t.TempDir()+" eth1", "CLAB_LABEL_CONTAINERLAB=first")
	want := "this is the machine's own network"
	if !initial {
		// These tests run in a container, or in somebody's namespace.
		want = "was made by none of the recorded labs"
	}
	if !strings.Contains(got, want) {
		t.Errorf("%s\nwant %q", got, want)
	}
}
