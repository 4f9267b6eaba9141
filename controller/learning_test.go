package controller_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// labelledLog writes a flow log in which every second host scans.
func labelledLog(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail\n")
	for host := range 32 {
		for i := range 72 {
			port, state, label := 443, "SF", 0
			if host%2 == 0 {
				port, state, label = 1000+i, "REJ", 1
			}
			fmt.Fprintf(&b, "%.1f,0.2,tcp,10.0.%d.5,%d,10.9.0.%d,%d,%s,5,5,600,4000,%d,\n",
				1.7e9+float64(600*host+5*i), host, 30000+i, i%3, port, state, label)
		}
	}
	path := filepath.Join(dir, "labelled.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A running controller takes verdicts on what it found, and follows the registry:
// a candidate is scored, a promoted model acts, and a rollback undoes that. What
// it keeps survives a kill.
func TestModelsAndVerdicts(t *testing.T) {
	r := newRig(t, "plt-learn")
	r.start("mode: observe\n")
	r.scan("h5", r.addr("h1"))
	var found finding
	r.await("the finding about the scanner", func() bool {
		var list []finding
		if r.get("findings", &list) != nil {
			return false
		}
		for _, f := range list {
			if f.Host == r.addr("h5").String() && f.Kind == "port-scan" {
				found = f
				return true
			}
		}
		return false
	})
	if out, err := r.run("feedback", found.ID, "true", "--why", "a test", "--socket", r.socket); err != nil || !strings.HasPrefix(out, "kept") {
		t.Errorf("feedback: %v: %s", err, out)
	}
	if out, err := r.run("feedback", "f-0000000000000000", "true", "--socket", r.socket); err == nil {
		t.Errorf("a verdict on nothing is kept: %s", out)
	}
	state := filepath.Join(r.dir, "state")
	raw, err := os.ReadFile(filepath.Join(state, "models", "verdicts.jsonl"))
	if err != nil || !strings.Contains(string(raw), found.ID) || !strings.Contains(string(raw), `"why":"a test"`) {
		t.Errorf("verdicts: %v: %s", err, raw)
	}

	follows := func(active, candidate int) {
		t.Helper()
		r.await(fmt.Sprintf("model v%d with candidate v%d", active, candidate), func() bool {
			var s struct {
				Learning struct{ Active, Candidate int }
			}
			return r.get("status", &s) == nil && s.Learning.Active == active && s.Learning.Candidate == candidate
		})
	}
	follows(0, 0)
	command := func(args ...string) {
		t.Helper()
		if out, err := r.run(append(args, "--state", state)...); err != nil {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	command("train", "--from", labelledLog(t, r.dir))
	follows(0, 1)
	command("model", "promote", "v1", "--force", "--why", "a test")
	follows(1, 0)
	r.kill()
	r.start("mode: observe\n")
	follows(1, 0)
	command("model", "rollback")
	follows(0, 0)
}
