package pipeline_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/compile"
)

// virtual is a virtual switch with our tables in front of NORMAL.
type virtual struct {
	*oftest.Switch
	sources map[uint64]string // intent by cookie
	now     time.Time
}

// ports are those of the virtual switch, by name.
func ports() map[string]uint32 { return map[string]uint32{"vm1": 1, "vm2": 2, "vm3": 3} }

func newVirtual() *virtual {
	v := &virtual{now: time.Unix(1_000_000, 0)}
	v.Switch = oftest.New(oftest.Config{Ports: []uint32{1, 2, 3}, Now: func() time.Time { return v.now }})
	return v
}

// program puts our flows for these intents and policies on the switch, in the
// place of all that was there but for its connections.
func (v *virtual) program(intents []segmentation.Intent, policies *compile.Program, tap pipeline.TapConfig) error {
	tx, sources, err := pipeline.FlowsFor(intents, policies, tap, ports())
	if err != nil {
		return err
	}
	v.sources = sources
	if err := v.MeterMod(openflow.MeterDelete, openflow.Meter{ID: openflow.MeterAll}); err != nil {
		return err
	}
	normal := openflow.Flow{Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Output{Port: openflow.PortNormal}}}}
	tx.Flows = append([]openflow.FlowMod{{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.TableAll}}, {Flow: normal}}, tx.Flows...)
	return v.Apply(tx)
}

// decides returns the intent whose flow decided about a packet, "" for none.
func (v *virtual) decides(res *oftest.Result) string {
	for _, s := range slices.Backward(res.Steps) {
		if s.Rule != nil && v.sources[s.Rule.Cookie] != "" {
			return v.sources[s.Rule.Cookie]
		}
	}
	return ""
}

// selects reports whether a match of the guard or emergency tier selects a
// packet.
func selects(m segmentation.Match, p oftest.Packet) bool {
	port := func(want, have uint16) bool { return want == 0 || have == want }
	return (m.InPort == "" || ports()[m.InPort] == p.InPort) &&
		(m.EtherType == 0 || m.EtherType == p.EthType) &&
		(m.SrcMAC == flow.MAC{} || [6]byte(m.SrcMAC) == p.EthSrc) &&
		(!m.Src.IsValid() || m.Src.Contains(p.Src)) && (!m.Dst.IsValid() || m.Dst.Contains(p.Dst)) &&
		(m.Proto == 0 || m.Proto == p.Proto) &&
		port(m.SrcPort, p.SrcPort) && port(m.DstPort, p.DstPort) &&
		p.TCPFlags&uint16(m.TCPFlagsMask) == uint16(m.TCPFlags) &&
		(m.ARPOp == 0 || m.ARPOp == p.ARPOp) && (!m.HasICMPType || m.ICMPType == p.ICMPType) &&
		(!m.NDTarget.IsValid() || m.NDTarget == p.NDTarget)
}

// strictest returns the rule of a tier that decides about a packet, nil for
// none.
func strictest(intents []segmentation.Intent, tier segmentation.Tier, p oftest.Packet) *segmentation.Intent {
	order := []segmentation.Action{segmentation.ActionDeny, segmentation.ActionRateLimit, segmentation.ActionAllow, segmentation.ActionReroute, segmentation.ActionMirror}
	rank := func(in *segmentation.Intent) int { return int(in.Rank)*len(order) + slices.Index(order, in.Action) }
	var best *segmentation.Intent
	for i := range intents {
		if in := &intents[i]; in.Tier == tier && selects(in.Match, p) && (best == nil || rank(in) < rank(best)) {
			best = in
		}
	}
	return best
}

var decoyMAC = flow.MAC{2, 0, 0, 0, 0, 0xdc}

var hostMACs = []flow.MAC{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {2, 0, 0, 0, 0, 3}}

