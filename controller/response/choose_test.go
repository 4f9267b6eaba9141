package response

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/topology"
)

// asked answers every question as it is told to, and keeps the questions.
type asked struct {
	answer    func(Question) Choice
	questions []Question
}

func (a *asked) Choose(q Question) Choice {
	a.questions = append(a.questions, q)
	return a.answer(q)
}

// always answers with one rung, whatever is open.
func always(a Action) *asked {
	return &asked{answer: func(Question) Choice {
		return Choice{Mode: LearningLive, Policy: "test", Wanted: a, Action: a, Propensity: 0.5}
	}}
}

func TestOnlyWhatIsOpenIsChosen(t *testing.T) {
	many := scanBy(9, 9, 1)
	many.Victims = append(many.Victims, host(201))
	service := scanBy(9, 9, 1)
	service.DstPort = 22
	for _, c := range []struct {
		name   string
		mode   Mode
		plan   Plan
		f      detector.Finding
		answer Action
		open   []Action
		want   Action
	}{
		{"milder rungs are open", ModeAutonomous, Plan{Action: ActionQuarantine}, scanBy(9, 9, 1), ActionSegment,
			[]Action{ActionRateLimit, ActionSegment, ActionQuarantine}, ActionSegment},
		{"the rule's own", ModeAutonomous, Plan{Action: ActionQuarantine}, scanBy(9, 9, 1), ActionQuarantine,
			[]Action{ActionRateLimit, ActionSegment, ActionQuarantine}, ActionQuarantine},
		{"harder ones are not", ModeAutonomous, Plan{Action: ActionSegment}, scanBy(9, 9, 1), ActionQuarantine,
			[]Action{ActionRateLimit, ActionSegment}, ActionSegment},
		{"unless they are named", ModeAutonomous, Plan{Action: ActionSegment, Rungs: []Action{ActionQuarantine}}, scanBy(9, 9, 1), ActionQuarantine,
			[]Action{ActionSegment, ActionQuarantine}, ActionQuarantine},
		{"others than named are not", ModeAutonomous, Plan{Action: ActionQuarantine, Rungs: []Action{ActionQuarantine}}, scanBy(9, 9, 1), ActionSegment,
			[]Action{ActionQuarantine}, ActionQuarantine},
		{"nothing that does not contain", ModeAutonomous, Plan{Action: ActionQuarantine, Rungs: []Action{ActionAlert}}, scanBy(9, 9, 1), ActionAlert,
			[]Action{ActionQuarantine}, ActionQuarantine},
		{"nothing that leaves a victim out", ModeAutonomous, Plan{Action: ActionQuarantine}, many, ActionSegment,
			[]Action{ActionQuarantine}, ActionQuarantine},
		{"a service of everybody's leaves nobody out", ModeAutonomous, Plan{Action: ActionQuarantine}, service, ActionSegment,
			[]Action{ActionRateLimit, ActionSegment, ActionQuarantine}, ActionSegment},
		{"forged sources are limited", ModeAutonomous, Plan{Action: ActionQuarantine}, floodOn(7, 3, 1), ActionSegment,
			[]Action{ActionRateLimit}, ActionRateLimit},
		{"where somebody is asked anyway", ModeAdvise, Plan{Action: ActionQuarantine}, scanBy(9, 9, 1), ActionSegment,
			[]Action{ActionQuarantine}, ActionQuarantine},
		{"where the playbook asks", ModeAutonomous, Plan{Action: ActionQuarantine, People: 1}, scanBy(9, 9, 1), ActionSegment,
			[]Action{ActionQuarantine}, ActionQuarantine},
		{"no such rung", ModeAutonomous, Plan{Action: ActionQuarantine}, scanBy(9, 9, 1), "scorched-earth",
			[]Action{ActionRateLimit, ActionSegment, ActionQuarantine}, ActionQuarantine},
		{"a honeypot that is not there", ModeAutonomous, Plan{Action: ActionQuarantine, Rungs: []Action{ActionReroute}}, scanBy(9, 9, 1), ActionReroute,
			[]Action{ActionQuarantine}, ActionQuarantine},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg, ask := testConfig(), always(c.answer)
			cfg.Mode, cfg.Playbooks, cfg.Chooser = c.mode, fixed{plan: c.plan}, ask
			r := newRig(t, cfg)
			r.consider(t.Context(), c.f)
			d := r.only(t)
			if len(ask.questions) != 1 || !slices.Equal(ask.questions[0].Open, c.open) {
				t.Fatalf("asked %+v, want %v to be open", ask.questions, c.open)
			}
			if d.Action != c.want || d.Choice == nil || d.Choice.Action != c.want {
				t.Errorf("%s, chosen as %+v; want %s", d.Action, d.Choice, c.want)
			}
			if rule := decisionID(c.f.ID, string(c.plan.Action)); !c.f.Spoofed && d.ID != rule {
				t.Errorf("decision %s, by the rule it would be %s", d.ID, rule)
			}
			r.consider(t.Context(), c.f) // offered again, as it is every second
			if len(ask.questions) != 1 || len(r.Decisions()) != 1 {
				t.Errorf("asked %d times, %d decisions", len(ask.questions), len(r.Decisions()))
			}
		})
	}
}

