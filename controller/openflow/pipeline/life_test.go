package pipeline_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// The dead-controller guarantee: what nobody renews ends by itself, on the
// switch alone.
func TestRuleEndsWithoutController(t *testing.T) {
	l := newLab(t, "c", 2)
	s := l.stream(0, 1, 9000, time.Millisecond)
	s.flows(l)
	b := l.start()
	in := l.deny("d-1/0", 0)
	in.TTL = 2 * time.Second
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	b.stop()
	s.quiet(l, 20)
	took := l.eventually("the switch to end the rule by itself", func() bool {
		return !strings.Contains(l.ofctl("dump-flows", "table=201"), "hard_timeout")
	})
	t.Logf("the rule of %v was gone %v after the controller stopped", in.TTL, took)
	s.flows(l)
}

func TestExpiredRuleIsReportedNotHealed(t *testing.T) {
	l := newLab(t, "d", 1)
	var mu sync.Mutex
	var expired []string
	b := l.start(func(c *pipeline.Config) {
		c.Expired = func(owner string) { mu.Lock(); defer mu.Unlock(); expired = append(expired, owner) }
	})
	short, long := l.deny("d-1/0", 0), l.deny("d-2/0", 0)
	short.TTL, long.Rank = time.Second, 200
	for owner, in := range map[string]segmentation.Intent{"d-1": short, "d-2": long} {
		if _, err := b.Apply(l.ctx, owner, []segmentation.Intent{in}); err != nil {
			t.Fatal(err)
		}
	}
	l.eventually("the expiry to be reported", func() bool { mu.Lock(); defer mu.Unlock(); return len(expired) > 0 })
	l.eventually("the rule to leave the switch", func() bool {
		return strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout") == 1
	})
	if mu.Lock(); len(expired) != 1 || expired[0] != "d-1" {
		t.Fatalf("expired: %v", expired)
	}
	mu.Unlock()
	if st := b.Status(); st.Rules != 1 || st.Owners != 1 {
		t.Fatalf("status %+v", st)
	}
	if _, err := b.Renew(l.ctx, "d-1", 0); !errors.Is(err, pipeline.ErrUnknownOwner) {
		t.Fatalf("renewing an expired owner: %v", err)
	}
}

func TestRenewOutlivesTheTimeoutAndKeepsCounting(t *testing.T) {
	l := newLab(t, "e", 2)
	s := l.stream(0, 1, 9000, time.Millisecond)
	s.flows(l)
	b := l.start()
	in := l.deny("d-1/0", 0)
	in.TTL = 2 * time.Second
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	s.quiet(l, 20)
	start, before := time.Now(), s.received.Load()
	var last uint64
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < 5*time.Second {
		<-tick.C
		if _, err := b.Renew(l.ctx, "d-1", 0); err != nil {
			t.Fatal(err)
		}
		c, err := b.Counters(l.ctx, "d-1")
		if err != nil {
			t.Fatal(err)
		}
		if c[0].Packets < last {
			t.Fatalf("counter fell from %d to %d on renewal", last, c[0].Packets)
		}
		last = c[0].Packets
	}
	if last < 1000 {
		t.Fatalf("counted only %d", last)
	}
	if n := s.received.Load(); n != before {
		t.Fatalf("%d datagrams passed a rule that was renewed", n-before)
	}
	c, _ := b.Counters(l.ctx, "d-1")
	if c[0].Duration < 5*time.Second {
		t.Fatalf("duration %v starts anew on renewal", c[0].Duration)
	}
}

