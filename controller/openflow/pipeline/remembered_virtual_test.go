package pipeline_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// exchange is two ends that send each other packets of a protocol, over the
// virtual switch.
type exchange struct {
	t    *testing.T
	v    *virtual
	a, b netip.AddrPort
	gre  bool
}

func (x exchange) packet(back bool) oftest.Packet {
	from, to := x.a, x.b
	if back {
		from, to = to, from
	}
	p := oftest.SCTP(from, to).From(1)
	if x.gre {
		p.Proto, p.SrcPort, p.DstPort = 47, 0, 0
	}
	return p
}

// want holds what becomes of the opener's packet, or of the other end's.
func (x exchange) want(what string, back, passes bool) {
	x.t.Helper()
	res := x.v.Process(x.packet(back))
	if res.Forwarded() != passes {
		x.t.Errorf("%s: passes %v, want %v\n%s", what, res.Forwarded(), passes, &res)
	}
	if n := len(res.Ambiguous()); n > 0 {
		x.t.Errorf("%s: %d lookups are ambiguous\n%s", what, n, &res)
	}
}

// learned counts the flows that packets have taught.
func (v *virtual) learned() (n int) {
	for _, r := range v.Rules() {
		if r.Table == pipeline.DefaultBase+pipeline.TableRemembered {
			n++
		}
	}
	return n
}

func peer(n uint32, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24|n))), port)
}

// onlyServer lets anybody open a protocol to one host, and that host nothing.
func onlyServer(t *testing.T, v *virtual, proto uint8, port uint16, intents ...segmentation.Intent) netip.AddrPort {
	t.Helper()
	at := netip.AddrPortFrom(netip.MustParseAddr("10.77.0.2"), port)
	host := netip.PrefixFrom(at.Addr(), 32)
	rules := []want{{name: "allow", tier: policy.TierApplication, rank: 1, action: policy.ActionAllow, own: host, proto: proto, port: port},
		{name: "deny", tier: policy.TierBaseline, rank: 1, action: policy.ActionDeny, own: host},
		{name: "own", tier: policy.TierBaseline, rank: 1, action: policy.ActionDeny, direction: policy.Egress, own: host}}
	if err := v.program(intents, programOf(rules...), pipeline.TapConfig{}); err != nil {
		t.Fatal(err)
	}
	return at
}

// Silence ends a connection, and either end's packets keep it.
func TestSilenceIsForgotten(t *testing.T) {
	for _, gre := range []bool{false, true} {
		v := newVirtual()
		proto, port := flow.ProtoSCTP, uint16(3868)
		if gre {
			proto, port = 47, 0
		}
		x := exchange{t, v, peer(1, 50000), onlyServer(t, v, proto, port), gre}
		x.want("unasked", true, false)
		x.want("opening", false, true)
		for range 5 {
			v.now = v.now.Add(100 * time.Second)
			x.want("answer alone", true, true)
		}
		if n := v.learned(); n != 2 {
			t.Errorf("%d flows know a connection of which the other end alone has sent, want 2", n)
		}
		for range 5 {
			v.now = v.now.Add(100 * time.Second)
			x.want("opener alone", false, true)
		}
		x.want("answer", true, true)
		v.now = v.now.Add(121 * time.Second)
		x.want("after silence", true, false)
	}
}

// A service that more ask than can be remembered is crowded: those who are
// known stay so, others are served by what the rules say of their ports, and
// what they say no to is dropped as ever. After a while it is as before.
func TestCrowdedServices(t *testing.T) {
	for _, gre := range []bool{false, true} {
		v := newVirtual()
		proto, port := flow.ProtoSCTP, uint16(3868)
		if gre {
			proto, port = 47, 0
		}
		at := onlyServer(t, v, proto, port)
		early := exchange{t, v, peer(1, 50000), at, gre}
		early.want("opening", false, true)
		for n := range uint32(pipeline.RememberedLimit) {
			x := exchange{t, v, peer(100+n, 40000), at, gre}
			x.want("one of a crowd", false, true)
		}
		held := v.learned()
		late, unheard := exchange{t, v, peer(2, 50000), at, gre}, exchange{t, v, peer(3, 50000), at, gre}
		for range 3 {
			late.want("opening", false, true)
			late.want("an answer", true, true)
			early.want("more", false, true)
			early.want("an answer to who was early", true, true)
		}
		unheard.want("an answer that nobody asked for", true, true)
		if !gre {
			other := at
			other = netip.AddrPortFrom(other.Addr(), 3869)
			exchange{t, v, peer(2, 50000), other, gre}.want("another port", true, false)
		}
		if n := v.learned(); n != held {
			t.Errorf("%d flows, %d before", n, held)
		}
		v.now = v.now.Add(31 * time.Second)
		unheard.want("an answer that nobody asked for, later", true, false)
		v.now = v.now.Add(100 * time.Second) // the crowd is forgotten
		late.want("opening", false, true)
		late.want("an answer", true, true)
		unheard.want("an answer that nobody asked for, in the end", true, false)
	}
}

// What a guard's host opens is exempt from policy, and so are the answers.
func TestRememberedExemption(t *testing.T) {
	v := newVirtual()
	guard := segmentation.Intent{ID: "g", Tier: segmentation.TierGuard, Action: segmentation.ActionAllow,
		Match: segmentation.Match{EtherType: flow.EtherIPv4, Src: netip.MustParsePrefix("11.0.0.1/32")}}
	at := onlyServer(t, v, flow.ProtoSCTP, 3868, guard)
	denied := netip.AddrPortFrom(at.Addr(), 99)
	x := exchange{t: t, v: v, a: peer(1, 50000), b: denied}
	x.want("unasked", true, false)
	x.want("opening by the guard's host", false, true)
	x.want("its answer", true, true)
	exchange{t: t, v: v, a: peer(2, 50000), b: denied}.want("somebody else", false, false)
}
