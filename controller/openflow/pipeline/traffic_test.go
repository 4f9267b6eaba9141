package pipeline_test

import (
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func TestRateLimitDeliversTheLimit(t *testing.T) {
	l := newLab(t, "n", 2)
	s := l.stream(0, 1, 9000, 500*time.Microsecond)
	s.flows(l)
	b := l.start()
	in := l.deny("d-1/0", 0)
	in.Action, in.Limit, in.Sample = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 100, Burst: 10}, 0
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	l.eventually("the meter to drop", func() bool {
		c, err := b.Counters(l.ctx, "d-1")
		return err == nil && c[0].Dropped > 50
	})
	l.steady("packets/s delivered of a limit of 100", 60, 125, func() float64 {
		before, start := s.received.Load(), time.Now()
		l.eventually("300 datagrams to be delivered", func() bool { return s.received.Load() >= before+300 })
		return 300 / time.Since(start).Seconds()
	})
	c, err := b.Counters(l.ctx, "d-1")
	if err != nil || c[0].Packets <= c[0].Dropped || c[0].Packets > s.sent.Load() {
		t.Fatalf("%+v of %d sent, %v", c, s.sent.Load(), err)
	}
	// Another limit takes another meter; the old one goes.
	in.Limit.PacketsPerSecond = 200
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	if m := l.ofctl("dump-meters"); strings.Count(m, "meter=") != 1 || !strings.Contains(m, "rate=200 ") {
		t.Fatalf("meters: %s", m)
	}
}

// resolves reports whether a host can reach another one whose MAC address it
// has to ask for first.
func (l *lab) resolves(from, to int) bool {
	l.t.Helper()
	for _, args := range [][]string{
		{"ip", "-n", l.hosts[from], "neigh", "flush", "all"},
		{"ip", "-n", l.hosts[from], "neigh", "replace", l.addr(to).String(), "dev", "eth0", "nud", "none"},
	} {
		if out, err := exec.CommandContext(l.ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			l.t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	s := l.stream(from, to, 9100, 5*time.Millisecond)
	defer s.stop()
	deadline := time.After(700 * time.Millisecond)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-deadline:
			return false
		case <-tick.C:
			if s.received.Load() > 0 {
				return true
			}
		}
	}
}

// Quarantine covers ARP, and an allow rule of a lower rank carves out of it.
func TestARPGoesThroughTheEmergencyTable(t *testing.T) {
	l := newLab(t, "o", 3)
	if !l.resolves(0, 1) {
		t.Fatal("host 0 cannot reach host 1 to begin with")
	}
	b := l.start()
	deny := l.deny("d-1/0", 0)
	deny.Match = segmentation.Match{InPort: l.hosts[0], EtherType: flow.EtherARP}
	allow := deny
	allow.ID, allow.Rank, allow.Action = "d-1/1", 50, segmentation.ActionAllow
	allow.Match.ARPOp, allow.Match.Dst = 1, l.prefix(1)
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{deny, allow}); err != nil {
		t.Fatal(err)
	}
	if !l.resolves(0, 1) {
		t.Fatal("the allowed address does not resolve")
	}
	if l.resolves(0, 2) {
		t.Fatal("ARP passes the quarantine")
	}
	if _, err := b.Remove(l.ctx, "d-1"); err != nil {
		t.Fatal(err)
	}
	if !l.resolves(0, 2) {
		t.Fatal("ARP stays blocked after release")
	}
}

// The tap must not change what is forwarded, and survive alongside another
// controller's pipeline.
func TestHookLeavesAnotherPipelineAlone(t *testing.T) {
	l := newLab(t, "p", 2)
	l.ofctl("add-meter", "meter=1,kbps,bands=type=drop,rate=100000")
	for _, f := range []string{
		"cookie=0x77,table=0,priority=65000,udp,tp_dst=9999,actions=drop",
		"cookie=0x77,table=0,priority=100,udp,actions=meter:1,set_field:7->reg3,resubmit(,10)",
		"cookie=0x77,table=10,priority=5,reg3=7,actions=NORMAL",
		"cookie=0x77,table=10,priority=1,actions=drop",
	} {
		l.ofctl("add-flow", f)
	}
	before := l.foreign()
	s := l.stream(0, 1, 9000, time.Millisecond)
	s.flows(l)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	s.flows(l)
	if after := l.foreign(); after != before {
		t.Fatalf("foreign flows changed from\n%s\nto\n%s", before, after)
	}
	trace, err := l.sw.Appctl(l.ctx, "ofproto/trace", l.bridge, "in_port="+l.hosts[0]+",udp,nw_src=10.77.0.1,nw_dst=10.77.0.2")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"resubmit(,200)", "resubmit(,201)", "resubmit(,202)", "sample(", "resubmit(,203)", "resubmit(,218)", "resubmit(,0)", "cookie 0x77", "meter:1", "NORMAL"} {
		_, rest, found := strings.Cut(trace, step)
		if !found {
			t.Fatalf("packets do not come by %q:\n%s", step, trace)
		}
		trace = rest
	}
}

