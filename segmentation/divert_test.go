package segmentation_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

var scrubber = flow.MAC{2, 0, 0, 0, 0, 0x5c}

func TestScrubTakesWhatIsSentToTheVictim(t *testing.T) {
	ok := segmentation.Scrub{Owner: "d-1", Switch: "s1", Port: "p9", Victim: good, Proto: flow.ProtoUDP, Station: scrubber, StationPort: "p5", TTL: time.Minute}
	in, err := segmentation.Protected{}.Scrub(ok)
	if err != nil {
		t.Fatal(err)
	}
	p := packet{port: "p9", ether: flow.EtherIPv4, src: bad, dst: good, proto: flow.ProtoUDP, dport: 53}
	for name, c := range map[string]struct {
		change func(*packet)
		want   segmentation.Action
	}{
		"the flood":             {func(*packet) {}, segmentation.ActionReroute},
		"whoever sends it":      {func(p *packet) { p.src = remedy }, segmentation.ActionReroute},
		"what the scrubber has": {func(p *packet) { p.port = "p5" }, segmentation.ActionAllow},
		"another protocol":      {func(p *packet) { p.proto = flow.ProtoTCP }, segmentation.ActionAllow},
		"another victim":        {func(p *packet) { p.dst = remedy }, segmentation.ActionAllow},
		"another port":          {func(p *packet) { p.port = "p8" }, segmentation.ActionAllow},
	} {
		q := p
		c.change(&q)
		if have := decide(in, q); have != c.want {
			t.Errorf("%s: %v, want %v", name, have, c.want)
		}
	}
	if in[1].To != scrubber || in[1].TTL != time.Minute {
		t.Errorf("%+v", in[1])
	}
	guarded := segmentation.NewProtected([]netip.Prefix{netip.PrefixFrom(bad, 32)})
	known := ok
	known.Source = bad
	if _, err := guarded.Scrub(known); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("what a protected host sends was diverted: %v", err)
	}
	for name, change := range map[string]func(*segmentation.Scrub){
		"no victim": func(s *segmentation.Scrub) { s.Victim = netip.Addr{} }, "no station": func(s *segmentation.Scrub) { s.Station = flow.MAC{} },
		"circles": func(s *segmentation.Scrub) { s.StationPort = s.Port }, "no TTL": func(s *segmentation.Scrub) { s.TTL = 0 },
		"families": func(s *segmentation.Scrub) { s.Source = netip.MustParseAddr("fd00::1") }, "no port": func(s *segmentation.Scrub) { s.StationPort = "" },
	} {
		s := ok
		change(&s)
		if in, err := (segmentation.Protected{}).Scrub(s); err == nil {
			t.Errorf("%s: not refused: %v", name, in)
		}
	}
}

func TestMirrorComesBehindEverything(t *testing.T) {
	ok := segmentation.Mirror{Owner: "d-1", Switch: "s1", Port: "p9", Host: bad, To: "p5", Limit: segmentation.Limit{PacketsPerSecond: 10}, TTL: time.Minute}
	in, err := segmentation.Protected{}.Mirror(ok)
	if err != nil {
		t.Fatal(err)
	}
	p := packet{port: "p9", ether: flow.EtherIPv4, src: bad, dst: good, proto: flow.ProtoTCP, flags: flow.SYN}
	if decide(in, p) != segmentation.ActionMirror || in[0].ToPort != "p5" || in[0].Limit.PacketsPerSecond != 10 {
		t.Errorf("%+v", in)
	}
	limit, err := segmentation.Protected{}.LimitFlood(segmentation.FloodLimit{Owner: "d-2", Switch: "s1", Port: "p9", Victim: good, Proto: flow.ProtoTCP,
		Limit: segmentation.Limit{PacketsPerSecond: 1}, TTL: time.Minute})
	if err != nil || decide(append(in, limit...), p) != segmentation.ActionRateLimit {
		t.Errorf("a limit is hidden by a mirror: %v", err)
	}
	forged := ok
	forged.Host, forged.Victim, forged.Proto = netip.Addr{}, good, flow.ProtoTCP
	if in, err = (segmentation.Protected{}).Mirror(forged); err != nil || decide(in, p) != segmentation.ActionMirror {
		t.Errorf("by its victim: %+v, %v", in, err)
	}
	guarded := segmentation.NewProtected([]netip.Prefix{netip.PrefixFrom(bad, 32)})
	if _, err := guarded.Mirror(ok); !errors.Is(err, segmentation.ErrProtected) {
		t.Errorf("what a protected host sends was copied: %v", err)
	}
	for name, change := range map[string]func(*segmentation.Mirror){
		"nobody": func(m *segmentation.Mirror) { m.Host = netip.Addr{} }, "no limit": func(m *segmentation.Mirror) { m.Limit.PacketsPerSecond = 0 },
		"back": func(m *segmentation.Mirror) { m.To = m.Port }, "nowhere": func(m *segmentation.Mirror) { m.To = "" }, "no TTL": func(m *segmentation.Mirror) { m.TTL = 0 },
	} {
		m := ok
		change(&m)
		if in, err := (segmentation.Protected{}).Mirror(m); err == nil {
			t.Errorf("%s: not refused: %v", name, in)
		}
	}
}
