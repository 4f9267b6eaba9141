package runner_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// write puts a topology and what it needs into a directory.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBindsEnvFilesAndUsers(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "binds")
	dir := write(t, map[string]string{
		"conf/a": "from the host\n", "one.env": "FROM_FILE=one\nOVER=file\n# comment\nexport QUOTED=\"a b\" # c\n", "motd": "hello\n", "n.motd": "hello\n",
		"t.clab.yml": `
name: binds
topology:
  defaults: {kind: linux, network-mode: none, env-files: [one.env], env: {OVER: env}}
  nodes:
    n:
      hostname: another
      labels: {my-label.x: v}
      binds: ["conf:/opt/platelet-lab-test/conf", "motd:/etc/motd.platelet:ro", "__clabNodeName__.motd:/platelet-lab-test"]
      exec:
      - sh -c 'test "$$FROM_FILE $$OVER $$QUOTED" = "one env a b"'
      - sh -c 'test $$CLAB_LABEL_MY_LABEL_X/$$CLAB_LABEL_CLAB_NODE_NAME/$$CLAB_INTFS = v/n/0'
      - sh -c 'echo $$no_proxy | grep -q "^localhost,127.0.0.1,::1,\*.local,172.20.20.0/24,3fff:172:20:20::/64,n,u$$"'
      - sh -c 'test $$(uname -n)/$$HOSTNAME/$$(pwd)/$$HOME = another/another////root'
      - sh -c 'test -z "$$PLATELET_SECRET"'
      - sh -c 'cp /opt/platelet-lab-test/conf/a /opt/platelet-lab-test/conf/b'
      - sh -c '! touch /etc/motd.platelet 2>/dev/null && grep -q hello /platelet-lab-test /etc/motd.platelet'
      - sh -c 'test "$$(ls /sys/class/net)" = lo'
    u: {user: nobody, exec: ["sh -c 'test $$(id -un) = nobody'"], cmd: sleep 600}
`})
	t.Setenv("PLATELET_SECRET", "of the host")
	t.Setenv("CLAB_LABDIR_BASE", dir)
	topo, err := clab.Load(filepath.Join(dir, "t.clab.yml"))
	if err != nil {
		t.Fatal(err)
	}
	e.options.Name = "" // under its own name, beside the topology
	lab, err := runner.Up(ctx, topo, e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if data, err := os.ReadFile(filepath.Join(dir, "conf/b")); err != nil || string(data) != "from the host\n" {
		t.Errorf("a write in the node: %q, %v", data, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "clab-binds/topology-data.json")); err != nil {
		t.Error(err)
	}
	if got := output(t, ctx, lab, "n", "cat", "/platelet-lab-test"); got != "hello\n" {
		t.Errorf("a later program sees %q", got)
	}
	for _, path := range []string{"/opt/platelet-lab-test", "/etc/motd.platelet", "/platelet-lab-test"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%s is on the machine", path)
		}
	}
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := append(e.traces(t, ctx, "binds"), ls(t, e.options.StateDir)...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "clab-binds")); err == nil {
		t.Error("the lab's directory stays")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "conf/a")); err != nil || string(data) != "from the host\n" {
		t.Errorf("the bound directory suffered: %q, %v", data, err)
	}
}

// ls lists a directory but for the lock.
func ls(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			out = append(out, e.Name())
		}
	}
	return out
}

