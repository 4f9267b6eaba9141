package pipeline

import (
	"hash/fnv"
	"net/netip"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// The way of packets under policy. Conntrack is a target, so only packets
// from or to a prefix that some rule of a policy tier protects are sent there
// (admit), and only connections that both ends' rules allow are entered
// (commit). In between a packet meets the rules of the host that opened the
// connection (egress) and of the one that it was opened to (ingress), a table
// per tier, so that pass is a resubmit and a tier that decides nothing falls
// through to the next.
//
// Every packet is checked, not just the first, and an answer with both ends
// changed over (classify.go), by the same flows. So a connection that a new
// rule forbids stops at once in both directions, whoever happens to send, and
// nobody's entry has to be flushed for it. Flushing would not even stop it:
// the server's next packet would open the same connection the other way
// round, for which no rule may exist.
//
// A SYN is checked but not entered, so that neither a spoofed flood nor a
// scan leaves anything in conntrack: the packet that completes the handshake
// is what enters the connection, as one in mid-stream. The two answers that a
// SYN may get before, SYN-ACK and RST, need no entry, because the rules know
// them by their addresses and ports. (Linux takes
// connections in mid-stream by default, nf_conntrack_tcp_loose, and the
// userspace datapath always does.)
//
// Conntrack does not know who opened a connection that it meets in mid-stream,
// because it is older than the policy or than the switch's last start: it
// takes whoever sends first. A server's packet would so bring back what its
// clients are forbidden. So a TCP segment in mid-stream that goes from a
// service's port to an ephemeral one must be allowed as an answer as well, and
// is not entered; the client's next one is. (Who really opens a connection
// from a low port to a high one is entered at the SYN.) Datagrams have no
// SYN: they must be allowed as an answer only where no rule but the absence
// of rules allows them.
//
// What conntrack does not follow goes beside it (remembered.go).

// DefaultZone is the first of our conntrack zones unless configured
// otherwise; others count from 1 upwards.
const DefaultZone uint16 = 0xf000

// ZoneCount is how many zones from the first on are ours.
const ZoneCount = 1024

// ZoneOf chooses a bridge's conntrack zone among ours, which begin with first
// (at most 65535-ZoneCount), past those that are taken: bridges of one switch
// share its conntrack. It is the same for the same name, so that a restarted
// controller finds its connections.
func ZoneOf(bridge string, first uint16, taken map[uint16]bool) uint16 {
	h := fnv.New32a()
	h.Write([]byte(bridge)) // never fails
	start := h.Sum32() % ZoneCount
	for i := range uint32(ZoneCount) {
		if zone := first + uint16((start+i)%ZoneCount); !taken[zone] {
			return zone
		}
	}
	return first + uint16(start)
}

// invalidSample is the probability, of 65535, with which packets that belong
// to no connection are reported as dropped.
const invalidSample = 65

// Priorities in the tables of the frame below: what is first decides.
const (
	stateRemember uint16 = 60 // to 62: connections that conntrack does not follow
	stateExempt   uint16 = 50
	stateRelated  uint16 = 40
	stateReply    uint16 = 30
	stateUpward   uint16 = 28 // SYN from a low port to a high one
	stateSYN      uint16 = 26
	stateDoubt    uint16 = 24 // who opened the connection
	stateInvalid  uint16 = 20
	stateAside    uint16 = 20 // discovery and address assignment
	stateOpens    uint16 = 18 // a connection
	stateMiddle   uint16 = 16 // of a connection that nobody saw begin
	stateTrack    uint16 = 10
	stateBeside   uint16 = 5 // what conntrack does not follow
	stateFirst    uint16 = 1 // of a connection that no rule decides
)

// ephemeral is the bit that ports of clients have, from 32768 on, where most
// systems begin (RFC 6056, section 3.2), and those of services seldom.
const ephemeral = 1 << 15

// Bits of the ct_mark of our connections: that a guard rule's host opened it,
// and that it was entered as one that is allowed: whoever opened it may go on
// before it is answered, and opens no other one by that.
const (
	exemptMark  = 1
	enteredBit  = 1
	enteredMark = 1 << enteredBit
)

// statefulFrame is the way of packets under policy. It is on the switch only
// while there are any: a datapath without connection tracking refuses it, and
// works for everything else.
func (l Layout) statefulFrame(t TapConfig) []openflow.Flow {
	f := frame{layout: l}
	for _, m := range untracked() {
		f.add(tableConntrack, stateAside, m, f.to(tableReturn))
	}
	for _, m := range followed() {
		f.add(tableConntrack, stateTrack, m, openflow.Conntrack{Zone: l.Zone, Table: l.table(tableState), Recirc: true})
	}
	f.stateTable(t)
	f.classTables()
	for table := tableEgress; table < tableCommit; table++ {
		f.flows = append(f.flows, l.miss(table, table+1))
	}
	for _, last := range []uint8{tableIngress - 1, tableCommit - 1} {
		f.flows = append(f.flows, l.missFirst(last, last+1))
	}
	f.commitTable()
	f.rememberedFlows()
	return f.flows
}

// frame collects flows of the frame.
type frame struct {
	layout Layout
	flows  []openflow.Flow
}

func (f *frame) add(table uint8, priority uint16, m openflow.Match, actions ...openflow.Action) {
	f.flows = append(f.flows, openflow.Flow{
		Table: f.layout.table(table), Priority: priority, Match: m, Cookie: cookie(CategoryState, uint32(table)<<16|uint32(priority)),
		Instructions: openflow.Instructions{Actions: actions},
	})
}

func (f *frame) to(table uint8) openflow.Action {
	return openflow.Resubmit{Table: f.layout.table(table)}
}

func families() []openflow.OXM {
	return []openflow.OXM{openflow.EthType(flow.EtherIPv4), openflow.EthType(flow.EtherIPv6)}
}

// has matches connection tracking state bits that are set.
func has(bits uint32) openflow.OXM { return openflow.CTState(bits, bits) }

// tcpFlag matches TCP with flags that are set.
func tcpFlag(ip openflow.OXM, bits uint16) openflow.Match {
	return openflow.Match{ip, openflow.IPProto(flow.ProtoTCP), openflow.TCPFlags(bits, bits)}
}

// missFirst is miss for packets that open connections, to count them.
func (l Layout) missFirst(from, to uint8) openflow.Flow {
	f := l.miss(from, to)
	f.Priority, f.Match = stateFirst, openflow.Match{openflow.Reg(markReg, firstMask, firstMask)}
	return f
}

// stateTable says what a tracked packet is: exempt, part of what conntrack
// knows already, an answer, the opening of a connection, or nothing at all.
func (f *frame) stateTable(t TapConfig) {
	answer := f.answer()
	f.add(tableState, stateExempt, openflow.Match{openflow.Reg(markReg, exemptMask, exemptMask)}, f.to(tableCommit))
	f.add(tableState, stateExempt, openflow.Match{openflow.CTMark(exemptMark, exemptMark)}, f.to(tableCommit))
	f.add(tableState, stateRelated, openflow.Match{has(openflow.CTRelated)}, f.to(tableCommit))
	f.add(tableState, stateReply, openflow.Match{has(openflow.CTReply)}, answer...)
	for _, ip := range families() {
		f.add(tableState, stateReply, append(tcpFlag(ip, uint16(flow.SYN|flow.ACK)), has(openflow.CTInvalid)), answer...)
		f.add(tableState, stateReply, append(tcpFlag(ip, uint16(flow.RST)), openflow.CTState(0, openflow.CTEstablished)), answer...)
	}
	f.add(tableState, stateInvalid, openflow.Match{has(openflow.CTInvalid)}, t.sample(flow.SignalDropped, invalidSample)...)
	isNew, opens := has(openflow.CTNew), []openflow.Action{mark(firstBit, 1, 1), f.to(tableSource)}
	for _, ip := range families() {
		f.add(tableState, stateOpens, openflow.Match{ip, isNew, openflow.IPProto(flow.ProtoTCP),
			openflow.TCPFlags(uint16(flow.SYN), uint16(flow.SYN|flow.ACK))}, opens...)
		f.add(tableState, stateMiddle, openflow.Match{ip, isNew, openflow.IPProto(flow.ProtoTCP)}, f.to(tableSource))
	}
	f.add(tableState, stateTrack, openflow.Match{isNew, openflow.CTMark(0, enteredMark)}, opens...)
	f.add(tableState, stateTrack, openflow.Match{has(openflow.CTEstablished)}, mark(knownBit, 1, 1), f.to(tableSource))
	f.flows = append(f.flows, f.layout.miss(tableState, tableSource))
}

// commitTable enters what is allowed.
func (f *frame) commitTable() {
	on := f.onwards()
	enterAs := func(exec ...openflow.Action) []openflow.Action {
		return append([]openflow.Action{openflow.Conntrack{Zone: f.layout.Zone, Commit: true, Exec: exec}}, on...)
	}
	ctMark := func(offset, bits int, value uint64) openflow.Action {
		return openflow.Load{Dst: openflow.Subfield{Field: openflow.FieldCTMark, Offset: offset, Bits: bits}, Value: value}
	}
	enter := enterAs(ctMark(enteredBit, 1, 1), openflow.Move{Src: openflow.RegBits(serviceReg, 0, 32), Dst: keptClass()})
	isNew := has(openflow.CTNew)
	f.add(tableCommit, stateReply, openflow.Match{openflow.Reg(markReg, replyMask, replyMask)}, on...)
	for _, ip := range families() {
		// A protected host's SYN is entered, with a mark: answers to it are
		// exempt as well.
		f.add(tableCommit, stateExempt, openflow.Match{ip, isNew, openflow.Reg(markReg, exemptMask, exemptMask)},
			enterAs(ctMark(0, 32, exemptMark))...)
		syn := tcpFlag(ip, uint16(flow.SYN))
		f.add(tableCommit, stateSYN, syn, on...)
		f.add(tableCommit, stateUpward, append(syn, isNew, openflow.TCPSrc(0).WithMask(ephemeral), openflow.TCPDst(ephemeral).WithMask(ephemeral)), enter...)
		f.add(tableCommit, stateDoubt, openflow.Match{ip, isNew, openflow.IPProto(flow.ProtoTCP),
			openflow.TCPSrc(0).WithMask(ephemeral), openflow.TCPDst(ephemeral).WithMask(ephemeral)}, f.answer()...)
		f.add(tableCommit, stateDoubt, openflow.Match{ip, isNew, openflow.IPProto(flow.ProtoUDP), openflow.Reg(markReg, 0, allowMask),
			openflow.UDPSrc(0).WithMask(ephemeral), openflow.UDPDst(ephemeral).WithMask(ephemeral)}, f.answer()...)
		f.add(tableCommit, stateTrack, openflow.Match{ip, isNew}, enter...)
	}
	f.add(tableCommit, missPriority, nil, on...)
}

// onwards leads out. The pipeline behind us finds the packet untracked, as it
// came: it may track connections itself.
func (f *frame) onwards() []openflow.Action {
	return []openflow.Action{openflow.CTClear{}, class(openerReg, 0), class(responderReg, 0), class(serviceReg, 0), f.to(tableReturn)}
}

// answer has a packet judged as an answer to the other end.
func (f *frame) answer() []openflow.Action {
	return []openflow.Action{mark(firstBit, 2, 1<<(replyBit-firstBit)), f.to(tableSource)}
}

// untracked lists what hosts need to have an address and a neighbourhood at
// all: DHCP, neighbour discovery, and multicast listener reports, which
// conntrack would call invalid.
func untracked() []openflow.Match {
	var out []openflow.Match
	for _, p := range [][2]uint16{{68, 67}, {67, 68}, {67, 67}} {
		out = append(out, openflow.Match{openflow.EthType(flow.EtherIPv4), openflow.IPProto(flow.ProtoUDP),
			openflow.UDPSrc(p[0]), openflow.UDPDst(p[1])})
	}
	for _, p := range [][2]uint16{{546, 547}, {547, 546}, {547, 547}} {
		out = append(out, openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.IPProto(flow.ProtoUDP),
			openflow.UDPSrc(p[0]), openflow.UDPDst(p[1])})
	}
	// RFC 4861: 133 to 137. RFC 2710, 3810: 130 to 132, 143.
	for _, t := range []uint8{130, 131, 132, 133, 134, 135, 136, 137, 143} {
		out = append(out, openflow.Match{openflow.EthType(flow.EtherIPv6), openflow.IPProto(flow.ProtoICMPv6), openflow.ICMPv6Type(t)})
	}
	return out
}

// trackedFlows send the packets from and to a prefix to conntrack.
func (l Layout) trackedFlows(p netip.Prefix, _ bool) []openflow.Flow {
	out := make([]openflow.Flow, 0, 2)
	for _, side := range []openflow.OXM{openflow.IPSrc(p), openflow.IPDst(p)}[:trackedCount(p)] {
		out = append(out, openflow.Flow{
			Table: l.table(tableAdmit), Priority: stateTrack, Cookie: cookie(CategoryTracked, prefixObject(p)),
			Match:        openflow.Match{etherOf(p), side}.Canonical(),
			Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Resubmit{Table: l.table(tableConntrack)}}},
		})
	}
	return out
}

// trackedCount is how many flows there are for a prefix: one where both sides
// match everything.
func trackedCount(p netip.Prefix) int {
	if p.Bits() == 0 {
		return 1
	}
	return 2
}
