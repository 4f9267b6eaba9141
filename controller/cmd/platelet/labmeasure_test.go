package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/report"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// TestMain runs the tests in namespaces of their own. The controller that a
// measurement starts is this very program: here that is the test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "run" || os.Args[1] == "lab") {
		main()
		return
	}
	os.Exit(ovs.Isolate(m.Run))
}

// TestMeasureOnSeveralBridges measures the real controller on a lab with a
// router and two bridges, as the command line does.
func TestMeasureOnSeveralBridges(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../../../lab/branch.clab.yml")
	dir := t.TempDir()
	board := filepath.Join(dir, "README.md")
	if err := os.WriteFile(board, []byte(report.Begin+"\n"+report.End+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	save := filepath.Join(dir, "board")
	out, code, err := call(t, "lab", "measure", env.Topology.File, "--attack", "port-scan", "--runs", "1", "--release", "1", "--warm-up", "2s", "--seed", "5",
		"--db", env.Options.DB, "--state-dir", env.Options.StateDir, "--name", env.Options.Name, "-o", "json",
		"--save", save, "--markdown", board, "--truth", filepath.Join(dir, "truth"))
	if code != 0 {
		t.Fatal(err)
	}
	var r measure.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	lab := r.Labs[0]
	if r.Seed != 5 || r.Machine.Cores < 1 || r.Machine.OVS == "" || lab.Name != env.Options.Name || lab.Bridges != 2 || lab.Datapath != "netdev" {
		t.Errorf("got %+v, %s with %d bridges on %s", r.Machine, lab.Name, lab.Bridges, lab.Datapath)
	}
	a := lab.Attacks[0]
	if s := a.Summary; a.Error != "" || s.Named.K != 1 || s.Contained.K != 1 || s.Released.K != 1 || s.False != 0 || s.Benign.During.Flows == 0 {
		t.Errorf("%s: %+v", a.Error, s)
	}
	for _, name := range []string{save + ".json", save + ".html", board, filepath.Join(dir, "truth", lab.Name+"-port-scan-1.jsonl"), filepath.Join(dir, "truth", lab.Name+"-benign.jsonl")} {
		if info, err := os.Stat(name); err != nil || info.Size() < 100 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if listed, err := runner.List(env.Options); err != nil || len(listed) != 0 {
		t.Errorf("lab left up: %v, %v", listed, err)
	}
	shown, code, err := call(t, "lab", "report", save+".json")
	if code != 0 || !strings.Contains(shown, "port-scan") {
		t.Errorf("exit %d, %v: %s", code, err, shown)
	}
	// Nothing is left to measure, and nothing is brought up for it.
	if _, code, err := call(t, "lab", "measure", env.Topology.File, "--attack", "port-scan", "--seed", "5", "--db", "unix:"+filepath.Join(dir, "none"),
		"--name", env.Options.Name, "--save", save, "--resume"); code != 0 {
		t.Errorf("resumed: exit %d, %v", code, err)
	}
}

func TestMeasureFaults(t *testing.T) {
	const first = "../../../lab/first.clab.yml"
	notOurs := write(t, "x.json", "{}\n")
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"measure", first, "-o", "xml"}, 2, "text, json, html or markdown"},
		{[]string{"measure", first, "--runs", "0"}, 2, "0 runs"},
		{[]string{"measure", first, "--hold", "0s"}, 2, "must be positive"},
		{[]string{"measure", first, first, "--name", "x"}, 2, "cannot all be called x"},
		{[]string{"measure", first, "--resume"}, 2, "--save"},
		{[]string{"measure", first, "--attack", "port-scam,worn"}, 1, `unknown attack "worn"`},
		{[]string{"measure", first, "--benign", "offise"}, 1, "offise"},
		{[]string{"measure", "none.clab.yml"}, 1, "none.clab.yml"},
		{[]string{"report", "none.json"}, 1, "none.json"},
		{[]string{"report", notOurs}, 1, "not a report"},
	} {
		args := append([]string{"lab", "--db", "unix:/nowhere", "--state-dir", filepath.Join(t.TempDir(), "labs")}, tt.args...)
		if _, code, err := call(t, args...); code != tt.code || err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: exit %d, %v; want %d, %s", tt.args, code, err, tt.code, tt.want)
		}
	}
}

func TestLabEvent(t *testing.T) {
	for line, want := range map[string]measure.Event{
		`{"type":"finding","id":"f-1","kind":"syn-flood","state":"firing","host":"","host_mac":"aa:c1:ab:00:00:01","victims":["10.77.0.11"],"time":"2026-11-23T00:00:00.5Z"}`: {
			Type: measure.Finding, ID: "f-1", Kind: "syn-flood", State: measure.StateFiring, MAC: "aa:c1:ab:00:00:01", Victims: []string{"10.77.0.11"},
			Time: time.Date(2026, 11, 23, 0, 0, 0, 5e8, time.UTC),
		},
		`{"type":"decision","id":"d-1","finding":"f-1","kind":"syn-flood","state":"Applied","action":"rate-limit","target":"forged","at":{"port":"p5","mac":"aa:c1:ab:00:00:02"},"limit_pktps":200}`: {
			Type: measure.Decision, ID: "d-1", Finding: "f-1", Kind: "syn-flood", State: measure.StateApplied, Action: "rate-limit", Target: "forged",
			Port: "p5", MAC: "aa:c1:ab:00:00:02", Limit: 200,
		},
	} {
		got, err := labEvent([]byte(line))
		if err != nil || !slices.Equal(got.Victims, want.Victims) {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
		got.Victims, want.Victims = nil, nil
		if g, w := mustJSON(t, got), mustJSON(t, want); g != w {
			t.Errorf("%s: %s, want %s", line, g, w)
		}
	}
	if _, err := labEvent([]byte("{")); err == nil {
		t.Error("took half a line")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestWhatWasNotMeasuredIsAnError(t *testing.T) {
	r := measure.Report{Labs: []measure.Lab{{Name: "first", Attacks: []measure.Attack{{Name: "worm"}}}}}
	if err := incomplete(r); err != nil {
		t.Errorf("an attack that was not detected: %v", err)
	}
	r.Labs[0].Attacks[0].Error = "the controller died"
	if err := incomplete(r); err == nil || !strings.Contains(err.Error(), "first worm") {
		t.Errorf("got %v", err)
	}
}

// Every topology that we ship can be attacked: somebody is cast for each role.
func TestEveryTopologyCanBeMeasured(t *testing.T) {
	files, err := filepath.Glob("../../../lab/*.clab.yml")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, f := range files {
		topo, err := clab.Load(f)
		if err != nil {
			t.Fatal(err)
		}
		c := measure.Config{Topology: topo, Attacks: attackNames()}
		if err := c.Check(); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
}
