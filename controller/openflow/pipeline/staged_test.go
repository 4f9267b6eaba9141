package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/internal/cut"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// among puts the rules of a program among those of many endpoints elsewhere,
// whose classes are shifted, so that two of these have little in common.
func among(hosts, shift int, wants ...want) *compile.Program {
	p := programOf(wants...)
	own := compile.Class(len(p.Endpoints))
	for i := range hosts {
		x := endpointOf(i)
		p.Endpoints[x], p.Tracked[x] = own+1+compile.Class((i+shift)%97), true
	}
	return p
}

// inForce says of the flows of policies, without their banks, which packets meet
// and which they do not.
func (l *lab) inForce() (met, unmet []string) {
	l.t.Helper()
	marks := regexp.MustCompile(`,?reg15=(0x[0-9a-f]+|0)/(0x[0-9a-f]+)`)
	bank := uint64(0)
	if strings.Contains(l.ofctl("dump-flows", "--no-stats", "table=0"), "NXM_NX_REG15[26]") {
		bank = 1 << 26
	}
	for line := range strings.Lines(l.ofctl("dump-flows", "--no-stats")) {
		var value, mask uint64
		m := marks.FindStringSubmatch(line)
		if m == nil || !strings.Contains(line, "cookie=0x504c") {
			continue
		}
		if _, err := fmt.Sscan(m[1]+" "+m[2], &value, &mask); err != nil {
			l.t.Fatal(err)
		}
		if mask&(1<<26) == 0 {
			continue
		}
		line = marks.ReplaceAllString(strings.TrimSpace(line), fmt.Sprintf(",marks=%x/%x", value&^(1<<26), mask&^(1<<26)))
		if value&(1<<26) == bank {
			met = append(met, line)
		} else {
			unmet = append(unmet, line)
		}
	}
	slices.Sort(met)
	return met, unmet
}

// countInForce counts the flows of sources and of rules that packets meet.
func (l *lab) countInForce(conn *openflow.Conn) uint32 {
	l.t.Helper()
	hook, err := conn.Flows(l.ctx, openflow.FlowFilter{Table: 0, Cookie: 0x504c << 48, CookieMask: 0xffff << 48})
	if err != nil {
		l.t.Error(err)
	}
	bank := uint32(0)
	if len(hook) > 0 && strings.Contains(hook[0].String(), "NXM_NX_REG15[26]") {
		bank = 1 << 26
	}
	met := openflow.Match{openflow.Reg(15, bank, 1<<26)}
	sum, err := conn.Aggregate(l.ctx, openflow.FlowFilter{Table: 206, Match: met}, openflow.FlowFilter{Table: 215, Match: met})
	if err != nil {
		l.t.Error(err)
	}
	return sum.Flows
}

// through returns a bridge that is reached through a proxy.
func (l *lab) through(edit ...func(*pipeline.Config)) (*cut.Proxy, *pipeline.Bridge) {
	l.t.Helper()
	p, err := cut.Listen(filepath.Join(l.sw.Dir, "cut"), l.mgmt())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { p.Close() })
	p.Arm(cut.Fault{Kind: cut.Pass})
	return p, l.newBridge(append(edit, func(c *pipeline.Config) { c.Target = p.Target() })...)
}

