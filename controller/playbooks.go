package controller

import (
	"context"
	"fmt"
	"os/user"
	"time"

	"github.com/platelet-sdn/platelet/controller/actions"
	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
)

// maxRunsPerMinute bounds the runs that findings begin which contain nothing:
// whoever can cause findings must not flood those who are told.
const maxRunsPerMinute = 60

// newRuns makes the executor of playbooks.
func (c *Controller) newRuns(ctx context.Context, state *bus.Bus, rc response.Config) error {
	ledger, err := state.Ledger(ctx, "runs")
	if err != nil {
		return err
	}
	commands := map[string]actions.Command{}
	for name, command := range c.cfg.PlaybookExec {
		commands[name] = actions.Command{Path: command.Path, User: command.User}
	}
	c.runs = run.New(run.Config{
		Playbooks: c.playbooks, Response: rc, MaxPerMinute: maxRunsPerMinute,
		Store: runStore{ledger}, Owner: c.fleet.instance.ID, Do: actions.New(commands), World: surroundings{c}, Log: c.log, Emit: c.ran,
	})
	return nil
}

// loadRuns reads the runs of earlier controllers, and tells the executor what
// became of the containments meanwhile.
func (c *Controller) loadRuns(ctx context.Context) error {
	if err := c.runs.Load(ctx); err != nil {
		return err
	}
	for _, d := range c.manager.Decisions() {
		if d.State.Holds() || d.State == response.StateRolledBack {
			c.runs.Decision(d)
		}
	}
	return nil
}

// ran tells of a change of a run.
func (c *Controller) ran(r run.Record) {
	c.audit.run(&r)
	c.publish(r)
}

// surroundings are what runs of playbooks see of the controller.
type surroundings struct{ c *Controller }

// Finding implements run.World.
func (s surroundings) Finding(id string) (detector.Finding, bool) {
	for _, f := range s.c.Findings() {
		if f.ID == id {
			return f, true
		}
	}
	return detector.Finding{}, false
}

// Circumstances implements run.World.
func (s surroundings) Circumstances(f detector.Finding) response.Circumstances {
	return response.Circumstances{Now: time.Now(), Tags: response.Tags(s.c.tracker.Snapshot(), f)}
}

// Quiet implements run.World. Of a finding that an earlier run of the controller
// had, nothing is known but that it has not come back since.
func (s surroundings) Quiet(ctx context.Context, finding, decision string) (time.Duration, error) {
	last := s.c.started
	if f, ok := s.Finding(finding); ok {
		if f.State != detector.StateResolved {
			return 0, nil
		}
		last = time.Unix(0, f.Time)
	}
	if decision != "" {
		at, err := s.c.manager.Activity(ctx, decision)
		if err != nil {
			return 0, fmt.Errorf("quiet of %s: %w", decision, err)
		}
		if at.After(last) {
			last = at
		}
	}
	return time.Since(last), nil
}

// Braked implements run.World.
func (s surroundings) Braked() bool { return s.c.manager.Braked() }

// Groups implements run.World.
func (s surroundings) Groups(who string) ([]string, error) {
	u, err := user.Lookup(who)
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ids {
		if g, err := user.LookupGroupId(id); err == nil { // one without a name nobody can name
			names = append(names, g.Name)
		}
	}
	return names, nil
}

// Runs implements api.Controller.
func (c *Controller) Runs() any { return c.runs.Records() }