// drawnPacket is of any kind that rules of the guard and emergency tiers can
// tell.
func drawnPacket(t *rapid.T) oftest.Packet {
	v6 := rapid.IntRange(0, 2).Draw(t, "v6") == 0
	src, dst := drawnAddr(t, "from", v6), drawnAddr(t, "to", v6)
	from := netip.AddrPortFrom(src, rapid.SampledFrom([]uint16{5000, 5001}).Draw(t, "sport"))
	to := netip.AddrPortFrom(dst, rapid.SampledFrom([]uint16{80, 81, 443}).Draw(t, "dport"))
	var p oftest.Packet
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0, 1:
		p = oftest.TCP(from, to, rapid.SampledFrom([]uint16{oftest.SYN, oftest.SYN | oftest.ACK, oftest.ACK, oftest.RST}).Draw(t, "flags"))
	case 2:
		p = oftest.UDP(from, to)
	case 3:
		p = oftest.ICMP(src, dst, 8, 0)
		if v6 {
			p = oftest.ND(src, dst, rapid.SampledFrom([]uint8{135, 136}).Draw(t, "nd"), drawnAddr(t, "target", true))
		}
	case 4:
		p = oftest.SCTP(from, to)
	case 5:
		p = oftest.ARP(rapid.SampledFrom([]uint16{1, 2}).Draw(t, "op"), drawnAddr(t, "sender", false), drawnAddr(t, "target", false))
	}
	p.EthSrc = rapid.SampledFrom(hostMACs).Draw(t, "mac")
	return p.From(uint32(rapid.IntRange(1, 3).Draw(t, "port")))
}

// drawnSelection is a match that the packet meets.
func drawnSelection(t *rapid.T, p oftest.Packet) segmentation.Match {
	some := func(label string) bool { return rapid.IntRange(0, 2).Draw(t, label) == 0 }
	var m segmentation.Match
	if some("in port") {
		m.InPort = fmt.Sprintf("vm%d", p.InPort)
	}
	if some("mac") {
		m.SrcMAC = p.EthSrc
	}
	if some("any type") {
		return m
	}
	m.EtherType = p.EthType
	if some("src") {
		m.Src = netip.PrefixFrom(p.Src, rapid.IntRange(p.Src.BitLen()-3, p.Src.BitLen()).Draw(t, "bits")).Masked()
	}
	if some("dst") {
		m.Dst = netip.PrefixFrom(p.Dst, rapid.IntRange(p.Dst.BitLen()-3, p.Dst.BitLen()).Draw(t, "bits")).Masked()
	}
	if p.EthType == flow.EtherARP {
		if some("op") {
			m.ARPOp = p.ARPOp
		}
		return m
	}
	if some("any protocol") {
		return m
	}
	m.Proto = p.Proto
	switch p.Proto {
	case flow.ProtoICMP, flow.ProtoICMPv6:
		if m.HasICMPType = some("type") || p.NDTarget.IsValid(); m.HasICMPType {
			m.ICMPType = p.ICMPType
		}
		if p.NDTarget.IsValid() && some("target") {
			m.NDTarget = p.NDTarget
		}
		return m
	case flow.ProtoTCP:
		if some("flags") {
			m.TCPFlagsMask = flow.SYN | flow.ACK
			m.TCPFlags = uint8(p.TCPFlags) & m.TCPFlagsMask
		}
	}
	if some("sport") {
		m.SrcPort = p.SrcPort
	}
	if some("dport") {
		m.DstPort = p.DstPort
	}
	return m
}

// drawnContainment is a rule of the guard or emergency tier.
func drawnContainment(t *rapid.T, i int, p oftest.Packet) segmentation.Intent {
	in := segmentation.Intent{
		ID: fmt.Sprintf("c/%d", i), Rank: uint16(rapid.IntRange(0, 3).Draw(t, "rank")), Match: drawnSelection(t, p),
		Tier:   rapid.SampledFrom([]segmentation.Tier{segmentation.TierGuard, segmentation.TierEmergency, segmentation.TierEmergency}).Draw(t, "tier"),
		Action: rapid.SampledFrom([]segmentation.Action{segmentation.ActionAllow, segmentation.ActionDeny, segmentation.ActionRateLimit}).Draw(t, "action"),
		TTL:    time.Minute, Sample: uint16(rapid.SampledFrom([]int{0, 65}).Draw(t, "sample")),
	}
	if in.Tier == segmentation.TierEmergency && rapid.IntRange(0, 4).Draw(t, "reroute") == 0 {
		in.Action, in.To = segmentation.ActionReroute, decoyMAC
	}
	if in.Tier == segmentation.TierEmergency && in.Match.InPort != "vm3" && rapid.IntRange(0, 4).Draw(t, "mirror") == 0 {
		in.Action, in.ToPort, in.Rank = segmentation.ActionMirror, "vm3", 500
	}
	if in.Action == segmentation.ActionRateLimit || in.Action == segmentation.ActionMirror {
		in.Limit = segmentation.Limit{PacketsPerSecond: 100, Burst: 1 << 20} // never reached here
	}
	return in
}

