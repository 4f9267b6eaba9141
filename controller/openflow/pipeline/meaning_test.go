package pipeline_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// meaning is a world of policies, compiled, and what it means. What is
// established is checked again: what keep means is told by the tests of rules.
type meaning struct {
	policytest.World
	program *compile.Program
	oracle  *oracle.Oracle
}

func drawnMeaning(t *rapid.T) meaning {
	w := policytest.Worlds().Draw(t, "world")
	for i := range w.Set.Policies {
		w.Set.Policies[i].Established = policy.EstablishedRecheck
	}
	p, err := compile.New().Compile(w.Set, w.Inventory, policytest.Now())
	if err != nil {
		t.Fatal(err)
	}
	return meaning{w, p, oracle.New(w.Set, w.Inventory, policytest.Now())}
}

// drawn draws connections between two ends.
func (m *meaning) drawn(t *rapid.T, n int) (out []oracle.Connection) {
	for _, c := range rapid.SliceOfN(policytest.Connections(m.World), n, n).Draw(t, "connections") {
		if c.Src != c.Dst {
			out = append(out, c)
		}
	}
	return out
}

func (m *meaning) text() string {
	raw, err := m.Set.Marshal()
	return fmt.Sprintf("%s\n%v\n%+v", raw, err, m.Inventory)
}

// answer returns what answers the first packet of a connection; ok is false
// for ICMP that is no question.
func answer(c oracle.Connection) (a oracle.Connection, ok bool) {
	a = c
	a.Src, a.Dst, a.SrcPort, a.DstPort = c.Dst, c.Src, c.DstPort, c.SrcPort
	if c.Proto.IsICMP() {
		a.Type, ok = map[[2]uint8]uint8{{1, 8}: 0, {1, 13}: 14, {1, 15}: 16, {58, 128}: 129}[[2]uint8{uint8(c.Proto), c.Type}]
		return a, ok
	}
	return a, true
}

// packetOf is a packet of a connection for the virtual switch.
func packetOf(c oracle.Connection, flags uint16) oftest.Packet {
	from, to := netip.AddrPortFrom(c.Src, c.SrcPort), netip.AddrPortFrom(c.Dst, c.DstPort)
	switch uint8(c.Proto) {
	case flow.ProtoTCP:
		return oftest.TCP(from, to, flags).From(1)
	case flow.ProtoUDP:
		return oftest.UDP(from, to).From(1)
	case flow.ProtoSCTP:
		return oftest.SCTP(from, to).From(1)
	}
	p := oftest.ICMP(c.Src, c.Dst, c.Type, c.Code).From(1)
	p.Proto = uint8(c.Proto)
	return p
}

// remembered reports whether the switch itself remembers connections of a
// protocol, because conntrack does not follow it.
func remembered(p policy.Proto) bool {
	return uint8(p) != flow.ProtoTCP && uint8(p) != flow.ProtoUDP && !p.IsICMP()
}

// states are what conntrack says of the first packet of a connection, and of
// the one that answers; on the userspace datapath it cannot follow all.
func states(p policy.Proto) (opens, returns oftest.CTState) {
	if remembered(p) {
		return oftest.CTTracked | oftest.CTInvalid, oftest.CTTracked | oftest.CTInvalid
	}
	return oftest.CTTracked | oftest.CTNew, oftest.CTTracked | oftest.CTEstablished | oftest.CTReply
}

// begins reports whether a packet of a connection that nobody remembers passes.
// One that may be an answer must be allowed as such where no rule allows it.
func (m *meaning) begins(c oracle.Connection) bool {
	v := m.oracle.Verdict(c)
	ruled := v.Egress.ID != policy.RuleID{} || v.Ingress.ID != policy.RuleID{}
	if !v.Allowed() || ruled || uint8(c.Proto) != flow.ProtoSCTP || c.SrcPort >= 32768 || c.DstPort < 32768 {
		return v.Allowed()
	}
	back, _ := answer(c)
	return m.oracle.Verdict(back).Allowed()
}

// forgetting takes the flows away that packets have taught.
func forgetting() openflow.FlowMod {
	return openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: pipeline.DefaultBase + pipeline.TableRemembered}}
}

