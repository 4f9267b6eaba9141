package pipeline_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/oftest"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Step by step a switch comes to hold what it would hold if it were programmed
// anew, by transactions that it takes.
func TestPolicyStepsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tap := pipeline.TapConfig{CollectorSet: 1}
		planner, err := pipeline.NewPlanner(tap)
		if err != nil {
			t.Fatal(err)
		}
		sw := oftest.New(oftest.Config{Ports: []uint32{1}})
		frame := planner.Frame()
		if err := sw.Apply(frame); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			p := drawnProgram(t)
			tx, count, err := planner.Step(p.Program)
			if err != nil {
				t.Fatal(err)
			}
			if err := sw.Apply(tx); err != nil {
				t.Fatalf("%v\n%s", err, p)
			}
			want, err := planner.Want()
			if err != nil {
				t.Fatal(err)
			}
			if got := rulesOf(sw); !slices.Equal(got, texts(want)) || len(got) != count+len(frame.Flows) {
				t.Fatalf("%d flows, counted %d:\n%s\nwant\n%s\n%s", len(got), count+len(frame.Flows), strings.Join(got, "\n"), strings.Join(texts(want), "\n"), p)
			}
			if tx, _, err := planner.Step(p.Program); err != nil || len(tx.Flows)+len(tx.AddMeters)+len(tx.DeleteMeters) > 0 {
				t.Fatalf("the same program is a change: %+v, %v", tx, err)
			}
		}
	})
}

func rulesOf(sw *oftest.Switch) []string {
	var flows []openflow.Flow
	for _, r := range sw.Rules() {
		flows = append(flows, r.Flow)
	}
	return texts(flows)
}

func texts(flows []openflow.Flow) []string {
	out := make([]string, len(flows))
	for i := range flows {
		out[i] = flows[i].String()
	}
	slices.Sort(out)
	return out
}

// Whatever one of many addresses becomes, it costs four changes at most.
func TestOneAddressCostsFewChanges(t *testing.T) {
	planner, err := pipeline.NewPlanner(pipeline.TapConfig{})
	if err != nil {
		t.Fatal(err)
	}
	program := manyEndpoints(100, 20)
	if _, _, err := planner.Step(program); err != nil {
		t.Fatal(err)
	}
	for what, edit := range map[string]func(*compile.Program){
		"another class": func(p *compile.Program) { p.Endpoints[endpointOf(7)] = 1 },
		"a new address": func(p *compile.Program) { p.Endpoints[endpointOf(500)], p.Tracked[endpointOf(500)] = 1, true },
		"one that went": func(p *compile.Program) { delete(p.Endpoints, endpointOf(8)); delete(p.Tracked, endpointOf(8)) },
	} {
		next := *program
		next.Endpoints, next.Tracked = maps.Clone(program.Endpoints), maps.Clone(program.Tracked)
		edit(&next)
		tx, _, err := planner.Step(&next)
		if err != nil || len(tx.Flows) == 0 || len(tx.Flows) > 4 {
			t.Errorf("%s: %d changes, %v", what, len(tx.Flows), err)
		}
		if _, _, err := planner.Step(program); err != nil {
			t.Fatal(err)
		}
	}
}

func endpointOf(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
}

// manyEndpoints is a program of hosts in as many classes as there are rules,
// each of which allows three classes to reach two at one of fifty ports, under
// default deny.
func manyEndpoints(hosts, rules int) *compile.Program {
	p := &compile.Program{Endpoints: map[netip.Prefix]compile.Class{}, Services: map[compile.ServiceMatch]compile.Class{},
		Rules: map[policy.RuleID]compile.Rule{}, Tracked: map[netip.Prefix]bool{}}
	for i := range hosts {
		p.Endpoints[endpointOf(i)], p.Tracked[endpointOf(i)] = compile.Class(i%rules+1), true
	}
	for i := range 50 {
		p.Services[compile.ServiceMatch{Proto: policy.Proto(flow.ProtoTCP), Port: uint16(8000 + i), PortMask: 0xffff}] = compile.Class(i + 1)
	}
	class := func(i int) compile.Class { return compile.Class(i%rules + 1) }
	for i := range rules {
		opener := []compile.Class{class(i), class(i + 7), class(i + 13)}
		responder := []compile.Class{class(i + 3), class(i + 5)}
		slices.Sort(opener)
		slices.Sort(responder)
		id := policy.RuleID{Policy: "app", Direction: policy.Ingress, Rule: fmt.Sprint(i)}
		p.Rules[id] = compile.Rule{ID: id, Tier: policy.TierApplication, Rank: uint16(10 * i), Action: policy.ActionAllow,
			Opener: opener, Responder: responder, Service: []compile.Class{compile.Class(i%50 + 1), compile.Class((i+20)%50 + 1)}}
	}
	for _, r := range p.Rules {
		slices.Sort(r.Service)
	}
	id := policy.RuleID{Policy: "default", Direction: policy.Ingress, Rule: "deny"}
	p.Rules[id] = compile.Rule{ID: id, Tier: policy.TierBaseline, Action: policy.ActionDeny}
	return p
}

