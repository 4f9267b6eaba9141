package report

import (
	"bytes"
	_ "embed" // the page and its style
	"fmt"
	"html/template"
	"io"
	"strings"

	"github.com/platelet-sdn/platelet/lab/measure"
)

//go:embed page.tmpl
var pageTemplate string

//go:embed page.css
var pageStyle string

// page is what the template shows.
type page struct {
	Style       template.CSS
	Title       string
	Command     string
	Facts       []fact
	Cards       []card
	Interrupted bool
	Labs        []labView
}

// fact is a line of provenance.
type fact struct{ Name, Value string }

// card is one headline figure. State is good, warning, bad or empty.
type card struct{ Figure, Of, What, More, State string }

// Mark is the sign that goes with a state, so that colour is not needed.
func (c card) Mark() string {
	return map[string]string{"good": "✓", "warning": "!", "bad": "✕"}[c.State]
}

// labView is one lab on the page.
type labView struct {
	measure.Lab
	Strips  template.HTML
	Rows    []attackView
	Unseen  []attackView // the controller has no detector for them, and saw nothing
	Remarks []string
}

// attackView is one attack on the page.
type attackView struct {
	measure.Attack
	Anchor   string
	Budget   verdict
	ECDF     template.HTML
	Timeline template.HTML
	Run      int // which run the timeline is of, from 1
	More     []runView
}

// runView is the timeline of another run.
type runView struct {
	Run      int
	Timeline template.HTML
}

// HTML writes a page that needs nothing but itself: no script, no request, no
// font; light, dark and on paper.
func HTML(w io.Writer, r measure.Report) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"ms": ms, "pair": func(d measure.Distribution) string { return pair(d, ms) }, "share": share, "through": through, "harm": harm, "counts": counts, "seconds": seconds, "count": count[int],
		"interval": interval, "tail": tail, "line": line, "delivered": delivered, "harmed": harmed, "plural": plural,
		"ratio": func(s measure.Share) string {
			if s.CI == nil {
				return ""
			}
			return fmt.Sprintf("95 %% CI %.0f to %.0f %%", s.CI.Low*100, s.CI.High*100)
		},
	}).Parse(pageTemplate)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	var b bytes.Buffer // nothing half written
	if err := t.Execute(&b, newPage(r)); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(b.Bytes())
	return err
}

// delivered and harmed are through and harm on two lines.
func delivered(s measure.Summary) template.HTML {
	if s.Sent == 0 {
		return "–"
	}
	return template.HTML(fmt.Sprintf("%s<small>of %s, %s</small>", count(s.Delivered), count(s.Sent), template.HTMLEscapeString(got(s))))
}

func harmed(b measure.Benign) template.HTML {
	return template.HTML(fmt.Sprintf("%d / %d / %d<small>of %s / %s / %s</small>", b.Before.Harmed, b.During.Harmed, b.After.Harmed,
		count(b.Before.Flows), count(b.During.Flows), count(b.After.Flows)))
}

func newPage(r measure.Report) page {
	p := page{Style: template.CSS(pageStyle), Command: strings.Join(r.Command, " "), Interrupted: r.Interrupted, Facts: facts(r), Cards: cards(r)}
	attacks := 0
	var names []string
	for _, l := range r.Labs {
		attacks = max(attacks, len(l.Attacks))
		names = append(names, l.Name)
		p.Labs = append(p.Labs, viewLab(l))
	}
	p.Title = fmt.Sprintf("%d %s on %s", attacks, plural(attacks, "attack"), strings.Join(names, ", "))
	return p
}

func facts(r measure.Report) []fact {
	m := r.Machine
	out := []fact{
		{"Machine", fmt.Sprintf("%d cores, %s, %d MiB", m.Cores, m.CPU, m.Memory)}, {"Kernel", m.Kernel}, {"Open vSwitch", m.OVS}, {"Go", m.Go},
		{"Load at the start", fmt.Sprintf("%.2f", m.Load)}, {"Seed", fmt.Sprint(r.Seed)},
	}
	return out
}

