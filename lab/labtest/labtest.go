// Package labtest gives tests a lab on a private Open vSwitch, and a
// controller that follows a script, to test what measures controllers.
package labtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Env is a private Open vSwitch, and where and under which name a lab of the
// test runs.
type Env struct {
	OVS      *ovs.Instance
	Topology *clab.Topology
	Options  runner.Options
}

// New makes an environment that goes with the test.
func New(ctx context.Context, t testing.TB, topology string) Env {
	t.Helper()
	topo, err := clab.Load(topology)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pllab") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	instance, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Stop(); err != nil {
			t.Error(err)
		}
	})
	return Env{instance, topo, runner.Options{Name: "t" + filepath.Base(dir), DB: instance.DB, StateDir: filepath.Join(dir, "labs")}}
}

// Up brings the lab up; it goes with the test.
func (e Env) Up(ctx context.Context, t testing.TB) *runner.Lab {
	t.Helper()
	lab, err := runner.Up(ctx, e.Topology, e.Options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return lab
}

// Scripted is a controller that knows the attackers beforehand: it drops
// what enters at an attacker's port once that has sent some packets, and
// lets go when it has been quiet for a while.
type Scripted struct {
	env Env
	lab *runner.Lab
	// kinds are the findings that the attackers get, by their index.
	kinds []string

	mu     sync.Mutex
	cancel context.CancelFunc
	work   sync.WaitGroup
}

const (
	// trigger is how many packets an attacker may send.
	trigger = 20
	// quiet is how long it must send nothing to be released.
	quiet = time.Second
)

// NewScripted makes a controller for a lab of the environment.
func (e Env) NewScripted(lab *runner.Lab, kinds ...string) *Scripted {
	return &Scripted{env: e, lab: lab, kinds: kinds}
}

// Events follows the attackers.
func (s *Scripted) Events(ctx context.Context) (<-chan measure.Event, error) {
	ctx, cancel := context.WithCancel(ctx)
	s.mu.Lock()
	s.cancel = cancel
	s.mu.Unlock()
	out := make(chan measure.Event, 64)
	var watchers sync.WaitGroup
	for i, kind := range s.kinds {
		roles, err := attack.Cast(s.lab, i)
		if err != nil {
			cancel()
			return nil, err
		}
		counter, err := attack.NewCounter(s.lab, roles)
		if err != nil {
			cancel()
			return nil, err
		}
		watchers.Go(func() {
			defer counter.Close()
			s.follow(ctx, counter, roles.Port, kind, out)
		})
	}
	s.work.Go(func() {
		watchers.Wait()
		close(out)
	})
	return out, nil
}

// follow contains one attacker, and releases it.
func (s *Scripted) follow(ctx context.Context, counter *attack.Counter, port, kind string, out chan<- measure.Event) {
	before, err := counter.Sent()
	if err != nil {
		return
	}
	decision := measure.Event{Type: measure.Decision, ID: "d-" + port, Kind: kind, Port: port, Action: "quarantine"}
	emit := func(e measure.Event, state string) {
		e.Time, e.State = time.Now(), state
		out <- e
	}
	contained, last, since := false, before, time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := counter.Sent()
		if err != nil {
			return
		}
		if now != last {
			last, since = now, time.Now()
		}
		switch {
		case !contained && now > before+trigger:
			emit(measure.Event{Type: measure.Finding, ID: "f-" + port, Kind: kind, Port: port}, measure.StateFiring)
			if s.flow(ctx, "add-flow", "priority=9,in_port="+port+" actions=drop") != nil {
				return
			}
			contained = true
			emit(decision, measure.StateApplied)
			emit(decision, measure.StateVerified)
		case contained && time.Since(since) > quiet:
			if s.flow(ctx, "del-flows", "in_port="+port) != nil {
				return
			}
			contained, before = false, now
			emit(decision, measure.StateReleased)
		}
	}
}

func (s *Scripted) flow(ctx context.Context, verb, flow string) error {
	_, err := s.env.OVS.Ofctl(ctx, verb, s.env.OVS.Mgmt(s.lab.Bridges()[0]), flow)
	return err
}

// Reset stops following and lifts every drop.
func (s *Scripted) Reset(ctx context.Context) error {
	if err := s.Close(); err != nil {
		return err
	}
	for i := range s.kinds {
		roles, err := attack.Cast(s.lab, i)
		if err != nil {
			return err
		}
		if err := s.flow(ctx, "del-flows", "in_port="+roles.Port); err != nil {
			return fmt.Errorf("reset: %w", err)
		}
	}
	return nil
}

// Alive implements measure.Controller.
func (s *Scripted) Alive() error { return nil }

// Close stops following.
func (s *Scripted) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
	}
	s.work.Wait()
	return nil
}
