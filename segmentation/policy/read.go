package policy

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Source is a file to read; the name stands in errors and warnings.
type Source struct {
	Name string
	Data []byte
	// File is what is there instead of Data, when it was translated from
	// another language. At then tells where that stands which became the value
	// of a path, such as "policies[2].ingress[0].from".
	File *File
	At   func(path string) strictyaml.Position
}

// document tells where its values stand.
type document interface {
	Pos(path string) strictyaml.Position
	Errorf(path, format string, args ...any) *strictyaml.Error
}

// translated is the document of a file in another language.
type translated struct {
	at func(string) strictyaml.Position
}

func (t translated) Pos(path string) strictyaml.Position { return t.at(path) }

func (t translated) Errorf(path, format string, args ...any) *strictyaml.Error {
	p := t.at(path)
	return &strictyaml.Error{File: p.File, Line: p.Line, Column: p.Column, Msg: path + ": " + fmt.Sprintf(format, args...)}
}

// Read reads files that belong together: they know each other's groups and
// services, and their policies share the tiers. The error is of type
// strictyaml.Errors, with every fault that was found, when a file is at fault.
func Read(files ...Source) (*Set, error) {
	var errs strictyaml.Errors
	r := reader{groups: map[string]place{}, services: map[string]place{}, set: &Set{Groups: map[string]Group{}, Services: map[string][]Service{}}}
	for _, f := range files {
		part, err := readFile(f)
		if err != nil {
			adopt(&errs, f.Name, err)
			continue
		}
		r.parts = append(r.parts, part)
	}
	r.merge()
	r.check()
	errs = append(errs, r.errs...)
	if err := errs.Err(); err != nil {
		return nil, err
	}
	r.order()
	return r.set, nil
}

// part is one file with where its values stand.
type part struct {
	doc document
	File
}

// place is where something of a set was read.
type place struct {
	doc  document
	path string
}

func (p place) position() strictyaml.Position {
	if p.doc == nil {
		return strictyaml.Position{}
	}
	return p.doc.Pos(p.path)
}

func readFile(src Source) (*part, error) {
	if src.File != nil {
		at := src.At
		if at == nil {
			at = func(string) strictyaml.Position { return strictyaml.Position{File: src.Name, Line: 1, Column: 1} }
		}
		return &part{translated{at}, *src.File}, nil
	}
	doc, err := strictyaml.Parse(src.Name, src.Data)
	if err != nil {
		return nil, err
	}
	p := &part{doc: doc}
	if err := doc.Decode(&p.File); err != nil {
		return nil, err
	}
	return p, nil
}

// adopt adds the faults of one file.
func adopt(errs *strictyaml.Errors, file string, err error) {
	var many strictyaml.Errors
	var one *strictyaml.Error
	switch {
	case errors.As(err, &many):
		*errs = append(*errs, many...)
	case errors.As(err, &one):
		*errs = append(*errs, one)
	default:
		*errs = append(*errs, &strictyaml.Error{File: file, Line: 1, Column: 1, Msg: err.Error()})
	}
}

// reader puts files together.
type reader struct {
	parts            []*part
	set              *Set
	groups, services map[string]place
	policies         []place // of set.Policies
	invariants       []place // of set.Invariants
	guards           []place // of set.SourceGuards
	errs             strictyaml.Errors
}

func (r *reader) merge() {
	for _, p := range r.parts {
		for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
			if r.once(r.groups, p, "groups", name, func() bool { return reflect.DeepEqual(r.set.Groups[name], p.Groups[name]) }) {
				r.set.Groups[name] = p.Groups[name]
			}
		}
		for _, name := range slices.Sorted(maps.Keys(p.Services)) {
			if r.once(r.services, p, "services", name, func() bool { return reflect.DeepEqual(r.set.Services[name], p.Services[name]) }) {
				r.set.Services[name] = p.Services[name]
			}
		}
		for _, peer := range p.Protected {
			if !slices.Contains(r.set.Protected, peer) {
				r.set.Protected = append(r.set.Protected, peer)
			}
		}
		for i := range p.Policies {
			if at := p.Policies[i].ExpiresAt; at != nil { // not the machine's zone
				utc := at.UTC()
				p.Policies[i].ExpiresAt = &utc
			}
			r.set.Policies = append(r.set.Policies, p.Policies[i])
			r.policies = append(r.policies, place{p.doc, fmt.Sprintf("policies[%d]", i)})
		}
		for i := range p.SourceGuards {
			r.set.SourceGuards = append(r.set.SourceGuards, p.SourceGuards[i])
			r.guards = append(r.guards, place{p.doc, fmt.Sprintf("sourceGuards[%d]", i)})
		}
		r.mergeInvariants(p)
	}
}

