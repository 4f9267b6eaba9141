package learning

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

const (
	windowQueue = 4096
	recentCount = 4096 // windows that a finding may yet turn out to stand on
	behindCount = 2000 // findings whose windows are kept for a verdict
	behindEach  = 16
	before      = int64(10 * time.Minute) // what a finding stands on began at most so long before it
	after       = int64(2 * time.Minute)  // and is complete so long after it
	lookEvery   = 2 * time.Second
	saveEvery   = time.Minute
)

// Site is the running controller's part in learning: it keeps history, the
// windows behind findings, verdicts and the score of the candidate, and hands the
// registry's models to the detectors.
type Site struct {
	registry *Registry
	verdicts *Verdicts
	history  *History
	schema   model.Schema
	apply    func(active, candidate *model.Model) error
	log      logrus.FieldLogger

	windows chan scoredWindow
	lost    atomic.Uint64
	changed func(Change) // nil when nobody wants to know
	told    time.Time    // of the last change that was told

	mu                sync.Mutex
	active, candidate *model.Model
	state             State
	shadow            model.Shadow
	recent            []scoredWindow // ring
	next              int
	behind            map[string]*behind
	order             []string          // of behind, oldest first
	faults            map[string]string // by what was tried
}

// scoredWindow is what is kept of a window.
type scoredWindow struct {
	host              netip.Addr
	start, end        int64
	values            Vector
	active, candidate float64
	suspicious        bool
}

// behind is a finding with the windows that it stands on.
type behind struct {
	kind        detector.Kind
	host        netip.Addr
	first, over int64 // over is 0 while the finding fires
	windows     []scoredWindow
	judged      bool // counts in the comparison of the models
}

// NewSite returns the site of a state directory. apply gives models to the
// detectors; nothing is read or written before Run.
func NewSite(stateDir string, apply func(active, candidate *model.Model) error, log logrus.FieldLogger) *Site {
	return &Site{
		registry: OpenRegistry(stateDir), verdicts: OpenVerdicts(stateDir), history: OpenHistory(stateDir),
		schema: detector.ModelSchema(), apply: apply, log: log, state: State{Active: -1, Previous: -1},
		windows: make(chan scoredWindow, windowQueue), behind: map[string]*behind{}, faults: map[string]string{},
	}
}

// Window takes a window from the detectors. It never waits: what does not fit
// into the queue is counted as lost.
func (s *Site) Window(w *detector.Window, active, candidate float64) {
	x := scoredWindow{host: w.Host, start: w.Start, end: w.End, values: w.Vector(),
		active: active, candidate: candidate, suspicious: w.Suspicious}
	select {
	case s.windows <- x:
	default:
		s.lost.Add(1)
	}
}