// While policies of many flows are on their way to the switch, for the first
// time, in the place of others, and after a restart of the switch, hosts are
// contained: each containment is in force before the policies are.
func TestContainmentOvertakesPolicies(t *testing.T) {
	const rounds = 4
	l := newLab(t, "sa", 2)
	proxy, bridge := l.through()
	b := l.run(bridge)
	l.eventually("the bridge to connect", b.Connected)
	s := l.stream(0, 1, 9000, time.Millisecond)
	first, second := manyEndpoints(3000, 300), manyEndpoints(3000, 297)
	side, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer side.Close()
	// contain contains and frees a host again and again, and returns how often it
	// was contained, and packets stopped, while as many flows were in force as
	// before.
	contain := func(before uint32) (n int) {
		for ; n < rounds; n++ {
			r, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)})
			late := l.countInForce(side) != before
			if err != nil || !r.ReadBack {
				t.Errorf("%+v, %v", r, err)
				return n
			}
			s.quiet(l, 5)
			if _, err := b.Remove(l.ctx, "d-1"); err != nil {
				t.Error(err)
			}
			if late || err != nil {
				return n
			}
		}
		return n
	}
	for _, c := range []struct {
		name string
		next *compile.Program
	}{{"a first install", first}, {"other policies", second}} {
		before := l.countInForce(side)
		done := make(chan int)
		proxy.Arm(cut.Fault{Direction: cut.ToSwitch, Message: 1000, Kind: cut.Pass, Do: func() { go func() { done <- contain(before) }() }})
		r, err := b.SetPolicy(l.ctx, c.next)
		if err != nil || !r.ReadBack || l.countInForce(side) == before {
			t.Fatal(r, err)
		}
		if n := <-done; n < 1 {
			t.Errorf("%s: nobody was contained before that was in force", c.name)
		} else {
			t.Logf("%s: contained %d times before that was in force", c.name, n)
		}
		s.flows(l)
		if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
			t.Errorf("%s: %d differences, %v", c.name, len(drift), err)
		}
	}
	want, _ := l.inForce()
	l.eventually("what was in force before to go", func() bool { _, old := l.inForce(); return len(old) == 0 })
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
	proxy.Arm(cut.Fault{Kind: cut.Pass})
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the policies to be back", func() bool { met, _ := l.inForce(); return slices.Equal(met, want) })
	s.quiet(l, 20)
	// The switch says how long it has had each flow.
	age := func(table string) (youngest, oldest float64) {
		youngest = 1e9
		for _, m := range regexp.MustCompile(`cookie=0x504c03(?:03|0d)\S+ duration=([0-9.]+)s`).FindAllStringSubmatch(l.ofctl("dump-flows", table), -1) {
			var d float64
			if _, err := fmt.Sscan(m[1], &d); err != nil {
				t.Fatal(err)
			}
			youngest, oldest = min(youngest, d), max(oldest, d)
		}
		return youngest, oldest
	}
	contained, _ := age("table=201")
	if _, policies := age("table=206"); contained <= policies {
		t.Errorf("after a restart the host was contained %.3f s ago, with policies %.3f s ago", contained, policies)
	}
}

// Policies of many flows take the place of others from one packet to the next:
// what both allow loses nothing, and what both forbid never passes.
func TestLargeChangesAreHitless(t *testing.T) {
	l := newLab(t, "sb", 3)
	b := l.start()
	rules := func(rank uint16, tier policy.Tier) []want {
		return []want{
			l.rule("allow", tier, rank, policy.ActionAllow, 1, flow.ProtoUDP, 9000),
			l.rule("back", tier, rank+1, policy.ActionAllow, 1, flow.ProtoUDP, 9001),
			l.rule("deny", policy.TierBaseline, rank, policy.ActionDeny, 1, 0, 0),
		}
	}
	up, down := l.stream(0, 1, 9000, time.Millisecond), l.push(1, 0, 9001)
	up.flows(l)
	down.flows(l)
	set := func(p *compile.Program) {
		t.Helper()
		if r, err := b.SetPolicy(l.ctx, p); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
		n := up.sent.Load()
		l.eventually("datagrams to be sent", func() bool { return up.sent.Load() > n+100 })
	}
	set(among(600, 0, rules(5, policy.TierAdmin)...))
	forbidden := l.stream(2, 1, 9100, time.Millisecond)
	set(among(600, 40, rules(100, policy.TierApplication)...))
	allowed := rules(7, policy.TierAdmin)
	set(programOf(allowed...)) // a small one
	forbidden.halted.Store(true)
	if n := forbidden.received.Load(); n > 0 || forbidden.sent.Load() < 150 {
		t.Errorf("%d of %d datagrams passed that were forbidden all along", n, forbidden.sent.Load())
	}
	hits := l.hits(b, "allow").Packets
	set(among(600, 3, allowed...))
	set(nil)
	if hits == 0 {
		t.Error("the rule counts nothing")
	}
	for what, x := range map[string]*stream{"the opener": up, "the other end": down} {
		x.halted.Store(true)
		sent := x.sent.Load()
		l.eventually(fmt.Sprintf("all of %d datagrams of %s", sent, what), func() bool {
			return x.received.Load()+l.overrun(0)+l.overrun(1) >= sent
		})
	}
	l.eventually("the last policies to go", func() bool { met, unmet := l.inForce(); return len(met)+len(unmet) == 0 })
	l.eventually("no drift", func() bool { d, err := b.Drift(l.ctx); return err == nil && len(d) == 0 })
}

