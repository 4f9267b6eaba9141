// Package lab_test holds the topologies of this directory to what the rest of
// the lab expects of them, and brings every one of them up.
package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// topologies lists the files by the name of their lab.
func topologies(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		out[strings.TrimSuffix(f, ".clab.yml")] = f
	}
	for _, name := range []string{"first", "branch", "fabric", "ot", "iot", "dc3tier"} {
		if out[name] == "" {
			t.Fatalf("there is no %s.clab.yml", name)
		}
	}
	return out
}

// TestContract checks what containerlab and the rehearsals rely on.
func TestContract(t *testing.T) {
	for name, file := range topologies(t) {
		t.Run(name, func(t *testing.T) {
			topo, err := clab.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := runner.Check(topo); err != nil {
				t.Fatal(err)
			}
			if topo.Name != name {
				t.Errorf("lab %s is in %s", topo.Name, file)
			}
			for _, l := range topo.Links {
				checkLink(t, topo, l)
			}
			for _, n := range topo.Nodes {
				if n.Kind == clab.KindLinux && (n.Image != "platelet-lab:latest" || n.NetworkMode != "none") {
					t.Errorf("%s: image %q, network mode %q: containerlab would need a registry or a management network", n.Name, n.Image, n.NetworkMode)
				}
			}
			for _, want := range []struct {
				key, value string
				least      int
			}{{"role", "attacker", 2}, {"role", "client", 2}, {"role", "gateway", 1}, {"app", "web", 1}, {"app", "dns", 1}} {
				if got := labelled(topo, want.key, want.value); len(got) < want.least {
					t.Errorf("labelled %s=%s are %q, a rehearsal needs %d", want.key, want.value, got, want.least)
				}
			}
		})
	}
}

func checkLink(t *testing.T, topo *clab.Topology, l clab.Link) {
	t.Helper()
	if l.MTU != 1500 {
		t.Errorf("%s: MTU %d", l.Path, l.MTU)
	}
	for _, e := range []clab.Endpoint{l.A, l.B} {
		n, _ := topo.Node(e.Node)
		if n.Kind != clab.KindLinux && (!strings.HasPrefix(e.Interface, topo.Name+"-") || len(e.Interface) > 15) {
			t.Errorf("%s: the switch's interface %q is not %s-… of at most 15 characters", l.Path, e.Interface, topo.Name)
		}
	}
}

func labelled(topo *clab.Topology, key, value string) []string {
	var out []string
	for _, n := range topo.Nodes {
		if n.Labels[key] == value {
			out = append(out, n.Name)
		}
	}
	return out
}

// TestUp brings the labs up one after the other: the victim and every other
// node reach each other, by both versions of IP.
func TestUp(t *testing.T) {
	for name, file := range topologies(t) {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			env := labtest.New(ctx, t, file)
			lab := env.Up(ctx, t)
			checkCast(t, lab, env.Topology)
			checkReach(t, ctx, lab, env.Topology)
			switch name {
			case "branch":
				checkRouted(t, ctx, lab)
			case "fabric":
				checkRedundancy(t, ctx, env, lab)
			}
		})
	}
}

// checkCast: attackers stand in the victim's subnet, and nobody lives where
// the rehearsals' sweeps look for live, dead and silent addresses.
func checkCast(t *testing.T, lab *runner.Lab, topo *clab.Topology) {
	t.Helper()
	victim, err := lab.Addr(lab.Select("app", "web")[0], "eth1")
	if err != nil {
		t.Fatal(err)
	}
	if victim.Bits() != 24 {
		t.Errorf("the victim's subnet is %s, sweeps go over a /24", victim.Masked())
	}
	for _, attacker := range lab.Select("role", "attacker") {
		if a, err := lab.Addr(attacker, "eth1"); err != nil || !victim.Contains(a.Addr()) {
			t.Errorf("attacker %s has %s, the victim %s: %v", attacker, a, victim, err)
		}
	}
	for _, n := range topo.Nodes {
		if n.Kind != clab.KindLinux {
			continue
		}
		for _, a := range addresses(t, lab, n.Name) {
			if !victim.Contains(a) {
				continue
			}
			if last := a.As4()[3]; last >= 40 && last < 240 || last == 250 {
				t.Errorf("%s has %s, where sweeps go", n.Name, a)
			}
		}
	}
}

