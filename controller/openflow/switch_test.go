package openflow

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

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
		"no place for the result",         // the switch takes bits that the field does not have
		"nat without src or dst",          // takes persistent, hash and random, and forgets them in text
	} {
		if strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