// A packet is reported once, by what it means: segments that no honest stack
// sends as such, but not later fragments, whose flags a switch does not see.
func TestTapTellsSegmentsApart(t *testing.T) {
	l := newLab(t, "f", 1)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"tcp,nw_src=10.77.0.1,nw_dst=10.77.0.2", "tcp6,ipv6_src=2001:db8::1,ipv6_dst=2001:db8::2"} {
		for segment, want := range map[string]flow.Signal{
			"tcp_flags=0":               flow.SignalProbe,
			"tcp_flags=fin":             flow.SignalProbe,
			"tcp_flags=psh":             flow.SignalProbe,
			"tcp_flags=fin|psh|urg":     flow.SignalProbe,
			"tcp_flags=syn|fin":         flow.SignalProbe,
			"tcp_flags=syn|fin|ack":     flow.SignalProbe,
			"nw_frag=first,tcp_flags=0": flow.SignalProbe,
			"nw_frag=later":             flow.SignalNone,
			"tcp_flags=fin|ack":         flow.SignalFinish,
			"tcp_flags=syn":             flow.SignalAttempt,
			"tcp_flags=syn|ece|cwr":     flow.SignalAttempt,
			"tcp_flags=syn|ack":         flow.SignalAccept,
			"tcp_flags=rst":             flow.SignalRefuse,
			"tcp_flags=fin|rst":         flow.SignalRefuse,
			"tcp_flags=ack":             flow.SignalNone,
			"tcp_flags=psh|ack":         flow.SignalNone,
		} {
			trace, err := l.sw.Appctl(l.ctx, "ofproto/trace", l.bridge, "in_port="+l.hosts[0]+","+ip+","+segment)
			if err != nil {
				t.Fatal(err)
			}
			var points []string
			for _, part := range strings.Split(trace, "obs_point_id=")[1:] {
				point, _, _ := strings.Cut(part, ")")
				points = append(points, strings.Split(point, ",")[0])
			}
			var expected []string
			if want != flow.SignalNone {
				expected = []string{strconv.Itoa(int(flow.TapPoint(want, flow.FullProbability)))}
			}
			if slices.Sort(points); !slices.Equal(slices.Compact(points), expected) {
				t.Errorf("%s %s: observation points %v, want %v:\n%s", ip, segment, points, expected, trace)
			}
		}
	}
}

func TestLowerTapNarrowsOneVictim(t *testing.T) {
	l := newLab(t, "q", 1)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	n := l.ours()
	o := pipeline.TapOverride{Signal: flow.SignalAttempt, InPort: l.hosts[0], Dst: l.prefix(0), Probability: 655}
	if err := b.LowerTap(l.ctx, o); err != nil {
		t.Fatal(err)
	}
	out := l.ofctl("dump-flows", "--no-stats", "table=202")
	if !strings.Contains(out, "sample(probability=655") || l.ours() != n+1 {
		t.Fatalf("no override: %s", out)
	}
	if err := b.RestoreTap(l.ctx, o); err != nil {
		t.Fatal(err)
	}
	if l.ours() != n {
		t.Fatal("override stays")
	}
	if err := b.SetTap(l.ctx, pipeline.TapConfig{CollectorSet: 7, Probability: map[flow.Signal]uint16{flow.SignalSilence: 1}}); err == nil {
		t.Fatal("a tap of what no packet shows was accepted")
	}
}

