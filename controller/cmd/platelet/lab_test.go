package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// TestLabCommands brings labs up, looks at them, runs commands in them and
// takes them down, all by the command line.
func TestLabCommands(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "pllab") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	i, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Stop()
	topo := filepath.Join(dir, "cli.clab.yml")
	if err := os.WriteFile(topo, []byte(`
name: cli
topology:
  kinds: {linux: {network-mode: none}}
  nodes:
    plcli: {kind: ovs-bridge}
    a: {kind: linux, group: g, labels: {app: web}, exec: [ip addr add 10.86.0.1/24 dev eth1]}
    b: {kind: linux}
  links:
  - endpoints: [a:eth1, plcli:plcli-a]
  - endpoints: [b:eth1, plcli:plcli-b]
`), 0o600); err != nil {
		t.Fatal(err)
	}
	lab := func(want int, args ...string) string {
		t.Helper()
		out, code, err := call(t, append([]string{"lab", "--db", i.DB, "--state-dir", filepath.Join(dir, "labs")}, args...)...)
		if code != want {
			t.Fatalf("%q: exit %d, %v, want %d\n%s", args, code, err, want, out)
		}
		return out
	}
	lab(0, "up", topo)
	lab(0, "up", "--name", "other", topo)
	lab(1, "up", topo) // is up already
	var labs map[string][]runner.Container
	if err := json.Unmarshal([]byte(lab(0, "inspect", "-o", "json")), &labs); err != nil || len(labs) != 2 || len(labs["cli"]) != 3 {
		t.Fatalf("%v, %v", labs, err)
	}
	if a := labs["cli"][1]; a.Name != "clab-cli-a" || a.Kind != "linux" || a.Group != "g" || a.State != "running" || a.IPv4Address != "10.86.0.1/24" || a.AbsLabPath != topo {
		t.Errorf("%+v", a)
	}
	if out := lab(0, "inspect", "other"); strings.Contains(out, "clab-cli-a") || !strings.Contains(out, "clab-other-a") {
		t.Errorf("inspect other: %s", out)
	}
	var results map[string][]struct {
		Cmd    []string
		Code   int `json:"return-code"`
		Stdout string
	}
	if err := json.Unmarshal([]byte(lab(0, "exec", "--lab", "cli", "--cmd", "uname -n", "--label", "app=web", "-f", "json")), &results); err != nil {
		t.Fatal(err)
	}
	if r := results["clab-cli-a"]; len(results) != 1 || len(r) != 1 || r[0].Stdout != "a\n" || r[0].Code != 0 || r[0].Cmd[0] != "uname" {
		t.Errorf("%+v", results)
	}
	if out := lab(0, "exec", "--lab", "cli", "--cmd", "uname -n"); strings.Count(out, "ReturnCode: 0") != 2 {
		t.Errorf("exec everywhere: %s", out)
	}
	lab(7, "exec", "--lab", "cli", "b", "--", "sh", "-c", "exit 7")
	lab(2, "exec", "--lab", "cli", "--label", "app=none", "--cmd", "true")
	lab(2, "exec", "--lab", "cli", "nobody", "--cmd", "true")
	if _, err := os.Stat(filepath.Join(dir, "clab-cli", "topology-data.json")); err != nil {
		t.Error(err)
	}
	lab(0, "down", topo)
	lab(0, "down", "--all")
	if out := lab(0, "inspect", "-o", "json"); strings.TrimSpace(out) != "{}" {
		t.Errorf("still up: %s", out)
	}
}
