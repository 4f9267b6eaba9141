// Package playbook is the language of playbooks: what is done about a finding
// besides the rung of the ladder that contains it, in which order, and what
// undoes it. It reads playbooks strictly, chooses the one that a finding
// triggers, renders the arguments of its steps, and tells beforehand what would
// be done. It does nothing itself: the rung is decided by response, within its
// guards, and the other steps are carried out by response/run.
//
// REFERENCE.md lists the keys, the actions and the fields of templates.
package playbook

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// APIVersion is what the first line of a file of playbooks says.
const APIVersion = "playbook/v1"

// File is a file of playbooks.
type File struct {
	// playbook/v1
	APIVersion string `yaml:"apiVersion"`
	// the playbooks; the first whose trigger matches a finding is used
	Playbooks []Playbook `yaml:"playbooks"`
}

// Playbook says what is done about findings that its trigger matches.
type Playbook struct {
	// name, unique over all files: small letters, digits and dashes
	Name string `yaml:"name"`
	// what it is for, in one line
	About string `yaml:"about,omitempty"`
	// findings that it is for; without one, all
	Trigger Trigger `yaml:"trigger,omitempty"`
	// observe, advise or autonomous; the more careful of this and of the configuration's mode holds
	Mode response.Mode `yaml:"mode,omitempty"`
	// approvals that are needed whatever the mode, each of another person: 0, 1 or 2
	People int `yaml:"people,omitempty"`
	// true holds further containments of this playbook back until the one before is proven
	Canary bool `yaml:"canary,omitempty"`
	// rungs that learning may choose from besides the playbook's own (response.learning); without them those that contain and are milder
	Rungs []response.Action `yaml:"rungs,omitempty,flow"`
	// services that have to answer as before when a host was contained, else the containment is taken back a rung: tcp://HOST:PORT, http://..., https://...
	Probes []string `yaml:"probes,omitempty"`
	// what is done, one after the other
	Steps []Step `yaml:"steps"`

	origin strictyaml.Position
}

// Trigger is a set of conditions that all must hold; one that is left out
// always does.
type Trigger struct {
	// kinds of findings
	Kinds []detector.Kind `yaml:"kinds,omitempty,flow"`
	// least severity: low, medium, high or critical
	Severity detector.Severity `yaml:"severity,omitempty"`
	// least score, 0 to 1
	Score float64 `yaml:"score,omitempty"`
	// least confidence, 0 to 1
	Confidence float64 `yaml:"confidence,omitempty"`
	// labels that the attacker's port must carry (external_ids of the interface)
	Tags map[string]string `yaml:"tags,omitempty,flow"`
	// prefixes of which one must hold the attacker, or the first victim where sources are forged
	Within []netip.Prefix `yaml:"within,omitempty,flow"`
	// prefixes of which none may hold it
	Outside []netip.Prefix `yaml:"outside,omitempty,flow"`
	// times of which one must be now
	Times []Period `yaml:"times,omitempty"`
}

// Period is a time of the week.
type Period struct {
	// mon to sun; without them, every day; a period that passes midnight counts for the day that it begins on
	Days []string `yaml:"days,omitempty,flow"`
	// beginning, HH:MM
	From string `yaml:"from"`
	// end, HH:MM, not included; before the beginning it is of the next day
	To string `yaml:"to"`
	// time zone of both, such as Europe/Berlin or UTC
	Zone string `yaml:"zone"`

	zone     *time.Location
	from, to time.Duration // since midnight
}

// Step is one thing to do, or several at once.
type Step struct {
	// name, unique in the playbook: small letters, digits and dashes
	Name string `yaml:"name"`
	// rung of the ladder (first step only), webhook, exec, notify, intel, docker, wait or ask
	Action Action `yaml:"action,omitempty"`
	// arguments of the action
	With With `yaml:"with,omitempty"`
	// steps that are done at once, instead of an action
	Parallel []Step `yaml:"parallel,omitempty"`
	// the step is done only if all of this holds
	If *Condition `yaml:"if,omitempty"`
	// the step is not done if all of this holds
	Unless *Condition `yaml:"unless,omitempty"`
	// further attempts after one that failed
	Retries Retries `yaml:"retries,omitempty"`
	// time of one attempt (10s); of a wait for a clean signal, how long it may take (1h)
	Timeout time.Duration `yaml:"timeout,omitempty"`
	// stop, continue or rollback: what follows when no attempt succeeds, or somebody says no (stop)
	OnFailure OnFailure `yaml:"on_failure,omitempty"`
	// what undoes the step when a later one fails with on_failure rollback, or when the containment is rolled back
	Rollback *Undo `yaml:"rollback,omitempty"`
}

// Retries says how often an attempt that failed is repeated.
type Retries struct {
	// how many, 0 to 10
	Count int `yaml:"count"`
	// pause before the first of them (1s); doubles each time, up to a minute
	Backoff time.Duration `yaml:"backoff,omitempty"`
}

// Undo is an action that undoes a step.
type Undo struct {
	// action that undoes the step
	Action Action `yaml:"action"`
	// its arguments
	With With `yaml:"with,omitempty"`
	// time of one attempt (10s)
	Timeout time.Duration `yaml:"timeout,omitempty"`
}

