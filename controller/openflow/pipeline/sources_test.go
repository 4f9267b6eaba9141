package pipeline_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// forged is the plain reading of what a guarded port refuses.
func forged(g sourceguard.Port, p oftest.Packet) bool {
	known := len(g.MACs) > 0
	if known && !slices.Contains(g.MACs, flow.MAC(p.EthSrc)) {
		return true
	}
	own := func(a netip.Addr) bool { return a.IsValid() && !a.IsUnspecified() && g.Owns(a) }
	switch {
	case p.EthType == flow.EtherARP:
		if known && p.ARPSHA != p.EthSrc {
			return true
		}
		probe := p.ARPOp == 1 && p.Src.IsUnspecified() && own(p.Dst)
		return !probe && !own(p.Src)
	case p.EthType == flow.EtherIPv4:
		asks := p.Proto == flow.ProtoUDP && p.SrcPort == 68 && p.DstPort == 67 && p.Dst == netip.AddrFrom4([4]byte{255, 255, 255, 255})
		listens := p.Proto == 2 && p.Dst.IsMulticast()
		return !own(p.Src) && !(p.Src.IsUnspecified() && (asks || listens))
	case p.EthType != flow.EtherIPv6:
		return false
	}
	if p.Proto == flow.ProtoICMPv6 && (p.ICMPType == 135 || p.ICMPType == 136) {
		said := p.NDSLL
		if p.ICMPType == 136 {
			said = p.NDTLL
		}
		if known && said != [6]byte{} && said != p.EthSrc {
			return true
		}
		if p.ICMPType == 136 && !own(p.NDTarget) {
			return true
		}
		if p.ICMPType == 135 && p.Src.IsUnspecified() {
			return !own(p.NDTarget)
		}
	}
	comes := p.Proto == flow.ProtoICMPv6 && slices.Contains([]uint8{131, 132, 133, 143}, p.ICMPType) && p.Dst.IsMulticast()
	return !own(p.Src) && !(p.Src.IsUnspecified() && comes)
}

// drawnSource is an address at the edges of what guarded ports have.
func drawnSource(t *rapid.T, label string, v6 bool) netip.Addr {
	if v6 {
		return rapid.SampledFrom([]netip.Addr{netip.IPv6Unspecified(), netip.MustParseAddr("fd77::1"), netip.MustParseAddr("fd77::2"), netip.MustParseAddr("fd77::3"),
			netip.MustParseAddr("fe80::1"), netip.MustParseAddr("febf::1"), netip.MustParseAddr("fec0::1"),
			sourceguard.LinkLocal(hostMACs[0]), sourceguard.LinkLocal(hostMACs[1]), netip.MustParseAddr("ff02::1"), netip.MustParseAddr("ff02::16")}).Draw(t, label)
	}
	return rapid.SampledFrom([]netip.Addr{netip.IPv4Unspecified(), netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.2"), netip.MustParseAddr("10.77.0.3"),
		netip.MustParseAddr("169.254.0.1"), netip.MustParseAddr("224.0.0.22"), netip.MustParseAddr("255.255.255.255")}).Draw(t, label)
}

// drawnGuard is a guarded port.
func drawnGuard(t *rapid.T, port string) sourceguard.Port {
	g := sourceguard.Port{Switch: "br", Port: port, Workload: port, Guard: "g", Enforce: true}
	all := []string{"10.77.0.1", "10.77.0.2", "fd77::1", "fd77::2", "fe80::1"}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(all)-1), 1, 3, rapid.ID[int]).Draw(t, port+" addresses") {
		g.Addrs = append(g.Addrs, netip.MustParseAddr(all[i]))
	}
	for i := range rapid.IntRange(0, 2).Draw(t, port+" stations") {
		g.MACs = append(g.MACs, hostMACs[i])
	}
	return g
}

