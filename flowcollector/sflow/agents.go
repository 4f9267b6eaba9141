package sflow

import (
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	maxAgents = 4096
	agentIdle = int64(time.Hour)
	// maxGap is the largest jump of a sequence number that is taken for
	// loss, and not for another life of the agent.
	maxGap = 1 << 20
	// A datagram is late, and not the first of another life, if it is at
	// most this many datagrams and milliseconds older than the newest.
	maxLate  = 1 << 10
	maxDelay = 5000
)

// agent is what one sub-agent's next datagram is compared with. Two bridges on
// one host differ only by sub-agent.
type agent struct {
	next   uint32
	uptime uint32 // milliseconds
	seen   int64  // Unix nanoseconds
}

// agents is the bounded set of sub-agents.
type agents struct {
	m       map[flow.Exporter]*agent
	last    *agent
	lastKey flow.Exporter
	// sweepAt is when to look for idle agents at the earliest.
	sweepAt int64
}

func newAgents() agents { return agents{m: make(map[flow.Exporter]*agent)} }

// lost returns the number of datagrams missing in front of this one.
func (s *agents) lost(key flow.Exporter, seq, uptime uint32, at int64) uint64 {
	a := s.last
	if a == nil || s.lastKey != key {
		if a = s.m[key]; a == nil {
			s.add(key, agent{next: seq + 1, uptime: uptime, seen: at})
			return 0
		}
		s.last, s.lastKey = a, key
	}
	gap := int32(seq - a.next)
	if gap < 0 && gap > -maxLate && int32(a.uptime-uptime) < maxDelay {
		return 0 // late or repeated: it must not turn the clock back
	}
	a.next, a.uptime, a.seen = seq+1, uptime, at
	if gap > 0 && gap < maxGap {
		return uint64(gap)
	}
	return 0
}

func (s *agents) add(key flow.Exporter, a agent) {
	if len(s.m) >= maxAgents {
		if a.seen < s.sweepAt {
			return
		}
		s.sweep(a.seen)
		if len(s.m) >= maxAgents {
			return
		}
	}
	s.m[key] = &a
}

// sweep drops idle agents, at most once a second so that a flood of forged
// agents cannot make it the main occupation.
func (s *agents) sweep(at int64) {
	s.sweepAt = at + int64(time.Second)
	s.last = nil
	for key, a := range s.m {
		if at-a.seen > agentIdle {
			delete(s.m, key)
		}
	}
}
