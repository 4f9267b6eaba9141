// Package measure attacks a lab again and again and measures, from packet
// captures and not from the controller's own word, how long the attack went
// on and what it cost the innocent.
package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Config says what to measure.
type Config struct {
	// Topology is brought up, and taken down afterwards, unless Lab is set.
	Topology *clab.Topology
	Options  runner.Options
	// Lab is a lab that is already up, and stays.
	Lab *runner.Lab
	// Attack is the attack's name.
	Attack string
	// Runs is how often to attack; 20 when 0.
	Runs int
	// Controller starts the controller on the lab. It must be ready to act
	// when it returns.
	Controller func(ctx context.Context, lab *runner.Lab) (Controller, error)
	// Hold is how long containment must hold under continued attack; 1 s
	// when 0.
	Hold time.Duration
	// Patience is how long an attack may go on uncontained; 8 s when 0.
	Patience time.Duration
	// WarmUp is how long honest traffic runs before the first attack, so
	// that there is a normal to compare with; 3 s when 0.
	WarmUp time.Duration
	// Log gets a line per run; nil is silent.
	Log io.Writer
}

// Result is the outcome of all runs.
type Result struct {
	Attack            string    `json:"attack"`
	Runs              int       `json:"runs"`
	Contained         int       `json:"contained"`
	TTD               Quantiles `json:"ttd_ms"`
	TTC               Quantiles `json:"ttc_ms"`
	Sent              uint64    `json:"attack_packets_sent"`
	Delivered         uint64    `json:"attack_packets_delivered"`
	BenignLost        int64     `json:"benign_packets_lost"`
	FalseContainments int       `json:"false_containments"`
}

func (c Config) withDefaults() Config {
	if c.Runs == 0 {
		c.Runs = 20
	}
	if c.Hold == 0 {
		c.Hold = time.Second
	}
	if c.Patience == 0 {
		c.Patience = 8 * time.Second
	}
	if c.WarmUp == 0 {
		c.WarmUp = 3 * time.Second
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	return c
}

// Measure runs the attack and sums up.
func Measure(ctx context.Context, c Config) (result Result, err error) {
	c = c.withDefaults()
	a, err := attack.Find(c.Attack)
	if err != nil {
		return Result{}, err
	}
	lab, down, err := c.lab(ctx)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, down()) }()
	traffic, err := benign.Start(ctx, lab)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, traffic.Stop()) }()
	ctl, err := c.Controller(ctx, lab)
	if err != nil {
		return Result{}, fmt.Errorf("start the controller: %w", err)
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		return Result{}, err
	}
	undo, err := a.Prepare(ctx, lab, roles)
	if err != nil {
		return Result{}, fmt.Errorf("prepare %s: %w", a.Name, err)
	}
	defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	if err := sleep(ctx, c.WarmUp); err != nil {
		return Result{}, err
	}
	return c.series(ctx, lab, a, roles, ctl, traffic)
}

// lab brings the lab up, or uses the one there is.
func (c Config) lab(ctx context.Context) (*runner.Lab, func() error, error) {
	if c.Lab != nil {
		return c.Lab, func() error { return nil }, nil
	}
	lab, err := runner.Up(ctx, c.Topology, c.Options)
	if err != nil {
		return nil, nil, err
	}
	return lab, func() error {
		// The lab goes also when the context is what ended the measurement.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		return lab.Down(ctx)
	}, nil
}

// series runs the attack as often as asked.
func (c Config) series(ctx context.Context, lab *runner.Lab, a attack.Attack, roles attack.Roles, ctl Controller, traffic *benign.Traffic) (Result, error) {
	result := Result{Attack: a.Name, Runs: c.Runs}
	var ttd, ttc []time.Duration
	for n := range c.Runs {
		one, err := c.once(ctx, lab, a, roles, ctl, traffic)
		if err != nil {
			return Result{}, fmt.Errorf("run %d: %w", n+1, err)
		}
		if one.contained {
			result.Contained++
			ttc = append(ttc, one.ttc)
		}
		if one.detected {
			ttd = append(ttd, one.ttd)
		}
		result.Sent += one.sent
		result.Delivered += uint64(len(one.delivered))
		result.BenignLost += one.lost
		result.FalseContainments += one.falseContainments
		fmt.Fprintf(c.Log, "%s run %d/%d: detected %v %.1f ms, contained %v %.1f ms, delivered %d of %d, benign lost %d, false %d, missed by capture %d\n",
			a.Name, n+1, c.Runs, one.detected, millis(one.ttd), one.contained, millis(one.ttc),
			len(one.delivered), one.sent, one.lost, one.falseContainments, one.missed)
	}
	result.TTD, result.TTC = quantiles(ttd), quantiles(ttc)
	return result, nil
}

// outcome is what one run came to.
type outcome struct {
	observation
	detected, contained bool
	ttd, ttc            time.Duration
	lost                int64
	falseContainments   int
}

// once runs the attack once, from a clean state.
func (c Config) once(ctx context.Context, lab *runner.Lab, a attack.Attack, roles attack.Roles, ctl Controller, traffic *benign.Traffic) (outcome, error) {
	if err := ctl.Reset(ctx); err != nil {
		return outcome{}, fmt.Errorf("reset the controller: %w", err)
	}
	before, err := traffic.Loss(ctx)
	if err != nil {
		return outcome{}, err
	}
	events, stop, err := subscribe(ctx, ctl)
	if err != nil {
		return outcome{}, err
	}
	defer stop()
	shot := &shot{lab: lab, attack: a, roles: roles, hold: c.Hold, limit: c.Patience, events: events}
	o, err := shot.fire(ctx)
	if err != nil {
		return outcome{}, err
	}
	after, err := traffic.Loss(ctx)
	if err != nil {
		return outcome{}, err
	}
	o.events = append(o.events, drain(events)...)
	out := judge(o, a, roles, c.Hold)
	out.lost = after.Sub(before).Packets()
	return out, nil
}

// judge derives a run's figures from what was observed.
func judge(o observation, a attack.Attack, roles attack.Roles, hold time.Duration) outcome {
	out := outcome{observation: o}
	limit := 0.0
	blamed := map[string]bool{}
	for _, e := range o.events {
		switch {
		case e.Type == Finding && e.State == StateFiring && e.Kind == a.Finding && !out.detected:
			out.detected, out.ttd = true, e.Time.Sub(o.first)
		case e.Type == Decision && e.State == StateApplied:
			if !about(e, roles) {
				blamed[e.ID] = true
			} else if e.Limit > limit {
				limit = e.Limit
			}
		}
	}
	out.falseContainments = len(blamed)
	out.ttc, out.contained = o.trace.contained(limit, hold)
	return out
}

// about reports whether a decision is about the attacker: its address, or
// the port that it is behind.
func about(e Event, roles attack.Roles) bool {
	if e.Host != "" {
		return e.Host == roles.AttackerAddr.String()
	}
	return e.Port == roles.Port
}

// subscribe follows the controller's events, and takes them in as they come,
// so that a busy measurement never holds the controller up.
func subscribe(ctx context.Context, ctl Controller) (<-chan Event, func(), error) {
	ctx, stop := context.WithCancel(ctx)
	from, err := ctl.Events(ctx)
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("follow the controller: %w", err)
	}
	to := make(chan Event, 4096)
	go func() {
		defer close(to)
		for e := range from {
			select {
			case to <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	return to, stop, nil
}

// drain takes what is there without waiting.
func drain(events <-chan Event) []Event {
	var out []Event
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return out
			}
			out = append(out, e)
		default:
			return slices.Clip(out)
		}
	}
}

// sleep waits, unless the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("measure: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
