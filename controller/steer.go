package controller

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

const (
	// steerPeriod is how often the tap is looked after.
	steerPeriod = 500 * time.Millisecond
	// steerSamples is how many samples of a flood are enough, per second.
	steerSamples = 1000
	// steerFloor is the thinnest tap, of 65535: 0.1 %.
	steerFloor = 66
	// steerLimit bounds how many places are thinned at once.
	steerLimit = 64
)

// thinning is a place where the tap is thinned: one signal of what one port
// sends, to one address if that is valid.
type thinning struct {
	port   topology.PortID
	signal flow.Signal
	dst    netip.Addr
}

func (t thinning) override(probability uint16) pipeline.TapOverride {
	o := pipeline.TapOverride{Signal: t.signal, InPort: t.port.Port, Probability: probability}
	if t.dst.IsValid() {
		o.Dst = netip.PrefixFrom(t.dst, t.dst.BitLen())
	}
	return o
}

// steer thins the connection tap where a flood goes that nothing contains: in
// the modes that wait for somebody, and where a guard refuses. A sample of
// every packet costs the switch as much as the packet, and 1,000 a second say
// the same. A flood that is contained is dropped before it comes to the tap.
func (c *Controller) steer(ctx context.Context) error {
	tick := time.NewTicker(steerPeriod)
	defer tick.Stop()
	thinned := map[thinning]uint16{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		want := c.floods()
		for t, p := range want {
			if _, done := thinned[t]; !done && c.thin(t, func(b *pipeline.Bridge) error { return b.LowerTap(ctx, t.override(p)) }) {
				thinned[t] = p
				c.log.WithFields(logrus.Fields{"bridge": t.port.Switch, "port": t.port.Port, "victim": t.dst.String()}).Info("tap thinned for a flood")
			}
		}
		for t, p := range thinned {
			if _, still := want[t]; !still && c.thin(t, func(b *pipeline.Bridge) error { return b.RestoreTap(ctx, t.override(p)) }) {
				delete(thinned, t)
			}
		}
	}
}

// thin changes a bridge's tap, and reports whether that need not be tried
// again.
func (c *Controller) thin(t thinning, change func(*pipeline.Bridge) error) bool {
	b, err := c.fleet.bridge(t.port.Switch)
	if err != nil {
		return true // not ours any more
	}
	err = change(b)
	if err != nil && !errors.Is(err, pipeline.ErrNotConnected) {
		c.log.WithError(err).WithField("bridge", t.port.Switch).Warn("tap could not be steered")
	}
	return err == nil || errors.Is(err, pipeline.ErrNotConnected) // it is kept for then
}

// floods lists the places of the floods that fire and that no decision
// holds, with the probability that is enough there.
func (c *Controller) floods() map[thinning]uint16 {
	c.engineMu.Lock()
	active := c.engine.Active()
	c.engineMu.Unlock()
	held := map[string]bool{}
	for _, d := range c.manager.Decisions() {
		held[d.Finding] = held[d.Finding] || d.State.Holds()
	}
	snap := c.tracker.Snapshot()
	full := c.cfg.TapProbabilities()
	out := map[thinning]uint16{}
	for _, f := range active {
		signal, ok := floodSignal(f.Kind)
		port, known := snap.PortByIndex(f.InPort)
		if !ok || !known || f.State != detector.StateFiring || held[f.ID] || time.Since(time.Unix(0, f.Time)) < 2*steerPeriod {
			continue
		}
		enough := uint16(max(steerFloor, min(float64(flow.FullProbability), float64(flow.FullProbability)*steerSamples/max(f.Rate, 1))))
		for _, victim := range f.Victims {
			if len(out) >= steerLimit {
				return out
			}
			if full[signal] > enough {
				out[thinning{port.ID, signal, victim}] = enough
			}
			// A closed port refuses each SYN. That it accepts stays fully
			// visible: an honest client that seems unanswered would be a
			// suspect.
			if h, ok := snap.Host(victim); ok && signal == flow.SignalAttempt && full[flow.SignalRefuse] > enough {
				out[thinning{port: h.Port, signal: flow.SignalRefuse}] = enough
			}
		}
	}
	return out
}

// floodSignal is the tap's signal for what a kind of flood sends.
func floodSignal(k detector.Kind) (flow.Signal, bool) {
	switch k {
	case detector.KindSYNFlood:
		return flow.SignalAttempt, true
	case detector.KindUDPFlood:
		return flow.SignalUDP, true
	case detector.KindICMPFlood:
		return flow.SignalICMP, true
	}
	return 0, false
}