// Where a guard has a person asked about the rule's rung, no milder one gets round
// the question.
func TestNobodyIsSparedTheQuestion(t *testing.T) {
	cfg, ask := testConfig(), always(ActionSegment)
	cfg.Chooser = ask
	r := newRig(t, cfg)
	for i := range byte(5) {
		r.watch.Observe([]flow.Record{{Time: time.Now().UnixNano(), Source: flow.SourceTap, Signal: flow.SignalFinish, Proto: flow.ProtoTCP, Rate: 1, Packets: 1,
			Src: host(100 + i), Dst: host(9), SrcPort: 40000, DstPort: 80, InPort: uint32(1 + i)}})
	}
	r.consider(t.Context(), scanBy(9, 9, 1))
	if d := r.only(t); d.State != StateAwaitingApproval || d.Action != ActionQuarantine || !slices.Equal(ask.questions[0].Open, []Action{ActionQuarantine}) {
		t.Errorf("%s, %s; open were %v", d.State, d.Action, ask.questions[0].Open)
	}
}

// What a guard refuses nobody chooses about.
func TestNothingToChooseWhereTheRuleIsRefused(t *testing.T) {
	cfg, ask := testConfig(), always(ActionSegment)
	cfg.MaxQuarantines, cfg.Chooser = 0, ask
	r := newRig(t, cfg)
	r.consider(t.Context(), scanBy(9, 9, 1))
	if d := r.only(t); d.State != StateRefused || len(ask.questions) > 0 {
		t.Errorf("%s, asked %d times", d.State, len(ask.questions))
	}
}

// A milder rung than the rule's gives way to it when it is not enough.
func TestMilderRungGivesWay(t *testing.T) {
	for name, c := range map[string]struct {
		later func(r *rig, d *Decision, f *detector.Finding)
		want  Action
	}{
		"it does": {func(*rig, *Decision, *detector.Finding) {}, ActionSegment},
		"another victim": {func(_ *rig, _ *Decision, f *detector.Finding) {
			f.Victims = append(f.Victims, host(201))
		}, ActionQuarantine},
		"no proof": {func(r *rig, d *Decision, _ *detector.Finding) {
			d.Applied = d.Applied.Add(-2 * r.cfg.VerifyWithin)
		}, ActionQuarantine},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Chooser = always(ActionSegment)
			r, ctx, f := newRig(t, cfg), t.Context(), scanBy(9, 9, 1)
			r.consider(ctx, f)
			first := r.all[r.only(t).ID]
			c.later(r, first, &f)
			for range 3 {
				r.consider(ctx, f)
			}
			var standing []Decision
			for _, d := range r.Decisions() {
				if d.State.Holds() {
					standing = append(standing, d)
				}
			}
			if len(standing) != 1 || standing[0].Action != c.want {
				t.Fatalf("standing: %+v", standing)
			}
			if c.want == first.Action {
				return
			}
			if first.Successor != standing[0].ID || standing[0].Relieves != first.ID || standing[0].Choice != nil || len(r.led.rules[first.ID]) > 0 {
				t.Errorf("successor %s of %s, choice %+v", first.Successor, standing[0].ID, standing[0].Choice)
			}
		})
	}
}

// A milder rung that was never proven does not stand in the way of its own
// successor, where one containment of the playbook is the test of the next.
func TestMilderRungGivesWayToItsCanary(t *testing.T) {
	cfg := testConfig()
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Action: ActionQuarantine, Canary: true}}
	cfg.Chooser = always(ActionSegment)
	r, ctx, f := newRig(t, cfg), t.Context(), scanBy(9, 9, 1)
	r.consider(ctx, f)
	first := r.all[r.only(t).ID]
	first.Applied = first.Applied.Add(-2 * cfg.VerifyWithin)
	r.consider(ctx, f)
	if first.State != StateReleased || first.Successor == "" {
		t.Errorf("%s, successor %q", first.State, first.Successor)
	}
}

