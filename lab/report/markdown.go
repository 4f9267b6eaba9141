package report

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/platelet-sdn/platelet/lab/measure"
)

// The markers between which a scoreboard stands in a Markdown file.
const (
	Begin = "<!-- scoreboard:begin -->"
	End   = "<!-- scoreboard:end -->"
)

// Markdown writes the scoreboard: a table per lab, and how it came about.
func Markdown(w io.Writer, r measure.Report) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Measured from packet captures on the hosts' interfaces (`%s`): %s.\n", strings.Join(r.Command, " "), provenance(r))
	if r.Interrupted {
		b.WriteString("\n**Interrupted: this is what had been measured until then.**\n")
	}
	for _, l := range r.Labs {
		fmt.Fprintf(&b, "\n**%s**, %d nodes, %d %s, honest traffic `%s`\n\n", l.Name, l.Nodes, l.Bridges, plural(l.Bridges, "bridge"), l.Benign)
		b.WriteString("| attack | technique | detected | named right | TTD p50 / p99 ms | TTC p50 / p99 ms | delivered | benign flows harmed before / during / after | false containments | released after p50 s |\n")
		b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
		var unseen []string
		for _, a := range sorted(l.Attacks) {
			s := a.Summary
			if a.Blind && s.Detected.K == 0 && s.False == 0 {
				unseen = append(unseen, a.Name)
			}
			release := "–"
			if s.Release.N > 0 {
				release = seconds(s.Release.P50)
			}
			ttc := pair(s.TTC, ms)
			if s.TTC.N > 0 && s.Contained.K < s.Contained.N {
				ttc += fmt.Sprintf(" (%s)", share(s.Contained))
			} else if s.TTC.N == 0 && s.Contained.N > 0 {
				ttc = "not contained"
				if s.Detected.K > 0 && len(s.Actions) == 0 {
					ttc = "alert only"
				}
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join([]string{a.Name, a.Technique, share(s.Detected), share(s.Named), pair(s.TTD, ms), ttc,
				through(s), harm(s.Benign), fmt.Sprint(s.False), release}, " | "))
		}
		if sum := inAll(l); sum != "" {
			fmt.Fprintf(&b, "\n%s\n", sum)
		}
		if len(unseen) > 0 {
			fmt.Fprintf(&b, "\nThere is no detector yet for %s.\n", strings.Join(unseen, ", "))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// inAll sums up what was found on a lab, of attacks that there is a detector for.
func inAll(l measure.Lab) string {
	runs, found, named, accused, contained := 0, 0, 0, 0, 0
	for _, a := range l.Attacks {
		accused, contained = accused+a.Summary.Strange, contained+a.Summary.False
		if a.Blind {
			continue
		}
		runs += a.Summary.Detected.N
		found += a.Summary.Detected.K
		named += a.Summary.Named.K
	}
	if runs == 0 {
		return ""
	}
	of := func(n int) string { return fmt.Sprintf("%d (%s)", n, percent(float64(n)/float64(runs))) }
	return fmt.Sprintf("Of %d attacks run, %s were found and %s named right; %d accused and %d contained without cause.",
		runs, of(found), of(named), accused, contained)
}

// UpdateMarkdown puts the scoreboard between the markers of a file.
func UpdateMarkdown(path string, r measure.Report) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("scoreboard: %w", err)
	}
	before, rest, ok := strings.Cut(string(raw), Begin)
	_, after, closed := strings.Cut(rest, End)
	if !ok || !closed {
		return fmt.Errorf("scoreboard: %s has no lines %s and %s for it to stand between", path, Begin, End)
	}
	var b bytes.Buffer
	b.WriteString(before + Begin + "\n")
	if err := Markdown(&b, r); err != nil {
		return err
	}
	b.WriteString(End + after)
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("scoreboard: %w", err)
	}
	return nil
}

func plural(n int, word string) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
