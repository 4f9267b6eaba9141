package response

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/detector"
)

// LearningMode says how far a chooser may go beyond the rule, which is the rung
// of the playbook.
type LearningMode string

// The modes of learning, the most careful first.
const (
	// LearningOff acts by the rule. What was done and what came of it is
	// written down all the same.
	LearningOff LearningMode = "off"
	// LearningShadow acts by the rule, and writes down what the policy would
	// have chosen.
	LearningShadow LearningMode = "shadow"
	// LearningExplore acts by the rule, but for a small, known share of
	// decisions, which try a rung beside it: without them nothing can be said
	// of rungs that the rule never takes.
	LearningExplore LearningMode = "explore"
	// LearningLive acts by the policy, once it has been promoted.
	LearningLive LearningMode = "live"
)

// LearningModes lists them, the most careful first.
func LearningModes() []LearningMode {
	return []LearningMode{LearningOff, LearningShadow, LearningExplore, LearningLive}
}

// Question is what a chooser is asked about one decision.
type Question struct {
	Decision string // its ID
	Finding  detector.Finding
	Time     time.Time
	// Target is where and whom the rule's rung would hit. Mode is that of the
	// decision: where it is observe, nothing is done.
	Target Target
	Mode   Mode
	// Rule is the rung that the playbook asks for, as far as the guards let
	// it; Open are the rungs, the rule's among them, that playbook and guards
	// leave open without a person being asked, the mildest first.
	Rule Action
	Open []Action
	// Relapse is how often the target was contained lately.
	Relapse int
	// Impact is what depends on the host, counted where there is a choice, Cost
	// what the rule's rung cuts off.
	Impact Impact
	Cost   Cost
}

// Choice is a chooser's answer, and stays with the decision.
type Choice struct {
	Mode   LearningMode `json:"mode"`
	Policy string       `json:"policy"`
	Rule   Action       `json:"rule"`
	Open   []Action     `json:"open,omitempty"`
	// Wanted is what the policy would do, Action what is done, with the
	// probability that it had.
	Wanted     Action  `json:"wanted"`
	Action     Action  `json:"action"`
	Propensity float64 `json:"propensity"`
}

// String says how the rung was chosen.
func (c *Choice) String() string {
	s := fmt.Sprintf("%s was chosen with probability %.4g in mode %s; open were %s", c.Action, c.Propensity, c.Mode, join(c.Open))
	if c.Action != c.Rule {
		s += fmt.Sprintf("; the playbook asks for %s", c.Rule)
	}
	if c.Mode != LearningOff {
		s += fmt.Sprintf("; policy %s would choose %s", c.Policy, c.Wanted)
	}
	return s
}

