package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// narrowTheta1 is the probability that a first contact of a scanner
	// succeeds where half of what it tries does: lower than of anybody honest
	// (ScanConfig.Theta0), higher than the walk over all contacts assumes.
	narrowTheta1 = 0.4
	// narrowAlpha bounds the false alarm rate of each of the many walks.
	narrowAlpha = 1e-4
	// narrowFloor is the most credit, in log likelihood: some six thousand
	// successes, for a monitor's dead targets are told after all that live.
	// It does not fade, for it is of the very same target or service.
	narrowFloor = -4096.0
	// narrowShare is how many contacts there are per narrow walk.
	narrowShare = 4
)

// narrowWalks are random walks over the first contacts of a source with one
// target, and with one service. What a host does elsewhere says nothing about
// them: somebody who scans a server over hours and browses meanwhile earns credit
// in the walk over all contacts, and whoever finds half of what he looks for
// stands still there. Here nine failures decide, or some fifty contacts that half
// succeed.
type narrowWalks struct {
	e         *Engine
	table     *bounded.Table[narrowKey, narrowWalk]
	up, down  float64
	threshold float64
}

// narrowKey is a source with a target, or with a service.
type narrowKey struct {
	src, dst address
	service  uint64
}

type narrowWalk struct {
	last  int64
	walk  float64
	tries uint32
	epoch uint8 // of the host
}

func newNarrowWalks(e *Engine) narrowWalks {
	c := &e.cfg.Scan
	w := narrowWalks{e: e, up: math.Log((1 - narrowTheta1) / (1 - c.Theta0)), down: math.Log(narrowTheta1 / c.Theta0),
		threshold: math.Log(c.Beta / narrowAlpha)}
	w.table = bounded.New[narrowKey](max(e.cfg.Limit.Contacts/narrowShare, 1), func(n *narrowWalk) int64 {
		return rank(int64(min(n.tries/4, 3)), n.last)
	})
	return w
}

// step moves one walk and returns it; nil when there is no room for it.
func (w *narrowWalks) step(k narrowKey, h *host, d float64) *narrowWalk {
	now := w.e.clock.now
	_, n, fresh := w.table.Put(k, rank(0, now))
	if n == nil {
		return nil
	}
	if fresh || n.epoch != h.epoch {
		*n = narrowWalk{epoch: h.epoch}
	}
	n.last = now
	n.tries++
	n.walk = min(max(n.walk+d, narrowFloor), 2*w.threshold)
	return n
}

// succeeded notes an answered first contact.
func (w *narrowWalks) succeeded(h *host, k contactKey) {
	w.step(narrowKey{src: k.src, dst: k.dst}, h, w.down)
	w.step(narrowKey{src: k.src, service: k.service}, h, w.down)
}

// failed notes a failure and returns the kind of scan that it decides, if any.
// Silence of a high port is no evidence against its client: the data ports of FTP
// and RPC, which firewalls let die, are ever new ones. Nor is one port of a target
// that answers at others: clients try what not all servers have, such as NetBIOS
// beside SMB.
func (w *narrowWalks) failed(h *host, k contactKey, how outcome, weight float64) (Kind, bool) {
	d := w.up * weight
	var vertical, horizontal *narrowWalk
	if _, n := w.table.Find(narrowKey{src: k.src, dst: k.dst}); n == nil || n.epoch != h.epoch || n.walk >= 0 {
		horizontal = w.step(narrowKey{src: k.src, service: k.service}, h, d)
	}
	if how != silent || k.port() < ephemeral {
		vertical = w.step(narrowKey{src: k.src, dst: k.dst}, h, d)
	}
	switch {
	case vertical != nil && vertical.walk >= w.threshold:
		return KindPortScan, true
	case horizontal != nil && horizontal.walk >= w.threshold:
		return KindHostSweep, true
	}
	return "", false
}

// retract takes a failure back that was only late.
func (w *narrowWalks) retract(h *host, k contactKey, weight float64) {
	for _, nk := range [...]narrowKey{{src: k.src, dst: k.dst}, {src: k.src, service: k.service}} {
		if _, n := w.table.Find(nk); n != nil && n.epoch == h.epoch {
			n.walk -= w.up * weight
		}
	}
}

// goesOn keeps a scan's finding alive by attempts of which the tap shows only
// some: once it is thinned for a scan, nothing proves anything new.
func (w *scanWatch) goesOn(r *flow.Record, src address) {
	_, h := w.e.hosts.Find(src)
	if h == nil || h.firing == 0 || r.Source != flow.SourceTap {
		return
	}
	_, s := w.suspects.Find(src)
	if s == nil {
		return
	}
	s.tried(w.e.clock.now, r.Rate)
	for _, kind := range [...]Kind{KindPortScan, KindHostSweep} {
		if a := w.e.ledger.byKey[findingKey{kind: kind, host: src}]; a != nil {
			w.e.ledger.refresh(a, w.e.clock.now)
			a.finding.Rate = s.rate(w.e.clock.now)
		}
	}
}
