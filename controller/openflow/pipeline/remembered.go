package pipeline

import (
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Connections of protocols that conntrack does not follow: SCTP, GRE, ESP and
// whatever else is not TCP, UDP or ICMP. (The userspace datapath calls such
// packets invalid; a kernel follows some of them, but one way for both is
// better than two.) The switch remembers them by itself: a packet that opens
// one and is allowed teaches it two flows, one that knows the opener's next
// packets and one that knows answers. They say no more than who a packet is of,
// in our marks: the policies are asked about every packet all the same, so that
// a rule that changes is in force at once, in both directions, and no learned
// flow has to be taken away for it.
//
// SCTP connections are told apart by addresses and ports, all others by addresses and
// protocol, so that of these the first packet decides who opened them. Whoever
// sends keeps both flows; an end of silence ends them. What is opened anew then
// is judged anew: with SCTP a packet from a service's port to an ephemeral one
// must be allowed as an answer as well where no rule allows it, as with UDP.
//
// Learned flows are ours by their cookies, have a category and a table of
// their own, in which nothing else of ours stands, and are never compared with
// what is wanted: they go with the frame that teaches them (delete_learned), with
// a restart of the switch, or with time. ICMP errors about such connections
// belong to nothing that conntrack knows, and are dropped.

// Every packet that opens an allowed connection costs the switch two flows, so a
// flood with forged sources could go on for ever: there is a limit, and nobody
// who is known is ever put out for somebody new. Where it is reached, the service
// that is asked for is crowded for a while: whoever opens a connection to it is
// let through, as rules say, without being remembered (and costs the switch no
// more than packets of one connection do), and what comes from it is taken for an
// answer without being known, as SYN+ACK always is. So even then new
// connections come about. The price is that a crowded service can open none
// itself from its own port, or by its own protocol, and that the peers whom
// rules allow to ask it may hear of it unasked.

const (
	// rememberedIdle is how many seconds of silence end a connection; SCTP has a
	// heartbeat every 30 s (RFC 9260, section 8.3).
	rememberedIdle = 120
	// RememberedLimit is how many connections a bridge remembers; the limits of
	// learned flows are per cookie. Open vSwitch counts them for each one that is new.
	RememberedLimit = 2048
	// crowdedFor is how many seconds a service is crowded, and crowdedLimit how
	// many are at once.
	crowdedFor   = 30
	crowdedLimit = 256
)

// Objects in the cookies of learned flows, which are their priorities as well.
const (
	crowdedAnswer uint32 = 1 + iota
	crowdedOpener
	rememberedOpener
	rememberedAnswer
)

// followed lists the packets that conntrack can follow.
func followed() []openflow.Match {
	var out []openflow.Match
	icmp := map[int]uint8{0: flow.ProtoICMP, 1: flow.ProtoICMPv6}
	for i, ip := range families() {
		for _, proto := range []uint8{flow.ProtoTCP, flow.ProtoUDP, icmp[i]} {
			out = append(out, openflow.Match{ip, openflow.IPProto(proto)})
		}
	}
	return out
}

// notTracked matches packets that have not been sent to conntrack.
func notTracked() openflow.OXM { return openflow.CTState(0, openflow.CTTracked) }

// rememberedFlows are the way of packets that conntrack does not follow, beside
// that of the others.
func (f *frame) rememberedFlows() {
	for _, ip := range families() {
		f.add(tableConntrack, stateBeside, openflow.Match{ip}, f.to(tableRemembered), f.to(tableState))
	}
	f.add(tableState, stateTrack, openflow.Match{notTracked(), openflow.Reg(markReg, 0, replyMask|knownMask)}, mark(firstBit, 1, 1), f.to(tableSource))
	for _, ip := range families() {
		sctp := openflow.Match{ip, openflow.IPProto(flow.ProtoSCTP)}
		f.add(tableCommit, stateRemember+2, append(slices.Clip(sctp), notTracked(), openflow.Reg(markReg, 0, exemptMask|allowMask|replyMask|knownMask|taughtMask),
			openflow.SCTPSrc(0).WithMask(ephemeral), openflow.SCTPDst(ephemeral).WithMask(ephemeral)), f.answer()...)
		f.remember(stateRemember+1, sctp, ip, true)
		f.remember(stateRemember, openflow.Match{ip}, ip, false)
	}
}

// remember has packets of connections that are allowed teach, or keep, what
// knows them. An answer that nobody has asked for, as far as we know, teaches
// nothing.
func (f *frame) remember(priority uint16, m openflow.Match, ip openflow.OXM, ports bool) {
	when := func(value, mask uint32) openflow.Match {
		return append(slices.Clip(m), notTracked(), openflow.Reg(markReg, value, mask))
	}
	teach := func(answers bool) []openflow.Action {
		return []openflow.Action{f.lesson(rememberedOpener, ip, ports, answers), f.lesson(rememberedAnswer, ip, ports, !answers)}
	}
	f.add(tableCommit, priority, when(0, replyMask|crowdedMask|taughtMask), append(teach(false), mark(taughtBit, 1, 1), f.to(tableCommit))...)
	f.add(tableCommit, priority, when(replyMask|knownMask, replyMask|knownMask), append(teach(true), f.onwards()...)...)
	// There was no room.
	f.add(tableCommit, priority, when(taughtMask, replyMask|knownMask|taughtMask),
		append([]openflow.Action{f.lesson(crowdedOpener, ip, ports, false), f.lesson(crowdedAnswer, ip, ports, true)}, f.onwards()...)...)
}

// lesson makes a flow that knows packets with the addresses, and the ports, of
// this one, turned around or not; or with those of the service alone.
func (f *frame) lesson(object uint32, ip openflow.OXM, ports, turned bool) openflow.Action {
	crowded := object == crowdedOpener || object == crowdedAnswer
	l := openflow.Learn{
		Table: f.layout.table(tableRemembered), Priority: uint16(object), Cookie: cookie(CategoryRemembered, object),
		IdleTimeout: rememberedIdle, DeleteLearned: true, Limit: RememberedLimit,
		Specs: []openflow.LearnSpec{constant(openflow.FieldEthType, etherNumber(ip))},
	}
	if crowded {
		l.IdleTimeout, l.HardTimeout, l.Limit = 0, crowdedFor, crowdedLimit
	}
	both := func(src, dst openflow.Field) {
		from, to := openflow.Whole(src), openflow.Whole(dst)
		if turned {
			from, to = to, from
		}
		if !crowded || turned { // of an answer, the service is the source
			l.Specs = append(l.Specs, openflow.LearnSpec{Src: from, Dst: openflow.Whole(src)})
		}
		if !crowded || !turned {
			l.Specs = append(l.Specs, openflow.LearnSpec{Src: to, Dst: openflow.Whole(dst)})
		}
	}
	if ports {
		l.Specs = append(l.Specs, constant(openflow.FieldIPProto, uint64(flow.ProtoSCTP)))
		both(openflow.FieldSCTPSrc, openflow.FieldSCTPDst)
	} else {
		proto := openflow.Whole(openflow.FieldIPProto)
		l.Specs = append(l.Specs, openflow.LearnSpec{Src: proto, Dst: proto})
	}
	if etherNumber(ip) == uint64(flow.EtherIPv4) {
		both(openflow.FieldIPv4Src, openflow.FieldIPv4Dst)
	} else {
		both(openflow.FieldIPv6Src, openflow.FieldIPv6Dst)
	}
	load := func(bit int) openflow.LearnSpec {
		return openflow.LearnSpec{Kind: openflow.LearnLoad, Value: 1, Dst: openflow.RegBits(markReg, bit, 1)}
	}
	switch object {
	case crowdedAnswer:
		l.Specs = append(l.Specs, load(replyBit))
	case crowdedOpener:
		l.Specs = append(l.Specs, load(crowdedBit))
	case rememberedOpener:
		l.Specs = append(l.Specs, load(knownBit))
	case rememberedAnswer:
		// Answers to a protected host are exempt as well.
		exempt, room := openflow.RegBits(markReg, exemptBit, 1), openflow.RegBits(markReg, knownBit, 1)
		l.Specs = append(l.Specs, load(knownBit), load(replyBit), openflow.LearnSpec{Kind: openflow.LearnLoad, Src: exempt, Dst: exempt})
		l.Result = &room // the rules have been asked by now
	}
	return l
}

// constant matches a value of a whole field.
func constant(field openflow.Field, v uint64) openflow.LearnSpec {
	return openflow.LearnSpec{Value: v, Dst: openflow.Whole(field)}
}

// etherNumber is the EtherType that a match names.
func etherNumber(ip openflow.OXM) uint64 {
	v, _ := ip.Bytes()
	return uint64(v[0])<<8 | uint64(v[1])
}

// isRemembered reports whether a flow is one that packets have taught.
func isRemembered(cookie uint64) bool {
	const object = 1<<32 - 1
	return cookie&^object == rememberedOwner
}
