package response

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// Enforcer turns intents into rules on a switch and reads them back.
type Enforcer interface {
	// Apply replaces the owner's rules atomically. An error that wraps
	// ErrPending means that they will be installed when the switch returns.
	Apply(ctx context.Context, sw, owner string, intents []segmentation.Intent) (Receipt, error)
	// Renew restarts the switch's own timeout of the owner's rules.
	Renew(ctx context.Context, sw, owner string, ttl time.Duration) error
	// Remove takes the owner's rules off; none there is no error.
	Remove(ctx context.Context, sw, owner string) error
	// Counters reads the owner's rules' counters.
	Counters(ctx context.Context, sw, owner string) ([]Counter, error)
	// Adopt declares the owner's rules as wanted without a transaction, for
	// a controller that restarts beside rules that are still there.
	Adopt(sw, owner string, intents []segmentation.Intent)
}

// ErrPending says that rules are wanted but the switch is not there.
var ErrPending = errors.New("the switch is not connected; the rules go in when it returns")

// Receipt is what a switch said of a transaction.
type Receipt struct {
	At       time.Time // barrier answered
	ReadBack bool      // every rule was found on the switch
}

// Counter is what one rule has seen.
type Counter struct {
	Intent  string
	Packets uint64 // matched
	Dropped uint64 // of these, dropped
	Copied  uint64 // of these, copied by a mirror
}

// Locator tells where hosts and ports are.
type Locator interface {
	Snapshot() *topology.Snapshot
}

// Store keeps decisions over restarts.
type Store interface {
	Put(ctx context.Context, key string, value []byte) error
	Delete(ctx context.Context, key string) error
	All(ctx context.Context) (map[string][]byte, error)
}

// Manager runs decisions through their life. One goroutine, Run, owns all
// changes; everything else reads copies. Run never waits for a switch: each has
// a lane of its own, whose answers come back to Run.
type Manager struct {
	cfg     Config
	enforce Enforcer
	where   Locator
	store   Store
	watch   *Watch
	log     logrus.FieldLogger
	emit    func(Decision)

	inbox   chan func(context.Context)
	overrun atomic.Uint64
	mu      sync.Mutex // guards what follows for readers outside Run
	all     map[string]*Decision
	brake   bool
	exempt  []Exemption // by operators; those of the configuration stand there

	// What follows is Run's alone.
	lanes   *lanes                      // nil without Run
	lives   map[string]*life            // decisions with rules
	recent  []time.Time                 // begin of containments, last minute
	refused map[string]detector.Finding // firing, but a guard said no
	firing  map[string]struct{}         // IDs of findings
	// decidedBy is the version of the playbooks by which something was decided
	// about a finding: another version does not begin anew while it fires.
	decidedBy    map[string]string
	reconsidered time.Time
}

// life is what Run knows of a decision whose rules stand, or are on their way.
type life struct {
	w        *watched  // nil before the switch has answered
	dropped  uint64    // of the rules' counters when last polled
	matched  uint64    // likewise, by a mirror
	before   float64   // share of known-good attempts that succeeded before, for a scrub
	activity time.Time // last sign of the attack
	polled   time.Time
	applied  time.Time // installed last; a second attempt moves it
	begun    time.Time // of the containment, where a milder one has taken its place
	retried  bool
	busy     bool // the switch has been asked something about it
	ending   bool // its rules are being taken off
}

// The brake is kept over restarts beside the decisions.
const (
	brakeKey = "brake"
	brakeOn  = "on"
)

// kept is how many ended decisions stay readable.
const kept = 1000

// New returns a manager; it does nothing before Run. Emit is called on every
// change of a decision, from Run's goroutine, and must not block.
func New(cfg Config, enforce Enforcer, where Locator, store Store, watch *Watch, log logrus.FieldLogger, emit func(Decision)) *Manager {
	return &Manager{
		cfg: cfg, enforce: enforce, where: where, store: store, watch: watch, log: log, emit: emit,
		inbox: make(chan func(context.Context), 1024),
		all:   map[string]*Decision{}, lives: map[string]*life{}, refused: map[string]detector.Finding{}, firing: map[string]struct{}{}, decidedBy: map[string]string{},
	}
}

// Run acts until ctx ends. What it leaves on the switches then lives on until
// its TTL, or until the next Run adopts it.
func (m *Manager) Run(ctx context.Context) error {
	var asking sync.WaitGroup
	defer asking.Wait()
	m.lanes = newLanes(asking.Go)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case f := <-m.lanes.done:
			f(ctx)
		case f := <-m.inbox:
			f(ctx)
		case <-tick.C:
			m.tick(ctx, time.Now())
		}
	}
}

// Handle takes a finding's change of state; to be told of the same one again
// does no harm. It never blocks: when the inbox is full the change is counted
// as lost, and whoever calls is to offer what fires once more, later.
func (m *Manager) Handle(f detector.Finding) {
	select {
	case m.inbox <- func(ctx context.Context) { m.consider(ctx, f) }:
	default:
		m.overrun.Add(1)
	}
}

// Overruns is how many changes of findings did not fit into the inbox.
func (m *Manager) Overruns() uint64 { return m.overrun.Load() }

