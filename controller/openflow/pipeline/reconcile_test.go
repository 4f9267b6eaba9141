package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// installed is what the switch holds of ours, without what differs from time
// to time: the claim, the time that is left, the numbers of meters.
func (l *lab) installed() string {
	varies := regexp.MustCompile(`hard_timeout=\d+|meter:\d+`)
	var out []string
	for line := range strings.Lines(l.ofctl("dump-flows", "--no-stats")) {
		if strings.Contains(line, "cookie=0x504c") && !strings.Contains(line, claimCookie) {
			out = append(out, varies.ReplaceAllString(strings.TrimSpace(line), "…"))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

// populate applies rules of every kind: denials, a rate limit, a guard, the tap.
func (l *lab) populate(b *running) {
	l.t.Helper()
	limit, guard := l.deny("d-1/1", 1), l.deny("g-1/0", 0)
	limit.Action, limit.Sample, limit.Limit = segmentation.ActionRateLimit, 0, segmentation.Limit{PacketsPerSecond: 50, Burst: 5}
	guard.Tier, guard.Action, guard.TTL, guard.Sample, guard.Match.Src = segmentation.TierGuard, segmentation.ActionAllow, 0, 0, l.prefix(1)
	for owner, intents := range map[string][]segmentation.Intent{"d-1": {l.deny("d-1/0", 0), limit}, "g-1": {guard}} {
		if _, err := b.Apply(l.ctx, owner, intents); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := b.SetTap(l.ctx, tap()); err != nil {
		l.t.Fatal(err)
	}
}

// Whatever befalls the switch, everything of ours is there again afterwards.
func TestEverythingComesBack(t *testing.T) {
	l := newLab(t, "ra", 2)
	b := l.start(func(c *pipeline.Config) { c.Check = 100 * time.Millisecond })
	l.populate(b)
	want := l.installed()
	if !strings.Contains(want, "meter") && !strings.Contains(want, "…") {
		t.Fatalf("no rate limit among\n%s", want)
	}
	for _, c := range []struct {
		name string
		do   func()
	}{
		{"all flows deleted", func() { l.ofctl("del-flows") }},
		{"meters deleted, and what uses them", func() { l.ofctl("del-meters") }},
		{"groups deleted", func() { l.ofctl("del-groups") }},
		{"fail mode secure", func() { l.ctl("set-fail-mode", l.bridge, "secure") }},
		{"fail mode standalone", func() { l.ctl("set-fail-mode", l.bridge, "standalone") }},
		{"a controller comes", func() { l.ctl("set-controller", l.bridge, "tcp:127.0.0.1:9") }},
		{"the controller goes", func() { l.ctl("del-controller", l.bridge) }},
		{"the database is killed", func() {
			if err := errors.Join(l.sw.KillDB(), l.sw.StartDB(l.ctx)); err != nil {
				t.Fatal(err)
			}
		}},
		{"protocols change", func() {
			l.ctl("set", "bridge", l.bridge, "protocols=OpenFlow13,OpenFlow14")
			l.ctl("clear", "bridge", l.bridge, "protocols")
		}},
		{"the switch is killed", func() {
			if err := errors.Join(l.sw.KillSwitch(), l.sw.StartSwitch(l.ctx)); err != nil {
				t.Fatal(err)
			}
		}},
		{"the bridge is deleted and made again", func() {
			l.ctl("del-br", l.bridge)
			if err := l.sw.AddBridge(l.ctx, l.bridge, "netdev"); err != nil {
				t.Fatal(err)
			}
			for _, h := range l.hosts { // in the same order, with the same numbers
				l.ctl("add-port", l.bridge, h)
			}
		}},
	} {
		c.do()
		took := l.eventually("everything to be back after: "+c.name, func() bool {
			out, err := l.sw.Ofctl(l.ctx, "-O", "OpenFlow14", "dump-meters", l.mgmt())
			return err == nil && strings.Contains(out, "rate=50 burst_size=5") && l.installed() == want
		})
		l.eventually("the bridge to be content after: "+c.name, func() bool { st := b.Status(); return st.State == pipeline.StateConnected && st.LastError == "" })
		t.Logf("%s: back after %v", c.name, took)
	}
	if st := b.Status(); st.Rules != 3 || st.Waiting != 0 {
		t.Fatalf("status %+v", st)
	}
}

// Without OpenFlow 1.4 the status says what to do about it.
func TestProtocolsWithoutOurs(t *testing.T) {
	l := newLab(t, "rb", 2)
	b := l.start()
	l.populate(b)
	want := l.installed()
	l.ctl("set", "bridge", l.bridge, "protocols=OpenFlow10,OpenFlow13")
	l.eventually("the status to say why", func() bool {
		st := b.Status()
		return st.State == pipeline.StateConnecting && strings.Contains(st.LastError, "OpenFlow14")
	})
	l.ctl("set", "bridge", l.bridge, "protocols=OpenFlow13,OpenFlow14")
	l.eventually("the bridge to reconnect", b.Connected)
	if now := l.installed(); now != want {
		t.Fatalf("now\n%s\nbefore\n%s", now, want)
	}
}

// watcher counts what others see of changes on the switch.
type watcher struct {
	conn *openflow.Conn
	seen []openflow.FlowUpdate
}

func (l *lab) watchFlows(tables ...uint8) *watcher {
	l.t.Helper()
	conn, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	if err := conn.SetAsync(l.ctx, openflow.Async{FlowRemoved: true}); err != nil {
		l.t.Fatal(err)
	}
	var filters []openflow.FlowFilter
	for _, table := range tables {
		filters = append(filters, openflow.FlowFilter{Table: table})
	}
	if err := conn.Monitor(l.ctx, filters...); err != nil {
		l.t.Fatal(err)
	}
	return &watcher{conn: conn}
}

// changes returns what has come so far; a barrier is behind it all.
func (w *watcher) changes(l *lab) []openflow.FlowUpdate {
	l.t.Helper()
	if err := w.conn.Barrier(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	for {
		select {
		case m := <-w.conn.Async():
			updates, _, err := openflow.DecodeFlowUpdates(m)
			if err != nil {
				l.t.Fatal(err)
			}
			w.seen = append(w.seen, updates...)
		default:
			return w.seen
		}
	}
}

// A heal changes what differs and nothing else: other rules keep their age and
// their counters, and a check that finds nothing changes nothing.
func TestHealIsMinimal(t *testing.T) {
	l := newLab(t, "rc", 1)
	b := l.start(func(c *pipeline.Config) { c.Check = 20 * time.Millisecond })
	if _, err := b.Apply(l.ctx, "many", manyIntents(l, 200)); err != nil {
		t.Fatal(err)
	}
	ages := func() map[string]string {
		out := map[string]string{}
		age := regexp.MustCompile(`cookie=(0x[0-9a-f]+), duration=([0-9.]+)s, table=201`)
		for _, m := range age.FindAllStringSubmatch(l.ofctl("dump-flows", "table=201"), -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	w := l.watchFlows(201)
	before, checks := ages(), b.Status().Compared
	// A full comparison comes with every 32nd check.
	l.eventually("a full comparison", func() bool { return b.Status().Compared > checks })
	if n := len(w.changes(l)); n != 0 {
		t.Fatalf("a check changed %d flows", n)
	}
	l.ofctl("del-flows", "table=201,tcp,tp_src=7")
	l.eventually("the rule to be back", func() bool { return b.Status().Healed > 0 })
	var what []string
	for _, u := range w.changes(l) {
		what = append(what, fmt.Sprintf("%d %s", u.Event, u.Match))
	}
	if len(what) != 2 || !strings.HasPrefix(what[0], fmt.Sprint(openflow.FlowRemovedEvent)) || !strings.HasPrefix(what[1], fmt.Sprint(openflow.FlowAdded)) {
		t.Fatalf("changes: %q", what)
	}
	younger := 0
	for cookie, age := range ages() {
		if len(before[cookie]) > len(age) || len(before[cookie]) == len(age) && before[cookie] > age {
			younger++
		}
	}
	if younger > 1 {
		t.Fatalf("%d rules were made anew", younger)
	}
}

// Where the timer is first to see that a rule is gone, the message that tells of it
// comes later, and must not have the rule put back once more: that would count twice
// what it has counted since.
func TestHealByTimerIsNotRepeated(t *testing.T) {
	l := newLab(t, "rt", 1)
	b := l.start(func(c *pipeline.Config) { c.Check = time.Millisecond })
	if _, err := b.Apply(l.ctx, "many", manyIntents(l, 200)); err != nil {
		t.Fatal(err)
	}
	other, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	rules, err := other.Flows(l.ctx, openflow.FlowFilter{Table: 201})
	if err != nil {
		t.Fatal(err)
	}
	w := l.watchFlows(201)
	const times = 50
	for n := range times {
		i := slices.IndexFunc(rules, func(f openflow.FlowStats) bool { return f.HardTimeout != 0 })
		gone := openflow.FlowMod{Command: openflow.DeleteStrict, Flow: openflow.Flow{Table: 201, Priority: rules[i].Priority, Match: rules[i].Match}}
		rules = rules[i+1:]
		if err := other.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{gone}}); err != nil {
			t.Fatal(err)
		}
		l.eventually("the rule to be back, and its loss to be heard of", func() bool {
			st := b.Status()
			return st.Healed > uint64(n) && st.Disturbed > uint64(n)
		})
	}
	again := map[string]int{}
	for _, u := range w.changes(l) {
		if u.Event == openflow.FlowAdded {
			again[u.Match.Key()]++
		}
	}
	for _, n := range again {
		if n != 1 {
			t.Errorf("a rule was put back %d times", n)
		}
	}
	if len(again) != times {
		t.Errorf("%d of %d rules were put back", len(again), times)
	}
}

// A switch that hangs costs an operation its deadline and nothing more: what
// was asked for is there when it goes on.
func TestSuspendedSwitch(t *testing.T) {
	l := newLab(t, "rd", 2)
	b := l.start(func(c *pipeline.Config) {
		c.Dialer.Keepalive, c.Dialer.Timeout = 200*time.Millisecond, 500*time.Millisecond
	})
	l.populate(b)
	for _, long := range []bool{false, true} {
		if err := l.sw.PauseSwitch(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(l.ctx, 100*time.Millisecond)
		in := l.deny("d-2/0", 1)
		in.Rank = 300
		_, err := b.Apply(ctx, "d-2", []segmentation.Intent{in})
		cancel()
		if err == nil {
			t.Fatal("a switch that hangs took a rule")
		}
		if long {
			l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
		}
		if err := l.sw.ResumeSwitch(); err != nil {
			t.Fatal(err)
		}
		l.eventually("the switch to take the rule", func() bool { _, err := b.Apply(l.ctx, "d-2", []segmentation.Intent{in}); return err == nil })
		l.eventually("no drift", func() bool { d, err := b.Drift(l.ctx); return err == nil && len(d) == 0 })
	}
}

// ovs-ctl restart, with the distribution's own script: it saves flows and
// groups and puts them back while we come back too. Neither must break the
// other: everybody's flows are there afterwards. (Of a bridge where a flow names
// a meter the script restores nothing, because it does not save meters.)
func TestOvsCtlRestart(t *testing.T) {
	l := newLab(t, "re", 2)
	l.ofctl("add-group", "group_id=5,type=indirect,bucket=actions=NORMAL")
	l.ofctl("add-flow", "cookie=0xf,table=3,priority=9,ip,actions=group:5")
	b := l.start()
	l.populate(b)
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{l.deny("d-1/0", 0)}); err != nil {
		t.Fatal(err)
	}
	want, foreign := l.installed(), l.foreign()
	for range 3 {
		connects := b.Status().Connects
		out, err := l.sw.Restart(l.ctx)
		if err != nil {
			t.Fatal(err)
		}
		l.eventually("the bridge to be back", func() bool { return b.Connected() && b.Status().Connects > connects })
		l.eventually("everything of ours to be back", func() bool { return l.installed() == want })
		if now := l.foreign(); now != foreign {
			t.Fatalf("foreign flows now\n%s\nbefore\n%s\novs-ctl said\n%s", now, foreign, out)
		}
	}
	l.eventually("no drift", func() bool { d, err := b.Drift(l.ctx); return err == nil && len(d) == 0 })
}

// Names of up to 15 bytes are all that OpenFlow carries: two ports that share
// them resolve to neither.
func TestPortNames(t *testing.T) {
	l := newLab(t, "rf", 1)
	b := l.start()
	long := "patch-with-a-long-name"
	add := func(name string) {
		l.ctl("add-port", l.bridge, name, "--", "set", "Interface", name, "type=patch", "options:peer=nowhere")
	}
	in := l.deny("d-1/0", 0)
	in.Match.InPort = long
	waits := func() bool { return b.Status().Waiting == 1 }
	stands := func() bool {
		return b.Status().Waiting == 0 && strings.Contains(l.ofctl("dump-flows", "--no-names", "table=201"),
			"in_port="+l.ctl("get", "Interface", long, "ofport")+",")
	}
	if r, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil || len(r.Waiting) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	add(long)
	l.eventually("the rule to find its port", stands)
	add("patch-with-a-longer-name")
	l.eventually("the rule to wait while two ports have its name", waits)
	l.ctl("del-port", "patch-with-a-longer-name")
	l.eventually("the rule to be back", stands)
	l.ctl("set", "Interface", long, "ofport_request=4321")
	l.eventually("the rule to follow a new number", func() bool { return l.ctl("get", "Interface", long, "ofport") == "4321" && stands() })
	l.ctl("--", "del-port", long, "--", "add-port", l.bridge, long, "--", "set", "Interface", long, "type=patch", "options:peer=nowhere", "ofport_request=99")
	l.eventually("the rule to follow a port that was made anew", func() bool { return l.ctl("get", "Interface", long, "ofport") == "99" && stands() })
	// A port that takes over another's name and number.
	if n := strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout"); n != 1 {
		t.Fatalf("%d rules", n)
	}
}

// Somebody who changes our flows without pause is healed at a bounded rate, and
// in the end.
func TestStormIsCoalesced(t *testing.T) {
	l := newLab(t, "rg", 1)
	b := l.start()
	if _, err := b.Apply(l.ctx, "many", manyIntents(l, 100)); err != nil {
		t.Fatal(err)
	}
	want := l.installed()
	storm, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer storm.Close()
	start, compared := time.Now(), b.Status().Compared
	mod := openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: 201, Match: openflow.Match{openflow.EthType(flow.EtherIPv4)}}}
	rounds := 0
	for ; time.Since(start) < time.Second; rounds++ {
		if err := storm.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{mod}}); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	st := b.Status()
	// The pause is 10 ms at least; a check now and then comes on top.
	if most := uint64(took/(10*time.Millisecond)) + 5; st.Compared-compared > most {
		t.Errorf("%d comparisons in %v", st.Compared-compared, took)
	}
	t.Logf("%d deletions in %v: %d changes of others, %d comparisons", rounds, took, st.Disturbed, st.Compared-compared)
	l.eventually("everything to be back", func() bool { return l.installed() == want && b.Status().LastError == "" })
}

// A table that takes half the rules takes as many as fit.
func TestHalfOfTheRulesFit(t *testing.T) {
	l := newLab(t, "rh", 1)
	l.ctl("--", "--id=@t", "create", "Flow_Table", "name=half", "flow_limit=501", "overflow_policy=refuse",
		"--", "set", "bridge", l.bridge, "flow_tables:201=@t")
	b := l.newBridge()
	if err := b.Adopt("many", manyIntents(l, 1000)); err != nil {
		t.Fatal(err)
	}
	r := l.run(b)
	l.eventually("the bridge to connect with the rules that fit", r.Connected)
	if n := strings.Count(l.ofctl("dump-flows", "table=201"), "hard_timeout"); n != 500 {
		t.Fatalf("%d rules of the 500 that fit", n)
	}
	if st := r.Status(); !strings.Contains(st.LastError, "TABLE_FULL") {
		t.Fatalf("status %+v", st)
	}
}
