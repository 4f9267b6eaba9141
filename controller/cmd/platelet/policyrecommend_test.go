package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/staged"
)

// What was learned of a day of one PC reads as a policy, and denies of that day
// what it says to leave out, and nothing else that was answered.
func TestPolicyRecommend(t *testing.T) {
	const day = "../../../detector/testdata/benign-day.csv.gz"
	file := filepath.Join(t.TempDir(), "learned.yaml")
	if out, code, err := call(t, "policy", "recommend", "--records", day, "-o", file); code != 0 || out != "" {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# Seen: 788 records", "# 1 host: 192.168.1.109", "mode: staged", "confidence 0.", "default-deny"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("%q is not in\n%s", want, raw)
		}
	}
	out, code, err := call(t, "policy", "simulate", file, "--records", day, "-o", "json")
	if code != 0 {
		t.Fatalf("exit %d, %v", code, err)
	}
	var r staged.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	rare := strings.Count(string(raw), "too rare") // the line that counts them
	if r.WouldDeny.Connections == 0 || r.WouldDeny.Answered > 0 && rare == 0 {
		t.Errorf("would be denied: %+v\n%s", r.WouldDeny, raw)
	}
	for i := range r.Rules {
		if x := &r.Rules[i]; x.Action == "allow" && !x.Hit {
			t.Errorf("%s is never needed", x.ID)
		}
	}
	for _, args := range [][]string{{}, {"--records", day, "--min-confidence", "1"}, {"--records", day, "--internal", "10.0.0.1"}, {"--records", day, "more.yaml"}, {"--records", "nowhere"}} {
		if _, code, err := call(t, append([]string{"policy", "recommend"}, args...)...); code == 0 || err == nil {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
