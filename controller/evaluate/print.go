package evaluate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/platelet-sdn/platelet/detector"
)

// Print writes the report as "text", "json" or "markdown".
func (r *Report) Print(w io.Writer, format string) error {
	switch format {
	case "json":
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(r)
	case "markdown":
		return r.markdown(w)
	case "text":
		return r.text(w)
	}
	return fmt.Errorf("report format %q is not text, json or markdown", format)
}

// row is a line of the tables.
func row(set string, u *Run) []string {
	x := &u.Result
	return []string{
		set, u.Sampling, u.Detector,
		share(x.FoundOwed, x.AttackersOwed), share(x.Found, x.Attackers), share(x.Prompt, x.PromptOwed), share(x.AttackersNamed, x.AttackersNaming),
		delay(x.DelaySeconds, "s"), delay(x.DelayFlows, ""),
		fmt.Sprintf("%d/%d", x.Falses(), x.False[detector.SeverityHigh]+x.False[detector.SeverityCritical]),
		fmt.Sprintf("%.1f", x.HostHours),
		fmt.Sprintf("%.3f", x.PerHostHour("")), fmt.Sprintf("%.3f", x.PerHostHour(detector.SeverityHigh)+x.PerHostHour(detector.SeverityCritical)),
		fmt.Sprint(x.FalseContainments), share(x.ContainedHosts, x.BenignHosts), fmt.Sprint(x.Unjudged),
	}
}

func headings() []string {
	return []string{"set", "sampling", "detector", "found (>=10 flows)", "found (all)", "prompt", "named", "delay p50/p95/max", "in flows",
		"false/high", "host-hours", "false per host-hour", "high per host-hour", "false containments", "benign contained", "unjudged"}
}

func share(n, of int) string {
	if of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", n, of)
}

func delay(s Spread, unit string) string {
	if s.N == 0 {
		return "-"
	}
	return fmt.Sprintf("%.3g/%.3g/%.3g%s", s.P50, s.P95, s.Max, unit)
}

// rows lists the lines of all tables: the sums first.
func (r *Report) rows() [][]string {
	var out [][]string
	for i := range r.Total {
		out = append(out, row("all", &r.Total[i]))
	}
	for i := range r.Sets {
		if !r.Sets[i].Labelled {
			continue // nothing of it can be judged
		}
		for j := range r.Sets[i].Runs {
			out = append(out, row(r.Sets[i].Name, &r.Sets[i].Runs[j]))
		}
	}
	return out
}

func (r *Report) markdown(w io.Writer) error {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(headings())
	b.WriteString(strings.Repeat("|---", len(headings())) + "|\n")
	for _, cells := range r.rows() {
		line(cells)
	}
	r.details(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) text(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, strings.Join(headings(), "\t"))
	for _, cells := range r.rows() {
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var b strings.Builder
	r.details(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// details lists, per set, kinds, the missed and the wronged of the product.
func (r *Report) details(b *strings.Builder) {
	for i := range r.Sets {
		s := &r.Sets[i]
		fmt.Fprintf(b, "\n%s: %d records, %.2f h, %d malformed", s.Name, s.Records, s.Hours, s.Malformed)
		if !s.Labelled {
			b.WriteString(", no labels")
		}
		b.WriteString("\n")
		for j := range s.Runs {
			if u := &s.Runs[j]; u.Detector == product {
				// Sampled, most is missed: the list is in the JSON.
				u.details(b, j == 0)
			}
		}
	}
	for _, name := range sortedKeys(r.Skipped) {
		fmt.Fprintf(b, "\nleft out %s: %s\n", name, r.Skipped[name])
	}
}

func (u *Run) details(b *strings.Builder, missed bool) {
	x := &u.Result
	for _, name := range sortedKeys(x.Kinds) {
		k := x.Kinds[name]
		fmt.Fprintf(b, "- %s %s: %d of %d found, %d named right", u.Sampling, name, k.Found, k.Attackers, k.Named)
		for _, as := range sortedKeys(k.As) {
			fmt.Fprintf(b, ", %d as %s", k.As[as], as)
		}
		b.WriteString("\n")
	}
	for _, m := range x.Missed {
		if !missed {
			break
		}
		fmt.Fprintf(b, "- %s missed %s (%s): %s\n", u.Sampling, m.Host, m.Kind, m.Look)
	}
	for _, f := range x.Wrong {
		word := "false"
		if f.Unjudged {
			word = "unjudged"
		}
		if f.Contains {
			word += ", would contain"
		}
		fmt.Fprintf(b, "- %s %s: %s %s %s by %s: %s\n", u.Sampling, word, f.Time.Format("2006-01-02T15:04:05.000Z"), f.Severity, f.Kind, f.Host, f.Why)
	}
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