func TestSwitchRestartBringsEverythingBack(t *testing.T) {
	l := newLab(t, "f", 2)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	limit := l.deny("d-1/1", 1)
	limit.Action, limit.Limit, limit.Sample = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 50, Burst: 5}, 0
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0), limit}); err != nil {
		t.Fatal(err)
	}
	want, connects := l.ours(), b.Status().Connects
	for range 3 {
		if err := l.sw.KillSwitch(); err != nil {
			t.Fatal(err)
		}
		l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
		if r, err := b.Apply(l.ctx, "d-2", nil); !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending {
			t.Fatalf("%+v, %v", r, err)
		}
		answered := make(chan time.Time, 1)
		go func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for range tick.C {
				if c, err := openflow.Dial(l.ctx, "unix:"+l.mgmt()); err == nil {
					answered <- time.Now()
					c.Close()
					return
				}
				if l.ctx.Err() != nil {
					return
				}
			}
		}()
		if err := l.sw.StartSwitch(l.ctx); err != nil {
			t.Fatal(err)
		}
		connects++
		l.eventually("the bridge to reconnect", func() bool { return b.Connected() && b.Status().Connects >= connects })
		l.eventually("the rules to be back", func() bool { return l.ours() == want })
		took := time.Since(<-answered)
		t.Logf("everything back at most %v after the management socket answered", took)
		if m := l.ofctl("dump-meters"); !strings.Contains(m, "rate=50 burst_size=5") {
			t.Fatalf("meter is not back: %s", m)
		}
		connects = b.Status().Connects
	}
}

func TestForeignDeletionIsHealed(t *testing.T) {
	l := newLab(t, "g", 1)
	b := l.start()
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	want := l.ours()
	// Straight over OpenFlow, so that the time to heal is not that of a process.
	other, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, mod := range map[string]openflow.FlowMod{
		"everything":   {Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.TableAll}},
		"the hook":     {Command: openflow.DeleteStrict, Flow: openflow.Flow{Priority: pipeline.HookPriority, Match: openflow.Match{openflow.Reg(15, 0, 1<<31)}}},
		"one rule":     {Command: openflow.Delete, Flow: openflow.Flow{Table: 201, Match: openflow.Match{openflow.EthType(flow.EtherIPv4)}}},
		"what it does": {Command: openflow.Modify, Flow: openflow.Flow{Table: 201, Instructions: openflow.Instructions{Actions: []openflow.Action{openflow.Output{Port: openflow.PortNormal}}}}},
	} {
		healed := b.Status().Healed
		if err := other.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{mod}}); err != nil {
			t.Fatal(err)
		}
		took := l.eventually("the heal after losing "+name, func() bool { return b.Status().Healed > healed })
		t.Logf("%s: healed after %v", name, took)
		if n := l.ours(); n != want {
			t.Fatalf("after losing %s: %d flows, not %d", name, n, want)
		}
		if out := l.ofctl("dump-flows", "--no-stats", "table=201"); strings.Contains(out, "NORMAL") {
			t.Fatalf("foreign actions stay: %s", out)
		}
	}
}

func TestForeignFlowInOurPlaceIsRefused(t *testing.T) {
	l := newLab(t, "h", 0)
	for _, c := range []struct{ foreign, strict string }{
		{"table=0,priority=60000,reg15=0/0x80000000,actions=drop", "table=0,priority=60000,reg15=0/0x80000000"},
		{"table=203,priority=7,ip,actions=NORMAL", "table=203,priority=7,ip"},
	} {
		l.ofctl("add-flow", c.foreign)
		before := l.foreign()
		b := l.run(l.newBridge())
		l.eventually("the refusal", func() bool { return b.Status().State == pipeline.StateRefused })
		if st := b.Status(); !strings.Contains(st.LastError, "foreign flow") || st.Connects != 0 {
			t.Fatalf("%+v", st)
		}
		if _, err := b.Apply(l.ctx, "d", nil); !errors.Is(err, pipeline.ErrNotConnected) || !strings.Contains(err.Error(), "foreign") {
			t.Fatalf("got %v", err)
		}
		if l.ours() != 0 || l.foreign() != before {
			t.Fatal("the switch was written to")
		}
		l.ofctl("del-flows", "--strict", c.strict)
		l.eventually("the bridge to connect once the place is free", func() bool { return b.Connected() })
		if err := b.RemoveAll(l.ctx); err != nil {
			t.Fatal(err)
		}
		b.stop()
	}
}

