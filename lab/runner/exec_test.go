package runner_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestExecInContainerlabsShape(t *testing.T) {
	ctx := timeout(t)
	e := setUp(t, ctx, "exec")
	lab, err := runner.Up(ctx, parse(t, `
name: exec
topology:
  defaults: {kind: linux}
  kinds: {linux: {network-mode: none}}
  nodes:
    a: {labels: {app: web, tier: "1"}, env: {X: y}}
    b: {labels: {app: web, tier: "2"}}
    c: {labels: {app: db}}
    plexb: {kind: bridge}
`), e.options)
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	for _, tt := range []struct {
		conditions []string
		want       string
	}{
		{nil, "[a b c]"}, {[]string{"app=web"}, "[a b]"}, {[]string{"app!=web"}, "[c]"}, {[]string{"tier", "app=web"}, "[a b]"},
		{[]string{"tier=2"}, "[b]"}, {[]string{"clab-node-name=c"}, "[c]"}, {[]string{"containerlab=" + lab.Name()}, "[a b c]"}, {[]string{"nope"}, "[]"},
	} {
		if got, err := lab.Match(tt.conditions); err != nil || fmt.Sprint(got) != tt.want {
			t.Errorf("%q: %v, %v; want %s", tt.conditions, got, err, tt.want)
		}
	}
	results, err := lab.Exec(ctx, []string{"a", "c"}, [][]string{{"sh", "-c", "echo $X; echo oops >&2; exit 3"}, {"echo", `{"k": [1]}`}})
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string][]map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	a := got["clab-"+lab.Name()+"-a"]
	if len(got) != 2 || len(a) != 2 || a[0]["return-code"] != 3.0 || a[0]["stdout"] != "y\n" || a[0]["stderr"] != "oops\n" {
		t.Errorf("%s", data)
	}
	if cmd, ok := a[0]["cmd"].([]any); !ok || len(cmd) != 3 || cmd[0] != "sh" {
		t.Errorf("cmd %v", a[0]["cmd"])
	}
	if inner, ok := a[1]["stdout"].(map[string]any); !ok || inner["k"] == nil {
		t.Errorf("JSON output is not itself: %v", a[1]["stdout"])
	}
	if _, err := lab.Exec(ctx, []string{"a"}, [][]string{{"no-such-program"}}); err == nil {
		t.Error("a program that is not there ran")
	}
	labels, err := lab.AllLabels("b")
	if err != nil || labels["clab-node-longname"] != "clab-"+lab.Name()+"-b" || labels["app"] != "web" {
		t.Errorf("labels %v, %v", labels, err)
	}
	if !slices.Contains(lab.Nodes(), "plexb") {
		t.Error("a bridge is a node too")
	}
}
