// Package report shows what was measured: as text, as a Markdown scoreboard,
// and as a page for a browser that needs nothing but itself.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// Format finds the function that writes a report in a format: text, json,
// html or markdown.
func Format(name string) (func(io.Writer, measure.Report) error, error) {
	switch name {
	case "text":
		return Text, nil
	case "json":
		return JSON, nil
	case "html":
		return HTML, nil
	case "markdown":
		return Markdown, nil
	}
	return nil, fmt.Errorf("output %q is not text, json, html or markdown", name)
}

// JSON writes a report with every sample, so that others can compute again
// what it sums up: an attack on each line, so that two reports can be compared
// line by line.
func JSON(w io.Writer, r measure.Report) error {
	labs := r.Labs
	r.Labs = nil
	text, err := fill(r, "labs", len(labs), func(i int) ([]byte, error) {
		l := labs[i]
		l.Attacks = nil
		return fill(l, "attacks", len(labs[i].Attacks), func(j int) ([]byte, error) { return json.Marshal(labs[i].Attacks[j]) })
	})
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// fill writes a value whose list of a name is nil, with that list's n elements
// on lines of their own.
func fill(v any, name string, n int, element func(int) ([]byte, error)) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	list := []byte("[")
	for i := range n {
		e, err := element(i)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			list = append(list, ',')
		}
		list = append(append(list, '\n'), e...)
	}
	// Inside a text the quotes would be escaped: this is the list itself.
	return bytes.Replace(text, []byte(`"`+name+`":null`), slices.Concat([]byte(`"`+name+`":`), list, []byte("\n]")), 1), nil
}

// ms writes milliseconds with three significant figures at least.
func ms(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// tail is what is behind the median. Of few runs the high quantiles are the
// slowest run, which need not be said three times.
func tail(d measure.Distribution) string {
	switch {
	case d.N < 2:
		return "1 run"
	case d.P95 == d.Max:
		return fmt.Sprintf("p95 to max %s", ms(d.Max))
	case d.P99 == d.Max:
		return fmt.Sprintf("%s / max %s", ms(d.P95), ms(d.Max))
	}
	return fmt.Sprintf("%s / %s / %s", ms(d.P95), ms(d.P99), ms(d.Max))
}

// seconds writes milliseconds as seconds.
func seconds(v float64) string { return fmt.Sprintf("%.1f", v/1e3) }

// pair is the median and the 99th percentile.
func pair(d measure.Distribution, unit func(float64) string) string {
	if d.N == 0 {
		return "–"
	}
	return unit(d.P50) + " / " + unit(d.P99)
}

// share is k of n.
func share(s measure.Share) string {
	if s.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%d of %d", s.K, s.N)
}

// count writes a number in groups of three digits.
func count[T ~int | ~uint64](n T) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// through is what was delivered of what was sent.
func through(s measure.Summary) string {
	if s.Sent == 0 {
		return "–"
	}
	return fmt.Sprintf("%s of %s (%s)", count(s.Delivered), count(s.Sent), got(s))
}

// got is the share of what was sent that arrived; where reflectors amplify, by
// how many packets to one.
func got(s measure.Summary) string {
	v := float64(s.Delivered) / float64(s.Sent)
	if v > 1.5 {
		return fmt.Sprintf("amplified × %.1f", v)
	}
	return percent(v)
}

// percent writes a share so that little is told from nothing.
func percent(v float64) string {
	switch p := v * 100; {
	case p == 0:
		return "0 %"
	case p < 0.01:
		return "< 0.01 %"
	case p < 1:
		return fmt.Sprintf("%.2f %%", p)
	case p < 10:
		return fmt.Sprintf("%.1f %%", p)
	default:
		return fmt.Sprintf("%.0f %%", p)
	}
}

// harm is the harmed flows before, during and after.
func harm(b measure.Benign) string {
	return fmt.Sprintf("%d / %d / %d of %s", b.Before.Harmed, b.During.Harmed, b.After.Harmed, count(b.Total().Flows))
}

// provenance says in one line how figures came about, without a date.
func provenance(r measure.Report) string {
	m := r.Machine
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if m.Cores > 0 {
		add("%d cores", m.Cores)
	}
	if m.CPU != "" {
		add("%s", m.CPU)
	}
	if m.Kernel != "" {
		add("%s", m.Kernel)
	}
	if m.OVS != "" {
		add("Open vSwitch %s", m.OVS)
	}
	var paths []string
	for _, l := range r.Labs {
		if l.Datapath != "" && !slices.Contains(paths, l.Datapath) {
			paths = append(paths, l.Datapath)
		}
	}
	if len(paths) > 0 {
		add("datapath %s", strings.Join(paths, ", "))
	}
	add("seed %d", r.Seed)
	return strings.Join(parts, ", ")
}

// sorted are a lab's attacks: those that were contained first, by their time
// to contain, then those that were detected, then the others by name.
func sorted(attacks []measure.Attack) []measure.Attack {
	out := slices.Clone(attacks)
	rank := func(a measure.Attack) int {
		switch s := a.Summary; {
		case s.TTC.N > 0:
			return 0
		case s.Detected.K > 0:
			return 1
		case !a.Blind:
			return 2
		default:
			return 3
		}
	}
	slices.SortStableFunc(out, func(a, b measure.Attack) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if d := a.Summary.TTC.P50 - b.Summary.TTC.P50; d != 0 {
			return sign(d)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

func sign(f float64) int {
	switch {
	case f < 0:
		return -1
	case f > 0:
		return 1
	}
	return 0
}
