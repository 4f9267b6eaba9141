package run

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// State is where a run is in its life.
type State string

// The states of a run. The last four are final, but a run whose containment is
// rolled back is undone even then.
const (
	StateAwaitingApproval State = "awaiting-approval"
	StateRunning          State = "running"
	StateUndoing          State = "undoing"
	StateDone             State = "done"
	StateFailed           State = "failed" // stopped by a step that failed or is in doubt
	StateUndone           State = "undone"
	StateRefused          State = "refused"
)

// Ended reports whether nothing further happens.
func (s State) Ended() bool {
	return s == StateDone || s == StateFailed || s == StateUndone || s == StateRefused
}

// StepState is where a step is.
type StepState string

// The states of a step.
const (
	// StepStarted is written before each attempt. Found after a crash, it
	// says that the attempt may have happened.
	StepStarted StepState = "started"
	// StepRetrying: an attempt failed and another follows.
	StepRetrying StepState = "retrying"
	StepDone     StepState = "done"
	StepFailed   StepState = "failed"
	StepSkipped  StepState = "skipped"
	// StepInDoubt: it is not known whether it happened, and it may not be
	// repeated.
	StepInDoubt StepState = "in-doubt"
	// StepAsking: people are asked. It is written before anybody can answer.
	StepAsking StepState = "asking"
	// StepUnanswered: nobody answered in time.
	StepUnanswered StepState = "unanswered"
)

// StepRecord is what became of a step.
type StepRecord struct {
	State   StepState `json:"state"`
	Attempt int       `json:"attempt,omitempty"`
	Began   time.Time `json:"began,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// Result is what the action said of its success, Why what was wrong or
	// why it was not done; each at most 1 KiB.
	Result string `json:"result,omitempty"`
	Why    string `json:"why,omitempty"`
	// Question is what is asked, and what was answered.
	Question *Question `json:"question,omitempty"`
}

func (s *StepRecord) ended() bool {
	return s.State == StepUnanswered || s.State == StepDone || s.State == StepFailed || s.State == StepSkipped || s.State == StepInDoubt
}

func (s *StepRecord) outcome() playbook.Outcome {
	switch s.State {
	case StepDone:
		return playbook.OutcomeDone
	case StepFailed, StepInDoubt, StepUnanswered:
		return playbook.OutcomeFailed
	case StepSkipped:
		return playbook.OutcomeSkipped
	}
	return ""
}

// Record is a run of a playbook: what is written down of it, and what is told.
type Record struct {
	Type     string    `json:"type"` // "run"
	ID       string    `json:"id"`
	Time     time.Time `json:"time"` // of the latest change
	Playbook string    `json:"playbook"`
	Version  string    `json:"version,omitempty"` // of the playbooks in force when it began
	Finding  string    `json:"finding"`
	Decision string    `json:"decision,omitempty"`
	State    State     `json:"state"`
	Why      string    `json:"why,omitempty"`
	// Told is set where nothing but notify steps are done: in mode observe,
	// where a guard refused the containment or people have yet to approve it,
	// or where the finding is not enough to act on.
	Told bool `json:"told,omitempty"`
	// Joined is set where the decision stood already, about another finding.
	Joined    bool      `json:"joined,omitempty"`
	People    int       `json:"people,omitempty"`
	Approvals []string  `json:"approvals,omitempty"`
	Answers   []Answer  `json:"answers,omitempty"` // the same, with reasons and times
	Created   time.Time `json:"created"`
	Ended     time.Time `json:"ended,omitzero"`
	// Asks are the IDs of the questions that wait for an answer.
	Asks  []string               `json:"asks,omitempty"`
	Steps map[string]*StepRecord `json:"steps,omitempty"`
	// Undo are the steps that undo those of the same names.
	Undo  map[string]*StepRecord `json:"undo,omitempty"`
	Facts playbook.Facts         `json:"facts"`
}

func (r *Record) clone() Record {
	out := *r
	out.Approvals, out.Answers, out.Asks = slices.Clone(r.Approvals), slices.Clone(r.Answers), r.asks()
	out.Steps, out.Undo = clones(r.Steps), clones(r.Undo)
	return out
}

func clones(in map[string]*StepRecord) map[string]*StepRecord {
	out := maps.Clone(in)
	for k, s := range out {
		c := *s
		c.Question = s.Question.clone()
		out[k] = &c
	}
	return out
}

// stored is a run in the store, with the playbook as it was when it began: the
// files may say something else after a restart.
type stored struct {
	Record Record `json:"run"`
	Source string `json:"playbook_yaml"`
	// Owner is the controller whose run it is.
	Owner string `json:"owner,omitempty"`
}

func encode(r *Record, source, owner string) ([]byte, error) {
	return json.Marshal(stored{Record: *r, Source: source, Owner: owner})
}

// runID is derived, so that the same order gives the same run.
func runID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "|")))
	return "r-" + hex.EncodeToString(sum[:8])
}

// short bounds what others say, in bytes.
func short(s string) string {
	const most = 1 << 10
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
