package openflow

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"pgregory.net/rapid"
)

// drawOXM draws any field with any value, of which some make sense.
func drawOXM(t *rapid.T) OXM {
	f := rapid.SampledFrom(matchable()).Draw(t, "field")
	size := int(fields[f].size)
	o := OXM{field: f, masked: rapid.Bool().Draw(t, "masked")}
	copy(o.value[:], drawBytes(t, size))
	if o.masked {
		copy(o.mask[:], drawBytes(t, size))
		if _, all := o.normal(); all {
			o.masked, o.mask = false, [16]byte{}
		}
	}
	return o
}

// drawBytes draws a value of a field: a number with few bits, a number that
// means something in a packet, all ones, or anything.
func drawBytes(t *rapid.T, size int) []byte {
	b := make([]byte, 16)
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 0:
		binary.BigEndian.PutUint64(b[8:], 1<<rapid.IntRange(0, 63).Draw(t, "bit"))
	case 1:
		binary.BigEndian.PutUint64(b[8:], rapid.SampledFrom([]uint64{0, 1, 2, 6, 17, 58, 132, 135, 136, 0x800, 0x86dd, 0x806, 0x8035, 0x1005, 0x1fff, 0x2f, 0x21}).Draw(t, "number"))
	case 2:
		for i := range b {
			b[i] = 0xff
		}
	case 3:
		// A prefix.
		n := rapid.IntRange(0, size*8).Draw(t, "prefix")
		for i := range size * 8 {
			if i < n {
				b[16-size+i/8] |= 0x80 >> (i % 8)
			}
		}
	default:
		copy(b[16-size:], rapid.SliceOfN(rapid.Byte(), size, size).Draw(t, "bytes"))
	}
	return b[16-size:]
}

// drawMatch draws a match that may be sound or not: one of the samples with
// fields added, removed or changed.
func drawMatch(t *rapid.T) Match {
	m := slices.Clone(rapid.SampledFrom(sampleFlows()).Draw(t, "sample").Match)
	m = slices.DeleteFunc(m, func(o OXM) bool { _, all := o.normal(); return all })
	if len(m) > 0 && rapid.Bool().Draw(t, "remove") {
		i := rapid.IntRange(0, len(m)-1).Draw(t, "which")
		m = slices.Delete(m, i, i+1)
	}
	for range rapid.IntRange(0, 2).Draw(t, "more") {
		m = append(m, drawOXM(t))
	}
	return m
}

// drawSubfield draws bits of any field, some of which it may not have.
func drawSubfield(t *rapid.T) Subfield {
	f := Field(rapid.IntRange(1, int(fieldEnd)-1).Draw(t, "subfield"))
	if f.Bits() <= 64 && rapid.Bool().Draw(t, "whole") {
		return Whole(f)
	}
	return Subfield{Field: f, Offset: rapid.IntRange(0, f.Bits()).Draw(t, "offset"), Bits: rapid.IntRange(1, min(f.Bits(), 64)).Draw(t, "bits")}
}

// drawAction draws an action that may be sound or not.
func drawAction(t *rapid.T, depth int) Action {
	switch rapid.IntRange(0, 13).Draw(t, "action") {
	case 0:
		dst := drawSubfield(t)
		return Load{Dst: dst, Value: rapid.Uint64().Draw(t, "value") >> rapid.IntRange(0, 63).Draw(t, "shift")}
	case 1:
		src, dst := drawSubfield(t), drawSubfield(t)
		src.Bits = min(src.Bits, dst.Bits) // the wire has one length for both
		dst.Bits = src.Bits
		return Move{Src: src, Dst: dst}
	case 2:
		o := drawOXM(t)
		if o.masked {
			o, _ = o.normal() // as it will be sent
		}
		return SetField{Field: o}
	case 3:
		return OutputReg{Src: drawSubfield(t)}
	case 4:
		if depth == 0 {
			return drawConntrack(t)
		}
		return CTClear{}
	case 5:
		return Resubmit{Table: rapid.SampledFrom([]uint8{0, 7, 254}).Draw(t, "table"),
			InPort: rapid.SampledFrom([]uint16{0, 5}).Draw(t, "in port"), CT: rapid.Bool().Draw(t, "ct")}
	case 6:
		return Output{Port: rapid.SampledFrom([]uint32{1, 0xfeff, 0xff00, 0xfffffff7, PortInPort, PortTable, PortNormal, PortController, PortLocal, PortAny}).Draw(t, "port")}
	case 7:
		return PopVLAN{}
	case 8:
		return PushVLAN{EtherType: rapid.SampledFrom([]uint16{0x8100, 0x88a8, 0x800}).Draw(t, "tag type")}
	case 9:
		return DecTTL{}
	case 10:
		return drawLearn(t)
	}
	f := rapid.SampledFrom(sampleFlows()).Draw(t, "sample")
	if len(f.Actions) == 0 {
		return CTClear{}
	}
	return rapid.SampledFrom(f.Actions).Draw(t, "sample action")
}

