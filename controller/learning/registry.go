package learning

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/platelet-sdn/platelet/controller/durable"
	"github.com/platelet-sdn/platelet/detector/model"
)

// Errors of the registry.
var (
	// ErrVersion says that there is no model of this version.
	ErrVersion = errors.New("no such model")
	// ErrNotYet says that a candidate has not proven itself beside the
	// active model.
	ErrNotYet = errors.New("not to be promoted yet")
)

const (
	// keptVersions is how many models are kept beside those in use.
	keptVersions = 16
	keptChanges  = 100
)

// State says which models are in use; version 0 is the one that the program
// brings along.
type State struct {
	Active int `json:"active"`
	// Previous is what a rollback returns to; -1 when there is nothing.
	Previous int `json:"previous"`
	// Candidate is scored beside the active model; 0 when there is none.
	Candidate int      `json:"candidate,omitempty"`
	Last      int      `json:"last"` // the highest version ever given
	Changes   []Change `json:"changes,omitempty"`
}

// Change is one step of the registry's life, oldest first.
type Change struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"` // added, promoted, rolled-back
	Version int       `json:"version"`
	Who     string    `json:"who"`
	Why     string    `json:"why"`
}

// Registry keeps models in a directory, where a running controller and the
// command line both find them.
type Registry struct{ dir string }

// OpenRegistry returns the registry of a state directory. Nothing is made before
// something is stored.
func OpenRegistry(stateDir string) *Registry {
	return &Registry{dir: filepath.Join(stateDir, "models")}
}

func (r *Registry) file(version int) string {
	return filepath.Join(r.dir, "v"+strconv.Itoa(version)+".json")
}

func (r *Registry) stateFile() string  { return filepath.Join(r.dir, "registry.json") }
func (r *Registry) shadowFile() string { return filepath.Join(r.dir, "shadow.json") }

// State reads which models are in use.
func (r *Registry) State() (State, error) {
	s := State{Previous: -1}
	return s, readJSON(r.stateFile(), &s)
}

// Load reads a version; 0 is the one that the program brings along.
func (r *Registry) Load(version int) (*model.Model, error) {
	if version == 0 {
		return model.Starter()
	}
	m, err := LoadFile(r.file(version))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: v%d", ErrVersion, version)
	}
	return m, err
}

// LoadFile reads a model file.
func LoadFile(path string) (*model.Model, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := model.Decode(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// SaveFile writes a model file atomically.
func SaveFile(path string, m *model.Model) error {
	raw, err := m.Encode()
	if err != nil {
		return err
	}
	return durable.Replace(path, 0o600, durable.Bytes(raw))
}

// Versions lists what is stored, the starter first.
func (r *Registry) Versions() ([]int, error) {
	s, err := r.State()
	if err != nil {
		return nil, err
	}
	list := []int{0}
	for v := 1; v <= s.Last; v++ {
		if _, err := os.Stat(r.file(v)); err == nil {
			list = append(list, v)
		}
	}
	return list, nil
}

// Add stores a model as the candidate and returns its version.
func (r *Registry) Add(m *model.Model, who, why string) (version int, err error) {
	err = r.change(func(s *State) error {
		s.Last++
		version = s.Last
		if err := SaveFile(r.file(version), m); err != nil {
			return err
		}
		s.Candidate = version
		s.note("added", version, who, why)
		return nil
	})
	return version, err
}

// Promote makes a version the active one. Unless forced it must be the candidate,
// and the shadow evaluation must allow it.
func (r *Registry) Promote(version int, who, why string, force bool) error {
	return r.change(func(s *State) error {
		if version == s.Active {
			return fmt.Errorf("v%d: %w: it is active already", version, ErrNotYet)
		}
		if _, err := r.Load(version); err != nil {
			return err
		}
		if !force {
			shadow, err := r.Shadow()
			if err != nil {
				return err
			}
			ok, reason, err := r.allowed(s, version, shadow)
			if err != nil {
				return err
			}
			if !ok {
				return fmt.Errorf("v%d: %w: %s", version, ErrNotYet, reason)
			}
			why = join(why, reason)
		}
		s.Previous, s.Active = s.Active, version
		if s.Candidate == version {
			s.Candidate = 0
		}
		s.note("promoted", version, who, why)
		return nil
	})
}

func join(why, reason string) string {
	if why == "" {
		return reason
	}
	return why + "; " + reason
}

// allowed asks the shadow evaluation, if it is about these two models.
func (r *Registry) allowed(s *State, version int, shadow model.Shadow) (bool, string, error) {
	if version != s.Candidate {
		return false, "it is not the candidate and has not been scored beside the active model", nil
	}
	active, err := r.Load(s.Active)
	if err != nil {
		return false, "", err
	}
	candidate, err := r.Load(version)
	if err != nil {
		return false, "", err
	}
	if shadow.Active != active.Hash() || shadow.Candidate != candidate.Hash() {
		return false, "no running controller has scored it beside the active model", nil
	}
	ok, why := shadow.Promotable()
	return ok, why, nil
}

// Rollback returns to the model that was active before, once.
func (r *Registry) Rollback(who, why string) (version int, err error) {
	err = r.change(func(s *State) error {
		if s.Previous < 0 {
			return fmt.Errorf("%w: there is nothing to go back to", ErrVersion)
		}
		if _, err := r.Load(s.Previous); err != nil {
			return err
		}
		s.Active, s.Previous = s.Previous, -1
		version = s.Active
		s.note("rolled-back", version, who, why)
		return nil
	})
	return version, err
}

// Shadow reads how the candidate has done so far.
func (r *Registry) Shadow() (model.Shadow, error) {
	var s model.Shadow
	return s, readJSON(r.shadowFile(), &s)
}

// SaveShadow stores how the candidate has done so far.
func (r *Registry) SaveShadow(s model.Shadow) error {
	return locked(r.dir, func() error { return writeJSON(r.shadowFile(), s) })
}

// change reads the state, lets f change it, and writes it back, alone.
func (r *Registry) change(f func(*State) error) error {
	return locked(r.dir, func() error {
		s, err := r.State()
		if err != nil {
			return err
		}
		if err := f(&s); err != nil {
			return err
		}
		if err := writeJSON(r.stateFile(), s); err != nil {
			return err
		}
		return r.prune(s)
	})
}

func (s *State) note(what string, version int, who, why string) {
	s.Changes = append(s.Changes, Change{Time: time.Now().UTC(), What: what, Version: version, Who: who, Why: why})
	if over := len(s.Changes) - keptChanges; over > 0 {
		s.Changes = s.Changes[over:]
	}
}

// prune removes old versions that nothing can return to.
func (r *Registry) prune(s State) error {
	for v := s.Last - keptVersions; v > 0; v-- {
		if v == s.Active || v == s.Previous || v == s.Candidate {
			continue
		}
		if err := os.Remove(r.file(v)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove old model: %w", err)
		}
	}
	return nil
}
