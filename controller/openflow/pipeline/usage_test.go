package pipeline_test

import (
	"testing"

	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// A local switch says what it carries, and its zone is limited while it is
// used, over restarts of the switch as well.
func TestUsageAndZoneLimit(t *testing.T) {
	l := newLab(t, "ua", 2)
	l.echo(1, 9000)
	b := l.start(func(c *pipeline.Config) {
		c.Datapath, c.ZoneLimit = &datapath.Local{Dir: l.sw.Dir}, 1000
	})
	limit := func() uint64 {
		if u := b.Status().Datapath; u != nil {
			return u.ZoneLimit
		}
		return 1 << 40
	}
	l.eventually("the usage to be known", func() bool { return b.Status().Datapath != nil })
	if n := limit(); n != 0 {
		t.Errorf("a zone that is not used is limited to %d", n)
	}
	l.enforce(b, l.rule("allow", policy.TierApplication, 5, policy.ActionAllow, 1, flow.ProtoTCP, 9000))
	l.eventually("the limit", func() bool { return limit() == 1000 })
	s := l.session(0, 1, 9000)
	s.flows(l)
	l.eventually("the session to be counted", func() bool {
		u := b.Status().Datapath
		return u != nil && u.ZoneConnections != nil && *u.ZoneConnections == 1 && u.Connections != nil && *u.Connections == 1 && u.Megaflows > 0
	})
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the usage to be unknown", func() bool { return b.Status().Datapath == nil })
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the limit after a restart", func() bool { return limit() == 1000 })
	l.eventually("the rules after a restart", b.Connected)
	s.flows(l)
	l.enforce(b)
	l.eventually("the end of the limit", func() bool { return limit() == 0 })
}

// Bridges of one switch have zones of their own, the same in every run.
func TestZonesAreDistinct(t *testing.T) {
	taken := map[uint16]bool{}
	for i := range pipeline.ZoneCount {
		zone := pipeline.ZoneOf("br"+string(rune('a'+i%26)), 100, taken)
		if taken[zone] || zone < 100 || zone >= 100+pipeline.ZoneCount {
			t.Fatalf("zone %d for bridge %d", zone, i)
		}
		taken[zone] = true
	}
	if a, b := pipeline.ZoneOf("br0", 100, nil), pipeline.ZoneOf("br0", 100, nil); a != b {
		t.Errorf("zones %d and %d", a, b)
	}
}
