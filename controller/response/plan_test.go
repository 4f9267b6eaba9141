package response

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/topology"
)

// fixed is a planner of one plan, which keeps what it was asked with.
type fixed struct {
	plan  Plan
	asked *Circumstances
}

func (p fixed) Plan(_ detector.Finding, c Circumstances) Plan {
	if p.asked != nil {
		*p.asked = c
	}
	return p.plan
}

func TestPlaybookChoosesTheAction(t *testing.T) {
	for _, c := range []struct {
		name   string
		mode   Mode
		plan   Plan
		want   State
		people int
	}{
		{"as configured", ModeAutonomous, Plan{Playbook: "p", Action: ActionQuarantine}, StateApplied, 0},
		{"asks first", ModeAutonomous, Plan{Playbook: "p", Action: ActionQuarantine, Mode: ModeAdvise}, StateAwaitingApproval, 1},
		{"needs two", ModeAutonomous, Plan{Playbook: "p", Action: ActionQuarantine, People: 2}, StateAwaitingApproval, 2},
		{"is never bolder than the configuration", ModeObserve, Plan{Playbook: "p", Action: ActionQuarantine, Mode: ModeAutonomous}, StateProposed, 0},
		{"only watches", ModeAutonomous, Plan{Playbook: "p", Action: ActionQuarantine, Mode: ModeObserve}, StateProposed, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Mode, cfg.Playbooks = c.mode, fixed{plan: c.plan}
			r := newRig(t, cfg)
			r.consider(t.Context(), scanBy(9, 9, 1))
			d := r.only(t)
			if d.State != c.want || d.People != c.people || d.Playbook != "p" {
				t.Errorf("%s of playbook %q, %d people; want %s, %d", d.State, d.Playbook, d.People, c.want, c.people)
			}
		})
	}
	cfg := testConfig()
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Action: ActionAlert}}
	r := newRig(t, cfg)
	r.consider(t.Context(), scanBy(9, 9, 1))
	if all := r.Decisions(); len(all) > 0 {
		t.Errorf("an alert became %+v", all)
	}
}

func TestPlansSeeTheLabelsOfThePort(t *testing.T) {
	cfg := testConfig()
	var asked Circumstances
	cfg.Playbooks = fixed{plan: Plan{Action: ActionAlert}, asked: &asked}
	r := newRig(t, cfg)
	p, _ := testPlace().s.PortByIndex(9)
	p.Labels = map[string]string{"env": "prod"}
	r.where = place{topology.NewSnapshot(map[string]topology.Switch{"s1": {Name: "s1", Ports: map[string]topology.Port{p.ID.Port: p}}})}
	r.consider(t.Context(), scanBy(9, 9, 1))
	if asked.Tags["env"] != "prod" || time.Since(asked.Now) > time.Minute {
		t.Errorf("asked with %+v", asked)
	}
}

func TestTwoPeopleApprove(t *testing.T) {
	cfg := testConfig()
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Action: ActionQuarantine, People: 2}}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	go func() { _ = r.Run(ctx) }()
	id := r.only(t).ID
	if err := r.Approve(ctx, id, "alice"); err != nil {
		t.Fatal(err)
	}
	if d := r.only(t); d.State != StateAwaitingApproval || len(r.led.rules) > 0 {
		t.Fatalf("one of two was enough: %+v", d)
	}
	if err := r.Approve(ctx, id, "alice"); !errors.Is(err, ErrState) {
		t.Fatalf("alice approved twice: %v", err)
	}
	if err := r.Approve(ctx, id, "bob"); err != nil {
		t.Fatal(err)
	}
	if d := r.only(t); d.State != StateApplied || d.Who != "alice and bob" {
		t.Fatalf("not applied by both: %+v", d)
	}
}

func TestProbesHaveAForm(t *testing.T) {
	for target, ok := range map[string]bool{
		"tcp://10.0.0.2:80": true, "tcp://[fd00::2]:80": true, "http://10.0.0.2/healthz": true, "https://web.example/": true,
		"tcp://10.0.0.2": false, "tcp://:80": false, "tcp://10.0.0.2:80/x": false, "10.0.0.2:80": false, "udp://10.0.0.2:53": false, "http:///x": false, "": false,
	} {
		if err := CheckProbe(target); (err == nil) != ok {
			t.Errorf("%q: %v", target, err)
		}
	}
}

// sick is the health of services of which one may be broken.
type sick struct{ why string }

func (s *sick) Broke(probes []string, _ time.Time) string {
	if len(probes) == 0 {
		return ""
	}
	return s.why
}

// A service that the playbook names and that does not answer any more is harm: one
// rung down, and then rolled back.
func TestBrokenServiceIsHarm(t *testing.T) {
	cfg, health := testConfig(), &sick{}
	cfg.Health = health
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Action: ActionQuarantine, Probes: []string{"tcp://10.0.0.2:80"}}}
	r := newRig(t, cfg)
	r.consider(t.Context(), scanBy(9, 9, 1))
	d := r.only(t)
	r.led.drop(d.ID, 10)
	r.tick(t.Context(), d.Applied.Add(time.Second))
	if d = r.only(t); d.Action != ActionQuarantine || !d.Proof.Harmless {
		t.Fatalf("while all is well: %s, %+v", d.Action, d.Proof)
	}
	health.why = "tcp://10.0.0.2:80 does not answer any more"
	r.tick(t.Context(), d.Applied.Add(2*time.Second))
	if d = r.only(t); d.Action != ActionSegment || d.State != StateApplied {
		t.Fatalf("with a broken service: %s, %s", d.Action, d.State)
	}
	r.tick(t.Context(), d.Applied.Add(time.Second))
	if d = r.only(t); d.State != StateRolledBack || d.Proof.Why != health.why {
		t.Errorf("still broken: %s, %+v", d.State, d.Proof)
	}
}

// Playbooks that are replaced while a finding fires do not decide anew about it,
// unless a guard refused what the earlier ones wanted.
func TestReplacedPlaybooksDecideAboutWhatIsNew(t *testing.T) {
	cfg := testConfig()
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Version: "1", Action: ActionSegment}}
	r, ctx := newRig(t, cfg), t.Context()
	f := scanBy(9, 9, 1)
	r.consider(ctx, f)
	r.cfg.MaxActions = 0
	refused := scanBy(8, 8, 1)
	r.consider(ctx, refused)
	r.cfg.Playbooks, r.cfg.MaxActions = fixed{plan: Plan{Playbook: "p", Version: "2", Action: ActionQuarantine}}, cfg.MaxActions
	r.consider(ctx, f)
	r.consider(ctx, refused)
	r.consider(ctx, scanBy(7, 7, 1))
	have := map[netip.Addr]string{}
	for _, d := range r.Decisions() {
		have[d.Target.Host] += string(d.Action) + " " + string(d.State) + " " + d.Version + ";"
	}
	for h, want := range map[netip.Addr]string{host(9): "segment applied 1;", host(8): "segment refused 1;quarantine applied 2;", host(7): "quarantine applied 2;"} {
		if have[h] != want {
			t.Errorf("%s: %q, want %q", h, have[h], want)
		}
	}
	r.consider(ctx, resolved(f))
	f.ID = "f-again"
	r.consider(ctx, f)
	if d := r.all[decisionID("f-again", string(ActionQuarantine))]; d == nil || d.State != StateApplied {
		t.Errorf("a new finding: %+v", d)
	}
}