// A rule goes on counting over a change of everything around it.
func TestHitsGoOnOverLargeChanges(t *testing.T) {
	l := newLab(t, "sc", 2)
	b := l.start()
	s := l.stream(0, 1, 9000, time.Millisecond)
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoUDP, 9000)
	for shift := range 2 {
		before := l.hits(b, "allow").Packets
		if r, err := b.SetPolicy(l.ctx, among(600, shift*31, allow)); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
		l.eventually("the rule to count", func() bool { return l.hits(b, "allow").Packets > before+50 })
	}
	l.eventually("what was in force before to go", func() bool { _, old := l.inForce(); return len(old) == 0 })
	s.halted.Store(true)
	l.eventually("all to arrive", func() bool { return s.received.Load() == s.sent.Load() })
	last := uint64(0)
	l.eventually("the counter to stand", func() bool {
		n := l.hits(b, "allow").Packets
		same := n == last
		last = n
		return same && n > 0
	})
	if last > s.sent.Load() {
		t.Errorf("%d packets of %d that were sent", last, s.sent.Load())
	}
}

// A controller that is killed while it brings many flows of policies to the
// switch leaves the old policies in force or the new ones, and the next
// controller brings about exactly what it wants, with nothing left over.
func TestKilledWhileStaging(t *testing.T) {
	l := newLab(t, "sd", 2)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	old, next := among(600, 0, deny), among(650, 50, deny, l.rule("allow", policy.TierAdmin, 1, policy.ActionAllow, 1, flow.ProtoUDP, 9000))
	come := func(p *compile.Program) []string {
		t.Helper()
		bridge := l.newBridge()
		if _, err := bridge.SetPolicy(l.ctx, p); !errors.Is(err, pipeline.ErrNotConnected) {
			t.Fatal(err)
		}
		b := l.run(bridge)
		l.eventually("the bridge to connect", b.Connected)
		if d, err := b.Drift(l.ctx); err != nil || len(d) > 0 { // behind the policies
			t.Errorf("healed, and yet: %d differences, %v", len(d), err)
		}
		b.stop()
		met, _ := l.inForce()
		return met
	}
	before, after := come(old), come(next)
	if len(before) < 2400 || slices.Equal(before, after) {
		t.Fatalf("%d and %d flows", len(before), len(after))
	}
	proxy, _ := l.through()
	// Of some 2,700 messages to the switch, and some 100 that come back.
	points := map[string]int{}
	for _, f := range []cut.Fault{
		{Direction: cut.ToSwitch, Message: 3}, {Direction: cut.ToSwitch, Message: 300, Kind: cut.Inside}, {Direction: cut.ToSwitch, Message: 1500},
		{Direction: cut.ToController, Message: 20}, {Direction: cut.ToController, Message: 40}, {Direction: cut.ToController, Message: 55},
		{Direction: cut.ToController, Message: 1 << 20},
	} {
		if got := come(old); !slices.Equal(got, before) {
			t.Fatal("the old policies are not those that they were")
		}
		proxy.Arm(cut.Fault{Kind: cut.Pass})
		bridge := l.newBridge(func(c *pipeline.Config) { c.Target, c.Check = proxy.Target(), time.Hour })
		if _, err := bridge.SetPolicy(l.ctx, old); !errors.Is(err, pipeline.ErrNotConnected) {
			t.Fatal(err)
		}
		b := l.run(bridge)
		l.eventually("the bridge to connect", b.Connected)
		proxy.Arm(f)
		_, err := b.SetPolicy(l.ctx, next)
		b.stop()
		if err := proxy.Settled(l.ctx); err != nil {
			t.Fatal(err)
		}
		met, unmet := l.inForce()
		switch {
		case slices.Equal(met, before):
			points["old"]++
		case slices.Equal(met, after):
			points["new"]++
		default:
			t.Errorf("%v (%v): half of it is in force: %d flows, and %d that are not", f, err, len(met), len(unmet))
		}
		if len(unmet) > 0 {
			points["beside"]++
		}
		if got := come(next); !slices.Equal(got, after) {
			t.Errorf("%v: completed to %d flows, want %d", f, len(got), len(after))
		}
	}
	b := l.start()
	if r, err := b.SetPolicy(l.ctx, next); err != nil || !r.ReadBack {
		t.Fatal(r, err)
	}
	l.eventually("nothing to be left over", func() bool { _, unmet := l.inForce(); return len(unmet) == 0 })
	if points["old"] < 3 || points["new"] < 1 || points["beside"] < 3 {
		t.Errorf("too few kinds of points: %v", points)
	}
}