// Random policies, compiled and put into the tables, let through what the
// oracle allows: the packet that opens a connection, and the one that answers.
func TestTablesMeanWhatPoliciesMean(t *testing.T) {
	v := newVirtual()
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := drawnMeaning(t)
		if err := v.program(nil, m.program, pipeline.TapConfig{CollectorSet: 1}); err != nil {
			t.Fatal(err)
		}
		for _, c := range m.drawn(t, 40) {
			want := m.oracle.Verdict(c)
			back, answers := answer(c)
			if remembered(c.Proto) {
				if err := v.FlowMod(forgetting()); err != nil {
					t.Fatal(err)
				}
				if res := v.Trace(packetOf(back, 0)); res.Forwarded() != m.begins(back) {
					t.Fatalf("unasked %+v: forwarded %v\n%s\n%s", back, res.Forwarded(), &res, m.text())
				}
				v.Process(packetOf(c, 0))
			}
			opens, returns := states(c.Proto)
			res := v.Trace(packetOf(c, oftest.SYN), opens)
			if res.Forwarded() != want.Allowed() {
				t.Fatalf("%+v: forwarded %v, the oracle says %s\n%s\n%s", c, res.Forwarded(), want.Why, &res, m.text())
			}
			undecided(t, &res)
			clean(t, &res)
			if answers {
				passes := want.Allowed() || remembered(c.Proto) && m.begins(back) // by itself
				res := v.Trace(packetOf(back, oftest.SYN|oftest.ACK), returns)
				if res.Forwarded() != passes {
					t.Fatalf("answer to %+v: forwarded %v, the oracle says %s\n%s\n%s", c, res.Forwarded(), want.Why, &res, m.text())
				}
			}
			if want.Allowed() {
				allowed++
			} else {
				refused++
			}
		}
	})
	t.Logf("%d connections allowed, %d refused", allowed, refused)
	if allowed < 400 || refused < 400 {
		t.Error("too few of a kind")
	}
}

// traceOf is a packet of a connection in the syntax of ofproto/trace.
func traceOf(c oracle.Connection, port, flags string) string {
	out := fmt.Sprintf("in_port=%s,dl_type=0x0800,nw_ttl=64,nw_src=%s,nw_dst=%s", port, c.Src, c.Dst)
	icmp := "icmp"
	if c.Src.Is6() {
		out = fmt.Sprintf("in_port=%s,dl_type=0x86dd,nw_ttl=64,ipv6_src=%s,ipv6_dst=%s", port, c.Src, c.Dst)
		icmp = "icmpv6"
	}
	out += fmt.Sprintf(",nw_proto=%d", c.Proto)
	switch {
	case c.Proto.HasPorts():
		out += fmt.Sprintf(",%s_src=%d,%s_dst=%d", c.Proto, c.SrcPort, c.Proto, c.DstPort)
	case c.Proto.IsICMP():
		out += fmt.Sprintf(",%s_type=%d,%s_code=%d", icmp, c.Type, icmp, c.Code)
	}
	if uint8(c.Proto) == flow.ProtoTCP {
		out += ",tcp_flags=" + flags
	}
	return out
}

// forwards asks the real switch whether a packet gets to the pipeline behind
// ours.
func (l *lab) forwards(sw datapath.Local, packet, state string) (bool, string, error) {
	text, err := sw.Call(l.ctx, "ofproto/trace", l.bridge, packet, "--ct-next", state)
	if err != nil {
		return false, "", err
	}
	parts := strings.Split(text, "Datapath actions: ")
	if len(parts) < 2 {
		return false, text, errors.New("no datapath actions in the trace")
	}
	return strings.Contains(parts[len(parts)-2], "NORMAL"), text, nil
}

// The real switch agrees.
func TestSwitchMeansWhatPoliciesMean(t *testing.T) {
	l := newLab(t, "tm", 1)
	sw := datapath.Local{Dir: l.sw.Dir}
	b := l.start()
	other, err := openflow.Dial(l.ctx, "unix:"+l.sw.Mgmt(l.bridge))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := drawnMeaning(t)
		if r, err := b.SetPolicy(l.ctx, m.program); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
		for _, c := range m.drawn(t, 8) {
			want := m.oracle.Verdict(c)
			back, answers := answer(c)
			passes := want.Allowed()
			if remembered(c.Proto) {
				if err := other.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{forgetting()}}); err != nil {
					t.Fatal(err)
				}
				if _, err := sw.Call(l.ctx, "ofproto/trace", l.bridge, traceOf(c, l.hosts[0], ""), "--generate"); err != nil {
					t.Fatal(err)
				}
				passes = passes || m.begins(back) // by itself
			}
			opens, returns := states(c.Proto)
			text := func(s oftest.CTState) string { return strings.ReplaceAll(s.String(), "|", ",") }
			got, trace, err := l.forwards(sw, traceOf(c, l.hosts[0], "syn"), text(opens))
			if err != nil || got != want.Allowed() {
				t.Fatalf("%+v: forwarded %v, %v, the oracle says %s\n%s\n%s", c, got, err, want.Why, trace, m.text())
			}
			if answers {
				if got, trace, err = l.forwards(sw, traceOf(back, l.hosts[0], "syn|ack"), text(returns)); err != nil || got != passes {
					t.Fatalf("answer to %+v: forwarded %v, %v, the oracle says %s\n%s\n%s", c, got, err, want.Why, trace, m.text())
				}
			}
			if want.Allowed() {
				allowed++
			} else {
				refused++
			}
		}
	})
	t.Logf("%d connections allowed, %d refused", allowed, refused)
}
