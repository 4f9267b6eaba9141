package learn

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// truth is a world in which segment is better for passwords and worse for scans.
func truth(x Context, a response.Action) float64 {
	switch {
	case a == response.ActionQuarantine:
		return 0.6
	case x.class() == ClassLogin && a == response.ActionSegment:
		return 0.85
	}
	return 0.3
}

// logged makes a log of so many decisions, in which explore of them try a rung
// beside the rule's, about targets that fare alike.
func logged(seed uint64, n int, explore float64, reward func(Context, response.Action) float64) *Log {
	draw := rand.New(rand.NewPCG(seed, 0))
	log := &Log{Outcomes: map[string]Outcome{}}
	for i := range n {
		k := detector.KindPortScan
		if draw.IntN(2) == 0 {
			k = detector.KindBruteForce
		}
		c := choice(i)
		c.Kind, c.Context, c.Mode = k, contextOf(k, draw.IntN(8)), response.LearningExplore
		c.Target = fmt.Sprintf("10.0.%d.%d", seed, draw.IntN(60))
		c.Arms = []Arm{{response.ActionSegment, explore}, {response.ActionQuarantine, 1 - explore}}
		if explore == 0 {
			c.Mode = response.LearningShadow
		}
		c.Wanted, c.Action = response.ActionSegment, Draw(seed, c.Decision, c.Arms).Action
		log.Choices = append(log.Choices, c)
		log.Outcomes[c.Decision] = outcome(i, flag(draw.Float64() < reward(c.Context, c.Action)))
	}
	return log
}

// The estimators of a policy's reward have no bias, and their bounds hold as often
// as they say, for a policy that was learned elsewhere.
func TestEstimatorsAgainstTheTruth(t *testing.T) {
	p := NewPolicy(0.1)
	for _, s := range logged(1000, 3000, 0.3, truth).Samples() {
		p.Learn(s.Context, s.Action, s.Reward)
	}
	const runs, n = 200, 800
	var mean [figures]float64
	var covered [figures]int
	want := [figures]float64{} // half of each kind: segment for passwords, quarantine for scans
	want[figIPS], want[figSNIPS], want[figDR] = (0.85+0.6)/2, (0.85+0.6)/2, (0.85+0.6)/2
	want[figIPSRule], want[figSNIPSRule], want[figDRRule], want[figAdvantage] = 0.6, 0.6, 0.6, (0.85-0.6)/2
	for seed := range uint64(runs) {
		var list []judgement
		for _, s := range logged(seed+1, n, 0.1, truth).Samples() {
			list = append(list, judgeOne(p, &s))
		}
		_, _, b := bound(list, seed)
		for i := range figures {
			mean[i] += b[i].Mean / runs
			covered[i] += int(flag(b[i].Low <= want[i] && want[i] <= b[i].High))
		}
	}
	names := []string{"IPS", "SNIPS", "DR", "IPS of the rule", "SNIPS of the rule", "DR of the rule", "advantage"}
	for i := range figures {
		if math.Abs(mean[i]-want[i]) > 0.01 {
			t.Errorf("%s: %.4f on average, the truth is %.4f", names[i], mean[i], want[i])
		}
		if share := float64(covered[i]) / runs; share < 0.9 {
			t.Errorf("%s: the bounds hold in %.1f %%, %.0f %% are claimed", names[i], share*100, 100-200*tail)
		}
	}
}

// Where nothing is to be gained a promotion is rare; where there is, it comes with
// enough decisions.
func TestPromotionIsEarned(t *testing.T) {
	j := Judge{Alpha: 0.1, MinSamples: 20, Seed: 1}
	equal := func(Context, response.Action) float64 { return 0.6 }
	wrong := 0
	for seed := range uint64(100) {
		wrong += int(flag(logged(seed, 600, 0.1, equal).Report(j).Promotable))
	}
	if wrong > 6 { // 2.5 of 100 are what the bounds leave
		t.Errorf("promoted in %d of 100 worlds in which all rungs are alike", wrong)
	}
	if r := logged(1, 3000, 0.1, truth).Report(j); !r.Promotable || r.Advantage.Mean < 0.08 || r.Advantage.Mean > 0.17 {
		t.Errorf("not promoted: %v, advantage %v", r.Not, r.Advantage)
	}
	for _, c := range []struct {
		name string
		log  *Log
		want string
	}{
		{"empty", &Log{}, "not enough overlap: in no decision"},
		{"shadow", logged(1, 500, 0, truth), "not enough overlap: in no decision"},
		{"few", logged(1, 200, 0.15, truth), "not enough overlap: where the policy differs"},
		{"nothing to gain", logged(1, 3000, 0.1, func(_ Context, a response.Action) float64 { return 0.2 + 0.6*flag(a == response.ActionQuarantine) }), "choose as the rule does"},
	} {
		if r := c.log.Report(j); r.Promotable || !strings.Contains(r.Verdict(), c.want) {
			t.Errorf("%s: promotable %v, %q; want %q", c.name, r.Promotable, r.Verdict(), c.want)
		}
	}
}

// One host that is attacked a thousand times is not a thousand hosts.
func TestTargetsCountNotDecisions(t *testing.T) {
	log := logged(1, 3000, 0.1, truth)
	for i := range log.Choices {
		log.Choices[i].Target = fmt.Sprint(i % 6)
	}
	if r := log.Report(Judge{Alpha: 0.1, MinSamples: 20}); r.Promotable || !strings.Contains(r.Verdict(), "not enough targets: 6") {
		t.Errorf("promoted by six targets: %s", r.Verdict())
	}
}

// The text is the one in testdata:
//
//	UPDATE=1 go test ./controller/response/learn -run TestReportText
func TestReportText(t *testing.T) {
	log := logged(3, 2000, 0.1, truth)
	for i := range 12 {
		id := log.Choices[i].Decision
		if o := log.Outcomes[id]; i%2 == 0 {
			o.Censored = "nothing was done"
			log.Outcomes[id] = o
		} else {
			delete(log.Outcomes, id)
		}
		log.Choices[i].Time = time.Unix(1_700_000_000, 0).UTC()
	}
	log.Faults = append(log.Faults, fmt.Errorf("choices.jsonl:7: nonsense"))
	var out bytes.Buffer
	for _, n := range []int{len(log.Choices), 100} {
		part := *log
		part.Choices = part.Choices[:n]
		if err := part.Report(Judge{Alpha: 0.1, MinSamples: 20, Seed: 1}).WriteText(&out); err != nil {
			t.Fatal(err)
		}
		out.WriteString("---\n")
	}
	path := filepath.Join("testdata", "report.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the report is not that of %s (%v):\n%s", path, err, out.Bytes())
	}
}