// What Rules prints, ovs-ofctl takes back and prints the same.
func TestRulesAreInFlowSyntax(t *testing.T) {
	l := newLab(t, "r", 1)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	in := l.deny("d-1/0", 0)
	in.Why = "a scan"
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	rules, err := b.Rules(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	listed := slices.DeleteFunc(slices.Clone(rules), func(r pipeline.InstalledRule) bool { return r.Category == "claim" })
	if len(listed) != l.ours() {
		t.Fatalf("%d rules listed of %d", len(listed), l.ours())
	}
	found := false
	for _, r := range rules {
		if r.Intent == "d-1/0" {
			found = r.Owner == "d-1" && r.Why == "a scan" && r.Table == "emergency" && r.Category == "emergency" && !r.Expires.IsZero()
		}
		if _, err := l.sw.Ofctl(l.ctx, "-O", "OpenFlow14", "parse-flow", r.Flow); err != nil {
			t.Fatalf("%s: %v", r.Flow, err)
		}
	}
	if !found {
		t.Fatalf("%+v", rules)
	}
}

func TestLeaveGivesEverythingAnEnd(t *testing.T) {
	l := newLab(t, "s", 1)
	b := l.start()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	in := l.deny("d-1/0", 0)
	in.TTL = time.Second
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	if err := b.Leave(l.ctx, false); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if l.ours() == 0 {
		t.Fatal("the rule went with the controller")
	}
	l.eventually("the switch to clean up by itself", func() bool { return l.ours() == 0 })
}

// Policies that are to stay do so without an end; a containment beside them ends
// all the same, and nothing samples any more.
func TestLeaveKeepsPolicies(t *testing.T) {
	l := newLab(t, "K", 2)
	b := l.start()
	l.enforce(b, l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0))
	alone := l.ours()
	if err := b.SetTap(l.ctx, tap()); err != nil {
		t.Fatal(err)
	}
	in := l.deny("d-1/0", 0)
	in.TTL = time.Second
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	if err := b.Leave(l.ctx, true); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if l.ours() <= alone {
		t.Fatal("the containment went with the controller")
	}
	l.eventually("the containment to end", func() bool { return l.ours() == alone })
	if flows := l.ofctl("dump-flows"); strings.Contains(flows, " hard_timeout") || strings.Contains(flows, "sample(") {
		t.Errorf("left:\n%s", flows)
	}
	s := l.stream(0, 1, 9000, time.Millisecond)
	l.eventually("traffic", func() bool { return s.sent.Load() > 50 })
	if n := s.received.Load(); n > 0 {
		t.Errorf("%d packets passed that the policy denies", n)
	}
}

// Many rules at once: the read back and the diff agree with the switch.
func TestThousandsOfRules(t *testing.T) {
	l := newLab(t, "t", 1)
	b := l.start()
	intents := manyIntents(l, 5000)
	r, err := b.Apply(l.ctx, "bulk", intents)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rules, barrier after %v", r.Installed, r.Barrier)
	if r.Installed != len(intents) || !r.ReadBack {
		t.Fatalf("%+v", r)
	}
	conn, err := openflow.Dial(l.ctx, "unix:"+l.mgmt())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	healed := b.Status().Healed
	if err := conn.Commit(l.ctx, openflow.Tx{Flows: []openflow.FlowMod{{Command: openflow.Delete, Flow: openflow.Flow{Table: 201}}}}); err != nil {
		t.Fatal(err)
	}
	took := l.eventually("the heal", func() bool { return b.Status().Healed >= healed+uint64(len(intents)) })
	t.Logf("%d rules healed after %v", len(intents), took)
	if r, err = b.Remove(l.ctx, "bulk"); err != nil || !r.ReadBack {
		t.Fatalf("%+v, %v", r, err)
	}
}

func manyIntents(l *lab, n int) []segmentation.Intent {
	out := make([]segmentation.Intent, n)
	for i := range out {
		out[i] = l.deny("bulk/"+string(rune('a'+i%26))+time.Duration(i).String(), 0)
		out[i].Match.EtherType, out[i].Match.Proto = flow.EtherIPv4, flow.ProtoTCP
		out[i].Match.SrcPort = uint16(i + 1)
	}
	return out
}

// Somebody takes the meter ID that we would take, behind our back.
func TestMeterTakenMeanwhile(t *testing.T) {
	l := newLab(t, "w", 1)
	b := l.start()
	in := l.deny("d-1/0", 0)
	in.Action, in.Limit, in.Sample = segmentation.ActionRateLimit, segmentation.Limit{PacketsPerSecond: 100, Burst: 10}, 0
	if _, err := b.Apply(l.ctx, "d-1", []segmentation.Intent{in}); err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`meter=(\d+)`).FindStringSubmatch(l.ofctl("dump-meters"))[1]
	if _, err := b.Remove(l.ctx, "d-1"); err != nil {
		t.Fatal(err)
	}
	l.ofctl("add-meter", "meter="+id+",pktps,band=type=drop,rate=7")
	in.ID = "d-2/0"
	r, err := b.Apply(l.ctx, "d-2", []segmentation.Intent{in})
	if err != nil || !r.ReadBack {
		t.Fatalf("receipt %+v, %v", r, err)
	}
	if m := l.ofctl("dump-meters"); strings.Count(m, "meter=") != 2 || !strings.Contains(m, "rate=7\n") {
		t.Errorf("the foreign meter is not as it was: %s", m)
	}
}
