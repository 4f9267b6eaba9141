package pipeline_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// opening is the first packet of a connection.
type opening struct {
	src, dst         netip.Addr
	proto            uint8
	srcPort, dstPort uint16
	icmpType         uint8
}

// step is a packet of a connection and what the tracker says of it.
type step struct {
	opening
	state string // new, est, rpl, inv
	flags string // of TCP, in the syntax of ofproto/trace
}

// answers reports whether the packet goes against the opening one.
func (s step) answers() bool {
	return s.state == "rpl" || s.state == "inv" && s.flags == "syn|ack" || s.state != "est" && s.flags == "rst"
}

// enters reports whether the packet, if it is allowed, makes an entry.
func (s step) enters() bool {
	return s.state == "new" && s.flags != "syn|ack" && s.flags != "rst" && (s.flags != "syn" || s.upward())
}

// evaluation is the slow and obvious reading of a program.
type evaluation struct{ *compile.Program }

// endpoint is the class of an address, by the longest prefix.
func (e evaluation) endpoint(a netip.Addr) compile.Class {
	longest, class := -1, compile.Class(0)
	for p, c := range e.Endpoints {
		if p.Contains(a) && p.Bits() > longest {
			longest, class = p.Bits(), c
		}
	}
	return class
}

// service is the class of a connection's service, by the most specific match.
func (e evaluation) service(o opening) compile.Class {
	best, class := -1, compile.Class(0)
	for m, c := range e.Services {
		if uint8(m.Proto) != o.proto || m.HasType && m.Type != o.icmpType || m.HasCode && m.Code != 0 || o.dstPort&m.PortMask != m.Port {
			continue
		}
		specific := bits.OnesCount16(m.PortMask)
		if m.HasType {
			specific++
		}
		if m.HasCode {
			specific++
		}
		if specific > best {
			best, class = specific, c
		}
	}
	return class
}

// rules returns those of a tier and a direction in the order of their ranks.
func (e evaluation) rules(tier policy.Tier, d policy.Direction) (out []compile.Rule) {
	for id, r := range e.Rules {
		if r.Tier == tier && id.Direction == d {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b compile.Rule) int { return cmp.Compare(a.Rank, b.Rank) })
	return out
}

// decide returns the rule of a direction that decides about a connection; a
// rule that keeps what is established says nothing of it. ok is false for none.
func (e evaluation) decide(d policy.Direction, o opening, established bool) (rule compile.Rule, ok bool) {
	opener, responder, service := e.endpoint(o.src), e.endpoint(o.dst), e.service(o)
	has := func(list []compile.Class, c compile.Class) bool { return list == nil || slices.Contains(list, c) }
	for tier := policy.TierEmergency; tier <= policy.TierBaseline; tier++ {
		for _, r := range e.rules(tier, d) {
			if !has(r.Opener, opener) || !has(r.Responder, responder) || !has(r.Service, service) {
				continue
			}
			if established && r.Established == policy.EstablishedKeep && (r.Action == policy.ActionDeny || r.Action == policy.ActionReject) {
				continue
			}
			if r.Action == policy.ActionPass {
				break
			}
			return r, true
		}
	}
	return rule, false
}

// decided is what the policies say of a connection, and whether it takes a
// rule to allow it.
func (e evaluation) decided(o opening, established bool) (passes, ruled bool) {
	for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
		if r, ok := e.decide(d, o, established); ok {
			if !r.Action.Consents() {
				return false, false
			}
			ruled = true
		}
	}
	return true, ruled
}

// tracked reports whether packets between two addresses are under policy.
func (e evaluation) tracked(o opening) bool {
	for p := range e.Tracked {
		if p.Contains(o.src) || p.Contains(o.dst) {
			return true
		}
	}
	return false
}

// judge says whether a packet passes, whether it is tracked on its way, and
// whether it is entered.
func (e evaluation) judge(s step) (passes, tracked, entered bool) {
	switch {
	case !e.tracked(s.opening):
		return true, false, false
	case s.state == "inv" && !s.answers():
		return false, true, false
	}
	passes, ruled := e.decided(s.opening, s.state != "new" || s.answers())
	if !passes || s.answers() || s.state != "new" {
		return passes, true, false
	}
	if s.upward() && (s.proto == flow.ProtoTCP && s.flags == "ack" || s.proto == flow.ProtoUDP && !ruled) {
		// Perhaps the other end opened it.
		passes, _ = e.decided(opening{src: s.dst, dst: s.src, proto: s.proto, srcPort: s.dstPort, dstPort: s.srcPort}, true)
		return passes, true, false
	}
	return true, true, s.enters()
}