// checkReach connects from every node to the victim, where something
// listens, and from there to every node, where nothing does: refusal came
// all the way back, too.
func checkReach(t *testing.T, ctx context.Context, lab *runner.Lab, topo *clab.Topology) {
	t.Helper()
	victim := lab.Select("app", "web")[0]
	to := addresses(t, lab, victim)
	for _, a := range to {
		listen(t, lab, victim, a)
	}
	var group errgroup.Group
	group.SetLimit(16)
	for _, n := range topo.Nodes {
		if n.Kind != clab.KindLinux || n.Name == victim {
			continue
		}
		back := addresses(t, lab, n.Name)
		if len(back) != 2 {
			t.Errorf("%s has the addresses %s", n.Name, back)
		}
		group.Go(func() error {
			for _, a := range to {
				if err := connect(ctx, lab, n.Name, a, 10*time.Second); err != nil {
					return err
				}
			}
			for _, a := range back {
				if err := connect(ctx, lab, victim, a, 10*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
					return fmt.Errorf("no answer: %w", err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// addresses are a node's global ones on its first interface.
func addresses(t *testing.T, lab *runner.Lab, node string) []netip.Addr {
	t.Helper()
	all, err := lab.Addrs(node, "eth1")
	if err != nil {
		t.Fatal(err)
	}
	var out []netip.Addr
	for _, a := range all {
		if a.Addr().IsGlobalUnicast() {
			out = append(out, a.Addr())
		}
	}
	return out
}

// listen accepts connections at port 80 of a node, until the test ends, and
// says hello.
func listen(t *testing.T, lab *runner.Lab, node string, addr netip.Addr) {
	t.Helper()
	var l net.Listener
	if err := lab.Do(node, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(addr, 80).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello"))
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); done.Wait() })
}

// connect makes a TCP connection from a node to port 80 of an address, and
// reads what is said there.
func connect(ctx context.Context, lab *runner.Lab, from string, to netip.Addr, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var c net.Conn
	err := lab.Do(from, func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", netip.AddrPortFrom(to, 80).String())
		return err
	})
	if err != nil {
		return fmt.Errorf("%s to %s: %w", from, to, err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%s to %s: %w", from, to, err)
	}
	var hello [5]byte
	if n, err := c.Read(hello[:]); string(hello[:n]) != "hello" {
		return fmt.Errorf("%s to %s: read %q: %w", from, to, hello[:n], err)
	}
	return nil
}

// checkRouted: users and servers reach the internet, and from the floor it is
// two routers away.
func checkRouted(t *testing.T, ctx context.Context, lab *runner.Lab) {
	t.Helper()
	for _, a := range addresses(t, lab, "cloud") {
		listen(t, lab, "cloud", a)
		for _, from := range []string{"pc1", "web", "stranger"} {
			if err := connect(ctx, lab, from, a, 10*time.Second); err != nil {
				t.Error(err)
			}
		}
	}
	short := net.Dialer{Timeout: 10 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, 2) })
		return errors.Join(err, failed)
	}}
	err := lab.Do("pc1", func() error {
		c, err := short.DialContext(ctx, "tcp", "198.51.100.80:80")
		if err == nil {
			c.Close()
		}
		return err
	})
	if !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("two hops reach the cloud: %v", err)
	}
}

// checkRedundancy cuts each uplink of a leaf in turn: one of them carries the
// traffic, and the other takes over.
func checkRedundancy(t *testing.T, ctx context.Context, env labtest.Env, lab *runner.Lab) {
	t.Helper()
	victim := addresses(t, lab, "web1")[0]
	checkTree(t, ctx, env)
	for _, uplink := range []string{"fabric-l2s1", "fabric-l2s2"} {
		spine, err := lab.HostSide("fabric-leaf2", uplink)
		if err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(spine)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		cut := time.Now()
		restored(t, ctx, lab, victim)
		t.Logf("%s cut: traffic again after %v", uplink, time.Since(cut).Round(time.Millisecond))
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
		restored(t, ctx, lab, victim)
	}
}

// restored waits until bad1 behind leaf 2 reaches the victim behind leaf 1.
func restored(t *testing.T, ctx context.Context, lab *runner.Lab, victim netip.Addr) {
	t.Helper()
	for {
		err := connect(ctx, lab, "bad1", victim, 250*time.Millisecond)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no way around the cut: %v", err)
		}
	}
}

// checkTree: of eight links between six switches five make a tree, so three
// ports must hold the others closed.
func checkTree(t *testing.T, ctx context.Context, env labtest.Env) {
	t.Helper()
	out, err := env.OVS.Ctl(ctx, "--format=csv", "--no-headings", "--columns=rstp_status", "list", "port")
	if err != nil {
		t.Fatal(err)
	}
	if closed := strings.Count(out, "Discarding"); closed != 3 {
		t.Errorf("%d ports are closed, not 3:\n%s", closed, out)
	}
}
