package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// spoofing is the evidence that a station sends from addresses that are not
// its own (RFC 2827, RFC 7039).
type spoofing struct {
	began, last int64
	// others counts packets from addresses that live elsewhere on the link,
	// distinct the addresses that nobody on the link has.
	others   float64
	distinct sketch64
	packets  uint32
	victim   address
}

const (
	// spoofedOthers is how many packets from another's address decide,
	// spoofedDistinct how many different addresses of nobody's.
	spoofedOthers   = 6
	spoofedDistinct = 12
	// forgesFrom is how many of them make what a station sends from one more
	// no evidence against the address.
	forgesFrom = 4
	// spoofLeak forgives packets from another's address, per second.
	spoofLeak = 0.05
	// spoofIdle ends an episode.
	spoofIdle = int64(600e9)
)

// spoofed looks at the source of what begins a conversation. Answers are left
// out: servers behind a load balancer answer for its address (direct server
// return). A station that others send foreign packets to is a router and may
// send from any address.
func (w *linkWatch) spoofed(r *flow.Record, n *neighbour, src address) {
	if n.routed != 0 || !begins(r) || !n.ownsOther(src) || !src.unicast() || src.linkLocal() {
		return
	}
	now := w.e.clock.now
	x := &n.spoof
	if x.packets == 0 || now-x.last > spoofIdle {
		*x = spoofing{began: now, last: now}
	}
	x.others = math.Max(x.others-spoofLeak*float64(now-x.last)/1e9, 0)
	x.last = now
	_, b := w.bindings.Find(bindingKey{src, r.VLAN, w.e.exporters.number(r.Exporter)})
	switch {
	case b == nil:
		x.distinct.add(w.e.hash(src.hi ^ mix(src.lo)))
	case b.mac == r.SrcMAC || b.pair == r.SrcMAC || now-b.since < settling:
		return
	default:
		x.others++
		x.victim = src
	}
	x.packets++
	if x.others >= spoofedOthers || x.distinct.estimate() >= spoofedDistinct {
		w.raiseIPSpoof(r, n)
	}
}

// forged reports whether an address that a record comes from is one of several
// that nobody on the link has, sent by a station that has its own: whom a scan
// among decoys would have accused. The station is found by its own address, as
// who scans must see answers.
func (w *linkWatch) forged(r *flow.Record, src address) bool {
	exporter := w.e.exporters.number(r.Exporter)
	n := w.find(r.SrcMAC, exporter)
	if n == nil || n.spoof.packets < forgesFrom || n.routed != 0 || !n.ownsOther(src) || w.e.clock.now-n.spoof.last > spoofIdle {
		return false
	}
	_, b := w.bindings.Find(bindingKey{src, r.VLAN, exporter})
	return b == nil && n.spoof.distinct.estimate() >= forgesFrom
}

// forged reports whether a packet opens a conversation in the name of a host
// that, as far as is known, does not exist.
func (e *Engine) forged(r *flow.Record, src address) bool {
	if !begins(r) {
		return false
	}
	_, h := e.hosts.Find(src)
	return (h == nil || !h.proven) && e.links.forged(r, src)
}

// begins reports whether a packet opens a conversation.
func begins(r *flow.Record) bool {
	switch r.Signal {
	case flow.SignalAttempt:
		return true
	case flow.SignalICMP:
		return isEchoRequest(r)
	case flow.SignalUDP:
		return r.DstPort < ephemeral && clientSide(r) > 0
	}
	return false
}

// linkLocal reports whether an address is one of a link (RFC 3927, RFC 4291).
func (a address) linkLocal() bool {
	if a.is4() {
		return uint32(a.lo)>>16 == 169<<8|254
	}
	return a.hi>>54 == 0xfe80>>6
}

func (w *linkWatch) raiseIPSpoof(r *flow.Record, n *neighbour) {
	x := &n.spoof
	exporter := w.e.exporters.number(r.Exporter)
	distinct := x.distinct.estimate()
	rep := report{
		key:   findingKey{kind: KindIPSpoof, mac: r.SrcMAC, exporter: exporter},
		state: StateFiring, first: x.began, owner: w, host: n.name(), mac: r.SrcMAC, exporter: exporter, inPort: r.InPort,
		score: 0.96, confidence: 0.95, records: int64(x.packets),
		evidence: []Evidence{
			{"packets_from_addresses_of_others", x.others, 0, share(x.others, distinct)},
			{"addresses_of_nobody_here", distinct, 0, share(distinct, x.others)},
		},
	}
	if x.others >= spoofedOthers {
		rep.limits = append(rep.limits, Limit{"packets_from_addresses_of_others", spoofedOthers - 1})
	}
	if distinct >= spoofedDistinct {
		rep.limits = append(rep.limits, Limit{"addresses_of_nobody_here", spoofedDistinct - 1})
	}
	if x.victim != (address{}) {
		rep.victims = []address{x.victim}
	}
	w.e.ledger.report(&rep)
}
