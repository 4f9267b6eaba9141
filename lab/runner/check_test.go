package runner_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPublicLabs is the contract with other people's files: what cannot run
// faithfully says so, all of it, with the place in the file.
func TestPublicLabs(t *testing.T) {
	files, err := filepath.Glob("../clab/testdata/public/*.yml")
	if err != nil || len(files) != 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			got := "runs\n"
			topo, err := clab.Load(file)
			if err == nil {
				err = runner.Check(topo)
			}
			if err != nil {
				got = err.Error() + "\n"
			} else {
				for _, note := range runner.Notes(topo) {
					got += "note: " + note + "\n"
				}
			}
			golden := filepath.Join("testdata/reports", filepath.Base(file)+".txt")
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

func TestCheckRefuses(t *testing.T) {
	const head = "name: x\ntopology:\n  nodes:\n    a: {kind: linux}\n    h: {kind: host}\n"
	for _, tt := range []struct{ name, text, want string }{
		{"kind", "name: x\ntopology:\n  nodes:\n    a: {kind: linus}\n", `t.yml:4:15: topology.nodes.a.kind: kind "linus" is not supported (did you mean "linux"?)`},
		{"bridge name", "name: x\ntopology:\n  nodes:\n    abcdefghijklmnop: {kind: ovs-bridge}\n", "at most 15 characters"},
		{"image", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, image: quay.io/frr:9}\n", `image "quay.io/frr:9" has no equivalent`},
		{"shared namespace", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, network-mode: \"container:z\"}\n", `there is no container "z"`},
		{"volume", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, volumes: [v:/x]}\n", "volumes are not supported"},
		{"bind", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, binds: [no-such-file:/x]}\n", "t.yml:4:29: topology.nodes.a.binds: stat no-such-file: no such file"},
		{"bind option", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, binds: [\"/etc:/x:rslave\"]}\n", `option "rslave" is not supported`},
		{"env file", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, env-files: [no-such-file]}\n", "open no-such-file: no such file"},
		{"user", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, user: nobody-of-the-name}\n", "the host has no such user"},
		{"device", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, devices: [/dev/no-such]}\n", "topology.nodes.a.devices: stat /dev/no-such"},
		{"certificate", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, certificate: {issue: true}}\n", "certificates are not issued"},
		{"static without network", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, network-mode: none, mgmt-ipv4: 172.20.20.9}\n", "is not in the management network"},
		{"static outside", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, mgmt-ipv4: 10.0.0.9}\n", `10.0.0.9 is not in the management network "172.20.20.0/24"`},
		{"bad exec", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, exec: [\"echo 'x\"]}\n", "cannot be split into words"},
		{"bad cmd", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, cmd: \"echo 'x\"}\n", "cannot be split into words"},
		{"unhealthy", head + "    b: {kind: linux, stages: {create: {wait-for: [{node: a, stage: healthy}]}}}\n", `node "a" has no healthcheck`},
		{"never ends", head + "    b: {kind: linux, stages: {create: {wait-for: [{node: a, stage: exit}]}}}\n", `node "a" has no command`},
		{"cycle", head + "    b: {kind: linux, stages: {create: {wait-for: [{node: c, stage: create}]}}}\n    c: {kind: linux, stages: {configure: {wait-for: [{node: b, stage: create}]}}}\n",
			"nodes wait for each other: b waits for c waits for b"},
		{"cycle by addresses", head + "    b: {kind: linux, mgmt-ipv4: 172.20.20.9, stages: {create: {wait-for: [{node: a, stage: create}]}}}\n", "nodes wait for each other: a waits for b waits for a"},
		{"waits for itself", head + "    b: {kind: linux, stages: {create: {wait-for: [{node: b, stage: create}]}}}\n", `node "b" waits for itself`},
		{"bridge inside", head + "    br|z: {kind: bridge, network-mode: \"container:z\"}\n", `there is no container "z"`},
		{"sysctl", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, sysctls: {kernel.panic: 1}}\n", "only sysctls under net. belong to a node"},
		{"long name", head + "  links:\n  - endpoints: [a:abcdefghijklmnop, h:p]\n", "at most 15 characters"},
		{"link type", head + "  links:\n  - {type: vxlan-stitch, endpoint: {node: a, interface: e}, remote: 10.0.0.1, vni: 1}\n", `t.yml:7:5: topology.links[0]: link type "vxlan-stitch" is not supported`},
		{"vxlan", head + "  links:\n  - {type: vxlan, endpoint: {node: a, interface: e}, remote: far.example.net}\n", `topology.links[0].remote: needs an address, got "far.example.net"`},
		{"macvlan mode", head + "  links:\n  - {type: macvlan, host-interface: lo, mode: odd, endpoint: {node: a, interface: e}}\n", `unknown mode "odd"`},
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
