package pipeline_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// denyAll is default deny for everybody, in both directions.
func denyAll() []want {
	in := want{name: "deny in", tier: policy.TierBaseline, rank: 1, action: policy.ActionDeny}
	out := in
	out.name, out.direction = "deny out", policy.Egress
	return []want{in, out}
}

// What a host needs to have an address and neighbours passes every policy,
// untracked; nothing that only resembles it does.
func TestHostsKeepTheirNeighbourhood(t *testing.T) {
	l := newLab(t, "va", 2)
	b := l.start()
	l.enforce(b, denyAll()...)
	sw := datapath.Local{Dir: l.sw.Dir}
	for packet, want := range map[string]bool{
		"arp,arp_op=1,arp_spa=10.0.0.1,arp_tpa=10.0.0.2":                                true,
		"udp,nw_src=0.0.0.0,nw_dst=255.255.255.255,udp_src=68,udp_dst=67":               true,
		"udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=67,udp_dst=68":                     true,
		"udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,udp_src=1067,udp_dst=67":                   false,
		"udp6,ipv6_src=fe80::1,ipv6_dst=ff02::1:2,udp_src=546,udp_dst=547":              true,
		"icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::1:ff00:2,icmpv6_type=135,icmpv6_code=0":  true,
		"icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::2,icmpv6_type=133,icmpv6_code=0":         true,
		"icmp6,ipv6_src=fe80::1,ipv6_dst=ff02::16,icmpv6_type=143,icmpv6_code=0":        true,
		"icmp6,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2,icmpv6_type=128,icmpv6_code=0": false,
		"tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_src=68,tcp_dst=67,tcp_flags=syn":       false,
		"dl_type=0x88cc": true,
	} {
		text, err := sw.Call(l.ctx, "ofproto/trace", l.bridge, "in_port="+l.hosts[0]+","+packet, "--ct-next", "trk,new")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(text, "NORMAL"); got != want || want && strings.Contains(text, "ct(") {
			t.Errorf("%s: passes %v, want %v:\n%s", packet, got, want, text)
		}
	}
}

// A zone that is full takes nobody in, and leaves alone who is in it.
func TestFullZoneSparesSessions(t *testing.T) {
	l := newLab(t, "vb", 2)
	l.echo(1, 9000)
	const limit = 20
	b := l.start(func(c *pipeline.Config) { c.Datapath, c.ZoneLimit = &datapath.Local{Dir: l.sw.Dir}, limit })
	l.enforce(b,
		l.rule("allow", policy.TierApplication, 5, policy.ActionAllow, 1, 0, 0),
		l.rule("deny", policy.TierBaseline, 5, policy.ActionDeny, 1, 0, 0))
	l.eventually("the limit", func() bool { u := b.Status().Datapath; return u != nil && u.ZoneLimit == limit })
	s := l.session(0, 1, 9000)
	s.flows(l)
	l.inHost(0, func() error {
		for range 10 * limit {
			conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(1), 9999)))
			if err != nil {
				return err
			}
			_, err = conn.Write([]byte("x"))
			conn.Close()
			if err != nil && !errors.Is(err, syscall.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
	l.eventually("a full zone", func() bool { return l.connections() == limit })
	s.flows(l)
	if n := l.connections(); n > limit {
		t.Errorf("%d connections in a zone of %d", n, limit)
	}
}

// What conntrack relates to an allowed connection comes through.
func TestErrorsOfAllowedConnectionsPass(t *testing.T) {
	l := newLab(t, "vc", 2)
	b := l.start()
	in := l.rule("in", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoUDP, 9999)
	in.peer = l.prefix(0)
	out := in
	out.name, out.direction, out.own, out.peer = "out", policy.Egress, in.peer, in.own
	l.enforce(b, append(denyAll(), in, out)...)
	l.inHost(0, func() error {
		conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.addr(1), 9999)))
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("no port unreachable, but %w", err)
		}
		return nil
	})
}

