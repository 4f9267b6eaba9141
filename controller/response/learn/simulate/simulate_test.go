package simulate

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response"
)

func attacks(t testing.TB) []Attack {
	t.Helper()
	f, err := os.Open("../../../../lab/scoreboard.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	list, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// usual are the options that SIMULATION.md shows.
func usual(w World) Options {
	return Options{World: w, Rounds: 4000, Watched: 200, Seeds: []uint64{1, 2, 3, 4, 5}, Alpha: 0.1, Explore: 0.02, Delay: 5}
}

func simulated(t *testing.T, o Options) *Result {
	t.Helper()
	r, err := Simulate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMatrix(t *testing.T) {
	list := attacks(t)
	by := map[string]Attack{}
	for _, a := range list {
		by[a.Lab+"/"+a.Name] = a
	}
	if len(list) < 50 {
		t.Fatalf("%d attacks were read", len(list))
	}
	if f := by["first/syn-flood"]; !f.Spoofed || f.Rate < 50_000 || f.Proof <= 0 || f.Proof > 3 {
		t.Errorf("syn-flood: %+v", f)
	}
	if f := by["first/syn-flood-direct"]; f.Spoofed {
		t.Errorf("syn-flood-direct: %+v", f)
	}
	if b := by["first/ssh-brute-force"]; b.Rate < 50 || b.Rate > 500 || b.Proof != 0 { // alert only
		t.Errorf("ssh-brute-force: %+v", b)
	}
}

// In every run, at every round, no more of the rule's reward is risked than may
// be. Where the rule is wrong for some the policy does better in every run; where
// it is right it costs little.
func TestWorlds(t *testing.T) {
	var results []*Result
	for _, w := range Worlds(attacks(t)) {
		r := simulated(t, usual(w))
		results = append(results, r)
		for i := range r.Runs {
			x := &r.Runs[i]
			ratio := Last(x.Learner).Reward / Last(x.Rule).Reward
			regret, rule := Last(x.Learner).Regret, Last(x.Rule).Regret
			switch {
			case x.Least < 1-r.Alpha+0.03:
				t.Errorf("%s, seed %d: %.3f of the rule's reward at worst", w.Name, x.Seed, x.Least)
			case w.Name == "rule-is-best" && (ratio < 0.97 || rule > 0.001*float64(r.Rounds)):
				t.Errorf("%s, seed %d: %.3f of the rule's reward; the rule's regret is %.1f", w.Name, x.Seed, ratio, rule)
			case w.Name == "harsh" && (regret > 0.7*rule || ratio < 1.02):
				t.Errorf("%s, seed %d: regret %.0f, the rule's %.0f", w.Name, x.Seed, regret, rule)
			case w.Name == "default" && regret > 0.9*rule:
				t.Errorf("%s, seed %d: regret %.0f, the rule's %.0f", w.Name, x.Seed, regret, rule)
			}
		}
	}
	page(t, results)
}

// With little to risk, from the first incident on and in a world where the rule is
// best, no more is risked.
func TestLittleToRisk(t *testing.T) {
	worlds := Worlds(attacks(t))
	o := usual(worlds[2])
	o.Rounds, o.Watched = 1500, 0
	for _, alpha := range []float64{0.02, 0.05} {
		o.Alpha = alpha
		if r := simulated(t, o); r.Least() < 1-alpha {
			t.Errorf("alpha %v: %.4f of the rule's reward at worst", alpha, r.Least())
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := Simulate(t.Context(), Options{Rounds: 10, Seeds: []uint64{1}}); err == nil {
		t.Error("ten rounds are not enough for a curve")
	}
	if _, err := Read(strings.NewReader(`{"schema":"platelet-measure/1"}`)); err == nil {
		t.Error("a matrix without attacks")
	}
	if _, err := Read(strings.NewReader(`{"schema":"another/1"}`)); err == nil {
		t.Error("another schema")
	}
}

// page holds SIMULATION.md and its picture to what was simulated. Last digits may
// differ between processors, so only one kind compares:
//
//	UPDATE=1 go test ./controller/response/learn/simulate -run TestWorlds
func page(t *testing.T, results []*Result) {
	t.Helper()
	var text, picture bytes.Buffer
	fmt.Fprintf(&text, "# What it costs to learn\n\nMade by a test from `lab/scoreboard.json`; `platelet learn simulate lab/scoreboard.json` does the same. %d runs of %d incidents, the first %d of them\n"+
		"in mode shadow; rewards are known %d incidents later. What is measured and what is assumed: the documentation of this package.\n\n![regret](regret.svg)\n\n",
		len(results[0].Runs), results[0].Rounds, usual(World{}).Watched, usual(World{}).Delay)
	for _, r := range results {
		fmt.Fprintf(&text, "- **%s**: %s.\n", r.World, r.About)
	}
	text.WriteString("\n```\n")
	if err := errors.Join(WriteText(&text, results), WriteSVG(&picture, results)); err != nil {
		t.Fatal(err)
	}
	text.WriteString("```\n\nRegret is what the best rung of each incident would have earned more; it is counted in rewards, which are 1 at best. *Least share of rule* is the\nlowest, at any round of any run, of what was earned so far over what the rule would have earned.\n")
	for name, want := range map[string][]byte{"SIMULATION.md": text.Bytes(), "regret.svg": picture.Bytes()} {
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(name)
		if err != nil || runtime.GOARCH == "amd64" && !bytes.Equal(have, want) {
			t.Errorf("%s is not what was simulated (%v); run the command above this function", name, err)
		}
	}
	dec := xml.NewDecoder(&picture)
	for {
		if _, err := dec.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schema":"platelet-measure/1","labs":[{"name":"first","attacks":[{"name":"port-scan","expected_finding":"port-scan","summary":{"sent":1518,"ttc_ms":{"n":1,"p50":9.1},"verified_ms":{"n":1,"p50":293},"benign":{"during":{"s":1.5}}}}]}]}`))
	f.Add([]byte(`{"schema":"platelet-measure/1","labs":[{"attacks":[{"expected_finding":"worm","summary":{"sent":1,"benign":{"during":{"s":1e-308}}}}]}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := Read(bytes.NewReader(raw))
		if err != nil {
			return
		}
		for _, a := range list {
			in := Incident{Attack: a, Rule: response.ActionQuarantine}
			in.open()
			for _, x := range in.Open {
				if r := in.expected(x); !(r >= 0 && r <= 1) {
					t.Fatalf("%+v: %s earns %v", a, x, r)
				}
			}
		}
	})
}