// upward reports whether a packet goes from a service's port to an ephemeral
// one.
func (o opening) upward() bool {
	return (o.proto == flow.ProtoTCP || o.proto == flow.ProtoUDP) && o.srcPort < 32768 && o.dstPort >= 32768
}

// drawnWorld is small, so that rules and packets meet often.
func drawnAddr(t *rapid.T, label string, v6 bool) netip.Addr {
	last := byte(rapid.IntRange(1, 6).Draw(t, label))
	if v6 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 77, 0, last})
}

func drawnPrefix(t *rapid.T, label string) netip.Prefix {
	a := drawnAddr(t, label, rapid.IntRange(0, 3).Draw(t, label+" v6") == 0)
	length := a.BitLen() - rapid.SampledFrom([]int{0, 0, 0, 1, 2, 8}).Draw(t, label+" length")
	if rapid.IntRange(0, 9).Draw(t, label+" all") == 0 {
		length = 0
	}
	p, _ := a.Prefix(length)
	return p
}

// maxClass bounds the classes of drawn programs; 0 is one of them.
const maxClass = 5

func drawnClass(t *rapid.T) compile.Class {
	return compile.Class(rapid.IntRange(0, maxClass).Draw(t, "class"))
}

// drawnClasses is a list as rules have it, nil for everything.
func drawnClasses(t *rapid.T, label string) []compile.Class {
	if rapid.IntRange(0, 2).Draw(t, label+" any") == 0 {
		return nil
	}
	list := rapid.SliceOfNDistinct(rapid.IntRange(0, maxClass), 1, 4, rapid.ID).Draw(t, label)
	slices.Sort(list)
	out := make([]compile.Class, len(list))
	for i, c := range list {
		out[i] = compile.Class(c)
	}
	return out
}

// services are those that packets of drawn steps have.
func services() []compile.ServiceMatch {
	var out []compile.ServiceMatch
	for _, proto := range []policy.Proto{policy.Proto(flow.ProtoTCP), policy.Proto(flow.ProtoUDP)} {
		for _, port := range [][2]uint16{{0, 0}, {80, 0xffff}, {81, 0xffff}, {80, 0xfff0}, {0, 0x8000}, {40080, 0xffff}} {
			out = append(out, compile.ServiceMatch{Proto: proto, Port: port[0], PortMask: port[1]})
		}
	}
	for proto, question := range map[policy.Proto]uint8{policy.Proto(flow.ProtoICMP): 8, policy.Proto(flow.ProtoICMPv6): 128} {
		out = append(out, compile.ServiceMatch{Proto: proto}, compile.ServiceMatch{Proto: proto, Type: question, HasType: true},
			compile.ServiceMatch{Proto: proto, Type: question, HasType: true, HasCode: true}, compile.ServiceMatch{Proto: proto, HasType: true})
	}
	return out
}

func drawnRule(t *rapid.T, i int) compile.Rule {
	r := compile.Rule{
		ID:   policy.RuleID{Policy: "p", Direction: rapid.SampledFrom([]policy.Direction{policy.Ingress, policy.Egress}).Draw(t, "direction"), Rule: fmt.Sprint(i)},
		Tier: policy.Tier(rapid.IntRange(int(policy.TierEmergency), int(policy.TierBaseline)).Draw(t, "tier")),
		Rank: uint16(rapid.IntRange(0, 3).Draw(t, "rank"))*100 + uint16(i),
		Action: rapid.SampledFrom([]policy.Action{policy.ActionAllow, policy.ActionAllow, policy.ActionDeny, policy.ActionDeny,
			policy.ActionReject, policy.ActionPass, policy.ActionRateLimit}).Draw(t, "action"),
		Opener: drawnClasses(t, "opener"), Responder: drawnClasses(t, "responder"), Service: drawnClasses(t, "service"),
		Established: rapid.SampledFrom([]policy.Established{policy.EstablishedRecheck, policy.EstablishedRecheck, policy.EstablishedKeep}).Draw(t, "established"),
		Mirror:      rapid.SampledFrom([]string{"", "", "nowhere"}).Draw(t, "mirror"),
		Log:         rapid.Bool().Draw(t, "log"),
	}
	if r.Action == policy.ActionRateLimit {
		r.Rate = policy.Rate{PacketsPerSecond: 100, Burst: 1 << 20} // never reached here
	}
	return r
}

