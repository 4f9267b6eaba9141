package controller

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/metrics"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// pipe passes a switch's connections on until it is closed off: then it takes
// what comes and gives nothing, like a switch that hangs.
type pipe struct {
	l    net.Listener
	to   string
	shut chan struct{}
}

func newPipe(t *testing.T, at, to string) *pipe {
	t.Helper()
	l, err := net.Listen("unix", at)
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{l: l, to: to, shut: make(chan struct{})}
	var running sync.WaitGroup
	t.Cleanup(func() { l.Close(); running.Wait() })
	running.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", to)
			if err != nil {
				in.Close()
				continue
			}
			running.Go(func() { p.pass(out, in) })
			running.Go(func() { p.pass(in, out) })
		}
	})
	return p
}

func (p *pipe) pass(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		select {
		case <-p.shut:
			continue
		default:
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// noStore forgets: what is written down is not what this is about.
type noStore struct{}

func (noStore) Put(context.Context, string, []byte) error      { return nil }
func (noStore) Delete(context.Context, string) error           { return nil }
func (noStore) All(context.Context) (map[string][]byte, error) { return nil, nil }

type fixedPlace struct{ s *topology.Snapshot }

func (p fixedPlace) Snapshot() *topology.Snapshot { return p.s }

// Of two real switches one hangs while a host on each attacks: the other's
// containment is in force before the hung one's deadline.
func TestHungSwitchDelaysNoOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patienceInside)
	defer cancel()
	dir, err := os.MkdirTemp("", "plh")
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
	switches := map[string]topology.Switch{}
	targets := map[string]string{"plhA": filepath.Join(dir, "hangs"), "plhB": ""}
	var hangs *pipe
	for i, name := range []string{"plhA", "plhB"} {
		if err := sw.AddBridge(ctx, name, "netdev"); err != nil {
			t.Fatal(err)
		}
		target := sw.Mgmt(name)
		if at := targets[name]; at != "" {
			hangs, target = newPipe(t, at, target), at
		}
		if f.bridges[name], err = pipeline.New(pipeline.Config{Name: name, Target: "unix:" + target, Log: log}); err != nil {
			t.Fatal(err)
		}
		id := topology.PortID{Switch: name, Port: name}
		switches[name] = topology.Switch{Name: name, Ports: map[string]topology.Port{name: {ID: id, IfIndex: uint32(i + 1), OFPort: 65534}}}
	}
	f.ctx, f.cancel = context.WithCancel(ctx)
	for name, b := range f.bridges {
		f.start(b)
		within(t, name+" to connect", b.Connected)
	}
	t.Cleanup(f.stop)

	cfg := response.DefaultConfig()
	cfg.Mode = response.ModeAutonomous
	cfg.Protected = segmentation.NewProtected(nil)
	changes := make(chan response.Decision, 1024)
	m := response.New(cfg, f, fixedPlace{topology.NewSnapshot(switches)}, noStore{}, response.NewWatch(), log, func(d response.Decision) {
		if d.State != response.StateProposed {
			changes <- d
		}
	})
	ended := make(chan struct{})
	mctx, stop := context.WithCancel(ctx)
	go func() { defer close(ended); _ = m.Run(mctx) }()
	t.Cleanup(func() { stop(); <-ended })

	close(hangs.shut)
	for i, name := range []string{"plhA", "plhB"} { // the one that hangs is asked first
		m.Handle(detector.Finding{
			ID: "f-" + name, Kind: detector.KindPortScan, State: detector.StateFiring, Time: time.Now().UnixNano(), Host: netip.AddrFrom4([4]byte{10, 9, 9, byte(i)}),
			InPort: uint32(i + 1), Victims: []netip.Addr{netip.MustParseAddr("10.9.8.7")}, Proto: flow.ProtoTCP, Score: 1, Sequential: true,
			Evidence: []detector.Evidence{{Feature: "failed_first_contacts", Value: 4, Baseline: 0.2, Contribution: 1}},
		})
	}
	first := <-changes // of the decisions' states, the first
	if first.Target.Switch != "plhB" || !first.State.Holds() {
		t.Fatalf("first came %s on %s", first.State, first.Target.Switch)
	}
	out, err := sw.Ofctl(ctx, "-O", "OpenFlow14", "dump-flows", sw.Mgmt("plhB"), "table=201")
	if err != nil || !strings.Contains(out, "10.9.9.1") {
		t.Fatalf("no rule on the healthy switch: %v\n%s", err, out)
	}
	within(t, "the hung switch's decision to be answered", func() bool {
		d := <-changes
		return d.Target.Switch == "plhA"
	})
}