// A controller that restarts takes over what it finds: no packet gets through
// in between, nothing starts counting anew, and what nobody adopts goes.
func TestAdoptWithoutGap(t *testing.T) {
	l := newLab(t, "i", 2)
	s := l.stream(0, 1, 9000, time.Millisecond)
	s.flows(l)
	keep, drop := l.deny("d-1/0", 0), l.deny("d-2/0", 1)
	limit := l.deny("d-3/0", 1)
	limit.Action, limit.Limit, limit.Rank = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 9, Burst: 3}, 300
	first := l.start()
	for _, in := range []segmentation.Intent{keep, drop, limit} {
		if _, err := first.Apply(l.ctx, in.ID[:3], []segmentation.Intent{in}); err != nil {
			t.Fatal(err)
		}
	}
	s.quiet(l, 20)
	before := s.received.Load()
	first.stop()
	meters := l.ofctl("dump-meters")
	b := l.newBridge()
	for _, in := range []segmentation.Intent{keep, limit} {
		if err := b.Adopt(in.ID[:3], []segmentation.Intent{in}); err != nil {
			t.Fatal(err)
		}
	}
	second := l.run(b)
	l.eventually("the second controller to connect", second.Connected)
	s.quiet(l, 20)
	if n := s.received.Load(); n != before {
		t.Fatalf("%d datagrams passed during the handover", n-before)
	}
	if after := l.ofctl("dump-meters"); after != meters {
		t.Fatalf("meters changed from %q to %q", meters, after)
	}
	if n := strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout"); n != 2 {
		t.Fatalf("%d rules, not the 2 adopted", n)
	}
	l.eventually("the adopted rule to have kept its count", func() bool {
		c, err := second.Counters(l.ctx, "d-1")
		return err == nil && c[0].Packets > 40
	})
	if _, err := second.Remove(l.ctx, "d-3"); err != nil {
		t.Fatal(err)
	}
	if m := l.ofctl("dump-meters"); strings.Contains(m, "rate=9 ") {
		t.Fatalf("adopted meter left behind: %s", m)
	}
}

// A rule that was limited by a meter ends while no controller runs; the meter
// stays behind. The next controller finds it, and leaves everybody else's.
func TestOrphanMeterIsCollected(t *testing.T) {
	l := newLab(t, "j", 1)
	l.ofctl("add-meter", "meter=5,pktps,burst,stats,bands=type=drop,rate=77,burst_size=7")
	l.ofctl("add-meter", "meter=262144,kbps,bands=type=drop,rate=770")
	limit := l.deny("d-1/0", 0)
	limit.Action, limit.Limit, limit.TTL = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 9, Burst: 3}, time.Second
	first := l.start()
	if _, err := first.Apply(l.ctx, "d-1", []segmentation.Intent{limit}); err != nil {
		t.Fatal(err)
	}
	first.stop()
	l.eventually("the rule to end", func() bool { return !strings.Contains(l.ofctl("dump-flows", "table=201"), "hard_timeout") })
	if !strings.Contains(l.ofctl("dump-meters"), "rate=9 ") {
		t.Fatal("the meter went by itself")
	}
	l.start()
	m := l.ofctl("dump-meters")
	if strings.Contains(m, "rate=9 ") || !strings.Contains(m, "rate=77 ") || !strings.Contains(m, "rate=770") {
		t.Fatalf("meters now: %s", m)
	}
}

func TestApplyBeforeTheSwitchIsThere(t *testing.T) {
	l := newLab(t, "k", 1)
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	b := l.run(l.newBridge())
	r, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)})
	if !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the kept rule to be installed", func() bool {
		c, err := b.Counters(l.ctx, "d-1")
		return err == nil && len(c) == 1 && c[0].Installed
	})
}

