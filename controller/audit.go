package controller

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/detector"
)

// keptEvidence is of how many findings that fire the evidence is at hand when a
// decision is made about them.
const keptEvidence = 4096

// auditor tells the audit log what happens. All its methods return at once; one
// without a log keeps silent.
type auditor struct {
	log *audit.Log // nil where there is no directory for one

	mu       sync.Mutex
	evidence map[string]audit.Event // by finding
	order    []string               // of evidence, oldest first
	states   map[string]response.State
	joins    map[string]int // findings that joined decisions
	// asked are the decisions that somebody wants to be over, and who; all is
	// who wants that of every one.
	asked   map[string]string
	all     string
	bridges map[string]pipeline.Status
}

func newAuditor(cfg *config.File, log logrus.FieldLogger) *auditor {
	a := &auditor{evidence: map[string]audit.Event{}, states: map[string]response.State{}, joins: map[string]int{}, asked: map[string]string{}, bridges: map[string]pipeline.Status{}}
	if dir := cfg.AuditDir(); dir != "" {
		a.log = audit.New(audit.Config{
			Dir: dir, Key: cfg.AuditKey(), FileSize: int64(cfg.Audit.FileSize) << 20, Checkpoint: cfg.Audit.Checkpoint, Log: log,
		})
	}
	return a
}

func (a *auditor) record(e audit.Event) {
	if a.log != nil {
		a.log.Record(e)
	}
}

func (a *auditor) status() *audit.Status {
	if a.log == nil {
		return nil
	}
	s := a.log.Status()
	return &s
}

// finding takes a finding's change of state, before anything is decided about it.
func (a *auditor) finding(f *detector.Finding) {
	if f.State == detector.StatePending {
		return
	}
	e := audit.OfFinding(f)
	a.mu.Lock()
	if _, known := a.evidence[f.ID]; !known {
		a.order = append(a.order, f.ID)
		if len(a.order) > keptEvidence {
			delete(a.evidence, a.order[0])
			a.order = append(a.order[:0], a.order[1:]...)
		}
	}
	a.evidence[f.ID] = e
	a.mu.Unlock()
	a.record(e)
}

// decision takes a change of a decision. It is called from the goroutine that
// decides.
func (a *auditor) decision(d *response.Decision) {
	a.mu.Lock()
	before := a.states[d.ID]
	if n := a.joins[d.ID]; len(d.Joined) > n && !over(d.State) {
		a.joins[d.ID] = len(d.Joined)
		a.mu.Unlock()
		for i := range d.Joined[n:] {
			a.record(audit.OfJoin(d, &d.Joined[n+i]))
		}
		return
	}
	e := audit.OfDecision(d, before)
	if seen, ok := a.evidence[d.Finding]; ok && before == "" {
		e.About, e.Evidence = seen.About, seen.Evidence
	}
	switch {
	case over(d.State):
		e.Who = cmp.Or(a.asked[d.ID], a.all, "platelet")
		e.Why = cmp.Or(d.Proof.Why, d.Why)
		delete(a.states, d.ID)
		delete(a.joins, d.ID)
		delete(a.asked, d.ID)
	case d.State == response.StateProposed && !d.Committed: // and so it stays: only observed
	default:
		a.states[d.ID] = d.State
	}
	a.mu.Unlock()
	a.record(e)
}

// over reports whether a state is a decision's last.
func over(s response.State) bool {
	return s == response.StateRolledBack || s == response.StateReleased || s == response.StateExpired || s == response.StateRefused
}

// adopted takes the decisions of an earlier run.
func (a *auditor) adopted(list []response.Decision) {
	for i := range list {
		d := &list[i]
		if over(d.State) {
			continue
		}
		a.mu.Lock()
		a.states[d.ID], a.joins[d.ID] = d.State, len(d.Joined)
		a.mu.Unlock()
		e := audit.OfDecision(d, d.State)
		e.What, e.Who = audit.DecisionPrefix+"adopted", "platelet"
		e.Why = "decided by an earlier run"
		a.record(e)
	}
}

// operator says what somebody asks for, does it, and says so if it was refused.
// That it was done, the decision's own change of state says.
func (a *auditor) operator(e audit.Event, act string, do func() error) error {
	e.What = audit.OperatorPrefix + act
	ends := act == "release" || act == "reject"
	everything := act == "brake-release"
	a.mu.Lock()
	if ends {
		a.asked[e.Decision] = e.Who
	}
	if everything {
		a.all = e.Who
	}
	a.mu.Unlock()
	a.record(e)
	err := do()
	a.mu.Lock()
	if ends { // by now it is over, or goes on
		delete(a.asked, e.Decision)
	}
	if everything {
		a.all = ""
	}
	a.mu.Unlock()
	if err != nil {
		e.Detail = map[string]string{"asked": act}
		e.What, e.Why = audit.OperatorPrefix+"refused", err.Error()
		a.record(e)
	}
	return err
}

// installed takes a switch's answer to a decision's rules.
func (a *auditor) installed(sw, owner string, placed []pipeline.PlacedRule, r pipeline.Receipt, err error) {
	if a == nil {
		return
	}
	e := audit.Event{What: "rules.installed", Who: "platelet", Decision: owner, Detail: map[string]string{
		"switch": sw, "barrier_us": strconv.FormatInt(r.Barrier.Microseconds(), 10), "read_back": strconv.FormatBool(r.ReadBack),
	}}
	if err != nil {
		e.What, e.Why = "rules.failed", err.Error()
	}
	for _, p := range placed {
		e.Rules = append(e.Rules, audit.Rule{Intent: p.Intent, Switch: sw, Cookie: fmt.Sprintf("0x%016x", p.Cookie)})
	}
	a.record(e)
}