// Condition looks at the finding and at what was done. All that it names must
// hold.
type Condition struct {
	// kinds of findings
	Kinds []detector.Kind `yaml:"kinds,omitempty,flow"`
	// least severity of the finding
	Severity detector.Severity `yaml:"severity,omitempty"`
	// labels of the attacker's port
	Tags map[string]string `yaml:"tags,omitempty,flow"`
	// how earlier steps ended, by name: done, failed or skipped
	Steps map[string]Outcome `yaml:"steps,omitempty,flow"`
}

// Action names what a step does: a rung of the ladder, or one of the actions
// below.
type Action string

// The actions besides the rungs of the ladder.
const (
	ActionWebhook Action = "webhook" // POST to a URL
	ActionExec    Action = "exec"    // run a command of the allow-list
	ActionNotify  Action = "notify"  // tell people or a SIEM
	ActionIntel   Action = "intel"   // write a STIX bundle
	ActionDocker  Action = "docker"  // restart or recreate a container
	ActionWait    Action = "wait"    // let time pass, or the attack
	ActionAsk     Action = "ask"     // wait for people to answer
)

// Actions lists the actions besides the rungs of the ladder.
func Actions() []Action {
	return []Action{ActionWebhook, ActionExec, ActionNotify, ActionIntel, ActionDocker, ActionWait, ActionAsk}
}

// Rung reports whether the action is a rung of the ladder.
func (a Action) Rung() bool {
	for _, r := range response.Ladder() {
		if string(r) == string(a) {
			return true
		}
	}
	return false
}

// OnFailure is what follows when a step has failed for good.
type OnFailure string

// What can follow. Without a word it is FailStop.
const (
	FailStop     OnFailure = "stop"     // nothing further is done, what was done stays
	FailContinue OnFailure = "continue" // the next step is done
	FailRollback OnFailure = "rollback" // what was done is undone, the latest first
)

// Outcome is how a step ended, as conditions see it.
type Outcome string

// The outcomes of a step.
const (
	OutcomeDone    Outcome = "done"
	OutcomeFailed  Outcome = "failed" // also when it is in doubt
	OutcomeSkipped Outcome = "skipped"
)

const (
	defaultTimeout = 10 * time.Second
	defaultWait    = time.Hour
	defaultExpires = time.Hour
	defaultBackoff = time.Second
	maxBackoff     = time.Minute
)

// Origin is where the playbook stands.
func (p *Playbook) Origin() strictyaml.Position { return p.origin }

// YAML is a file of this playbook alone; reading it gives the same playbook.
func (p *Playbook) YAML() ([]byte, error) { return Write([]Playbook{*p}) }

// Write makes a file of playbooks; reading it gives the same ones.
func Write(books []Playbook) ([]byte, error) {
	raw, err := yaml.Marshal(File{APIVersion: APIVersion, Playbooks: books})
	if err != nil {
		return nil, fmt.Errorf("write playbooks: %w", err)
	}
	return raw, nil
}

// Rung is the rung of the ladder that the playbook begins with; without one it
// raises an alert.
func (p *Playbook) Rung() response.Action {
	if len(p.Steps) > 0 && p.Steps[0].Action.Rung() {
		return response.Action(p.Steps[0].Action)
	}
	return response.ActionAlert
}

// Rest are the steps besides the rung.
func (p *Playbook) Rest() []Step {
	if len(p.Steps) > 0 && p.Steps[0].Action.Rung() {
		return p.Steps[1:]
	}
	return p.Steps
}

// Deadline is how long one attempt may take.
func (s *Step) Deadline() time.Duration {
	if a, ok := s.With.Args.(Ask); ok {
		return cmp.Or(a.Expires, defaultExpires)
	}
	switch w, ok := s.With.Args.(Wait); {
	case s.Timeout > 0:
		return s.Timeout
	case ok && w.For > 0:
		return w.For + defaultTimeout
	case ok:
		return defaultWait
	}
	return defaultTimeout
}

// Pause is how long to wait after the given attempt, the first being 1.
func (r Retries) Pause(attempt int) time.Duration {
	d := r.Backoff
	if d == 0 {
		d = defaultBackoff
	}
	return min(d<<min(attempt-1, 16), max(maxBackoff, r.Backoff))
}

// step makes a step of what undoes another.
func (u *Undo) step(of string) Step {
	return Step{Name: of, Action: u.Action, With: u.With, Timeout: u.Timeout}
}

// Undo is the step that undoes this one; ok is false where there is none.
func (s *Step) Undo() (u Step, ok bool) {
	if s.Rollback == nil {
		return Step{}, false
	}
	return s.Rollback.step(s.Name), true
}

// Met reports whether the condition holds, and if not, why.
func (c *Condition) Met(facts Facts, outcome func(step string) Outcome) (ok bool, why string) {
	if c == nil {
		return true, ""
	}
	if !anyOf(c.Kinds, facts.Finding.Kind) {
		return false, "another kind of finding"
	}
	if rank(facts.Finding.Severity) < rank(c.Severity) {
		return false, "severity below " + string(c.Severity)
	}
	for k, v := range c.Tags {
		if facts.Host.Tags[k] != v {
			return false, "no tag " + k + "=" + v
		}
	}
	for step, want := range c.Steps {
		if got := outcome(step); got != want {
			return false, "step " + step + " is not " + string(want)
		}
	}
	return true, ""
}