// drawnProgram is over a small world, so that rules and packets meet often.
func drawnProgram(t *rapid.T) evaluation {
	p := &compile.Program{Endpoints: map[netip.Prefix]compile.Class{}, Services: map[compile.ServiceMatch]compile.Class{},
		Rules: map[policy.RuleID]compile.Rule{}, Tracked: map[netip.Prefix]bool{}}
	for range rapid.IntRange(0, 10).Draw(t, "endpoints") {
		p.Endpoints[drawnPrefix(t, "endpoint")] = drawnClass(t)
	}
	all := services()
	slices.SortFunc(all, func(a, b compile.ServiceMatch) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	for range rapid.IntRange(0, 10).Draw(t, "services") {
		p.Services[rapid.SampledFrom(all).Draw(t, "service")] = drawnClass(t)
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "rules") {
		r := drawnRule(t, i)
		p.Rules[r.ID] = r
	}
	for range rapid.IntRange(1, 4).Draw(t, "tracked") {
		p.Tracked[drawnPrefix(t, "tracked")] = true
	}
	return evaluation{p}
}

func drawnStep(t *rapid.T) step {
	v6 := rapid.IntRange(0, 3).Draw(t, "v6") == 0
	s := step{state: rapid.SampledFrom([]string{"new", "new", "est", "rpl", "rpl", "inv"}).Draw(t, "state")}
	s.src, s.dst = drawnAddr(t, "from", v6), drawnAddr(t, "to", v6)
	switch s.proto = rapid.SampledFrom([]uint8{flow.ProtoTCP, flow.ProtoTCP, flow.ProtoUDP, flow.ProtoICMP}).Draw(t, "proto"); {
	case s.proto != flow.ProtoICMP:
		if s.proto == flow.ProtoTCP {
			if s.flags = rapid.SampledFrom([]string{"syn", "syn|ack", "ack", "rst"}).Draw(t, "flags"); s.flags == "syn|ack" && s.state == "new" {
				s.state = "inv" // no tracker calls it new
			}
		}
		s.srcPort = rapid.SampledFrom([]uint16{5000, 40000}).Draw(t, "sport")
		s.dstPort = rapid.SampledFrom([]uint16{80, 81, 443, 40080}).Draw(t, "dport")
	case v6:
		s.proto, s.icmpType = flow.ProtoICMPv6, 128
	default:
		s.icmpType = 8
	}
	return s
}

// text is the packet in the syntax of ofproto/trace.
func (s step) text(port string) string {
	src, dst, sp, dp, icmp := s.src, s.dst, s.srcPort, s.dstPort, s.icmpType
	if s.answers() {
		src, dst, sp, dp, icmp = dst, src, dp, sp, answerTo(icmp)
	}
	out := fmt.Sprintf("in_port=%s,dl_type=0x0800,nw_ttl=64,nw_src=%s,nw_dst=%s", port, src, dst)
	if src.Is6() {
		out = fmt.Sprintf("in_port=%s,dl_type=0x86dd,nw_ttl=64,ipv6_src=%s,ipv6_dst=%s", port, src, dst)
	}
	out += fmt.Sprintf(",nw_proto=%d", s.proto)
	switch s.proto {
	case flow.ProtoICMP:
		return out + fmt.Sprintf(",icmp_type=%d,icmp_code=0", icmp)
	case flow.ProtoICMPv6:
		return out + fmt.Sprintf(",icmpv6_type=%d,icmpv6_code=0", icmp)
	case flow.ProtoTCP:
		out += ",tcp_flags=" + s.flags
	}
	name := map[uint8]string{flow.ProtoTCP: "tcp", flow.ProtoUDP: "udp"}[s.proto]
	return out + fmt.Sprintf(",%s_src=%d,%s_dst=%d", name, sp, name, dp)
}

// answerTo is the type of the answer to an echo request.
func answerTo(icmpType uint8) uint8 {
	if icmpType == 128 {
		return 129
	}
	return 0
}

// traced is what the real switch does with a packet.
func (l *lab) traced(sw datapath.Local, s step) (passes, tracked, commits bool, _ string, _ error) {
	state := map[string]string{"new": "trk,new", "est": "trk,est", "rpl": "trk,est,rpl", "inv": "trk,inv"}[s.state]
	text, err := sw.Call(l.ctx, "ofproto/trace", l.bridge, s.text(l.hosts[0]), "--ct-next", state)
	if err != nil {
		return false, false, false, "", err
	}
	parts := strings.Split(text, "Datapath actions: ")
	if len(parts) < 2 {
		return false, false, false, text, errors.New("no datapath actions in the trace")
	}
	last, _, _ := strings.Cut(parts[len(parts)-1], "\n")
	return strings.Contains(parts[len(parts)-2], "NORMAL"), len(parts) > 2, strings.Contains(last, "ct(commit"), text, nil
}

// The switch, with our flows for random programs, decides as the plain reading
// of them does.
func TestPolicyDecidesAsItReads(t *testing.T) {
	l := newLab(t, "ta", 2)
	sw := datapath.Local{Dir: l.sw.Dir}
	b := l.start()
	packets, stopped := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := drawnProgram(t)
		if r, err := b.SetPolicy(l.ctx, p.Program); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
		for range 20 {
			s := drawnStep(t)
			passes, tracked, entered := p.judge(s)
			got, gotTracked, commits, trace, err := l.traced(sw, s)
			if err != nil {
				t.Fatal(err)
			}
			if got != passes || gotTracked != tracked || commits != entered {
				t.Fatalf("%+v: passes %v, tracked %v, entered %v; want %v, %v, %v\n%s\n%s", s, got, gotTracked, commits, passes, tracked, entered, p, trace)
			}
			packets++
			if !passes {
				stopped++
			}
		}
	})
	t.Logf("%d packets, of which %d are stopped", packets, stopped)
}