// Load reads decisions of an earlier run and adopts the containments whose
// rules may still stand. Call it once, before Run and before any switch is
// connected.
func (m *Manager) Load(ctx context.Context, now time.Time) error {
	stored, err := m.store.All(ctx)
	if err != nil {
		return fmt.Errorf("load decisions: %w", err)
	}
	for key, raw := range stored {
		if key == brakeKey {
			m.brake = string(raw) == brakeOn
			continue
		}
		if key == exemptKey {
			if err := json.Unmarshal(raw, &m.exempt); err != nil {
				m.log.WithError(err).Error("stored exemptions are unreadable; nobody is exempt by them")
			}
			continue
		}
		d, err := decode(raw)
		if err != nil {
			m.log.WithError(err).WithField("decision", key).Error("stored decision is unreadable; left alone")
			continue
		}
		m.all[d.ID] = d
		if d.State.Holds() || d.State == StateAwaitingApproval {
			m.decidedBy[d.Finding] = d.Version
		}
		if d.State == StateProbation && !d.Committed { // its rules were gone
			m.end(ctx, d, StateReleased, now, "watched until the controller stopped")
			continue
		}
		if d.State == StateAwaitingApproval || !d.Committed {
			continue
		}
		if d.State.Holds() && !now.Before(d.Renewed.Add(d.TTL)) && !d.Renewed.IsZero() {
			m.end(ctx, d, StateExpired, now, "the controller was away for longer than the TTL; the switch let go")
			continue
		}
		m.enforce.Adopt(d.Target.Switch, d.ID, d.Intents)
		if !d.State.Holds() { // killed between writing down and acting
			d.State, d.Applied = StateApplied, now
		}
		m.begin(d, now)
		m.log.WithFields(logrus.Fields{"decision": d.ID, "target": d.Target.String()}).Info("containment of an earlier run adopted")
	}
	return nil
}

// Decisions returns all known decisions, oldest first.
func (m *Manager) Decisions() []Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]Decision, 0, len(m.all))
	for _, d := range m.all {
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b Decision) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
	return out
}

// Braked reports whether the global brake is on.
func (m *Manager) Braked() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.brake
}

// change applies f to a decision under the readers' lock, writes it down and
// announces it.
func (m *Manager) change(ctx context.Context, d *Decision, f func(*Decision)) {
	m.mu.Lock()
	f(d)
	m.all[d.ID] = d
	m.mu.Unlock()
	m.save(ctx, d)
	m.emit(*d)
	m.prune(ctx)
}

// save writes a decision down. A store that fails does not stop containment:
// the switch's own TTL bounds what a lost record can do.
func (m *Manager) save(ctx context.Context, d *Decision) {
	raw, err := encode(d)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		err = m.store.Put(ctx, d.ID, raw)
	}
	if err != nil {
		m.log.WithError(err).WithField("decision", d.ID).Error("decision could not be written down")
	}
}

// end moves a decision to a final state.
func (m *Manager) end(ctx context.Context, d *Decision, s State, now time.Time, why string) {
	delete(m.lives, d.ID)
	m.refollow()
	m.change(ctx, d, func(d *Decision) {
		d.State, d.Stage, d.Ended, d.Committed = s, "", now, false
		if why != "" {
			d.Proof.Why = why
		}
	})
}

// prune forgets the oldest decisions that nothing depends on, beyond what is
// kept.
func (m *Manager) prune(ctx context.Context) {
	m.mu.Lock()
	over := len(m.all) - kept
	var old []*Decision
	if over > 0 {
		for _, d := range m.all {
			if m.lives[d.ID] == nil && !d.Committed && d.State != StateAwaitingApproval {
				old = append(old, d)
			}
		}
		slices.SortFunc(old, func(a, b *Decision) int { return a.Time().Compare(b.Time()) })
		old = old[:min(over, len(old))]
		for _, d := range old {
			delete(m.all, d.ID)
			delete(m.decidedBy, d.Finding)
		}
	}
	m.mu.Unlock()
	for _, d := range old {
		if err := m.store.Delete(ctx, d.ID); err != nil {
			m.log.WithError(err).Warn("old decision could not be deleted")
		}
	}
}

// begin starts to follow a decision whose rules stand.
func (m *Manager) begin(d *Decision, now time.Time) {
	if d.State == StateProbation {
		m.lives[d.ID] = &life{activity: now, applied: now} // what passes is no leak
		return
	}
	l := &life{w: &watched{target: d.Target, since: now.Add(enforcementLag).UnixNano()}, activity: now, applied: now}
	if d.Action == ActionQuarantine {
		l.w.open = m.cfg.Remediation
		l.w.sweep = d.sweep()
		l.w.known = d.known()
		l.w.spared = d.spared()
	}
	l.w.alone = d.Action == ActionMirror || d.Action == ActionScrub
	if p, ok := m.where.Snapshot().Port(topology.PortID{Switch: d.Target.Switch, Port: d.Target.Port}); ok {
		l.w.ifIndex = p.IfIndex
	}
	m.lives[d.ID] = l
	m.refollow()
}

func (m *Manager) refollow() {
	list := make([]*watched, 0, len(m.lives))
	for _, l := range m.lives {
		if l.w != nil && !l.w.alone {
			list = append(list, l.w)
		}
	}
	m.watch.follow(list)
}
