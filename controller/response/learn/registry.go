package learn

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/platelet-sdn/platelet/controller/durable"
)

// ErrNotYet is wrapped where the log does not show that the policy is better than
// the rule.
var ErrNotYet = errors.New("not to be promoted yet")

// Standing says whether the policy may act, and who said so.
type Standing struct {
	// Live is true from a promotion until a demotion.
	Live bool `json:"live"`
	// Changes are the latest, oldest first.
	Changes []Change `json:"changes,omitempty"`
}

// Change is a promotion or a demotion.
type Change struct {
	Time time.Time `json:"time"`
	What string    `json:"what"` // promoted, demoted
	Who  string    `json:"who"`
	Why  string    `json:"why,omitempty"`
	// Lower is the lower bound of the advantage over the rule when it was
	// promoted, Judged the decisions that say so.
	Lower  float64 `json:"lower,omitempty"`
	Judged int     `json:"judged,omitempty"`
}

// The changes of a Standing.
const (
	Promoted = "promoted"
	Demoted  = "demoted"
)

const (
	keptChanges = 100
	maxStanding = 1 << 20
)

func standingFile(stateDir string) string { return filepath.Join(Dir(stateDir), "policy.json") }

// ReadStanding reads the standing of a state directory. Where there is none the
// policy is not live.
func ReadStanding(stateDir string) (s Standing, err error) {
	f, err := os.Open(standingFile(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("standing of the policy: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxStanding))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return Standing{}, fmt.Errorf("standing of the policy: %s: %w", f.Name(), err)
	}
	return s, nil
}

// last is the latest change.
func (s *Standing) last() Change {
	if len(s.Changes) == 0 {
		return Change{}
	}
	return s.Changes[len(s.Changes)-1]
}

// Promote lets the policy act where the configuration says so. It returns an
// error that wraps ErrNotYet where the report does not bear it out.
func Promote(stateDir string, r *Report, who, why string) error {
	if !r.Promotable {
		return fmt.Errorf("%w: %s", ErrNotYet, r.Verdict())
	}
	return change(stateDir, Change{What: Promoted, Who: who, Why: why, Lower: r.Advantage.Low, Judged: r.Judged})
}

// Demote goes back to the rule.
func Demote(stateDir, who, why string) error {
	return change(stateDir, Change{What: Demoted, Who: who, Why: why})
}

// change writes the standing so that after a crash the old one or the new one is
// there. Of two at once one stands.
func change(stateDir string, c Change) error {
	s, err := ReadStanding(stateDir)
	if err != nil {
		return err
	}
	c.Time = time.Now().UTC()
	s.Live = c.What == Promoted
	s.Changes = append(s.Changes, c)
	s.Changes = s.Changes[max(0, len(s.Changes)-keptChanges):]
	if err := s.write(stateDir); err != nil {
		return fmt.Errorf("standing of the policy: %w", err)
	}
	return nil
}

// write writes the standing down, whole or not at all.
func (s *Standing) write(stateDir string) error {
	raw, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	path := standingFile(stateDir)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.Replace(path, 0o600, durable.Bytes(append(raw, '\n')))
}
