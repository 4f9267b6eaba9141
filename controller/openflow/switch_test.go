package openflow

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

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
	switch rapid.IntRange(0, 12).Draw(t, "action") {
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

// On random matches, the switch takes what Validate takes, refuses what
// Validate refuses, and gives back what it took.
func TestMatchesAgainstTheSwitch(t *testing.T) {
	ctx, _, target := realSwitch(t, "plmatch")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		flows := make([]Flow, rapid.IntRange(1, 20).Draw(t, "flows"))
		for i := range flows {
			flows[i] = Flow{Table: 1, Priority: uint16(i), Match: drawMatch(t)}
		}
		checkAgainstSwitch(ctx, t, c, flows)
	})
}

// The same with actions, on matches that may not be theirs.
func TestActionsAgainstTheSwitch(t *testing.T) {
	ctx, sw, target := realSwitch(t, "placts")
	for _, args := range [][]string{
		{"add-group", "group_id=9,type=all,bucket=actions=drop"},
		{"add-meter", "meter=3,kbps,bands=type=drop,rate=1000"},
	} {
		if _, err := sw.Ofctl(ctx, "-O", "OpenFlow14", args[0], sw.Mgmt("placts"), args[1]); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rapid.Check(t, func(t *rapid.T) {
		flows := make([]Flow, rapid.IntRange(1, 20).Draw(t, "flows"))
		for i := range flows {
			m := rapid.SampledFrom(sampleFlows()).Draw(t, "match").Match
			flows[i] = Flow{Table: 1, Priority: uint16(i), Match: m, Instructions: drawInstructions(t)}
		}
		checkAgainstSwitch(ctx, t, c, flows)
	})
}

// What we print of a flow, Open vSwitch reads as what we encode of it.
func TestTextAgainstOpenVSwitch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var text strings.Builder
		var wire []byte
		version := rapid.SampledFrom([]string{"OpenFlow14", "OpenFlow15"}).Draw(t, "version")
		for range rapid.IntRange(1, 50).Draw(t, "flows") {
			f := Flow{Table: 1, Cookie: rapid.Uint64().Draw(t, "cookie"), Match: drawMatch(t), Instructions: drawInstructions(t),
				Priority: rapid.Uint16().Draw(t, "priority"), IdleTimeout: rapid.Uint16().Draw(t, "idle"), HardTimeout: rapid.Uint16().Draw(t, "hard"),
				Importance: rapid.Uint16().Draw(t, "importance"),
				Flags:      rapid.SampledFrom([]uint16{0, FlagSendFlowRemoved, FlagCheckOverlap, FlagResetCounts, FlagNoPacketCounts | FlagNoByteCounts}).Draw(t, "flags")}
			if f.Validate() != nil || !inText(&f, version) {
				continue
			}
			text.WriteString(f.String() + "\n")
			var err error
			if wire, err = (&FlowMod{Flow: f}).append(wire, 1); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("ovs-ofctl", "-O", version, "parse-flows", "-")
		cmd.Stdin = strings.NewReader(text.String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s\n%s", err, out, text.String())
		}
		var want, got []string
		for line := range strings.Lines(string(out)) {
			if m := flowModText.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
				want = append(want, m[1])
			}
		}
		for _, line := range ofpParse(t, wire) {
			if m := flowModText.FindStringSubmatch(line); m != nil {
				got = append(got, m[1])
			}
		}
		lines := strings.Split(text.String(), "\n")
		for i := range got {
			if i >= len(want) || want[i] != got[i] {
				t.Fatalf("we print              %s\nwhich is read as      %s\nand encode what reads %s", lines[i], want[min(i, len(want)-1)], got[i])
			}
		}
	})
}

// inText says whether a flow's text means in this version what its bytes mean
// in OpenFlow 1.4: Open vSwitch turns a masked set_field into loads for 1.4,
// and loads into masked set_fields for 1.5.
func inText(f *Flow, version string) bool {
	if slices.ContainsFunc(f.Match, misread) {
		return false
	}
	actions := slices.Concat(f.Actions, f.Write)
	for _, a := range actions {
		if c, ok := a.(Conntrack); ok {
			actions = append(actions, c.Exec...)
		}
	}
	return !slices.ContainsFunc(actions, func(a Action) bool {
		switch a := a.(type) {
		case Load:
			return version != "OpenFlow14"
		case SetField:
			o, _ := a.Field.normal()
			return o.masked && (version == "OpenFlow14" || misread(o))
		}
		return false
	})
}

