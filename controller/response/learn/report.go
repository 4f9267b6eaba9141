package learn

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

// leastTargets is how many hosts or victims must stand behind a promotion: bounds
// from fewer are worth little.
const leastTargets = 10

// Judge is what a report is asked for with.
type Judge struct {
	// Alpha is the share of the rule's reward that may be risked.
	Alpha float64
	// MinSamples is how often the policy must have been tried where it differs
	// from the rule.
	MinSamples int
	// Seed is of the bootstrap.
	Seed uint64
}

// Report is what a log says of the policy that can be learned from it, beside the
// rule.
type Report struct {
	From    time.Time `json:"from,omitzero"`
	To      time.Time `json:"to,omitzero"`
	Choices int       `json:"choices"`
	// Modes counts choices by the mode that they were made in.
	Modes map[response.LearningMode]int `json:"modes"`
	// Rewarded are those whose reward is known, Censored those whose is never,
	// Waiting the others.
	Rewarded int `json:"rewarded"`
	Censored int `json:"censored"`
	Waiting  int `json:"waiting"`
	// Judged are the rewarded ones in which another rung had a chance, about
	// so many Targets. In Differs the policy would take another rung than the
	// rule, and in Tried of these it was played. Unsupported counts where it
	// would take one that had no chance; it is judged without those.
	Judged      int `json:"judged"`
	Targets     int `json:"targets"`
	Differs     int `json:"differs"`
	Tried       int `json:"tried"`
	Unsupported int `json:"unsupported"`
	// Effective is how many decisions of equal weight would say as much.
	Effective float64 `json:"effective"`

	Policy Estimate `json:"policy"`
	Rule   Estimate `json:"rule"`
	// Advantage is the doubly robust difference of the two.
	Advantage Bounds `json:"advantage"`
	Rungs     []Rung `json:"rungs"`

	Promotable bool `json:"promotable"`
	// Not says what is missing, where it is not promotable.
	Not    []string `json:"not,omitempty"`
	Faults []string `json:"faults,omitempty"`
}

// Rung is what a rung earned for a class of findings.
type Rung struct {
	Class  Class           `json:"class"`
	Action response.Action `json:"action"`
	Rule   bool            `json:"rule"` // it was the rule's at least once
	Played int             `json:"played"`
	Mean   float64         `json:"mean"`
}

// Report judges what can be learned from the log.
func (l *Log) Report(j Judge) *Report {
	r := &Report{Choices: len(l.Choices), Modes: map[response.LearningMode]int{}}
	for _, c := range l.Choices {
		r.Modes[c.Mode]++
		o, over := l.Outcomes[c.Decision]
		switch {
		case !over:
			r.Waiting++
		case o.Censored != "":
			r.Censored++
		default:
			r.Rewarded++
		}
		if r.From.IsZero() || c.Time.Before(r.From) {
			r.From = c.Time
		}
		if c.Time.After(r.To) {
			r.To = c.Time
		}
	}
	for _, err := range l.Faults {
		r.Faults = append(r.Faults, err.Error())
	}
	samples := l.Samples()
	r.Rungs = rungs(samples)
	list := judge(samples, j.Alpha)
	r.Judged = len(list)
	if len(list) > 0 {
		total, targets, b := bound(list, j.Seed)
		r.Targets, r.Effective = targets, total.effective()
		r.Differs, r.Tried, r.Unsupported = int(total.differ), int(total.tried), int(total.unsupport)
		r.Policy = Estimate{IPS: b[figIPS], SNIPS: b[figSNIPS], DR: b[figDR]}
		r.Rule = Estimate{IPS: b[figIPSRule], SNIPS: b[figSNIPSRule], DR: b[figDRRule]}
		r.Advantage = b[figAdvantage]
	}
	r.conclude(j)
	return r
}