// removed takes a switch's answer to the end of a decision's rules.
func (a *auditor) removed(sw, owner string, err error) {
	if a == nil {
		return
	}
	e := audit.Event{What: "rules.removed", Who: "platelet", Decision: owner, Detail: map[string]string{"switch": sw}}
	if err != nil {
		e.What, e.Why = "rules.left", "the switch could not be told; the TTL ends them: "+err.Error()
	}
	a.record(e)
}

// bridge takes a bridge's change of state: who holds it, and what was inherited
// from another.
func (a *auditor) bridge(s pipeline.Status) {
	a.mu.Lock()
	was := a.bridges[s.Name]
	a.bridges[s.Name] = s
	a.mu.Unlock()
	e := audit.Event{Who: "platelet", Detail: map[string]string{"switch": s.Name}}
	switch {
	case s.Claim != 0 && s.Claim != was.Claim:
		e.What, e.Why = "bridge.held", "claimed"
		e.Detail["claim"] = strconv.FormatUint(uint64(s.Claim), 10)
		if was.HeldBy != "" {
			e.Why = "taken over: " + was.HeldBy
		}
		if s.Inherited > 0 {
			e.Detail["inherited_rules"] = strconv.Itoa(s.Inherited)
		}
	case s.HeldBy != "" && s.HeldBy != was.HeldBy:
		e.What, e.Why = "bridge.refused", s.HeldBy
		if was.Claim != 0 {
			e.What = "bridge.lost"
		}
	default:
		return
	}
	a.record(e)
}

// run takes a change of a run of a playbook.
func (a *auditor) run(r *run.Record) {
	detail := map[string]string{"run": r.ID}
	for prefix, steps := range map[string]map[string]*run.StepRecord{"step ": r.Steps, "undo ": r.Undo} {
		for name, s := range steps {
			detail[prefix+name] = strings.TrimSpace(string(s.State) + " " + s.Result + s.Why)
		}
	}
	a.record(audit.Event{What: "run." + string(r.State), Who: "playbook", Why: r.Why, Decision: r.Decision, Finding: r.Finding, Playbook: r.Playbook, Detail: detail})
}

// segmented takes a change of what policies enforce.
func (a *auditor) segmented(c segment.Change) {
	a.record(audit.Event{What: "segmentation.changed", Who: "platelet", Why: c.Why, Detail: map[string]string{
		"rules": strconv.Itoa(c.Rules), "endpoints": strconv.Itoa(c.Endpoints), "guarded": strconv.Itoa(c.Ports), "took": c.Took.String(),
	}})
}

// model takes a change of the registry of models.
func (a *auditor) model(c learning.Change) {
	a.record(audit.Event{What: "model." + c.What, Who: c.Who, Why: c.Why, Detail: map[string]string{
		"version": "v" + strconv.Itoa(c.Version), "decided": c.Time.UTC().Format(time.RFC3339Nano),
	}})
}

// policy takes a promotion or a demotion of what chooses among rungs.
func (a *auditor) policy(c learn.Change) {
	detail := map[string]string{"decided": c.Time.UTC().Format(time.RFC3339Nano)}
	if c.What == learn.Promoted {
		detail["lower_bound"], detail["judged"] = strconv.FormatFloat(c.Lower, 'f', 4, 64), strconv.Itoa(c.Judged)
	}
	a.record(audit.Event{What: "policy." + c.What, Who: c.Who, Why: c.Why, Detail: detail})
}

// started says with what the controller begins.
func (a *auditor) started(c *Controller) {
	detail := map[string]string{
		"mode": string(c.cfg.Mode), "read_only": strconv.FormatBool(c.opts.ReadOnly), "take_over": strconv.FormatBool(c.opts.TakeOver),
		"brake": strconv.FormatBool(c.manager.Braked()), "instance": c.fleet.instance.ID, "process": c.fleet.instance.Who,
	}
	digest, err := c.cfg.Digest()
	if err != nil {
		digest = err.Error()
	}
	detail["config_sha256"] = digest
	if raw, err := playbook.Write(c.playbooks.Current().Playbooks()); err == nil {
		detail["playbooks_sha256"] = fmt.Sprintf("%x", sha256.Sum256(raw))
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		detail["version"] = info.Main.Version
	}
	if c.learning != nil {
		if s, err := learning.OpenRegistry(c.cfg.State.Dir).State(); err == nil {
			detail["model"] = "v" + strconv.Itoa(s.Active)
		}
	}
	if c.choices != nil {
		s := c.choices.Status()
		detail["learning"], detail["policy"], detail["seed"] = string(s.Mode), s.Policy, strconv.FormatUint(s.Seed, 10)
	}
	maps.DeleteFunc(detail, func(_, v string) bool { return v == "" })
	a.record(audit.Event{What: audit.EventStarted, Who: "platelet", Detail: detail})
	a.adopted(slices.Clone(c.manager.Decisions()))
}

// stopped says that the controller ends in order, or why not.
func (a *auditor) stopped(err error) {
	e := audit.Event{What: audit.EventStopped, Who: "platelet"}
	if err != nil {
		e.Why = err.Error()
	}
	a.record(e)
}