// What cannot be enforced as it reads is refused, and changes nothing.
func TestSetPolicyRefuses(t *testing.T) {
	b, err := pipeline.New(pipeline.Config{Name: "br"})
	if err != nil {
		t.Fatal(err)
	}
	host := netip.MustParsePrefix("10.0.0.1/32")
	good := want{name: "r", tier: policy.TierAdmin, action: policy.ActionAllow, own: host, proto: flow.ProtoTCP, port: 80}
	edit := func(change func(r *compile.Rule)) func(*compile.Program) {
		return func(p *compile.Program) {
			r := p.Rules[good.id()]
			change(&r)
			p.Rules[good.id()] = r
		}
	}
	for text, change := range map[string]func(*compile.Program){
		"not a prefix":            func(p *compile.Program) { p.Endpoints[netip.MustParsePrefix("10.0.0.1/24")] = 1 },
		"::ffff:10.0.0.1/128 is":  func(p *compile.Program) { p.Tracked[netip.MustParsePrefix("::ffff:10.0.0.1/128")] = true },
		"rules for nobody":        func(p *compile.Program) { clear(p.Tracked) },
		"is not tracked":          func(p *compile.Program) { p.Tracked[host] = false },
		"no protocol":             func(p *compile.Program) { p.Services[compile.ServiceMatch{}] = 1 },
		"no such field":           func(p *compile.Program) { p.Services[compile.ServiceMatch{Proto: 1, PortMask: 1 << 15}] = 1 },
		"code without type":       func(p *compile.Program) { p.Services[compile.ServiceMatch{Proto: 1, HasCode: true}] = 1 },
		"outside its mask":        func(p *compile.Program) { p.Services[compile.ServiceMatch{Proto: 6, Port: 1, PortMask: 1 << 15}] = 1 },
		"run of the first bits":   func(p *compile.Program) { p.Services[compile.ServiceMatch{Proto: 6, PortMask: 0xf00f}] = 1 },
		"it is named":             edit(func(r *compile.Rule) { r.ID.Rule = "other" }),
		"rank 50000":              edit(func(r *compile.Rule) { r.Rank = compile.MaxRank }),
		"tier":                    edit(func(r *compile.Rule) { r.Tier = 0 }),
		"action":                  edit(func(r *compile.Rule) { r.Action = 0 }),
		"established":             edit(func(r *compile.Rule) { r.Established = 7 }),
		"either in packets/s":     edit(func(r *compile.Rule) { r.Action = policy.ActionRateLimit }),
		"matches nothing":         edit(func(r *compile.Rule) { r.Opener = []compile.Class{} }),
		"not sorted, or has one ": edit(func(r *compile.Rule) { r.Opener = []compile.Class{2, 2} }),
		"have the same rank": func(p *compile.Program) {
			r := p.Rules[good.id()]
			r.ID.Rule = "second"
			p.Rules[r.ID] = r
		},
	} {
		p := programOf(good)
		change(p)
		if _, err := b.SetPolicy(t.Context(), p); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got %v, want %q", err, text)
		}
	}
	if _, err := b.SetPolicy(t.Context(), programOf(good)); !errors.Is(err, pipeline.ErrNotConnected) {
		t.Errorf("a program that is right: %v", err)
	}
}

