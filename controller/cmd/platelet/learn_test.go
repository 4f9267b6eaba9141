package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/detector"
)

// choicesState is a state directory with a log in which a segment earned so much
// and a quarantine half.
func choicesState(t *testing.T, segment float64) string {
	t.Helper()
	state := t.TempDir()
	if err := os.MkdirAll(learn.Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for i := range 600 {
		c := learn.Played{Type: "choice", Time: time.Unix(int64(i), 0).UTC(), Decision: fmt.Sprintf("d-%d", i), Kind: detector.KindBruteForce,
			Target: fmt.Sprint(i % 50), Schema: learn.Schema, Rule: response.ActionQuarantine, Wanted: response.ActionSegment, Action: response.ActionQuarantine,
			Arms: []learn.Arm{{Action: response.ActionSegment, Propensity: 0.1}, {Action: response.ActionQuarantine, Propensity: 0.9}}, Mode: response.LearningExplore,
			Context: learn.ContextOf(response.Question{Finding: detector.Finding{Kind: detector.KindBruteForce, Score: 0.9}})}
		o := learn.Outcome{Type: "outcome", Time: c.Time, Decision: c.Decision, Reward: 0.4 + 0.2*float64(i%2)}
		if i%10 == 3 {
			c.Action, o.Reward = response.ActionSegment, segment
		}
		for _, x := range []any{c, o} {
			raw, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			lines = append(append(lines, raw...), '\n')
		}
	}
	if err := os.WriteFile(filepath.Join(learn.Dir(state), "choices.jsonl"), append(lines, "{cut off"...), 0o600); err != nil {
		t.Fatal(err)
	}
	return state
}

// The README's commands on choices, in their order, on a log that bears a promotion
// out and on one that does not.
func TestReadmeChoices(t *testing.T) {
	raw, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "### Which rung\n")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	section, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the section is gone from the README")
	}
	for _, better := range []bool{true, false} {
		segment := 0.3
		if better {
			segment = 0.9
		}
		state, ran := choicesState(t, segment), 0
		for line := range strings.Lines(section) {
			line, _, _ = strings.Cut(line, " #")
			args := strings.Fields(line)[1:]
			if args[1] == "simulate" {
				for i, a := range args {
					switch {
					case strings.HasPrefix(a, "lab/"):
						args[i] = "../../../" + a
					case strings.HasSuffix(a, ".svg"):
						args[i] = filepath.Join(state, a)
					}
				}
				args = append(args, "--rounds", "200", "--runs", "1")
			} else {
				args = append(args, "--state", state)
			}
			ran++
			out, _, err := call(t, args...)
			switch {
			case args[1] == "promote" && !better:
				if err == nil || !strings.Contains(err.Error(), "not to be promoted yet") {
					t.Errorf("%v: %v: %s", args, err, out)
				}
			case err != nil || out == "" && args[1] != "demote":
				t.Errorf("%v: %v: %s", args, err, out)
			}
		}
		if ran != 5 {
			t.Errorf("%d commands", ran)
		}
		s, err := learn.ReadStanding(state)
		if err != nil || s.Live || s.Changes[0].Who != operator() || better != (s.Changes[0].What == learn.Promoted) {
			t.Errorf("%+v, %v", s, err)
		}
	}
}

func TestLearnFormats(t *testing.T) {
	state := choicesState(t, 0.9)
	var r learn.Report
	out, _, err := call(t, "learn", "report", "--state", state, "-o", "json")
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || !r.Promotable || r.Choices != 600 || len(r.Faults) > 0 {
		t.Errorf("%v: %.400s", err, out)
	}
	if out, _, err = call(t, "learn", "report", "--state", state, "-o", "yaml"); err != nil || !strings.Contains(out, "promotable: true") {
		t.Errorf("%v: %.400s", err, out)
	}
	if out, _, err = call(t, "learn", "log", "--state", state, "--last", "3"); err != nil || strings.Count(out, "\n") != 4 || !strings.Contains(out, "brute-force") {
		t.Errorf("%v: %s", err, out)
	}
	if _, code, _ := call(t, "learn", "report", "--state", state, "-o", "xml"); code != 2 {
		t.Errorf("unknown format: exit %d, want 2", code)
	}
	cfg := write(t, "c.yaml", "response: {learning: {min_samples: 5000}}\n")
	if _, _, err := call(t, "learn", "promote", "--state", state, "-c", cfg); err == nil || !strings.Contains(err.Error(), "5000 are needed") {
		t.Errorf("the configuration asks for more: %v", err)
	}
}
