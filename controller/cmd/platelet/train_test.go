package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/detector"
)

// labelledLog is a flow log in which sixteen hosts scan and as many do not.
func labelledLog(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("ts,dur,proto,src,sport,dst,dport,state,spkts,dpkts,sbytes,dbytes,label,detail\n")
	for host := range 32 {
		for minute := range 6 {
			for i := range 12 {
				at := 1.7e9 + float64(600*host+60*minute+4*i)
				src, port, state, label := fmt.Sprintf("10.0.%d.5", host), 443, "SF", 0
				if host%2 == 0 {
					port, state, label = 1000+minute*100+i, "REJ", 1
				}
				fmt.Fprintf(&b, "%.1f,0.2,tcp,%s,%d,10.9.0.%d,%d,%s,5,5,600,4000,%d,\n", at, src, 30000+minute*12+i, i%3, port, state, label)
			}
		}
	}
	return write(t, "labelled.csv", b.String())
}

// siteState is a state directory with verdicts of an operator.
func siteState(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for i := range 12 {
		w := make(learning.Vector, detector.NumFeatures)
		w[detector.FeatureOpens], w[detector.FeatureServices] = 10, 3
		err := learning.OpenVerdicts(dir).Add(learning.Verdict{Finding: fmt.Sprint("f-", i), Host: netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}),
			Real: i%2 == 0, Who: "ann", Time: time.Unix(1.7e9, 0), Schema: detector.ModelSchema().Hash, Windows: []learning.Vector{w}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The commands of the README's section on teaching, in their order.
func TestReadmeTeaching(t *testing.T) {
	raw, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile("(?s)## Teaching it\n.*?```sh\n(.*?)```").FindSubmatch(raw)
	if section == nil {
		t.Fatal("the section is gone from the README")
	}
	state, log := siteState(t), labelledLog(t)
	ran := 0
	for line := range strings.Lines(string(section[1])) {
		line, _, _ = strings.Cut(line, "#")
		args := append(strings.Fields(strings.ReplaceAll(line, "labelled.csv", log))[1:], "--state", state)
		out, _, err := call(t, args...)
		ran++
		if args[1] != "promote" {
			if err != nil || out == "" {
				t.Errorf("%v: %v: %s", args, err, out)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "not to be promoted yet") {
			t.Errorf("%v: promoted without having proven itself: %v", args, err)
		}
		if _, code, _ := call(t, append(args, "--force")...); code != 2 {
			t.Errorf("forced without a reason: exit %d", code)
		}
		if _, _, err = call(t, append(args, "--force", "--why", "a test")...); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	if ran != 6 {
		t.Errorf("%d commands", ran)
	}
	out, _, err := call(t, "model", "list", "--state", state)
	if err != nil || !regexp.MustCompile(`(?m)^v0 +active`).MatchString(out) || !regexp.MustCompile(`(?m)^v2 +candidate .*no running controller|(?m)^v2 +candidate`).MatchString(out) {
		t.Errorf("after the rollback: %v\n%s", err, out)
	}
}

func TestTrainWritesAFile(t *testing.T) {
	log, path := labelledLog(t), filepath.Join(t.TempDir(), "m.json")
	train := func() (string, int, error) {
		return call(t, "train", "--from", log, "-o", path, "--base", "none", "--without", "size_mean")
	}
	out, _, err := train()
	if err != nil || !strings.Contains(out, "labelled") || !strings.Contains(out, "BEST RULE") {
		t.Fatalf("%v\n%s", err, out)
	}
	out, _, err = call(t, "model", "show", path, "-o", "json")
	if err != nil || !strings.Contains(out, `"sha256": "`) || !strings.Contains(out, `"who": "`+operator()) {
		t.Errorf("%v\n%.2000s", err, out)
	}
	if _, _, err = call(t, "train", "--from", log, "-o", path, "--base", path); err != nil {
		t.Errorf("continue from the file: %v", err)
	}
	if _, _, err = call(t, "train", "--from", log, "-o", path, "--without", "nonsense"); err == nil {
		t.Error("left a feature out that is not there")
	}
	if _, _, err = call(t, "train", "--state", t.TempDir(), "--base", "none"); err == nil || !strings.Contains(err.Error(), "too few labels") {
		t.Errorf("learned from an empty site: %v", err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = call(t, "model", "show", path); err == nil || !strings.Contains(err.Error(), "not a usable model file") {
		t.Errorf("%v", err)
	}
}

func TestFeedbackArguments(t *testing.T) {
	if _, code, _ := call(t, "feedback", "f-1", "maybe"); code != 2 {
		t.Errorf("exit %d", code)
	}
}
