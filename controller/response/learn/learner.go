package learn

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
)

const (
	// keptDone is how many outcomes may still be changed by a verdict.
	keptDone = 2000
	// maxQueue bounds the lines that wait to be written, in bytes.
	maxQueue = 4 << 20
	// lately is over how many decisions of a live policy its reward is compared
	// with the rule's.
	lately = 20
)

// Config is what the operator allows.
type Config struct {
	// Mode is how far it may go; live only while the standing says so.
	Mode response.LearningMode
	// Alpha is the share of the rule's reward that may be risked, Explore the
	// share of decisions that try a rung beside the one that is preferred.
	Alpha, Explore float64
	// Seed draws; 0 takes a random one.
	Seed uint64
	// Relapse is how long after its end another attack on or by the same target
	// counts against a decision, Verify how long a proof may take.
	Relapse, Verify time.Duration
	// StateDir is where the log is kept.
	StateDir string
	Log      logrus.FieldLogger
}

// Learner is the running controller's part: it chooses, writes down what was
// chosen and what came of it, and learns from that. It implements
// response.Chooser.
type Learner struct {
	cfg  Config
	wake chan struct{}
	// changed is told of promotions and demotions; nil when nobody wants to
	// know.
	changed func(Change)

	mu       sync.Mutex
	policy   *Policy
	standing Standing
	open     map[string]*pending // by decision
	done     map[string]*pending
	order    []string // of done, oldest first
	recent   []gain   // of decisions by the live policy, since its promotion
	voices   voices
	queue    []byte
	demoted  string // why, until it is written down
	counts   Counts
	fault    string
}

// pending is a choice whose outcome is not known, or may yet change.
type pending struct {
	choice   Played
	ended    time.Time // zero while it goes on
	parts    Parts
	censored string
	// relapsed is set by another decision about the target, wrong by an
	// operator's verdict, overruled by what became of the decision itself.
	relapsed, wrong, overruled bool
	objector                   string    // who said that it was wrong, or overruled it
	objected                   time.Time // when
	reward                     float64   // as learned
	learned                    bool
}

// gain is what a decision of the live policy earned, and what is expected of the
// rule's rung.
type gain struct{ earned, rule float64 }

// Counts are of lines of the log.
type Counts struct {
	Choices  int `json:"choices"`
	Outcomes int `json:"outcomes"`
	Censored int `json:"censored"`
	// Lost did not fit into the queue, or could not be written; Unreadable are
	// lines of the log.
	Lost       int `json:"lost"`
	Unreadable int `json:"unreadable"`
	// Unheard are objections beyond what is learned from in a day.
	Unheard int `json:"unheard"`
}

// New returns a learner that knows nothing; Load reads what there is.
func New(cfg Config) *Learner {
	for cfg.Seed == 0 {
		cfg.Seed = rand.Uint64() >> 11 // as JSON's numbers can say it
	}
	return &Learner{cfg: cfg, wake: make(chan struct{}, 1), policy: NewPolicy(cfg.Alpha), open: map[string]*pending{}, done: map[string]*pending{}, voices: voices{}}
}

// OnChange has f called, before Run, with each promotion and demotion from then
// on. f must not block.
func (l *Learner) OnChange(f func(Change)) { l.changed = f }

