package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// observation is all that is known of one attack.
type observation struct {
	trace
	events []Event   // since before the attack
	missed int       // packets that the captures missed
	ended  time.Time // when the attack was stopped
	note   string    // what went wrong besides
}

// Shot is one attack under observation.
type Shot struct {
	Lab    *runner.Lab
	Attack attack.Attack
	Roles  attack.Roles
	// Hold is how long containment must hold, Patience how long to wait for
	// it.
	Hold, Patience time.Duration
	// Settings are the attack's; its time is bounded by Patience in any case.
	Settings attack.Settings
	// AnyMeans is as in Config.
	AnyMeans bool
	// Events are the controller's; nil when no controller is asked.
	Events <-chan Event
	// OnFirst, when not nil, is told the time of the first attack packet as
	// soon as it is known.
	OnFirst func(time.Time)

	former  []culprit // of earlier attacks
	sources sources
	sinks   []tap
}

// Fire attacks once, until the attack has been contained for the time it
// must hold, or patience ends.
func (s *Shot) Fire(ctx context.Context) (Outcome, error) {
	if s.Settings.Truth == nil {
		s.Settings.Truth = agent.NewTruth(nil)
	}
	o, err := s.fire(ctx)
	if err != nil {
		return Outcome{}, err
	}
	o.events = append(o.events, drain(s.Events)...)
	out, _, err := s.judge(o)
	return out, err
}

// judge derives what the attack came to, and who attacked.
func (s *Shot) judge(o observation) (Outcome, []culprit, error) {
	guilty, err := culprits(s.Lab, s.Attack.Parties(s.Roles), s.Settings.Truth)
	if err != nil {
		return Outcome{}, nil, err
	}
	b := bench{attack: s.Attack, victims: []string{s.Roles.VictimAddr.String()}, culprits: guilty, hold: s.Hold, former: s.former}
	b.anyMeans = s.AnyMeans
	if port, err := s.Lab.HostSide(s.Roles.Victim, s.Roles.VictimIface); err == nil { // else it is behind a node
		b.victimPort = port
	}
	for _, at := range s.Settings.Truth.Attackers() {
		if b.firstAction.IsZero() || at.Before(b.firstAction) {
			b.firstAction = at
		}
	}
	out := b.judge(o)
	out.Seed = s.Settings.Seed
	return out, guilty, nil
}

func (s *Shot) fire(ctx context.Context) (o observation, err error) {
	dir, err := os.MkdirTemp("", "platelet-measure")
	if err != nil {
		return observation{}, fmt.Errorf("captures: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := s.listen(ctx, dir); err != nil {
		return observation{}, errors.Join(err, s.abandon())
	}
	defer s.sources.close()
	if o, err = s.attack(ctx); err != nil {
		return observation{}, errors.Join(err, s.abandon())
	}
	err = s.collect(ctx, &o)
	return o, err
}

// attack runs the attack between two readings of the counters.
func (s *Shot) attack(ctx context.Context) (observation, error) {
	before, err := s.sources.count()
	if err != nil {
		return observation{}, err
	}
	set := s.Settings
	set.For = s.Patience + time.Second // should we ever not stop it
	started := time.Now()
	running, err := s.Attack.Start(ctx, s.Lab, s.Roles, set)
	if err != nil {
		return observation{}, err
	}
	o := observation{}
	if s.Attack.Flood {
		o.counted = []reading{{started, before}}
	}
	o.sentUntil = s.watch(ctx, &o)
	err = running.Stop()
	o.ended = time.Now()
	if err != nil && ctx.Err() == nil {
		// A tool or an agent that gives up is part of what was seen: being
		// contained may be why.
		o.note = strings.TrimSpace(err.Error())
	}
	after, err := s.sources.count()
	o.sent = after - before
	return o, errors.Join(err, ctx.Err())
}

// watch gathers events until the attack has gone on for long enough after it
// was contained, and returns when an attacker was last seen sending.
// Delivery that stopped shows in the captures; under a limit it goes on, so
// the controller's word that it acted counts there. Neither is the
// measurement: that comes from the captures' contents, afterwards.
func (s *Shot) watch(ctx context.Context, o *observation) (sentUntil time.Time) {
	margin := s.Hold + s.Hold/2
	deadline := time.Now().Add(s.Patience)
	var size int64
	var sent uint64
	var grown, acted time.Time // when the captures last grew; when limited
	told := s.OnFirst == nil
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		select {
		case <-ctx.Done():
			return sentUntil
		case e, ok := <-s.Events:
			if !ok {
				s.Events = nil
				continue
			}
			o.events = append(o.events, e)
			if e.Type == Decision && e.State == StateApplied && e.Limit > 0 && acted.IsZero() {
				acted = time.Now()
			}
			continue
		case <-tick.C:
		}
		if now, err := s.sources.progress(); err == nil && now != sent {
			sent, sentUntil = now, time.Now()
			o.counted = append(o.counted, reading{sentUntil, now})
		}
		if now := recorded(s.sinks); now != size {
			size, grown = now, time.Now()
		}
		told = told || s.tellFirst()
		delivered := size > int64(len(s.sinks))*pcapHeader
		quiet := delivered && sentUntil.Sub(grown) > margin
		limited := !acted.IsZero() && sentUntil.Sub(acted) > margin
		if quiet || limited {
			break
		}
	}
	return sentUntil
}

// tellFirst passes the time of the first packet on, once there is one.
func (s *Shot) tellFirst() bool {
	for _, t := range s.sources.taps {
		if t.capture.Size() <= pcapHeader {
			continue
		}
		if times, err := t.capture.Peek(); err == nil && len(times) > 0 {
			s.OnFirst(times[0])
			return true
		}
	}
	return false
}

// collect ends the captures and reads them.
func (s *Shot) collect(ctx context.Context, o *observation) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	all, err := stop(ctx, append(slices.Clone(s.sinks), s.sources.taps...))
	if err != nil {
		return err
	}
	arrived, left := all[:len(s.sinks)], all[len(s.sinks):]
	for _, r := range arrived {
		o.missed += r.missed
	}
	o.delivered = merge(times(arrived))
	sent := merge(times(left))
	if len(sent) == 0 {
		return fmt.Errorf("attack %s: no packet left %s%s", s.Attack.Name, s.Roles.Attacker, because(o.note))
	}
	o.first = sent[0]
	if !s.Attack.Flood {
		// The captures are complete, and know the attack's packets from the
		// attackers' other ones, which the counters do not.
		o.left, o.sent, o.sentUntil = sent, uint64(len(sent)), sent[len(sent)-1]
		for _, r := range left {
			o.missed += r.missed
		}
	}
	return nil
}

func because(note string) string {
	if note == "" {
		return ""
	}
	return ": " + note
}

// abandon ends the captures after an error.
func (s *Shot) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s.sources.close()
	_, err := stop(ctx, append(slices.Clone(s.sinks), s.sources.taps...))
	return err
}
