package detector

import (
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// wormServices is how many services of each kind are remembered per host,
	// the latest ones.
	wormServices = 4
	// wormRecent is how long ago a host may have looked for a service for a
	// sweep to be about it, wormMemory how long before that it may have been
	// contacted there.
	wormRecent = int64(time.Minute)
	wormMemory = int64(time.Hour)
	// wormTargets is how many new targets of a sweeping host it takes to name
	// the first of a chain, who was contacted by nobody.
	wormTargets = 2
	// wormDepth bounds how far a chain is followed back.
	wormDepth = 16
)

// wormWatch gives sweeps the name of what they are part of. GrIDS (Staniford-Chen
// et al., NISSC 1996) draws a worm as a tree in the graph of hosts: who was
// contacted at a service contacts others there. Jump hosts, mail relays and peers
// do that too; a host that sweeps does not. So a worm is a host with a sweep,
// found by the sequential tests, that looks for a service at which it was
// contacted before; or, where the chain begins, one that goes over addresses for a
// service by which worms have spread. Naming it never delays the finding of the sweep.
type wormWatch struct {
	e     *Engine
	hosts *bounded.Table[address, spreader]
}

// spreader is what is remembered of a host's part in a chain.
type spreader struct {
	last   int64
	served [wormServices]served
	sought [wormServices]sought
}

// served is the first contact with a host at one of its services.
type served struct {
	service uint64 // as in contactKey
	from    address
	at      int64
}

// sought are a host's first contacts with others at a service.
type sought struct {
	service     uint64
	first, last int64
	targets     [wormServices]address // the latest
	count       uint32
}

func newWormWatch(e *Engine) *wormWatch {
	w := &wormWatch{e: e}
	w.hosts = bounded.New[address](e.cfg.Limit.Suspects, func(s *spreader) int64 {
		class := int64(0)
		if s.served[0].service != 0 {
			class = 1 // invented sources serve nobody
		}
		return rank(class, s.last)
	})
	return w
}

func (*wormWatch) resolved(findingKey) {}

func (w *wormWatch) edge(ev *edgeEvent) {
	if ev.key.proto() != flow.ProtoTCP {
		return
	}
	switch {
	case ev.what == edgeOpened && !ev.again:
		w.seek(ev)
	case ev.what == edgeAccepted && ev.edge.accepts == 1:
		w.serve(ev)
	}
}

func (w *wormWatch) spreader(who address) *spreader {
	_, s, _ := w.hosts.Put(who, rank(0, w.e.clock.now))
	if s != nil {
		s.last = w.e.clock.now
	}
	return s
}

// serve notes who was the first, of late, to be served by a host.
func (w *wormWatch) serve(ev *edgeEvent) {
	s := w.spreader(ev.key.dst)
	if s == nil {
		return
	}
	oldest := 0
	for i := range s.served {
		if s.served[i].service == ev.key.service && ev.now-s.served[i].at < wormMemory {
			return
		}
		if s.served[i].at < s.served[oldest].at {
			oldest = i
		}
	}
	s.served[oldest] = served{ev.key.service, ev.key.src, ev.edge.opened}
}

// seek notes that a host contacts another for the first time.
func (w *wormWatch) seek(ev *edgeEvent) {
	s := w.spreader(ev.key.src)
	if s == nil {
		return
	}
	q := &s.sought[0]
	for i := range s.sought {
		if s.sought[i].service == ev.key.service {
			q = &s.sought[i]
			break
		}
		if s.sought[i].last < q.last {
			q = &s.sought[i]
		}
	}
	if q.service != ev.key.service || ev.now-q.last > wormMemory {
		*q = sought{service: ev.key.service, first: ev.now}
	}
	q.last = ev.now
	q.targets[q.count%wormServices] = ev.key.dst
	q.count++
	st := w.e.arp.talks(ev.r.SrcMAC, ev.key.src)
	if st != nil && st.firing {
		w.swept(ev.key.src, true)
	} else if w.sweeps(ev.key.src) {
		w.swept(ev.key.src, false)
	}
}

