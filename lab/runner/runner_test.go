package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

const first = "../first.clab.yml"

// TestMain lets the test binary be the process that a crash test kills.
func TestMain(m *testing.M) {
	// It also stands for our binary in nodes.
	if len(os.Args) > 1 && os.Args[1] == "say" {
		fmt.Println("said", os.Args[2:])
		os.Exit(0)
	}
	if db := os.Getenv("PLATELET_TEST_UP_DB"); db != "" {
		topo, err := clab.Load(os.Getenv("PLATELET_TEST_UP_FILE"))
		if err == nil {
			_, err = runner.Up(context.Background(), topo, runner.Options{
				Name: os.Getenv("PLATELET_TEST_UP_NAME"), DB: db, StateDir: os.Getenv("PLATELET_TEST_UP_STATE")})
		}
		fmt.Println("up:", err)
		os.Exit(0)
	}
	os.Exit(ovs.Isolate(m.Run))
}

func run(t *testing.T, ctx context.Context, lab *runner.Lab, node, program string, args ...string) {
	t.Helper()
	cmd, err := lab.Command(ctx, node, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s in %s: %v\n%s", program, node, err, out)
	}
}

func TestUpConnectsAndDownLeavesNothing(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "updown")
	start := time.Now()
	lab, err := runner.Up(ctx, load(t, first), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	t.Logf("up in %v", time.Since(start).Round(time.Millisecond))
	run(t, ctx, lab, "h5", "ping", "-c", "1", "-W", "10", "10.77.0.11")
	run(t, ctx, lab, "h3", "ping", "-c", "1", "-W", "10", "fd77::1")
	checkTCP(t, ctx, lab)
	checkPort(t, ctx, e, lab)

	if _, err := runner.Up(ctx, load(t, first), e.options); err == nil {
		t.Error("the same lab came up twice")
	}
	listed, err := runner.List(e.options)
	if err != nil || len(listed[lab.Name()]) != 8 {
		t.Fatalf("listed %v, %v", listed, err)
	}
	if h1 := listed[lab.Name()][2]; h1.IPv4Address != "10.77.0.11/24" || h1.IPv6Address != "fd77::11/64" || h1.State != "running" || h1.Name != "clab-"+lab.Name()+"-h1" {
		t.Errorf("listed %+v", h1)
	}
	// A process that nobody ends must not keep the lab alive.
	stray, err := lab.Command(context.Background(), "h4", "sleep", "600")
	if err != nil || stray.Start() != nil {
		t.Fatal(err)
	}
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if err := stray.Wait(); err == nil {
		t.Error("a node's process outlived the lab")
	}
	if left := e.traces(t, ctx, lab.Name()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if err := runner.Down(ctx, lab.Name(), e.options); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("down of nothing: %v", err)
	}
}