// A rate limit of a policy holds for what the opener sends, in packets or in
// kilobits; what a rule is about is listed with all its flows.
func TestPolicyRateLimit(t *testing.T) {
	for name, rate := range map[string]policy.Rate{"packets": {PacketsPerSecond: 50, Burst: 5}, "kilobits": {KilobitsPerSecond: 50, Burst: 16}} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "vd", 2)
			b := l.start()
			s := l.stream(0, 1, 9000, time.Millisecond)
			s.flows(l)
			limit := l.rule("limit", policy.TierAdmin, 1, policy.ActionRateLimit, 1, flow.ProtoUDP, 9000)
			limit.rate = rate
			l.enforce(b, limit)
			sent, received := s.sent.Load(), s.received.Load()
			l.eventually("a thousand datagrams", func() bool { return s.sent.Load() > sent+1000 })
			if n := s.received.Load() - received; n > 300 {
				t.Errorf("%d of a thousand datagrams in a second passed a limit of 50 or 100", n)
			}
			s.flows(l)
			rules, err := b.Rules(l.ctx)
			if err != nil {
				t.Fatal(err)
			}
			metered, free := 0, 0
			for _, r := range rules {
				if r.Intent != "p/ingress/limit" || r.Owner != "p" || r.Table != "ingress-admin" || r.Category != "ingress-admin" {
					continue
				}
				if strings.Contains(r.Flow, "meter") {
					metered++
				} else {
					free++
				}
			}
			if metered != 2 || free != 1 {
				t.Errorf("%d flows of the rule with a meter and %d without", metered, free)
			}
			l.enforce(b)
			l.eventually("the meter to go", func() bool { return !strings.Contains(l.ofctl("dump-meters"), "rate=50") })
		})
	}
}

// The way of packets under policy is healed like everything else.
func TestStatefulFrameHeals(t *testing.T) {
	l := newLab(t, "ve", 2)
	l.echo(1, 9000)
	b := l.start()
	l.enforce(b, append(denyAll(), l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, 0, 0))...)
	n := l.ours()
	for _, table := range []string{"202", "203", "204", "205", "206", "207", "211", "214", "216"} {
		l.ofctl("del-flows", "table="+table)
		l.eventually("table "+table+" to be whole", func() bool { return l.ours() == n })
	}
	l.enforce(b)
	l.eventually("the end of conntrack without policy", func() bool {
		return !strings.Contains(l.ofctl("dump-flows", "--no-stats"), "ct(")
	})
	n = l.ours()
	l.enforce(b, denyAll()...)
	l.enforce(b)
	l.eventually("all of a policy to go", func() bool { return l.ours() == n })
}

// Two bridges of one switch, joined by patch ports, track one connection each
// in its own zone.
func TestPolicyAcrossBridges(t *testing.T) {
	l := newLab(t, "vf", 2)
	accepted := l.echo(1, 9000)
	second := l.bridge + "2"
	if err := l.sw.AddBridge(l.ctx, second, "netdev"); err != nil {
		t.Fatal(err)
	}
	l.ctl("del-port", l.bridge, l.hosts[1])
	l.ctl("--", "add-port", second, l.hosts[1],
		"--", "add-port", l.bridge, "vfa", "--", "set", "interface", "vfa", "type=patch", "options:peer=vfb",
		"--", "add-port", second, "vfb", "--", "set", "interface", "vfb", "type=patch", "options:peer=vfa")
	one := l.start()
	two := l.start(func(c *pipeline.Config) {
		c.Name, c.Target = second, "unix:"+l.sw.Mgmt(second)
		c.Layout.Zone = pipeline.ZoneOf(second, pipeline.DefaultZone, map[uint16]bool{pipeline.ZoneOf(l.bridge, pipeline.DefaultZone, nil): true})
	})
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	l.enforce(one, allow, deny)
	l.enforce(two, allow, deny)
	s := l.session(0, 1, 9000)
	s.flows(l)
	if n := l.connections(); n != 1 {
		t.Errorf("%d connections on the first bridge", n)
	}
	l.enforce(two, deny)
	s.stuck(l, l.met(two, "deny"))
	l.tries(l.met(two, "deny"), 0, 1, 9000, accepted)
}
