package audit

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/detector"
)

// ErrNoEntry says that no entry has the ID that was asked for.
var ErrNoEntry = errors.New("the audit log has nothing about")

// Read calls do with the entries of a log in order, without verifying them:
// those whose line contains one of the texts, or all where there is none. A
// line that is no entry is left out; Verify names it.
func Read(dir string, texts []string, do func(Entry) error) error {
	files, err := listFiles(dir)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if len(files) == 0 {
		return fmt.Errorf("audit log: there is none in %s", dir)
	}
	for _, f := range files {
		if err := readFile(f, texts, do); err != nil {
			return err
		}
	}
	return nil
}

func readFile(f logFile, texts []string, do func(Entry) error) error {
	in, err := os.Open(f.path)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer in.Close()
	return readLines(in, func(l rawLine) error {
		wanted := len(texts) == 0 || slices.ContainsFunc(texts, func(t string) bool { return bytes.Contains(l.text, []byte(t)) })
		var e Entry
		if !wanted || !l.whole || l.fault != nil || json.Unmarshal(l.text, &e) != nil {
			return nil
		}
		return do(e)
	})
}

// Story returns what the log says about a decision, a finding or a run of a
// playbook, in order: of a decision also its finding, of a finding also the
// decisions about it. It returns ErrNoEntry where there is nothing.
func Story(dir, id string) ([]Entry, error) {
	about := map[string]bool{id: true}
	finding := ""
	var own []Entry
	err := Read(dir, []string{id}, func(e Entry) error {
		if e.Decision != id && e.Finding != id && e.Detail["run"] != id {
			return nil
		}
		own = append(own, e)
		if e.Decision == id {
			finding = cmp.Or(finding, e.Finding)
		} else if e.Finding == id && e.Decision != "" {
			about[e.Decision] = true
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(own) == 0 {
		return nil, fmt.Errorf("%w %s", ErrNoEntry, id)
	}
	if len(about) == 1 && finding == "" {
		return own, nil
	}
	texts := slices.Collect(maps.Keys(about))
	if finding != "" {
		texts = append(texts, finding)
	}
	var all []Entry
	return all, Read(dir, texts, func(e Entry) error {
		if about[e.Decision] || e.Decision == "" && e.Finding != "" && (e.Finding == finding || about[e.Finding]) {
			all = append(all, e)
		}
		return nil
	})
}

// WriteStory tells entries in words, with the time between them.
func WriteStory(out io.Writer, entries []Entry) error {
	var b strings.Builder
	for i := range entries {
		e := &entries[i]
		gap := ""
		if i > 0 {
			gap = "+" + short(since(&entries[i-1], e))
		}
		fmt.Fprintf(&b, "%s %10s  %s\n", e.Time.Format("2006-01-02 15:04:05.000"), gap, e.Sentence())
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// WriteList writes entries with their numbers, one a line.
func WriteList(out io.Writer, entries []Entry) error {
	var b strings.Builder
	for i := range entries {
		e := &entries[i]
		fmt.Fprintf(&b, "%6d  %s  %s\n", e.Seq, e.Time.Format("2006-01-02 15:04:05.000"), e.Sentence())
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// since is the time between two entries: within a run that of the clock that
// does not jump.
func since(a, b *Entry) time.Duration {
	if a.Run == b.Run {
		return time.Duration(b.Uptime-a.Uptime) * time.Microsecond
	}
	return b.Time.Sub(a.Time)
}

func short(d time.Duration) string {
	switch {
	case d < time.Second && d > -time.Second:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	case d < time.Minute && d > -time.Minute:
		return fmt.Sprintf("%.2f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// Sentence says what happened, on one line.
func (e *Entry) Sentence() string {
	s := e.say()
	if d := e.details(); d != "" {
		s += " (" + d + ")"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func (e *Entry) say() string {
	switch verb, family := e.family(); family {
	case FindingPrefix:
		return e.sayFinding(verb)
	case DecisionPrefix:
		return e.sayDecision(verb)
	case OperatorPrefix:
		return e.sayOperator(verb)
	}
	s := e.What
	if e.Decision != "" {
		s += " for " + e.Decision
	}
	if len(e.Rules) > 0 {
		s += fmt.Sprintf(": %s, cookies", many(len(e.Rules), "rule"))
		for _, r := range e.Rules[:min(4, len(e.Rules))] {
			s += " " + r.Cookie
		}
		if more := len(e.Rules) - 4; more > 0 {
			s += fmt.Sprintf(" and %d more", more)
		}
	}
	return because(s, e.Why)
}

// family splits the event's name.
func (e *Entry) family() (verb, family string) {
	for _, p := range []string{FindingPrefix, DecisionPrefix, OperatorPrefix} {
		if verb, ok := strings.CutPrefix(e.What, p); ok {
			return verb, p
		}
	}
	return e.What, ""
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func because(s, why string) string {
	if why == "" {
		return s
	}
	return s + ": " + why
}

func (e *Entry) sayFinding(verb string) string {
	s := fmt.Sprintf("finding %s %s", e.Finding, verb)
	a := e.About
	if a == nil {
		return s
	}
	s += ": " + string(a.Kind)
	switch {
	case a.Host.IsValid():
		s += " by " + a.Host.String()
	case a.Spoofed:
		s += " by forged sources"
	case !a.MAC.IsZero():
		s += " by " + a.MAC.String()
	}
	if len(a.Victims) > 0 {
		s += " against " + a.Victims[0].String()
		if more := len(a.Victims) - 1; more > 0 {
			s += fmt.Sprintf(" and %d more", more)
		}
	}
	s += fmt.Sprintf(", severity %s, score %.3g, %d records", a.Severity, a.Score, a.Records)
	return s + carried(e.Evidence)
}

// carried says what weighed most.
func carried(list []detector.Evidence) string {
	top := slices.Clone(list)
	slices.SortStableFunc(top, func(a, b detector.Evidence) int { return cmp.Compare(b.Contribution, a.Contribution) })
	s := ""
	for _, x := range top[:min(3, len(top))] {
		s += fmt.Sprintf("; %s %.4g against a normal %.3g", x.Feature, x.Value, x.Baseline)
	}
	return s
}

func (e *Entry) sayDecision(verb string) string {
	s := e.Decision + " " + verb
	if e.Before == "" || verb == "proposed" || verb == "refused" {
		s += fmt.Sprintf(", %s", e.Action)
		if e.At != nil {
			s += " of " + e.At.String()
			if e.At.Port != "" {
				s += " at " + e.At.Port
			}
		}
	}
	s += " by " + e.Who
	switch verb {
	case "applied", "verified", "retried":
		if p := e.Proof; p != nil {
			s += fmt.Sprintf(": %d packets of the attack dropped, %d passed", p.Dropped, p.Passed)
			s += said(p.Installed, ", rules read back") + said(p.Effective, ", effective") + said(p.Harmless, ", harmless")
			s = because(s, p.Why)
		}
	default:
		s = because(s, e.Why)
	}
	if e.Before == "" || verb == "refused" {
		s += guards(e)
	}
	if len(e.Rules) > 0 {
		s += "; " + many(len(e.Rules), "rule")
	}
	return s
}

func said(ok bool, text string) string {
	if ok {
		return text
	}
	return ""
}

// guards lists the verdicts, in full where one said no.
func guards(e *Entry) string {
	s := ""
	for _, g := range e.Guards {
		if g.Pass {
			s += ", " + g.Guard
		} else {
			s += fmt.Sprintf(", %s says no (%s)", g.Guard, g.Why)
		}
	}
	if s == "" {
		return ""
	}
	return "; guards:" + s[1:]
}

func (e *Entry) sayOperator(verb string) string {
	about := cmp.Or(e.Decision, e.Finding)
	if about == "" && e.At != nil {
		about = e.At.String()
	}
	s := e.Who + " asks to " + verb
	switch verb {
	case "refused":
		s = e.Who + " is refused"
	case "feedback":
		s = e.Who + " says that"
		about += " is " + e.After
	}
	if about != "" {
		s += " " + about
	}
	return because(s, e.Why)
}

func (e *Entry) details() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(e.Detail)) {
		parts = append(parts, k+" "+e.Detail[k])
	}
	if e.Playbook != "" {
		parts = append(parts, "playbook "+e.Playbook)
	}
	return strings.Join(parts, ", ")
}
