package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLabCheckReportsEveryFile checks all labs of ours and the public ones in
// one call, as JSON.
func TestLabCheckReportsEveryFile(t *testing.T) {
	ours, err := filepath.Glob("../../../lab/*.clab.yml")
	if err != nil || len(ours) == 0 {
		t.Fatal(ours, err)
	}
	public, err := filepath.Glob("../../../lab/clab/testdata/public/*.yml")
	if err != nil || len(public) != 10 {
		t.Fatal(public, err)
	}
	for _, command := range [][]string{{"check"}, {"lab", "check"}} {
		out, code, err := call(t, append(append(command, "-o", "json"), append(ours, public...)...)...)
		if code != 2 || err == nil {
			t.Errorf("exit %d, %v", code, err)
		}
		var reports []checkReport
		if err := json.Unmarshal([]byte(out), &reports); err != nil {
			t.Fatal(err)
		}
		good := map[string]checkReport{}
		for _, r := range reports {
			if r.Good {
				good[filepath.Base(r.File)] = r
			} else if len(r.Faults) == 0 || r.Faults[0].Line == 0 || r.Faults[0].Message == "" {
				t.Errorf("%s: refused without a place: %+v", r.File, r.Faults)
			}
		}
		for _, file := range append(ours, "stages.clab.yml", "03-linux-nodes-to-bridge-and-host.clab.yml") {
			if r, ok := good[filepath.Base(file)]; !ok || r.Kind != "topology" || r.Nodes == 0 {
				t.Errorf("%s is not good: %+v", file, r)
			}
		}
		if len(good) != len(ours)+2 {
			t.Errorf("%d good of %d", len(good), len(reports))
		}
	}
}

func TestCheckNotes(t *testing.T) {
	topo := write(t, "t.clab.yml", "name: x\ntopology:\n  nodes:\n    a: {kind: linux, cpu: 2, ports: [80:80]}\n")
	out, code, err := call(t, "lab", "check", topo)
	if code != 0 || err != nil || !strings.Contains(out, "note: node a: cpu, ports: without effect") {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(topo), "clab-x")); err == nil {
		t.Error("a check makes directories")
	}
}