// once reports whether a name is new; what has it already must be equal.
func (r *reader) once(seen map[string]place, p *part, what, name string, equal func() bool) bool {
	first, has := seen[name]
	if !has {
		seen[name] = place{p.doc, what + "." + name}
		return true
	}
	if !equal() {
		r.errs = append(r.errs, p.doc.Errorf(what+"."+name, "is something else in %s", first.position()))
	}
	return false
}

// order sorts the policies as they decide.
func (r *reader) order() {
	index := make([]int, len(r.set.Policies))
	for i := range index {
		index[i] = i
	}
	all := r.set.Policies
	slices.SortFunc(index, func(a, b int) int { return all[a].Compare(&all[b]) })
	o := &origins{groups: r.groups, services: r.services, policies: make(map[string]place, len(all)), invariants: map[string]place{}}
	r.set.Policies = nil
	for _, i := range index {
		r.set.Policies = append(r.set.Policies, all[i])
		o.policies[all[i].Name] = r.policies[i]
	}
	for i := range r.set.Invariants {
		o.invariants[r.set.Invariants[i].Name] = r.invariants[i]
	}
	r.set.origins = o
}

// Compare orders policies as they decide: by tier, then by priority.
func (p *Policy) Compare(q *Policy) int {
	if p.Tier != q.Tier {
		return int(p.Tier) - int(q.Tier)
	}
	return p.Priority - q.Priority
}

// origins say where the parts of a set were read.
type origins struct {
	groups, services, policies, invariants map[string]place
}

// GroupAt is where a group stands; zero if it was not read from a file.
func (s *Set) GroupAt(name string) strictyaml.Position {
	if s.origins == nil {
		return strictyaml.Position{}
	}
	return s.origins.groups[name].position()
}

// ServiceAt is where a service stands; zero if it was not read from a file.
func (s *Set) ServiceAt(name string) strictyaml.Position {
	if s.origins == nil {
		return strictyaml.Position{}
	}
	return s.origins.services[name].position()
}

// PolicyAt is where a policy stands; zero if it was not read from a file.
func (s *Set) PolicyAt(name string) strictyaml.Position {
	if s.origins == nil {
		return strictyaml.Position{}
	}
	return s.origins.policies[name].position()
}

// RuleAt is where a rule stands; zero if it was not read from a file.
func (s *Set) RuleAt(id RuleID) strictyaml.Position {
	if s.origins == nil {
		return strictyaml.Position{}
	}
	at, ok := s.origins.policies[id.Policy]
	p := s.Policy(id.Policy)
	if !ok || p == nil {
		return strictyaml.Position{}
	}
	i := slices.IndexFunc(p.Rules(id.Direction), func(r Rule) bool { return r.Name == id.Rule })
	if i < 0 {
		return at.position()
	}
	at.path = fmt.Sprintf("%s.%s[%d]", at.path, id.Direction, i)
	return at.position()
}

// Policy returns the policy of a name, or nil.
func (s *Set) Policy(name string) *Policy {
	i := slices.IndexFunc(s.Policies, func(p Policy) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Policies[i]
}

// Marshal writes the set as one file, from which Read makes the same set.
func (s *Set) Marshal() ([]byte, error) {
	raw, err := yaml.Marshal(File{APIVersion: APIVersion, Groups: s.Groups, Services: s.Services, Protected: s.Protected, SourceGuards: s.SourceGuards, Policies: s.Policies, Invariants: s.Invariants})
	if err != nil {
		return nil, fmt.Errorf("write policies: %w", err)
	}
	return raw, nil
}
