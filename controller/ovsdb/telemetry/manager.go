package telemetry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

const (
	// calm is how long a bridge must have been left in peace for the next
	// repair to happen at once.
	calm = time.Minute
	// A bridge that needs repair again and again, or whose repair fails, is
	// tried at these growing intervals: somebody else may be at work.
	healMin = 200 * time.Millisecond
	healMax = time.Minute
)

// Manager keeps the telemetry of bridges as wanted: when somebody removes it,
// or a bridge is created anew, it is set up again; when it is no longer wanted
// what was there before comes back.
type Manager struct {
	driver *Driver
	db     *ovsdb.Client
	log    logrus.FieldLogger
	poke   chan struct{}

	mu        sync.Mutex
	wanted    map[string]Settings // nil until the first Want
	applied   map[string]Applied
	callbacks []func(bridge string, a Applied)
	mine      func(bridge string) bool // nil: all are

	states map[string]*state // of the goroutine in Run
}

// state is how the repairs of a bridge go.
type state struct {
	known  bool      // this process has set it up or taken it over
	last   time.Time // last repair or failure
	delay  time.Duration
	notYet time.Time
	failed bool
}

// NewManager returns a manager of the bridges that a client sees.
func NewManager(db *ovsdb.Client, log logrus.FieldLogger) *Manager {
	return &Manager{
		driver: NewDriver(db, log), db: db, log: log,
		poke:    make(chan struct{}, 1),
		applied: map[string]Applied{}, states: map[string]*state{},
	}
}

// Driver gives access to single operations.
func (m *Manager) Driver() *Driver { return m.driver }

// Want sets the settings by bridge name; bridges need not exist yet. Bridges
// that it does not name are restored.
func (m *Manager) Want(settings map[string]Settings) {
	m.mu.Lock()
	m.wanted = maps.Clone(settings)
	if m.wanted == nil {
		m.wanted = map[string]Settings{}
	}
	m.mu.Unlock()
	m.Look()
}

// Applied is what is in force, by bridge.
func (m *Manager) Applied() map[string]Applied {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.applied)
}

