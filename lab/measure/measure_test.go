package measure_test

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

// scripted is a controller that knows the attacker beforehand: it drops what
// enters at the attacker's port as soon as enough packets have left it. It
// stands in for the real one, to test the measurement itself.
type scripted struct {
	lab    *runner.Lab
	ovs    *ovs.Instance
	attack attack.Attack
	roles  attack.Roles
	events chan measure.Event
	work   sync.WaitGroup
	stop   context.CancelFunc
}

func (s *scripted) Events(ctx context.Context) (<-chan measure.Event, error) {
	ctx, s.stop = context.WithCancel(ctx)
	s.events = make(chan measure.Event, 16)
	counter, err := attack.NewCounter(s.lab, s.roles)
	if err != nil {
		return nil, err
	}
	before, err := counter.Sent()
	if err != nil {
		return nil, err
	}
	s.work.Go(func() {
		defer close(s.events)
		defer counter.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now, err := counter.Sent(); err == nil && now > before+20 {
				break
			}
		}
		s.events <- measure.Event{Time: time.Now(), Type: measure.Finding, ID: "f-1", Kind: s.attack.Finding, State: measure.StateFiring}
		if err := s.flow(ctx, "add-flow", "priority=9,in_port="+s.roles.Port+" actions=drop"); err != nil {
			return
		}
		s.events <- measure.Event{Time: time.Now(), Type: measure.Decision, ID: "d-1", State: measure.StateApplied, Port: s.roles.Port}
		<-ctx.Done()
	})
	return s.events, nil
}

func (s *scripted) flow(ctx context.Context, verb, flow string) error {
	_, err := s.ovs.Ofctl(ctx, verb, s.ovs.Mgmt(s.lab.Bridges()[0]), flow)
	return err
}

func (s *scripted) Reset(ctx context.Context) error {
	if s.stop != nil {
		s.stop()
		s.work.Wait()
	}
	return s.flow(ctx, "del-flows", "in_port="+s.roles.Port)
}

func (s *scripted) Close() error {
	s.stop()
	s.work.Wait()
	return nil
}

func TestMeasureEveryAttack(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "plmeas")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	instance, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Stop()
	topo, err := clab.Load("../first.clab.yml")
	if err != nil {
		t.Fatal(err)
	}
	lab, err := runner.Up(ctx, topo, runner.Options{Name: fmt.Sprintf("meas%d", os.Getpid()), DB: instance.DB, StateDir: filepath.Join(dir, "labs")})
	if err != nil {
		t.Fatal(err)
	}
	defer lab.Down(context.Background())
	for _, a := range attack.All() {
		t.Run(a.Name, func(t *testing.T) {
			roles, err := attack.Cast(lab, 0)
			if err != nil {
				t.Fatal(err)
			}
			result, err := measure.Measure(ctx, measure.Config{
				Lab: lab, Attack: a.Name, Runs: 1, WarmUp: 300 * time.Millisecond, Log: t.Output(), Hold: 500 * time.Millisecond,
				Controller: func(context.Context, *runner.Lab) (measure.Controller, error) {
					return &scripted{lab: lab, ovs: instance, attack: a, roles: roles}, nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", result)
			if result.Contained != 1 || result.TTC.Max <= 0 || result.TTD.Max <= 0 || result.FalseContainments != 0 {
				t.Errorf("not contained, or not seen to be")
			}
			if result.Delivered < 1 || result.Sent < 10*result.Delivered && a.Name != "arp-sweep" {
				t.Errorf("delivered %d of %d", result.Delivered, result.Sent)
			}
		})
	}
}

func TestUnknownAttack(t *testing.T) {
	if _, err := measure.Measure(context.Background(), measure.Config{Attack: "port-scam"}); err == nil ||
		err.Error() != `unknown attack "port-scam" (did you mean "port-scan"?): there are port-scan, port-scan-silent, host-sweep, arp-sweep, syn-flood, syn-flood-direct, udp-flood, icmp-flood` {
		t.Errorf("got %v", err)
	}
}
