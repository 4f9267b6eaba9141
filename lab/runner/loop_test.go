package runner_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// fabric is two spines and three leaves, every leaf linked to both.
const fabric = `
name: loop
topology:
  nodes:
    plsp1: {kind: ovs-bridge}
    plsp2: {kind: ovs-bridge}
    pllf1: {kind: ovs-bridge}
    pllf2: {kind: ovs-bridge}
    pllf3: {kind: ovs-bridge}
    pledge: {kind: ovs-bridge}
    h1: {kind: linux, network-mode: none, exec: [ip addr add 10.79.0.1/24 dev eth1]}
    h2: {kind: linux, network-mode: none, exec: [ip addr add 10.79.0.2/24 dev eth1, ping -c 1 -W 5 10.79.0.1]}
  links:
  - endpoints: [plsp1:s1l1, pllf1:l1s1]
  - endpoints: [plsp1:s1l2, pllf2:l2s1]
  - endpoints: [plsp1:s1l3, pllf3:l3s1]
  - endpoints: [plsp2:s2l1, pllf1:l1s2]
  - endpoints: [plsp2:s2l2, pllf2:l2s2]
  - endpoints: [plsp2:s2l3, pllf3:l3s2]
  - endpoints: [pllf3:l3e, pledge:el3]
  - endpoints: [h1:eth1, pllf1:l1h1]
  - endpoints: [h2:eth1, pledge:eh2]
`

func parse(t *testing.T, text string) *clab.Topology {
	t.Helper()
	topo, err := clab.Parse("t.yml", []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func TestLoopsAreBroken(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "loop")
	start := time.Now()
	lab, err := runner.Up(ctx, parse(t, fabric), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	t.Logf("up in %v", time.Since(start))
	for node, want := range map[string]string{"plsp1": "true", "pllf2": "true", "pledge": "false"} {
		bridge, err := lab.Bridge(node)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := e.ovs.Ctl(ctx, "get", "bridge", bridge, "rstp_enable"); err != nil || got != want {
			t.Errorf("rstp_enable of %s is %q, %v; want %s", node, got, err, want)
		}
	}
	// One broadcast must arrive once: in a loop it would never end.
	run(t, ctx, lab, "h2", "sh", "-c", "test $(ping -c 20 -i 0.01 -W 5 10.79.0.1 | grep -c -i dup) = 0")
}
