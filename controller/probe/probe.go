// Package probe looks whether services answer: the health probes that playbooks
// name. A containment that makes one fail that answered before does harm.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
)

const (
	// every is how often a probe is made while nothing happens, soon while
	// somebody waits for it.
	every = 10 * time.Second
	soon  = 500 * time.Millisecond
	// watched is for how long somebody who asks waits.
	watched = 15 * time.Second
	// within is the deadline of a probe.
	within = 2 * time.Second
	// misses in a row say that a service does not answer any more; one may be
	// chance.
	misses = 2
	// most is how many probes there may be.
	most = 64
)

// Set makes probes again and again and remembers what came of them.
type Set struct {
	client *http.Client

	mu     sync.Mutex
	health map[string]*health
	asked  time.Time // last, about harm
	wake   chan struct{}
}

type health struct {
	answered time.Time // last
	broke    time.Time // first of the misses since
	missed   int       // in a row
	why      error
	until    time.Time // zero while somebody names it
}

// New returns the set of the given probes, each of which response.CheckProbe accepts.
func New(targets []string) (*Set, error) {
	s := &Set{health: map[string]*health{}, wake: make(chan struct{}, 1), client: &http.Client{
		Timeout: within, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return s, s.Replace(targets)
}

// Check reports whether a set of these probes may be.
func Check(targets []string) error {
	for _, t := range targets {
		if err := response.CheckProbe(t); err != nil {
			return fmt.Errorf("probe: %w", err)
		}
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(targets)))); n > most {
		return fmt.Errorf("%d different probes, at most %d", n, most)
	}
	return nil
}

// Replace makes these probes from now on. What is known of those that stay is
// kept; the others are made for a while longer, for those who act by them.
func (s *Set) Replace(targets []string) error {
	if err := Check(targets); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for t, h := range s.health {
		if !slices.Contains(targets, t) && h.until.IsZero() {
			h.until = time.Now().Add(watched)
		}
	}
	for _, t := range targets {
		if s.health[t] == nil {
			s.health[t] = &health{}
		}
		s.health[t].until = time.Time{}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// Broke names the first of the probes that answered before a time and has not
// since, and why; it is empty where there is none, and for a while makes the probes
// more often.
func (s *Set) Broke(targets []string, since time.Time) string {
	if len(targets) == 0 {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = time.Now()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	for _, t := range targets {
		h := s.health[t]
		if h != nil && h.missed >= misses && !h.answered.IsZero() && h.answered.Before(h.broke) && !h.broke.Before(since) {
			return fmt.Sprintf("%s does not answer any more: %v", t, h.why)
		}
	}
	return ""
}

// Run makes the probes until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		s.round(ctx)
		s.mu.Lock()
		wait := every
		if time.Since(s.asked) < watched {
			wait = soon
		}
		s.mu.Unlock()
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-s.wake:
			if wait == soon { // as soon as it gets
				<-t.C
			}
		}
		t.Stop()
	}
	return nil
}

// round makes every probe once, side by side.
func (s *Set) round(ctx context.Context) {
	s.mu.Lock()
	var targets []string
	for t, h := range s.health {
		if !h.until.IsZero() && time.Now().After(h.until) {
			delete(s.health, t)
			continue
		}
		targets = append(targets, t)
	}
	s.mu.Unlock()
	slices.Sort(targets)
	var all sync.WaitGroup
	for _, t := range targets {
		all.Go(func() {
			begun := time.Now()
			err := s.probe(ctx, t)
			if ctx.Err() == nil {
				s.note(t, begun, err)
			}
		})
	}
	all.Wait()
}

func (s *Set) note(target string, begun time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.health[target]
	if h == nil {
		return
	}
	if err == nil {
		h.answered, h.missed = time.Now(), 0
		return
	}
	if h.missed == 0 {
		h.broke = begun
	}
	h.missed++
	h.why = err
}

func (s *Set) probe(ctx context.Context, target string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Scheme == "tcp" {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return err
		}
		return c.Close()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	if resp.StatusCode >= 400 {
		return errors.New(resp.Status)
	}
	return nil
}