// Policies are there from the first connection on, come back after whatever
// happens to the switch, and go when they are told to.
func TestPolicyLife(t *testing.T) {
	l := newLab(t, "pa", 2)
	accepted := l.echo(1, 9000)
	bridge := l.newBridge()
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoTCP, 9000)
	deny := l.rule("deny", policy.TierBaseline, 1, policy.ActionDeny, 1, 0, 0)
	r, err := bridge.SetPolicy(l.ctx, programOf(allow, deny))
	if !errors.Is(err, pipeline.ErrNotConnected) || !r.Pending {
		t.Fatal(r, err)
	}
	b := l.run(bridge)
	l.eventually("the bridge to connect", b.Connected)
	l.session(0, 1, 9000).flows(l)
	l.tries(l.met(b, "deny"), 0, 1, 9001, accepted)
	n := l.ours()

	l.ofctl("del-flows", "cookie=0x504c030000000000/0xffffff0000000000")
	l.eventually("everything to be healed", func() bool { return l.ours() == n })
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("everything to be back", func() bool { return b.Connected() && l.ours() == n })
	s := l.session(0, 1, 9000)
	s.flows(l)

	if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
		t.Errorf("%+v, %v", drift, err)
	}
	if err := b.RemoveAll(l.ctx); err != nil || l.ours() != 0 {
		t.Fatal(l.ours(), err)
	}
	l.enforce(b, allow, deny)
	s.flows(l)
	l.tries(l.met(b, "deny"), 0, 1, 9001, accepted)
	if got := l.ours(); got != n {
		t.Errorf("%d flows of %d", got, n)
	}
}

// Policies of many flows are installed and taken away at once, and the number
// of our flows is right behind it.
func TestManyPolicyFlows(t *testing.T) {
	l := newLab(t, "pc", 1)
	b := l.start()
	program := manyEndpoints(1500, 150)
	r, err := b.SetPolicy(l.ctx, program)
	if err != nil || !r.ReadBack || r.Installed != 151 {
		t.Fatal(r, err)
	}
	if n := l.ours(); n < 7000 {
		t.Errorf("%d flows", n)
	}
	if drift, err := b.Drift(l.ctx); err != nil || len(drift) > 0 {
		t.Errorf("%d differences, %v", len(drift), err)
	}
	healed := b.Status().Healed
	if r, err = b.SetPolicy(l.ctx, nil); err != nil || !r.ReadBack || b.Status().Healed != healed {
		t.Errorf("%+v, %v", r, err)
	}
}

// A rule counts on when its rank changes, when it gets more flows, and when
// the switch begins anew; what no rule decides is counted as well.
func TestHitsGoOn(t *testing.T) {
	l := newLab(t, "pb", 2)
	b := l.start()
	s := l.stream(0, 1, 9000, time.Millisecond)
	allow := l.rule("allow", policy.TierApplication, 1, policy.ActionAllow, 1, flow.ProtoUDP, 9000)
	other := l.rule("other", policy.TierApplication, 9, policy.ActionAllow, 1, flow.ProtoTCP, 9000)
	l.enforce(b, allow, other)
	up := func(what string, over uint64) uint64 {
		t.Helper()
		l.eventually("the rule to count "+what, func() bool { return l.hits(b, "allow").Packets > over+50 })
		return l.hits(b, "allow").Packets
	}
	n := up("at first", 0)
	allow.rank = 5
	l.enforce(b, allow, other)
	if got := l.hits(b, "allow").Packets; got < n {
		t.Errorf("%d packets after %d", got, n)
	}
	n = up("with another rank", n)
	allow.log = true
	l.enforce(b, allow, other)
	n = up("with other actions", n)
	if err := l.sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the loss to be noticed", func() bool { return !b.Connected() })
	if err := l.sw.StartSwitch(l.ctx); err != nil {
		t.Fatal(err)
	}
	l.eventually("the bridge to be back", b.Connected)
	s.flows(l)
	if got := up("after a restart", n); got > s.sent.Load() {
		t.Errorf("%d packets of %d that were sent", got, s.sent.Load())
	}
	hits, err := b.PolicyHits(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	a, undecided := hits.Rules[allow.id()], hits.Undecided
	if a.Connections == 0 || a.Connections > 10 || a.Bytes < 60*a.Packets || hits.Rules[other.id()] != (pipeline.Hits{}) {
		t.Errorf("%+v", hits)
	}
	if e := undecided[policy.Egress]; e.Packets < 100 || e.Connections == 0 || undecided[policy.Ingress] != (pipeline.Hits{}) {
		t.Errorf("undecided: %+v", undecided)
	}
}
