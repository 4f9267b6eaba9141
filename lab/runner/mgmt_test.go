package runner_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

// output runs a program in a node and returns what it prints.
func output(t *testing.T, ctx context.Context, lab *runner.Lab, node, program string, args ...string) string {
	t.Helper()
	cmd, err := lab.Command(ctx, node, program, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q in %s: %v\n%s", program, args, node, err, out)
	}
	return string(out)
}

func bridges(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob("/sys/class/net/*/bridge")
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range found {
		found[i] = filepath.Base(filepath.Dir(f))
	}
	return found
}

func TestManagementNetwork(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "mgmt")
	topo := parse(t, `
name: mgmt
topology:
  defaults: {kind: linux}
  nodes:
    dyn: {aliases: [dyn.example.net]}
    static: {mgmt-ipv4: 172.20.20.2, mgmt-ipv6: "3fff:172:20:20::99"}
    off: {network-mode: none}
    shared: {network-mode: "container:static", cmd: sleep 600}
    asked: {dns: {servers: [192.0.2.53], search: [example.net], options: [rotate]}}
  links:
  - endpoints: ["off:eth1", "mgmt-net:port"]
`)
	lab, err := runner.Up(ctx, topo, e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	addr := output(t, ctx, lab, "dyn", "ip", "-o", "addr", "show", "dev", "eth0")
	if !strings.Contains(addr, "172.20.20.3/24") || !strings.Contains(addr, "3fff:172:20:20::2/64") {
		t.Errorf("dynamic address: %s", addr)
	}
	if link := output(t, ctx, lab, "dyn", "ip", "link", "show", "eth0"); !strings.Contains(link, "mtu 1500") || !strings.Contains(link, "02:42:ac:14:14:03") {
		t.Errorf("interface: %s", link)
	}
	if routes := output(t, ctx, lab, "dyn", "ip", "route") + output(t, ctx, lab, "dyn", "ip", "-6", "route"); !strings.Contains(routes, "default via 172.20.20.1 dev eth0") || !strings.Contains(routes, "default via 3fff:172:20:20::1 dev eth0") {
		t.Errorf("routes: %s", routes)
	}
	// By name, by long name, by alias, from a shared namespace, to the host.
	run(t, ctx, lab, "dyn", "ping", "-c", "1", "-W", "10", "static")
	run(t, ctx, lab, "shared", "ping", "-c", "1", "-W", "10", "clab-"+lab.Name()+"-dyn")
	run(t, ctx, lab, "asked", "ping", "-c", "1", "-W", "10", "dyn.example.net")
	run(t, ctx, lab, "asked", "ping", "-6", "-c", "1", "-W", "10", "3fff:172:20:20::1")
	run(t, ctx, lab, "off", "sh", "-c", "ip addr add 172.20.20.200/24 dev eth1 && ping -c 1 -W 10 172.20.20.2")
	if got := output(t, ctx, lab, "asked", "cat", "/etc/resolv.conf"); got != "search example.net\nnameserver 192.0.2.53\noptions rotate\n" {
		t.Errorf("resolv.conf: %q", got)
	}
	if host, err := os.ReadFile("/etc/hosts"); err != nil || strings.Contains(string(host), "CLAB-") {
		t.Errorf("the machine's own /etc/hosts: %s, %v", host, err)
	}
	if got := output(t, ctx, lab, "off", "ip", "-o", "link"); strings.Contains(got, "eth0") {
		t.Errorf("network-mode none has %s", got)
	}
	checkExport(t, e, lab)
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := append(e.traces(t, ctx, lab.Name()), bridges(t)...); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// checkExport reads topology-data.json as other programs would.
func checkExport(t *testing.T, e env, lab *runner.Lab) {
	t.Helper()
	var d struct {
		Name, Type string
		Clab       struct {
			Config struct {
				Prefix string
				Mgmt   map[string]any
			}
		}
		Nodes map[string]map[string]any
		Links []struct{ Endpoints map[string]map[string]any }
	}
	data, err := os.ReadFile(filepath.Join(e.options.StateDir, "clab-"+lab.Name(), "topology-data.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.Name != lab.Name() || d.Type != "clab" || d.Clab.Config.Prefix != "clab" || d.Clab.Config.Mgmt["ipv4-gw"] != "172.20.20.1" {
		t.Errorf("exported %+v", d)
	}
	n := d.Nodes["static"]
	if n["mgmt-ipv4-address"] != "172.20.20.2" || n["longname"] != "clab-"+lab.Name()+"-static" || n["index"] != "4" || n["mgmt-ipv6-prefix-length"] != 64.0 {
		t.Errorf("exported node %+v", n)
	}
	if labels, ok := n["labels"].(map[string]any); !ok || labels["clab-node-name"] != "static" || labels["containerlab"] != lab.Name() {
		t.Errorf("exported labels %+v", n["labels"])
	}
	if len(d.Links) != 1 || d.Links[0].Endpoints["z"]["node"] != "off" || d.Links[0].Endpoints["a"]["interface"] != "port" || d.Links[0].Endpoints["a"]["peer"] != "z" {
		t.Errorf("exported links %+v", d.Links)
	}
}

// TestLabsShareTheManagementNetwork brings four labs of one topology up at
// once, and expects every address once and the bridge gone with the last.
func TestLabsShareTheManagementNetwork(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "share")
	topo := parse(t, "name: share\nmgmt: {network: ours, ipv4-subnet: 172.31.5.0/24}\ntopology: {defaults: {kind: linux}, nodes: {a: , b: , c: }}\n")
	labs := e.upFour(t, ctx, topo)
	seen := map[string]bool{}
	for _, lab := range labs {
		for _, n := range lab.Nodes() {
			p, err := lab.Addr(n, "eth0")
			if err != nil || seen[p.String()] {
				t.Errorf("%s of %s has %s, %v", n, lab.Name(), p, err)
			}
			seen[p.String()] = true
		}
	}
	far, err := labs[3].Addr("c", "eth0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, ctx, labs[0], "a", "ping", "-c", "1", "-W", "10", far.Addr().String())
	overlap := parse(t, "name: other\nmgmt: {network: other, ipv4-subnet: 172.31.0.0/16}\ntopology: {nodes: {a: {kind: linux}}}\n")
	o := e.options
	o.Name += "-x"
	if _, err := runner.Up(ctx, overlap, o); err == nil || !strings.Contains(err.Error(), "overlaps that of network ours") {
		t.Errorf("got %v", err)
	}
	for i, lab := range labs {
		if got := bridges(t); len(got) != 1 {
			t.Errorf("before lab %d goes: bridges %q", i, got)
		}
		if err := lab.Down(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if got := bridges(t); len(got) > 0 {
		t.Errorf("left behind: %q", got)
	}
}

func TestManagementNetworkIsNotMadeInVain(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "vain")
	lab, err := runner.Up(ctx, parse(t, "name: vain\ntopology: {defaults: {kind: linux, network-mode: none}, nodes: {a: }}\n"), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if got := bridges(t); len(got) > 0 {
		t.Errorf("bridges %q", got)
	}
	ifs, err := net.Interfaces()
	if err != nil || len(ifs) != 1 {
		t.Errorf("interfaces %v, %v", ifs, err)
	}
}

// TestManagementBridgeOfTheUser: a bridge that was there is used with its own
// address, and stays.
func TestManagementBridgeOfTheUser(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "ownbr")
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "plownbr"}}
	if err := netlink.LinkAdd(br); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(br)
	addr, err := netlink.ParseAddr("172.31.6.77/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(netlink.AddrAdd(br, addr), netlink.LinkSetUp(br)); err != nil {
		t.Fatal(err)
	}
	lab, err := runner.Up(ctx, parse(t, "name: ownbr\nmgmt: {network: n, bridge: plownbr, ipv4-subnet: 172.31.6.0/24}\ntopology: {nodes: {a: {kind: linux, exec: [ping -c 1 -W 10 172.31.6.77]}}}\n"), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	if got := output(t, ctx, lab, "a", "ip", "route"); !strings.Contains(got, "default via 172.31.6.77 dev eth0") {
		t.Errorf("routes: %s", got)
	}
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if got := bridges(t); len(got) != 1 || got[0] != "plownbr" {
		t.Errorf("bridges %q", got)
	}
}
