package clab_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden reads the lab of ours and the public ones, and compares the
// resolved model with golden files.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/public/*.yml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d public files, %v", len(files), err)
	}
	for _, file := range append(files, "../first.clab.yml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden := filepath.Join("testdata/golden", filepath.Base(file)+".txt")
			topo, err := clab.Load(file)
			got := ""
			if err != nil { // such as a key that containerlab no longer knows
				got = err.Error() + "\n"
			} else {
				got = render(topo)
			}
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// render writes a topology one fact per line.
func render(t *clab.Topology) string {
	var b strings.Builder
	fmt.Fprintf(&b, "lab %s prefix %q mgmt %+v\n", t.Name, t.Prefix, t.Mgmt)
	for _, n := range t.Nodes {
		fmt.Fprintf(&b, "node %s (%s) kind=%s image=%s group=%s mode=%s mgmt=%s,%s\n",
			n.Name, t.LongName(t.Name, n.Name), n.Kind, n.Image, n.Group, n.NetworkMode, n.MgmtIPv4, n.MgmtIPv6)
		for _, kv := range pairs(n.Labels) {
			fmt.Fprintf(&b, "  label %s\n", kv)
		}
		for _, kv := range pairs(n.Env) {
			fmt.Fprintf(&b, "  env %s\n", kv)
		}
		for _, line := range n.Exec {
			fmt.Fprintf(&b, "  exec %q\n", line)
		}
		if n.Cmd != "" || n.Entrypoint != "" {
			fmt.Fprintf(&b, "  entrypoint %q cmd %q\n", n.Entrypoint, n.Cmd)
		}
		if len(n.Binds) > 0 {
			fmt.Fprintf(&b, "  binds %q\n", n.Binds)
		}
		for _, stage := range clab.AllStages() {
			if plan, ok := n.Stages[stage]; ok {
				fmt.Fprintf(&b, "  stage %s %+v\n", stage, plan)
			}
		}
		if n.DNS.Set() || n.Healthcheck != nil || len(n.Ignored) > 0 {
			fmt.Fprintf(&b, "  dns %+v healthcheck %+v ignored %v\n", n.DNS, n.Healthcheck, n.Ignored)
		}
	}
	for _, l := range t.Links {
		fmt.Fprintf(&b, "link %s mtu=%d %s -- %s\n", l.Type, l.MTU, end(l.A), end(l.B))
	}
	return b.String()
}

func end(e clab.Endpoint) string {
	out := e.Node + ":" + e.Interface
	for _, extra := range []string{e.MAC.String(), e.IPv4, e.IPv6} {
		if extra != "" {
			out += "," + extra
		}
	}
	return out
}

func pairs(m map[string]string) []string {
	var out []string
	for k, v := range m {
		out = append(out, k+"="+v)
	}
	slices.Sort(out)
	return out
}

const head = "name: x\ntopology:\n  nodes:\n    a: {kind: linux}\n    b: {kind: linux}\n    br: {kind: bridge}\n  links:\n"

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "name: x\ntopolgy: {}\n", `unknown key "topolgy" (did you mean "topology"?)`},
		{"unknown node key", "name: x\ntopology:\n  nodes:\n    a: {knid: linux}\n", `t.yml:4:9: unknown key "knid" in topology.nodes.a (did you mean "kind"?)`},
		{"no name", "topology: {nodes: {a: {kind: linux}}}\n", "t.yml:1:1: name: needs letters"},
		{"bad name", "name: a/b\ntopology: {nodes: {a: {kind: linux}}}\n", "t.yml:1:7: name: needs letters"},
		{"bad node name", "name: x\ntopology: {nodes: {a/b: {kind: linux}}}\n", "a node's name needs letters"},
		{"no nodes", "name: x\ntopology: {nodes: {}}\n", "needs at least one node"},
		{"no kind", "name: x\ntopology:\n  nodes:\n    a: {}\n", "t.yml:4:8: topology.nodes.a: needs a kind"},
		{"unknown node", head + "  - endpoints: [a:e1, bb:e1]\n", `t.yml:8:5: topology.links[0]: there is no node "bb"`},
		{"unknown type", head + "  - {type: vteh, endpoints: [a:e1, b:e1]}\n", `unknown link type "vteh" (did you mean "veth"?)`},
		{"one endpoint", head + "  - endpoints: [a:e1]\n", "needs two endpoints, got 1"},
		{"no colon", head + "  - endpoints: [a, b:e1]\n", `t.yml:8:17: topology.links[0].endpoints[0]: needs "node:interface", got "a"`},
		{"used twice", head + "  - endpoints: [a:e1, b:e1]\n  - endpoints: [a:e1, b:e2]\n", `interface "e1" is already used by topology.links[0]`},
		{"used twice on the machine", head + "  - endpoints: [a:e1, br:p]\n  - endpoints: [a:e2, host:p]\n", `interface "p" is already used by topology.links[0]`},
		{"mtu", head + "  - {endpoints: [a:e1, b:e1], mtu: 7}\n", "t.yml:8:36: topology.links[0].mtu: needs 68 to 65535, got 7"},
		{"mac", head + "  - {type: veth, endpoints: [{node: a, interface: e1, mac: zz}, {node: b, interface: e1}]}\n", `needs a MAC address such as 02:00:00:00:00:01, got "zz"`},
		{"endpoint key", head + "  - {type: veth, endpoints: [{node: a, iface: e1}, {node: b, interface: e1}]}\n", `unknown key "iface"`},
		{"both forms", head + "  - {type: host, endpoint: {node: a, interface: e1}, endpoints: [a:e2, b:e2]}\n", `a link of type host has no key "endpoints"`},
		{"no type", head + "  - {endpoint: {node: a, interface: e1}}\n", `a link of type brief has no key "endpoint"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := clab.Parse("t.yml", []byte(tt.text), os.LookupEnv)
			var faults strictyaml.Errors
			if !errors.As(err, &faults) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestInheritance(t *testing.T) {
	text := `name: x
topology:
  defaults: {kind: linux, image: d, env: {A: d, B: d, C: d, D: d}, exec: [d]}
  kinds: {linux: {image: k, env: {B: k, C: k, D: k}, exec: [k]}}
  groups: {g: {image: g, env: {C: g, D: g}, exec: [g]}}
  nodes:
    n: {group: g, env: {D: n}, exec: [n]}
    m:
`
	topo, err := clab.Parse("t.yml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := topo.Node("n")
	if got := fmt.Sprint(n.Kind, n.Image, pairs(n.Env), n.Exec); got != "linuxg[A=d B=k C=g D=n] [d k g n]" {
		t.Errorf("n: %s", got)
	}
	m, _ := topo.Node("m")
	if got := fmt.Sprint(m.Kind, m.Image, pairs(m.Env), m.Exec); got != "linuxk[A=d B=k C=k D=k] [d k]" {
		t.Errorf("m: %s", got)
	}
}

func TestVariables(t *testing.T) {
	env := map[string]string{"SET": "s", "EMPTY": ""}
	lookup := func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	text := `name: x
topology:
  nodes:
    n:
      kind: linux
      env: {a: "${SET}", b: "${UNSET:=d}", c: "${UNSET}", d: "$SET", e: "${EMPTY:-d}", f: "${SET:=d}", g: "${UNSET-x}", h: "$$SET $1 $(date) $UNSET"}
`
	topo, err := clab.Parse("t.yml", []byte(text), lookup)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(pairs(topo.Nodes[0].Env)); got != "[a=s b=d c=$UNSET d=s e=d f=s g=x h=$SET $1 $(date) $UNSET]" {
		t.Errorf("got %s", got)
	}
}

func TestLongNames(t *testing.T) {
	for prefix, want := range map[string]string{"": "n", "prefix: ''\n": "n", "prefix: __lab-name\n": "x-n", "prefix: p\n": "p-x-n"} {
		topo, err := clab.Parse("t.yml", []byte(prefix+"name: x\ntopology: {nodes: {n: {kind: linux}}}\n"), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		if prefix == "" {
			want = "clab-x-n"
		}
		if got := topo.LongName("x", "n"); got != want {
			t.Errorf("%q: %s, want %s", prefix, got, want)
		}
	}
}
