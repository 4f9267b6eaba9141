package controller_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/detector"
)

// learns adds settings of response.learning to those of quick.
func learns(settings string) string {
	return strings.Replace(quick, "response:\n", "response:\n  relapse_window: 2s\n  learning: {"+settings+"}\n", 1)
}

// choices is the log as `platelet learn log` prints it.
func (r *rig) choices() []struct {
	learn.Played
	Outcome *learn.Outcome
} {
	r.t.Helper()
	out, err := r.run("learn", "log", "--state", filepath.Join(r.dir, "state"), "-o", "json")
	if err != nil {
		r.t.Fatalf("learn log: %v: %s", err, out)
	}
	var list []struct {
		learn.Played
		Outcome *learn.Outcome
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
	return list
}

// In mode shadow the playbook's rung is played with certainty, what the policy would
// choose is told, and what came of it is written down, also when the controller is
// killed in between.
func TestShadowWritesWhatCameOfIt(t *testing.T) {
	r := newRig(t, "plt-shadow")
	r.start(learns("mode: shadow, seed: 7"))
	bad := r.addr("h5")
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(bad.String(), "verified")
	if out, err := r.run("explain", d.ID, "--socket", r.socket); err != nil || !strings.Contains(out, "quarantine was chosen with probability 1 in mode shadow") {
		t.Errorf("explain: %v: %s", err, out)
	}
	var told []struct {
		ID     string
		Choice *response.Choice
	}
	if err := r.get("decisions", &told); err != nil || told[0].Choice == nil || told[0].Choice.Propensity != 1 || told[0].Choice.Wanted == "" {
		t.Errorf("%v: %+v", err, told)
	}
	r.await("the choice in the log", func() bool { return len(r.choices()) == 1 })
	r.kill()
	r.start(learns("mode: shadow, seed: 7"))
	r.awaitState(bad.String(), "released")
	r.await("its outcome", func() bool { return r.choices()[0].Outcome != nil })
	c := r.choices()[0]
	if c.Decision != d.ID || c.Action != response.ActionQuarantine || len(c.Arms) < 2 || c.Seed != 7 || c.Mode != response.LearningShadow {
		t.Errorf("choice %+v", c.Played)
	}
	if o := c.Outcome; o.Censored != "" || o.Reward < 0.8 || o.Parts.Stopped < 0.85 || o.Parts.Overruled != 0 {
		t.Errorf("outcome %+v", o)
	}
	// The finding is of before the kill: of it only the choice is known.
	if out, err := r.run("feedback", d.Finding, "false", "--socket", r.socket); err != nil {
		t.Errorf("feedback: %v: %s", err, out)
	}
	r.await("the verdict in the reward", func() bool { return r.choices()[0].Outcome.Parts.Overruled == 1 })
	if out, err := r.run("learn", "promote", "--state", filepath.Join(r.dir, "state")); err == nil || !strings.Contains(out, "not enough overlap") {
		t.Errorf("promoted in shadow: %v: %s", err, out)
	}
	story, err := r.run("audit", "show", d.ID, "--dir", filepath.Join(r.dir, "state", "audit"))
	if err != nil || !strings.Contains(story, "propensity") {
		t.Errorf("audit: %v: %s", err, story)
	}
}

// taught writes a log in which a segment earns more than a quarantine, and a
// promotion.
func (r *rig) taught() {
	r.t.Helper()
	dir := filepath.Join(r.dir, "state")
	if err := os.MkdirAll(learn.Dir(dir), 0o700); err != nil {
		r.t.Fatal(err)
	}
	var lines []byte
	add := func(x any) {
		raw, err := json.Marshal(x)
		if err != nil {
			r.t.Fatal(err)
		}
		lines = append(append(lines, raw...), '\n')
	}
	at := time.Now().Add(-24 * time.Hour)
	for i := range 3000 {
		id := fmt.Sprintf("d-taught%d", i)
		c := learn.Played{Type: "choice", Time: at, Decision: id, Finding: "f-taught", Kind: detector.KindPortScan, Target: netip.AddrFrom4([4]byte{10, 1, 0, byte(i % 100)}).String(),
			Schema: learn.Schema, Arms: []learn.Arm{{Action: response.ActionRateLimit, Propensity: 0.05}, {Action: response.ActionSegment, Propensity: 0.05}, {Action: response.ActionQuarantine, Propensity: 0.9}},
			Rule: response.ActionQuarantine, Wanted: response.ActionSegment, Action: response.ActionQuarantine, Mode: response.LearningExplore, Policy: "clucb/1"}
		c.Context = learn.ContextOf(response.Question{Finding: detector.Finding{Kind: c.Kind, Severity: detector.SeverityHigh, Score: 0.9 + 0.1*float64(i%7)/7,
			Confidence: 1, Victims: make([]netip.Addr, 1+i%3), Rate: float64(i % 11 * 100)}, Cost: response.Cost{Own: i % 4}})
		reward := 0.5
		switch i % 10 {
		case 0:
			c.Action, reward = response.ActionRateLimit, 0.1
		case 5:
			c.Action, reward = response.ActionSegment, 0.95
		}
		add(c)
		add(learn.Outcome{Type: "outcome", Time: at, Decision: id, Reward: reward})
	}
	if err := os.WriteFile(filepath.Join(learn.Dir(dir), "choices.jsonl"), lines, 0o600); err != nil {
		r.t.Fatal(err)
	}
	if out, err := r.run("learn", "promote", "--state", dir, "--why", "a test"); err != nil || !strings.HasPrefix(out, "promoted: better") {
		r.t.Fatalf("promote: %v: %s", err, out)
	}
}

// A promoted policy plays its rung on a real switch, and when that is not enough
// the playbook's takes its place.
func TestLivePolicyGivesWay(t *testing.T) {
	r := newRig(t, "plt-live")
	r.taught()
	// The second scan has to come while the first one's finding stands.
	r.start(strings.Replace(learns("mode: live, alpha: 0.2, explore: 0"), "keep_firing: 2s", "keep_firing: 8s", 1))
	bad, web, other := r.addr("h5"), r.addr("h1"), r.addr("h2")
	r.scan("h5", web)
	first := r.awaitState(bad.String(), "verified")
	if first.Action != "segment" {
		t.Fatalf("%s; choices %+v", first.Action, r.choices()[len(r.choices())-1])
	}
	if r.reaches("h5", web) {
		t.Error("the scanner reaches its victim")
	}
	r.awaitReach("h5", other, "which it has not attacked")
	r.await("the playbook's rung", func() bool {
		r.scan("h5", other) // what passes is all that the detectors see of it
		return slices.ContainsFunc(r.decisions(), func(d decision) bool { return d.Action == "quarantine" && d.State == "verified" })
	})
	if r.reaches("h5", other) {
		t.Error("it goes on elsewhere")
	}
	r.await("the end of the milder one", func() bool {
		return slices.ContainsFunc(r.decisions(), func(d decision) bool { return d.ID == first.ID && d.State == "released" })
	})
	r.await("what that says of it", func() bool {
		c := r.choices()
		i := slices.IndexFunc(c, func(c struct {
			learn.Played
			Outcome *learn.Outcome
		}) bool {
			return c.Decision == first.ID
		})
		return i >= 0 && c[i].Outcome != nil && c[i].Outcome.Parts.Relapsed == 1
	})
	var s struct{ Choices learn.Status }
	if err := r.get("status", &s); err != nil || s.Choices.Mode != response.LearningLive || s.Choices.Promoted == nil {
		t.Errorf("%v: %+v", err, s.Choices)
	}
	if out, err := r.run("learn", "demote", "--state", filepath.Join(r.dir, "state"), "--why", "seen enough"); err != nil {
		t.Fatalf("demote: %v: %s", err, out)
	}
	r.await("the demotion", func() bool {
		return r.get("status", &s) == nil && s.Choices.Mode == response.LearningShadow && strings.Contains(s.Choices.Why, "seen enough")
	})
}