// cards are the headline: what a manager reads.
func cards(r measure.Report) []card {
	var seen, known, blind, met, budgets, contained, runs, falsely int
	var harm measure.Benign
	var released, awaited int
	for _, l := range r.Labs {
		for _, a := range l.Attacks {
			s := a.Summary
			falsely += s.False
			for _, o := range a.Runs {
				harm = plus(harm, o.Benign)
			}
			released, awaited = released+s.Released.K, awaited+s.Released.N
			if a.Blind {
				blind++
				continue
			}
			known++
			if s.Detected.N > 0 && s.Detected.K == s.Detected.N {
				seen++
			}
			contained, runs = contained+s.Contained.K, runs+s.Contained.N
			if v := judge(a); v.Known {
				budgets++
				if v.Met {
					met++
				}
			}
		}
	}
	none := ""
	if blind > 0 {
		none = fmt.Sprintf("%d more have no detector yet", blind)
	}
	worse := harm.During.Harmed + harm.After.Harmed
	flows := harm.During.Flows + harm.After.Flows
	return []card{
		{fmt.Sprint(seen), fmt.Sprintf("of %d", known), "attacks detected in every run", none, rate(seen, known)},
		{fmt.Sprint(contained), fmt.Sprintf("of %d", runs), "attack runs contained", "where there is a detector; " + wilson(contained, runs), rate(contained, runs)},
		{fmt.Sprint(met), fmt.Sprintf("of %d", budgets), "time budgets kept", "median and 99th percentile of the time to contain", rate(met, budgets)},
		{count(worse), "of " + count(flows), "honest flows harmed during or after", fmt.Sprintf("before the attacks: %d of %s", harm.Before.Harmed, count(harm.Before.Flows)), zero(worse, flows/200)},
		{fmt.Sprint(falsely), "", "hosts contained without cause", "against the agents' ground truth", zero(falsely, 0)},
		{fmt.Sprint(released), fmt.Sprintf("of %d", awaited), "containments let go by themselves", "where the release was waited for", rate(released, awaited)},
	}
}

func plus(a, b measure.Benign) measure.Benign {
	for _, p := range []struct{ to, from *measure.Harm }{{&a.Before, &b.Before}, {&a.During, &b.During}, {&a.After, &b.After}} {
		p.to.Flows += p.from.Flows
		p.to.Harmed += p.from.Harmed
	}
	return a
}

func wilson(k, n int) string {
	ci := measure.NewShare(k, n).CI
	if ci == nil {
		return "none was run"
	}
	return fmt.Sprintf("95 %% confidence %.0f to %.0f %%", ci.Low*100, ci.High*100)
}

// rate is the state of a figure that should be whole.
func rate(k, n int) string {
	switch {
	case n == 0:
		return ""
	case k == n:
		return "good"
	case 2*k >= n:
		return "warning"
	}
	return "bad"
}

// zero is the state of a figure that should be nothing, and may be little.
func zero(n, little int) string {
	switch {
	case n == 0:
		return "good"
	case n <= little:
		return "warning"
	}
	return "bad"
}

func viewLab(l measure.Lab) labView {
	v := labView{Lab: l, Strips: strips(sorted(l.Attacks)), Remarks: remarks(l)}
	for _, a := range sorted(l.Attacks) {
		s := a.Summary
		if a.Blind && s.Detected.K == 0 && s.False == 0 && a.Error == "" {
			v.Unseen = append(v.Unseen, attackView{Attack: a})
			continue
		}
		v.Rows = append(v.Rows, viewAttack(l.Name, a))
	}
	return v
}

func viewAttack(lab string, a measure.Attack) attackView {
	v := attackView{Attack: a, Anchor: lab + "-" + a.Name, Budget: judge(a), ECDF: ecdf(a)}
	middle := a.Middle()
	for i, o := range a.Runs {
		t := timeline(o)
		if i == middle {
			v.Run, v.Timeline = i+1, t
		} else if t != "" {
			v.More = append(v.More, runView{i + 1, t})
		}
	}
	return v
}