// conclude says whether the policy may be promoted, and if not, why.
func (r *Report) conclude(j Judge) {
	not := func(format string, args ...any) { r.Not = append(r.Not, fmt.Sprintf(format, args...)) }
	switch {
	case r.Judged == 0:
		not("not enough overlap: in no decision anything else than the rule's rung had a chance; response.learning.mode: explore gives it one")
	case r.Differs == 0:
		not("the policy would choose as the rule does, so there is nothing to gain")
	case r.Tried < j.MinSamples:
		not("not enough overlap: where the policy differs from the rule, its rung was tried %d times, %d are needed", r.Tried, j.MinSamples)
	case r.Targets < leastTargets:
		not("not enough targets: %d, %d are needed", r.Targets, leastTargets)
	case r.Advantage.Low <= 0:
		not("not shown to be better: the lower bound of its advantage is %+.3f", r.Advantage.Low)
	}
	r.Promotable = len(r.Not) == 0
}

// Verdict is the conclusion in a sentence.
func (r *Report) Verdict() string {
	if r.Promotable {
		return fmt.Sprintf("better than the rule by %.3f a decision, at least %.3f", r.Advantage.Mean, r.Advantage.Low)
	}
	return strings.Join(r.Not, "; ")
}

func rungs(samples []Sample) []Rung {
	type key struct {
		class  Class
		action response.Action
	}
	by := map[key]*Rung{}
	for i := range samples {
		s := &samples[i]
		k := key{s.Context.class(), s.Action}
		if by[k] == nil {
			by[k] = &Rung{Class: k.class, Action: k.action}
		}
		x := by[k]
		x.Rule = x.Rule || s.Rule == s.Action
		x.Played++
		x.Mean += (s.Reward - x.Mean) / float64(x.Played)
	}
	out := []Rung{}
	for _, x := range by {
		out = append(out, *x)
	}
	slices.SortFunc(out, func(a, b Rung) int {
		return cmp.Or(slices.Index(Classes(), a.Class)-slices.Index(Classes(), b.Class),
			slices.Index(response.Ladder(), a.Action)-slices.Index(response.Ladder(), b.Action))
	})
	return out
}

// WriteText writes the report for a person.
func (r *Report) WriteText(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d choices", r.Choices)
	if r.Choices > 0 {
		fmt.Fprintf(&b, " from %s to %s", r.From.Format(time.DateTime), r.To.Format(time.DateTime))
	}
	for _, m := range response.LearningModes() {
		if n := r.Modes[m]; n > 0 {
			fmt.Fprintf(&b, ", %d %s", n, m)
		}
	}
	fmt.Fprintf(&b, "\n%d rewarded, %d censored, %d waiting\n", r.Rewarded, r.Censored, r.Waiting)
	fmt.Fprintf(&b, "%d judged about %d targets (as good as %.0f of equal weight); the policy differs in %d, tried in %d of these, without support in %d\n\n",
		r.Judged, r.Targets, r.Effective, r.Differs, r.Tried, r.Unsupported)
	w := tabwriter.NewWriter(&b, 0, 4, 2, ' ', 0)
	if len(r.Rungs) > 0 {
		fmt.Fprintln(w, "CLASS\tRUNG\tPLAYED\tMEAN REWARD\tRULE")
		for _, x := range r.Rungs {
			rule := "-"
			if x.Rule {
				rule = "rule"
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%.3f\t%s\n", x.Class, x.Action, x.Played, x.Mean, rule)
		}
		fmt.Fprintln(w)
	}
	if r.Judged > 0 {
		fmt.Fprintln(w, "REWARD PER DECISION\tIPS\tSNIPS\tDR")
		for _, x := range []struct {
			name string
			e    Estimate
		}{{"policy", r.Policy}, {"rule", r.Rule}} {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.name, x.e.IPS, x.e.SNIPS, x.e.DR)
		}
		fmt.Fprintf(w, "advantage\t\t\t%s\n\n", r.Advantage)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	word := "not promotable"
	if r.Promotable {
		word = "promotable"
	}
	fmt.Fprintf(&b, "%s: %s\n", word, r.Verdict())
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "left out: %s\n", f)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// String writes the mean and the bounds.
func (b Bounds) String() string { return fmt.Sprintf("%.3f [%.3f, %.3f]", b.Mean, b.Low, b.High) }
