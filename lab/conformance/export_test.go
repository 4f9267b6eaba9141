package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"text/template"
	"time"

	"github.com/srl-labs/containerlab/types"
	"github.com/srl-labs/containerlab/utils"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// TestMain keeps the lab that is brought up here in namespaces of its own.
func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// exportEnd answers what containerlab's template asks an endpoint.
type exportEnd struct{ node, iface string }

func (e exportEnd) GetNode() exportEnd        { return e }
func (e exportEnd) GetShortName() string      { return e.node }
func (e exportEnd) GetIfaceName() string      { return e.iface }
func (e exportEnd) GetMac() net.HardwareAddr  { return net.HardwareAddr{2, 0, 0, 0, 0, 1} }
func (e exportEnd) GetIPv4Addr() netip.Prefix { return netip.MustParsePrefix("10.0.0.1/24") }
func (e exportEnd) GetIPv6Addr() netip.Prefix { return netip.MustParsePrefix("fd00::1/64") }
func (e exportEnd) GetVars() map[string]any   { return map[string]any{"x": 1} }

// exportLink answers what it asks a link.
type exportLink []exportEnd

func (l exportLink) GetEndpoints() []exportEnd { return l }
func (l exportLink) GetVars() map[string]any   { return map[string]any{"y": 2} }

const exported = `
name: exported
topology:
  nodes:
    a: {kind: linux, group: g}
    b: {kind: linux}
  links:
  - type: veth
    vars: {y: 2}
    endpoints:
    - {node: a, interface: eth1, mac: "02:00:00:00:00:01", ipv4: 10.0.0.1/24, ipv6: "fd00::1/64", vars: {x: 1}}
    - {node: b, interface: eth1, mac: "02:00:00:00:00:01", ipv4: 10.0.0.1/24, ipv6: "fd00::1/64", vars: {x: 1}}
`

// TestExportHasContainerlabsShape brings a lab up, and compares the keys of
// its topology-data.json with those of containerlab's own template.
func TestExportHasContainerlabsShape(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	topo, err := clab.Parse(filepath.Join(dir, "t.clab.yml"), []byte(exported), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	lab, err := runner.Up(ctx, topo, runner.Options{StateDir: filepath.Join(dir, "labs")})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	raw, err := os.ReadFile(filepath.Join(dir, "clab-exported", "topology-data.json"))
	if err != nil {
		t.Fatal(err)
	}
	got, want := shape(t, raw), shape(t, theirExport(t))
	for _, key := range want {
		if !slices.Contains(got, key) {
			t.Errorf("lacks %s", key)
		}
	}
	for _, key := range got {
		if !slices.Contains(want, key) {
			t.Errorf("has %s besides", key)
		}
	}
}

// theirExport renders containerlab's template for the same lab.
func theirExport(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(module(t), "core/export_templates/auto.tmpl")
	tmpl, err := template.New(filepath.Base(file)).Funcs(utils.CreateFuncs()).ParseFiles(file)
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	node := func(name string) *types.NodeConfig {
		return &types.NodeConfig{ShortName: name, Labels: map[string]string{
			"containerlab": "", "clab-node-name": "", "clab-node-longname": "", "clab-node-kind": "", "clab-node-type": "", "clab-node-group": "",
			"clab-node-lab-dir": "", "clab-topo-file": "", "clab-owner": "", "clab-mgmt-net-bridge": ""}}
	}
	var data struct {
		Name, Type string
		SSHPubKeys []string
		Clab       struct {
			Config struct {
				Prefix string
				Mgmt   *types.MgmtNet
			}
			Links map[int]exportLink
		}
		NodeConfigs map[string]*types.NodeConfig
	}
	data.SSHPubKeys = []string{} // of a user who has none
	data.Clab.Config.Mgmt = &types.MgmtNet{Network: "clab", Bridge: "br", IPv4Subnet: "s", IPv4Gw: "g", IPv6Subnet: "s", IPv6Gw: "g", MTU: 1500, ExternalAccess: &yes}
	data.Clab.Links = map[int]exportLink{0: {{"a", "eth1"}, {"b", "eth1"}}}
	data.NodeConfigs = map[string]*types.NodeConfig{"a": node("a"), "b": node("b")}
	var out bytes.Buffer
	if err := tmpl.Execute(&out, data); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// shape lists the paths of all keys with the kinds of their values.
func shape(t *testing.T, raw []byte) []string {
	t.Helper()
	var doc any
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var out []string
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, e := range v {
				walk(path+"."+k, e)
			}
		case []any:
			out = append(out, path+" list")
			for _, e := range v {
				walk(path+"[]", e)
			}
		default:
			out = append(out, fmt.Sprintf("%s %T", path, v))
		}
	}
	walk("", doc)
	slices.Sort(out)
	return slices.Compact(out)
}
