package playbook

import (
	"crypto/sha256"
	_ "embed"
	"fmt"
	"maps"
	"slices"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

//go:embed default.yaml
var defaults []byte

// Set is the playbooks in force, in the order in which they are tried.
type Set struct {
	books   []Playbook
	version string
}

// NewSet puts playbooks in order. It is not changed afterwards.
func NewSet(lists ...[]Playbook) *Set {
	s := &Set{books: slices.Concat(lists...)}
	if raw, err := Write(s.books); err == nil {
		s.version = fmt.Sprintf("%x", sha256.Sum256(raw))[:12]
	}
	return s
}

// Version tells sets apart: the same playbooks have the same one, also after a
// restart.
func (s *Set) Version() string { return s.version }

// Default are the playbooks that the program brings along. They match every
// finding, and do what response.DefaultConfig says of its kind.
func Default() ([]Playbook, error) {
	books, err := Parse("default.yaml", defaults)
	if err != nil {
		return nil, fmt.Errorf("playbooks of the program itself: %w", err)
	}
	return books, nil
}

// OfActions makes playbooks of actions by kind, as the configuration may give
// them: one for each action.
func OfActions(actions map[detector.Kind]response.Action) []Playbook {
	kinds := map[response.Action][]detector.Kind{}
	for k, a := range actions {
		kinds[a] = append(kinds[a], k)
	}
	var out []Playbook
	for _, a := range slices.Sorted(maps.Keys(kinds)) {
		slices.Sort(kinds[a])
		out = append(out, Playbook{
			Name: "actions-" + string(a), About: "response.actions of the configuration",
			Trigger: Trigger{Kinds: kinds[a]}, Steps: []Step{{Name: "act", Action: Action(a)}},
		})
	}
	return out
}

// Playbooks lists the playbooks in order. The caller must not change them.
func (s *Set) Playbooks() []Playbook { return s.books }

// Find returns the playbook of a name.
func (s *Set) Find(name string) (*Playbook, bool) {
	for i := range s.books {
		if s.books[i].Name == name {
			return &s.books[i], true
		}
	}
	return nil, false
}

// Choose returns the first playbook whose trigger matches, or nil.
func (s *Set) Choose(f detector.Finding, at response.Circumstances) *Playbook {
	for i := range s.books {
		if s.books[i].Trigger.mismatch(&f, at) == "" {
			return &s.books[i]
		}
	}
	return nil
}

// Plan implements response.Planner. A finding that no playbook is for raises an
// alert.
func (s *Set) Plan(f detector.Finding, at response.Circumstances) response.Plan {
	p := s.Choose(f, at)
	if p == nil {
		return response.Plan{Action: response.ActionAlert, Version: s.version}
	}
	return response.Plan{Playbook: p.Name, Version: s.version, Action: p.Rung(), Mode: p.Mode, People: p.People, Canary: p.Canary, Probes: p.Probes, Rungs: p.Rungs}
}
