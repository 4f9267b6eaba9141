package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	// dripRatio is how much more goes out than comes back, per check-in at
	// least dripBytes, when a rhythm carries data away; dripWeight what that
	// weighs.
	dripRatio, dripBytes, dripWeight = 1.3, 1 << 10, 2.5
	// rhythmDecides is the evidence, in nats, from which intervals are
	// regular; see regularityOf for what chance gives.
	rhythmDecides = 10.5
	// wide is the jitter from which more evidence is asked for, wideCost how
	// much: what people do is that regular now and then.
	wide, wideCost = 0.25, 8
	// fewestCheckIns is how many intervals are waited for at least, because
	// a few equal ones are soon found.
	fewestCheckIns = 7
	// timer is the jitter up to which intervals are made by a clock that
	// nobody disturbs.
	timer = 0.04
	// hasty is the period in seconds below which honest clients keep their
	// connection.
	hasty = 120
	// content is how much comes back per check-in, in bytes, when it is
	// fetched for its own sake.
	content = 96 << 10
	// beaconFires and beaconMedium are the least scores of a finding and of
	// one of medium severity.
	beaconFires, beaconMedium = 0.6, 0.8
)

// beaconWatch finds hosts that call home: a client that turns to one service
// at intervals too regular for people and chance, after Hubballi and Goyal,
// FlowSummary (PReMI 2013), and the open source tool RITA in that the middle
// of the distribution of intervals decides, so that a few strays do not hide
// it. Regular clients are mostly honest, so that regularity is only the
// beginning: what is asked by its nature at intervals is left alone, and the
// rest is weighed by how deliberate the jitter looks, whether the service is a
// known one, who else uses it, where it is and what is exchanged.
type beaconWatch struct {
	e      *Engine
	weight weighing
}

func newBeaconWatch(e *Engine) *beaconWatch { return &beaconWatch{e: e} }

// resolved implements sensor: the client has to be regular anew.
func (w *beaconWatch) resolved(k findingKey) {
	if _, x := w.e.edges.table.Find(contactKey{k.host, k.peer, k.service}); x != nil {
		x.rhythm = rhythm{}
	}
}

// edge implements edgeSensor.
func (w *beaconWatch) edge(ev *edgeEvent) {
	if !speaks(ev) {
		return
	}
	y := &ev.edge.rhythm
	if !y.note(ev.now) || y.count < fewestCheckIns || !y.plausible() || !w.concerns(ev) {
		return
	}
	if g := y.judge(); g.evidence >= needed(g) {
		w.weigh(ev, g)
	}
}

// needed is the evidence from which intervals count as regular.
func needed(g regularity) float64 { return rhythmDecides + wideCost*max(g.jitter-wide, 0) }

// speaks reports that the client turned to the server by itself: it began a
// conversation or, where every packet is seen, sent something in one. A
// sampled packet says nothing about when there were others.
func speaks(ev *edgeEvent) bool {
	switch ev.what {
	case edgeOpened:
		return true
	case edgeTraffic:
		return ev.up && ev.r.Source == flow.SourcePacket &&
			(ev.r.Proto == flow.ProtoTCP && ev.r.TCPFlags&flow.PSH != 0)
	case edgeAccepted, edgeFailed, edgeClosed:
	}
	return false
}

// concerns reports whether an edge can be a call home at all.
func (w *beaconWatch) concerns(ev *edgeEvent) bool {
	k := ev.key
	if habitOf(k) == habitClock || k.dst.looksBroadcast() {
		return false
	}
	return w.e.inside(k.src) || !w.e.inside(k.dst) // else it comes from outside
}

// weigh decides whether a regular client calls home, or lets data drip away.
func (w *beaconWatch) weigh(ev *edgeEvent, g regularity) {
	x := ev.edge
	kind, v := KindBeacon, w.beacons(ev, g)
	score := v.score()
	if drips(x) {
		kind, v = KindExfiltration, w.dripping(ev, g)
		// It is of another family than a beacon, but decided by the same
		// intervals: it must not corroborate one.
		score = min(v.score(), corroborating-0.01)
	}
	if score < beaconFires {
		return
	}
	r := report{
		key:   findingKey{kind: kind, host: ev.key.src, peer: ev.key.dst, service: ev.key.service},
		state: StateFiring, first: x.first, owner: w, host: ev.key.src, victims: []address{ev.key.dst},
		proto: ev.key.proto(), port: ev.key.port(), score: score, confidence: confidenceOf(g),
		severity: SeverityLow, evidence: v.evidence(), records: int64(x.rhythm.count) + 1,
		technique: techniqueOf(kind, ev.key), limits: []Limit{{"interval_regularity_nats", needed(g)}},
	}
	if score >= beaconMedium {
		r.severity = SeverityMedium
	}
	w.e.ledger.report(&r)
}

