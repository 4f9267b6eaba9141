package ovsdb_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/internal/ovstest"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/topology"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

func TestPublishesBridgesAndPorts(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br, other := ovstest.Name("b0"), ovstest.Name("b1")
	ovstest.AddBridge(t, i, br)
	ovstest.AddBridge(t, i, other)
	veth := ovstest.Veth(t, "v0")
	ovstest.Ctl(t, i, "add-port", br, veth, "--", "set", "interface", veth, "external_ids:app=web", "external_ids:env=prod",
		"--", "add-port", br, "ptch0", "--", "set", "interface", "ptch0", "type=patch", "options:peer=ptch1",
		"--", "add-port", other, "ptch1", "--", "set", "interface", "ptch1", "type=patch", "options:peer=ptch0",
		"--", "add-port", br, "tun0", "--", "set", "interface", "tun0", "type=vxlan", "options:remote_ip=192.0.2.1",
		"--", "set-controller", other, "ptcp:0:127.0.0.1")

	index := ovstest.Index(t, veth)
	ovstest.Until(t, "the complete topology", func() bool {
		sw := c.Switches()[br]
		p := sw.Ports[veth]
		return len(sw.DatapathID) == 16 && p.OFPort != 0 && p.IfIndex == index && p.LinkUp && p.MAC != (flow.MAC{}) &&
			sw.Ports["ptch0"].OFPort != 0 && sw.Ports["tun0"].OFPort != 0 && sw.Ports[br].OFPort != 0 && len(c.Switches()[other].Controllers) == 1
	})
	sw := c.Switches()[br]
	if sw.Datapath != "netdev" || sw.OVN || !flow.IsTapDomain(sw.TapDomain) {
		t.Errorf("switch: %+v", sw)
	}
	if d := c.Switches()[other].TapDomain; d == sw.TapDomain || !flow.IsTapDomain(d) {
		t.Errorf("tap domains %x and %x", sw.TapDomain, d)
	}
	want := map[string]topology.PortType{veth: topology.PortEdge, "ptch0": topology.PortLink, "tun0": topology.PortLink, br: topology.PortLocal}
	for name, kind := range want {
		if p := sw.Ports[name]; p.Type != kind || p.ID != (topology.PortID{Switch: br, Port: name}) {
			t.Errorf("port %s: %+v, want type %d", name, p, kind)
		}
	}
	if l := sw.Ports[veth].Labels; l["app"] != "web" || l["env"] != "prod" {
		t.Errorf("labels: %v", l)
	}
	if sw.Ports["ptch0"].Peer != "ptch1" {
		t.Errorf("peer: %q", sw.Ports["ptch0"].Peer)
	}
	if got := c.Mgmt(br); got != i.Mgmt(br) {
		t.Errorf("management socket %s, want %s", got, i.Mgmt(br))
	}
	if _, err := os.Stat(c.Mgmt(br)); err != nil {
		t.Error(err)
	}
}

// A veth that is re-created comes back with another interface index, and an
// operator's "delete the stale port, add again" gives it another OpenFlow port.
func TestFollowsRecreatedInterface(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br := ovstest.Name("b0")
	ovstest.AddBridge(t, i, br)
	veth := ovstest.Veth(t, "v0")
	ovstest.Ctl(t, i, "add-port", br, veth, "--", "set", "interface", veth, "ofport_request=7")
	first := ovstest.Index(t, veth)
	ovstest.Until(t, "the port", func() bool {
		p := c.Switches()[br].Ports[veth]
		return p.IfIndex == first && p.OFPort == 7
	})
	ovstest.DelLink(veth)
	ovstest.Until(t, "the link to go down", func() bool { return !c.Switches()[br].Ports[veth].LinkUp })

	ovstest.Veth(t, "v0")
	second := ovstest.Index(t, veth)
	if first == second {
		t.Fatalf("the kernel reused interface index %d", first)
	}
	ovstest.Ctl(t, i, "del-port", br, veth)
	ovstest.Ctl(t, i, "add-port", br, veth, "--", "set", "interface", veth, "ofport_request=9")
	ovstest.Until(t, "the new port", func() bool {
		p := c.Switches()[br].Ports[veth]
		return p.IfIndex == second && p.OFPort == 9 && p.LinkUp
	})
}