// TestStages runs the public topology of stages, and one in which a node's
// links come up while its neighbour waits for it.
func TestStages(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "stages")
	lab, err := runner.Up(ctx, load(t, "../clab/testdata/public/stages.clab.yml"), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	for node, want := range map[string]string{"node1": "eth0 eth1 eth3 lo", "node2": "eth0 eth1 eth2 lo", "node3": "eth0 eth1 lo", "node4": "eth0 eth2 eth3 lo"} {
		if got := strings.Join(strings.Fields(output(t, ctx, lab, node, "ls", "/sys/class/net")), " "); got != want {
			t.Errorf("%s has %s, want %s", node, got, want)
		}
	}
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := append(e.traces(t, ctx, lab.Name()), bridges(t)...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestStagesAreInOrder(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "order")
	log := filepath.Join(t.TempDir(), "log")
	line := func(word string) string { return "sh -c 'echo " + word + " >> " + log + "'" }
	topo := parse(t, `
name: order
topology:
  defaults: {kind: linux, network-mode: none}
  nodes:
    plord: {kind: ovs-bridge}
    a:
      exec: [ip addr add 10.80.0.1/24 dev eth1, `+line("a-exec")+`]
      healthcheck: {test: [CMD-SHELL, "test -e `+log+`.go"], interval: 1}
      stages:
        create: {exec: [{command: "`+line("a-create-host")+`", target: host}]}
        create-links: {exec: [{command: "`+line("a-links")+`", phase: on-exit}]}
        healthy: {exec: [{command: "`+line("a-healthy")+`", phase: on-exit}]}
    b:
      exec: [ip addr add 10.80.0.2/24 dev eth1, `+line("b-exec")+`, ping -c 1 -W 10 10.80.0.1, "touch `+log+`.go"]
      stages: {create-links: {wait-for: [{node: a, stage: configure}], exec: [{command: "`+line("b-links")+`"}]}}
    once: {cmd: "`+strings.ReplaceAll(line("once"), `"`, `\"`)+`"}
    late: {startup-delay: 1, exec: [`+line("late-exec")+`]}
    last:
      exec: [`+line("last-exec")+`]
      stages: {create: {wait-for: [{node: a, stage: healthy}, {node: once, stage: exit}]}}
  links:
  - endpoints: [a:eth1, plord:plord-a]
  - endpoints: [b:eth1, plord:plord-b]
  - endpoints: [a:eth2, b:eth2]
  - endpoints: [b:eth3, host:plordh]
  - endpoints: [last:eth1, once:eth1]
`)
	lab, err := runner.Up(ctx, topo, e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]int{}
	for i, word := range strings.Fields(string(data)) {
		at[word] = i + 1
	}
	for _, pair := range [][2]string{{"a-create-host", "a-links"}, {"a-links", "a-exec"}, {"a-links", "b-links"}, {"b-links", "b-exec"},
		{"b-exec", "a-healthy"}, {"a-healthy", "last-exec"}, {"once", "last-exec"}, {"a-links", "late-exec"}} {
		if at[pair[0]] == 0 || at[pair[1]] == 0 || at[pair[0]] > at[pair[1]] {
			t.Errorf("%s does not come before %s:\n%s", pair[0], pair[1], data)
		}
	}
	e.takeDown(t, ctx, lab)
}

// TestHostNetwork: a node without a network namespace of its own, a bridge
// inside a node, and a host node at the end of a link.
func TestHostNetwork(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "hostnet")
	lab, err := runner.Up(ctx, parse(t, `
name: hostnet
topology:
  nodes:
    h: {kind: linux, network-mode: host, cmd: sleep 600, exec: ["sh -c 'ip link show plhn0 || ip link | grep -q plhn0'"]}
    me: {kind: host, exec: ["true"]}
    in: {kind: linux, network-mode: none, exec: [ip addr add 10.81.0.1/24 dev br0]}
    br0|in: {kind: bridge, network-mode: "container:in"}
    out: {kind: linux, network-mode: none, exec: [ip addr add 10.81.0.2/24 dev eth1, ping -c 1 -W 10 10.81.0.1]}
  links:
  - endpoints: [h:plhn0, out:eth2]
  - endpoints: [me:plhn1, out:eth3]
  - endpoints: ["br0|in:port1", out:eth1]
  - {type: veth, endpoints: [{node: host, interface: plhn2}, {node: out, interface: eth4}]}
`), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	e.takeDown(t, ctx, lab)
	if got := bridges(t); len(got) > 0 {
		t.Errorf("bridges %q", got)
	}
}

func TestMacvlan(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "macvlan")
	base, err := runner.Up(ctx, parse(t, "name: base\ntopology:\n  nodes: {p: {kind: linux, network-mode: none, exec: [ip addr add 10.82.0.1/24 dev eth1]}}\n  links:\n  - endpoints: [p:eth1, host:plmvp]\n"),
		runner.Options{DB: e.options.DB, StateDir: e.options.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	defer base.Down(context.Background())
	lab, err := runner.Up(ctx, parse(t, `
name: macvlan
topology:
  nodes: {m: {kind: linux, network-mode: none, exec: [ip addr add 10.82.0.2/24 dev eth1, ping -c 1 -W 10 10.82.0.1]}}
  links: [{endpoints: ["m:eth1", "macvlan:plmvp"]}]
`), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if _, err := runner.Up(ctx, parse(t, "name: no\ntopology:\n  nodes: {m: {kind: linux, network-mode: none}}\n  links: [{endpoints: [\"m:eth1\", \"macvlan:plnone\"]}]\n"),
		runner.Options{DB: e.options.DB, StateDir: e.options.StateDir}); err == nil || !strings.Contains(err.Error(), "parent interface plnone") {
		t.Errorf("got %v", err)
	}
}

// TestVXLAN: a node's interface is a tunnel that ends at another one's, over
// an interface of the host.
func TestVXLAN(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "vxlan")
	lab, err := runner.Up(ctx, parse(t, `
name: vxlan
topology:
  nodes:
    me: {kind: host, exec: [ip addr add 10.84.0.1/24 dev plvxh]}
    v: {kind: linux, network-mode: none, exec: [ip addr add 10.85.0.1/24 dev eth1]}
    far:
      kind: linux
      network-mode: none
      exec:
      - ip addr add 10.84.0.2/24 dev eth1
      - ip link add vx type vxlan id 7 remote 10.84.0.1 dstport 14789 dev eth1
      - ip addr add 10.85.0.2/24 dev vx
      - ip link set vx up
  links:
  - endpoints: [far:eth1, me:plvxh]
  - {type: vxlan, endpoint: {node: v, interface: eth1, mac: "02:00:00:00:00:55"}, remote: 10.84.0.2, vni: 7, parent-interface: plvxh, mtu: 1400}
`), runner.Options{DB: e.options.DB, StateDir: e.options.StateDir})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	run(t, ctx, lab, "v", "ping", "-c", "1", "-W", "10", "10.85.0.2")
	if got := output(t, ctx, lab, "v", "ip", "link", "show", "eth1"); !strings.Contains(got, "02:00:00:00:00:55") || !strings.Contains(got, "mtu 1400") {
		t.Errorf("interface: %s", got)
	}
}

// TestCollisionsAreListed: everything that is taken is named, and nothing is
// made.
func TestCollisionsAreListed(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "coll")
	const text = `
name: coll
topology:
  nodes:
    plcbr: {kind: ovs-bridge}
    plclb: {kind: bridge}
    a: {kind: linux, network-mode: none}
  links:
  - endpoints: [a:eth1, plcbr:plc-a]
  - endpoints: [a:eth2, plclb:plc-b]
`
	o := runner.Options{DB: e.options.DB, StateDir: e.options.StateDir}
	lab, err := runner.Up(ctx, parse(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	other := o
	other.StateDir = t.TempDir() // as another user's would be
	_, err = runner.Up(ctx, parse(t, text), other)
	if err == nil {
		t.Fatal("came up twice")
	}
	for _, want := range []string{"namespace clab-coll-a of node a is already there", "interface plc-a of link a:eth1 -- plcbr:plc-a is already there, of lab coll",
		"interface plc-b", "bridge plcbr of node plcbr belongs to lab coll", "bridge plclb of node plclb is already there, of lab coll"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("does not say %q:\n%v", want, err)
		}
	}
	if left := ls(t, other.StateDir); len(left) > 0 {
		t.Errorf("made %q", left)
	}
	run(t, ctx, lab, "a", "true")
}

// TestKernelLacksAreNamed: what this machine cannot do is refused before
// anything is made, and what it can do works.
func TestKernelLacksAreNamed(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "lacks")
	topo := parse(t, `
name: lacks
topology:
  nodes:
    a: {kind: linux, network-mode: none, exec: [ip link show dum, tc qdisc add dev lo root netem delay 1ms]}
  links:
  - {type: dummy, endpoint: {node: a, interface: dum}}
`)
	probe := runner.Probe(topo)
	lab, err := runner.Up(ctx, topo, e.options)
	if (probe == nil) != (err == nil) {
		t.Fatalf("probe says %v, up says %v", probe, err)
	}
	if err == nil {
		defer lab.Down(context.Background())
		return
	}
	if !strings.Contains(err.Error(), "t.yml:") || !strings.Contains(err.Error(), "this machine's kernel has no ") {
		t.Errorf("got %v", err)
	}
	if left := e.traces(t, ctx, e.options.Name); len(left) > 0 {
		t.Errorf("made %q", left)
	}
}

// TestPublicLabsComeUp runs the public labs that can run here.
func TestPublicLabsComeUp(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "public")
	lab, err := runner.Up(ctx, load(t, "../clab/testdata/public/03-linux-nodes-to-bridge-and-host.clab.yml"), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if got := strings.Join(strings.Fields(output(t, ctx, lab, "l1", "ls", "/sys/class/net")), " "); got != "eth0 eth1 eth2 eth3 lo" {
		t.Errorf("l1 has %s", got)
	}
	missing := parse(t, "name: missing\ntopology:\n  nodes:\n    a: {kind: linux, network-mode: none, cmd: no-such-program-1, exec: [no-such-program-2 x]}\n")
	if _, err := runner.Up(ctx, missing, runner.Options{DB: e.options.DB, StateDir: e.options.StateDir}); err == nil ||
		!strings.Contains(err.Error(), `a.cmd: this machine has no program "no-such-program-1"`) || !strings.Contains(err.Error(), `"no-such-program-2"`) {
		t.Errorf("got %v", err)
	}
}
