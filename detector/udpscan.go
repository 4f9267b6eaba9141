package detector

import (
	"math"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// udpWindow is how long the ports that a host asked another for are
	// counted together.
	udpWindow = int64(time.Minute)
	// udpPace is how long a rate is averaged over.
	udpPace = int64(10 * time.Second)
	// Distinct ports that decide: udpRefused where at least udpErrors port
	// unreachables came back, as many as the random walk takes failures;
	// udpSilent where nothing did. Of a conversation at least every third
	// packet is an answer, so that by chance none of 24 samples is with
	// probability (2/3)^24, below 1e-4.
	udpRefused, udpErrors, udpSilent = 4, 3, 24
	// udpHigh multiplies them for ports that hosts take for themselves:
	// answers to questions sent to a group go there, from port to port.
	udpHigh = 2
	// traceroute counts its probes in the port, from 33434 on (Jacobson,
	// 1988): 255 hops at three probes are more than anyone asks for.
	tracerouteFrom, tracerouteTo = 33434, 33434 + 3*255
)

// udpWatch finds hosts that go over the UDP ports of another where the random
// walk cannot: in sampled telemetry, where a datagram without an answer in sight
// proves nothing but many to ever new ports do, and on high ports. The tap adds
// all port unreachables (RFC 792; RFC 1122, section 3.2.2.1), of which a Linux
// host sends six at once and then one a second (icmp_ratelimit).
//
// A stream, a call or a transfer sends many datagrams per port; a scan's samples
// hardly ever meet a port twice. A server answers to ever new ports of a client,
// but is asked as often.
type udpWatch struct {
	e     *Engine
	pairs *bounded.Table[pairKey, udpPair]
}

type pairKey struct{ src, dst address }

// udpPair is what one host sent another within a window.
type udpPair struct {
	since, last int64
	ports       [udpHigh * udpSilent]uint16 // asked for, the first of them
	distinct    uint32
	high        uint32 // of these, ephemeral ones
	sent        uint32 // datagrams seen
	answers     uint32 // datagrams seen the other way
	errors      uint32 // port unreachables that came back
	// tapped and sampled are datagrams since measured, by estimate of the tap
	// and of sFlow.
	tapped, sampled float64
	measured        int64
}

func (p *udpPair) worth(now int64) int64 {
	class := int64(0)
	if p.distinct >= 2 && now-p.last < udpWindow {
		class = int64(min(p.distinct, 4))
	}
	return rank(class, p.last)
}

func newUDPWatch(e *Engine) *udpWatch {
	w := &udpWatch{e: e}
	w.pairs = bounded.New[pairKey](e.cfg.Limit.Suspects, func(p *udpPair) int64 { return p.worth(e.clock.now) })
	return w
}

func (w *udpWatch) pair(k pairKey) *udpPair {
	now := w.e.clock.now
	_, p, fresh := w.pairs.Put(k, rank(0, now))
	if p == nil {
		return nil
	}
	if fresh || now-p.since > udpWindow {
		*p = udpPair{since: now}
	}
	if p.sent == 0 && p.errors == 0 {
		p.since = now
	}
	p.last = now
	return p
}

// datagram notes a datagram that is no part of a flood.
func (w *udpWatch) datagram(r *flow.Record, src, dst address) {
	if !src.unicast() || !dst.unicast() || src == dst || group(r.DstMAC) || dst.looksBroadcast() {
		return
	}
	w.answer(src, dst)
	if r.Rate <= 1 && r.DstPort < ephemeral {
		return // the random walk's
	}
	if _, x := w.e.edges.table.Find(contactKeyOf(dst, src, r.SrcPort, r.Proto)); x != nil && x.asked {
		return // it was asked, however few of the questions were sampled
	}
	k := pairKey{src, dst}
	p := w.pair(k)
	if p == nil {
		return
	}
	p.sent++
	if now := w.e.clock.now; now-p.measured > udpPace {
		p.tapped, p.sampled, p.measured = 0, 0, now
	}
	if r.Source == flow.SourceTap {
		p.tapped += r.ScaledPackets()
	} else {
		p.sampled += r.ScaledPackets()
	}
	if r.DstPort >= tracerouteFrom && r.DstPort <= tracerouteTo || r.DstPort >= ephemeral && isReplyPort(r) {
		return
	}
	if int(p.distinct) == len(p.ports) || slices.Contains(p.ports[:p.distinct], r.DstPort) {
		return
	}
	p.ports[p.distinct] = r.DstPort
	p.distinct++
	if r.DstPort >= ephemeral {
		p.high++
	}
	w.decide(k, p)
}

