package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// cusum is one CUSUM over packets towards a victim, with what is needed to say
// who sent them.
type cusum struct {
	s     float64 // the statistic, packets above what is normal
	base  float64 // learned packets per second
	bin   float64 // packets, net of answers, in the current second
	tense bool    // the current second must not be learned from

	// Of the current excursion above zero:
	began   int64
	packets float64
	samples uint32
	sources heavy
	port    uint16 // majority destination port
	votes   float64
	talk    uint64 // majority conversation, and its votes
	talkers float64
}

// drift is K: what counts as normal, in packets per second.
func (t *cusum) drift(c *FloodConfig) float64 {
	return min(max(c.Floor, c.Margin*t.base), c.Cap)
}

// leak lets time pass.
func (t *cusum) leak(c *FloodConfig, dt float64) { t.lower(t.drift(c) * dt) }

// lower takes packets away; an excursion that reaches zero is forgotten.
func (t *cusum) lower(packets float64) {
	if t.s == 0 {
		return
	}
	if t.s -= packets; t.s <= 0 {
		t.s, t.packets, t.samples, t.votes = 0, 0, 0, 0
		t.talkers = 0
		t.sources = heavy{}
	}
}

// add counts packets of a source.
func (t *cusum) add(now int64, packets float64, src address, r *flow.Record, k *keys) {
	if t.packets == 0 {
		t.began = now
	}
	t.s += packets
	t.packets += packets
	t.samples++
	t.sources.add(src, packets)
	vote(&t.port, &t.votes, r.DstPort, packets)
	vote(&t.talk, &t.talkers, k.pair(k.address(src), uint64(r.SrcPort)<<16|uint64(r.DstPort)), packets)
}

// vote is one step of a weighted majority vote (Boyer and Moore, 1981).
func vote[T comparable](candidate *T, votes *float64, ballot T, weight float64) {
	switch {
	case *candidate == ballot:
		*votes += weight
	case *votes < weight:
		*candidate, *votes = ballot, weight
	default:
		*votes -= weight
	}
}

// single reports whether nearly all packets belong to one conversation.
func (t *cusum) single() bool { return t.talkers >= 0.9*t.packets }

// learn closes the bin of the last elapsed seconds. A bin in which the
// statistic was high is left out: what is suspicious must not become normal.
func (t *cusum) learn(c *FloodConfig, elapsed float64) {
	if !t.tense {
		gain := 1 - math.Exp(-elapsed/c.Tau.Seconds())
		t.base += gain * (max(t.bin, 0)/elapsed - t.base)
		t.base = min(t.base, c.Cap/c.Margin)
	}
	t.bin, t.tense = 0, t.s > c.Threshold/4
}

// concentrated returns the port that most packets of the excursion went to,
// or 0. A majority vote that keeps 60 % of the votes had at least 80 %.
func (t *cusum) concentrated() uint16 {
	if t.votes >= 0.6*t.packets {
		return t.port
	}
	return 0
}

// heavyCounters is the number of sources that a cusum follows; a source with
// more than 1/heavyCounters of the packets is always among them.
const heavyCounters = 4

// heavy follows the heaviest sources by Space-Saving (Metwally, Agrawal and
// El Abbadi, ICDT 2005), weighted by packets.
type heavy struct {
	counters [heavyCounters]heavyCounter
}

type heavyCounter struct {
	src          address
	count, error float64
}

func (h *heavy) add(src address, packets float64) {
	least := 0
	for i := range h.counters {
		c := &h.counters[i]
		if c.src == src {
			c.count += packets
			return
		}
		if c.count < h.counters[least].count {
			least = i
		}
	}
	c := &h.counters[least]
	c.src, c.error, c.count = src, c.count, c.count+packets
}

// top returns the source that certainly sent the most, and how much.
func (h *heavy) top() (src address, packets float64) {
	for i := range h.counters {
		if c := &h.counters[i]; c.count-c.error > packets {
			src, packets = c.src, c.count-c.error
		}
	}
	return src, packets
}
