// Package intrusion plays what intruders do with applications: guess
// passwords, spread from host to host, call home, carry data off. It does so
// between agents of the lab, over real TCP, TLS, SSH, HTTP and DNS, inside
// the lab's namespaces.
//
// Everything is a simulation of behaviour on the wire. What is attacked are
// servers of our own, made for the occasion; an infection is a line of text
// that one agent says to another, which notes it down. Nothing here exploits
// anything, and nothing is carried out that is not random.
package intrusion

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
)

const (
	// patience is how long an attempt may take before the intruder gives it
	// up and goes on.
	patience = 2 * time.Second
	// openLimit bounds the attempts that are under way at once. It is what
	// slows an intruder down whom nobody answers.
	openLimit = 512
	// targetLimit bounds the hosts that one attack goes for.
	targetLimit = 64
)

// Stage is what an intrusion is played on.
type Stage struct {
	// Attackers are the stations of the nodes that begin; at least one.
	Attackers []*agent.Station
	// Victim is the node that is attacked in the first place, Peers are the
	// others that may be.
	Victim string
	Peers  []string
	// Hosts are the nodes that an attack which spreads may take over, the
	// attackers among them or not.
	Hosts []string
	// Open opens a station at a node.
	Open func(node string) (*agent.Station, error)
	// Record takes the ground truth; the side and the behaviour are filled in
	// by who takes it.
	Record func(agent.Action)
	// Rand makes every choice; it is used by one goroutine at a time.
	Rand *rand.Rand
	// Rate is in attempts per second, what an attempt is says the attack. It
	// must be positive.
	Rate float64
	// Limit bounds the attempts of all agents together; it must be positive.
	Limit uint64
	// Charge, when not nil, is asked before every attempt; its error ends the
	// attack, which returns it. It must be safe for concurrent use.
	Charge func() error
}

// charge asks whether one more attempt may be made.
func (s *Stage) charge() error {
	if s.Charge == nil {
		return nil
	}
	return s.Charge()
}

// attacker is the first attacker.
func (s *Stage) attacker() *agent.Station { return s.Attackers[0] }

// limit is the smaller of the attack's own bound and the stage's.
func (s *Stage) limit(own int) int {
	if s.Limit < uint64(own) {
		return int(s.Limit)
	}
	return own
}

// open opens the victim's station, and makes sure that it has an address.
func (s *Stage) open(node string) (*agent.Station, error) {
	st, err := s.Open(node)
	if err != nil {
		return nil, err
	}
	if !st.Addr().IsValid() {
		return nil, fmt.Errorf("node %s has no IPv4 address", node)
	}
	return st, nil
}

// targets opens the victim and those of the peers that have an address, save
// the attackers themselves.
func (s *Stage) targets() ([]*agent.Station, error) {
	victim, err := s.open(s.Victim)
	if err != nil {
		return nil, err
	}
	out := []*agent.Station{victim}
	for _, node := range s.Peers {
		if node == s.Victim || s.attacks(node) || len(out) == targetLimit {
			continue
		}
		st, err := s.Open(node)
		if err != nil {
			return nil, err
		}
		if st.Addr().IsValid() {
			out = append(out, st)
		}
	}
	return out, nil
}

// attacks reports whether a node is one of the attackers.
func (s *Stage) attacks(node string) bool {
	return slices.ContainsFunc(s.Attackers, func(a *agent.Station) bool { return a.Node == node })
}

// job is one attempt.
type job func(ctx context.Context)

// attempts makes up to n attempts at the stage's rate. Each is prepared in
// order, so that what is chosen at random does not depend on who answers
// when, and made beside those that still wait for an answer. A nil job ends
// the series. It returns when all have come to their end.
func (s *Stage) attempts(ctx context.Context, n int, prepare func(i int) job) error {
	var all sync.WaitGroup
	defer all.Wait()
	open := make(chan struct{}, openLimit)
	clock := newPace(s.Rate)
	for i := range n {
		if err := clock.wait(ctx); err != nil {
			return err
		}
		attempt := prepare(i)
		if attempt == nil {
			return nil
		}
		if err := s.charge(); err != nil {
			return err
		}
		select {
		case open <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		all.Go(func() {
			defer func() { <-open }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			attempt(ctx)
		})
	}
	return nil
}

// pace says when each of a series of actions is due.
type pace struct {
	every time.Duration
	due   time.Time
}

// catchUp is how far a pace may fall behind and still make up for it: what
// the machine slept through is not sent in one burst.
const catchUp = time.Second

func newPace(rate float64) *pace {
	return &pace{every: time.Duration(float64(time.Second) / rate), due: time.Now()}
}

// wait waits until the next action is due.
func (p *pace) wait(ctx context.Context) error { return agent.Wait(ctx, time.Until(p.next())) }

// next says when the next action is due, and counts it as done.
func (p *pace) next() time.Time {
	at := p.due
	if late := time.Since(at); late > catchUp {
		at = at.Add(late - catchUp)
	}
	p.due = at.Add(p.every)
	return at
}

// ended makes the end of the time or of the attack no error.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// at is an address and port of a station.
func at(st *agent.Station, port uint16) netip.AddrPort { return netip.AddrPortFrom(st.Addr(), port) }
