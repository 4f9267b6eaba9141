package run

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/detector"
)

// note remembers by what a finding began a run.
func (x *Executor) note(a *active) {
	if a.rec.Decision == "" {
		x.begun[a.rec.Finding] = a.rec.Version
	}
}

// consider begins the run of a finding that the response does not decide about:
// its playbook contains nothing, or it is not enough to contain.
func (x *Executor) consider(ctx context.Context, f detector.Finding) {
	at, set, cfg := x.cfg.World.Circumstances(f), x.cfg.Playbooks.Current(), x.cfg.Response
	x.mu.Lock()
	version, begun := x.begun[f.ID]
	x.mu.Unlock()
	if begun && version != set.Version() {
		return
	}
	cfg.Playbooks = set
	book := set.Choose(f, at)
	if _, decided := response.Propose(cfg, f, at); book == nil || decided {
		return
	}
	x.begin(ctx, order{book: book, version: set.Version(), finding: f, tags: at.Tags, told: book.Rung().Acts()})
}

// follow begins the run of a decision, or undoes it.
func (x *Executor) follow(ctx context.Context, d response.Decision) {
	if d.State == response.StateRolledBack {
		x.undo(ctx, "the containment was rolled back", func(r *Record) bool { return r.Decision == d.ID || r.Decision == cmp.Or(d.Relieves, d.ID) })
		return
	}
	if d.Relieves != "" {
		return // the run of the decision whose place it takes goes on
	}
	told := !d.State.Holds()
	if !told {
		x.followJoined(ctx, d)
	}
	if told && d.State != response.StateAwaitingApproval && d.State != response.StateRefused && (d.State != response.StateProposed || d.Committed) {
		return
	}
	book, ok := x.cfg.Playbooks.Find(d.Playbook, d.Version)
	if !ok {
		return
	}
	f, _ := x.cfg.World.Finding(d.Finding)
	lookup := f
	if f.ID == "" {
		lookup = detector.Finding{Host: d.Target.Host, HostMAC: d.Target.MAC}
	}
	x.begin(ctx, order{book: book, version: d.Version, finding: f, decision: d, tags: x.cfg.World.Circumstances(lookup).Tags, told: told})
}

// followJoined begins the runs of findings about a target that is contained
// already.
func (x *Executor) followJoined(ctx context.Context, d response.Decision) {
	for _, j := range d.Joined {
		book, ok := x.cfg.Playbooks.Find(j.Playbook, j.Version)
		if !ok {
			continue
		}
		f, known := x.cfg.World.Finding(j.Finding)
		if !known { // of an earlier run of the controller
			f = detector.Finding{ID: j.Finding, Kind: j.Kind, Host: d.Target.Host, HostMAC: d.Target.MAC, Time: j.Time.UnixNano(), FirstSeen: j.Time.UnixNano()}
		}
		x.begin(ctx, order{book: book, version: j.Version, finding: f, decision: d, tags: x.cfg.World.Circumstances(f).Tags, joined: true})
	}
}

// order is what a run is begun with.
type order struct {
	book     *playbook.Playbook
	version  string // of the playbooks
	finding  detector.Finding
	decision response.Decision
	tags     map[string]string
	told     bool
	joined   bool // the decision was made about another finding
}

// begin makes a run, unless there is one, nothing to do or no room.
func (x *Executor) begin(ctx context.Context, o order) {
	mode := response.Stricter(x.cfg.Response.Mode, o.book.Mode)
	o.told = o.told || mode == response.ModeObserve
	if !somethingToDo(o.book, o.told) {
		return
	}
	facts := playbook.FactsOf(o.finding, o.decision, o.tags)
	id := runID(facts.Finding.ID, o.decision.ID, o.book.Name, fmt.Sprint(o.told))
	source, err := o.book.YAML()
	if err != nil {
		x.cfg.Log.WithError(err).WithField("playbook", o.book.Name).Error("playbook cannot be written down")
		return
	}
	facts.Run, facts.Playbook = id, o.book.Name
	a := newActive(Record{
		Type: "run", ID: id, Playbook: o.book.Name, Version: o.version, Finding: facts.Finding.ID, Decision: o.decision.ID, State: StateRunning, Told: o.told, Joined: o.joined,
		Created: time.Now().UTC(), Steps: map[string]*StepRecord{}, Facts: facts,
	}, string(source))
	a.book = *o.book
	if (o.decision.ID == "" || o.joined) && !o.told { // else people were asked about the containment
		a.rec.People = o.book.People
		if mode == response.ModeAdvise {
			a.rec.People = max(a.rec.People, 1)
		}
		if a.rec.People > 0 {
			a.rec.State = StateAwaitingApproval
		}
	}
	if x.admit(a) {
		x.write(ctx, a)
		x.prune(ctx)
	}
}

// somethingToDo reports whether a playbook has steps besides the rung, or where
// it may only tell, steps that tell.
func somethingToDo(p *playbook.Playbook, told bool) bool {
	return slices.ContainsFunc(p.Rest(), func(s playbook.Step) bool {
		return !told || s.Action == playbook.ActionNotify ||
			slices.ContainsFunc(s.Parallel, func(b playbook.Step) bool { return b.Action == playbook.ActionNotify })
	})
}

// admit takes a run in, within the bounds.
func (x *Executor) admit(a *active) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, known := x.runs[a.rec.ID]; known || x.others[a.rec.ID] {
		return false
	}
	open := 0
	for _, other := range x.runs {
		if !other.rec.State.Ended() {
			open++
		}
	}
	now := a.rec.Created
	for len(x.recent) > 0 && now.Sub(x.recent[0]) > time.Minute {
		x.recent = x.recent[1:]
	}
	byFinding := a.rec.Decision == "" || a.rec.Told || a.rec.Joined // nothing else bounds them
	if open >= maxActive || byFinding && len(x.recent) >= x.cfg.MaxPerMinute {
		if x.lost.Add(1)%100 == 1 {
			x.cfg.Log.WithFields(logrus.Fields{"playbook": a.book.Name, "open": open, "within_a_minute": len(x.recent)}).Error("playbook not run: too many runs")
		}
		return false
	}
	if byFinding {
		x.recent = append(x.recent, now)
	}
	x.runs[a.rec.ID], x.ready = a, true
	x.note(a)
	return true
}
