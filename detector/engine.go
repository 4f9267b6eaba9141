package detector

import (
	"math"
	"math/rand/v2"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Engine turns records into findings. It belongs to one goroutine; nothing in
// it reads a clock, so that the same records and the same calls of Advance
// give the same findings.
type Engine struct {
	cfg   Config
	clock clock
	// due is when the next deadline passes, so that Observe can tell with
	// one comparison that none has.
	due       int64
	exporters exporters
	hosts     *bounded.Table[address, host]
	scan      *scanWatch
	datagrams *udpWatch
	worm      *wormWatch
	arp       *arpWatch
	links     *linkWatch
	flood     *floodWatch
	reflect   *reflectWatch
	edges     *edgeWatch
	thin      thinning
	windows   *windowWatch
	familiar  *familiar
	anomaly   *anomalyWatch
	sensors   sensors
	policy    *policyWatch
	plant     *plantWatch
	ledger    *ledger
	keys      keys
	recent    recent
	current   *flow.Record // being observed, nil while time passes
	stats     Stats
}

// New returns an engine, or what is wrong with its configuration.
func New(cfg Config) (*Engine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	seed := cfg.Seed
	for seed == 0 {
		seed = rand.Uint64()
	}
	e := &Engine{cfg: cfg, due: math.MaxInt64, keys: newKeys(seed), thin: thinning{keep: 1, state: seed | 1}}
	e.hosts = bounded.New[address](cfg.Limit.Hosts, func(h *host) int64 { return h.worth(e.clock.now) })
	e.scan = newScanWatch(e)
	e.datagrams = newUDPWatch(e)
	e.worm = newWormWatch(e)
	e.arp = newARPWatch(e)
	e.links = newLinkWatch(e)
	e.flood = newFloodWatch(e)
	e.reflect = newReflectWatch(e)
	e.ledger = newLedger(e)
	e.policy = newPolicyWatch(e)
	e.plant = newPlantWatch(e)
	e.edges = newEdgeWatch(e)
	e.familiar = newFamiliar(e)
	e.windows = newWindowWatch(e)
	var err error
	if e.anomaly, err = newAnomalyWatch(e); err != nil {
		return nil, err
	}
	e.sensors = newSensors(e)
	return e, nil
}

// Observe takes a batch of records. The batch is not kept.
func (e *Engine) Observe(batch []flow.Record) {
	for i := range batch {
		e.current = &batch[i]
		e.observe(e.current)
		e.recent.keep(e.current)
	}
	e.current = nil
}

// Advance tells the time when no record does: replies that did not come are
// missed, credit fades, findings resolve. Live it is called every few
// milliseconds, in replay with recorded time (Unix nanoseconds).
func (e *Engine) Advance(now int64) {
	e.clock.tick(now)
	if e.clock.now >= e.due {
		e.expire()
	}
	e.ledger.expire(e.clock.now)
}

// Active returns the findings that are not resolved, oldest first.
func (e *Engine) Active() []Finding { return e.ledger.snapshots() }

// Stats returns the counters.
func (e *Engine) Stats() Stats {
	s := e.stats
	s.ClockSteps = e.clock.steps
	s.HostsTracked, s.ContactsTracked = e.hosts.Len(), e.scan.contacts.Len()
	s.ContactsPending = e.scan.packets.len() + e.scan.flows.len()
	s.Suspects, s.Stations = e.scan.suspects.Len(), e.arp.stations.Len()
	s.Cells, s.Active = e.flood.cells.Len(), len(e.ledger.byKey)
	s.Edges, s.Windows = e.edges.table.Len(), e.windows.table.Len()
	s.Baselines, s.CalibratedHours, s.NeededHours = e.anomaly.hosts.Len(), e.anomaly.hours(), e.anomaly.needed()
	s.Shed += e.hosts.Rejected() + e.scan.contacts.Rejected() + e.scan.suspects.Rejected() +
		e.arp.stations.Rejected() + e.flood.cells.Rejected() +
		e.flood.sessions.table.Rejected() + e.reflect.table.Rejected() + e.edges.table.Rejected() + e.windows.table.Rejected()
	s.Evicted = e.hosts.Evicted() + e.scan.contacts.Evicted() + e.scan.suspects.Evicted() +
		e.arp.stations.Evicted() + e.flood.cells.Evicted() +
		e.flood.sessions.table.Evicted() + e.reflect.table.Evicted() + e.edges.table.Evicted() + e.windows.table.Evicted()
	s.Shed += e.links.rejected()
	s.Evicted += e.links.evicted()
	s.Circles = e.familiar.circles.Len()
	s.Shed += e.familiar.circles.Rejected()
	s.Evicted += e.familiar.circles.Evicted()
	s.Shed += e.anomaly.hosts.Rejected()
	s.Evicted += e.anomaly.hosts.Evicted()
	return s
}

func (e *Engine) observe(r *flow.Record) {
	e.stats.Records++
	e.clock.record(r.Time)
	if e.clock.now >= e.due {
		e.expire()
	}
	if r.Signal == flow.SignalLogged {
		return // other telemetry tells of it
	}
	if r.Signal == flow.SignalForged {
		e.links.guarded(r)
		return // nothing that it says is to be learned
	}
	if r.Signal != flow.SignalDropped {
		e.links.observe(r)
	}
	if r.Source == flow.SourceCopy {
		return // other telemetry tells all else of it
	}
	switch r.Signal {
	case flow.SignalARPRequest:
		e.arp.request(r)
		return
	case flow.SignalARPReply:
		e.arp.reply(r)
		return
	case flow.SignalDropped:
		if !e.ledger.dropped(r) {
			e.policy.dropped(r)
		}
		return
	}
	if !r.Src.IsValid() || !r.Dst.IsValid() {
		return
	}
	e.conversation(r, addressOf(r.Src), addressOf(r.Dst))
}

// conversation handles the signals that need both ends.
func (e *Engine) conversation(r *flow.Record, src, dst address) {
	look := r // what edges are told of
	if thinned(r) {
		e.thin.observe(e.clock.now)
		if look = e.thin.take(r); look == nil {
			e.stats.Thinned++
			if r.Signal == flow.SignalNone {
				return
			}
		}
		if r.Signal == flow.SignalNone {
			r = look
		}
	}
	if _, h := e.hosts.Find(src); h == nil || !h.proven && e.clock.now-h.born < novelty {
		e.arp.provoke(r)
	}
	flooding := false
	switch r.Signal {
	case flow.SignalAttempt:
		flooding = e.attempt(r, src, dst)
	case flow.SignalAccept:
		e.accept(r, src, dst)
	case flow.SignalRefuse:
		e.flood.reset(r, src, dst)
		e.scan.refused(r, src, dst)
	case flow.SignalUnreachable:
		e.flood.unanswerable(r, src, dst)
		e.scan.unreachable(r, src, dst)
		e.edges.unreachable(r)
		return
	case flow.SignalSilence:
		e.silence(r, src, dst)
	case flow.SignalUDP:
		flooding = e.udp(r, src, dst)
	case flow.SignalICMP:
		flooding = e.icmp(r, src, dst)
	case flow.SignalProbe:
		if e.flood.segment(r, src, dst) == calm {
			e.scan.probed(r, src, dst)
		}
		return // part of no conversation
	case flow.SignalFinish:
		flooding = e.finish(r, src, dst)
	case flow.SignalNone:
		flooding = e.data(r, src, dst)
	}
	if !flooding && look != nil && !e.forged(r, src) { // what floods are made of is no conversation
		e.edges.observe(look, src, dst)
	}
}

// attempt is a TCP SYN or, in logs, the first direction of any connection. It
// returns true when the record is taken for part of a flood.
func (e *Engine) attempt(r *flow.Record, src, dst address) (flooding bool) {
	e.stats.Attempts++
	switch r.Proto {
	case flow.ProtoUDP:
		flooding = e.volume(r, src, dst, classUDP) == alarmed
		e.datagrams.datagram(r, src, dst)
		e.contact(r, src, dst)
	case flow.ProtoICMP, flow.ProtoICMPv6:
		flooding = e.volume(r, src, dst, classICMP) == alarmed
		if isEchoRequest(r) {
			e.contact(r, src, dst)
		}
	case flow.ProtoTCP:
		flooding = e.syn(r, src, dst)
	}
	return flooding
}

// syn feeds the SYN flood test, then, unless the victim is being flooded from
// sources nobody has heard of, the random walk.
func (e *Engine) syn(r *flow.Record, src, dst address) (flooding bool) {
	_, h := e.hosts.Find(src)
	newcomer := h == nil || h.contacts == 0
	trusted := e.flood.trusted(h)
	level := e.flood.syn(r, src, dst, trusted)
	if newcomer && level == alarmed {
		e.stats.Gated++
		return true
	}
	if _, h = e.source(r, src); h != nil && !trusted && h.unproven < math.MaxUint16 {
		h.unproven++ // taken back should it prove to be real
	}
	if newcomer && level != calm {
		e.stats.Gated++
		return true
	}
	e.flood.opened(r, src, dst)
	e.contact(r, src, dst)
	return false
}

// contact opens a first contact if the record may prove one.
func (e *Engine) contact(r *flow.Record, src, dst address) {
	if r.Rate > 1 {
		e.scan.goesOn(r, src)
	}
	if !e.scan.eligible(r, src, dst) {
		e.persists(r, src)
		return
	}
	i, h := e.source(r, src)
	if h == nil || e.astray(h, r) || e.forged(r, src) {
		return
	}
	e.scan.open(r, i, h, contactKeyOf(src, dst, r.DstPort, r.Proto))
}

// persists keeps the findings of a scanner alive by attempts that a tap thinned
// for it shows: too few to judge their answers, but it goes on.
func (e *Engine) persists(r *flow.Record, src address) {
	if r.Source != flow.SourceTap || r.Rate <= 1 {
		return
	}
	if _, h := e.hosts.Find(src); h != nil && h.firing > 0 {
		e.ledger.dropped(r)
	}
}

// accept is a SYN+ACK or, in logs, the answering direction of a connection.
func (e *Engine) accept(r *flow.Record, src, dst address) {
	if r.Source == flow.SourceLog {
		switch r.Proto {
		case flow.ProtoUDP:
			e.volume(r, src, dst, classUDP)
			e.datagrams.answer(src, dst)
		case flow.ProtoICMP, flow.ProtoICMPv6:
			e.volume(r, src, dst, classICMP)
		case flow.ProtoTCP:
			// A log only says so when the connection was established.
			e.flood.finished(r, dst, src)
		}
	} else if _, h := e.source(r, src); h != nil {
		e.prove(h, r)
	}
	e.flood.opened(r, src, dst)
	e.scan.accepted(r, src, dst)
}

// silence is a log's statement that an attempt was not answered. Like every
// outcome it comes from the responder's side; a log that keeps the
// originator's is understood as well.
func (e *Engine) silence(r *flow.Record, src, dst address) {
	if !e.scan.unanswered(contactKeyOf(dst, src, r.SrcPort, r.Proto)) {
		e.scan.unanswered(contactKeyOf(src, dst, r.DstPort, r.Proto))
	}
}

// udp is a datagram: volume, and in unsampled telemetry an answer to a
// contact in the other direction or a contact of its own.
func (e *Engine) udp(r *flow.Record, src, dst address) (flooding bool) {
	level := e.volume(r, src, dst, classUDP)
	if level == calm {
		e.datagrams.datagram(r, src, dst)
	}
	if r.Rate > 1 {
		return level != calm
	}
	if e.scan.answered(contactKeyOf(dst, src, r.SrcPort, r.Proto)) || isReplyPort(r) {
		return level != calm
	}
	if level == calm {
		e.contact(r, src, dst)
	}
	return level != calm
}

func (e *Engine) icmp(r *flow.Record, src, dst address) (flooding bool) {
	level := e.volume(r, src, dst, classICMP)
	if r.Rate > 1 {
		return level != calm
	}
	switch {
	case isEchoReply(r):
		e.scan.answered(contactKeyOf(dst, src, 0, r.Proto))
	case isEchoRequest(r) && level == calm:
		e.contact(r, src, dst)
	}
	return level != calm
}

// finish is a FIN: its sender completed a conversation, unless it is one of
// many that belong to none.
func (e *Engine) finish(r *flow.Record, src, dst address) (flooding bool) {
	if e.flood.segment(r, src, dst) != calm {
		return true
	}
	e.flood.finished(r, src, dst)
	e.scan.finished(r, src, dst)
	return false
}

// data is traffic that neither opens nor closes: an acknowledgement shows that
// its sender exists.
func (e *Engine) data(r *flow.Record, src, dst address) (flooding bool) {
	if r.Proto != flow.ProtoTCP {
		if r.Proto == flow.ProtoUDP {
			e.reflect.observe(r, src, dst)
		}
		return false
	}
	switch aggregated := r.Source == flow.SourceIPFIX || r.Source == flow.SourceLog; {
	case r.TCPFlags&flow.SYN != 0:
		e.flood.opened(r, src, dst)
	case r.TCPFlags&^flow.ACK == flow.RST:
		e.flood.reset(r, src, dst)
	case r.TCPFlags == 0 && aggregated: // not told
	case e.flood.segment(r, src, dst) != calm:
		return true
	}
	if r.TCPFlags&flow.ACK == 0 || r.TCPFlags&flow.RST != 0 {
		return false
	}
	e.scan.acknowledged(r, src, dst)
	if _, h := e.source(r, src); h != nil {
		e.prove(h, r)
		h.aborts = 0
	}
	e.flood.sampled(r)
	// An aggregated flow that holds a whole conversation does not say who
	// opened it: whoever uses the higher port.
	if r.Source == flow.SourceIPFIX && r.TCPFlags&flow.SYN != 0 && r.SrcPort > r.DstPort {
		e.contact(r, src, dst)
		e.scan.answered(contactKeyOf(src, dst, r.DstPort, r.Proto))
	}
	return false
}

// volume feeds the flood test of a class, and the answers of a victim.
func (e *Engine) volume(r *flow.Record, src, dst address, c class) level {
	e.flood.answer(r, src, dst, c)
	if c == classUDP {
		switch e.reflect.observe(r, src, dst) {
		case reflected:
			e.source(r, src)
			return calm
		case forged:
			return alarmed
		case ordinary:
		}
	}
	if isEchoReply(r) && e.flood.solicited(r, src, dst, c) {
		e.source(r, src)
		return calm
	}
	level := e.flood.packets(r, src, dst, c)
	if level == calm {
		e.source(r, src) // its location finds the cell its answers belong to
	}
	return level
}

// expire lets every passed deadline take effect and finds the next.
func (e *Engine) expire() {
	now := e.clock.now
	e.due = math.MaxInt64
	due := min(e.scan.expire(now), e.arp.expire(now), e.windows.expire(now))
	for _, s := range e.sensors.times {
		due = min(due, s.expire(now))
	}
	e.due = min(e.due, due) // a sensor may have asked for an earlier time
}

// edge returns the ingress port if it says where traffic comes from, else 0.
func (e *Engine) edge(inPort uint32) uint32 {
	if inPort != 0 && e.cfg.Edge != nil && !e.cfg.Edge(inPort) {
		return 0
	}
	return inPort
}

// link reports whether a port leads to another switch.
func (e *Engine) link(inPort uint32) bool { return inPort != 0 && e.edge(inPort) == 0 }

// inside reports whether an address is of the network that is guarded.
func (e *Engine) inside(a address) bool {
	if e.cfg.Inside != nil {
		return e.cfg.Inside(a.netip())
	}
	return a.private()
}