// misread says whether ovs-ofctl cannot read its own text: it takes the first
// digits of an IPv6 mask for a prefix length.
func misread(o OXM) bool {
	_, mask, masked := strings.Cut(o.String(), "/")
	return masked && o.isAddress() && strings.Contains(mask, ":") && mask[0] >= '0' && mask[0] <= '9'
}

// checkAgainstSwitch sends flows that have distinct priorities whether they
// are valid or not.
func checkAgainstSwitch(ctx context.Context, t *rapid.T, c *Conn, flows []Flow) {
	mods := make([]FlowMod, len(flows)+1)
	mods[0] = FlowMod{Command: Delete, Flow: Flow{Table: TableAll}}
	for i := range flows {
		mods[i+1].Flow = flows[i]
	}
	first := uint32(0)
	errs, err := c.sendChecked(ctx, len(mods), func(b []byte, i int, xid uint32) []byte {
		if i == 0 {
			first = xid + 1
		}
		return appendRaw(b, xid, &mods[i])
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := make([]*Error, len(flows))
	for _, e := range errs {
		refused[e.XID-first] = e
	}
	stats, err := c.Flows(ctx, FlowFilter{Table: TableAll})
	if err != nil {
		t.Fatal(err)
	}
	back := map[uint16]*FlowStats{}
	for i := range stats {
		back[stats[i].Priority] = &stats[i]
	}
	for i := range flows {
		f, invalid := &flows[i], flows[i].Validate()
		verdict := "nothing wrong"
		if got := back[f.Priority]; refused[i] != nil {
			verdict = refused[i].Error()
		} else if got == nil {
			verdict = "nothing, but forgets it"
		} else if got.Match.Key() != f.Match.Key() || got.Instructions.Key() != f.Instructions.Key() {
			verdict = "nothing, but made of it " + got.Flow.String()
		}
		if (invalid == nil) != (verdict == "nothing wrong") && !stricter(invalid) {
			t.Errorf("%s\nwe say %v, the switch says %s", f, invalid, verdict)
		}
	}
}

func matchable() (out []Field) {
	for f := fieldUnknown + 1; f < fieldEnd; f++ {
		if fields[f].access&matchExact != 0 {
			out = append(out, f)
		}
	}
	return out
}

// appendRaw is FlowMod.append without making the match canonical first: so
// the switch judges what Validate judges.
func appendRaw(b []byte, xid uint32, m *FlowMod) []byte {
	const matchAt = 48
	bare := *m
	bare.Match = nil
	rest, err := bare.append(nil, xid)
	if err != nil {
		panic(err)
	}
	sorted := slices.Clone(m.Match)
	for i, o := range sorted {
		if o.check() == nil {
			sorted[i], _ = o.normal()
		}
	}
	slices.SortStableFunc(sorted, compareOXM)
	start := len(b)
	b = append(b, rest[:matchAt]...)
	b = append(b, 0, matchTypeOXM, 0, 0)
	b = Match(sorted).appendOXMs(b)
	binary.BigEndian.PutUint16(b[start+matchAt+2:], uint16(len(b)-start-matchAt))
	b = append(padTo8(b, start+matchAt), rest[matchAt+8:]...)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// stricter says whether Validate refuses what the switch takes, although it
// makes no sense: each of these is a mistake of whoever wrote it.
func stricter(err error) bool {
	if err == nil {
		return false
	}
	for _, s := range []string{
		"ct(commit,exec(...)) writes",     // the switch takes it in write_actions, and does nothing
		"set-field does not take in_port", // the switch does with a mask, but has no text for it
		"is no kind of fragment",          // nor has the switch text for it
		"set-field writes all of",         // nor for this
		"no helper for port",              // the switch does without
		"nat needs a match on",            // of the address's family
		"nat without src or dst",          // takes persistent, hash and random, and forgets them in text
	} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
