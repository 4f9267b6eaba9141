package detector

import (
	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// edge is what is remembered of a client that talks to a service of a server:
// everything that any telemetry tells, not first contacts only. Counters
// saturate nowhere near their limits within an edge's life.
type edge struct {
	first, last int64 // first and latest record
	opened      int64 // latest conversation that the client began
	opens       uint32
	accepts     uint32
	fails       uint32
	closes      uint32
	clientPort  uint16 // of the latest conversation
	asked       bool   // the client was seen to say something
	// client and server are slots of windowWatch, to be verified by key.
	client, server uint32
	up, down       volume
	login          loginEdge
	lateral        lateralEdge
	policy         policyEdge
	plant          plantEdge
	rhythm         rhythm
	progress       progress
	upload         upload
}

// volume is what went one way, scaled by the sampling rate.
type volume struct {
	packets, bytes float64
	samples        uint32 // records that say so
}

func (v *volume) add(r *flow.Record) {
	v.packets += r.ScaledPackets()
	v.bytes += r.ScaledBytes()
	v.samples++
}

// worth orders edges for eviction: those that were answered and come back
// before those that were answered once, and both before attempts.
func (x *edge) worth(now int64) int64 {
	class := int64(0)
	switch {
	case now-x.last > hostIdle:
	case x.answered() && x.opens >= 4:
		class = 2
	case x.answered():
		class = 1
	}
	return rank(class, x.last)
}

// answered reports whether the server ever said anything but no.
func (x *edge) answered() bool { return x.accepts > 0 || x.down.samples > 0 && x.fails == 0 }

// edgePhase is what happened on an edge.
type edgePhase uint8

const (
	edgeOpened   edgePhase = iota // the client began a conversation (seen in full, not sampled)
	edgeAccepted                  // the server accepted it
	edgeFailed                    // it was refused, unreachable or, in logs, not answered
	edgeClosed                    // one side ended it
	edgeTraffic                   // packets of either side, sampled or aggregated
)

// edgeEvent tells sensors of one record on an edge. It is reused: copy what
// is to be kept.
type edgeEvent struct {
	what  edgePhase
	key   contactKey // src is the client, dst the server
	edge  *edge
	r     *flow.Record
	up    bool // the record is of the client's direction
	fresh bool // the first that is known of the edge
	again bool // edgeOpened: a conversation more, after earlier ones
	now   int64
}

const (
	// redial is how long a client port is taken for the same conversation:
	// its retransmissions, or the same packet told by another telemetry.
	redial = int64(8e9)
	// datagramGap is the silence after which datagrams of the same port
	// begin another conversation.
	datagramGap = int64(10e9)
)

// edgeWatch turns records into events on edges.
type edgeWatch struct {
	e     *Engine
	table *bounded.Table[contactKey, edge]
	event edgeEvent
}

func newEdgeWatch(e *Engine) *edgeWatch {
	w := &edgeWatch{e: e}
	w.table = bounded.New[contactKey](e.cfg.Limit.Edges, func(x *edge) int64 { return x.worth(e.clock.now) })
	return w
}

// observe finds the edge that a record is on and tells the sensors. Records
// that do not say who is the client are told by the edges that are known, and
// else by the ports.
func (w *edgeWatch) observe(r *flow.Record, src, dst address) {
	if !src.unicast() || !dst.unicast() {
		return
	}
	what, up, sure := phaseOf(r)
	k, other := contactKeyOf(src, dst, r.DstPort, r.Proto), contactKeyOf(dst, src, r.SrcPort, r.Proto)
	if !up || !sure && clientSide(r) < 0 { // the likelier one first
		k, other, up = other, k, false
	}
	_, x := w.table.Find(k)
	if x == nil && !sure {
		if _, x = w.table.Find(other); x != nil {
			k, up = other, !up
		} else if clientSide(r) == 0 {
			return
		}
	}
	fresh := x == nil
	if fresh {
		if what != edgeOpened && what != edgeTraffic {
			return // it answers or ends something that nobody saw
		}
		if _, x, _ = w.table.Put(k, rank(0, w.e.clock.now)); x == nil {
			return
		}
		x.first = w.e.clock.now
	}
	w.tell(what, k, x, r, up, fresh)
}

// unreachable handles an ICMP error that quotes what it answers. From the tap,
// which does not see the quotation, nothing is learned here.
func (w *edgeWatch) unreachable(r *flow.Record) {
	t := r.Inner
	if !t.Valid() {
		return
	}
	k := contactKeyOf(addressOf(t.Src), addressOf(t.Dst), t.DstPort, t.Proto)
	if _, x := w.table.Find(k); x != nil {
		w.tell(edgeFailed, k, x, r, false, false)
	}
}

// phaseOf says what a record means for its edge; up that it was sent by the
// client, sure that this is known for certain.
func phaseOf(r *flow.Record) (what edgePhase, up, sure bool) {
	switch r.Signal {
	case flow.SignalAttempt:
		return edgeOpened, true, true
	case flow.SignalAccept:
		return edgeAccepted, false, true
	case flow.SignalSilence:
		return edgeFailed, false, true
	case flow.SignalRefuse:
		return edgeFailed, false, false
	case flow.SignalFinish:
		return edgeClosed, true, false
	case flow.SignalICMP:
		switch {
		case isEchoRequest(r):
			return edgeOpened, true, true
		case isEchoReply(r):
			return edgeAccepted, false, true
		}
	case flow.SignalUDP:
		if r.Source == flow.SourceLog || r.Rate <= 1 {
			return edgeOpened, true, false
		}
	case flow.SignalNone:
		if r.Source == flow.SourceIPFIX && r.TCPFlags&flow.SYN != 0 && r.SrcPort > r.DstPort {
			return edgeOpened, true, true
		}
	}
	return edgeTraffic, true, false
}

// clientSide guesses by the ports whether a record was sent by the client (1)
// or by the server (-1); 0 when the ports do not tell.
func clientSide(r *flow.Record) int {
	switch {
	case r.Proto == flow.ProtoICMP || r.Proto == flow.ProtoICMPv6:
		return 0
	case r.SrcPort == r.DstPort:
		return 1
	case r.DstPort < 1024 && r.SrcPort >= 1024, r.DstPort < ephemeral && r.SrcPort >= ephemeral:
		return 1
	case r.SrcPort < 1024 && r.DstPort >= 1024, r.SrcPort < ephemeral && r.DstPort >= ephemeral:
		return -1
	case r.DstPort < r.SrcPort:
		return 1
	}
	return -1
}

// tell updates an edge and calls the sensors.
func (w *edgeWatch) tell(what edgePhase, k contactKey, x *edge, r *flow.Record, up, fresh bool) {
	now := w.e.clock.now
	ev := &w.event
	*ev = edgeEvent{what: what, key: k, edge: x, r: r, up: up, fresh: fresh, now: now}
	switch what {
	case edgeOpened:
		switch {
		case !up:
			ev.what = edgeTraffic // a datagram that answers
		case !x.begins(r, now), r.Rate > 1:
			ev.what = edgeTraffic
		default:
			ev.again = x.opens > 0
			x.opens++
			x.opened, x.clientPort = now, r.SrcPort
		}
	case edgeAccepted:
		x.accepts++
	case edgeFailed:
		if up {
			ev.what = edgeClosed // a reset by the client
			x.closes++
		} else if x.accepts >= x.opens && x.opens > 0 {
			ev.what = edgeClosed // a reset of what had been accepted
			x.closes++
		} else {
			x.fails++
		}
	case edgeClosed:
		x.closes++
	case edgeTraffic:
	}
	x.progress.observe(r, up)
	if fresh {
		w.e.familiar.asked(k)
	}
	if !up && what != edgeFailed && !x.progress.answered {
		x.progress.answered = true
		w.e.familiar.answered(k)
	}
	// The tap's packets are also in the samples; only where both cannot be is
	// its volume counted.
	if r.Source != flow.SourceTap {
		if up {
			x.up.add(r)
		} else {
			x.down.add(r)
		}
	}
	x.asked = x.asked || up
	x.last = now
	w.e.windows.observe(ev)
	for _, s := range w.e.sensors.edges {
		s.edge(ev)
	}
}

// begins reports whether an opening record begins a conversation that was not
// told of before.
func (x *edge) begins(r *flow.Record, now int64) bool {
	if x.opens == 0 || r.Source == flow.SourceLog || r.SrcPort != x.clientPort {
		return true
	}
	if r.Proto == flow.ProtoUDP {
		return now-x.last > datagramGap
	}
	return now-x.opened > redial
}
