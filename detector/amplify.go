package detector

import (
	"math"
	"slices"

	"github.com/platelet-sdn/platelet/detector/bounded"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// reflector is a protocol over UDP that answers with more than it was asked,
// whoever seems to ask (Rossow, "Amplification hell", NDSS 2014, table 3;
// CISA alert TA14-017A for the later ones).
type reflector struct {
	port uint16
	name string
	// credit is how many packets of answers one question may have.
	credit float64
	// samples is how many unsolicited answers decide: more where an honest
	// conversation may show a question only now and then.
	samples float64
}

const (
	once = 4  // an answer per question, with room for what is sent twice
	many = 64 // an answer in parts, or several that answer a question to all

	// fewSamples: with a question sampled as often as an answer, and credit
	// for four, the statistic passes n answers by chance with a probability
	// of exp(-0.6*n) (Lundberg's bound): one in ten billion.
	fewSamples  = 40
	manySamples = 400
)

func reflectors() []reflector {
	return []reflector{
		{17, "qotd", once, fewSamples},
		{19, "chargen", many, fewSamples},
		{53, "dns", once, fewSamples},
		{111, "portmap", once, fewSamples},
		{123, "ntp", once, fewSamples},
		{137, "netbios", once, fewSamples},
		{161, "snmp", once, fewSamples},
		{389, "cldap", once, fewSamples},
		{quic, "quic", many, manySamples},
		{520, "rip", once, fewSamples},
		{1434, "mssql", once, fewSamples},
		{1900, "ssdp", many, fewSamples},
		{3283, "ard", once, fewSamples},
		{3702, "ws-discovery", many, fewSamples},
		{5353, "mdns", many, fewSamples},
		{5683, "coap", many, fewSamples},
		{10001, "ubiquiti", many, fewSamples},
		{11211, "memcached", many, manySamples},
		{27015, "source-engine", once, fewSamples},
	}
}

const (
	// amplified is the least size of an answer, in octets with headers, that
	// counts. Ordinary time is told in 76, most names are answered in less.
	amplified = 200
	// forgedFew is how many forged questions show where they enter.
	forgedFew = 8
	// quic carries bulk data: a flood from its port is also one of UDP.
	quic = 443
	// owedHalf is how long half of the answers that are owed are waited for,
	// in seconds.
	owedHalf = 2
)

// reflectionKey names a victim and what it is answered by, in one kind of
// telemetry.
type reflectionKey struct {
	victim address
	rest   uint64 // exporter<<24 | source<<16 | port
}

// reflection is a CUSUM of answers that nobody asked for.
type reflection struct {
	last, bin int64
	seen      int64 // when the finding was last refreshed
	test      cusum
	// Sampled answers and questions of calm times, for how often an honest
	// conversation shows a question; halved every second.
	asked, answers float32
	owed           float64 // packets of answers that questions asked for
	bytes          float64 // of what is counted since the excursion began
	forged         float64 // questions from elsewhere, of the excursion
	// ways are those by which answers left to the victim lately: one per
	// switch that they pass.
	ways   [4]wayTo
	next   uint8
	entry  uint32 // where forged questions, or else answers, enter
	forger flow.MAC
	fires  bool
}

// wayTo is a port (0 if not told) and the station that is sent to there.
type wayTo struct {
	port uint32
	mac  flow.MAC
}

// leaves notes by which way an answer left.
func (x *reflection) leaves(to wayTo) {
	if slices.Contains(x.ways[:], to) {
		return
	}
	x.ways[x.next] = to
	x.next = (x.next + 1) % uint8(len(x.ways))
}

// reflectWatch finds amplification: answers from services that amplify to a
// victim that did not ask, and questions in its name from elsewhere.
type reflectWatch struct {
	e      *Engine
	byPort map[uint16]*reflector
	table  *bounded.Table[reflectionKey, reflection]
}

func newReflectWatch(e *Engine) *reflectWatch {
	w := &reflectWatch{e: e, byPort: map[uint16]*reflector{}}
	list := reflectors()
	for i := range list {
		w.byPort[list[i].port] = &list[i]
	}
	w.table = bounded.New[reflectionKey](e.cfg.Limit.Cells, func(x *reflection) int64 {
		switch {
		case x.fires:
			return rank(2, x.last)
		case x.test.s > 0:
			return rank(1, x.last)
		}
		return rank(0, x.last)
	})
	return w
}

// role is what a datagram is in an amplification.
type role uint8

const (
	ordinary  role = iota
	reflected      // an answer, left to this test, the stricter one: whoever reflects is no flooder
	forged         // a question in somebody else's name
)

// observe takes a datagram.
func (w *reflectWatch) observe(r *flow.Record, src, dst address) role {
	if p := w.byPort[r.SrcPort]; p != nil && (r.DstPort >= 1024 || r.DstPort == r.SrcPort) {
		if r.SrcPort == r.DstPort { // both ask and both answer
			if w.question(p, r, src) == forged {
				return forged
			}
		}
		return w.answer(p, r, dst)
	}
	if p := w.byPort[r.DstPort]; p != nil {
		return w.question(p, r, src)
	}
	return ordinary
}

func (w *reflectWatch) key(victim address, p *reflector, r *flow.Record) reflectionKey {
	x := w.e.exporters.number(r.Exporter)
	return reflectionKey{victim, uint64(x)<<24 | uint64(r.Source)<<16 | uint64(p.port)}
}

// at finds or makes what is known of a client and lets time pass in it.
func (w *reflectWatch) at(p *reflector, r *flow.Record, client address) *reflection {
	now := w.e.clock.now
	_, x, fresh := w.table.Put(w.key(client, p, r), rank(0, now))
	if x == nil {
		return nil
	}
	if fresh {
		x.last, x.bin = now, now
	}
	w.pass(x)
	return x
}

// pass lets time pass.
func (w *reflectWatch) pass(x *reflection) {
	cfg, now := &w.e.cfg.Amplification, w.e.clock.now
	dt := float64(now-x.last) / 1e9
	if dt <= 0 {
		return
	}
	x.last = now
	x.test.leak(cfg, dt)
	x.owed *= math.Exp2(-dt / owedHalf)
	if d := now - x.bin; d >= binWidth {
		x.test.learn(cfg, float64(d)/1e9)
		x.bin = now
		fade := float32(math.Exp2(-float64(d) / 1e9))
		x.asked, x.answers = x.asked*fade, x.answers*fade
	}
	w.forget(x)
}

func (w *reflectWatch) forget(x *reflection) {
	if x.test.s == 0 {
		x.bytes, x.forged = 0, 0
	}
}

// question is one from a client, who may be a victim in whose name it is
// asked.
func (w *reflectWatch) question(p *reflector, r *flow.Record, src address) role {
	x := w.at(p, r, src)
	if x == nil {
		return ordinary
	}
	packets := max(r.ScaledPackets(), 1)
	if w.elsewhere(x, r, src) {
		x.forged += packets
		if r.InPort != 0 {
			x.entry = r.InPort
		}
		x.forger = r.SrcMAC
		w.count(p, x, r, src, packets)
		return forged
	}
	if x.forged > 0 && w.onItsWay(r, src) {
		return ordinary // a forged one that passes another switch would pay for its answer
	}
	x.answers++
	x.test.bin -= packets * p.credit
	excess := x.test.s
	x.test.lower(packets * p.credit)
	x.owed += max(packets*p.credit-excess, 0)
	w.forget(x)
	return ordinary
}

// elsewhere reports whether a question does not come from where its sender is:
// neither by the port that it proved to be real at or that its answers leave
// by, nor by the station that they are sent to. Whoever moves takes one of
// them along. Behind redundant routers the stations differ (RFC 5798). What a
// router passes on comes from elsewhere than on the host's own link; there only
// the answers tell.
func (w *reflectWatch) elsewhere(x *reflection, r *flow.Record, src address) bool {
	if r.Source == flow.SourceLog || w.e.link(r.InPort) || virtual(r.SrcMAC) || r.SrcMAC == (flow.MAC{}) {
		return false
	}
	told, placed := false, false // whom answers are sent to, by which port
	for _, to := range x.ways {
		switch {
		case to == wayTo{}:
			continue
		case to.mac == r.SrcMAC || virtual(to.mac) || to.port != 0 && to.port == r.InPort:
			return false
		}
		told, placed = told || to.mac != (flow.MAC{}), placed || to.port != 0
	}
	if _, h := w.e.hosts.Find(src); h != nil {
		if h.home != 0 && h.home == r.InPort || !told && h.mac == r.SrcMAC {
			return false
		}
		told, placed = told || h.mac != (flow.MAC{}), placed || h.home != 0
	}
	if !told || x.ways == [4]wayTo{} && w.e.links.passesOn(r) {
		return false
	}
	return r.InPort == 0 || placed
}

// onItsWay reports whether a packet is seen at another port than its sender's.
func (w *reflectWatch) onItsWay(r *flow.Record, src address) bool {
	_, h := w.e.hosts.Find(src)
	return h != nil && h.home != 0 && r.InPort != 0 && h.home != r.InPort
}

// virtual reports whether an Ethernet address is shared by redundant routers
// (VRRP, RFC 5798, section 7.3; HSRP, RFC 2281).
func virtual(m flow.MAC) bool {
	return slices.Equal(m[:5], []byte{0, 0, 0x5e, 0, 1}) || slices.Equal(m[:5], []byte{0, 0, 0x5e, 0, 2}) ||
		slices.Equal(m[:5], []byte{0, 0, 0x0c, 7, 0xac})
}

// answer is what a service sends to whoever seems to have asked.
func (w *reflectWatch) answer(p *reflector, r *flow.Record, dst address) role {
	if r.Packets > 0 && r.Bytes > 0 && r.Bytes/r.Packets < amplified || !dst.unicast() || group(r.DstMAC) {
		return ordinary
	}
	x := w.at(p, r, dst)
	if x == nil {
		return ordinary
	}
	x.leaves(wayTo{r.OutPort, r.DstMAC})
	packets := max(r.ScaledPackets(), 1)
	if r.Duration > 0 {
		packets = max(packets-x.test.drift(&w.e.cfg.Amplification)*float64(r.Duration)/1e9, 0)
	}
	if packets == 0 {
		return ordinary
	}
	if x.test.s <= w.e.cfg.Amplification.Threshold/2 {
		x.asked++
	}
	paid := min(x.owed, packets)
	x.owed -= paid
	x.test.bin += paid
	if packets -= paid; packets == 0 {
		return w.role(p, dst)
	}
	x.bytes += r.ScaledBytes()
	if x.forged < forgedFew && w.e.edge(r.InPort) != 0 {
		x.entry = r.InPort
	}
	w.count(p, x, r, dst, packets)
	return w.role(p, dst)
}

// role says whether answers are left to this test.
func (w *reflectWatch) role(p *reflector, victim address) role {
	if p.port == quic || !w.e.inView(victim) {
		return ordinary
	}
	return reflected
}

// count moves the test up by what nobody asked for.
func (w *reflectWatch) count(p *reflector, x *reflection, r *flow.Record, victim address, packets float64) {
	cfg, t := &w.e.cfg.Amplification, &x.test
	rate := max(r.Rate, 1)
	alarm := max(cfg.Threshold, p.samples*rate)
	if x.answers >= fewAnswers {
		alarm = max(alarm, patience*rate*min(float64(x.asked/x.answers), p.credit))
	}
	if r.Source == flow.SourceIPFIX { // the questions may be exported later
		alarm += exportBurst * t.drift(cfg)
	}
	from := addressOf(r.Src)
	if from == victim { // a question in its name
		from = addressOf(r.Dst)
	}
	t.add(w.e.clock.now, packets, from, r, &w.e.keys)
	t.s = min(t.s, overshoot*alarm)
	t.bin += packets
	t.tense = t.tense || t.s > cfg.Threshold/4
	if t.s > alarm {
		w.report(p, x, r, victim)
	}
}

// report makes or refreshes the finding. It is sure of itself only where the
// victim's own questions would have been seen, and its sender known.
func (w *reflectWatch) report(p *reflector, x *reflection, r *flow.Record, victim address) {
	now := w.e.clock.now
	if x.fires && now-x.seen < refresh {
		return
	}
	x.seen = now
	t := &x.test
	rep := report{
		key:   findingKey{kind: KindAmplification, host: victim, service: uint64(flow.ProtoUDP)<<16 | uint64(p.port), exporter: w.e.exporters.number(r.Exporter)},
		state: StateFiring, first: t.began, owner: w,
		spoofed: true, inPort: x.entry, exporter: w.e.exporters.number(r.Exporter),
		victims: []address{victim}, proto: flow.ProtoUDP, port: p.port,
		score: 1 - math.Exp(-3.5), confidence: 0.99, severity: SeverityMedium,
		records: int64(t.samples), rate: t.packets / max(float64(now-t.began)/1e9, 1e-3), baseline: t.base,
		evidence: []Evidence{
			{Feature: "unsolicited_answers_per_second", Value: math.Round(t.packets / max(float64(now-t.began)/1e9, 1e-3)), Baseline: math.Round(t.drift(&w.e.cfg.Amplification)), Contribution: 1},
			{Feature: "octets_per_answer", Value: math.Round(x.bytes / max(t.packets-x.forged, 1)), Baseline: amplified},
			{Feature: "reflected_port", Value: float64(p.port)},
			{Feature: "forged_questions", Value: math.Round(x.forged)},
		},
		limits: []Limit{{"unsolicited_answers_per_second", math.Round(t.drift(&w.e.cfg.Amplification))}},
	}
	if r.Rate > 1 {
		rep.confidence = 1 - min(0.5, 0.98/math.Sqrt(float64(max(t.samples, 1))))
	}
	if x.forged >= forgedFew {
		rep.mac = x.forger
	}
	if w.e.inView(victim) {
		rep.sequential, rep.severity = r.Source != flow.SourceLog && r.Source != flow.SourceIPFIX, SeverityHigh
	}
	x.fires = w.e.ledger.report(&rep) != nil || x.fires
}

func (w *reflectWatch) resolved(k findingKey) {
	for source := flow.SourcePacket; source <= flow.SourceLog; source++ {
		if _, x := w.table.Find(reflectionKey{k.host, uint64(k.exporter)<<24 | uint64(source)<<16 | k.service&0xffff}); x != nil {
			x.fires = false
			x.test.lower(x.test.s) // what is left of it leaks for seconds
			w.forget(x)
		}
	}
}