// checkTCP moves a few megabytes, which hang when checksums are wrong.
func checkTCP(t *testing.T, ctx context.Context, lab *runner.Lab) {
	t.Helper()
	var l net.Listener
	if err := lab.Do("h1", func() (err error) {
		l, err = net.Listen("tcp4", "10.77.0.11:80")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 4 << 20
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = c.Write(make([]byte, size))
	}()
	var c net.Conn
	if err := lab.Do("h3", func() (err error) {
		c, err = net.DialTimeout("tcp4", "10.77.0.11:80", 10*time.Second)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	got, buf := 0, make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		got += n
		if err != nil {
			break
		}
	}
	if got != size {
		t.Errorf("%d of %d bytes arrived", got, size)
	}
}

// checkPort checks what the controller sees of a node at the switch.
func checkPort(t *testing.T, ctx context.Context, e env, lab *runner.Lab) {
	t.Helper()
	port, err := lab.HostSide("h1", "eth1")
	if err != nil || len(port) > 15 {
		t.Fatalf("switch side %q, %v", port, err)
	}
	bridge, err := lab.Bridge("pl-first")
	if err != nil {
		t.Fatal(err)
	}
	if on, err := e.ovs.Ctl(ctx, "port-to-br", port); err != nil || on != bridge {
		t.Errorf("%s is on %q, %v", port, on, err)
	}
	ids, err := e.ovs.Ctl(ctx, "get", "interface", port, "external_ids")
	if err != nil || !strings.Contains(ids, "app=web") || !strings.Contains(ids, "platelet-node=h1") {
		t.Errorf("external_ids of %s: %s, %v", port, ids, err)
	}
	mac, err := lab.MAC("h1", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Do("h1", func() error {
		i, err := net.InterfaceByName("eth1")
		if err == nil && i.HardwareAddr.String() != mac.String() {
			err = fmt.Errorf("has %s, planned %s", i.HardwareAddr, mac)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestLabsRunSideBySide brings four labs of one topology up at once.
func TestLabsRunSideBySide(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "par")
	labs := e.upFour(t, ctx, load(t, first))
	for _, lab := range labs {
		run(t, ctx, lab, "h6", "ping", "-c", "1", "-W", "10", "10.77.0.12")
	}
	if err := labs[0].Down(ctx); err != nil {
		t.Fatal(err)
	}
	for _, lab := range labs[1:] {
		run(t, ctx, lab, "h6", "ping", "-c", "1", "-W", "10", "10.77.0.12")
	}
	if err := runner.DownAll(ctx, e.options); err != nil {
		t.Fatal(err)
	}
	for _, lab := range labs {
		if left := e.traces(t, ctx, lab.Name()); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	}
}

// crashTopology has everything that a crash could leave behind.
const crashTopology = `
name: crash
topology:
  defaults: {kind: linux}
  nodes:
    plcro: {kind: ovs-bridge}
    plcrl: {kind: bridge}
    a: {cmd: sleep 600, binds: [".:/platelet-crash"]}
    b: {cmd: sleep 600, stages: {create: {wait-for: [{node: a, stage: configure}]}}}
    c: {network-mode: host, cmd: sleep 600}
  links:
  - endpoints: [a:eth1, plcro:plcr-a]
  - endpoints: [a:eth2, plcrl:plcr-b]
  - endpoints: [a:eth3, b:eth3]
  - endpoints: [b:eth4, host:plcr-c]
  - endpoints: [b:eth5, plcro:plcr-d]
`

// TestDownAfterCrash kills the process at different moments while it brings
// a lab up, and expects down --all to find everything, with the lab's record
// and without.
func TestDownAfterCrash(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "crash")
	dir := write(t, map[string]string{"t.clab.yml": crashTopology})
	mounts := func() string {
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if err := runner.DownAll(ctx, e.options); err != nil { // also shares /run/netns
		t.Fatal(err)
	}
	if err := namespace.Create("plcrash-first"); err != nil || namespace.Delete("plcrash-first") != nil {
		t.Fatal(err)
	}
	before := mounts()
	for i, after := range []int{5, 15, 25, 35, 50, 65, 80, 100, 130, 170, 250} {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "PLATELET_TEST_UP_DB="+e.options.DB, "PLATELET_TEST_UP_NAME="+e.options.Name,
			"PLATELET_TEST_UP_STATE="+e.options.StateDir, "PLATELET_TEST_UP_FILE="+filepath.Join(dir, "t.clab.yml"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(after)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		killed := cmd.Wait() != nil
		left := e.traces(t, ctx, e.options.Name)
		t.Logf("after %d ms: killed %v, left %d things", after, killed, len(left))
		if i%2 == 1 { // as if the state directory had been on a file system that is gone
			if err := os.RemoveAll(e.options.StateDir); err != nil {
				t.Fatal(err)
			}
		}
		if err := runner.DownAll(ctx, e.options); err != nil {
			t.Fatal(err)
		}
		if left := e.traces(t, ctx, e.options.Name); len(left) > 0 {
			t.Fatalf("after %d ms left behind: %q", after, left)
		}
		if i%2 == 1 {
			removeUnmarked(t, "plcrl-")
		}
		if got := bridges(t); len(got) > 0 {
			t.Fatalf("after %d ms left bridges: %q", after, got)
		}
		if found, err := namespace.WithEnv("PLATELET_LAB", e.options.Name); err != nil || len(found) > 0 {
			t.Fatalf("after %d ms left processes: %v, %v", after, found, err)
		}
		if files := ls(t, e.options.StateDir); len(files) > 0 {
			t.Fatalf("after %d ms left files: %q", after, files)
		}
		if now := mounts(); now != before {
			t.Fatalf("after %d ms left mounts:\n%s", after, now)
		}
	}
	topo, err := clab.Load(filepath.Join(dir, "t.clab.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if lab, err := runner.Up(ctx, topo, e.options); err != nil {
		t.Errorf("does not come up after the crashes: %v", err)
	} else if err := lab.Down(ctx); err != nil {
		t.Error(err)
	}
}

// removeUnmarked removes a kernel's bridge that has no mark yet. Between the two
// calls that make one and mark it only the record knows whose it is.
func removeUnmarked(t *testing.T, prefix string) {
	t.Helper()
	for _, name := range bridges(t) {
		l, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(name, prefix) || l.Attrs().Alias != "" {
			continue
		}
		t.Logf("killed between a bridge and its mark, without a record: %s", name)
		if err := netlink.LinkDel(l); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDownWithoutRecord(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "norec")
	lab, err := runner.Up(ctx, load(t, first), e.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(e.options.StateDir, lab.Name()+".json")); err != nil {
		t.Fatal(err)
	}
	if err := runner.Down(ctx, lab.Name(), e.options); err != nil {
		t.Fatal(err)
	}
	if left := e.traces(t, ctx, lab.Name()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestForeignBridgeStays(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "foreign")
	topo, err := clab.Parse("t.yml", []byte(`
name: foreign
topology:
  nodes:
    plfor0: {kind: ovs-bridge}
    h: {kind: linux}
  links:
  - endpoints: [h:eth1, plfor0:plfor0-h]
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.ovs.AddBridge(ctx, "plfor0", "netdev"); err != nil {
		t.Fatal(err)
	}
	e.options.Name = ""
	lab, err := runner.Up(ctx, topo, e.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if bridges, err := e.ovs.Ctl(ctx, "list-br"); err != nil || bridges != "plfor0" {
		t.Errorf("bridges %q, %v", bridges, err)
	}
	if ports, err := e.ovs.Ctl(ctx, "list-ports", "plfor0"); err != nil || ports != "" {
		t.Errorf("ports %q, %v", ports, err)
	}
}

func TestFailedUpLeavesNothing(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "failed")
	topo, err := clab.Parse("t.yml", []byte(`
name: failed
topology:
  nodes:
    br: {kind: bridge}
    a: {kind: linux, cmd: sleep 600, env: {X: from-env}, exec: [sh -c 'test $X = from-env']}
    b: {kind: linux, sysctls: {net.ipv4.ip_forward: 1}, exec: ["false"]}
  links:
  - endpoints: [a:eth1, br:p1]
  - endpoints: [b:eth1, host:p2]
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	_, err = runner.Up(ctx, topo, e.options)
	if err == nil || !strings.Contains(err.Error(), `node b: exec "false"`) {
		t.Fatalf("got %v", err)
	}
	if left := e.traces(t, ctx, e.options.Name); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// waitLog waits until a node's command has printed a text.
func waitLog(t *testing.T, ctx context.Context, e env, lab *runner.Lab, node, want string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		data, err := os.ReadFile(filepath.Join(e.options.StateDir, lab.Name()+".logs", node+".log"))
		if err == nil && string(data) == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("node %s printed %q, %v; want %q", node, data, err, want)
		case <-tick.C:
		}
	}
}

func TestNodesAndLinuxBridge(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "nodes")
	topo, err := clab.Parse("t.yml", []byte(`
name: nodes
topology:
  nodes:
    br: {kind: bridge}
    a:
      kind: linux
      cmd: sh -c 'echo "$GREETING $CLAB_LABEL_MY_LABEL $CLAB_INTFS"; exec sleep 600'
      env: {GREETING: hello}
      labels: {my-label: x}
      exec: [ip addr add 10.78.0.1/24 dev eth1]
    b:
      kind: linux
      sysctls: {net.ipv4.ip_forward: 1}
      exec: [ip addr add 10.78.0.2/24 dev eth1, grep -q 1 /proc/sys/net/ipv4/ip_forward]
  links:
  - {endpoints: [a:eth1, br:p1], mtu: 1400}
  - type: veth
    endpoints: [{node: b, interface: eth1, mac: "02:00:00:00:00:07"}, {node: br, interface: p2}]
  - {type: host, host-interface: p3, endpoint: {node: b, interface: eth2}}
`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	lab, err := runner.Up(ctx, topo, e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	run(t, ctx, lab, "a", "ping", "-c", "1", "-W", "10", "10.78.0.2")
	if err := lab.Do("a", func() error {
		i, err := net.InterfaceByName("eth1")
		if err == nil && i.MTU != 1400 {
			err = fmt.Errorf("MTU %d", i.MTU)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	waitLog(t, ctx, e, lab, "a", "hello x 1\n")
	if side, err := lab.HostSide("b", "eth2"); err != nil || !strings.HasPrefix(side, "p3-") {
		t.Errorf("host side %q, %v", side, err)
	}
	e.takeDown(t, ctx, lab)
}

// TestSecondSwitchIsRefused: Open vSwitch reports success for a bridge that it
// could not create.
func TestSecondSwitchIsRefused(t *testing.T) {
	ctx := timeout(t)
	one, two := setUp(t, ctx, "one"), setUp(t, ctx, "two")
	lab, err := runner.Up(ctx, load(t, first), one.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if _, err := runner.Up(ctx, load(t, first), two.options); err == nil || !strings.Contains(err.Error(), "could not create bridge") {
		t.Errorf("got %v", err)
	}
	if left := two.traces(t, ctx, two.options.Name); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestOurOwnProgram: the lab image holds our binary, which the host has too.
func TestOurOwnProgram(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "own")
	lab, err := runner.Up(ctx, parse(t, `
name: own
topology:
  defaults: {kind: linux, network-mode: none, image: "platelet-lab:latest"}
  nodes:
    a: {cmd: say a}
    b: {entrypoint: /platelet, cmd: say b, exec: [platelet say, /platelet say]}
    c: {image: debian, cmd: /platelet say c}
`), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	for _, node := range []string{"a", "b", "c"} {
		waitLog(t, ctx, e, lab, node, "said ["+node+"]\n")
	}
}

// TestOtherHostsLabsStay: a namespace of a lab whose host is another network
// namespace is seen in /run/netns too, and is not ours.
func TestOtherHostsLabsStay(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "hosts")
	name := fmt.Sprintf("plother-%d", os.Getpid())
	if err := namespace.CreateMarked(name, "platelet-lab="+name+"@1"); err != nil {
		t.Fatal(err)
	}
	defer namespace.Delete(name)
	if err := runner.DownAll(ctx, e.options); err != nil {
		t.Fatal(err)
	}
	if mark, err := namespace.Mark(name); err != nil || mark == "" {
		t.Errorf("the other host's namespace is gone: %q, %v", mark, err)
	}
	if err := runner.Down(ctx, name, e.options); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("down of another host's lab: %v", err)
	}
}
