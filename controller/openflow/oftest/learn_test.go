package oftest

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	of "github.com/platelet-sdn/platelet/controller/openflow"
	"pgregory.net/rapid"
)

// learnedTable is where drawn flows are learned.
const learnedTable = 9

// lesson draws what packets of a match teach.
func (g gen) lesson(ip of.Match, p Packet) of.Learn {
	a := of.Learn{Table: learnedTable, Priority: uint16(g.n("learned priority", 1)), Cookie: uint64(0x900 + g.n("learned cookie", 2)),
		DeleteLearned: g.chance("delete", 2), Limit: uint32(g.n("limit", 3)), IdleTimeout: pick(g, "learned idle", uint16(0), 300)}
	if g.chance("result", 2) {
		to := of.RegBits(2, 0, 1)
		a.Result = &to
	}
	a.Specs = []of.LearnSpec{{Value: uint64(p.EthType), Dst: of.Whole(of.FieldEthType)}, {Value: uint64(p.Proto), Dst: of.Whole(of.FieldIPProto)}}
	src, dst := of.FieldIPv4Src, of.FieldIPv4Dst
	if p.isIPv6() {
		src, dst = of.FieldIPv6Src, of.FieldIPv6Dst
	}
	turned := g.chance("turned", 2)
	both := func(a, b of.Field) (out []of.LearnSpec) {
		if turned {
			return []of.LearnSpec{{Src: of.Whole(b), Dst: of.Whole(a)}, {Src: of.Whole(a), Dst: of.Whole(b)}}
		}
		return []of.LearnSpec{{Src: of.Whole(a), Dst: of.Whole(a)}, {Src: of.Whole(b), Dst: of.Whole(b)}}
	}
	a.Specs = append(a.Specs, both(src, dst)...)
	if p.Proto == ProtoSCTP && g.chance("ports", 2) {
		a.Specs = append(a.Specs, both(of.FieldSCTPSrc, of.FieldSCTPDst)...)
	}
	if g.chance("load", 2) {
		a.Specs = append(a.Specs, of.LearnSpec{Kind: of.LearnLoad, Value: 5, Dst: of.RegBits(1, 3, 4)},
			of.LearnSpec{Kind: of.LearnLoad, Src: of.RegBits(0, 0, 2), Dst: of.RegBits(1, 0, 2)})
	}
	if g.chance("output", 4) {
		a.Specs = append(a.Specs, of.LearnSpec{Kind: of.LearnOutput, Src: of.Whole(of.FieldInPort16)})
	}
	return a
}

// teaching draws flows that teach and use what they teach.
func (g gen) teaching(packets []Packet) (out []of.Flow) {
	for i, p := range packets {
		m := of.Match{of.EthType(p.EthType), of.IPProto(p.Proto)}
		f := of.Flow{Priority: uint16(10 + i), Match: append(slices.Clone(m), of.IPSrc(netip.PrefixFrom(p.Src, p.Src.BitLen()))), Cookie: uint64(0x100 + i)}
		for range 1 + g.n("lessons", 1) {
			f.Actions = append(f.Actions, g.lesson(m, p))
		}
		f.Actions = append(f.Actions, of.Resubmit{Table: learnedTable}, of.Resubmit{Table: learnedTable + 1})
		out = append(out, f)
	}
	return append(out, of.Flow{Table: learnedTable + 1, Match: of.Match{of.Reg(2, 1, 1)}, Priority: 1, Cookie: 0x200,
		Instructions: of.Instructions{Actions: []of.Action{of.Output{Port: 2}}}},
		of.Flow{Table: learnedTable + 1, Match: of.Match{of.Reg(1, 5<<3, 15<<3)}, Cookie: 0x201,
			Instructions: of.Instructions{Actions: []of.Action{of.Output{Port: 3}}}})
}

// Flows that packets teach are the same on both switches, up to their limits,
// and so is what comes of the packets; they go when the last flow goes that
// teaches them.
func TestRandomLessonsAsOpenVSwitchLearnsThem(t *testing.T) {
	r := newRig(t)
	v := New(Config{Ports: ports})
	learned, most := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		g := gen{t: rt, stateful: true}
		var packets []Packet
		for len(packets) < 6 {
			p := g.packet()
			if p.isIP() && (p.Proto == ProtoSCTP || p.Proto == 47) && p.Fragment == NotFragment && p.VLANs[0].TPID == 0 {
				p.Regs, p.Metadata, p.TunID = [16]uint32{}, 0, 0 // as they come in
				packets = append(packets, p)
			} else {
				packets = append(packets, SCTP(endpoints()[g.n("from", 2)], endpoints()[g.n("to", 2)]).From(1))
			}
		}
		flows := g.teaching(packets)
		if refused, err := r.program(v, flows); err != nil || refused != nil {
			rt.Fatal(refused, err)
		}
		for range 12 {
			p := packets[g.n("which", len(packets)-1)]
			if g.chance("back", 3) {
				p.Src, p.Dst, p.SrcPort, p.DstPort = p.Dst, p.Src, p.DstPort, p.SrcPort
			}
			text, err := r.ctl.call("ofproto/trace", bridge, p.String(), "--generate")
			if err != nil {
				rt.Fatal(err)
			}
			res := v.Process(p)
			tr, err := parseTrace(text)
			if err != nil {
				rt.Fatal(err)
			}
			if got := visitsOf(res.Steps); len(res.Ambiguous()) == 0 && !slices.Equal(got, tr.visits) {
				rt.Fatalf("%s visits %v, the real one %v\n%s", p, got, tr.visits, rulesText(flows, nil))
			}
			learned += r.sameLessons(rt, v, &most, rulesText(flows, nil))
		}
		// What nobody teaches any more goes.
		for _, f := range flows[:len(packets)] {
			if refused, err := r.commit(v, of.Tx{Flows: []of.FlowMod{{Command: of.DeleteStrict, Flow: f}}}); err != nil || refused != nil {
				rt.Fatal(refused, err)
			}
			r.sameLessons(rt, v, &most, rulesText(flows, nil))
		}
	})
	t.Logf("%d flows compared, %d at once at most", learned, most)
	if learned < 100 || most < 4 {
		t.Error("too few to tell")
	}
}

// sameLessons holds the learned flows of both switches against each other.
func (r *rig) sameLessons(t *rapid.T, v *Switch, most *int, about string) int {
	real, err := r.conn.Flows(r.ctx, of.FlowFilter{Table: learnedTable})
	if err != nil {
		t.Fatal(err)
	}
	text := func(f *of.Flow) string { return fmt.Sprintf("%s idle=%d", f, f.IdleTimeout) }
	var want, got []string
	for i := range real {
		want = append(want, text(&real[i].Flow))
	}
	for _, rule := range v.Rules() {
		if rule.Table == learnedTable {
			got = append(got, text(&rule.Flow))
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Fatalf("the real switch holds\n%q\nthe virtual one\n%q\n%s", want, got, about)
	}
	*most = max(*most, len(got))
	return len(got)
}
