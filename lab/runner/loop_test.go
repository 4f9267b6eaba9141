package runner_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
	"golang.org/x/sys/unix"
)

// fabric is two spines and three leaves, every leaf linked to both.
const fabric = `
name: loop
topology:
  nodes:
    plsp1: {kind: ovs-bridge}
    plsp2: {kind: ovs-bridge}
    pllf1: {kind: ovs-bridge}
    pllf2: {kind: ovs-bridge}
    pllf3: {kind: ovs-bridge}
    pledge: {kind: ovs-bridge}
    h1: {kind: linux, network-mode: none, exec: [ip addr add 10.79.0.1/24 dev eth1]}
    h2: {kind: linux, network-mode: none, exec: [ip addr add 10.79.0.2/24 dev eth1, ping -c 1 -W 5 10.79.0.1]}
  links:
  - endpoints: [plsp1:s1l1, pllf1:l1s1]
  - endpoints: [plsp1:s1l2, pllf2:l2s1]
  - endpoints: [plsp1:s1l3, pllf3:l3s1]
  - endpoints: [plsp2:s2l1, pllf1:l1s2]
  - endpoints: [plsp2:s2l2, pllf2:l2s2]
  - endpoints: [plsp2:s2l3, pllf3:l3s2]
  - endpoints: [pllf3:l3e, pledge:el3]
  - endpoints: [h1:eth1, pllf1:l1h1]
  - endpoints: [h2:eth1, pledge:eh2]
`

func parse(t *testing.T, text string) *clab.Topology {
	t.Helper()
	topo, err := clab.Parse("t.yml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func TestLoopsAreBroken(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "loop")
	start := time.Now()
	lab, err := runner.Up(ctx, parse(t, fabric), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	t.Logf("up in %v", time.Since(start))
	for node, want := range map[string]string{"plsp1": "true", "pllf2": "true", "pledge": "false"} {
		bridge, err := lab.Bridge(node)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.ovs.Ctl(ctx, "get", "bridge", bridge, "rstp_enable"); err != nil || got != want {
			t.Errorf("rstp_enable of %s is %q, %v; want %s", node, got, err, want)
		}
	}
	checkOnce(t, ctx, lab, "h1", "h2")
}

// TestMixedLoop: a bridge of the kernel's and one of Open vSwitch with two
// links between them.
func TestMixedLoop(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "mixed")
	lab, err := runner.Up(ctx, parse(t, `
name: mixed
topology:
  nodes:
    plmxo: {kind: ovs-bridge}
    plmxk: {kind: bridge}
    h1: {kind: linux, network-mode: none}
    h2: {kind: linux, network-mode: none}
  links:
  - endpoints: [plmxo:mxo1, plmxk:mxk1]
  - endpoints: [plmxo:mxo2, plmxk:mxk2]
  - endpoints: [h1:eth1, plmxo:mxh1]
  - endpoints: [h2:eth1, plmxk:mxh2]
`), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	checkOnce(t, ctx, lab, "h1", "h2")
}

// checkOnce sends broadcasts from one node and counts how often each arrives
// at another: in a loop they would never end.
func checkOnce(t *testing.T, ctx context.Context, lab *runner.Lab, from, to string) {
	t.Helper()
	const kind = 0x88b5 // an EtherType for experiments, IEEE 802
	open := func(node string) (fd, index int) {
		if err := lab.Do(node, func() error {
			i, err := net.InterfaceByName("eth1")
			if err != nil {
				return err
			}
			proto := int(kind>>8 | kind&0xff<<8)
			fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, proto)
			index = i.Index
			return err
		}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd, index
	}
	out, index := open(from)
	in, _ := open(to)
	if err := unix.SetsockoptTimeval(in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	for i := range byte(30) {
		frame := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, kind >> 8, kind & 0xff, i}, make([]byte, 45)...)
		if err := unix.Sendto(out, frame, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
			t.Fatal(err)
		}
		n, _, err := unix.Recvfrom(in, buf, 0)
		for errors.Is(err, unix.EINTR) { // not restarted by the kernel where there is a timeout
			n, _, err = unix.Recvfrom(in, buf, 0)
		}
		if err != nil || n < 15 || buf[14] != i {
			t.Fatalf("waited for broadcast %d, got %d, %d bytes, %v (a copy, or nothing at all)", i, buf[14], n, err)
		}
	}
}

// TestForeignLoopIsRefused: bridges of the user's are left as they are, so a
// loop of them must be guarded already.
func TestForeignLoopIsRefused(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "floop")
	topo := parse(t, "name: floop\ntopology:\n  nodes: {plfl1: {kind: ovs-bridge}, plfl2: {kind: ovs-bridge}}\n  links:\n  - endpoints: [plfl1:fl1, plfl2:fl2]\n  - endpoints: [plfl1:fl3, plfl2:fl4]\n")
	for _, b := range []string{"plfl1", "plfl2"} {
		if err := e.ovs.AddBridge(ctx, b, "netdev"); err != nil {
			t.Fatal(err)
		}
	}
	e.options.Name = ""
	_, err := runner.Up(ctx, topo, e.options)
	if err == nil || !strings.Contains(err.Error(), "bridge plfl1 of node plfl1 stands in a loop") || !strings.Contains(err.Error(), "bridge plfl2 of node plfl2") {
		t.Fatalf("got %v", err)
	}
	if _, err := net.InterfaceByName("fl1"); err == nil {
		t.Error("a link was made")
	}
}
