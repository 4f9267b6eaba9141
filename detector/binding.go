package detector

import (
	"math"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// bindingKey names an address on a link. Link-local addresses are the same on
// every VLAN.
type bindingKey struct {
	addr     address
	vlan     uint16
	exporter uint16
}

// binding is which station has an address, by what it says in ARP (RFC 826) or
// neighbour discovery (RFC 4861), and who says otherwise. An address that moves
// from one that fell silent to another is nothing: a lease that was given
// again, a machine that was replaced, a standby that took over. Two stations
// that have it in turns while both live are (RFC 5227, section 2.4, calls it an
// address conflict).
type binding struct {
	mac          flow.MAC
	inPort       uint32
	since, shown int64 // when mac got it, and last showed that it has it
	asked        int64 // when somebody last asked for it
	former       flow.MAC

	rival, by   flow.MAC // who else claims it, and who sent that frame
	rivalPort   uint32
	rivalSince  int64
	claimed     int64 // the rival's latest claim
	claims      uint32
	unsolicited uint32
	open        bool // claimed since mac last showed itself
	rounds      uint8
	pair        flow.MAC // claimed it from the beginning: a bond
	firing      bool
	rate        float64 // of the telemetry that told of the claim
}

const (
	// conflictRounds is how often a claim and a sign of life of the holder must
	// alternate, strangerRounds how often where the claimant has no address of
	// its own and may be another interface of the same host.
	conflictRounds = 3
	strangerRounds = 8
	// A sign of life answers a claim that is not older than answerTime; a
	// conflict without claims for conflictIdle is over.
	answerTime   = int64(30e9)
	conflictIdle = int64(300e9)
	// handover is how long the holder must have been silent, while somebody
	// else claims its address, for the address to be his.
	handover = int64(30e9)
	// formerLife is how long a former holder that comes back has more right to
	// an address than who took it meanwhile.
	formerLife = int64(3600e9)
	// pairing is how long after an address was first seen a second station
	// with it may belong to the first.
	pairing = int64(10e9)
	// solicitedTime is how long a question explains an answer.
	solicitedTime = int64(2e9)
	// established is how much longer than its rival a holder must have had an
	// address for that alone to tell who is the intruder.
	established = int64(300e9)
)

// claim handles an ARP packet or a message of neighbour discovery: the sender
// says that an address is at a station.
func (w *linkWatch) claim(r *flow.Record, n *neighbour) {
	now, exporter := w.e.clock.now, w.e.exporters.number(r.Exporter)
	src, dst := addressOf(r.Src), addressOf(r.Dst)
	if r.Signal == flow.SignalARPRequest && src != dst {
		if _, b := w.bindings.Find(bindingKey{dst, r.VLAN, exporter}); b != nil {
			b.asked = now
		}
	}
	mac := r.Claim.MAC
	if mac.IsZero() || group(mac) {
		mac = r.SrcMAC
	}
	if !src.unicast() {
		return // a probe (RFC 5227) claims nothing yet
	}
	k := bindingKey{src, r.VLAN, exporter}
	_, b, fresh := w.bindings.Put(k, rank(0, now))
	switch {
	case b == nil:
	case fresh:
		b.since = now
		w.bind(b, k, mac, r.InPort)
	case mac == b.mac:
		w.shows(b, k, r)
	case mac == b.former && now-b.since < formerLife:
		b.comeBack(now)
	default:
		w.contest(b, k, mac, r, n)
	}
}

// bind gives an address to a station.
func (w *linkWatch) bind(b *binding, k bindingKey, mac flow.MAC, inPort uint32) {
	now := w.e.clock.now
	b.mac, b.inPort, b.shown = mac, inPort, now
	if n := w.find(mac, k.exporter); n != nil {
		n.has(k.addr)
	}
	w.lives(k.addr, mac, portKey{inPort, k.exporter})
}

// comeBack returns an address to a former holder: who took it meanwhile is its
// rival if it goes on.
func (b *binding) comeBack(now int64) {
	b.rival, b.by, b.rivalPort = b.mac, b.mac, b.inPort
	b.mac, b.former = b.former, flow.MAC{}
	b.rivalSince, b.shown, b.rounds, b.claims, b.unsolicited, b.open = now, now, 0, 0, 0, false
}

// used takes traffic as a sign that the holder of a contested address lives.
func (w *linkWatch) used(r *flow.Record, src address) {
	k := bindingKey{src, r.VLAN, w.e.exporters.number(r.Exporter)}
	if _, b := w.bindings.Find(k); b != nil && b.mac == r.SrcMAC {
		w.shows(b, k, r)
	}
}

// shows notes that the holder of an address showed that it has it.
func (w *linkWatch) shows(b *binding, k bindingKey, r *flow.Record) {
	now := w.e.clock.now
	b.shown, b.inPort = now, r.InPort
	if !b.open || now-b.claimed > answerTime {
		return
	}
	b.open = false
	if b.rounds < math.MaxUint8 {
		b.rounds++
	}
	w.judge(b, k)
}

// contest handles a claim to an address that is another station's.
func (w *linkWatch) contest(b *binding, k bindingKey, mac flow.MAC, r *flow.Record, n *neighbour) {
	now := w.e.clock.now
	claimant := w.find(mac, k.exporter)
	solicited := r.Signal == flow.SignalARPReply && now-b.asked < solicitedTime
	switch {
	case solicited && claimant.routes(now):
		return // proxy ARP (RFC 1027)
	case mac == b.pair && !claimant.ownsOther(k.addr):
		return
	case b.pair.IsZero() && now-b.since < pairing && !claimant.ownsOther(k.addr) && n.first-b.since < pairing:
		b.pair = mac
		return
	case mac != b.rival && b.rounds > 0 && now-b.claimed < conflictIdle:
		return // one conflict at a time
	case mac != b.rival || now-b.claimed > conflictIdle:
		b.rival, b.rivalSince, b.rounds, b.claims, b.unsolicited = mac, now, 0, 0, 0
	}
	if b.shown < b.rivalSince && now-b.rivalSince > handover && b.claims > 0 {
		b.former, b.since = b.mac, now
		b.rival, b.open = flow.MAC{}, false
		w.bind(b, k, mac, r.InPort)
		return
	}
	b.by, b.rivalPort, b.claimed, b.open, b.rate = r.SrcMAC, r.InPort, now, true, r.Rate
	b.claims++
	if !solicited {
		b.unsolicited++
	}
	w.contested = now + answerTime
}

// intruder is who claims an address that is another's, as far as that is known.
type intruder struct {
	station *neighbour // whose Ethernet address is claimed to have it; may be nil
	by      flow.MAC   // who sent the claims
	inPort  uint32
	owner   *neighbour
	holder  flow.MAC
}

// intruder tells the intruder from the holder of an address. Who was there
// first is the holder, unless we came when the address was already taken: the
// intruder is then the one who has an address of its own as well.
func (w *linkWatch) intruder(b *binding, k bindingKey) intruder {
	x := intruder{w.find(b.rival, k.exporter), b.by, b.rivalPort, w.find(b.mac, k.exporter), b.mac}
	if !x.station.ownsOther(k.addr) && x.owner.ownsOther(k.addr) && b.rivalSince-b.since < established {
		return intruder{x.owner, b.mac, b.inPort, x.station, b.rival}
	}
	return x
}

// judge decides whether a conflict is an attack, and whose.
func (w *linkWatch) judge(b *binding, k bindingKey) {
	x := w.intruder(b, k)
	stranger := !x.station.ownsOther(k.addr)
	if b.rounds < conflictRounds || stranger && b.rounds < strangerRounds {
		return
	}
	suspect := w.find(x.by, k.exporter)
	if suspect == nil {
		suspect = x.station
	}
	rep := report{
		key:   findingKey{kind: KindARPSpoof, mac: x.by, inPort: x.inPort, exporter: k.exporter},
		state: StateFiring, first: suspect.since(b.rivalSince), owner: w, host: x.station.name(), mac: x.by, exporter: k.exporter, inPort: x.inPort,
		victims: []address{k.addr}, score: 1 - math.Pow(10, -float64(min(b.rounds, 3))), confidence: 0.97,
		sequential: suspect.contesting(x.holder), records: int64(b.claims) + int64(b.rounds),
		evidence: []Evidence{
			{"claims_while_the_holder_lives", float64(b.rounds), 0, 0.6},
			{"claims", float64(b.claims), 0, 0.2},
			{"claims_nobody_asked_for", float64(b.unsolicited), 0, 0.1},
		},
	}
	rep.limits = []Limit{{"claims_while_the_holder_lives", conflictRounds - 1}}
	if stranger {
		rep.limits[0].Value = strangerRounds - 1
	}
	if rep.host == k.addr {
		rep.host = address{}
	}
	if b.rate > 1 {
		rep.confidence = 0.9 // most of what was said was not heard
	}
	if x.owner.routes(w.e.clock.now) {
		rep.evidence = append(rep.evidence, Evidence{"address_is_of_a_router", 1, 0, 0.1})
	}
	if stranger {
		rep.severity = SeverityMedium
	}
	b.firing = true
	if suspect != nil {
		suspect.firing = true
	}
	if a := w.e.ledger.report(&rep); a != nil && rep.sequential && !a.finding.Sequential {
		a.finding.Sequential = true // it fired for one address, and has a second by now
		w.e.ledger.emit(a)
	}
}

// since is when the present episode began that an earlier one may have preceded.
func (n *neighbour) since(t int64) int64 {
	if n == nil {
		return t
	}
	return max(t, n.cleared)
}

// contesting notes whose address a station claims, and reports whether there
// are two whose addresses it has claimed. One is what a mistake looks like, an
// address that was given twice; to come between two, one must claim both.
func (n *neighbour) contesting(holder flow.MAC) bool {
	if n == nil {
		return false
	}
	switch {
	case n.contests[0] == holder || n.contests[1] == holder:
	case n.contests[0].IsZero():
		n.contests[0] = holder
	default:
		n.contests[1] = holder
	}
	return !n.contests[1].IsZero()
}
