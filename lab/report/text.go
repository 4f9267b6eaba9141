package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// Text writes a report for a terminal: a table per lab, then whatever needs
// words.
func Text(out io.Writer, r measure.Report) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, l := range r.Labs {
		fmt.Fprintf(w, "lab %s: %d nodes, %d bridges (%s), honest traffic %s\n", l.Name, l.Nodes, l.Bridges, l.Datapath, l.Benign)
		if len(l.Attacks) > 0 {
			fmt.Fprintln(w, strings.Join([]string{"attack", "detected", "named right", "contained", "TTD p50/p99 ms", "TTC p50 [95 % CI] p95 p99 max ms",
				"delivered", "benign flows harmed before/during/after", "false", "release p50 s"}, "\t"))
		}
		for _, a := range sorted(l.Attacks) {
			s := a.Summary
			release := "–"
			if s.Release.N > 0 {
				release = seconds(s.Release.P50)
			}
			fmt.Fprintln(w, strings.Join([]string{a.Name, share(s.Detected), share(s.Named), share(s.Contained), pair(s.TTD, ms), contain(s.TTC),
				through(s), harm(s.Benign), fmt.Sprint(s.False), release}, "\t"))
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for _, line := range remarks(l) {
			fmt.Fprintln(out, "  "+line)
		}
		fmt.Fprintln(out)
	}
	_, err := fmt.Fprintln(out, provenance(r))
	if r.Interrupted {
		_, err = fmt.Fprintln(out, "interrupted: this is what had been measured until then")
	}
	return err
}

// contain is the distribution of the time to contain.
func contain(d measure.Distribution) string {
	if d.N == 0 {
		return "–"
	}
	return fmt.Sprintf("%s %s %s %s %s", ms(d.P50), interval(d.P50CI), ms(d.P95), ms(d.P99), ms(d.Max))
}

func interval(ci *measure.Interval) string {
	if ci == nil {
		return "[too few runs]"
	}
	return fmt.Sprintf("[%s, %s]", ms(ci.Low), ms(ci.High))
}

// enough is how many remarks of one kind about an attack are read.
const enough = 6

// remarks is what a table cannot say: what went wrong, and who was hit.
func remarks(l measure.Lab) []string {
	var out []string
	for _, a := range sorted(l.Attacks) {
		s := a.Summary
		say := func(format string, args ...any) { out = append(out, a.Name+": "+fmt.Sprintf(format, args...)) }
		if a.Blind {
			say("the controller has no detector for %s", a.Expected)
		}
		if a.Error != "" {
			say("%s", line(a.Error))
		}
		if len(s.OtherKinds) > 0 {
			say("also named %s", counts(s.OtherKinds))
		}
		if s.Missed > 0 {
			say("the captures missed %d packets", s.Missed)
		}
		if s.Released.N > s.Released.K {
			say("not released within %g s in %d of %d runs", l.Method.ReleaseWithin, s.Released.N-s.Released.K, s.Released.N)
		}
		if h := s.Benign.Attackers; h.Harmed > 0 {
			say("%d of %d honest flows of hosts that attacked themselves were harmed, too", h.Harmed, h.Flows)
		}
		if t := s.Benign.Total(); t.Harmed > 0 {
			say("harmed were %s", counts(t.By))
		}
		said := map[string]int{}
		for _, o := range a.Runs {
			for _, f := range o.False {
				said["contained without cause: "+f]++
			}
			for _, f := range o.Strange {
				said["accused without cause: "+f]++
			}
			if o.Note != "" {
				said[o.Note]++
			}
		}
		for i, line := range slices.Sorted(maps.Keys(said)) {
			if i == enough {
				say("and %d more of these, see the JSON", len(said)-enough)
				break
			}
			say("%s (%d of %d runs)", line, said[line], len(a.Runs))
		}
	}
	if l.Error != "" {
		out = append(out, line(l.Error))
	}
	return out
}

// line is the first line of a text: the rest, such as the end of a log, stands
// in the JSON.
func line(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// counts lists what was counted, the most frequent first.
func counts(m map[string]int) string {
	keys := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(keys, func(a, b string) int { return m[b] - m[a] })
	for i, k := range keys {
		keys[i] = fmt.Sprintf("%s (%d)", k, m[k])
	}
	return strings.Join(keys, ", ")
}
