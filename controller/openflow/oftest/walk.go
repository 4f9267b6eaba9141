package oftest

import (
	"errors"
	"fmt"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// Bounds of one packet, which are Open vSwitch's own except for maxWork.
const (
	// maxDepth is how deep resubmits may nest that do not go to a later
	// table, and group buckets.
	maxDepth = 64
	// maxResubmits is how many flows a pass may visit.
	maxResubmits = maxDepth * maxDepth
	// maxRecirculations is how deep passes may nest in the userspace
	// datapath.
	maxRecirculations = 6
	// maxWork is how many actions and visits a packet may cost altogether.
	maxWork = 1 << 16
)

// Reasons for which a pass is given up; nothing that it did counts then.
var (
	errTooDeep     = fmt.Errorf("resubmits nest deeper than %d", maxDepth)
	errResubmits   = fmt.Errorf("more than %d resubmits", maxResubmits)
	errTooMuchWork = fmt.Errorf("more than %d actions", maxWork)
	// errActionSet is for flows that Open vSwitch 3.1.0 does not survive: a
	// packet (or a trace) that has an action set when a ct action recirculates
	// it ends ovs-vswitchd.
	errActionSet = errors.New("recirculation with an action set, which crashes Open vSwitch 3.1")
)

// run is one packet on its way through the switch, over all its passes.
type run struct {
	s       *Switch
	result  Result
	traced  bool
	waiting []recirculation // passes of a trace
	work    int
	passes  int
	// exhausted says that the work is done that a packet may cost, and decided
	// that result.By is known.
	exhausted, decided bool
}

// walk is one pass: a translation of the flows that the packet meets into
// operations, which take place only if it ends without error.
type walk struct {
	run       *run
	pass      int
	p         Packet
	set       []of.Action // the action set
	table     uint8
	rule      *Rule
	depth     int
	shown     int // depth for printing
	resubmits int
	// conntrack says whether ct_clear has anything to do.
	conntrack bool
	reason    uint8
	ops       []op
	taught    []func() // makes what was learned count
	err       error
}

// op is an operation of the datapath with the packet as it is then.
type op struct {
	p      Packet
	by     *Rule
	effect Effect // something to record, if not one of:
	meter  uint32 // with an effect, its own meter
	ct     *of.Conntrack
	zone   uint16
	clear  bool
	recirc *recirculation
}

// recirculation begins another pass.
type recirculation struct {
	p     Packet
	table uint8
}

func (w *walk) emit(o op) {
	o.p, o.by = w.p, w.rule
	w.ops = append(w.ops, o)
}

// spend counts work; it reports whether there is any left.
func (w *walk) spend() bool {
	if w.run.work++; w.run.work > maxWork {
		w.err = errTooMuchWork
	}
	return w.err == nil
}

// resources checks the bounds before a lookup or a group.
func (w *walk) resources() bool {
	switch {
	case w.depth >= maxDepth:
		w.err = errTooDeep
	case w.resubmits >= maxResubmits:
		w.err = errResubmits
	}
	return w.err == nil
}

// visit looks the packet up in a table, as if it had come in by inPort, and
// executes the flow that it finds.
func (w *walk) visit(id uint8, inPort uint32) { w.visitAs(id, inPort, &w.p) }

// visitAs is visit with the packet looked up as another one.
func (w *walk) visitAs(id uint8, inPort uint32, as *Packet) {
	if !w.resources() || !w.spend() {
		return
	}
	if id >= tables {
		return // the switch's own, which holds nothing for us
	}
	l := w.run.s.tables[id].lookup(as, inPort)
	step := Step{Pass: w.pass, Depth: w.shown, Table: id, Conjunction: l.conj, Ties: l.ties,
		Ambiguous: l.unclear || len(l.ties) > 0}
	if l.rule == nil {
		w.run.result.Steps = append(w.run.result.Steps, step)
		return
	}
	if !w.run.traced {
		l.rule.Packets++
		l.rule.Bytes += uint64(w.p.Length)
		l.rule.Used = w.run.s.cfg.Now()
	}
	seen := *l.rule
	step.Rule = &seen
	w.run.result.Steps = append(w.run.result.Steps, step)
	deeper := 0
	if id <= w.table {
		deeper = 1
	}
	oldTable, oldRule := w.table, w.rule
	w.table, w.rule = id, &seen
	w.resubmits++
	w.depth += deeper
	w.shown++
	w.execute(&seen.Instructions)
	w.shown--
	w.depth -= deeper
	w.table, w.rule = oldTable, oldRule
}

// execute carries out a flow's instructions in the order of section 7.2.4.
func (w *walk) execute(i *of.Instructions) {
	if i.Meter != 0 {
		w.emit(op{meter: i.Meter})
	}
	if !w.actions(i.Actions) {
		return
	}
	if i.ClearActions {
		w.set = nil
	}
	w.set = append(w.set[:len(w.set):len(w.set)], i.Write...)
	w.p.Metadata = w.p.Metadata&^i.MetadataMask | i.Metadata&i.MetadataMask
	if i.HasGoto && w.err == nil {
		w.visit(i.Goto, w.p.InPort)
	}
}

// actions carries out a list of actions; false ends the flow, because the
// packet's time to live ran out or the pass was given up.
func (w *walk) actions(list []of.Action) bool {
	for _, a := range list {
		if !w.spend() || !w.action(a) {
			return false
		}
	}
	return w.err == nil
}

func (w *walk) action(a of.Action) bool {
	switch a := a.(type) {
	case of.Output:
		w.output(a.Port, a.MaxLen)
	case of.OutputReg:
		w.outputReg(a)
	case of.Resubmit:
		w.resubmit(a)
	case of.ToGroup:
		w.group(a.ID)
	case of.Conntrack:
		w.track(a)
	case of.CTClear:
		if w.conntrack {
			w.emit(op{clear: true})
			w.untrack()
		}
	case of.DecTTL:
		return w.decTTL()
	case of.Controller:
		w.emit(op{meter: a.Meter, effect: ToController{Reason: a.Reason, MaxLen: a.MaxLen, ID: a.ID, Packet: w.p}})
	case of.Learn:
		w.learn(a)
	case of.Sample:
		w.emit(op{effect: Sampled{Sample: a, Packet: w.p}})
	default:
		w.modify(a)
	}
	return w.err == nil
}

// modify carries out the actions that change the packet alone.
func (w *walk) modify(a of.Action) {
	switch a := a.(type) {
	case of.Load:
		w.write(a.Dst, number(a.Value))
	case of.Move:
		if w.p.has(a.Src.Field) {
			w.write(a.Dst, w.p.get(a.Src.Field).shr(a.Src.Offset).and(ones(a.Src.Bits)))
		}
	case of.SetField:
		value, mask := a.Field.Bytes()
		f := a.Field.Field()
		w.p.set(f, w.p.get(f).replace(fromBytes(value), fromBytes(mask)))
	case of.PushVLAN:
		w.p.pushVLAN(a.EtherType)
	case of.PopVLAN:
		w.p.popVLAN()
	case of.Conjunction, of.SetQueue, of.Note:
		// A clause does nothing by itself; queues do not exist here.
	default:
		w.err = fmt.Errorf("action %s is not modelled", a)
	}
}

func (w *walk) write(dst of.Subfield, v bits) {
	mask := ones(dst.Bits).shl(dst.Offset)
	w.p.set(dst.Field, w.p.get(dst.Field).replace(v.shl(dst.Offset), mask))
}

// Reasons for a packet-in (section 7.4.1 and later versions' numbers, which
// nicira-ext shares).
const (
	reasonAction     uint8 = 1
	reasonInvalidTTL uint8 = 2
	reasonActionSet  uint8 = 3
	reasonGroup      uint8 = 4
)

func (w *walk) output(port uint32, maxLen uint16) {
	switch port {
	case of.PortInPort:
		w.toPort(w.p.InPort)
	case of.PortNormal:
		w.emit(op{effect: ToNormal{Packet: w.p}})
	case of.PortFlood, of.PortAll:
		for _, n := range w.run.s.portNumbers() {
			if n != w.p.InPort {
				w.toPort(n)
			}
		}
	case of.PortController:
		w.emit(op{effect: ToController{Reason: w.reason, MaxLen: maxLen, Packet: w.p}})
	case portTable:
		w.visit(0, w.p.InPort)
	case of.PortAny:
	default:
		// A packet does not go back where it came from unless told to.
		if port != w.p.InPort {
			w.toPort(port)
		}
	}
}

// portTable is OFPP_TABLE.
const portTable uint32 = 0xfffffff9

// toPort sends the packet out; ports that do not exist swallow it.
func (w *walk) toPort(port uint32) {
	if _, exists := w.run.s.ports[port]; exists {
		w.emit(op{effect: Output{Port: port, Packet: w.p}})
	}
}

func (w *walk) outputReg(a of.OutputReg) {
	v := w.p.get(a.Src.Field).shr(a.Src.Offset).and(ones(a.Src.Bits))
	if v.hi == 0 && v.lo <= 0xffffffff {
		w.output(widePort(uint32(v.lo)), a.MaxLen)
	}
}

// widePort widens the reserved ports of the 16-bit form (0xff00 and above).
func widePort(port uint32) uint32 {
	if port >= 0xff00 && port <= 0xffff {
		return port | 0xffff0000
	}
	return port
}

func (w *walk) resubmit(a of.Resubmit) {
	inPort := w.p.InPort
	if a.InPort != 0 && a.InPort != 0xfff8 {
		inPort = widePort(uint32(a.InPort))
	}
	id := a.Table
	if id == of.TableAll {
		id = w.table
	}
	if !a.CT {
		w.visit(id, inPort)
		return
	}
	if orig := w.p.CT.Orig; orig.Proto != 0 && w.p.isIP() {
		as := w.p
		as.Src, as.Dst, as.Proto, as.SrcPort, as.DstPort = orig.Src, orig.Dst, orig.Proto, orig.SrcPort, orig.DstPort
		as.ICMPType, as.ICMPCode = uint8(orig.SrcPort), uint8(orig.DstPort)
		w.visitAs(id, inPort, &as)
	}
}

// decTTL reports false when the packet's time to live runs out, which ends
// the flow and tells the controller.
func (w *walk) decTTL() bool {
	if !w.p.isIP() {
		return true
	}
	if w.p.TTL > 1 {
		w.p.TTL--
		return true
	}
	w.emit(op{effect: ToController{Reason: reasonInvalidTTL, MaxLen: 0xffff, Packet: w.p}})
	return false
}

// untrack makes the packet look as before any ct action.
func (w *walk) untrack() {
	w.p.CT = Conntrack{}
	w.conntrack = false
}

// track carries out a ct action: the tracker sees the packet as it is now,
// and a copy that knows the answer goes on in the next pass. The packet
// itself goes on untracked.
func (w *walk) track(a of.Conntrack) {
	zone := a.Zone
	if a.ZoneSrc != nil {
		zone = uint16(w.p.get(a.ZoneSrc.Field).shr(a.ZoneSrc.Offset).and(ones(a.ZoneSrc.Bits)).lo)
	}
	before := w.p.CT
	for _, e := range a.Exec {
		w.modify(e)
	}
	w.emit(op{ct: &a, zone: zone})
	if a.Recirc {
		if len(w.set) > 0 {
			w.err = errActionSet
			return
		}
		w.emit(op{recirc: &recirculation{table: a.Table}})
	}
	w.p.CT = before
	w.untrack()
}

func (w *walk) group(id uint32) {
	g := w.run.s.groups[id]
	if g == nil || !w.resources() {
		return
	}
	taken, alternatives := w.run.s.choose(g, &w.p)
	if alternatives != nil {
		w.emit(op{effect: Selected{Group: id, Bucket: taken[0], Alternatives: alternatives}})
	}
	reason := w.reason
	for _, i := range taken {
		// Each bucket has a copy of the packet, and is an action set.
		p := w.p
		w.reason = reasonGroup
		w.depth++
		w.actions(ordered(g.Buckets[i].Actions))
		w.depth--
		w.p = p // but Open vSwitch 3.1 forgets for good, here, that it was tracked
		if w.err != nil {
			return
		}
	}
	w.reason = reason
}

// Ranks of the actions in an action set (section 5.10, as Open vSwitch
// extends it). The last of each kind counts, except for writes, which all do.
const (
	rankPopVLAN = iota
	rankPushVLAN
	rankDecTTL
	rankWrite
	rankQueue
	rankFinal
)

// finals are the kinds of action that end an action set; the greatest wins.
const (
	finalNone = iota
	finalCT
	finalCTClear
	finalResubmit
	finalOutput
	finalGroup
)

func rankOf(a of.Action) (rank, final int) {
	switch a.(type) {
	case of.PopVLAN:
		return rankPopVLAN, finalNone
	case of.PushVLAN:
		return rankPushVLAN, finalNone
	case of.DecTTL:
		return rankDecTTL, finalNone
	case of.Load, of.Move, of.SetField:
		return rankWrite, finalNone
	case of.SetQueue:
		return rankQueue, finalNone
	case of.Conntrack:
		return rankFinal, finalCT
	case of.CTClear:
		return rankFinal, finalCTClear
	case of.Resubmit:
		return rankFinal, finalResubmit
	case of.Output, of.OutputReg:
		return rankFinal, finalOutput
	case of.ToGroup:
		return rankFinal, finalGroup
	}
	return rankFinal, finalNone
}

// ordered returns an action set as the list that it stands for. One that
// sends the packet nowhere stands for nothing.
func ordered(set []of.Action) []of.Action {
	var slots [rankFinal][]of.Action
	var last of.Action
	best := finalNone
	for _, a := range set {
		rank, final := rankOf(a)
		switch {
		case rank == rankWrite:
			slots[rank] = append(slots[rank], a)
		case rank < rankFinal:
			slots[rank] = []of.Action{a}
		case final != finalNone && final >= best:
			best, last = final, a
		}
	}
	if last == nil {
		return nil
	}
	var out []of.Action
	for _, s := range slots {
		out = append(out, s...)
	}
	return append(out, last)
}