// Load learns from the log, and takes up the choices whose outcomes are not known
// yet: standing are the decisions that the response still knows.
func (l *Learner) Load(standing []response.Decision, now time.Time) error {
	log, err := ReadLog(l.cfg.StateDir)
	if err != nil {
		return err
	}
	if l.standing, err = ReadStanding(l.cfg.StateDir); err != nil {
		return err
	}
	for _, err := range log.Faults {
		l.cfg.Log.WithError(err).Warn("a line of the log of choices is left out")
	}
	l.counts.Unreadable = len(log.Faults)
	l.mu.Lock()
	for i := range log.Choices {
		l.restore(&log.Choices[i], log.Outcomes)
	}
	l.mu.Unlock()
	known := map[string]bool{}
	for _, d := range standing {
		known[d.ID] = true
		l.Decision(d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, p := range l.open {
		if !known[id] {
			p.ended, p.censored = now, "forgotten over a restart"
		}
	}
	return nil
}

// restore takes in a choice of an earlier run.
func (l *Learner) restore(c *Played, outcomes map[string]Outcome) {
	l.counts.Choices++
	p := &pending{choice: *c}
	l.play(p)
	o, over := outcomes[c.Decision]
	if !over {
		l.open[c.Decision] = p
		return
	}
	p.ended, p.parts, p.censored, p.overruled = o.Time, o.Parts, o.Censored, o.Parts.Overruled > 0
	if p.objector, p.objected = o.Objector, o.Objected; p.objector != "" {
		l.voices.heard(p.objector, p.objected)
	}
	l.counts.Outcomes++
	if p.censored != "" {
		l.counts.Censored++
	}
	l.take(p, o.Reward)
	l.keep(p)
}

// risky reports whether something could be risked by a choice.
func (c *Played) risky() bool {
	return len(c.Arms) > 1 && (c.Mode == response.LearningExplore || c.Mode == response.LearningLive)
}

func (l *Learner) play(p *pending) {
	if c := &p.choice; c.Schema == Schema && c.risky() {
		l.policy.Play(c.Context, c.Rule, c.Action)
	}
}

// take learns a reward, or another one in its place.
func (l *Learner) take(p *pending, reward float64) {
	c := &p.choice
	if c.Schema != Schema || p.censored != "" {
		return
	}
	change := reward
	if p.learned {
		change -= p.reward
		l.policy.correct(c.Context, c.Action, change)
	} else {
		l.policy.Learn(c.Context, c.Action, reward)
	}
	if c.risky() {
		l.policy.Earn(c.Rule, c.Action, change)
	}
	if !p.learned && c.Mode == response.LearningLive && l.standing.Live && c.Time.After(l.standing.last().Time) {
		l.recent = append(l.recent, gain{reward, l.policy.Mean(c.Context, c.Rule)})
		l.recent = l.recent[max(0, len(l.recent)-lately):]
	}
	p.reward, p.learned = reward, true
}

// mode is how far it goes now, and why not further.
func (l *Learner) mode() (response.LearningMode, string) {
	if l.cfg.Mode == response.LearningLive && !l.standing.Live {
		if c := l.standing.last(); c.What == Demoted {
			return response.LearningShadow, fmt.Sprintf("demoted by %s: %s", c.Who, c.Why)
		}
		return response.LearningShadow, "it was never promoted: platelet learn promote"
	}
	return l.cfg.Mode, ""
}

// name tells policies apart by how much they had learned.
func (l *Learner) name() string {
	if l.cfg.Mode == response.LearningOff {
		return "rule"
	}
	return fmt.Sprintf("clucb/1+%d", l.policy.Learned())
}

// Choose implements response.Chooser.
func (l *Learner) Choose(q response.Question) response.Choice {
	l.mu.Lock()
	defer l.mu.Unlock()
	mode, _ := l.mode()
	c := Played{Type: typeChoice, Time: q.Time.UTC(), Decision: q.Decision, Finding: q.Finding.ID, Kind: q.Finding.Kind, Target: q.Target.String(),
		Schema: Schema, Context: ContextOf(q), Rule: q.Rule, Mode: mode, Policy: l.name(), Seed: l.cfg.Seed}
	if mode == response.LearningOff {
		for _, a := range q.Open {
			c.Arms = append(c.Arms, Arm{a, flag(a == q.Rule)})
		}
		c.Wanted = q.Rule
	} else {
		c.Arms, c.Wanted = l.policy.Propensities(mode, l.cfg.Explore, c.Context, q.Rule, q.Open)
	}
	drawn := Draw(l.cfg.Seed, q.Decision, c.Arms)
	c.Action = drawn.Action
	l.write(c)
	l.counts.Choices++
	if p := (&pending{choice: c}); q.Mode == response.ModeObserve {
		p.ended, p.censored = q.Time, "only observed"
		l.finish(p)
	} else {
		l.play(p)
		l.open[q.Decision] = p
	}
	return response.Choice{Mode: c.Mode, Policy: c.Policy, Wanted: c.Wanted, Action: c.Action, Propensity: drawn.Propensity}
}

// Decision takes a change of a decision.
func (l *Learner) Decision(d response.Decision) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.Who == "playbook" && d.State != response.StateRefused {
		for id, p := range l.open { // an attack that goes on, or comes back
			p.relapsed = p.relapsed || id != d.ID && p.choice.Target == d.Target.String() && d.Created.After(p.choice.Time)
		}
	}
	p := l.open[d.ID]
	if p == nil || !p.ended.IsZero() || !over(&d) {
		return
	}
	p.ended = d.Ended
	p.parts, p.censored = PartsOf(&d, p.choice.Action, l.cfg.Verify)
	if d.Overruled == "" {
		return
	}
	if p.overruled = l.hear(p, d.Overruled, d.Ended); !p.overruled && d.Applied.IsZero() {
		p.censored = "rejected by somebody who has rejected much that day"
	}
}

// hear reports whether an objection to a choice is learned from, and notes whose it
// is.
func (l *Learner) hear(p *pending, who string, at time.Time) bool {
	if !l.voices.heard(who, at) {
		l.counts.Unheard++
		return false
	}
	p.objector, p.objected = who, at.UTC()
	return true
}

// over reports whether a state is a decision's last.
func over(d *response.Decision) bool {
	switch d.State {
	case response.StateRolledBack, response.StateReleased, response.StateExpired, response.StateRefused:
		return true
	}
	return false
}

// Verdict takes an operator's verdict on a finding: whether it was right. It
// reports whether a choice was about it. Of one operator, and of all, only so many
// verdicts a day change anything.
func (l *Learner) Verdict(finding string, real bool, who string, at time.Time) (known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.open {
		if p.choice.Finding == finding {
			known = true
			l.judge(p, real, who, at)
		}
	}
	for _, id := range l.order {
		p := l.done[id]
		if p.choice.Finding != finding || p.censored != "" {
			continue
		}
		known = true
		if l.judge(p, real, who, at) {
			l.settle(p)
		}
	}
	return known
}

// judge takes a verdict on a choice, and reports whether it changes anything. To
// take back what one has said oneself is always heard.
func (l *Learner) judge(p *pending, real bool, who string, at time.Time) (changed bool) {
	switch {
	case p.wrong == !real:
		return false
	case real && p.objector == who:
		p.objector, p.objected = "", time.Time{}
	case !l.hear(p, who, at):
		return false
	case real:
		p.objector, p.objected = "", time.Time{}
	}
	p.wrong = !real
	return true
}

// tick settles what is over for long enough that an attack would have come back.
func (l *Learner) tick(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ready []*pending
	for _, p := range l.open {
		if !p.ended.IsZero() && (p.relapsed || p.censored != "" || now.Sub(p.ended) >= l.cfg.Relapse) {
			ready = append(ready, p)
		}
	}
	slices.SortFunc(ready, func(a, b *pending) int { return a.ended.Compare(b.ended) })
	for _, p := range ready {
		delete(l.open, p.choice.Decision)
		l.finish(p)
	}
	l.compare()
}

// finish writes the outcome of a choice down for the first time.
func (l *Learner) finish(p *pending) {
	l.counts.Outcomes++
	if p.censored != "" {
		l.counts.Censored++
	}
	l.settle(p)
	l.keep(p)
}

func (l *Learner) settle(p *pending) {
	if p.relapsed {
		p.parts.Relapsed = 1
	}
	p.parts.Overruled = flag(p.overruled || p.wrong)
	o := Outcome{Type: typeOutcome, Time: p.ended.UTC(), Decision: p.choice.Decision, Parts: p.parts, Censored: p.censored, Objector: p.objector, Objected: p.objected}
	if p.censored == "" {
		o.Reward = p.parts.Reward()
	}
	l.write(o)
	l.take(p, o.Reward)
}

// keep remembers an outcome for later verdicts.
func (l *Learner) keep(p *pending) {
	id := p.choice.Decision
	l.done[id] = p
	l.order = append(l.order, id)
	if len(l.order) > keptDone {
		delete(l.done, l.order[0])
		l.order = append(l.order[:0], l.order[1:]...)
	}
}

// compare demotes a live policy that earns less than (1-alpha) of what is expected
// of the rule.
func (l *Learner) compare() {
	if !l.standing.Live || len(l.recent) < lately {
		return
	}
	var s gain
	for _, g := range l.recent {
		s.earned, s.rule = s.earned+g.earned, s.rule+g.rule
	}
	if s.earned >= (1-l.cfg.Alpha)*s.rule {
		return
	}
	l.demoted = fmt.Sprintf("its last %d decisions earned %.2f on average, %.2f is expected of the rule and %.0f %% less may be risked",
		lately, s.earned/lately, s.rule/lately, l.cfg.Alpha*100)
	l.standing.Live, l.recent = false, nil // from now on, whatever becomes of the file
}

// write puts a line into the queue.
func (l *Learner) write(x any) {
	line, err := encode(x)
	if err != nil || len(l.queue)+len(line) > maxQueue {
		l.counts.Lost++
		return
	}
	l.queue = append(l.queue, line...)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run writes the log, settles outcomes and follows the standing until ctx ends. That
// something cannot be written is no reason to stop.
func (l *Learner) Run(ctx context.Context) error {
	w := &writer{dir: Dir(l.cfg.StateDir), most: maxFile}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush(w)
			l.report(w.close())
			return nil
		case <-l.wake:
			l.flush(w)
		case now := <-tick.C:
			l.tick(now)
			l.follow()
			l.flush(w)
			if err := w.sync(); err != nil {
				l.report(err)
			}
		}
	}
}

