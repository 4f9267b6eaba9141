package measure_test

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMeasure(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	// One of each sort that is observed in its own way.
	for _, name := range []string{"port-scan", "host-sweep", "syn-flood"} {
		a, err := attack.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(a.Name, func(t *testing.T) {
			result, err := measure.Measure(ctx, measure.Config{
				Lab: lab, Attacks: []string{a.Name}, Runs: 1, WarmUp: 300 * time.Millisecond, Before: 100 * time.Millisecond, After: 1,
				Log: t.Output(), Hold: 300 * time.Millisecond,
				Controller: func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
					return env.NewScripted(lab, a.Finding), nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			s := result.Attacks[0].Summary
			if s.Contained.K != 1 || s.TTC.Max <= 0 || s.TTD.Max <= 0 || s.False != 0 {
				t.Errorf("not contained, or not seen to be: %+v", s)
			}
			if s.Delivered < 1 || int(s.Sent) <= s.Delivered {
				t.Errorf("delivered %d of %d", s.Delivered, s.Sent)
			}
		})
	}
}

// idle is a controller that does nothing.
type idle struct{}

func (idle) Events(ctx context.Context) (<-chan measure.Event, error) {
	events := make(chan measure.Event)
	context.AfterFunc(ctx, func() { close(events) })
	return events, nil
}
func (idle) Reset(context.Context) error { return nil }
func (idle) Alive() error                { return nil }
func (idle) Close() error                { return nil }

func TestUncontainedAttackIsReportedAsSuch(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	result, err := measure.Measure(ctx, measure.Config{
		Topology: env.Topology, Options: env.Options, Attacks: []string{"port-scan"}, Runs: 1, WarmUp: 1, Before: 1, After: 1, Patience: time.Second,
		Controller: func(context.Context, *runner.Lab) (measure.Controller, error) { return idle{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if s := result.Attacks[0].Summary; s.Contained.K != 0 || s.Contained.N != 1 || s.Delivered < 500 || s.TTC.N != 0 {
		t.Errorf("got %+v", s)
	}
	if listed, err := runner.List(env.Options); err != nil || len(listed) != 0 {
		t.Errorf("lab left up: %v, %v", listed, err)
	}
}

func TestWhatCannotWorkIsSaidBeforeAnythingIsMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.clab.yml")
	if err := os.WriteFile(file, []byte("name: x\ntopology:\n  nodes:\n    a: {kind: linux, labels: {role: attacker, app: web}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	topo, err := clab.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "labs")
	_, err = measure.Measure(context.Background(), measure.Config{
		Topology: topo, Options: runner.Options{StateDir: state}, Attacks: []string{"port-scam", "port-scan"}, Benign: "quite",
		Controller: func(context.Context, *runner.Lab) (measure.Controller, error) {
			t.Error("started a controller")
			return idle{}, nil
		},
	})
	for _, want := range []string{`unknown attack "port-scam" (did you mean "port-scan"?)`, "no node is labelled role=client, app=dns", `"quite"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}

// dying is a controller that ends when it has seen enough.
type dying struct {
	*labtest.Scripted
	dead atomic.Bool
}

func (d *dying) Events(ctx context.Context) (<-chan measure.Event, error) {
	from, err := d.Scripted.Events(ctx)
	if err != nil {
		return nil, err
	}
	to := make(chan measure.Event)
	go func() {
		defer close(to)
		<-from
		d.dead.Store(true)
		for range from { // what it still does, nobody hears of
		}
	}()
	return to, nil
}

// Close also lifts what stands, as the switch does when nobody renews it.
func (d *dying) Close() error { return d.Reset(context.Background()) }

func (d *dying) Alive() error {
	if d.dead.Load() {
		return errors.New("it ended: exit status 2")
	}
	return nil
}

// A controller that dies is reported, not taken for one that is slow, and the
// next attack gets a new one.
func TestControllerThatDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	started := 0
	result, err := measure.Measure(ctx, measure.Config{
		Lab: lab, Attacks: []string{"port-scan", "host-sweep"}, Runs: 2, WarmUp: 1, Before: 1, After: 1, Patience: 500 * time.Millisecond, Log: t.Output(),
		Controller: func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
			if started++; started > 1 {
				return idle{}, nil
			}
			return &dying{Scripted: env.NewScripted(lab, "port-scan")}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := result.Attacks[0]; !strings.Contains(a.Error, "died in run 1 of 2") || !strings.Contains(a.Error, "exit status 2") || len(a.Runs) != 1 || a.Runs[0].Note == "" {
		t.Errorf("got %+v", a)
	}
	if a := result.Attacks[1]; started != 2 || len(a.Runs) != 2 || a.Error != "" {
		t.Errorf("%d controllers, %+v", started, a)
	}
}

// An interrupt ends the measurement in order: what was measured stays, the lab
// goes.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	measuring, interrupt := context.WithCancel(ctx)
	defer interrupt()
	result, err := measure.Measure(measuring, measure.Config{
		Topology: env.Topology, Options: env.Options, Attacks: []string{"port-scan", "host-sweep"}, Runs: 2, WarmUp: 1, Before: 1, After: 1, Hold: 300 * time.Millisecond,
		Controller: func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
			return env.NewScripted(lab, "port-scan"), nil
		},
		Log: interrupter(func(line string) bool { return strings.Contains(line, "run 1/2") }, interrupt),
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted after 1 runs") {
		t.Errorf("got %v", err)
	}
	if len(result.Attacks) != 1 || len(result.Attacks[0].Runs) != 1 || result.Attacks[0].Summary.Contained.N != 1 {
		t.Errorf("kept %+v", result.Attacks)
	}
	if listed, err := runner.List(env.Options); err != nil || len(listed) != 0 {
		t.Errorf("lab left up: %v, %v", listed, err)
	}
}

// interrupter is a log that interrupts at a line.
func interrupter(at func(string) bool, interrupt func()) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		if at(string(p)) {
			interrupt()
		}
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