// When it is the switch that is killed, the policies are there as soon as it is
// back, and emergency rules before them.
func TestSwitchKilledWhileStaging(t *testing.T) {
	l := newLab(t, "se", 2)
	proxy, bridge := l.through()
	b := l.run(bridge)
	l.eventually("the bridge to connect", b.Connected)
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	for i, message := range []int{300, 1000} {
		next := among(600, 31*(i+1), deny)
		proxy.Arm(cut.Fault{Direction: cut.ToSwitch, Message: message, Do: func() { _ = l.sw.KillSwitch() }})
		if r, err := b.SetPolicy(l.ctx, next); !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending {
			t.Fatal(r, err)
		}
		if err := proxy.Settled(l.ctx); err != nil {
			t.Fatal(err)
		}
		if err := l.sw.StartSwitch(l.ctx); err != nil {
			t.Fatal(err)
		}
		proxy.Arm(cut.Fault{Kind: cut.Pass})
		l.eventually("everything that was asked for", func() bool {
			d, err := b.Drift(l.ctx)
			met, unmet := l.inForce()
			return err == nil && len(d) == 0 && len(met) > 2000 && len(unmet) == 0 && strings.Contains(l.ofctl("dump-flows", "table=201"), "hard_timeout")
		})
	}
}

// A switch without room for the old policies and the new ones beside each other
// is given the new ones in one transaction; what it has no room for at all
// leaves the old ones in force.
func TestNoRoomBesidePolicies(t *testing.T) {
	l := newLab(t, "sf", 2)
	l.ctl("--", "--id=@t", "create", "Flow_Table", "name=small", "flow_limit=1000", "overflow_policy=refuse",
		"--", "set", "bridge", l.bridge, "flow_tables:206=@t")
	b := l.start()
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	for shift := range 2 {
		if r, err := b.SetPolicy(l.ctx, among(600, 40*shift, deny)); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
	}
	met, _ := l.inForce()
	if _, err := b.SetPolicy(l.ctx, among(1100, 0, deny)); err == nil || !strings.Contains(err.Error(), "TABLE_FULL") {
		t.Fatal(err)
	}
	if now, _ := l.inForce(); !slices.Equal(now, met) {
		t.Errorf("%d flows in force, before %d", len(now), len(met))
	}
	l.eventually("no drift", func() bool { d, err := b.Drift(l.ctx); return err == nil && len(d) == 0 })
}

// Somebody who deletes everything while policies stand in the second bank finds
// it all back, and a call that is given up leaves what was in force.
func TestStagedPoliciesAreHealed(t *testing.T) {
	l := newLab(t, "sg", 2)
	proxy, bridge := l.through()
	b := l.run(bridge)
	l.eventually("the bridge to connect", b.Connected)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	if r, err := b.SetPolicy(l.ctx, among(600, 0, deny)); err != nil || !r.ReadBack {
		t.Fatal(r, err)
	}
	met, _ := l.inForce()
	for what, match := range map[string]string{"all": "", "a bank": "reg15=0x4000000/0x4000000", "a table": "table=206"} {
		l.ofctl("del-flows", strings.Fields(match)...)
		l.eventually("everything to be back after the loss of "+what, func() bool {
			now, _ := l.inForce()
			d, err := b.Drift(l.ctx)
			return slices.Equal(now, met) && err == nil && len(d) == 0
		})
	}
	l.eventually("nothing out of force", func() bool { _, old := l.inForce(); return len(old) == 0 })
	ctx, cancel := context.WithCancel(l.ctx)
	defer cancel()
	proxy.Arm(cut.Fault{Direction: cut.ToSwitch, Message: 500, Kind: cut.Pass, Do: cancel})
	next := among(600, 50, deny)
	if _, err := b.SetPolicy(ctx, next); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if now, _ := l.inForce(); !slices.Equal(now, met) {
		t.Errorf("%d flows in force, before %d", len(now), len(met))
	}
	l.eventually("what was begun to go", func() bool { _, begun := l.inForce(); return len(begun) == 0 })
	smaller := *next
	smaller.Endpoints = maps.Clone(next.Endpoints)
	delete(smaller.Endpoints, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, 7}), 32))
	for _, p := range []*compile.Program{next, &smaller} {
		if r, err := b.SetPolicy(l.ctx, p); err != nil || !r.ReadBack {
			t.Fatal(r, err)
		}
	}
	l.eventually("no drift", func() bool { d, err := b.Drift(l.ctx); return err == nil && len(d) == 0 })
}