// flush writes what is in the queue.
func (l *Learner) flush(w *writer) {
	l.mu.Lock()
	lines := l.queue
	l.queue = nil
	l.mu.Unlock()
	if len(lines) == 0 {
		return
	}
	err := w.append(lines)
	if err != nil {
		l.mu.Lock()
		l.counts.Lost += bytes.Count(lines, []byte{'\n'})
		l.mu.Unlock()
	}
	l.report(err)
}

// follow writes a demotion down, and takes over what others wrote.
func (l *Learner) follow() {
	l.mu.Lock()
	why, was := l.demoted, l.standing
	l.mu.Unlock()
	if why != "" {
		if err := Demote(l.cfg.StateDir, "platelet", why); err != nil {
			l.report(err)
			return // it stays demoted here, and is tried again
		}
	}
	s, err := ReadStanding(l.cfg.StateDir)
	if err != nil {
		l.report(err)
		return
	}
	l.mu.Lock()
	l.demoted = ""
	news := s.last().Time.After(was.last().Time)
	if news {
		l.recent = nil
	}
	l.standing = s
	l.mu.Unlock()
	if !news {
		return
	}
	c := s.last()
	l.cfg.Log.WithFields(logrus.Fields{"who": c.Who, "why": c.Why}).Warnf("the learned policy was %s", c.What)
	if l.changed != nil {
		l.changed(c)
	}
}

// report logs a fault once, until another one or none takes its place.
func (l *Learner) report(err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.mu.Lock()
	news := text != l.fault
	l.fault = text
	l.mu.Unlock()
	if news && err != nil {
		l.cfg.Log.WithError(err).Error("what the response learns could not be kept")
	}
}

// Status is what `platelet status` shows.
type Status struct {
	Configured response.LearningMode `json:"configured"`
	Mode       response.LearningMode `json:"mode"`
	Why        string                `json:"why,omitempty"` // the two differ
	Policy     string                `json:"policy"`
	Seed       uint64                `json:"seed"`
	Waiting    int                   `json:"waiting"` // choices without an outcome
	Promoted   *Change               `json:"promoted,omitempty"`
	Fault      string                `json:"fault,omitempty"`
	Counts
}

// Status tells how it does.
func (l *Learner) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Configured: l.cfg.Mode, Policy: l.name(), Seed: l.cfg.Seed, Waiting: len(l.open), Fault: l.fault, Counts: l.counts}
	s.Mode, s.Why = l.mode()
	if c := l.standing.last(); c.What == Promoted {
		s.Promoted = &c
	}
	return s
}