// Mine lets f say which bridges are ours to touch: what another Platelet set up
// on the others stays as it is. Without it all are. When an answer changes,
// call Look. Register before Run.
func (m *Manager) Mine(f func(bridge string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mine = f
}

// Look has Run look at all bridges again.
func (m *Manager) Look() {
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

func (m *Manager) touches(bridge string) bool {
	m.mu.Lock()
	mine := m.mine
	m.mu.Unlock()
	return mine == nil || mine(bridge)
}

// OnApplied has f called, from Run, when what is in force on a bridge has
// changed: the caller's tap rules name its collector set. Register before Run.
func (m *Manager) OnApplied(f func(bridge string, a Applied)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.callbacks = append(m.callbacks, f)
}

// Run keeps the telemetry as wanted until ctx ends, and then returns nil. It
// leaves it in place: see RestoreAll.
func (m *Manager) Run(ctx context.Context) error {
	changed, stop := m.db.Watch()
	defer stop()
	for {
		next := m.reconcile(ctx)
		retry := time.NewTimer(next)
		select {
		case <-ctx.Done():
			retry.Stop()
			return nil
		case <-changed:
		case <-m.poke:
		case <-retry.C:
		}
		retry.Stop()
	}
}

// RestoreAll restores every bridge that carries anything of ours, whichever
// process put it there. End Run before, and the client after it.
func (m *Manager) RestoreAll(ctx context.Context) error {
	t, err := m.db.Tables()
	if err != nil {
		return fmt.Errorf("restore telemetry: %w", err)
	}
	errs := []error{m.driver.Sweep(ctx)}
	for _, bridge := range marked(t) {
		if !m.touches(bridge) {
			continue
		}
		errs = append(errs, m.driver.Restore(ctx, bridge))
		m.forget(bridge)
	}
	return errors.Join(errs...)
}

// reconcile looks at every bridge and returns when to look again if nothing
// happens before.
func (m *Manager) reconcile(ctx context.Context) time.Duration {
	m.mu.Lock()
	wanted := m.wanted
	m.mu.Unlock()
	t, err := m.db.Tables()
	if wanted == nil || err != nil {
		return healMax // Watch tells when the database is back
	}
	if err := m.driver.Sweep(ctx); err != nil && ctx.Err() == nil {
		m.log.WithError(err).Warn("telemetry of a deleted bridge remains; the bridge cannot be created again")
	}
	next := healMax
	for _, bridge := range slices.Sorted(maps.Keys(wanted)) {
		if _, ok := t.Bridge(bridge); !ok {
			m.forget(bridge)
			continue
		}
		if !m.touches(bridge) {
			continue
		}
		next = min(next, m.visit(ctx, bridge, func() (bool, error) { return m.ensure(ctx, bridge, wanted[bridge]) }))
	}
	for _, bridge := range marked(t) {
		if _, ok := wanted[bridge]; ok || !m.touches(bridge) {
			continue
		}
		next = min(next, m.visit(ctx, bridge, func() (bool, error) {
			m.forget(bridge)
			return true, m.driver.Restore(ctx, bridge)
		}))
	}
	return next
}

// visit does a bridge's work unless it is backing off, and returns how long it
// may be left alone.
func (m *Manager) visit(ctx context.Context, bridge string, work func() (changed bool, err error)) time.Duration {
	st := m.states[bridge]
	if st == nil {
		st = &state{}
		m.states[bridge] = st
	}
	now := time.Now()
	if wait := st.notYet.Sub(now); wait > 0 {
		return wait
	}
	changed, err := work()
	if ctx.Err() != nil {
		return healMax
	}
	if err != nil && !st.failed {
		m.log.WithError(err).WithField("bridge", bridge).Warn("telemetry is not as wanted; retrying")
	}
	st.failed = err != nil
	if !changed && err == nil {
		return healMax
	}
	switch {
	case st.last.IsZero(), err == nil && now.Sub(st.last) > calm:
		st.delay = 0
	default:
		st.delay = min(max(2*st.delay, healMin), healMax)
	}
	if st.last = now; err != nil {
		st.delay = max(st.delay, healMin)
	}
	st.notYet = now.Add(st.delay)
	if st.delay > 0 {
		return st.delay
	}
	return healMax
}

// ensure sets a bridge up. What an earlier process left there is adopted, and
// the templates that only that process received are asked for again.
func (m *Manager) ensure(ctx context.Context, bridge string, s Settings) (changed bool, err error) {
	a, err := m.driver.Ensure(ctx, bridge, s)
	if err != nil {
		return false, err
	}
	st := m.states[bridge]
	if !st.known && a.CollectorSetID != 0 && !a.Created {
		if err := m.driver.Refresh(ctx, bridge); err != nil {
			return a.Changed, err
		}
	}
	first := !st.known
	st.known = true
	m.record(bridge, a)
	if !a.Changed {
		return false, nil
	}
	log := m.log.WithFields(logrus.Fields{"bridge": bridge, "collector_set": a.CollectorSetID, "sflow": a.SFlow})
	log.Info("telemetry set up")
	for _, left := range a.LeftAlone {
		log.Infof("%s left alone: %s", left.What, left.Why)
	}
	return !first, nil
}

// record publishes what is in force when that is news.
func (m *Manager) record(bridge string, a Applied) {
	m.mu.Lock()
	old, ok := m.applied[bridge]
	news := !ok || a.Created || !reflect.DeepEqual(withoutHistory(old), withoutHistory(a))
	m.applied[bridge] = a
	callbacks := m.callbacks
	m.mu.Unlock()
	if !news {
		return
	}
	for _, f := range callbacks {
		f(bridge, a)
	}
}

// withoutHistory drops how the state came about.
func withoutHistory(a Applied) Applied {
	a.Changed, a.Created = false, false
	return a
}

// forget drops what is in force on a bridge that is gone or restored. The next
// set-up of that name is a new one.
func (m *Manager) forget(bridge string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.applied, bridge)
}

// marked lists the bridges that carry anything of ours, by name.
func marked(t *ovsdb.Tables) []string {
	var names []string
	for _, b := range t.Bridges {
		row := sFlowOf(t, b)
		if row != nil && ours(row.ExternalIDs) || len(setsOf(t, b)) > 0 {
			names = append(names, b.Name)
		}
	}
	slices.Sort(names)
	return names
}