func join(list []Action) string {
	var names []string
	for _, a := range list {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// Chooser chooses among the rungs that playbook and guards leave open. It stands
// on the way to containment, so it takes microseconds and never waits. The
// guards look at its choice as at any other; an answer that is not open is as
// good as the rule's.
type Chooser interface {
	Choose(q Question) Choice
}

// opens lists the rungs that the plan leaves open, the mildest first: those that
// it names, else what contains and is no harder than its own.
func (p *Plan) opens() []Action {
	var out []Action
	own := slices.Index(Ladder(), p.Action)
	for i, a := range Ladder() {
		named := slices.Contains(p.Rungs, a) || len(p.Rungs) == 0 && i <= own
		if a == p.Action || a.Contains() && named {
			out = append(out, a)
		}
	}
	return out
}

// choose lets the chooser take another rung than the rule's. Where the rule's own
// is refused, stands already or waits for a person there is nothing to choose.
func (m *Manager) choose(d *Decision, f detector.Finding, plan Plan, now time.Time) {
	if m.cfg.Chooser == nil {
		return
	}
	trial := *d
	if !m.guardTarget(&trial, f, now) || m.sameTarget(&trial) || !m.guardRest(&trial, f, now) {
		return
	}
	rule, variants := trial.Action, map[Action]Decision{}
	open := []Action{rule}
	if trial.Mode == ModeAutonomous && trial.People == 0 {
		for _, a := range plan.opens() {
			if a == rule {
				continue
			}
			if v, ok := m.variant(d, f, plan, a, now); ok {
				variants[a], open = v, append(open, a)
			}
		}
	}
	slices.SortFunc(open, func(a, b Action) int { return slices.Index(Ladder(), a) - slices.Index(Ladder(), b) })
	q := Question{Decision: d.ID, Finding: f, Time: now, Target: trial.Target, Mode: trial.Mode, Rule: rule, Open: slices.Clone(open),
		Relapse: m.relapses(&trial, now), Cost: *trial.Cost}
	if trial.Target.Host.IsValid() && len(open) > 1 {
		q.Impact = m.impact(&trial)
	}
	c := m.cfg.Chooser.Choose(q)
	v, other := variants[c.Action]
	if !other && c.Action != rule { // not open
		c = Choice{Mode: c.Mode, Policy: c.Policy, Action: rule, Wanted: rule, Propensity: 1}
	}
	c.Rule, c.Open = rule, open
	if other {
		*d = v
	}
	d.Choice = &c
}

// variant is the decision with another rung, where all guards let that rung
// itself pass, and nobody has to be asked.
func (m *Manager) variant(d *Decision, f detector.Finding, plan Plan, a Action, now time.Time) (Decision, bool) {
	plan.Action = a
	v, ok := propose(m.cfg, f, plan)
	if !ok || v.Action != a || v.Target.spares(f) {
		return Decision{}, false
	}
	v.ID, v.Created = d.ID, d.Created
	trial := v
	ok = m.guardTarget(&trial, f, now) && !m.sameTarget(&trial) && m.guardRest(&trial, f, now)
	return v, ok && trial.Action == a && trial.People == 0 && trial.Mode == ModeAutonomous
}

// guardTarget are the guards about whom and where a decision hits.
func (m *Manager) guardTarget(d *Decision, f detector.Finding, now time.Time) bool {
	if !m.guardPlace(d, f) || !m.guardExempt(d, now) || !m.guardShared(d) || !m.guardStation(d) {
		return false
	}
	m.unmask(d) // those guards are about the address
	return true
}

// guardRest are the guards about what is done.
func (m *Manager) guardRest(d *Decision, f detector.Finding, now time.Time) bool {
	ok := m.guardCompile(d, f) && m.guardLimits(d, now) && m.guardCanary(d, now) && m.guardImpact(d) && m.guardTraffic(d)
	if ok {
		m.price(d, f)
	}
	return ok
}

// spares reports whether the target leaves out somebody whom the finding names
// as a victim.
func (t *Target) spares(f detector.Finding) bool {
	only := t.Peer
	if t.Victim.IsValid() {
		only = t.Victim
	}
	return only.IsValid() && slices.ContainsFunc(f.Victims, func(v netip.Addr) bool { return v != only })
}

// milder reports whether the choice was for less than the rule's rung.
func (c *Choice) milder() bool {
	return c != nil && slices.Index(Ladder(), c.Action) < slices.Index(Ladder(), c.Rule)
}

// insufficient reports whether a milder rung than the rule's was chosen, and does
// not do: somebody is attacked whom it leaves out, or it could not be proven.
func (m *Manager) insufficient(d *Decision, f detector.Finding, now time.Time) bool {
	if !d.Choice.milder() || d.State != StateApplied && d.State != StateVerified {
		return false
	}
	return d.Target.spares(f) || d.State == StateApplied && now.Sub(d.Applied) > m.cfg.VerifyWithin
}

// relieve ends the milder containment that was not enough, when the harder one
// stands.
func (m *Manager) relieve(ctx context.Context, by *Decision) {
	d := m.all[by.Relieves]
	if d == nil || m.lives[d.ID] == nil {
		return
	}
	m.succeeded(d, by)
	m.finish(ctx, d, StateReleased, fmt.Sprintf("%s was not enough: %s", d.Action, by.ID), func() {})
}

// succeeded notes that the attack needed another decision.
func (m *Manager) succeeded(d, by *Decision) {
	m.mu.Lock()
	d.Successor = by.ID
	m.mu.Unlock()
}

// Cost is what a containment cuts off of honest traffic.
type Cost struct {
	// Own is how many conversations that the host is known to have ended well
	// lately, the attack's left out, Cut how many of them are cut off.
	Own int `json:"own"`
	Cut int `json:"cut"`
	// Others is the share of known-good connections of everybody else that no
	// longer succeed, the worst that was seen.
	Others float64 `json:"others"`
}

// price says what the rules will cut off.
func (m *Manager) price(d *Decision, f detector.Finding) {
	c := m.watch.cost(d, f, m.cfg.Remediation)
	d.Cost = &c
}

// cost counts the known-good conversations of a target's host. Those that the
// finding is about are no honest ones.
func (w *Watch) cost(d *Decision, f detector.Finding, remediation []netip.Addr) (c Cost) {
	t := &d.Target
	if !t.Host.IsValid() {
		return c
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.health.good {
		if p.client != t.Host && p.server != t.Host {
			continue
		}
		if p.client == t.Host && slices.Contains(f.Victims, p.server) && (f.DstPort == 0 || f.DstPort == p.port) {
			continue
		}
		c.Own++
		peer := p.server
		if peer == t.Host {
			peer = p.client
		}
		switch {
		case d.Action.Isolates() && !slices.Contains(remediation, peer),
			d.Action == ActionSegment && p.client == t.Host && (!t.Peer.IsValid() || t.Peer == p.server) && (t.Service == 0 || t.Service == p.port):
			c.Cut++
		}
	}
	return c
}

// hurts notes the share of others' connections that the containment breaks.
func (d *Decision) hurts(before, after float64) {
	if d.Cost == nil || before == 0 {
		return
	}
	c := *d.Cost // others read the one that there was
	c.Others = max(c.Others, min(1, max(0, 1-after/before)))
	d.Cost = &c
}
