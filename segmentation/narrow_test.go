package segmentation_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

func TestSegmentHitsTheServiceAlone(t *testing.T) {
	other := netip.MustParseAddr("10.0.0.3")
	ssh := packet{port: "p9", ether: flow.EtherIPv4, src: bad, dst: good, proto: flow.ProtoTCP, dport: 22}
	web, elsewhere, back, twin := ssh, ssh, ssh, ssh
	web.dport = 80
	elsewhere.dst = other
	back.port, back.src, back.dst, back.sport, back.dport = "p2", good, bad, 22, 40000
	twin.port = "p8"
	for _, c := range []struct {
		name   string
		s      segmentation.Segment
		denied []packet
		passes []packet
	}{
		{"service", segmentation.Segment{Proto: flow.ProtoTCP, Service: 22}, []packet{ssh, elsewhere}, []packet{web, back, twin}},
		{"peer", segmentation.Segment{Peer: good}, []packet{ssh, web}, []packet{elsewhere, back, twin}},
		{"service of a peer", segmentation.Segment{Peer: good, Proto: flow.ProtoTCP, Service: 22}, []packet{ssh}, []packet{web, elsewhere, back, twin}},
	} {
		c.s.Owner, c.s.Switch, c.s.Port, c.s.Host, c.s.TTL = "d-1", "s1", "p9", bad, time.Minute
		in, err := segmentation.Protected{}.Segment(c.s)
		if err != nil {
			t.Fatal(c.name, err)
		}
		for _, p := range c.denied {
			if decide(in, p) != segmentation.ActionDeny {
				t.Errorf("%s: %+v passes", c.name, p)
			}
		}
		for _, p := range c.passes {
			if decide(in, p) != segmentation.ActionAllow {
				t.Errorf("%s: %+v is denied", c.name, p)
			}
		}
	}
}

func TestHostLimitSparesRemediation(t *testing.T) {
	in, err := segmentation.Protected{}.LimitHost(segmentation.HostLimit{Owner: "d-1", Switch: "s1", Port: "p9", Host: bad,
		Remediation: []netip.Addr{remedy, netip.MustParseAddr("fd00::1")}, Limit: segmentation.Limit{PacketsPerSecond: 50, Burst: 10}, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	p := packet{port: "p9", ether: flow.EtherIPv4, src: bad, dst: good}
	for _, c := range []struct {
		change func(*packet)
		want   segmentation.Action
	}{
		{func(*packet) {}, segmentation.ActionRateLimit},
		{func(p *packet) { p.dst = remedy }, segmentation.ActionAllow},
		{func(p *packet) { p.src = good }, segmentation.ActionAllow},
		{func(p *packet) { p.port = "p2" }, segmentation.ActionAllow},
	} {
		q := p
		c.change(&q)
		if have := decide(in, q); have != c.want {
			t.Errorf("%+v: %v, want %v", q, have, c.want)
		}
	}
}

func TestNarrowRulesAreRefused(t *testing.T) {
	guarded := segmentation.NewProtected([]netip.Prefix{netip.PrefixFrom(bad, 32)})
	six := netip.MustParseAddr("fd00::1")
	ok := segmentation.Segment{Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, Peer: good, TTL: time.Minute}
	if _, err := guarded.Segment(ok); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("a protected host was segmented: %v", err)
	}
	for name, change := range map[string]func(*segmentation.Segment){
		"no host": func(s *segmentation.Segment) { s.Host = netip.Addr{} }, "no peer": func(s *segmentation.Segment) { s.Peer = netip.Addr{} },
		"families": func(s *segmentation.Segment) { s.Peer = six }, "no port": func(s *segmentation.Segment) { s.Port = "" },
		"ports of ICMP": func(s *segmentation.Segment) { s.Proto, s.Service = flow.ProtoICMP, 8 }, "no TTL": func(s *segmentation.Segment) { s.TTL = 0 },
	} {
		s := ok
		change(&s)
		if in, err := (segmentation.Protected{}).Segment(s); err == nil {
			t.Errorf("%s: not refused: %v", name, in)
		}
	}
	limit := segmentation.HostLimit{Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, Limit: segmentation.Limit{PacketsPerSecond: 1}, TTL: time.Minute}
	if _, err := guarded.LimitHost(limit); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("a protected host was limited: %v", err)
	}
	for name, change := range map[string]func(*segmentation.HostLimit){
		"no host": func(l *segmentation.HostLimit) { l.Host = netip.Addr{} }, "nothing": func(l *segmentation.HostLimit) { l.Limit.PacketsPerSecond = 0 },
		"remediation": func(l *segmentation.HostLimit) { l.Remediation = make([]netip.Addr, 17) }, "no switch": func(l *segmentation.HostLimit) { l.Switch = "" },
	} {
		l := limit
		change(&l)
		if in, err := (segmentation.Protected{}).LimitHost(l); err == nil {
			t.Errorf("%s: not refused: %v", name, in)
		}
	}
}
