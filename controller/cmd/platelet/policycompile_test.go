package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The flows are what ovs-ofctl reads, for each of the examples; the listing
// names every rule that can match.
func TestPolicyCompile(t *testing.T) {
	inventory := write(t, "inv.yaml", `
- {name: web1, addrs: [10.0.0.1, "fd00::1"], labels: {app: web, env: prod}}
- {name: db1, addrs: ["fd00::2", 10.0.0.2], labels: {app: db, env: prod}}
`)
	args := []string{"policy", "compile", designPolicies, "--at", designTime, "--inventory", inventory}
	out, _, err := call(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"q-10.20.3.7/egress/q-out", "default-deny/ingress/deny-in", "10.0.0.1/32, 10.0.0.2/32, fd00::1/128"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	if strings.Contains(out, "db-ingress") {
		t.Errorf("a staged policy is compiled:\n%s", out)
	}
	flows, _, err := call(t, append(args, "-o", "flows")...)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "flows.txt", flows)
	read, err := exec.Command("ovs-ofctl", "-O", "OpenFlow14", "parse-flows", file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, read)
	}
	want := 0
	for line := range strings.Lines(flows) {
		if !strings.HasPrefix(line, "#") {
			want++
		}
	}
	if got := strings.Count(string(read), "OFPT_FLOW_MOD"); got != want || want < 50 {
		t.Errorf("ovs-ofctl reads %d of %d flows", got, want)
	}
	for _, bad := range [][]string{{"--at", "yesterday"}, {"-o", "pdf"}, {"-o", "flows", "--base-table", "250"}} {
		if out, code, err := call(t, append(args, bad...)...); err == nil || code != 2 {
			t.Errorf("%v: exit %d: %s", bad, code, out)
		}
	}
}