func TestMarksTheBridgeOfOVN(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br, other := ovstest.Name("b0"), ovstest.Name("b1")
	ovstest.AddBridge(t, i, br)
	ovstest.AddBridge(t, i, other)
	ovstest.Ctl(t, i, "set", "open", ".", "external_ids:ovn-bridge="+br)
	ovstest.Until(t, "two bridges", func() bool { return len(c.Switches()) == 2 })
	if c.Switches()[br].OVN {
		t.Error("OVN owns a bridge without ovn-remote")
	}
	ovstest.Ctl(t, i, "set", "open", ".", "external_ids:ovn-remote=unix:/nowhere", "external_ids:ovn-bridge-datapath-type="+other)
	ovstest.Until(t, "the mark of OVN", func() bool { return c.Switches()[br].OVN })
	if c.Switches()[other].OVN {
		t.Error("OVN owns the other bridge, too")
	}
	// One of several chassis on the host names its bridge under its own key.
	ovstest.Ctl(t, i, "set", "open", ".", "external_ids:ovn-bridge-hv2="+other)
	ovstest.Until(t, "the mark of the second chassis", func() bool { return c.Switches()[other].OVN })
}

func TestMissingDatabaseIsRetried(t *testing.T) {
	i := ovstest.Start(t)
	if err := i.KillDB(); err != nil {
		t.Fatal(err)
	}
	c, _ := ovstest.Run(t, i)
	ovstest.Until(t, "a failed attempt", func() bool { return c.Status().LastError != "" })
	s := c.Status()
	if s.Connected || s.Reconnects != 0 || s.Since.IsZero() || s.Endpoint != i.DB {
		t.Errorf("status without a database: %+v", s)
	}
	if _, err := c.Tables(); !errors.Is(err, ovsdb.ErrNotConnected) {
		t.Errorf("Tables: %v", err)
	}
	if _, err := c.Commit(t.Context()); !errors.Is(err, ovsdb.ErrNotConnected) {
		t.Errorf("Commit: %v", err)
	}
	if err := i.StartDB(ovstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	ovstest.Connected(t, c)
}

// What changes while the database is away, or while we are, is seen on
// reconnect, deletions included, and the old topology stays in force meanwhile.
func TestReconnectSeesWhatChangedMeanwhile(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	gone, stays, fresh := ovstest.Name("b0"), ovstest.Name("b1"), ovstest.Name("b2")
	ovstest.AddBridge(t, i, gone)
	ovstest.AddBridge(t, i, stays)
	ovstest.Until(t, "two bridges", func() bool { return len(c.Switches()) == 2 })
	var mu sync.Mutex
	var seen []int
	c.OnTopology(func(s map[string]topology.Switch) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, len(s))
	})
	if err := i.KillDB(); err != nil {
		t.Fatal(err)
	}
	ovstest.Until(t, "the loss", func() bool { return !c.Status().Connected })
	if len(c.Switches()) != 2 {
		t.Error("the topology vanished with the database")
	}
	if err := i.StartDB(ovstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	ovstest.Ctl(t, i, "--no-wait", "del-br", gone, "--", "add-br", fresh, "--", "set", "bridge", fresh, "datapath_type=netdev")
	ovstest.Until(t, "the changes", func() bool {
		s := c.Switches()
		_, a := s[gone]
		_, b := s[stays]
		_, d := s[fresh]
		return !a && b && d
	})
	if s := c.Status(); !s.Connected || s.Reconnects == 0 || s.LastError == "" {
		t.Errorf("status after the reconnect: %+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, n := range seen {
		if n == 0 {
			t.Errorf("an empty topology was published: %v", seen)
		}
	}
}

func TestRemoteDatabase(t *testing.T) {
	i := ovstest.Start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	ovstest.Ctl(t, i, "--no-wait", "set-manager", "ptcp:"+port+":"+host)
	remote := *i
	remote.DB = "tcp:" + net.JoinHostPort(host, port)
	c, _ := ovstest.Run(t, &remote)
	ovstest.Connected(t, c)
}

// Neither failed attempts nor lost connections leave anything running.
func TestSessionsEndCompletely(t *testing.T) {
	i := ovstest.Start(t)
	before := runtime.NumGoroutine()
	c, stop := ovstest.Run(t, i)
	for range 3 {
		ovstest.Connected(t, c)
		if err := i.KillDB(); err != nil {
			t.Fatal(err)
		}
		ovstest.Until(t, "the loss", func() bool { return !c.Status().Connected })
		if err := i.StartDB(ovstest.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	ovstest.Connected(t, c)
	stop()
	if c.Status().Connected {
		t.Error("connected after the end")
	}
	ovstest.Until(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestCommitReportsWhy(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br := ovstest.Name("b0")
	ovstest.AddBridge(t, i, br)
	ovstest.Until(t, "the bridge", func() bool { return c.Switches()[br].DatapathID != "" })
	db, err := c.DB()
	if err != nil {
		t.Fatal(err)
	}
	ops, err := db.Create(&ovsdb.FlowSampleCollectorSet{UUID: "s", ID: -1, Bridge: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Commit(ovstest.Context(t), ops...); err == nil || errors.Is(err, ovsdb.ErrChanged) {
		t.Errorf("impossible row: %v", err)
	}
	// A switch that is away cannot confirm; the commit stands all the same.
	if err := i.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.CommitApplied(ctx); !errors.Is(err, ovsdb.ErrNotApplied) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a switch: %v", err)
	}
	if err := i.StartSwitch(ovstest.Context(t)); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitApplied(ovstest.Context(t)); err != nil {
		t.Error(err)
	}
}

func TestBridgeRecreated(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br := ovstest.Name("b0")
	ovstest.AddBridge(t, i, br)
	ovstest.Until(t, "the bridge", func() bool { return c.Switches()[br].DatapathID != "" })
	domain := c.Switches()[br].TapDomain
	ovstest.Ctl(t, i, "del-br", br)
	ovstest.Until(t, "the end of the bridge", func() bool { _, ok := c.Switches()[br]; return !ok })
	ovstest.AddBridge(t, i, br)
	ovstest.Until(t, "the new bridge", func() bool { return c.Switches()[br].DatapathID != "" })
	if got := c.Switches()[br].TapDomain; got != domain {
		t.Errorf("tap domain %x after re-creation, %x before", got, domain)
	}
}

// Callbacks are in order and see the end state; a burst of changes is
// coalesced, and a new port is there quickly.
func TestNewPortLatencyAndCoalescing(t *testing.T) {
	i := ovstest.Start(t)
	c, _ := ovstest.Run(t, i)
	br := ovstest.Name("b0")
	ovstest.AddBridge(t, i, br)
	ovstest.Until(t, "the bridge", func() bool { return c.Switches()[br].DatapathID != "" })
	changes := make(chan map[string]topology.Switch, 1024)
	c.OnTopology(func(s map[string]topology.Switch) { changes <- s })
	const n = 16
	var usable []time.Duration
	for k := range n {
		veth := ovstest.Veth(t, fmt.Sprintf("v%d", k))
		began := time.Now()
		ovstest.Ctl(t, i, "--no-wait", "add-port", br, veth)
		written := time.Since(began)
		for p := (topology.Port{}); p.OFPort == 0 || p.IfIndex == 0; {
			select {
			case s := <-changes:
				p = s[br].Ports[veth]
			case <-time.After(ovstest.Deadline):
				t.Fatalf("port %s was not published", veth)
			}
		}
		usable = append(usable, time.Since(began)-written)
	}
	t.Logf("usable after ovs-vsctl returned: %v", usable)

	for len(changes) > 0 {
		<-changes
	}
	args := []string{"--no-wait"}
	const burst = 50
	for k := range burst {
		ovstest.Ctl(t, i, "--no-wait", "set", "bridge", br, fmt.Sprintf("external_ids:n=%d", k))
		port := ovstest.Name(fmt.Sprintf("i%d", k))
		args = append(args, "--", "add-port", br, port, "--", "set", "interface", port, "type=internal")
	}
	if len(changes) > 0 {
		t.Error("a column that is no part of the topology was published")
	}
	ovstest.Ctl(t, i, args...)
	ovstest.Until(t, "all ports", func() bool {
		ready := 0
		for _, p := range c.Switches()[br].Ports {
			if p.OFPort != 0 && p.IfIndex != 0 {
				ready++
			}
		}
		return ready == n+burst+1
	})
	if got := len(changes); got > burst {
		t.Errorf("%d callbacks for %d ports", got, burst)
	} else {
		t.Logf("%d callbacks for %d ports", got, burst)
	}
}

func TestRejectsEndpoints(t *testing.T) {
	for _, endpoint := range []string{"unix:db.sock", "unix:", "tcp:", "ssl:", "http://127.0.0.1", "/var/run/db.sock", "%"} {
		if _, err := ovsdb.New(ovsdb.Config{Endpoint: endpoint, Log: logrus.New()}); err == nil {
			t.Errorf("%q was accepted", endpoint)
		}
	}
	c, err := ovsdb.New(ovsdb.Config{Log: logrus.New()})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Mgmt("br0"), filepath.Dir(strings.TrimPrefix(ovsdb.DefaultEndpoint, "unix:"))+"/br0.mgmt"; got != want {
		t.Errorf("management socket %s, want %s", got, want)
	}
}