// confidenceOf says how sure it is that the intervals are regular.
func confidenceOf(g regularity) float64 { return 1 - math.Exp(-g.evidence/3) }

// techniqueOf names the ATT&CK technique.
func techniqueOf(kind Kind, k contactKey) string {
	switch {
	case kind == KindExfiltration:
		return "T1030"
	case k.port() == 443 || k.port() == 8443:
		return "T1573.002"
	case habitOf(k) == habitUnknown:
		return "T1571"
	}
	return ""
}

// beacons weighs a regular client. The weights are judgements, not learned:
// labelled sets with enough honest regular clients to learn them from are rare,
// and each is of one network.
func (w *beaconWatch) beacons(ev *edgeEvent, g regularity) *weighing {
	x, u, h := ev.edge, w.e.familiar.usage(ev.key), habitOf(ev.key)
	v := w.weight.begin(-3) // most regular clients are honest
	v.add("interval_regularity_nats", g.evidence, rhythmDecides, min((g.evidence-rhythmDecides)/20, 0.5))
	inside, answered := w.e.inside(ev.key.dst), x.accepts > 0 || x.down.samples > 0
	switch {
	case g.jitter > timer: // too wide for a clock, too narrow for people
		v.add("interval_jitter", g.jitter, timer, 3)
	case inside: // machines that work together are regular
		v.add("interval_jitter", g.jitter, timer, -2)
	case g.period <= hasty && 2*int(x.opens) > int(x.rhythm.count):
		v.add("check_ins_per_hour", 3600/g.period, 3600/hasty, 2.5)
	}
	switch h {
	case habitUnknown:
		v.add("unusual_ports", 1, 0, 2.5)
	case habitAltWeb:
		v.add("unusual_ports", 1, 0, 1)
	case habitPerson:
		v.add("interactive_ports", 1, 0, -1)
	case habitWeb, habitClock:
	}
	if ev.key.proto() == flow.ProtoUDP {
		v.add("datagram_services", 1, 0, -1.5) // keep-alives of calls, games, tunnels
	}
	if !inside {
		v.add("servers_outside", 1, 0, 1)
	}
	u.weigh(v, h == habitWeb && !inside)
	if !answered {
		v.add("unanswered_check_ins", float64(x.fails), 0, 1)
	}
	if down := x.exchanged().down / float64(max(x.opens, 1)); down > content {
		v.add("bytes_fetched", down, content, -2)
	}
	return v
}

// drips reports that what a client does regularly is to upload.
func drips(x *edge) bool {
	v := x.exchanged()
	return v.known && v.down > 0 && v.ratio() >= dripRatio && v.up >= dripBytes*float64(max(v.conversations, 1))
}

// dripping weighs a client that uploads at intervals. Machines report by the
// clock, but many to one place, which has been there before.
func (w *beaconWatch) dripping(ev *edgeEvent, g regularity) *weighing {
	u, h, inside := w.e.familiar.usage(ev.key), habitOf(ev.key), w.e.inside(ev.key.dst)
	v := w.weight.begin(-3)
	v.add("interval_regularity_nats", g.evidence, rhythmDecides, min((g.evidence-rhythmDecides)/20, 0.5))
	v.add("upload_ratio", ev.edge.exchanged().ratio(), 1, dripWeight)
	if g.jitter > timer {
		v.add("interval_jitter", g.jitter, timer, 1)
	}
	if h == habitUnknown {
		v.add("unusual_ports", 1, 0, 1)
	}
	if !inside {
		v.add("servers_outside", 1, 0, 1)
	} else if u.news && u.age < int64(w.e.cfg.Exfil.Young) {
		v.add("service_age_seconds", float64(u.age)/1e9, w.e.cfg.Exfil.Young.Seconds(), 1.5)
	}
	u.weigh(v, h == habitWeb && !inside)
	return v
}
