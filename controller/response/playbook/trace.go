package playbook

import (
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// Trace tells what would be done about a finding, and why.
type Trace struct {
	Finding string `json:"finding"`
	// Tried are the playbooks in order, up to the one that matches.
	Tried []Tried `json:"tried"`
	// Playbook is the name of the one that matches; empty where none does.
	Playbook string        `json:"playbook"`
	Mode     response.Mode `json:"mode"`
	People   int           `json:"people"`
	// Rung is what the playbook begins with, and Action what comes of it on a
	// switch: alert where the finding is not enough to contain.
	Rung   response.Action `json:"rung"`
	Action response.Action `json:"action"`
	Target string          `json:"target,omitempty"`
	Why    string          `json:"why"`
	// Guards tell what would hold the action up or bound it.
	Guards []response.Verdict `json:"guards"`
	Steps  []StepTrace        `json:"steps"`
}

// Tried is one playbook's trigger.
type Tried struct {
	Playbook string `json:"playbook"`
	At       string `json:"at,omitempty"`
	Matches  bool   `json:"matches"`
	Why      string `json:"why"`
}

// StepTrace is what a step would do if all before it succeed.
type StepTrace struct {
	Name   string `json:"name"`
	Branch string `json:"branch,omitempty"` // step that it is a branch of
	Action Action `json:"action"`
	Runs   bool   `json:"runs"`
	Why    string `json:"why,omitempty"` // why not
	// With is the arguments as YAML, secrets left out.
	With      string    `json:"with,omitempty"`
	Attempts  int       `json:"attempts"`
	Timeout   string    `json:"timeout"`
	OnFailure OnFailure `json:"on_failure"`
	Rollback  string    `json:"rollback,omitempty"`
}

// Try tells what would be done about a finding. It is the same code that
// decides, up to where a switch is needed.
func (s *Set) Try(cfg response.Config, f detector.Finding, at response.Circumstances) Trace {
	cfg.Playbooks = s
	t := Trace{Finding: f.ID, Rung: response.ActionAlert, Action: response.ActionAlert, Mode: cfg.Mode, Why: "no playbook matches", Guards: []response.Verdict{}, Steps: []StepTrace{}}
	p := s.Choose(f, at)
	for i := range s.books {
		b := &s.books[i]
		c := b.Trigger.mismatch(&f, at)
		tried := Tried{Playbook: b.Name, Matches: c == "", Why: b.Trigger.why(c, &f, at)}
		if b.origin.File != "" {
			tried.At = b.origin.String()
		}
		t.Tried = append(t.Tried, tried)
		if c == "" {
			break
		}
	}
	if p == nil {
		return t
	}
	t.Playbook, t.Rung, t.Mode, t.People = p.Name, p.Rung(), response.Stricter(cfg.Mode, p.Mode), p.People
	if t.Mode == response.ModeAdvise {
		t.People = max(t.People, 1)
	}
	d := t.contain(cfg, f, at)
	facts := FactsOf(f, d, at.Tags)
	facts.Run, facts.Playbook = "r-example", p.Name
	t.steps(p, facts)
	return t
}

// contain tells what comes of the rung.
func (t *Trace) contain(cfg response.Config, f detector.Finding, at response.Circumstances) response.Decision {
	d, ok := response.Propose(cfg, f, at)
	switch {
	case !t.Rung.Acts():
		t.Why = "the playbook begins with nothing that a switch does"
		return d
	case !ok && t.Rung.Contains() && !f.MayContain():
		t.Why = "one vote alone does not contain: neither a sequential test nor two families"
		return d
	case !ok:
		t.Why = "it is not known whom to protect"
		return d
	}
	t.Action, t.Target, t.Why = d.Action, d.Target.String(), d.Why
	guard := func(name string, pass bool, format string, args ...any) {
		t.Guards = append(t.Guards, response.Verdict{Guard: name, Pass: pass, Why: fmt.Sprintf(format, args...)})
	}
	if d.Action != t.Rung {
		guard("spoofed", true, "sources are forged: %s instead of %s", d.Action, t.Rung)
	}
	by, protected := cfg.Protected.Covers(d.Target.Host)
	switch {
	case protected && d.Target.Host.IsValid():
		guard("protected", false, "%s is protected by %s", d.Target.Host, by)
	default:
		guard("protected", true, "no protected asset is named; looked at again where rules are made")
	}
	guard("place", true, "must attach to an edge port of ours; known only where it happens")
	guard("budget", true, "at most %d hosts in quarantine, %d containments within a minute", cfg.MaxQuarantines, cfg.MaxActions)
	if t.People > 0 && t.Mode != response.ModeObserve {
		guard("people", true, "%d must approve within %s, or nothing is done", t.People, cfg.ApprovalWithin)
	}
	return d
}

func (t *Trace) steps(p *Playbook, facts Facts) {
	outcomes := map[string]Outcome{}
	for _, s := range p.Rest() {
		list, branch := []Step{s}, ""
		runs, why := s.Wanted(facts, func(n string) Outcome { return outcomes[n] })
		if len(s.Parallel) > 0 {
			list, branch = s.Parallel, s.Name
		}
		for _, one := range list {
			st := one.trace(facts)
			st.Branch, st.Runs, st.Why = branch, runs, why
			if runs && branch != "" {
				st.Runs, st.Why = one.Wanted(facts, func(n string) Outcome { return outcomes[n] })
			}
			if st.Runs && t.Mode == response.ModeObserve && one.Action != ActionNotify {
				st.Runs, st.Why = false, "mode observe only notifies"
			}
			outcomes[one.Name] = OutcomeSkipped
			if st.Runs {
				outcomes[one.Name] = OutcomeDone
			}
			t.Steps = append(t.Steps, st)
		}
		if branch != "" {
			outcomes[branch] = OutcomeSkipped
			if runs {
				outcomes[branch] = OutcomeDone
			}
		}
	}
}

// Wanted reports whether the step's conditions hold, and if not, why.
func (s *Step) Wanted(facts Facts, outcome func(step string) Outcome) (ok bool, why string) {
	if ok, why := s.If.Met(facts, outcome); !ok {
		return false, "if: " + why
	}
	if s.Unless != nil {
		if met, _ := s.Unless.Met(facts, outcome); met {
			return false, "unless: all of it holds"
		}
	}
	return true, ""
}

func (s *Step) trace(facts Facts) StepTrace {
	st := StepTrace{Name: s.Name, Action: s.Action, Attempts: s.Retries.Count + 1, Timeout: s.Deadline().String(), OnFailure: s.OnFailure, With: s.shown(facts)}
	if st.OnFailure == "" {
		st.OnFailure = FailStop
	}
	if u, ok := s.Undo(); ok {
		st.Rollback = string(u.Action) + "\n" + u.shown(facts)
	}
	return st
}

// shown is the rendered arguments as YAML, secrets left out.
func (s *Step) shown(facts Facts) string {
	args, err := s.Render(facts)
	if err != nil {
		return "cannot be rendered: " + err.Error()
	}
	if args == nil {
		return ""
	}
	raw, err := yaml.Marshal(Redact(args))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// Redact leaves out what may be secret: headers by their names, and the query
// of URLs. Secrets in files are named by the file anyway.
func Redact(a Args) Args {
	w, ok := a.(Webhook)
	if !ok {
		return a
	}
	if u, err := url.Parse(w.URL); err == nil && u.RawQuery != "" {
		u.RawQuery = "..."
		w.URL = u.String()
	}
	w.Headers = maps.Clone(w.Headers)
	for name := range w.Headers {
		for _, word := range []string{"auth", "token", "key", "secret", "cookie", "password"} {
			if strings.Contains(strings.ToLower(name), word) {
				w.Headers[name] = "..."
			}
		}
	}
	return w
}

// WriteText writes the trace for people.
func (t *Trace) WriteText(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "finding %s\n", t.Finding)
	for _, x := range t.Tried {
		mark := "-"
		if x.Matches {
			mark = "+"
		}
		fmt.Fprintf(w, "  %s playbook %s\t%s\t%s\n", mark, x.Playbook, x.Why, x.At)
	}
	fmt.Fprintf(w, "mode %s, %d approvals\n", t.Mode, t.People)
	fmt.Fprintf(w, "action %s %s: %s\n", t.Action, t.Target, t.Why)
	for _, g := range t.Guards {
		verdict := "pass"
		if !g.Pass {
			verdict = "REFUSED"
		}
		fmt.Fprintf(w, "  guard %s\t%s\t%s\n", g.Guard, verdict, g.Why)
	}
	for _, s := range t.Steps {
		name := s.Name
		if s.Branch != "" {
			name = s.Branch + "/" + s.Name
		}
		if !s.Runs {
			fmt.Fprintf(w, "step %s: %s, skipped: %s\n", name, s.Action, s.Why)
			continue
		}
		fmt.Fprintf(w, "step %s: %s, %d attempts of %s, on failure %s\n", name, s.Action, s.Attempts, s.Timeout, s.OnFailure)
		indent(w, "    ", s.With)
		if s.Rollback != "" {
			fmt.Fprintf(w, "  undone by %s", strings.SplitAfterN(s.Rollback, "\n", 2)[0])
			indent(w, "    ", strings.SplitAfterN(s.Rollback, "\n", 2)[1])
		}
	}
	return w.Flush()
}

func indent(w io.Writer, by, text string) {
	for _, line := range slices.Collect(strings.Lines(text)) {
		fmt.Fprintf(w, "%s%s\n", by, strings.TrimRight(line, "\n"))
	}
}
