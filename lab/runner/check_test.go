package runner_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// TestPublicLabsRunOrAreRefusedByName is the contract with other people's
// files: what cannot run faithfully says so, with the place in the file.
func TestPublicLabsRunOrAreRefusedByName(t *testing.T) {
	want := map[string]string{
		"01-linux-nodes.clab.yml":                    "01-linux-nodes.clab.yml:15:9: topology.nodes.l1.binds: binds is not supported",
		"01-vxlan.clab.yml":                          `kind "nokia_srlinux" is not supported`,
		"03-linux-nodes-to-bridge-and-host.clab.yml": "",
		"25-link-vars-ip.clab.yml":                   `kind "nokia_srlinux" is not supported`,
		"br01.clab.yml":                              `kind "nokia_srlinux" is not supported`,
		"clos3.yml":                                  `image "sflow/clab-frr" has no equivalent on the host`,
		"evpn3.yml":                                  `image "sflow/clab-frr" has no equivalent on the host`,
		"rocev2.yml":                                 "binds is not supported",
		"sdn-dcn.clab.yml":                           `unknown key "publish" in topology.nodes.ctrl`,
		"stages.clab.yml":                            "stages is not supported",
	}
	files, err := filepath.Glob("../clab/testdata/public/*.yml")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		topo, err := clab.Load(file)
		if err == nil {
			err = runner.Check(topo)
		}
		refusal := want[filepath.Base(file)]
		if refusal == "" {
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), refusal) {
			t.Errorf("%s: got %v, want %s", file, err, refusal)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	const head = "name: x\ntopology:\n  nodes:\n    a: {kind: linux}\n    h: {kind: host}\n"
	for _, tt := range []struct{ name, text, want string }{
		{"kind", "name: x\ntopology:\n  nodes:\n    a: {kind: linus}\n", `t.yml:4:15: topology.nodes.a.kind: kind "linus" is not supported (did you mean "linux"?)`},
		{"bridge name", "name: x\ntopology:\n  nodes:\n    abcdefghijklmnop: {kind: ovs-bridge}\n", "at most 15 characters"},
		{"image", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, image: quay.io/frr:9}\n", `image "quay.io/frr:9" has no equivalent`},
		{"network mode", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, network-mode: host}\n", "network-mode is not supported"},
		{"sysctl", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, sysctls: {kernel.panic: 1}}\n", "only sysctls under net. belong to a node"},
		{"link type", head + "  links:\n  - endpoints: [a:eth1, mgmt-net:p]\n", `link type "mgmt-net" is not supported`},
		{"link address", head + "  links:\n  - {endpoints: [a:eth1, host:p], ipv4: [10.0.0.1/24]}\n", "addresses on links are not supported"},
		{"host node", head + "  links:\n  - {endpoints: [a:eth1, h:p]}\n", "a link to the host is written host:p"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			topo, err := clab.Parse("t.yml", []byte(tt.text), os.LookupEnv)
			if err != nil {
				t.Fatal(err)
			}
			if err := runner.Check(topo); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}