// Every packet, of whatever kind, meets the rule that the plain reading of
// the list says, and only that; and the tap reports it once at most.
func TestContainmentDecidesAsItReads(t *testing.T) {
	v := newVirtual()
	tap := pipeline.TapConfig{CollectorSet: 1, Domain: flow.TapDomain(1), Probability: map[flow.Signal]uint16{
		flow.SignalAttempt: 65535, flow.SignalAccept: 6000, flow.SignalRefuse: 65535, flow.SignalUDP: 100, flow.SignalARPRequest: 65535, flow.SignalICMP: 65535}}
	denied := 0
	rapid.Check(t, func(t *rapid.T) {
		packets := make([]oftest.Packet, 20)
		for i := range packets {
			packets[i] = drawnPacket(t)
		}
		var intents []segmentation.Intent
		for i := range rapid.IntRange(1, 12).Draw(t, "rules") {
			intents = append(intents, drawnContainment(t, i, packets[rapid.IntRange(0, len(packets)-1).Draw(t, "for")]))
		}
		if err := v.program(intents, nil, tap); err != nil {
			if strings.Contains(err.Error(), "for the same packets already") {
				t.Skip(err)
			}
			t.Fatal(err)
		}
		for _, p := range packets {
			want, by := true, ""
			for _, tier := range []segmentation.Tier{segmentation.TierGuard, segmentation.TierEmergency} {
				in := strictest(intents, tier, p)
				if in == nil {
					continue
				}
				by, want = in.ID, in.Action != segmentation.ActionDeny
				break // what a guard rule decides, the healer cannot change
			}
			if !want {
				denied++
			}
			res := v.Process(p)
			if res.Forwarded() != want {
				t.Fatalf("%s: forwarded %v, want %v by %q\n%s\nrules:\n%s", p, res.Forwarded(), want, by, &res, written(intents))
			}
			if got := v.decides(&res); got != by && !sameRank(intents, got, by) {
				t.Fatalf("%s: decided by %q, want %q\n%s\nrules:\n%s", p, got, by, &res, written(intents))
			}
			if rerouted(&res) != reroutes(intents, by) {
				t.Fatalf("%s: by %q it went to the decoy: %v\n%s\nrules:\n%s", p, by, rerouted(&res), &res, written(intents))
			}
			if n := mirrored(&res); n > 1 || n == 1 != (action(intents, by) == segmentation.ActionMirror && p.InPort != ports()["vm3"]) {
				t.Fatalf("%s: by %q it was copied %d times\n%s\nrules:\n%s", p, by, n, &res, written(intents))
			}
			if n := samples(&res); n > 1 {
				t.Fatalf("%s: reported %d times\n%s", p, n, &res)
			}
			undecided(t, &res)
		}
	})
	if denied == 0 {
		t.Error("no rule ever denied anything")
	}
}

// rerouted reports whether a packet left for the decoy's station.
func rerouted(res *oftest.Result) bool {
	for _, e := range res.Effects {
		if n, ok := e.(oftest.ToNormal); ok && n.Packet.EthDst == [6]byte(decoyMAC) {
			return true
		}
	}
	return false
}

// mirrored counts the copies that were made of a packet: there is no other output to that
// port than NORMAL's.
func mirrored(res *oftest.Result) (n int) {
	for _, e := range res.Effects {
		if o, ok := e.(oftest.Output); ok && o.Port == ports()["vm3"] {
			n++
		}
	}
	return n
}

func action(intents []segmentation.Intent, id string) segmentation.Action {
	for _, in := range intents {
		if in.ID == id {
			return in.Action
		}
	}
	return 0
}

func reroutes(intents []segmentation.Intent, by string) bool {
	return slices.ContainsFunc(intents, func(in segmentation.Intent) bool { return in.ID == by && in.Action == segmentation.ActionReroute })
}

// sameRank reports whether two intents are equally strict: which of them
// takes a packet that both select is left open, and makes no difference.
func sameRank(intents []segmentation.Intent, a, b string) bool {
	find := func(id string) int {
		return slices.IndexFunc(intents, func(in segmentation.Intent) bool { return in.ID == id })
	}
	i, j := find(a), find(b)
	return i >= 0 && j >= 0 && intents[i].Tier == intents[j].Tier && intents[i].Rank == intents[j].Rank && intents[i].Action == intents[j].Action
}

func samples(res *oftest.Result) int {
	n := 0
	for _, e := range res.Effects {
		if _, ok := e.(oftest.Sampled); ok {
			n++
		}
	}
	return n
}