// Rules follow their interface, and wait for it where it is not there.
func TestRulesFollowThePort(t *testing.T) {
	l := newLab(t, "l", 2)
	b := l.start()
	in := l.deny("d-1/0", 0)
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	port := func() string { return l.ctl("get", "Interface", l.hosts[0], "ofport") }
	old := port()
	rule := func() string { return l.ofctl("dump-flows", "--no-stats", "--no-names", "table=201") }
	if !strings.Contains(rule(), "in_port="+old+",") {
		t.Fatalf("no rule on port %s: %s", old, rule())
	}
	l.ctl("del-port", l.bridge, l.hosts[0])
	l.eventually("the rule to wait for its port", func() bool { return b.Status().Waiting == 1 })
	l.ctl("add-port", l.bridge, l.hosts[0], "--", "set", "Interface", l.hosts[0], "ofport_request=77")
	l.eventually("the rule to follow", func() bool { return strings.Contains(rule(), "in_port=77") })
	l.eventually("nothing to wait", func() bool { return b.Status().Waiting == 0 })
	if strings.Contains(rule(), "in_port="+old+",") {
		t.Fatalf("the rule stays on port %s too: %s", old, rule())
	}
	absent := l.deny("d-2/0", 1)
	absent.Match.InPort = "nosuchport"
	r, err := b.Apply(l.ctx, "d-2", []segmentation.Intent{absent})
	if err != nil || len(r.Waiting) != 1 || r.Installed != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// Two decisions about the same packets hold one rule each: releasing one
// leaves the other in force.
func TestEqualRulesOfTwoOwners(t *testing.T) {
	l := newLab(t, "m", 1)
	b := l.start()
	for _, owner := range []string{"d-1", "d-2"} {
		if r, err := b.Apply(l.ctx, owner, []segmentation.Intent{l.deny(owner+"/0", 0)}); err != nil || r.Installed != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	count := func() int { return strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout") }
	if n := count(); n != 2 {
		t.Fatalf("%d rules", n)
	}
	if _, err := b.Remove(l.ctx, "d-1"); err != nil {
		t.Fatal(err)
	}
	if n := count(); n != 1 {
		t.Fatalf("%d rules after one release", n)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	cancel()
	if _, err := b.Apply(ctx, "d-2", nil); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if n := count(); n != 1 {
		t.Fatal("a cancelled call changed the switch")
	}
}

// A full table refuses one more rule wholly, and after a restart it does not
// keep out the rules that fit.
func TestFullTable(t *testing.T) {
	l := newLab(t, "u", 1)
	limit := func(n string) {
		l.ctl("--", "--id=@t", "create", "Flow_Table", "name=full", "flow_limit="+n, "overflow_policy=refuse",
			"--", "set", "bridge", l.bridge, "flow_tables:201=@t")
	}
	limit("3") // the miss and two rules
	first := l.start()
	var all []segmentation.Intent
	for i, id := range []string{"d-1/0", "d-1/1", "d-1/2"} {
		in := l.deny(id, 0)
		in.Rank = uint16(i)
		all = append(all, in)
	}
	if _, err := first.Apply(l.ctx, "d-1", all[:2]); err != nil {
		t.Fatal(err)
	}
	_, err := first.Apply(l.ctx, "d-1", all)
	if !errors.Is(err, &openflow.Error{Type: openflow.ErrorTypeFlowModFailed, Code: 1}) {
		t.Fatalf("want TABLE_FULL, got %v", err)
	}
	t.Log(err)
	installed := func() int { return strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout") }
	if n, st := installed(), first.Status(); n != 2 || st.Rules != 2 {
		t.Fatalf("%d rules installed, %d wanted", n, st.Rules)
	}
	if err := first.RemoveAll(l.ctx); err != nil {
		t.Fatal(err)
	}
	first.stop()

	b := l.newBridge()
	if err := b.Adopt("d-1", all); err != nil {
		t.Fatal(err)
	}
	second := l.run(b)
	l.eventually("the bridge to connect with the rules that fit", second.Connected)
	if n := installed(); n != 2 {
		t.Fatalf("%d rules installed", n)
	}
	if st := second.Status(); !strings.Contains(st.LastError, "TABLE_FULL") {
		t.Fatalf("status %+v", st)
	}
	limit("4")
	l.eventually("the rule that was left out to be installed", func() bool { return installed() == 3 })
}
