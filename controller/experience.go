package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/detector"
)

const (
	// keepEvery is how often what the detectors learned is written down. The
	// engine stands still for the few milliseconds that a copy takes.
	keepEvery = time.Hour
	// lastSave is how long the save at the end may take.
	lastSave = 5 * time.Second
)

// experience keeps what the unsupervised detectors have learned over restarts:
// it takes days to learn it again, in which nothing would be found by it.
type experience struct {
	log    logrus.FieldLogger
	stored *bus.Large
	engine *detector.Engine
	mu     *sync.Mutex // the engine's
}

// load restores what an earlier run has learned. What does not fit, after an
// update for example, is learned anew.
func (x *experience) load(ctx context.Context) error {
	learned, err := x.stored.Load(ctx)
	if err == nil && learned != nil {
		x.mu.Lock()
		err = x.engine.ImportLearned(learned)
		x.mu.Unlock()
	}
	if errors.Is(err, detector.ErrLearned) || errors.Is(err, bus.ErrDamaged) {
		x.log.WithError(err).Warn("baselines are learned anew")
		return nil
	}
	if err != nil {
		return fmt.Errorf("restore what was learned: %w", err)
	}
	return nil
}

func (x *experience) save(ctx context.Context) error {
	x.mu.Lock()
	learned, err := x.engine.Learned()
	x.mu.Unlock()
	if err != nil {
		return err
	}
	raw, err := learned.MarshalBinary()
	if err != nil {
		return err
	}
	if err := x.stored.Save(ctx, raw); err != nil {
		return fmt.Errorf("keep what was learned: %w", err)
	}
	return nil
}

// run saves now and then, and once more at the end. That it cannot be kept is no
// reason to stop.
func (x *experience) run(ctx context.Context) error {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			x.try(ctx)
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
	defer cancel()
	x.try(last)
	return nil
}

func (x *experience) try(ctx context.Context) {
	if err := x.save(ctx); err != nil {
		x.log.WithError(err).Warn("what was learned could not be kept")
	}
}

// noticesPerMinute is how many lines about single hosts the log gets: a change
// that concerns all of them, a switch that is moved, would drown the rest.
const noticesPerMinute = 20

// notices tells people what the detectors learn, pause to learn or give up. The
// engine calls it from one thread at a time.
type notices struct {
	log     logrus.FieldLogger
	publish func(event any)
	minute  int64 // of the notices, since 1970
	said    int
	left    int // out, of this minute
}

// tell writes a notice into the log, and to whoever watches.
func (x *notices) tell(n detector.Notice) {
	x.publish(n)
	if minute := n.Time / int64(time.Minute); minute != x.minute {
		if x.left > 0 {
			x.log.WithField("left_out", x.left).Info("more hosts than are told differ from their baselines")
		}
		x.minute, x.said, x.left = minute, 0, 0
	}
	fields := logrus.Fields{"learning": n.What}
	if n.Host.IsValid() {
		if x.said++; x.said > noticesPerMinute {
			x.left++
			return
		}
		fields["host"] = n.Host.String()
	}
	x.log.WithFields(fields).Info(n.Why)
}