// What cannot give way for want of a budget does when there is one, and what it
// was stands meanwhile.
func TestMilderRungWaitsForABudget(t *testing.T) {
	cfg := testConfig()
	cfg.MaxQuarantines, cfg.Chooser = 1, always(ActionSegment)
	r, ctx, f := newRig(t, cfg), t.Context(), scanBy(9, 9, 1)
	r.consider(ctx, f)
	first := r.all[r.only(t).ID]
	r.cfg.Chooser = nil
	r.consider(ctx, scanBy(8, 8, 1)) // takes the only place
	f.Victims = append(f.Victims, host(201))
	r.consider(ctx, f)
	if first.State != StateApplied || len(r.led.rules[first.ID]) == 0 {
		t.Fatalf("given up before something took its place: %s", first.State)
	}
	for _, d := range r.Decisions() {
		if d.Target.Host == host(8) {
			if err := r.releaseNow(d.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.reconsidered = time.Time{}
	r.reconsider(ctx, time.Now())
	if first.State != StateReleased || first.Successor == "" || r.all[first.Successor].Action != ActionQuarantine {
		t.Errorf("%s, successor %q", first.State, first.Successor)
	}
}

// What honest conversations a rung cuts off is known before it is applied; those
// that the finding is about are not honest.
func TestCost(t *testing.T) {
	w, now := NewWatch(), time.Now().UnixNano()
	finish := func(client, server byte, port uint16) {
		w.Observe([]flow.Record{{Time: now, Source: flow.SourceTap, Signal: flow.SignalFinish, Proto: flow.ProtoTCP, Rate: 1, Packets: 1,
			Src: host(client), Dst: host(server), SrcPort: 40000, DstPort: port, InPort: uint32(client)}})
	}
	finish(9, 200, 22) // the attack's own
	finish(9, 200, 80)
	finish(9, 1, 80) // remediation
	finish(9, 3, 22)
	finish(5, 9, 443) // somebody uses it
	finish(5, 6, 443)
	f := scanBy(9, 9, 1)
	f.DstPort = 22
	for _, c := range []struct {
		action Action
		target Target
		want   Cost
	}{
		{ActionQuarantine, Target{Host: host(9)}, Cost{Own: 4, Cut: 3}},
		{ActionSegment, Target{Host: host(9), Proto: flow.ProtoTCP, Service: 22}, Cost{Own: 4, Cut: 1}},
		{ActionSegment, Target{Host: host(9), Peer: host(200)}, Cost{Own: 4, Cut: 1}},
		{ActionRateLimit, Target{Host: host(9), Victim: host(200)}, Cost{Own: 4}},
		{ActionRateLimit, Target{Victim: host(200)}, Cost{}},
	} {
		if have := w.cost(&Decision{Action: c.action, Target: c.target}, f, []netip.Addr{host(1)}); have != c.want {
			t.Errorf("%s of %+v: %+v, want %+v", c.action, c.target, have, c.want)
		}
	}
}

// Overruled are what somebody rejects, and what is let go while the attack goes
// on.
func TestOverruled(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	go func() { _ = r.Run(ctx) }()
	r.Handle(scanBy(9, 9, 1))
	eventually(t, "containment", func() bool { return len(r.Decisions()) == 1 && r.Decisions()[0].State == StateApplied })
	if err := r.Release(ctx, r.only(t).ID, "alice"); err != nil {
		t.Fatal(err)
	}
	if d := r.only(t); d.Overruled != "alice" || d.State != StateReleased {
		t.Errorf("%s, overruled by %q", d.State, d.Overruled)
	}
}

// Whatever a chooser says, no budget is exceeded, nobody is touched who must not
// be, nobody is spared the question who would be asked, and no rung is taken that
// the playbook does not leave open.
func TestChooserIsHeldByGuards(t *testing.T) {
	base := testConfig()
	base.Exempt = []Exemption{{Hosts: []netip.Prefix{prefix("10.0.0.2/32")}}}
	base.Shared = []netip.Prefix{prefix("10.0.0.3/32")}
	base.Groups = []Group{{Name: "few", Addresses: []netip.Prefix{prefix("10.0.0.4/30")}, Max: 1}}
	base.Honeypot = host(12)
	rapid.Check(t, func(t *rapid.T) {
		cfg := base
		cfg.Mode = rapid.SampledFrom([]Mode{ModeAutonomous, ModeAutonomous, ModeAdvise}).Draw(t, "mode")
		plan := Plan{Playbook: "p", Action: rapid.SampledFrom(Ladder()).Draw(t, "rule"), People: rapid.SampledFrom([]int{0, 0, 1}).Draw(t, "people"),
			Rungs: rapid.SliceOfN(rapid.SampledFrom(Ladder()), 0, 3).Draw(t, "rungs")}
		cfg.Playbooks = fixed{plan: plan}
		answers := append(Ladder(), "", "scorched-earth")
		ask := &asked{answer: func(q Question) Choice {
			return Choice{Action: rapid.SampledFrom(answers).Draw(t, "answer"), Propensity: -1, Mode: "nonsense"}
		}}
		cfg.Chooser = ask
		r, ctx, now := newRig(t, cfg), context.Background(), time.Now()
		var begun []time.Time
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := len(r.led.owners)
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				f := scanBy(rapid.ByteRange(0, 12).Draw(t, "host"), rapid.Uint32Range(1, 12).Draw(t, "port"), i%7)
				f.DstPort = rapid.SampledFrom([]uint16{0, 22}).Draw(t, "service")
				f.Spoofed = rapid.Bool().Draw(t, "spoofed")
				for range rapid.IntRange(0, 2).Draw(t, "victims") {
					f.Victims = append(f.Victims, host(201))
				}
				r.decide(ctx, f, now)
			case 2:
				r.tick(ctx, now)
			case 3:
				r.led.err = nil
				if rapid.Bool().Draw(t, "fault") {
					r.led.err = errors.New("fault")
				}
			}
			for range len(r.led.owners) - before {
				begun = append(begun, now)
			}
			r.checkGuards(t)
			r.checkBudgets(t, begun, now)
			r.checkChoices(t, plan)
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
		}
	})
}

func (r *rig) checkChoices(t *rapid.T, plan Plan) {
	open := plan.opens()
	for _, d := range r.Decisions() {
		switch {
		case d.Choice == nil:
			continue
		case d.State.Holds() && (r.cfg.Mode != ModeAutonomous || plan.People > 0):
			t.Fatalf("nobody was asked about %+v", d)
		case d.Choice.Action != d.Choice.Rule && !slices.Contains(open, d.Choice.Action):
			t.Fatalf("%s was chosen, open are %v", d.Choice.Action, open)
		case !slices.Contains(d.Choice.Open, d.Choice.Action):
			t.Fatalf("%s was chosen, said to be open are %v", d.Choice.Action, d.Choice.Open)
		}
	}
}

// What it costs to ask: on two shared cores 38 us without a chooser, 78 us with one
// and three rungs open, beside a thousand known conversations.
func BenchmarkDecide(b *testing.B) {
	for name, ask := range map[string]Chooser{"rule": nil, "chooser": always(ActionQuarantine)} {
		b.Run(name, func(b *testing.B) {
			cfg := testConfig()
			cfg.Chooser, cfg.MaxQuarantines, cfg.MaxActions = ask, 1<<30, 1<<30
			log := logrus.New()
			log.SetOutput(io.Discard)
			m := New(cfg, newLedger(), testPlace(), &memory{m: map[string][]byte{}}, NewWatch(), log, func(Decision) {})
			for i := range 1000 {
				m.watch.health.good[pair{host(byte(i)), host(byte(i / 100)), uint16(i)}] = use{port: uint32(1 + i%9)}
			}
			f := scanBy(9, 9, 1)
			plan := cfg.plan(f, Circumstances{})
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				d, _ := propose(cfg, f, plan)
				m.choose(&d, f, plan, now)
				if !m.guardTarget(&d, f, now) || !m.guardRest(&d, f, now) {
					b.Fatal("refused")
				}
			}
		})
	}
}

// The choice is kept over a restart, and told.
func TestChoiceIsKept(t *testing.T) {
	cfg := testConfig()
	cfg.Chooser = always(ActionSegment)
	r := newRig(t, cfg)
	r.where = place{topology.NewSnapshot(maps.Clone(testPlace().s.Switches))}
	r.consider(t.Context(), scanBy(9, 9, 1))
	again := newRig(t, cfg)
	again.store.m = maps.Clone(r.store.m)
	if err := again.Load(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if c := again.only(t).Choice; c == nil || c.Action != ActionSegment || c.Rule != ActionQuarantine || c.Propensity != 0.5 || c.Policy != "test" {
		t.Errorf("after a restart: %+v", c)
	}
}
