package runner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// fifty is a lab of 48 hosts on two bridges of Open vSwitch, 50 nodes in all,
// each host with a link, an address and a command.
func fifty() string {
	var b strings.Builder
	b.WriteString("name: fifty\ntopology:\n  defaults: {network-mode: none}\n  nodes:\n    plf1: {kind: ovs-bridge}\n    plf2: {kind: ovs-bridge}\n")
	for i := range 48 {
		fmt.Fprintf(&b, "    h%d: {kind: linux, cmd: sleep 600, exec: [ip addr add 10.83.0.%d/24 dev eth1, ip route add default via 10.83.0.254]}\n", i, i+1)
	}
	b.WriteString("  links:\n  - endpoints: [plf1:plf-x, plf2:plf-y]\n")
	for i := range 48 {
		fmt.Fprintf(&b, "  - {endpoints: [h%d:eth1, plf%d:plf-%d], mtu: 1500}\n", i, 1+i%2, i)
	}
	return b.String()
}

func TestFiftyNodes(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "fifty")
	start := time.Now()
	lab, err := runner.Up(ctx, parse(t, fifty()), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	t.Logf("up in %v", time.Since(start).Round(time.Millisecond))
	run(t, ctx, lab, "h0", "ping", "-c", "1", "-W", "10", "10.83.0.48") // across both bridges
	run(t, ctx, lab, "h46", "ping", "-c", "1", "-W", "10", "10.83.0.2")
	start = time.Now()
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("down in %v", time.Since(start).Round(time.Millisecond))
	if left := e.traces(t, ctx, lab.Name()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// BenchmarkUp50 is the budget's: 50 nodes up in less than 10 s.
func BenchmarkUp50(b *testing.B) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	i, err := ovs.Start(ctx, b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer i.Stop()
	topo, err := clab.Parse("t.yml", []byte(fifty()), func(string) (string, bool) { return "", false })
	if err != nil {
		b.Fatal(err)
	}
	o := runner.Options{DB: i.DB, StateDir: b.TempDir(), Name: "bench"}
	for b.Loop() {
		lab, err := runner.Up(ctx, topo, o)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := lab.Down(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