// undecided fails where two flows of one priority match a packet and do not
// do the same, but for whom they count and report it to.
func undecided(t *rapid.T, res *oftest.Result) {
	for _, s := range res.Ambiguous() {
		for _, other := range s.Ties {
			if endsWith(s.Rule) != endsWith(other) {
				t.Fatalf("two flows of one priority disagree:\n%s", res)
			}
		}
	}
}

// endsWith returns a flow's last action, which is where a packet goes.
func endsWith(r *oftest.Rule) string {
	if len(r.Actions) == 0 {
		return "drop"
	}
	last := r.Actions[len(r.Actions)-1]
	if _, ok := last.(openflow.Sample); ok {
		return "drop"
	}
	return last.String()
}

// conversation is a connection from its first packet to its last, and what
// the tracker has been told of it.
type conversation struct {
	opening
	entered, answered bool
}

// packet returns one of the conversation, from the end that opened it or from
// the other.
func (c *conversation) packet(opener bool, flags uint16) oftest.Packet {
	from, to, port, icmp := netip.AddrPortFrom(c.src, c.srcPort), netip.AddrPortFrom(c.dst, c.dstPort), uint32(1), c.icmpType
	if !opener {
		from, to, port, icmp = to, from, 2, answerTo(c.icmpType)
	}
	switch c.proto {
	case flow.ProtoTCP:
		return oftest.TCP(from, to, flags).From(port)
	case flow.ProtoUDP:
		return oftest.UDP(from, to).From(port)
	}
	return oftest.ICMP(from.Addr(), to.Addr(), icmp, 0).From(port)
}

// speak sends a packet and checks that it passes as the rules read.
func (c *conversation) speak(t *rapid.T, v *virtual, p evaluation, opener bool, flags uint16) bool {
	syn := flags&oftest.SYN != 0
	established := !opener || c.entered && !syn && (c.proto == flow.ProtoTCP || c.answered)
	want, _ := p.decided(c.opening, established)
	if opener && !c.entered && want {
		c.entered = !syn || c.upward()
	}
	c.answered = c.answered || !opener
	packet := c.packet(opener, flags)
	res := v.Process(packet)
	if res.Forwarded() != want {
		t.Fatalf("%s: forwarded %v, want %v\n%s\n%s", packet, res.Forwarded(), want, &res, p)
	}
	undecided(t, &res)
	clean(t, &res)
	return want
}

// Whole conversations pass or stop as the rules read, packet by packet, with
// a tracker that is told what a real one would be; also when the rules change
// in between.
func TestConversationsPassAsTheRulesRead(t *testing.T) {
	stopped := 0
	rapid.Check(t, func(t *rapid.T) {
		v := newVirtual()
		next := func() evaluation {
			p := drawnProgram(t)
			if err := v.program(nil, p.Program, pipeline.TapConfig{}); err != nil {
				t.Fatal(err)
			}
			return p
		}
		p := next()
		for range 8 {
			s := drawnStep(t)
			if s.proto == flow.ProtoTCP && s.srcPort == 0 {
				s.srcPort, s.dstPort = 5000, 80
			}
			if s.src == s.dst || s.proto == flow.ProtoUDP && s.upward() { // who opens it is in doubt
				continue
			}
			c := &conversation{opening: s.opening}
			v.FlushConnections(func(oftest.Connection) bool { return true })
			if !c.open(t, v, p) {
				continue
			}
			if rapid.Bool().Draw(t, "change") {
				p = next()
			}
			for range 3 {
				if !p.tracked(c.opening) {
					break // nobody looks at it any more
				}
				if !c.speak(t, v, p, true, oftest.ACK|oftest.PSH) || !c.speak(t, v, p, false, oftest.ACK) {
					stopped++
				}
			}
		}
	})
	if stopped == 0 {
		t.Error("no change of rules ever stopped a conversation")
	}
}

// open lets a conversation begin and reports whether it may, and whether
// anybody looks at it.
func (c *conversation) open(t *rapid.T, v *virtual, p evaluation) bool {
	if !p.tracked(c.opening) {
		return false
	}
	if c.proto != flow.ProtoTCP {
		return c.speak(t, v, p, true, 0) && c.speak(t, v, p, false, 0)
	}
	if !c.speak(t, v, p, true, oftest.SYN) {
		return false
	}
	if may, _ := p.decided(c.opening, true); !may {
		t.Fatalf("%+v may begin but not go on\n%s", c.opening, p)
	}
	return c.speak(t, v, p, true, oftest.SYN) && // the first was lost
		c.speak(t, v, p, false, oftest.SYN|oftest.ACK) && c.speak(t, v, p, true, oftest.ACK)
}