// drawnClaim is a packet that names a sender, in whatever way.
func drawnClaim(t *rapid.T) oftest.Packet {
	v6 := rapid.Bool().Draw(t, "v6")
	src, dst := drawnSource(t, "from", v6), drawnSource(t, "to", v6)
	mac := func(label string) [6]byte {
		return rapid.SampledFrom(append(hostMACs[:3:3], flow.MAC{})).Draw(t, label)
	}
	var p oftest.Packet
	switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
	case kind == 0:
		p = oftest.TCP(netip.AddrPortFrom(src, 40000), netip.AddrPortFrom(dst, 80), oftest.SYN)
	case kind == 1:
		p = oftest.UDP(netip.AddrPortFrom(src, rapid.SampledFrom([]uint16{67, 68}).Draw(t, "sport")), netip.AddrPortFrom(dst, rapid.SampledFrom([]uint16{67, 68}).Draw(t, "dport")))
	case kind == 2 && v6:
		p = oftest.ICMP(src, dst, rapid.SampledFrom([]uint8{128, 130, 131, 132, 133, 134, 137, 143}).Draw(t, "type"), 0)
	case kind == 2:
		p = oftest.ICMP(src, dst, 8, 0)
		p.Proto, p.ICMPType = rapid.SampledFrom([]uint8{2, 47}).Draw(t, "proto"), 0
	case v6:
		p = oftest.ND(src, dst, rapid.SampledFrom([]uint8{135, 136}).Draw(t, "type"), drawnSource(t, "target", true))
		if p.ICMPType == 135 {
			p.NDSLL = mac("said")
		} else {
			p.NDTLL = mac("said")
		}
	default:
		p = oftest.ARP(rapid.SampledFrom([]uint16{1, 2, 3}).Draw(t, "op"), src, dst)
		p.ARPSHA = mac("said")
	}
	p.EthSrc = rapid.SampledFrom(hostMACs[:3]).Draw(t, "mac")
	if rapid.IntRange(0, 7).Draw(t, "tagged") == 0 {
		p = p.Tagged(9, 0)
	}
	return p
}

// What guarded ports let through is what the plain reading says, packet by
// packet; at other ports nothing changes. What is staged lets everything
// through, and reports the same packets, each once.
func TestGuardedPortsRefuseWhatIsForged(t *testing.T) {
	v := newVirtual()
	refused, passed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		guards := []sourceguard.Port{drawnGuard(t, "vm1"), drawnGuard(t, "vm2")}
		guards[1].Enforce = false
		tx, err := pipeline.SourceFlowsFor(guards, pipeline.TapConfig{CollectorSet: 1}, ports())
		if err != nil {
			t.Fatal(err)
		}
		normal := openflow.Flow{Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Output{Port: openflow.PortNormal}}}}
		tx.Flows = append([]openflow.FlowMod{{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.TableAll}}, {Flow: normal}}, tx.Flows...)
		if err := v.Apply(tx); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			p := drawnClaim(t)
			for i, g := range guards {
				res := v.Trace(p.From(uint32(i + 1)))
				bad := forged(g, p)
				undecided(t, &res)
				if res.Forwarded() != (!bad || !g.Enforce) {
					t.Fatalf("%s: forwarded %v at %+v\n%s", p, res.Forwarded(), g, &res)
				}
				if n := forgeries(&res); n != 0 && !bad || n != 1 && bad {
					t.Fatalf("%s: reported %d times at %+v\n%s", p, n, g, &res)
				}
				if bad {
					refused++
				} else {
					passed++
				}
			}
			if res := v.Trace(p.From(3)); !res.Forwarded() || forgeries(&res) != 0 {
				t.Fatalf("%s: at a port that nobody guards\n%s", p, &res)
			}
		}
	})
	t.Logf("%d packets refused, %d passed", refused, passed)
	if refused < 400 || passed < 150 {
		t.Error("too few of a kind")
	}
}

// forgeries counts the reports of forged sources.
func forgeries(res *oftest.Result) (n int) {
	for _, e := range res.Effects {
		if x, ok := e.(oftest.Sampled); ok {
			if s, _, _, _ := flow.ParseRulePoint(x.Point); s == flow.SignalForged {
				n++
			}
		}
	}
	return n
}

// The real switch agrees, by ofproto/trace.
func TestSwitchRefusesWhatIsForged(t *testing.T) {
	l := newLab(t, "tf", 2)
	sw := datapath.Local{Dir: l.sw.Dir}
	b := l.start()
	refused, passed := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		g := drawnGuard(t, l.hosts[0])
		g.Switch = l.bridge
		if r, err := b.SetSources(l.ctx, []sourceguard.Port{g}); err != nil || !r.ReadBack || r.Installed != 1 {
			t.Fatal(r, err)
		}
		for range 8 {
			p := drawnClaim(t).From(1)
			text, err := sw.Call(l.ctx, "ofproto/trace", l.bridge, p.String())
			if err != nil {
				t.Fatal(p.String(), err)
			}
			bad := forged(g, p)
			if got := strings.Contains(text, "NORMAL"); got == bad {
				t.Fatalf("%s: forwarded %v at %+v\n%s", p, got, g, text)
			}
			if bad {
				refused++
			} else {
				passed++
			}
		}
	})
	t.Logf("%d packets refused, %d passed", refused, passed)
	if refused < 50 || passed < 15 {
		t.Error("too few of a kind")
	}
}
