package detector

import (
	"math"
	"math/bits"
	"time"
)

// recentFailures is how many failed contacts of a host are remembered one by
// one: enough to classify it, to name victims, and not to count retries.
const recentFailures = 16

// suspectPace is how long a rate is averaged over.
const suspectPace = int64(10 * time.Second)

// suspect is the evidence against one host.
type suspect struct {
	first, last int64
	failures    uint32 // contacts in the walk, by how they failed:
	refused     uint32
	unreachable uint32
	silent      uint32
	odd         uint32 // by what was sent, whatever the answer
	early       uint32 // unanswered at once, when that decided
	records     int64
	measured    int64   // since when tries are counted for the rate
	tries       float64 // new targets in that time, or packets where sampled
	recent      [recentFailures]target
	filled      int
	next        int
	hosts       sketch
	ports       sketch
}

type target struct {
	dst     address
	service uint64
}

// tried counts for the rate of a scan, over ten seconds.
func (s *suspect) tried(now int64, n float64) {
	if now-s.measured > suspectPace {
		s.measured, s.tries = now, 0
	}
	s.tries += n
}

// rate is what a suspect does, in new targets per second.
func (s *suspect) rate(now int64) float64 {
	return s.tries / max(float64(now-s.measured)/1e9, 0.01)
}

// worth orders suspects for eviction. A single failure is no more than every
// invented source has; old evidence makes room for new.
func (s *suspect) worth(now int64) int64 {
	if s.failures < 2 || now-s.last > contactIdle {
		return rank(0, s.last)
	}
	return rank(int64(min(s.failures, 7)), s.last)
}

// has reports whether the target is among the latest failures.
func (s *suspect) has(t target) bool {
	for i := range s.filled {
		if s.recent[i] == t {
			return true
		}
	}
	return false
}

// note remembers a failed target.
func (s *suspect) note(t target, k *keys) {
	s.recent[s.next] = t
	s.next = (s.next + 1) % recentFailures
	s.filled = min(s.filled+1, recentFailures)
	s.hosts.put(k.address(t.dst))
	s.ports.put(k.number(t.service))
}

// drop forgets a target whose failure was taken back.
func (s *suspect) drop(t target) {
	for i := range s.filled {
		if s.recent[i] == t {
			s.filled--
			s.recent[i] = s.recent[s.filled]
			s.next = s.filled
			return
		}
	}
}

// shape says what the latest failures look like. Scanners concentrate: many
// ports of few hosts or few ports of many. Failures that are all over both,
// as those of a peer-to-peer client that walks a list of departed peers, are
// no scan however many they are.
func (s *suspect) shape() (Kind, bool) {
	hosts, ports := s.distinct()
	kind := KindHostSweep
	if ports > hosts || hosts == 1 {
		kind = KindPortScan
	}
	n := s.filled
	if hosts <= n/2 || ports <= n/2 {
		return kind, true
	}
	// A scan in random order over a few hundred hosts looks scattered in
	// the latest failures, but not in all of them.
	h, p := s.hosts.estimate(), s.ports.estimate()
	all := float64(s.failures) / 2
	return kind, h <= all || p <= all
}

// distinct counts hosts and services among the latest failures.
func (s *suspect) distinct() (hosts, ports int) {
	for i := range s.filled {
		newHost, newPort := true, true
		for j := range i {
			newHost = newHost && s.recent[j].dst != s.recent[i].dst
			newPort = newPort && s.recent[j].service != s.recent[i].service
		}
		if newHost {
			hosts++
		}
		if newPort {
			ports++
		}
	}
	return hosts, ports
}

// sketch estimates a number of distinct values by linear counting (Whang,
// Vander-Zanden and Taylor, ACM TODS 15(2), 1990), good to about 1,000.
type sketch [4]uint64

// put adds a value by its hash, see keys.
func (k *sketch) put(h uint64) { k[h>>6&3] |= 1 << (h & 63) }

// estimate returns +Inf when the sketch is too full to tell.
func (k *sketch) estimate() float64 {
	const m = 256
	ones := 0
	for _, w := range k {
		ones += bits.OnesCount64(w)
	}
	if ones >= m-4 {
		return math.Inf(1)
	}
	return -m * math.Log(1-float64(ones)/m)
}
