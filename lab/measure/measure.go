// Package measure attacks a lab again and again and measures, from packet
// captures and not from the controller's own word, how long the attack went
// on and what it cost the innocent.
package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
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
	traffic, err := benign.Start(ctx, lab, benign.Options{})
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
		if one.Contained {
			result.Contained++
			ttc = append(ttc, one.TTC)
		}
		if one.Detected {
			ttd = append(ttd, one.TTD)
		}
		result.Sent += one.Sent
		result.Delivered += uint64(one.Delivered)
		result.BenignLost += one.BenignLost
		result.FalseContainments += one.FalseContainments
		fmt.Fprintf(c.Log, "%s run %d/%d: detected %v %.1f ms, contained %v %.1f ms, delivered %d of %d, benign lost %d, false %d, missed by capture %d\n",
			a.Name, n+1, c.Runs, one.Detected, millis(one.TTD), one.Contained, millis(one.TTC),
			one.Delivered, one.Sent, one.BenignLost, one.FalseContainments, one.Missed)
	}
	result.TTD, result.TTC = quantiles(ttd), quantiles(ttc)
	return result, nil
}

// Outcome is what one attack came to.
type Outcome struct {
	// First is when the first attack packet left the attacker.
	First time.Time
	// Detected is true when the right kind of finding fired, TTD after First.
	Detected bool
	TTD      time.Duration
	// Contained is true when delivery ended, TTC after First, and the
	// attacker went on in vain.
	Contained bool
	TTC       time.Duration
	// Limit is the packet rate that containment let pass; 0 blocked.
	Limit     float64
	Sent      uint64
	Delivered int
	// Missed is how many packets the captures missed.
	Missed            int
	FalseContainments int
	BenignLost        int64
}

// phase is the longest period that attacks are spread over.
const phase = time.Second

// once runs the attack once, from a clean state.
func (c Config) once(ctx context.Context, lab *runner.Lab, a attack.Attack, roles attack.Roles, ctl Controller, traffic *benign.Traffic) (Outcome, error) {
	if err := ctl.Reset(ctx); err != nil {
		return Outcome{}, fmt.Errorf("reset the controller: %w", err)
	}
	before, err := traffic.Loss(ctx)
	if err != nil {
		return Outcome{}, err
	}
	events, stop, err := subscribe(ctx, ctl)
	if err != nil {
		return Outcome{}, err
	}
	defer stop()
	// Whatever works in ticks of its own must not be met at the same moment
	// of its tick every time.
	if err := sleep(ctx, rand.N(phase)); err != nil {
		return Outcome{}, err
	}
	shot := &Shot{Lab: lab, Attack: a, Roles: roles, Hold: c.Hold, Patience: c.Patience, Events: events}
	o, err := shot.fire(ctx)
	if err != nil {
		return Outcome{}, err
	}
	after, err := traffic.Loss(ctx)
	if err != nil {
		return Outcome{}, err
	}
	// Only now: a containment of the wrong host may come late.
	o.events = append(o.events, drain(events)...)
	out := judge(o, a, roles, c.Hold)
	out.BenignLost = after.Sub(before).Packets()
	return out, nil
}

// judge derives an attack's figures from what was observed.
func judge(o observation, a attack.Attack, roles attack.Roles, hold time.Duration) Outcome {
	out := Outcome{First: o.first, Sent: o.sent, Delivered: len(o.delivered), Missed: o.missed}
	blamed := map[string]bool{}
	for _, e := range o.events {
		switch {
		case e.Type == Finding && e.State == StateFiring && e.Kind == a.Finding && !out.Detected:
			out.Detected, out.TTD = true, e.Time.Sub(o.first)
		case e.Type == Decision && e.State == StateApplied:
			if !About(e, roles) {
				blamed[e.ID] = true
			} else if e.Limit > out.Limit {
				out.Limit = e.Limit
			}
		}
	}
	out.FalseContainments = len(blamed)
	out.TTC, out.Contained = o.trace.contained(out.Limit, hold)
	return out
}

// About reports whether an event is about the attacker: what acts at the
// port that it is behind cannot hit anyone else, and elsewhere the address
// must be one of its own.
func About(e Event, roles attack.Roles) bool {
	if e.Port != "" && e.Port == roles.Port {
		return true
	}
	host, err := netip.ParseAddr(e.Host)
	return err == nil && slices.Contains(roles.AttackerAddrs, host)
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
