package controller

import (
	"context"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/metrics"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// A protected host's guard moves with it, within a switch and to another one:
// what stayed behind would be a way past containment.
func TestGuardFollowsItsHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patienceInside)
	defer cancel()
	dir, err := os.MkdirTemp("", "plg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sw, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sw.Stop(); err != nil {
			t.Error(err)
		}
	})
	log := logrus.New()
	log.SetOutput(io.Discard)
	f := newFleet(&Controller{log: log, metrics: metrics.New(func(metrics.Put) {})}, config.File{})
	for _, name := range []string{"plgA", "plgB"} {
		if err := sw.AddBridge(ctx, name, "netdev"); err != nil {
			t.Fatal(err)
		}
		if f.bridges[name], err = pipeline.New(pipeline.Config{Name: name, Target: "unix:" + sw.Mgmt(name), Log: log}); err != nil {
			t.Fatal(err)
		}
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	for name, b := range f.bridges {
		f.start(b)
		within(t, name+" to connect", b.Connected)
	}
	t.Cleanup(f.stop)

	protected := segmentation.NewProtected([]netip.Prefix{netip.MustParsePrefix("10.9.0.1/32")})
	host := topology.Host{Addr: netip.MustParseAddr("10.9.0.1"), MAC: flow.MAC{2}, Bound: true}
	for _, at := range []topology.PortID{{Switch: "plgA", Port: "plgA"}, {Switch: "plgB", Port: "plgB"}, {Switch: "plgA", Port: "plgA"}} {
		host.Port = at
		f.guardAll(ctx, protected, []topology.Host{host})
		for _, name := range []string{"plgA", "plgB"} {
			out, err := sw.Ofctl(ctx, "-O", "OpenFlow14", "dump-flows", sw.Mgmt(name), "table=200")
			if err != nil {
				t.Fatal(err)
			}
			if has := strings.Contains(out, "10.9.0.1"); has != (name == at.Switch) {
				t.Fatalf("host on %s, guard on %s: %v\n%s", at.Switch, name, has, out)
			}
		}
	}
}

// patienceInside is how long a test waits for what should take milliseconds.
const patienceInside = time.Minute

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patienceInside); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