// answer notes that a datagram may answer those of the other direction.
func (w *udpWatch) answer(src, dst address) {
	if _, back := w.pairs.Find(pairKey{dst, src}); back != nil {
		back.answers++
	}
}

// unreachable notes that dst was told by src that nothing listens on a port.
func (w *udpWatch) unreachable(r *flow.Record, src, dst address) {
	const port4, port6 = 3, 4
	if r.Proto == flow.ProtoICMP && r.ICMPCode != port4 || r.Proto == flow.ProtoICMPv6 && r.ICMPCode != port6 {
		return
	}
	k := pairKey{dst, src}
	if p := w.pair(k); p != nil {
		p.errors++
		w.decide(k, p)
	}
}

// scanning reports whether a pair's window looks like a scan and like nothing
// else.
func (p *udpPair) scanning() bool {
	repeats := p.sent - p.distinct
	if 8*p.answers > p.sent {
		return false
	}
	refused, silent := p.thresholds()
	return p.distinct >= silent && repeats <= 1+p.distinct/16 ||
		p.distinct >= refused && p.errors >= udpErrors && repeats <= 2+p.distinct/8
}

// thresholds are how many distinct ports decide where some were refused, and where
// none was.
func (p *udpPair) thresholds() (refused, silent uint32) {
	if 2*p.high > p.distinct {
		return udpHigh * udpRefused, udpHigh * udpSilent
	}
	return udpRefused, udpSilent
}

// fewest is how many distinct ports decide.
func (p *udpPair) fewest() float64 {
	refused, silent := p.thresholds()
	if p.errors >= udpErrors {
		return float64(refused)
	}
	return float64(silent)
}

// decide reports a pair that looks like a scan. While its finding lives, every
// port more keeps it alive; what was evidence once is not used again, so that
// a finding that is over takes all of it anew.
func (w *udpWatch) decide(k pairKey, p *udpPair) {
	key := findingKey{kind: KindPortScan, host: k.src, service: uint64(flow.ProtoUDP) << 16}
	_, known := w.e.ledger.byKey[key]
	if p.distinct == 0 || !known && !p.scanning() {
		return
	}
	ports := float64(p.distinct)
	errors := min(float64(p.errors), ports)
	w.e.ledger.report(&report{
		key: key, state: StateFiring, first: p.since, owner: w, host: k.src, victims: []address{k.dst},
		proto: flow.ProtoUDP, score: 1 / (1 + math.Exp(-w.e.scan.threshold)), confidence: w.confidence(p), sequential: true,
		records: int64(p.sent + p.errors), rate: p.pace(w.e.clock.now),
		evidence: []Evidence{
			{"distinct_ports", ports, 1, ports / (ports + errors)},
			{"port_unreachables", float64(p.errors), 0, errors / (ports + errors)},
			{"answers", float64(p.answers), float64(p.sent) / 2, 0},
		},
		limits: []Limit{{"distinct_ports", p.fewest() - 1}},
	})
	*p = udpPair{since: w.e.clock.now, last: p.last, tapped: p.tapped, sampled: p.sampled, measured: p.measured}
}

// confidence is lower where nothing was refused: a host that is gone is silent
// as well.
func (w *udpWatch) confidence(p *udpPair) float64 {
	if p.errors >= udpErrors {
		return w.e.cfg.Scan.Beta
	}
	return 0.9 * w.e.cfg.Scan.Beta
}

// pace estimates the datagrams per second; the tap and sFlow see the same ones.
func (p *udpPair) pace(now int64) float64 {
	return max(p.tapped, p.sampled) / max(float64(now-p.measured)/1e9, 0.05)
}

func (*udpWatch) resolved(findingKey) {}
