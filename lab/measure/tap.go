package measure

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/capture"
)

// pcapHeader is the size of a recording without packets.
const pcapHeader = 24

// tap is a capture on one node.
type tap struct {
	node    string
	capture *capture.Capture
}

// recording is what a tap has seen.
type recording struct {
	times  []time.Time
	missed int
}

// sources is where the attack comes from: a capture of what leaves each
// attacker, of a flood only its first packet, and their packet counters.
type sources struct {
	taps     []tap
	counters []*attack.Counter
	flood    bool
}

// listen starts everything that observes the attack: what leaves the
// attackers, and what arrives at the victims.
func (s *Shot) listen(ctx context.Context, dir string) error {
	s.sources.flood = s.Attack.Flood
	for _, p := range s.Attack.Parties(s.Roles) {
		c, err := attack.NewCounter(s.Lab, attack.Roles{Attacker: p.Node, AttackerIface: p.Iface})
		if err != nil {
			return err
		}
		s.sources.counters = append(s.sources.counters, c)
	}
	filter := s.Attack.Filter(s.Roles)
	in := capture.Options{Filter: filter, Bulk: s.Attack.Flood}
	out := capture.Options{Filter: filter, Out: true}
	if s.Attack.Flood {
		out.Count = 1
	}
	var err1, err2 error
	s.sinks, err1 = s.tap(ctx, dir, "in", s.targets(), in)
	s.sources.taps, err2 = s.tap(ctx, dir, "out", s.origins(), out)
	return errors.Join(err1, err2)
}

// targets are the nodes that the attack may arrive at. One that spreads may
// arrive anywhere. Network equipment is left out: there is nothing to spread to,
// what it passes on arrives once more, and quarantines leave the way to it open.
func (s *Shot) targets() []string {
	if !spreads(s.Attack) {
		return s.Attack.Watch(s.Roles)
	}
	equipment := attack.Equipment(s.Lab)
	return slices.DeleteFunc(s.Lab.Nodes(), func(node string) bool {
		return !s.Lab.Isolated(node) || len(s.Lab.Interfaces(node)) != 1 || slices.Contains(equipment, node)
	})
}

// origins are the nodes that the attack may come from: of one that spreads,
// those that it reaches, too.
func (s *Shot) origins() []string {
	var nodes []string
	for _, p := range s.Attack.Parties(s.Roles) {
		nodes = append(nodes, p.Node)
	}
	if spreads(s.Attack) {
		for _, n := range s.targets() {
			if !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes
}

// spreads reports whether hosts that an attack reaches attack in their turn.
func spreads(a attack.Attack) bool { return a.Finding == "worm" || a.Finding == "lateral-movement" }

// tap starts captures on the nodes' interfaces, side by side.
func (s *Shot) tap(ctx context.Context, dir, name string, nodes []string, o capture.Options) ([]tap, error) {
	taps, errs := make([]tap, len(nodes)), make([]error, len(nodes))
	var all sync.WaitGroup
	for i, node := range nodes {
		all.Go(func() {
			iface, err := s.Lab.Interface(node)
			if err != nil {
				errs[i] = err
				return
			}
			c, err := capture.Start(ctx, s.Lab, node, iface, filepath.Join(dir, name+"-"+node+".pcap"), o)
			taps[i], errs[i] = tap{node, c}, err
		})
	}
	all.Wait()
	return slices.DeleteFunc(taps, func(t tap) bool { return t.capture == nil }), errors.Join(errs...)
}

// stop ends captures, side by side, and reads them.
func stop(ctx context.Context, taps []tap) ([]recording, error) {
	out, errs := make([]recording, len(taps)), make([]error, len(taps))
	var all sync.WaitGroup
	for i, t := range taps {
		all.Go(func() { out[i].times, out[i].missed, errs[i] = t.capture.Stop(ctx) })
	}
	all.Wait()
	return out, errors.Join(errs...)
}

func times(recordings []recording) [][]time.Time {
	out := make([][]time.Time, len(recordings))
	for i, r := range recordings {
		out[i] = r.times
	}
	return out
}

// recorded is the size of what was captured so far, in bytes.
func recorded(taps []tap) int64 {
	var n int64
	for _, t := range taps {
		n += t.capture.Size()
	}
	return n
}

// count is how many packets have left the attackers.
func (s *sources) count() (uint64, error) {
	var sum uint64
	for _, c := range s.counters {
		n, err := c.Sent()
		if err != nil {
			return 0, fmt.Errorf("count what is sent: %w", err)
		}
		sum += n
	}
	return sum, nil
}

// progress grows when the attackers go on: by the captures where they are
// complete, because the counters also count what is no attack.
func (s *sources) progress() (uint64, error) {
	if s.flood {
		return s.count()
	}
	return uint64(recorded(s.taps)), nil
}

// close closes the counters.
func (s *sources) close() {
	for _, c := range s.counters {
		c.Close()
	}
	s.counters = nil
}
