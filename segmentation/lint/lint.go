// Package lint finds what is valid in policies and can hardly be meant: rules
// that never decide, rules that change nothing, groups of nobody, and policies
// that would restrict what is protected.
//
// What it says of rules is exact. Addresses that no rule tells apart are one
// class, and so are services; a rule is judged for every pair of classes and
// every service, at one time of each combination of open schedules and ends
// that there can be (package calendar). What findings and threat feeds make of a group is left open: a rule
// about workloads at risk is not useless because nobody is at risk now.
// Without an inventory the workloads are left open as well, so that only what
// holds for every inventory is told.
package lint

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Severity says what becomes of a finding.
type Severity string

// Severities: policies with errors are refused.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
	SeverityNote    Severity = "note"
)

// Kind is a class of findings.
type Kind string

// The kinds.
const (
	// KindProtected: a rule restricts what is protected.
	KindProtected Kind = "protected"
	// KindCutOff: workloads can no longer reach what is protected.
	KindCutOff Kind = "cut-off"
	// KindShadowed: rules before it decide all that a rule matches.
	KindShadowed Kind = "shadowed"
	// KindRedundant: without the rule everything would be the same.
	KindRedundant Kind = "redundant"
	// KindUnreachable: a rule can match nothing, or nothing is left to it.
	KindUnreachable Kind = "unreachable"
	// KindExpired: a policy is past its end.
	KindExpired Kind = "expired"
	// KindOverlap: rules of one tier contradict each other on some
	// connections.
	KindOverlap Kind = "overlap"
	// KindEmptyGroup: nobody belongs to a group.
	KindEmptyGroup Kind = "empty-group"
	// KindUnused: nothing speaks of a group or a service.
	KindUnused Kind = "unused"
	// KindUnguarded: egress is restricted of those whose sources nobody guards.
	KindUnguarded Kind = "unguarded"
	// KindUnchecked: something could not be judged.
	KindUnchecked Kind = "unchecked"
)

// Finding is one thing that was found.
type Finding struct {
	File     string   `json:"file"`
	Line     int      `json:"line"`
	Column   int      `json:"column"`
	Severity Severity `json:"severity"`
	Kind     Kind     `json:"kind"`
	Policy   string   `json:"policy,omitempty"`
	// Rule is "ingress/NAME" or "egress/NAME".
	Rule    string `json:"rule,omitempty"`
	Group   string `json:"group,omitempty"`
	Message string `json:"message"`
}

// Position is where it stands.
func (f *Finding) Position() strictyaml.Position {
	return strictyaml.Position{File: f.File, Line: f.Line, Column: f.Column}
}

// Options say what is known beside the policies.
type Options struct {
	// Now is the time at which the policies come into force.
	Now time.Time
	// Inventory is nil when the workloads are not known.
	Inventory *policy.Inventory
	// Protected are addresses that the configuration protects, beside those
	// of the files and of the inventory.
	Protected []netip.Prefix
}

// Check judges a set, which must be valid: read by policy.Read, or like it.
// Findings are in the order of their places.
func Check(set *policy.Set, opt Options) []Finding {
	c := &checker{set: set, opt: opt, told: map[Finding]bool{}}
	c.unused()
	c.expired()
	c.unguarded()
	if w, ok := newWorld(set, opt); ok {
		c.judge(w)
	} else {
		c.guardsOnly = true
		c.judge(newNarrowWorld(set, opt))
		c.add(Finding{Severity: SeverityNote, Kind: KindUnchecked,
			Message: "there are too many kinds of workloads that these selectors tell apart: rules are judged with an inventory only"}, strictyaml.Position{})
	}
	slices.SortStableFunc(c.found, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Kind, b.Kind))
	})
	return c.found
}

// Refused is the error about rules that would restrict what is protected,
// whatever the workloads are: nil if there are none. It asks for nothing else,
// and so takes less than Check. Of policies that tell apart more kinds of
// workloads than can be judged, rules are refused that would restrict protected
// addresses in what they open to, or are opened from, addresses of nobody.
func Refused(set *policy.Set, protected []netip.Prefix, now time.Time) error {
	if len(set.Protected)+len(protected) == 0 {
		return nil
	}
	c := &checker{set: set, opt: Options{Now: now, Protected: protected}, told: map[Finding]bool{}, guardsOnly: true}
	w, ok := newWorld(set, c.opt)
	if !ok {
		w = newNarrowWorld(set, c.opt)
	}
	c.judge(w)
	return Faults(c.found)
}

type checker struct {
	set *policy.Set
	opt Options
	// guardsOnly leaves out everything but what is protected.
	guardsOnly bool
	found      []Finding
	told       map[Finding]bool
}

// add adds a finding, once.
func (c *checker) add(f Finding, at strictyaml.Position) {
	f.File, f.Line, f.Column = at.File, at.Line, at.Column
	if !c.told[f] {
		c.told[f] = true
		c.found = append(c.found, f)
	}
}

func (c *checker) aboutRule(id policy.RuleID, s Severity, k Kind, message string) {
	c.add(Finding{Severity: s, Kind: k, Policy: id.Policy, Rule: id.Direction.String() + "/" + id.Rule, Message: message}, c.set.RuleAt(id))
}

func (c *checker) aboutPolicy(p *policy.Policy, s Severity, k Kind, message string) {
	c.add(Finding{Severity: s, Kind: k, Policy: p.Name, Message: message}, c.set.PolicyAt(p.Name))
}

func (c *checker) aboutGroup(name string, s Severity, k Kind, message string) {
	c.add(Finding{Severity: s, Kind: k, Group: name, Message: message}, c.set.GroupAt(name))
}
