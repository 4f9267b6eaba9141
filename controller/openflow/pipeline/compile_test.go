package pipeline_test

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// intents are the cases of testdata/compile.golden, in its order.
func intents() []segmentation.Intent {
	p := netip.MustParsePrefix
	em := func(id string, rank uint16, a segmentation.Action, m segmentation.Match) segmentation.Intent {
		return segmentation.Intent{ID: id, Tier: segmentation.TierEmergency, Rank: rank, Action: a, Match: m, TTL: 90 * time.Second}
	}
	guard := em("guard/0", 0, segmentation.ActionAllow, segmentation.Match{EtherType: flow.EtherIPv4, Src: p("10.0.0.1/32")})
	guard.Tier, guard.TTL = segmentation.TierGuard, 0
	sampled := em("deny/sampled", 1, segmentation.ActionDeny, segmentation.Match{InPort: "vm1", EtherType: flow.EtherIPv4, Src: p("10.0.0.7/32")})
	sampled.Sample = 65
	limited := em("limit/0", 2, segmentation.ActionRateLimit, segmentation.Match{EtherType: flow.EtherIPv6, Proto: flow.ProtoUDP, Dst: p("2001:db8::/64"), DstPort: 53})
	limited.Limit = segmentation.Limit{PacketsPerSecond: 100, Burst: 10}
	reroute := em("reroute/0", 260, segmentation.ActionReroute, segmentation.Match{InPort: "vm1", EtherType: flow.EtherIPv4, Src: p("10.0.0.7/32")})
	reroute.To = flow.MAC{2, 0, 0, 0, 0, 9}
	mirror := em("mirror/0", 500, segmentation.ActionMirror, segmentation.Match{InPort: "vm1", EtherType: flow.EtherIPv4, Src: p("10.0.0.7/32")})
	mirror.ToPort, mirror.Limit = "vm2", segmentation.Limit{PacketsPerSecond: 1000, Burst: 100}
	return []segmentation.Intent{
		guard, sampled, limited,
		em("deny/plain", 1, segmentation.ActionDeny, segmentation.Match{InPort: "vm1", SrcMAC: flow.MAC{2, 0, 0, 0, 0, 1}}),
		em("deny/tcp", 3, segmentation.ActionDeny, segmentation.Match{EtherType: flow.EtherIPv4, Proto: flow.ProtoTCP, Src: p("10.0.0.0/8"), Dst: p("10.9.0.1/32"), SrcPort: 1, DstPort: 443, TCPFlags: flow.SYN, TCPFlagsMask: flow.SYN | flow.ACK}),
		em("deny/sctp", 3, segmentation.ActionDeny, segmentation.Match{EtherType: flow.EtherIPv4, Proto: flow.ProtoSCTP, DstPort: 9}),
		em("deny/arp", 4, segmentation.ActionDeny, segmentation.Match{InPort: "vm1", EtherType: flow.EtherARP, Src: p("10.0.0.7/32"), Dst: p("10.0.0.0/24"), ARPOp: 1}),
		em("allow/icmp", 5, segmentation.ActionAllow, segmentation.Match{EtherType: flow.EtherIPv4, Proto: flow.ProtoICMP, ICMPType: 0, HasICMPType: true}),
		em("allow/nd", 999, segmentation.ActionAllow, segmentation.Match{EtherType: flow.EtherIPv6, Proto: flow.ProtoICMPv6, ICMPType: 135, HasICMPType: true, NDTarget: netip.MustParseAddr("fe80::1")}),
		reroute, mirror,
	}
}

func TestCompileGolden(t *testing.T) {
	place := pipeline.Placement{
		Layout: pipeline.Layout{Base: 200}, InPort: 5, ToPort: 6, Meter: 262100,
		Tap: pipeline.TapConfig{CollectorSet: 7, Domain: flow.TapDomain(3)},
	}
	var got strings.Builder
	for i, in := range intents() {
		place.Object, place.Slot = uint32(i), uint8(i%2)
		f, err := pipeline.Compile(in, place)
		if err != nil {
			t.Fatal(err)
		}
		got.WriteString(in.ID + "\n\t" + f.String() + "\n")
		if !pipeline.HasCopies(in) {
			continue
		}
		place.Copies = true
		if f, err = pipeline.Compile(in, place); err != nil {
			t.Fatal(err)
		}
		got.WriteString("\t" + f.String() + "\n")
		place.Copies = false
	}
	path := filepath.Join("testdata", "compile.golden")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s\n(UPDATE_GOLDEN=1 rewrites it)", got.String(), want)
	}
}

func TestCompileRefuses(t *testing.T) {
	good := intents()[1]
	for want, edit := range map[string]func(*segmentation.Intent){
		"no ID":           func(in *segmentation.Intent) { in.ID = "" },
		"unknown tier 2":  func(in *segmentation.Intent) { in.Tier = segmentation.TierEmergency + 1 },
		"needs a station": func(in *segmentation.Intent) { in.Action = segmentation.ActionReroute },
		"reroute is for": func(in *segmentation.Intent) {
			in.Tier, in.TTL, in.Action, in.To = segmentation.TierGuard, 0, segmentation.ActionReroute, flow.MAC{2}
		},
		"mirror is for": func(in *segmentation.Intent) {
			in.Action, in.ToPort = segmentation.ActionMirror, "vm2" // without a limit
		},
		"another port": func(in *segmentation.Intent) {
			in.Action, in.ToPort, in.Limit = segmentation.ActionMirror, in.Match.InPort, segmentation.Limit{PacketsPerSecond: 1}
		},
		"unknown action 4": func(in *segmentation.Intent) { in.Action = segmentation.ActionRateLimit + 1 },
		"limited in packets/s": func(in *segmentation.Intent) {
			in.Action, in.Limit = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 1, KilobitsPerSecond: 1}
		},
		"rank 1000":             func(in *segmentation.Intent) { in.Rank = 1000 },
		"need a TTL":            func(in *segmentation.Intent) { in.TTL = 0 },
		"whole seconds":         func(in *segmentation.Intent) { in.TTL = 1500 * time.Millisecond },
		"up to 18h12m15s":       func(in *segmentation.Intent) { in.TTL = 20 * time.Hour },
		"unknown action 9":      func(in *segmentation.Intent) { in.Action = 9 },
		"0 packets/s":           func(in *segmentation.Intent) { in.Action = segmentation.ActionRateLimit },
		"needs eth_type 0x0800": func(in *segmentation.Intent) { in.Match.EtherType = 0 },
		"needs ip_proto tcp":    func(in *segmentation.Intent) { in.Match.DstPort = 80 },
		"ARP carries IPv4": func(in *segmentation.Intent) {
			in.Match.EtherType, in.Match.Src = flow.EtherARP, netip.MustParsePrefix("fe80::/10")
		},
		"icmp6 type 135 or 136":     func(in *segmentation.Intent) { in.Match.NDTarget = netip.MustParseAddr("fe80::1") },
		"tcp_flags needs eth_type ": func(in *segmentation.Intent) { in.Match.TCPFlagsMask = 2 },
	} {
		in := good
		edit(&in)
		_, err := pipeline.Compile(in, pipeline.Placement{Layout: pipeline.Layout{Base: 200}, InPort: 1, Meter: 1})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if strings.Contains(want, "needs eth_type") && !errors.As(err, new(*openflow.PrereqError)) {
			t.Errorf("%v is no PrereqError", err)
		}
	}
	if _, err := pipeline.New(pipeline.Config{Layout: pipeline.Layout{Base: 250}}); err == nil {
		t.Error("tables beyond 254 accepted")
	}
}
