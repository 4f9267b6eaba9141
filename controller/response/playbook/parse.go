package playbook

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

const (
	maxPlaybooks = 256 // in one file
	maxSteps     = 64  // of one playbook, parallel ones included
	maxRetries   = 10
	maxTimeout   = 24 * time.Hour
	maxExpires   = 30 * 24 * time.Hour
	maxSource    = 256 << 10 // bytes of a playbook: it is kept with each of its runs
)

// Parse reads a file of playbooks; name stands in the errors, which are
// strictyaml.Errors with line and column.
func Parse(name string, raw []byte) ([]Playbook, error) {
	doc, err := strictyaml.Parse(name, raw)
	if err != nil {
		return nil, err
	}
	var f File
	if err := doc.Decode(&f); err != nil {
		return nil, err
	}
	var errs strictyaml.Errors
	f.check(func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, doc.Errorf(path, format, args...))
		}
	})
	for i := range f.Playbooks {
		raw, err := f.Playbooks[i].YAML()
		if err != nil {
			return nil, err
		}
		if len(raw) > maxSource {
			errs = append(errs, doc.Errorf(fmt.Sprintf("playbooks[%d]", i), "has %d bytes, at most %d are allowed", len(raw), maxSource))
		}
		f.Playbooks[i].origin = doc.Pos(fmt.Sprintf("playbooks[%d]", i))
	}
	if len(errs) > 0 {
		return nil, errs.Err()
	}
	return f.Playbooks, nil
}

// Check holds playbooks of several files against each other and against the
// commands that may be run: names are unique, every one can be reached, and
// every command is on the list.
func Check(books []Playbook, commands []string) error {
	var errs strictyaml.Errors
	fault := func(p *Playbook, format string, args ...any) {
		errs = append(errs, &strictyaml.Error{File: p.origin.File, Line: p.origin.Line, Column: p.origin.Column, Msg: fmt.Sprintf(format, args...)})
	}
	at := map[string]*Playbook{}
	for i := range books {
		p := &books[i]
		if first := at[p.Name]; first != nil {
			fault(p, "playbook %s: the name is taken by %s", p.Name, first.origin)
		}
		at[p.Name] = p
		if by := hidden(books[:i], p); len(by) > 0 {
			fault(p, "playbook %s can never be reached: %s before it match everything that it is for", p.Name, strings.Join(by, ", "))
		}
		for _, name := range p.commands() {
			if !slices.Contains(commands, name) {
				fault(p, "playbook %s: command %q is not in playbook_exec of the configuration%s", p.Name, name, meant(name, commands))
			}
		}
	}
	return errs.Err()
}

// hidden lists the earlier playbooks that together match all that p does.
func hidden(before []Playbook, p *Playbook) []string {
	var by []string
	for _, k := range detector.Kinds() {
		if !anyOf(p.Trigger.Kinds, k.Kind) {
			continue
		}
		i := slices.IndexFunc(before, func(b Playbook) bool { return b.Trigger.covers(&p.Trigger, k.Kind) })
		if i < 0 {
			return nil
		}
		if !slices.Contains(by, before[i].Name) {
			by = append(by, before[i].Name)
		}
	}
	return by
}

