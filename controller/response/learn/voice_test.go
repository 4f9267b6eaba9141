package learn

import (
	"fmt"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// flooded is a month in which segments stop half of what quarantines stop, and an
// evening on which operators object to every quarantine of it.
func flooded(t *testing.T, operators int) *Learner {
	t.Helper()
	cfg := testConfig(t, response.LearningExplore)
	cfg.Explore = 0.3
	l := New(cfg)
	const incidents = 700
	for i := range incidents {
		l.happen(i, func(d *response.Decision) {
			if d.Action == response.ActionSegment {
				d.Proof.Passed = d.Proof.Dropped
			}
		})
	}
	for who := range operators {
		for i := range incidents {
			finding := fmt.Sprintf("f-%d", i)
			if p := l.done[fmt.Sprintf("d-%d", i)]; p.choice.Action == response.ActionQuarantine && !l.Verdict(finding, false, fmt.Sprint("op-", who), start) {
				t.Fatalf("nothing was chosen about %s", finding)
			}
		}
	}
	return l
}

func objections(log *Log) (n int) {
	for _, o := range log.Outcomes {
		n += int(o.Parts.Overruled)
	}
	return n
}

// However many verdicts one operator, or a stolen login, gives in a day, they cause
// no promotion of what is worse.
func TestAFloodOfVerdictsPromotesNothing(t *testing.T) {
	for operators, want := range map[int]int{1: operatorPerDay, 2: 2 * operatorPerDay, 10: objectionsPerDay} {
		l := flooded(t, operators)
		log := logOf(t, l)
		r := log.Report(Judge{Alpha: 0.1, MinSamples: 20, Seed: 1})
		if n := objections(log); n != want || r.Promotable || r.Judged < 600 {
			t.Errorf("%d operators: %d objections count, want %d; promotable %v by %d decisions, advantage %v", operators, n, want, r.Promotable, r.Judged, r.Advantage)
		}
		if l.Status().Counts.Unheard < 400 {
			t.Errorf("%d operators: %+v", operators, l.Status().Counts)
		}
	}
}

// A day is a day over a restart as well, and the next one is another.
func TestAnOperatorsDay(t *testing.T) {
	l := flooded(t, 1)
	logOf(t, l)
	again := New(l.cfg)
	if err := again.Load(nil, start); err != nil {
		t.Fatal(err)
	}
	right := func(i int) bool { // not objected to yet
		p := again.done[fmt.Sprintf("d-%d", i)]
		return p.choice.Action == response.ActionQuarantine && p.parts.Overruled == 0
	}
	var quiet []int
	for i := range 700 {
		if right(i) {
			quiet = append(quiet, i)
		}
	}
	say := func(i int, real bool, who string, at time.Time) bool {
		again.Verdict(fmt.Sprintf("f-%d", quiet[i]), real, who, at)
		return !right(quiet[i])
	}
	if say(0, false, "op-0", start) {
		t.Error("the allowance of the day is there again after a restart")
	}
	if !say(0, false, "op-0", start.Add(24*time.Hour)) || !say(1, false, "op-1", start) {
		t.Error("another day, or another operator, is not heard")
	}
	if say(1, true, "op-1", start) {
		t.Error("what one said oneself cannot be taken back")
	}
	if !say(2, false, "op-1", start) || say(2, true, "op-2", start) {
		t.Error("another operator cannot take it back")
	}
	if !say(3, false, "op-1", start) || !say(3, true, "op-0", start) {
		t.Error("an operator who has used the day up takes back what others say")
	}
	// What was rejected beyond the allowance has no reward: it stopped nothing,
	// and nobody knows what it would have.
	for i := range operatorPerDay + 1 {
		q := question(1000, byte(i+1))
		q.Decision, q.Time = fmt.Sprintf("r-%d", i), start.Add(50*24*time.Hour)
		d := decided(q, again.Choose(q))
		d.State, d.Applied, d.Verified, d.Proof, d.Overruled = response.StateRefused, time.Time{}, time.Time{}, response.Proof{}, "op-9"
		again.Decision(d)
		again.tick(d.Ended.Add(again.cfg.Relapse))
	}
	log := logOf(t, again)
	if o := log.Outcomes[fmt.Sprintf("r-%d", operatorPerDay)]; o.Censored == "" || log.Outcomes["r-0"].Censored != "" || log.Outcomes["r-0"].Objector != "op-9" {
		t.Errorf("%+v, %+v", o, log.Outcomes["r-0"])
	}
}