// The virtual switch agrees as well, which is faster and tells ambiguity.
func TestPolicyIsUnambiguous(t *testing.T) {
	v := newVirtual()
	rapid.Check(t, func(t *rapid.T) {
		p := drawnProgram(t)
		if err := v.program(nil, p.Program, pipeline.TapConfig{CollectorSet: 1}); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			s := drawnStep(t)
			passes, _, entered := p.judge(s)
			state := map[string]oftest.CTState{"new": oftest.CTNew, "est": oftest.CTEstablished, "rpl": oftest.CTEstablished | oftest.CTReply, "inv": oftest.CTInvalid}[s.state]
			res := v.Trace(s.packet(), oftest.CTTracked|state)
			committed := slices.ContainsFunc(res.Effects, func(e oftest.Effect) bool { x, ok := e.(oftest.Tracked); return ok && x.Committed })
			if res.Forwarded() != passes || committed != entered {
				t.Fatalf("%+v: passes %v, entered %v; want %v, %v\n%s\n%s", s, res.Forwarded(), committed, passes, entered, p, &res)
			}
			undecided(t, &res)
			clean(t, &res)
		}
	})
}

// packet is the step as a packet of the virtual switch.
func (s step) packet() oftest.Packet {
	flags := map[string]uint16{"syn": oftest.SYN, "syn|ack": oftest.SYN | oftest.ACK, "ack": oftest.ACK, "rst": oftest.RST}[s.flags]
	c := conversation{opening: s.opening}
	return c.packet(!s.answers(), flags)
}

// clean fails where a packet leaves with something of ours in its registers.
func clean(t *rapid.T, res *oftest.Result) {
	for _, e := range res.Effects {
		if n, ok := e.(oftest.ToNormal); ok && n.Packet.Regs != [16]uint32{15: 1 << 31} {
			t.Fatalf("registers %x are left\n%s", n.Packet.Regs, res)
		}
	}
}

func (e evaluation) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "endpoints %v\nservices %+v\ntracked %v\n", e.Endpoints, e.Services, e.Tracked)
	for d := policy.Ingress; d <= policy.Egress; d++ {
		for tier := policy.TierEmergency; tier <= policy.TierBaseline; tier++ {
			for _, r := range e.rules(tier, d) {
				fmt.Fprintf(&out, "%s %s %d: %s %v %v %v %s\n", tier, r.ID, r.Rank, r.Action, r.Opener, r.Responder, r.Service, r.Established)
			}
		}
	}
	return out.String()
}

func written(intents []segmentation.Intent) string {
	var out strings.Builder
	for _, in := range intents {
		f, err := pipeline.Compile(in, pipeline.Placement{Layout: pipeline.Layout{Base: pipeline.DefaultBase}, Meter: 1})
		fmt.Fprintf(&out, "%s tier %d: %s %v\n", in.ID, in.Tier, f.String(), err)
	}
	return out.String()
}
