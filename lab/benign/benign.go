// Package benign makes the lab's honest traffic, between hosts that have
// nothing to do with an attack, over the real protocols. What of it is harmed
// is what containment, or the attack, cost the innocent.
package benign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/runner"
	"golang.org/x/sync/errgroup"
)

// patience is how late an answer may come and still count. It is TCP's first
// timeout: a later one lost a packet.
const patience = time.Second

// Options say which honest traffic to make. The zero value is good.
type Options struct {
	// Profile is the mix of behaviours, see Profiles; default when empty.
	Profile string
	// Seed makes what clients choose at random the same every time.
	Seed uint64
	// Pace multiplies how often clients do what they do, where the profile does not
	// keep a fixed pace; 0 stands for 1.
	Pace float64
	// Truth gets a line per action; nil keeps none.
	Truth *agent.Truth
}

// Traffic is honest traffic under way.
type Traffic struct {
	lab      *runner.Lab
	options  Options
	ledger   *ledger
	probes   []*probes
	stations map[string]*agent.Station
	serving  map[string]bool
	missing  []string
	clients  []func(ctx context.Context)
	group    *errgroup.Group
	cancel   context.CancelFunc
	stopping atomic.Bool
	closers  []io.Closer
}

// Start starts a profile's traffic between the nodes that have the labels for
// it. It goes on until Stop. What a lab has no nodes for is left out, see
// Missing; a lab that has none for anything of the profile is an error, and
// nothing is started.
func Start(ctx context.Context, lab *runner.Lab, o Options) (*Traffic, error) {
	p, err := find(o.Profile)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	t := &Traffic{
		lab: lab, options: o, ledger: newLedger(), cancel: cancel,
		stations: map[string]*agent.Station{}, serving: map[string]bool{},
	}
	t.group, ctx = errgroup.WithContext(ctx)
	if err := t.furnish(p); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	// Only now: whoever asks first finds every server up.
	for _, client := range t.clients {
		t.group.Go(func() error {
			client(ctx)
			return nil
		})
	}
	return t, nil
}

// furnish puts everybody of a profile in place.
func (t *Traffic) furnish(p profile) error {
	for _, part := range p.parts {
		err := part.furnish(t, part.pace*cmp.Or(t.options.Pace, 1))
		var lack *lackError
		switch {
		case errors.As(err, &lack):
			t.missing = append(t.missing, part.name+" needs "+lack.Error())
		case err != nil:
			return fmt.Errorf("benign %s: %w", part.name, err)
		}
	}
	if len(t.missing) == len(p.parts) {
		return fmt.Errorf("lab %s: nothing of profile %s can run: %w", t.lab.Name(), p.Name, errors.New(join(t.missing)))
	}
	return nil
}

// Missing says which behaviours of the profile the lab has no nodes for, and
// what they would need; nil when nothing is missing.
func (t *Traffic) Missing() []string { return t.missing }

// Flows lists the exchanges that began at from or later and before to, and
// that have ended, in order of their start. Windows that adjoin count each
// once. Loss waits for those that have not ended. Exchanges that failed
// because nobody serves them, or because of this machine, are none. The
// latest 131,072 are kept.
func (t *Traffic) Flows(from, to time.Time) []Flow { return t.ledger.between(from, to) }

// Totals sums all flows up since the start, per behaviour. Unserved is how
// many exchanges said nothing about the network, because nobody serves them
// or this machine could not.
func (t *Traffic) Totals() (all map[string]Sum, unserved int) { return t.ledger.totals() }

// Loss is what got lost.
type Loss struct {
	// Probes are the numbered probes of the default profile, Requests all
	// other exchanges.
	ProbesSent, ProbesLost       int64
	RequestsSent, RequestsFailed int64
}

// Packets is the loss in packets: a failed request lost at least one.
func (l Loss) Packets() int64 { return l.ProbesLost + l.RequestsFailed }

// Sub is the loss since an earlier moment.
func (l Loss) Sub(before Loss) Loss {
	return Loss{
		ProbesSent: l.ProbesSent - before.ProbesSent, ProbesLost: l.ProbesLost - before.ProbesLost,
		RequestsSent: l.RequestsSent - before.RequestsSent, RequestsFailed: l.RequestsFailed - before.RequestsFailed,
	}
}

// Loss waits until the fate of everything sent so far is known, and sums up
// what was lost since the start.
func (t *Traffic) Loss(ctx context.Context) (Loss, error) {
	now := time.Now()
	for _, p := range t.probes {
		p.cut(now)
	}
	// The last probe of now is given up after patience.
	for wait := patience + patience/10; wait > 0 || !t.ledger.settled(now); wait = 0 {
		select {
		case <-ctx.Done():
			return Loss{}, fmt.Errorf("honest traffic: %w", ctx.Err())
		case <-time.After(max(wait, patience/50)):
		}
	}
	var l Loss
	all, _ := t.Totals()
	for name, s := range all {
		if name != probeName {
			l.RequestsSent += int64(s.Flows)
			l.RequestsFailed += int64(s.Harmed)
		}
	}
	for _, p := range t.probes {
		sent, lost := p.count()
		l.ProbesSent += sent
		l.ProbesLost += lost
	}
	return l, nil
}

// Stop ends the traffic, and returns when none of it is left.
func (t *Traffic) Stop() error {
	t.stopping.Store(true)
	t.cancel()
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	errs = append(errs, t.group.Wait())
	return errors.Join(errs...)
}