// Commands lists the names of the commands that playbooks run.
func Commands(books []Playbook) []string {
	var out []string
	for i := range books {
		for _, name := range books[i].commands() {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// commands lists the names of the commands that the playbook runs.
func (p *Playbook) commands() []string {
	var out []string
	for _, s := range p.all() {
		if e, ok := s.With.Args.(Exec); ok {
			out = append(out, e.Command)
		}
		if u, ok := s.Undo(); ok {
			if e, ok := u.With.Args.(Exec); ok {
				out = append(out, e.Command)
			}
		}
	}
	return out
}

// all lists the steps, those of branches in place of the step that holds them.
func (p *Playbook) all() []Step {
	var out []Step
	for _, s := range p.Steps {
		if len(s.Parallel) > 0 {
			out = append(out, s.Parallel...)
		} else {
			out = append(out, s)
		}
	}
	return out
}

// UnmarshalStrict reads a step, and its arguments by its action.
func (s *Step) UnmarshalStrict(n strictyaml.Node) error {
	type plain Step
	if err := n.Decode((*plain)(s)); err != nil {
		return err
	}
	return s.With.read(s.Action)
}

// UnmarshalStrict reads an action that undoes a step.
func (u *Undo) UnmarshalStrict(n strictyaml.Node) error {
	type plain Undo
	if err := n.Decode((*plain)(u)); err != nil {
		return err
	}
	return u.With.read(u.Action)
}

// under puts what a part says below its path.
func (want check) under(prefix string) check {
	return func(ok bool, path, format string, args ...any) {
		if path != "" && path[0] != '[' {
			path = "." + path
		}
		want(ok, prefix+path, format, args...)
	}
}

func (f *File) check(want check) {
	want(f.APIVersion == APIVersion, "apiVersion", "%q is not %s", f.APIVersion, APIVersion)
	want(len(f.Playbooks) <= maxPlaybooks, "playbooks", "%d playbooks, at most %d are allowed", len(f.Playbooks), maxPlaybooks)
	for i := range f.Playbooks {
		f.Playbooks[i].check(want.under(fmt.Sprintf("playbooks[%d]", i)))
	}
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func (p *Playbook) check(want check) {
	want(nameForm.MatchString(p.Name), "name", "%q is not a name of small letters, digits and dashes", p.Name)
	want(p.Mode == "" || slices.Contains(modes(), p.Mode), "mode", "%q is not observe, advise or autonomous", p.Mode)
	want(p.People >= 0 && p.People <= 2, "people", "%d is outside 0 to 2", p.People)
	for i, a := range p.Rungs {
		want(a.Contains(), fmt.Sprintf("rungs[%d]", i), "%q is not a rung that contains", a)
	}
	for i, target := range p.Probes {
		err := response.CheckProbe(target)
		want(err == nil, fmt.Sprintf("probes[%d]", i), "%v", err)
	}
	p.Trigger.check(want.under("trigger"))
	want(len(p.Steps) > 0, "steps", "there are none; {name: tell, action: alert} does nothing but tell")
	all := p.all()
	want(len(all) <= maxSteps, "steps", "%d steps, at most %d are allowed", len(all), maxSteps)
	seen := map[string]bool{}
	for i := range p.Steps {
		p.Steps[i].check(want.under(fmt.Sprintf("steps[%d]", i)), i == 0, seen)
	}
}

func modes() []response.Mode {
	return []response.Mode{response.ModeObserve, response.ModeAdvise, response.ModeAutonomous}
}

func (t *Trigger) check(want check) {
	checkKinds(want, t.Kinds)
	checkSeverity(want, t.Severity)
	want(t.Score >= 0 && t.Score <= 1, "score", "%v is outside 0 to 1", t.Score)
	want(t.Confidence >= 0 && t.Confidence <= 1, "confidence", "%v is outside 0 to 1", t.Confidence)
	for i := range t.Within {
		want(t.Within[i].IsValid(), fmt.Sprintf("within[%d]", i), "needs a prefix such as 10.0.0.0/8")
		t.Within[i] = t.Within[i].Masked()
	}
	for i := range t.Outside {
		want(t.Outside[i].IsValid(), fmt.Sprintf("outside[%d]", i), "needs a prefix such as 10.0.0.0/8")
		t.Outside[i] = t.Outside[i].Masked()
	}
	for i := range t.Times {
		t.Times[i].check(want.under(fmt.Sprintf("times[%d]", i)))
	}
}

func (p *Period) check(want check) {
	for i, d := range p.Days {
		want(slices.Contains(dayNames[:], d), fmt.Sprintf("days[%d]", i), "%q is not one of %s", d, strings.Join(dayNames[:], ", "))
	}
	var err error
	p.from, err = clock(p.From)
	want(err == nil && p.from < 24*time.Hour, "from", "%q is not a time such as 08:30", p.From)
	p.to, err = clock(p.To)
	want(err == nil, "to", "%q is not a time such as 18:00", p.To)
	p.zone, err = time.LoadLocation(p.Zone)
	want(err == nil && p.Zone != "" && p.Zone != "Local", "zone", "%q is not a time zone such as Europe/Berlin or UTC", p.Zone)
	if err != nil {
		p.zone = time.UTC
	}
}

func checkKinds(want check, kinds []detector.Kind) {
	var names []string
	for _, k := range detector.Kinds() {
		names = append(names, string(k.Kind))
	}
	for i, k := range kinds {
		want(slices.Contains(names, string(k)), fmt.Sprintf("kinds[%d]", i), "there is no finding of kind %q%s", k, meant(string(k), names))
	}
}

func checkSeverity(want check, s detector.Severity) {
	want(s == "" || rank(s) > 0, "severity", "%q is not low, medium, high or critical", s)
}

func (c *Condition) check(want check, seen map[string]bool) {
	if c == nil {
		return
	}
	checkKinds(want, c.Kinds)
	checkSeverity(want, c.Severity)
	for _, name := range slices.Sorted(maps.Keys(c.Steps)) {
		want(seen[name], "steps."+name, "there is no step %s before this one", name)
		o := c.Steps[name]
		want(o == OutcomeDone || o == OutcomeFailed || o == OutcomeSkipped, "steps."+name, "%q is not done, failed or skipped", o)
	}
}

// check adds the step's name to those seen, which later conditions may name.
func (s *Step) check(want check, first bool, seen map[string]bool) {
	want(nameForm.MatchString(s.Name), "name", "%q is not a name of small letters, digits and dashes", s.Name)
	want(!seen[s.Name], "name", "there is another step %s", s.Name)
	s.If.check(want.under("if"), seen)
	s.Unless.check(want.under("unless"), seen)
	want(s.Retries.Count >= 0 && s.Retries.Count <= maxRetries, "retries.count", "%d is outside 0 to %d", s.Retries.Count, maxRetries)
	want(s.Retries.Backoff >= 0 && s.Retries.Backoff <= maxTimeout, "retries.backoff", "%s is outside 0s to 24h", s.Retries.Backoff)
	want(s.Timeout >= 0 && s.Timeout <= maxTimeout, "timeout", "%s is outside 0s to 24h", s.Timeout)
	want(slices.Contains([]OnFailure{"", FailStop, FailContinue, FailRollback}, s.OnFailure), "on_failure", "%q is not stop, continue or rollback", s.OnFailure)
	if len(s.Parallel) > 0 {
		s.checkBranches(want, seen)
		return
	}
	if s.Action.Rung() {
		want(first, "action", "%s must be the first step: what a switch does is decided before everything else", s.Action)
		want(s.If == nil && s.Unless == nil && s.Rollback == nil && s.OnFailure == "" && s.Retries == Retries{} && s.Timeout == 0, "action",
			"%s takes a name only: conditions belong into the trigger, and proof, retries and release are the controller's", s.Action)
	} else {
		checkAction(want, s.Action, s.With)
	}
	if s.Action == ActionAsk {
		want(s.Rollback == nil && s.Retries == Retries{} && s.Timeout == 0, "action", "a question has expires instead of timeout, is asked once, and there is nothing to undo")
	}
	if s.Rollback != nil {
		want(s.Rollback.Action != ActionAsk, "rollback.action", "nobody is asked while steps are undone")
		want(!s.Rollback.Action.Rung(), "rollback.action", "%s cannot undo a step", s.Rollback.Action)
		want(s.Rollback.Timeout >= 0 && s.Rollback.Timeout <= maxTimeout, "rollback.timeout", "%s is outside 0s to 24h", s.Rollback.Timeout)
		if !s.Rollback.Action.Rung() {
			checkAction(want.under("rollback"), s.Rollback.Action, s.Rollback.With)
		}
	}
	seen[s.Name] = true
}

func (s *Step) checkBranches(want check, seen map[string]bool) {
	want(s.Action == "" && s.Rollback == nil && s.Retries == Retries{} && s.Timeout == 0 && s.OnFailure == "", "parallel",
		"a step of branches has nothing but a name and conditions")
	before := maps.Clone(seen) // branches do not see each other
	for i := range s.Parallel {
		b := &s.Parallel[i]
		under := want.under(fmt.Sprintf("parallel[%d]", i))
		want(len(b.Parallel) == 0, fmt.Sprintf("parallel[%d]", i), "branches have no branches")
		mine := maps.Clone(before)
		under(!seen[b.Name], "name", "there is another step %s", b.Name)
		b.Parallel = nil
		b.check(under, false, mine)
		seen[b.Name] = true
	}
	seen[s.Name] = true
}

func checkAction(want check, a Action, w With) {
	var names []string
	for _, r := range response.Ladder() {
		names = append(names, string(r))
	}
	for _, x := range Actions() {
		names = append(names, string(x))
	}
	want(slices.Contains(names, string(a)), "action", "there is no action %q%s", a, meant(string(a), names))
	if w.Args == nil {
		return
	}
	with := want.under("with")
	w.check(with)
	w.each(func(path, text string) string {
		err := try(text)
		with(err == nil, path, "%v", err)
		return text
	})
}

// meant is the end of a message about an unknown word.
func meant(word string, valid []string) string {
	if near := strictyaml.Nearest(word, valid); near != "" {
		return fmt.Sprintf(" (did you mean %q?)", near)
	}
	return ""
}
