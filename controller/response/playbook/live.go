package playbook

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// former is how many sets that were replaced are kept, for decisions that were
// made by them and wait for people.
const former = 8

// Live is the playbooks in force, which may be replaced while others ask. What has
// begun by an earlier set finds its playbook there.
type Live struct {
	now atomic.Pointer[Set]

	mu     sync.Mutex
	former []*Set
}

// NewLive begins with a set.
func NewLive(s *Set) *Live {
	l := &Live{}
	l.now.Store(s)
	return l
}

// Current is the set in force. It stays as it is when another one takes its place.
func (l *Live) Current() *Set { return l.now.Load() }

// Replace puts another set in force.
func (l *Live) Replace(s *Set) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.former = append(l.former, l.now.Swap(s))
	l.former = l.former[max(0, len(l.former)-former):]
}

// Find returns the playbook of a name in the set of a version, or in the one in
// force where that version is not known (any more).
func (l *Live) Find(name, version string) (*Playbook, bool) {
	l.mu.Lock()
	sets := append([]*Set{l.Current()}, l.former...)
	l.mu.Unlock()
	if i := slices.IndexFunc(sets, func(s *Set) bool { return s.Version() == version }); i >= 0 {
		return sets[i].Find(name)
	}
	return sets[0].Find(name)
}

// Plan implements response.Planner.
func (l *Live) Plan(f detector.Finding, at response.Circumstances) response.Plan {
	return l.Current().Plan(f, at)
}