func drawConntrack(t *rapid.T) Conntrack {
	a := Conntrack{
		Commit: rapid.Bool().Draw(t, "commit"), Force: rapid.Bool().Draw(t, "force"), Zone: rapid.Uint16().Draw(t, "zone"),
		Recirc: rapid.Bool().Draw(t, "recirc"), Table: rapid.SampledFrom([]uint8{0, 9, 254}).Draw(t, "table"),
		Alg: rapid.SampledFrom([]uint16{0, 0, 21, 69, 5}).Draw(t, "alg"),
	}
	if !a.Recirc {
		a.Table = 0
	}
	if rapid.Bool().Draw(t, "zone from field") {
		s := drawSubfield(t)
		a.ZoneSrc, a.Zone = &s, 0
	}
	if rapid.Bool().Draw(t, "nat") {
		addr := rapid.SampledFrom([]netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("fe80::1")})
		port := rapid.SampledFrom([]uint16{0, 0, 80, 90})
		a.NAT = &NAT{
			Src: rapid.Bool().Draw(t, "src"), Dst: rapid.Bool().Draw(t, "dst"), Min: addr.Draw(t, "min"), Max: addr.Draw(t, "max"),
			MinPort: port.Draw(t, "min port"), MaxPort: port.Draw(t, "max port"), Persistent: rapid.Bool().Draw(t, "persistent"),
			Hash: rapid.Bool().Draw(t, "hash"), Random: rapid.Bool().Draw(t, "random"),
		}
	}
	for range rapid.IntRange(0, 2).Draw(t, "exec") {
		e := drawAction(t, 1)
		if l, ok := e.(Load); ok {
			l.Dst = Subfield{Field: rapid.SampledFrom([]Field{FieldCTMark, FieldCTLabel}).Draw(t, "ct field"), Bits: 5}
			l.Value &= 0x3f
			e = l
		}
		a.Exec = append(a.Exec, e)
	}
	return a
}

func drawLearn(t *rapid.T) Learn {
	a := Learn{
		Table: rapid.SampledFrom([]uint8{0, 9, 254, 255}).Draw(t, "learned table"), Priority: rapid.Uint16().Draw(t, "learned priority"),
		Cookie: rapid.Uint64().Draw(t, "learned cookie"), IdleTimeout: rapid.Uint16().Draw(t, "learned idle"),
		SendRemoved: rapid.Bool().Draw(t, "removed"), DeleteLearned: rapid.Bool().Draw(t, "delete learned"),
		Limit: rapid.SampledFrom([]uint32{0, 0, 1, 1024}).Draw(t, "limit"),
	}
	if rapid.Bool().Draw(t, "result") {
		s := drawSubfield(t)
		s.Bits = 1
		a.Result = &s
	}
	if rapid.Bool().Draw(t, "family") {
		a.Specs = append(a.Specs, LearnSpec{Value: rapid.SampledFrom([]uint64{0x800, 0x86dd, 0x806}).Draw(t, "eth_type"), Dst: Whole(FieldEthType)})
		if rapid.Bool().Draw(t, "transport") {
			a.Specs = append(a.Specs, LearnSpec{Value: rapid.SampledFrom([]uint64{1, 6, 17, 58, 132}).Draw(t, "proto"), Dst: Whole(FieldIPProto)})
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "specs") {
		s := LearnSpec{Kind: LearnKind(rapid.IntRange(0, 2).Draw(t, "kind")), Dst: drawSubfield(t)}
		if rapid.Bool().Draw(t, "constant") && s.Kind != LearnOutput && s.Dst.Bits <= 64 {
			s.Value = rapid.Uint64().Draw(t, "value") >> (64 - s.Dst.Bits)
		} else {
			s.Src = drawSubfield(t)
			s.Src.Bits = min(s.Src.Bits, s.Dst.Bits) // the wire has one length for both
			s.Dst.Bits = s.Src.Bits
		}
		if s.Kind == LearnOutput {
			s.Dst = Subfield{}
		}
		a.Specs = append(a.Specs, s)
	}
	return a
}

func drawInstructions(t *rapid.T) (i Instructions) {
	for range rapid.IntRange(0, 3).Draw(t, "actions") {
		i.Actions = append(i.Actions, drawAction(t, 0))
	}
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "write") {
		i.Write = append(i.Write, drawAction(t, 0))
	}
	i.Meter = rapid.SampledFrom([]uint32{0, 0, 3}).Draw(t, "meter")
	i.ClearActions = rapid.Bool().Draw(t, "clear")
	if rapid.Bool().Draw(t, "write metadata") {
		i.Metadata, i.MetadataMask = rapid.Uint64().Draw(t, "metadata"), rapid.Uint64().Draw(t, "metadata mask")
	}
	i.Goto, i.HasGoto = rapid.SampledFrom([]uint8{0, 1, 2, 254}).Draw(t, "goto"), rapid.Bool().Draw(t, "has goto")
	if !i.HasGoto {
		i.Goto = 0
	}
	return i
}

func matchable() (out []Field) {
	for f := fieldUnknown + 1; f < fieldEnd; f++ {
		if fields[f].access&matchExact != 0 {
			out = append(out, f)
		}
	}
	return out
}
