package detector

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// slowWalk is the threshold random walk of one source, written down the way
// the paper does, with maps and no bounds: the oracle for scanWatch.
type slowWalk struct {
	llr     float64
	at      int64
	seen    map[[2]int]bool // (target, port) contacted before
	fails   int
	decided int // index of the event that decided, or -1
	// targets and ports are the walks over the contacts with one of them.
	targets, ports map[int]float64
}

// narrow moves the walks over one target and one port, and reports whether one of
// them decides. A failure at a target that answers elsewhere is none of a sweep.
func (w *slowWalk) narrow(c *Config, target, port int, fail bool) bool {
	up, down := math.Log((1-narrowTheta1)/(1-c.Scan.Theta0)), math.Log(narrowTheta1/c.Scan.Theta0)
	if !fail {
		w.targets[target] += down
		w.ports[port] += down
		return false
	}
	threshold := math.Log(c.Scan.Beta / narrowAlpha)
	if w.targets[target] >= 0 {
		w.ports[port] = min(w.ports[port]+up, 2*threshold)
	}
	w.targets[target] = min(w.targets[target]+up, 2*threshold)
	return w.targets[target] >= threshold || w.ports[port] >= threshold
}

func (w *slowWalk) outcome(c *Config, now int64, i int, fail, narrow bool, weight float64) {
	if w.llr < 0 {
		w.llr *= math.Pow(0.5, float64(now-w.at)/float64(c.Scan.CreditHalfLife))
	}
	w.at = now
	s := &c.Scan
	if fail {
		w.fails++
		w.llr = min(w.llr+weight*math.Log((1-s.Theta1)/(1-s.Theta0)), 2*math.Log(s.Beta/s.Alpha))
	} else {
		w.llr = max(w.llr+math.Log(s.Theta1/s.Theta0), s.MaxCredit*math.Log(s.Theta1/s.Theta0))
	}
	if narrow && w.decided < 0 {
		w.decided = i
	}
	if fail && w.decided < 0 && w.fails >= 2 && w.llr >= math.Log(s.Beta/s.Alpha) {
		w.decided = i
	}
}

// The engine must decide at the same contact as the oracle, whatever the mix
// of answers, retries, refusals and time between them. All contacts go to few
// hosts, so that every decision is of concentrated evidence.
func TestWalkAgreesWithOracle(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := newSim(t)
		oracle := slowWalk{seen: map[[2]int]bool{}, decided: -1, targets: map[int]float64{}, ports: map[int]float64{}}
		now, decided := int64(0), -1
		for i := range rapid.IntRange(1, 120).Draw(rt, "contacts") {
			now += rapid.Int64Range(1, 20*sec).Draw(rt, "gap")
			target, port := rapid.IntRange(2, 3).Draw(rt, "target"), rapid.IntRange(1, 40).Draw(rt, "port")
			fail := rapid.IntRange(0, 9).Draw(rt, "outcome") < 6
			r := syn(hostAddr(1), hostAddr(target), uint16(port))
			r.Time = t0 + now
			a := answer(r, flow.SignalAccept)
			if fail {
				a.Signal = flow.SignalRefuse
			}
			a.Time = r.Time + ms
			now += ms
			if oracle.at == 0 {
				oracle.at = r.Time
			}
			s.e.Observe([]flow.Record{r, a})
			s.e.Advance(a.Time)
			if key := [2]int{target, port}; !oracle.seen[key] {
				oracle.seen[key] = true
				oracle.outcome(&s.e.cfg, a.Time, i, fail, oracle.narrow(&s.e.cfg, target, int(port), fail), 1)
			}
			if decided < 0 && len(s.fired()) > 0 {
				decided = i
			}
			if decided >= 0 || oracle.decided >= 0 {
				break // what follows a decision is the finding's life
			}
		}
		if decided != oracle.decided {
			rt.Fatalf("decided at contact %d, the oracle at %d (walk %.2f)", decided, oracle.decided, oracle.llr)
		}
	})
}

// Space-Saving never misses a source with more than its share, and never
// claims more for a source than it sent.
func TestHeavyAgreesWithCounting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heavy
		exact, total := map[address]float64{}, 0.0
		for range rapid.IntRange(1, 300).Draw(t, "packets") {
			src := address{0, uint64(rapid.IntRange(1, 12).Draw(t, "src"))}
			if rapid.IntRange(0, 9).Draw(t, "mix") < 7 {
				src.lo = 1
			}
			w := float64(rapid.IntRange(1, 5).Draw(t, "weight"))
			h.add(src, w)
			exact[src] += w
			total += w
		}
		src, n := h.top()
		if n > exact[src] {
			t.Fatalf("claims %v packets for a source that sent %v", n, exact[src])
		}
		for s, n := range exact {
			if n > 0.5*total && src != s {
				t.Fatalf("top is %v, but %v sent %v of %v", src, s, n, total)
			}
		}
	})
}

func TestSketchEstimates(t *testing.T) {
	var k sketch
	h := newKeys(1)
	for i := range uint64(300) {
		k.put(h.number(i))
		k.put(h.number(i))
	}
	if n := k.estimate(); n < 255 || n > 345 {
		t.Errorf("estimate of 300 distinct values is %v", n)
	}
	for i := range uint64(5000) {
		k.put(h.number(i))
	}
	if n := k.estimate(); !math.IsInf(n, 1) {
		t.Errorf("a full sketch says %v", n)
	}
}
