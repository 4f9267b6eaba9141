// Package ovstest gives tests an Open vSwitch of their own.
package ovstest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/vishvananda/netlink"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

// Deadline is how long a test waits for anything: generous, because the
// machine may be busy with others.
const Deadline = 30 * time.Second

// Start runs an instance until the test ends. The test's package has to run
// under ovs.Isolate.
func Start(t *testing.T) *ovs.Instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "pl") // t.TempDir is too long for a socket path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	i, err := ovs.Start(Context(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Errorf("stop Open vSwitch: %v", err)
		}
	})
	return i
}

// Context ends at the deadline of one step, or with the test.
func Context(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), Deadline)
	t.Cleanup(cancel)
	return ctx
}

// Ctl runs ovs-vsctl.
func Ctl(t *testing.T, i *ovs.Instance, args ...string) string {
	t.Helper()
	out, err := i.Ctl(Context(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// AddBridge adds a bridge on the userspace datapath.
func AddBridge(t *testing.T, i *ovs.Instance, name string) {
	t.Helper()
	if err := i.AddBridge(Context(t), name, "netdev"); err != nil {
		t.Fatal(err)
	}
}

// Run runs a client of an instance until the test, or stop, ends it.
func Run(t *testing.T, i *ovs.Instance) (c *ovsdb.Client, stop func()) {
	t.Helper()
	c, err := ovsdb.New(ovsdb.Config{Endpoint: i.DB, Log: Log(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

// Connected waits until a client has a connection.
func Connected(t *testing.T, c *ovsdb.Client) {
	t.Helper()
	Until(t, "a connection", func() bool { return c.Status().Connected })
}

// Log sends what is logged to the test's output.
func Log(t *testing.T) logrus.FieldLogger {
	log := logrus.New()
	log.SetOutput(t.Output())
	return log
}

// Until waits for a condition.
func Until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(Deadline)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain for %s", Deadline, what)
		}
		time.Sleep(time.Millisecond)
	}
}

// Name makes an interface or bridge name of at most 15 bytes; tag has at most
// ten. One test after the other uses it.
func Name(tag string) string { return "plo-" + tag }

// Veth makes a pair of interfaces and returns the name of the end for the
// bridge; the other has an x appended. Both are up.
func Veth(t *testing.T, tag string) string {
	t.Helper()
	name := Name(tag)
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "x"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
	t.Cleanup(func() { DelLink(name) })
	for _, end := range []string{name, name + "x"} {
		l, err := netlink.LinkByName(end)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatalf("set %s up: %v", end, err)
		}
	}
	return name
}

// Index is the kernel's index of an interface.
func Index(t *testing.T, name string) uint32 {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	return uint32(l.Attrs().Index)
}

// DelLink deletes an interface if it exists.
func DelLink(name string) {
	if l, err := netlink.LinkByName(name); err == nil {
		_ = netlink.LinkDel(l) // gone already is as good
	}
}
