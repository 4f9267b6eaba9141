package oftest

import (
	"slices"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// lastTable is the highest table that generated flows stand in.
const lastTable = 5

// groupTable is the first table that the groups themselves go to: flows from
// there on name none, or ofproto/trace would recirculate for ever.
const groupTable = 4

// Groups and meters that generated flows may name.
const (
	groupCount = 4
	meterCount = 2
)

// flows draws a rule set. Each flow matches one of the packets, so that they
// are met; no two of a table have one priority, because ties are undefined.
func (g gen) flows(packets []Packet) []of.Flow {
	var out []of.Flow
	cookie := uint64(0x100)
	for table := range uint8(lastTable + 1) {
		priorities := []uint16{0, 1, 10, 20, 30, 40, 50, 65534}
		for range 1 + g.n("flows", 4) {
			i := g.n("priority", len(priorities)-1)
			f := of.Flow{Table: table, Priority: priorities[i], Cookie: cookie}
			priorities = slices.Delete(priorities, i, i+1)
			if f.Priority > 1 || g.chance("narrow", 3) {
				f.Match = g.match(packets[g.n("for", len(packets)-1)])
			}
			f.Instructions = g.instructions(table, f.Match)
			out = append(out, f)
			cookie++
		}
		if g.chance("conjunctions", 4) {
			out = append(out, g.conjunctive(table, packets, cookie)...)
			cookie += 16
		}
	}
	return out
}

// conjunctive draws the clauses of one or two conjunctions and flows that
// match on them.
func (g gen) conjunctive(table uint8, packets []Packet, cookie uint64) []of.Flow {
	var out []of.Flow
	keys := map[of.FlowKey]bool{}
	add := func(f of.Flow) {
		f.Table, f.Cookie = table, cookie+uint64(len(out))
		if !keys[f.Key()] {
			keys[f.Key()] = true
			out = append(out, f)
		}
	}
	priority := pick(g, "conj priority", uint16(15), 35)
	clauses := 2 + g.n("clauses", 1)
	for k := range clauses {
		for range 1 + g.n("alternatives", 1) {
			f := of.Flow{Priority: priority, Match: g.match(packets[g.n("for", len(packets)-1)])}
			f.Actions = []of.Action{of.Conjunction{ID: 7, Clause: uint8(k + 1), Of: uint8(clauses)}}
			if g.chance("both", 4) {
				f.Actions = append(f.Actions, of.Conjunction{ID: 8, Clause: uint8(2 - k%2), Of: 2})
			}
			add(f)
		}
	}
	for _, id := range []uint32{7, 8} {
		if g.chance("conj flow", 8) {
			continue
		}
		f := of.Flow{Priority: priority - uint16(g.n("below", 1)*10+int(id)-6), Match: of.Match{of.ConjID(id)}}
		f.Instructions = g.instructions(table, f.Match)
		add(f)
	}
	return out
}

func (g gen) instructions(table uint8, m of.Match) of.Instructions {
	var in of.Instructions
	if g.chance("meter", 8) {
		in.Meter = 1 + uint32(g.n("which", meterCount-1))
	}
	in.Actions = g.actions(table, m, 4)
	in.ClearActions = g.chance("clear", 10)
	if !g.stateful && g.chance("write", 3) {
		in.Write = g.writeSet(table, m)
	}
	if g.chance("write metadata", 6) {
		in.Metadata, in.MetadataMask = uint64(g.small()), 3
		in.Metadata &= in.MetadataMask
	}
	if table < lastTable && g.chance("goto", 4) {
		in.HasGoto, in.Goto = true, table+1+uint8(g.n("next", int(lastTable-table)-1))
	}
	return in
}

// writeSet draws what an action set may hold.
func (g gen) writeSet(table uint8, m of.Match) (out []of.Action) {
	for range g.n("set", 2) {
		switch g.n("set kind", 4) {
		case 0:
			out = append(out, of.Output{Port: pick(g, "out", ports...)})
		case 1:
			if table < groupTable {
				out = append(out, g.group())
			}
		case 2:
			if isIP(m) {
				out = append(out, of.DecTTL{})
			}
		case 3:
			if !g.untagged {
				out = append(out, of.PushVLAN{EtherType: EtherVLAN})
			}
		case 4:
			out = append(out, g.change(m))
		}
	}
	return out
}

func (g gen) actions(table uint8, m of.Match, most int) (out []of.Action) {
	for range g.n("actions", most) {
		if g.stateful && table < lastTable && isIP(m) && g.chance("ct", 2) {
			out = append(out, g.conntrack(table))
			continue
		}
		switch k := g.n("action", 12); {
		case k <= 3:
			out = append(out, g.jump(table))
		case k <= 5:
			out = append(out, of.Output{Port: pick(g, "out", append(slices.Clone(ports), of.PortInPort)...)})
		case k == 6 && table < groupTable:
			out = append(out, g.group())
		case k == 7 && isIP(m):
			out = append(out, of.DecTTL{})
		case k == 8:
			out = append(out, g.vlan(m, len(out) == 0)...)
		case k == 9 && g.chance("to controller", 3):
			out = append(out, of.Controller{MaxLen: 128, Reason: 1})
		case k == 10 && g.chance("ct_clear", 3):
			out = append(out, of.CTClear{})
		default:
			out = append(out, g.change(m))
		}
	}
	return out
}

// group names a group; the last one recirculates.
func (g gen) group() of.Action {
	most := groupCount - 1
	if !g.stateful {
		most--
	}
	return of.ToGroup{ID: 1 + uint32(g.n("group", most))}
}

// groups draws what the groups do. One hands packets on to those before it
// alone, and only the last one recirculates.
func (g gen) groups() (out []of.GroupMod) {
	for id := range uint32(groupCount) {
		m := of.GroupMod{Command: of.GroupModify, Group: of.Group{ID: id + 1, Type: pick(g, "type", of.GroupAll, of.GroupAll, of.GroupIndirect, of.GroupFastFailover)}}
		buckets := 1
		if m.Type != of.GroupIndirect {
			buckets += g.n("buckets", 2)
		}
		for range buckets {
			b := of.Bucket{Actions: g.bucket(id)}
			if m.Type == of.GroupFastFailover {
				b.WatchPort = pick(g, "watch", append([]uint32{9}, ports...)...) // 9 does not exist
			}
			m.Buckets = append(m.Buckets, b)
		}
		out = append(out, m)
	}
	return out
}

// bucket draws an action set, of a group that id groups stand before.
func (g gen) bucket(id uint32) (out []of.Action) {
	for range g.n("bucket", 3) {
		switch g.n("in bucket", 6) {
		case 0, 1:
			out = append(out, of.Output{Port: pick(g, "out", ports...)})
		case 2:
			out = append(out, of.Resubmit{Table: groupTable + uint8(g.n("to", lastTable-groupTable))})
		case 3:
			out = append(out, of.Load{Dst: of.RegBits(g.n("reg", 3), 0, 4), Value: uint64(g.n("value", 15))})
		case 4:
			a := pick[of.Action](g, "change", of.DecTTL{}, of.PushVLAN{EtherType: EtherVLAN}, of.PopVLAN{})
			if _, ttl := a.(of.DecTTL); ttl || !g.untagged {
				out = append(out, a)
			}
		case 5:
			if id > 0 {
				out = append(out, of.ToGroup{ID: 1 + uint32(g.n("group", int(id)-1))})
			}
		case 6:
			if g.stateful && id == groupCount-1 {
				out = append(out, of.Conntrack{Commit: true, Zone: 9, Recirc: true, Table: lastTable})
			}
		}
	}
	return out
}

// jump resubmits, mostly onwards.
func (g gen) jump(table uint8) of.Action {
	r := of.Resubmit{Table: uint8(g.n("to", lastTable))}
	if r.Table <= table && !(g.loops && g.chance("backwards", 4)) {
		r.Table = min(lastTable, table) + 1
	}
	if g.chance("other port", 6) {
		r.InPort = uint16(pick(g, "as", ports...))
	}
	return r
}

func (g gen) conntrack(table uint8) of.Action {
	a := of.Conntrack{Zone: uint16(g.n("zone", 2)), Recirc: g.chance("recirculate", 2), Commit: g.chance("commit", 2)}
	if a.Recirc {
		a.Table = table + 1 + uint8(g.n("next", int(lastTable-table)-1))
	}
	if g.chance("zone of", 6) {
		src := of.RegBits(1, 0, 16)
		a.ZoneSrc, a.Zone = &src, 0
	}
	if a.Commit && g.chance("exec", 2) {
		a.Exec = []of.Action{of.Load{Dst: of.Subfield{Field: of.FieldCTMark, Offset: 4, Bits: 8}, Value: uint64(g.n("mark", 255))}}
	}
	return a
}

func isIP(m of.Match) bool {
	t := uint16(exact(m, of.FieldEthType))
	return t == EtherIPv4 || t == EtherIPv6
}

func (g gen) vlan(m of.Match, first bool) []of.Action {
	if g.untagged {
		return nil
	}
	if first && g.chance("pop", 2) && exact(m, of.FieldVLAN) != 0 {
		return []of.Action{of.PopVLAN{}}
	}
	out := []of.Action{of.PushVLAN{EtherType: EtherVLAN}}
	if g.chance("vid", 2) {
		out = append(out, of.SetField{Field: of.VLAN(pick(g, "vid", uint16(5), 6))})
	}
	return out
}

// change draws an action on a register or on a field that the match makes
// sure of. What Open vSwitch takes for a header that is not there, an
// operation of ARP or two ports of zero, is not drawn: it keeps the change to
// itself.
func (g gen) change(m of.Match) of.Action {
	var fields []of.Field
	etherType, proto := exact(m, of.FieldEthType), exact(m, of.FieldIPProto)
	switch uint16(etherType) {
	case EtherIPv4:
		fields = append(fields, of.FieldIPv4Src, of.FieldIPv4Dst, of.FieldIPToS)
	case EtherIPv6:
		fields = append(fields, of.FieldIPv6Src, of.FieldIPv6Dst)
	case EtherARP:
		fields = append(fields, of.FieldARPSPA, of.FieldARPTHA)
	}
	switch uint8(proto) {
	case ProtoTCP:
		fields = append(fields, of.FieldTCPSrc, of.FieldTCPDst)
	case ProtoUDP:
		fields = append(fields, of.FieldUDPDst)
	}
	fields = append(fields, of.FieldEthSrc, of.FieldEthDst, of.FieldMetadata, of.FieldReg0, of.FieldReg1, of.FieldReg3, of.FieldTunID, of.FieldXReg0)
	dst := of.Whole(pick(g, "field", fields...))
	if dst.Bits == 16 { // ports, which must not become zero
		return of.Load{Dst: dst, Value: uint64(g.l4())}
	}
	if dst.Bits > 8 && g.chance("part", 2) {
		dst.Offset = g.n("offset", dst.Bits-8)
		dst.Bits = 1 + g.n("bits", 7)
	}
	if g.chance("move", 3) {
		src := of.RegBits(g.n("from", 3), 0, 8)
		dst.Bits = min(dst.Bits, 8)
		src.Bits = dst.Bits
		return of.Move{Src: src, Dst: dst}
	}
	dst.Bits = min(dst.Bits, 64)
	value := uint64(g.small()) + 1
	if dst.Bits < 64 {
		value &= 1<<dst.Bits - 1
	}
	return of.Load{Dst: dst, Value: value}
}

// exact returns a field's value in a match, 0 if it is not there.
func exact(m of.Match, f of.Field) uint64 {
	for _, o := range m {
		if o.Field() == f {
			v, _ := o.Bytes()
			return fromBytes(v).lo
		}
	}
	return 0
}
