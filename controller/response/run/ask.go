package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// Question is what a run asks people in its middle. It is written down before
// anybody can answer it.
type Question struct {
	Title string `json:"title"`
	// Who and Groups may answer; without both, everybody who may operate.
	Who     []string  `json:"who,omitempty"`
	Groups  []string  `json:"groups,omitempty"`
	People  int       `json:"people"`
	Expires time.Time `json:"expires"`
	Answers []Answer  `json:"answers,omitempty"`
}

// Answer is what somebody said to a question or to a run.
type Answer struct {
	Yes  bool      `json:"yes"`
	Who  string    `json:"who"`
	Why  string    `json:"why,omitempty"`
	Time time.Time `json:"time"`
}

// ErrNotAllowed is wrapped when somebody answers who was not asked.
var ErrNotAllowed = response.ErrNotAllowed

// errUnanswered says that nobody answered in time.
var errUnanswered = errors.New("nobody answered")

func (q *Question) clone() *Question {
	if q == nil {
		return nil
	}
	out := *q
	out.Answers = slices.Clone(q.Answers)
	return &out
}

// said reports the outcome as far as there is one.
func (q *Question) said() (yes, no bool, by string) {
	var names []string
	for _, a := range q.Answers {
		if !a.Yes {
			return false, true, strings.TrimSuffix(a.Who+": "+a.Why, ": ")
		}
		names = append(names, a.Who)
	}
	return len(names) >= q.People, false, strings.Join(names, " and ")
}

// QuestionID is what platelet approve takes for the question of a step.
func QuestionID(run, step string) string { return run + "-" + step }

// idLength is that of the ID of a run.
const idLength = len("r-0123456789abcdef")

// split takes the ID of a question, or of a run, apart.
func split(id string) (run, step string) {
	if len(id) > idLength+1 && id[idLength] == '-' {
		return id[:idLength], id[idLength+1:]
	}
	return id, ""
}

// ask waits for the answer to a question, which outlives the controller.
func (t *attempt) ask(ctx context.Context) (string, error) {
	for {
		q := t.record().Question
		switch yes, no, by := q.said(); {
		case yes:
			return "approved by " + by, nil
		case no:
			return "", Permanent(fmt.Errorf("rejected by %s", by))
		case !time.Now().Before(q.Expires):
			return "", Permanent(fmt.Errorf("%w by %s", errUnanswered, q.Expires.UTC().Format(time.RFC3339)))
		}
		if !sleep(ctx, t.stop, min(pollEvery, max(time.Millisecond, time.Until(q.Expires)))) {
			return "", t.interrupted(ctx)
		}
	}
}

// question is what a step asks, put before anybody can see it; nil for the steps
// that ask nothing.
func (t *attempt) question(rec *StepRecord) (*Question, error) {
	if t.step.Action != playbook.ActionAsk || rec.Question != nil {
		return rec.Question, nil
	}
	facts := t.a.rec.Facts // never changed
	args, err := t.step.Render(facts)
	if err != nil {
		return nil, err
	}
	a, ok := args.(playbook.Ask)
	if !ok {
		return nil, fmt.Errorf("%T is no question", args)
	}
	return &Question{Title: short(a.Title), Who: a.Who, Groups: a.Groups, People: max(a.People, 1), Expires: time.Now().Add(t.step.Deadline()).UTC()}, nil
}

// asked finds the question that an ID names: that of a run, where it asks one.
// The caller holds mu.
func (x *Executor) asked(id string) (*active, *Question, error) {
	run, step := split(id)
	a, err := x.find(run)
	if err != nil {
		return nil, nil, fmt.Errorf("%w (asked for %s)", err, id)
	}
	open := a.rec.asks()
	if step != "" {
		if !slices.Contains(open, id) {
			return nil, nil, fmt.Errorf("run %s asks nothing at step %s: %w", run, step, response.ErrState)
		}
		return a, a.rec.Steps[step].Question, nil
	}
	switch len(open) {
	case 0:
		return nil, nil, fmt.Errorf("run %s is %s and asks nothing: %w", run, a.rec.State, response.ErrState)
	case 1:
		_, step = split(open[0])
		return a, a.rec.Steps[step].Question, nil
	}
	return nil, nil, fmt.Errorf("run %s asks several questions, name one of %s: %w", run, strings.Join(open, ", "), response.ErrState)
}

// asks lists the IDs of the questions that wait for an answer.
func (r *Record) asks() (open []string) {
	for name, s := range r.Steps {
		if s.State == StepAsking && s.Question != nil {
			if yes, no, _ := s.Question.said(); !yes && !no {
				open = append(open, QuestionID(r.ID, name))
			}
		}
	}
	slices.Sort(open)
	return open
}

// reply takes an answer to a question.
func (x *Executor) reply(ctx context.Context, id string, a Answer) error {
	groups, err := x.cfg.World.Groups(a.Who)
	x.mu.Lock()
	run, q, ferr := x.asked(id)
	switch {
	case ferr != nil:
		err = ferr
	case len(q.Who)+len(q.Groups) == 0 || slices.Contains(q.Who, a.Who): // whoever that is
		err = nil
	case err != nil:
		err = fmt.Errorf("answer %s: groups of %s: %w", id, a.Who, err)
	case !slices.ContainsFunc(q.Groups, func(g string) bool { return slices.Contains(groups, g) }):
		err = fmt.Errorf("answer %s: %s is not among those who may (%s): %w", id, a.Who, strings.Join(append(slices.Clone(q.Who), q.Groups...), ", "), ErrNotAllowed)
	}
	if err == nil {
		err = q.take(id, a)
	}
	x.mu.Unlock()
	if err != nil {
		return err
	}
	x.write(ctx, run)
	return ctx.Err()
}

// take adds an answer. The caller holds the executor's mu.
func (q *Question) take(id string, a Answer) error {
	if !a.Time.Before(q.Expires) {
		return fmt.Errorf("answer %s: it expired at %s: %w", id, q.Expires.UTC().Format(time.RFC3339), response.ErrState)
	}
	if a.Yes && slices.ContainsFunc(q.Answers, func(b Answer) bool { return b.Who == a.Who }) {
		return fmt.Errorf("approve %s: %s has approved it already, somebody else must: %w", id, a.Who, response.ErrState)
	}
	q.Answers = append(q.Answers, a)
	return nil
}