// Finding takes a finding's change of state.
func (s *Site) Finding(f detector.Finding) {
	if !f.Host.IsValid() || f.State == detector.StatePending {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.behind[f.ID]
	if b == nil {
		b = &behind{kind: f.Kind, host: f.Host, first: f.FirstSeen}
		for _, w := range s.recent {
			if w.host == f.Host && w.end >= f.FirstSeen-before {
				b.add(w)
			}
		}
		s.behind[f.ID] = b
		s.order = append(s.order, f.ID)
		if len(s.order) > behindCount {
			delete(s.behind, s.order[0])
			s.order = append(s.order[:0], s.order[1:]...)
		}
	}
	if f.State == detector.StateResolved {
		b.over = f.Time
	}
}

// add keeps the latest windows that overlap the finding.
func (b *behind) add(w scoredWindow) {
	if w.end < b.first || b.over != 0 && w.start > b.over+after {
		return
	}
	b.windows = append(b.windows, w)
	if len(b.windows) > behindEach {
		b.windows = append(b.windows[:0], b.windows[1:]...)
	}
}

// Feedback stores an operator's verdict on a finding, and tells how many windows
// stand behind it. It returns response.ErrNotFound for a finding that is not, or
// no longer, known.
func (s *Site) Feedback(id string, actual bool, who, why string) (windows int, err error) {
	v, err := s.verdict(id)
	if err != nil {
		return 0, err
	}
	v.Real, v.Who, v.Why, v.Time = actual, who, why, time.Now().UTC()
	if err := s.verdicts.Add(v); err != nil {
		return 0, err
	}
	if shadow, news := s.label(v); news {
		if err := s.registry.SaveShadow(shadow); err != nil {
			return len(v.Windows), err
		}
	}
	return len(v.Windows), nil
}

// verdict begins one with what is known of the finding.
func (s *Site) verdict(id string) (Verdict, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.behind[id]
	if b == nil {
		return Verdict{}, fmt.Errorf("%w: no finding %s that names a host", response.ErrNotFound, id)
	}
	v := Verdict{Finding: id, Kind: b.kind, Host: b.host, Schema: s.schema.Hash, At: b.first}
	for _, w := range b.windows {
		v.Windows = append(v.Windows, w.values)
	}
	return v, nil
}

// label lets a verdict count in the comparison of the models, the first one on
// each finding.
func (s *Site) label(v Verdict) (model.Shadow, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.behind[v.Finding]
	if b == nil || b.judged || s.active == nil || s.candidate == nil {
		return s.shadow, false
	}
	b.judged = true
	vectors := make([][]float64, len(v.Windows))
	for i, w := range v.Windows {
		vectors[i] = w
	}
	s.shadow.Label(s.active, s.candidate, vectors, v.Real)
	return s.shadow, true
}

// Run takes windows in and follows the registry until ctx ends.
func (s *Site) Run(ctx context.Context) error {
	look, save := time.NewTicker(lookEvery), time.NewTicker(saveEvery)
	defer look.Stop()
	defer save.Stop()
	s.told = time.Now()
	s.follow()
	for {
		select {
		case <-ctx.Done():
			s.save()
			return nil
		case w := <-s.windows:
			s.take(w)
		case <-look.C:
			s.follow()
		case <-save.C:
			s.save()
		}
	}
}

// take files a window: behind the findings about its host, in the comparison of
// the models, and in the history when nobody suspects its host.
func (s *Site) take(w scoredWindow) {
	s.mu.Lock()
	if len(s.recent) < recentCount {
		s.recent = append(s.recent, w)
	} else {
		s.recent[s.next] = w
		s.next = (s.next + 1) % recentCount
	}
	for _, b := range s.behind {
		if b.host == w.host {
			b.add(w)
		}
	}
	if s.active != nil && s.candidate != nil && !math.IsNaN(w.active) && !math.IsNaN(w.candidate) {
		s.shadow.Window(w.active >= s.active.Threshold, w.candidate >= s.candidate.Threshold)
	}
	s.mu.Unlock()
	if w.suspicious {
		return
	}
	s.report("keep history", s.history.Add(past{Host: w.host, Start: w.start, Schema: s.schema.Hash, Values: w.values}))
}

// OnChange has f called, before Run, with each change of the registry from then
// on, whoever makes it. f must not block.
func (s *Site) OnChange(f func(Change)) { s.changed = f }

// tell passes on what was changed since it was last called.
func (s *Site) tell(state State) {
	for _, c := range state.Changes {
		if c.Time.After(s.told) {
			s.told = c.Time
			if s.changed != nil {
				s.changed(c)
			}
		}
	}
}

// follow loads what the registry says is in use, when that has changed.
func (s *Site) follow() {
	state, err := s.registry.State()
	if err != nil {
		s.report("follow the registry", err)
		return
	}
	s.tell(state)
	s.mu.Lock()
	same := state.Active == s.state.Active && state.Candidate == s.state.Candidate
	s.mu.Unlock()
	if same {
		return
	}
	active, err := s.load(state.Active)
	candidate, err2 := s.optional(state.Candidate)
	s.report("load models", errors.Join(err, err2, s.apply(active, candidate)))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.active, s.candidate = state, active, candidate
	s.shadow = model.Shadow{}
	if active == nil || candidate == nil {
		return
	}
	if old, err := s.registry.Shadow(); err == nil && old.Active == active.Hash() && old.Candidate == candidate.Hash() {
		s.shadow = old // of before a restart
	}
	s.shadow.Active, s.shadow.Candidate = active.Hash(), candidate.Hash()
}

func (s *Site) optional(version int) (*model.Model, error) {
	if version == 0 {
		return nil, nil
	}
	return s.load(version)
}

// load reads a version and checks that it fits. A model that does not is not
// used, and that is said; the other detectors go on.
func (s *Site) load(version int) (*model.Model, error) {
	m, err := s.registry.Load(version)
	if err == nil {
		err = m.Schema.Fits(s.schema)
	}
	if err != nil {
		return nil, fmt.Errorf("model v%d is not used: %w", version, err)
	}
	return m, nil
}

func (s *Site) save() {
	s.mu.Lock()
	shadow := s.shadow
	s.mu.Unlock()
	if shadow.Candidate != "" {
		s.report("save the comparison of models", s.registry.SaveShadow(shadow))
	}
}

// report logs a fault of one kind of work once, until another one or none takes
// its place.
func (s *Site) report(work string, err error) {
	s.mu.Lock()
	old := s.faults[work]
	if err == nil {
		delete(s.faults, work)
	} else {
		s.faults[work] = err.Error()
	}
	s.mu.Unlock()
	if err != nil && err.Error() != old {
		s.log.WithError(err).Error(work)
	}
}

// Status is what `platelet status` shows of learning.
type Status struct {
	Active    int               `json:"active"` // 0 is the starter model
	Candidate int               `json:"candidate,omitempty"`
	Shadow    model.Shadow      `json:"shadow,omitzero"`
	Lost      uint64            `json:"lost_windows"`
	Faults    map[string]string `json:"faults,omitempty"` // by what was tried
}

// Status returns which models are in use and how the candidate does.
func (s *Site) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Status{Active: s.state.Active, Candidate: s.state.Candidate, Shadow: s.shadow, Lost: s.lost.Load(), Faults: maps.Clone(s.faults)}
}
