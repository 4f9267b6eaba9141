package controller

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

const (
	// steerPeriod is how often the tap is looked after.
	steerPeriod = 100 * time.Millisecond
	// steerPatience is how long a containment may take: after that the tap
	// is thinned instead.
	steerPatience = 500 * time.Millisecond
	// steerSamples is how many samples of an attack are enough, per second.
	steerSamples = 1000
	// steerWithin is how far from that it may be: to know half of a scan's
	// targets, where all can be had at twice the price, is no bargain.
	steerWithin = 2
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

// steer thins the connection tap where a flood or a fast scan goes that nothing
// contains: at once in the modes that wait for somebody, and where a guard
// refuses. A sample of every packet costs the switch as much as the packet, and
// 1,000 a second say the same of how much it is; whom it was meant for is then known
// of those alone. What is contained is dropped before it comes to the tap.
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
		full, want := c.cfg.TapProbabilities(), c.floods()
		for t := range thinned {
			if _, still := want[t]; !still {
				want[t] = full[t.signal]
			}
		}
		for t, enough := range want {
			is, thin := thinned[t]
			if !thin {
				is = full[t.signal]
			}
			c.steerTo(ctx, thinned, t, is, steered(is, enough, full[t.signal]), full[t.signal])
		}
	}
}

// steerTo gives a place another probability, and notes it.
func (c *Controller) steerTo(ctx context.Context, thinned map[thinning]uint16, t thinning, is, next, full uint16) {
	switch {
	case next == is:
	case next == full:
		if c.thin(t, func(b *pipeline.Bridge) error { return b.RestoreTap(ctx, t.override(is)) }) {
			delete(thinned, t)
		}
	case c.thin(t, func(b *pipeline.Bridge) error { return b.LowerTap(ctx, t.override(next)) }):
		thinned[t] = next
		c.log.WithFields(logrus.Fields{"bridge": t.port.Switch, "port": t.port.Port, "victim": t.dst.String(), "signal": t.signal,
			"one_in": float64(flow.FullProbability) / float64(next)}).Info("tap thinned for an attack")
	}
}

// steered is the probability that a place gets which has one, where another one is
// enough: that, unless it is near what the place has, so that an attack which is not
// quite steady does not have the switch written to all the time.
func steered(is, enough, full uint16) uint16 {
	switch {
	case enough >= full:
		return full
	case int(enough)*steerWithin >= int(is) && int(enough) <= int(is)*steerWithin:
		return is
	}
	return enough
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

// floods lists the places of the attacks that fire and that no decision holds,
// with the probability that is enough there. Where the controller may act by
// itself it is given the time to.
func (c *Controller) floods() map[thinning]uint16 {
	c.engineMu.Lock()
	active := c.engine.Active()
	c.engineMu.Unlock()
	out := map[thinning]uint16{}
	if len(active) == 0 {
		return out
	}
	held := map[string]bool{}
	for _, d := range c.manager.Decisions() {
		diverted := d.Action == response.ActionMirror || d.Action == response.ActionScrub // and goes past the tap
		held[d.Finding] = held[d.Finding] || d.State.Holds() && !diverted
	}
	patience := steerPeriod // the rate of less than that may be of a burst
	if c.cfg.Mode == response.ModeAutonomous {
		patience = steerPatience
	}
	snap := c.tracker.Snapshot()
	for i := range active {
		f := &active[i]
		if f.State != detector.StateFiring || held[f.ID] || time.Since(time.Unix(0, f.Time)) < patience {
			continue
		}
		enough := uint16(max(steerFloor, min(float64(flow.FullProbability), float64(flow.FullProbability)*steerSamples/max(f.Rate, 1))))
		for _, t := range places(snap, f) {
			have, ok := out[t]
			if !ok && len(out) >= steerLimit {
				return out
			}
			if !ok || enough < have { // attacks from several sides make a victim refuse all of them
				out[t] = enough
			}
		}
	}
	return out
}

// places lists what an attack makes the tap sample: what it sends, and what
// refuses it. What accepts it stays fully visible: an honest client that seems
// unanswered would be a suspect.
func places(snap *topology.Snapshot, f *detector.Finding) []thinning {
	var out []thinning
	sent, refused := tapSignals(f.Kind)
	port, known := snap.PortByIndex(f.InPort)
	for _, victim := range f.Victims {
		if known && sent != flow.SignalNone {
			out = append(out, thinning{port.ID, sent, victim})
		}
		if h, ok := snap.Host(victim); ok && refused != flow.SignalNone {
			out = append(out, thinning{port: h.Port, signal: refused})
		}
	}
	if known && f.Kind == detector.KindHostSweep { // its victims are many, and always others
		out = append(out, thinning{port: port.ID, signal: sent})
	}
	return out
}

// tapSignals is what the tap samples of a kind of attack, and of the answers
// to it; SignalNone where it samples nothing.
func tapSignals(k detector.Kind) (sent, refused flow.Signal) {
	switch k {
	case detector.KindSYNFlood, detector.KindPortScan, detector.KindHostSweep:
		return flow.SignalAttempt, flow.SignalRefuse
	case detector.KindACKFlood:
		return flow.SignalFinish, flow.SignalRefuse
	case detector.KindUDPFlood, detector.KindAmplification:
		return flow.SignalUDP, flow.SignalNone
	case detector.KindICMPFlood:
		return flow.SignalICMP, flow.SignalNone
	}
	return flow.SignalNone, flow.SignalNone
}
