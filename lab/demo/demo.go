// Package demo shows the closed loop on a real switch in a minute: honest
// traffic, two real attacks, and what becomes of them, as it happens. It
// fails unless everything held.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Config says what to show.
type Config struct {
	Topology *clab.Topology
	Options  runner.Options
	// Controller starts the controller on the lab, ready to act.
	Controller func(ctx context.Context, lab *runner.Lab) (measure.Controller, error)
	// Out gets the timeline; Color is for terminals.
	Out   io.Writer
	Color bool
	// WarmUp is how long honest traffic runs first; 3 s when 0.
	WarmUp time.Duration
	// Release is how long the release of the attackers may take after the
	// last attack; 45 s when 0.
	Release time.Duration
}

const (
	// hold is how long containment is tried after it began.
	hold = time.Second
	// patience is how long an attack may go on uncontained.
	patience = 8 * time.Second
	// harmless is the share of honest packets that may get lost to an attack
	// and its containment. The two cores of a small machine lose a few to
	// the flood's first milliseconds.
	harmless = 0.01
	// reachable is how long a released host may take to get through again.
	reachable = 10 * time.Second
)

// script is the attacks, each from an attacker of its own.
func script() []string { return []string{"nmap-port-scan", "hping3-syn-flood"} }

// act is one attack of the script and what came of it.
type act struct {
	attack   attack.Attack
	roles    attack.Roles
	outcome  measure.Outcome
	benign   benign.Loss
	released bool
	// The timeline guards the rest. first is when the first packet left,
	// verified how much later the controller had proof that containment
	// holds.
	first     time.Time
	verified  time.Duration
	contained bool
}

// demo is a running demonstration.
type demo struct {
	Config
	lab     *runner.Lab
	traffic *benign.Traffic
	line    *timeline
	acts    []*act
}

// Demo runs the demonstration. It returns an error unless every attack was
// detected, contained, verified and released, and honest traffic unharmed.
func Demo(ctx context.Context, c Config) (err error) {
	if c.WarmUp == 0 {
		c.WarmUp = 3 * time.Second
	}
	if c.Release == 0 {
		c.Release = 45 * time.Second
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := &demo{Config: c, line: newTimeline(c.Out, c.Color)}
	started := time.Now()
	if d.lab, err = runner.Up(ctx, c.Topology, c.Options); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, d.lab.Down(ctx))
	}()
	d.line.say("lab", "%d nodes on bridge %v, up in %s", len(d.lab.Nodes()), d.lab.Bridges(), round(time.Since(started)))
	if d.traffic, err = benign.Start(ctx, d.lab, benign.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.traffic.Stop()) }()
	d.line.say("benign", "web requests and numbered probes between clients, web server and resolver")
	started = time.Now()
	ctl, err := c.Controller(ctx, d.lab)
	if err != nil {
		return fmt.Errorf("start the controller: %w", err)
	}
	defer func() { err = errors.Join(err, ctl.Close()) }()
	d.line.say("platelet", "running, ready in %s", round(time.Since(started)))
	return d.play(ctx, ctl)
}

// play runs the script once everything is in place.
func (d *demo) play(ctx context.Context, ctl measure.Controller) error {
	events, err := ctl.Events(ctx)
	if err != nil {
		return fmt.Errorf("follow the controller: %w", err)
	}
	pumped := make(chan struct{})
	go func() {
		defer close(pumped)
		d.line.pump(events)
	}()
	if err := wait(ctx, d.WarmUp); err != nil {
		return err
	}
	for i, name := range script() {
		if err := d.perform(ctx, i, name); err != nil {
			return err
		}
	}
	if err := d.awaitRelease(ctx); err != nil {
		return err
	}
	return d.verdict()
}

// perform runs one attack.
func (d *demo) perform(ctx context.Context, index int, name string) error {
	a := &act{}
	var err error
	if a.attack, err = attack.Find(name); err != nil {
		return err
	}
	if a.roles, err = attack.Cast(d.lab, index); err != nil {
		return err
	}
	before, err := d.traffic.Loss(ctx)
	if err != nil {
		return err
	}
	d.acts = append(d.acts, a)
	d.line.say("attack", "%s from %s (%s, port %s) on %s (%s): %s", name,
		a.roles.Attacker, a.roles.AttackerAddr, a.roles.Port, a.roles.Victim, a.roles.VictimAddr, a.attack.About())
	events := d.line.act(a)
	shot := &measure.Shot{Lab: d.lab, Attack: a.attack, Roles: a.roles, Hold: hold, Patience: patience, Events: events, OnFirst: d.line.first}
	if a.outcome, err = shot.Fire(ctx); err != nil {
		return err
	}
	d.line.first(a.outcome.First) // in case the attack was over that soon
	after, err := d.traffic.Loss(ctx)
	if err != nil {
		return err
	}
	a.benign = after.Sub(before)
	d.line.report(a)
	return nil
}

// awaitRelease waits until every attacker is released and gets through to
// the victim again.
func (d *demo) awaitRelease(ctx context.Context) error {
	d.line.say("attacks over", "waiting for the release of both hosts")
	ctx, cancel := context.WithTimeout(ctx, d.Release)
	defer cancel()
	if err := d.line.untilReleased(ctx); err != nil {
		d.line.say("release", "not within %s", d.Release)
		return nil // the verdict says so
	}
	for _, a := range d.acts {
		if !d.line.wasContained(a) {
			continue
		}
		if err := d.reaches(a); err != nil {
			return err
		}
		if a.released {
			d.line.say("released", "%s reaches %s again", a.roles.Attacker, a.roles.Victim)
		}
	}
	return nil
}

// reaches tries whether a released attacker gets through, by ping.
func (d *demo) reaches(a *act) error {
	ctx, cancel := context.WithTimeout(context.Background(), reachable)
	defer cancel()
	for ctx.Err() == nil {
		cmd, err := d.lab.Command(ctx, a.roles.Attacker, "ping", "-n", "-c", "1", "-W", "1", a.roles.VictimAddr.String())
		if err != nil {
			return err
		}
		if cmd.Run() == nil {
			a.released = true
			return nil
		}
	}
	return nil
}

// verdict prints the table and says whether everything held.
func (d *demo) verdict() error {
	d.line.table(d.acts)
	var errs []error
	complain := func(a *act, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{a.attack.Name}, args...)...))
	}
	for _, a := range d.acts {
		if a.outcome.Note != "" {
			complain(a, "%s", a.outcome.Note)
		}
		if !a.outcome.Named.OK {
			complain(a, "not detected")
		}
		if !a.outcome.TTC.OK {
			complain(a, "not contained")
		}
		if d.line.proof(a) == 0 {
			complain(a, "containment not verified")
		}
		if n := len(a.outcome.False); n > 0 {
			complain(a, "%d containments of hosts that did nothing: %s", n, strings.Join(a.outcome.False, ", "))
		}
		if sent := a.benign.ProbesSent + a.benign.RequestsSent; sent == 0 || float64(a.benign.Packets()) > harmless*float64(sent) {
			complain(a, "honest traffic harmed: %d of %d lost", a.benign.Packets(), sent)
		}
		if !a.released {
			complain(a, "%s not released", a.roles.Attacker)
		}
	}
	if err := errors.Join(errs...); err != nil {
		d.line.say("FAILED", "not everything held")
		return err
	}
	d.line.say("OK", "everything held")
	return nil
}

// wait waits, unless the context ends first.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("demo: %w", ctx.Err())
	case <-time.After(d):
		return nil
	}
}