// sweeps reports whether a sequential test found that a host sweeps.
func (w *wormWatch) sweeps(who address) bool {
	return slices.ContainsFunc(w.e.ledger.byHost[who], func(a *active) bool {
		return a.finding.State == StateFiring && a.finding.Sequential && (a.key.kind == KindARPSweep || a.key.kind == KindHostSweep)
	})
}

// swept looks at what a host seeks that has been found to sweep; blind says that
// it went over addresses, whoever has them.
func (w *wormWatch) swept(who address, blind bool) {
	_, s := w.hosts.Find(who)
	if s == nil {
		return
	}
	for i := range s.sought {
		q := &s.sought[i]
		if q.count == 0 || w.e.clock.now-q.last > wormRecent {
			continue
		}
		if from, ok := s.before(q); ok {
			w.report(who, q, from, true)
			w.origin(from, q.service)
		} else if blind && q.count >= wormTargets && selfPropagating(q.service) {
			w.report(who, q, address{}, false)
		}
	}
}

// before returns who contacted a host at a service before it sought the same.
func (s *spreader) before(q *sought) (from address, ok bool) {
	for _, v := range s.served {
		if v.service == q.service && v.at <= q.first && q.first-v.at < wormMemory {
			return v.from, true
		}
	}
	return address{}, false
}

// origin names those that a chain came from, up to the first. They may not have
// been seen to sweep, so that it only tells: a jump host on the way to a host that
// was taken otherwise looks the same.
func (w *wormWatch) origin(who address, service uint64) {
	for range wormDepth {
		_, s := w.hosts.Find(who)
		if s == nil {
			return
		}
		i := slices.IndexFunc(s.sought[:], func(q sought) bool { return q.service == service && q.count >= wormTargets })
		if i < 0 {
			return
		}
		if _, known := w.e.ledger.byKey[wormKey(who)]; known {
			return
		}
		from, _ := s.before(&s.sought[i])
		w.report(who, &s.sought[i], from, false)
		if from == (address{}) {
			return
		}
		who = from
	}
}

func wormKey(who address) findingKey { return findingKey{kind: KindWorm, host: who} }

// report names a host; from is who contacted it first, zero for the first of
// the chain. sure says that it both was contacted and swept.
func (w *wormWatch) report(who address, q *sought, from address, sure bool) {
	targets := float64(q.count)
	r := report{
		key: wormKey(who), state: StateFiring, first: q.first, owner: w, host: who, origin: from,
		victims: q.targets[:min(q.count, wormServices)], proto: flow.ProtoTCP, port: uint16(q.service),
		score: 0.97, confidence: 0.95, sequential: true, records: int64(q.count),
		evidence: []Evidence{{"new_targets_of_service", targets, 0, 0.5}, {"hops_from_first", float64(w.hops(from, q.service)), 0, 0.5}},
	}
	r.limits = []Limit{{"new_targets_of_service", 0}} // it would be a sweep, and no more
	if from == (address{}) {
		r.limits[0].Value = wormTargets - 1
	}
	if !sure {
		r.score, r.severity, r.sequential = 0.9, SeverityMedium, false
	}
	w.e.ledger.report(&r)
}

// hops counts the hosts between the first of a chain and the one that a host
// contacted.
func (w *wormWatch) hops(from address, service uint64) int {
	n := 0
	for ; n < wormDepth && from != (address{}); n++ {
		_, s := w.hosts.Find(from)
		if s == nil {
			return n + 1
		}
		i := slices.IndexFunc(s.sought[:], func(q sought) bool { return q.service == service })
		if i < 0 {
			return n + 1
		}
		from, _ = s.before(&s.sought[i])
	}
	return n
}

// selfPropagating reports whether worms have spread by a service without a
// user's help: Windows RPC, NetBIOS, SMB and RDP (Blaster, Conficker, WannaCry,
// BlueKeep), telnet and what else Mirai and its kin tried (Antonakakis et al.,
// USENIX Security 2017, section 3), databases (Slammer's kin, Kinsing).
func selfPropagating(service uint64) bool {
	if service>>16 != uint64(flow.ProtoTCP) {
		return false
	}
	switch uint16(service) {
	case 135, 139, 445, 3389, // Windows
		23, 2323, 5555, 7547, 37215, 52869, // devices
		1433, 2375, 6379:
		return true
	}
	return false
}
