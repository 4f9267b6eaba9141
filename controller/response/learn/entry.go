package learn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// Played is the line of the log for a choice.
type Played struct {
	Type     string        `json:"type"` // choice
	Time     time.Time     `json:"time"`
	Decision string        `json:"decision"`
	Finding  string        `json:"finding"`
	Kind     detector.Kind `json:"kind"`
	// Target tells decisions about the same host or victim apart from others.
	Target  string  `json:"target"`
	Schema  string  `json:"schema"`
	Context Context `json:"context"`
	// Arms are the rungs that were open, the mildest first, with the
	// probability of each; Rule is the playbook's, Wanted what the policy
	// would have played, Action what was.
	Arms   []Arm                 `json:"arms"`
	Rule   response.Action       `json:"rule"`
	Wanted response.Action       `json:"wanted"`
	Action response.Action       `json:"action"`
	Mode   response.LearningMode `json:"mode"`
	Policy string                `json:"policy"`
	Seed   uint64                `json:"seed"`
}

// Outcome is the line of the log for what came of a choice. A later one of the
// same decision takes its place.
type Outcome struct {
	Type     string    `json:"type"` // outcome
	Time     time.Time `json:"time"`
	Decision string    `json:"decision"`
	// Reward is from 0 to 1, and Parts what it is made of, unless Censored
	// says why it is not known.
	Reward   float64 `json:"reward"`
	Parts    Parts   `json:"parts"`
	Censored string  `json:"censored,omitempty"`
	// Objector is the operator who overruled it, or said that it was wrong, and
	// Objected when; both only where that counts.
	Objector string    `json:"objector,omitempty"`
	Objected time.Time `json:"objected,omitzero"`
}

const (
	typeChoice  = "choice"
	typeOutcome = "outcome"
)

// propensity is that of the rung that was played.
func (c *Played) propensity(a response.Action) float64 {
	for _, x := range c.Arms {
		if x.Action == a {
			return x.Propensity
		}
	}
	return 0
}

func (c *Played) check() error {
	sum := 0.0
	for i, a := range c.Arms {
		if !(a.Propensity >= 0 && a.Propensity <= 1) || a.Action == "" {
			return fmt.Errorf("arm %d: %q with a probability of %v", i, a.Action, a.Propensity)
		}
		if slices.Contains(actions(c.Arms[:i]), a.Action) {
			return fmt.Errorf("arm %s is there twice", a.Action)
		}
		sum += a.Propensity
	}
	open := actions(c.Arms)
	switch {
	case c.Decision == "":
		return errors.New("names no decision")
	case len(c.Arms) > 16:
		return fmt.Errorf("%d arms, at most 16", len(c.Arms))
	case math.Abs(sum-1) > 1e-9:
		return fmt.Errorf("the probabilities of the arms add up to %v", sum)
	case !slices.Contains(open, c.Rule) || !slices.Contains(open, c.Wanted):
		return fmt.Errorf("%s or %s is not among the arms", c.Rule, c.Wanted)
	case c.propensity(c.Action) == 0:
		return fmt.Errorf("%s was played with a probability of 0", c.Action)
	case c.Schema == Schema && !c.Context.fits():
		return fmt.Errorf("the context is not one of %d numbers from 0 to 1", len(Features()))
	}
	return nil
}

func (o *Outcome) check() error {
	for _, v := range []float64{o.Reward, o.Parts.Stopped, o.Parts.Harm, o.Parts.Work, o.Parts.Cost, o.Parts.Overruled, o.Parts.Relapsed} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("%v is outside 0 to 1", v)
		}
	}
	if o.Decision == "" {
		return errors.New("names no decision")
	}
	return nil
}

// parse reads a line: a *Played or an *Outcome.
func parse(line []byte) (any, error) {
	var kind struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &kind); err != nil {
		return nil, err
	}
	var out interface{ check() error }
	switch kind.Type {
	case typeChoice:
		out = &Played{}
	case typeOutcome:
		out = &Outcome{}
	default:
		return nil, fmt.Errorf("type %q is neither choice nor outcome", kind.Type)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the line's object")
	}
	if err := out.check(); err != nil {
		return nil, err
	}
	return out, nil
}
