package measure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/capture"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// observation is all that is known of one attack.
type observation struct {
	trace
	events []Event // since before the attack
	missed int     // packets that the captures missed
}

// Shot is one attack under observation.
type Shot struct {
	Lab    *runner.Lab
	Attack attack.Attack
	Roles  attack.Roles
	// Hold is how long containment must hold, Patience how long to wait for
	// it.
	Hold, Patience time.Duration
	// Events are the controller's; nil when no controller is asked.
	Events <-chan Event
	// OnFirst, when not nil, is told the time of the first attack packet as
	// soon as it is known.
	OnFirst func(time.Time)

	incoming []*capture.Capture
	outgoing *capture.Capture
}

// Fire attacks once, until the attack has been contained for the time it
// must hold, or patience ends.
func (s *Shot) Fire(ctx context.Context) (Outcome, error) {
	o, err := s.fire(ctx)
	if err != nil {
		return Outcome{}, err
	}
	o.events = append(o.events, drain(s.Events)...)
	return judge(o, s.Attack, s.Roles, s.Hold), nil
}

func (s *Shot) fire(ctx context.Context) (observation, error) {
	dir, err := os.MkdirTemp("", "platelet-measure")
	if err != nil {
		return observation{}, fmt.Errorf("captures: %w", err)
	}
	defer os.RemoveAll(dir)
	counter, err := attack.NewCounter(s.Lab, s.Roles)
	if err != nil {
		return observation{}, err
	}
	defer counter.Close()
	if err := s.startCaptures(ctx, dir); err != nil {
		return observation{}, errors.Join(err, s.abandon())
	}
	o, err := s.attack(ctx, counter)
	if err != nil {
		return observation{}, errors.Join(err, s.abandon())
	}
	err = s.collect(ctx, &o)
	return o, err
}

// attack runs the attack between two readings of the counter.
func (s *Shot) attack(ctx context.Context, counter *attack.Counter) (observation, error) {
	before, err := counter.Sent()
	if err != nil {
		return observation{}, err
	}
	running, err := s.Attack.Start(ctx, s.Lab, s.Roles, attack.Settings{})
	if err != nil {
		return observation{}, err
	}
	var o observation
	o.sentUntil = s.watch(ctx, &o, counter)
	err = running.Stop()
	after, sentErr := counter.Sent()
	o.sent = after - before
	return o, errors.Join(err, sentErr)
}

// startCaptures records what leaves the attacker, of a flood only the first
// packet, and what arrives at the victims.
func (s *Shot) startCaptures(ctx context.Context, dir string) error {
	filter := s.Attack.Filter(s.Roles)
	for _, node := range s.Attack.Watch(s.Roles) {
		iface, err := s.Lab.Interface(node)
		if err != nil {
			return err
		}
		c, err := capture.Start(ctx, s.Lab, node, iface, filepath.Join(dir, node+".pcap"), capture.Options{Filter: filter, Bulk: s.Attack.Flood})
		if err != nil {
			return err
		}
		s.incoming = append(s.incoming, c)
	}
	o := capture.Options{Filter: filter, Out: true}
	if s.Attack.Flood {
		o.Count = 1
	}
	var err error
	s.outgoing, err = capture.Start(ctx, s.Lab, s.Roles.Attacker, s.Roles.AttackerIface, filepath.Join(dir, "attacker.pcap"), o)
	return err
}

// abandon ends the captures after an error.
func (s *Shot) abandon() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var errs []error
	for _, c := range append(slices.Clone(s.incoming), s.outgoing) {
		if c != nil {
			_, _, err := c.Stop(ctx)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// watch gathers events until the attack has gone on for long enough after it
// was contained, and returns when the attacker was last seen sending.
// Delivery that stopped shows in the captures; under a limit it goes on, so
// the controller's word that it acted counts there. Neither is the
// measurement: that comes from the captures' contents, afterwards.
func (s *Shot) watch(ctx context.Context, o *observation, counter *attack.Counter) (sentUntil time.Time) {
	margin := s.Hold + s.Hold/2
	deadline := time.Now().Add(s.Patience)
	var size int64
	var sent uint64
	read := s.sent(counter)
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
		if now, err := read(); err == nil && now != sent {
			sent, sentUntil = now, time.Now()
		}
		if now := s.size(); now != size {
			size, grown = now, time.Now()
		}
		told = told || s.tellFirst()
		delivered := size > int64(len(s.incoming))*pcapHeader
		quiet := delivered && sentUntil.Sub(grown) > margin
		limited := !acted.IsZero() && sentUntil.Sub(acted) > margin
		if quiet || limited {
			break
		}
	}
	return sentUntil
}

// sent is how to see that the attacker goes on: by the capture where it is
// complete, because the counter also counts what is no attack.
func (s *Shot) sent(counter *attack.Counter) func() (uint64, error) {
	if s.Attack.Flood {
		return counter.Sent
	}
	return func() (uint64, error) { return uint64(s.outgoing.Size()), nil }
}

// pcapHeader is the size of a recording without packets.
const pcapHeader = 24

func (s *Shot) size() int64 {
	var n int64
	for _, c := range s.incoming {
		n += c.Size()
	}
	return n
}

// tellFirst passes the time of the first packet on, once there is one.
func (s *Shot) tellFirst() bool {
	if s.outgoing.Size() <= pcapHeader {
		return false
	}
	times, err := s.outgoing.Peek()
	if err != nil || len(times) == 0 {
		return false
	}
	s.OnFirst(times[0])
	return true
}

// collect ends the captures and reads them.
func (s *Shot) collect(ctx context.Context, o *observation) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	results := make([][]time.Time, len(s.incoming)+1)
	errs := make([]error, len(results))
	missed := make([]int, len(results))
	var all sync.WaitGroup
	for i, c := range append(slices.Clone(s.incoming), s.outgoing) {
		all.Go(func() { results[i], missed[i], errs[i] = c.Stop(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	last := len(s.incoming)
	o.delivered = merge(results[:last])
	for _, n := range missed[:last] {
		o.missed += n
	}
	left := results[last]
	if len(left) == 0 {
		return fmt.Errorf("attack %s: no packet left %s", s.Attack.Name, s.Roles.Attacker)
	}
	o.first = left[0]
	if !s.Attack.Flood {
		// The capture is complete, and knows the attack's packets from the
		// attacker's other ones, which the counter does not.
		o.sent, o.sentUntil = uint64(len(left)), left[len(left)-1]
		o.missed += missed[last]
	}
	return nil
}
