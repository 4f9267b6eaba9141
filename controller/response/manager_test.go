package response

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// ledger stands behind the manager and writes down what it was asked for.
// What a switch really does with rules is tested on real switches, in the
// pipeline's and in the controller's own tests.
type ledger struct {
	mu       sync.Mutex
	rules    map[string][]segmentation.Intent
	counters map[string][]Counter
	owners   map[string]bool // that ever had rules
	applied  int
	renewed  int
	adopted  int
	err      error
	applyErr error
	now      time.Time // of receipts; zero is the clock's
}

func newLedger() *ledger {
	return &ledger{rules: map[string][]segmentation.Intent{}, counters: map[string][]Counter{}, owners: map[string]bool{}}
}

func (l *ledger) Apply(_ context.Context, _, owner string, in []segmentation.Intent) (Receipt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.err, l.applyErr); err != nil {
		return Receipt{}, err
	}
	l.applied++
	l.owners[owner] = true
	l.rules[owner] = in
	if !l.now.IsZero() {
		return Receipt{At: l.now, ReadBack: true}, nil
	}
	return Receipt{At: time.Now(), ReadBack: true}, nil
}

func (l *ledger) Renew(_ context.Context, _, owner string, _ time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed++
	return l.err
}

func (l *ledger) Remove(_ context.Context, _, owner string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.rules, owner)
	return l.err
}

func (l *ledger) Counters(_ context.Context, _, owner string) ([]Counter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counters[owner], l.err
}

func (l *ledger) Adopt(_, owner string, in []segmentation.Intent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.adopted++
	l.rules[owner] = in
}

func (l *ledger) drop(owner string, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counters[owner] = []Counter{{Intent: owner + "/9", Packets: n, Dropped: n}}
}

// memory is a store that outlives managers.
type memory struct {
	mu sync.Mutex
	m  map[string][]byte
}

func (s *memory) Put(_ context.Context, k string, v []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[k] = v
	return nil
}

func (s *memory) Delete(_ context.Context, k string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, k)
	return nil
}

func (s *memory) All(context.Context) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.m), nil
}

type place struct{ s *topology.Snapshot }

func (p place) Snapshot() *topology.Snapshot { return p.s }

// ports: p1..p9 with interface index 1..9, "up" (10) a link, "ovn" (11) on a
// bridge of OVN's.
func testPlace() place {
	ports := map[string]topology.Port{}
	for i := range uint32(9) {
		name := fmt.Sprintf("p%d", i+1)
		ports[name] = topology.Port{ID: topology.PortID{Switch: "s1", Port: name}, IfIndex: i + 1, OFPort: i + 1, LinkUp: true}
	}
	ports["up"] = topology.Port{ID: topology.PortID{Switch: "s1", Port: "up"}, IfIndex: 10, Type: topology.PortLink}
	return place{topology.NewSnapshot(map[string]topology.Switch{
		"s1":     {Name: "s1", Ports: ports},
		"br-int": {Name: "br-int", OVN: true, Ports: map[string]topology.Port{"ovn": {ID: topology.PortID{Switch: "br-int", Port: "ovn"}, IfIndex: 11}}},
	})}
}

type rig struct {
	*Manager
	led   *ledger
	store *memory
	seen  []Decision
}

func testConfig() Config {
	cfg := DefaultConfig()
	cfg.Mode = ModeAutonomous
	cfg.Protected = segmentation.NewProtected([]netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")})
	cfg.Remediation = []netip.Addr{host(1)}
	cfg.MaxQuarantines, cfg.MaxActions = 3, 5
	return cfg
}

func newRig(t interface{ Helper() }, cfg Config) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &rig{led: newLedger(), store: &memory{m: map[string][]byte{}}}
	r.Manager = New(cfg, r.led, testPlace(), r.store, NewWatch(), log, func(d Decision) { r.seen = append(r.seen, d) })
	return r
}

func host(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }

func scanBy(n byte, port uint32, serial int) detector.Finding {
	return detector.Finding{
		ID: fmt.Sprintf("f-%d-%d", n, serial), Kind: detector.KindPortScan, State: detector.StateFiring, Time: time.Now().UnixNano(),
		Host: host(n), InPort: port, Victims: []netip.Addr{host(200)}, Proto: flow.ProtoTCP, Score: 1, Sequential: true,
		Evidence: []detector.Evidence{{Feature: "failed_first_contacts", Value: 4, Baseline: 0.2, Contribution: 1}},
	}
}

func floodOn(victim byte, port uint32, serial int) detector.Finding {
	f := scanBy(0, port, serial)
	f.ID = fmt.Sprintf("f-flood-%d-%d", victim, serial)
	f.Kind, f.Host, f.Spoofed, f.Victims = detector.KindSYNFlood, netip.Addr{}, true, []netip.Addr{host(victim)}
	return f
}

func (r *rig) only(t *testing.T) Decision {
	t.Helper()
	all := r.Decisions()
	if len(all) != 1 {
		t.Fatalf("%d decisions, want 1: %+v", len(all), all)
	}
	return all[0]
}

func resolved(f detector.Finding) detector.Finding {
	f.State = detector.StateResolved
	return f
}

func TestLifeOfAQuarantine(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	f := scanBy(9, 9, 1)
	r.consider(ctx, f)
	d := r.only(t)
	if d.State != StateApplied || d.Action != ActionQuarantine || len(r.led.rules[d.ID]) == 0 || !d.Proof.Installed {
		t.Fatalf("not applied: %+v", d)
	}
	if raw, ok := r.store.m[d.ID]; !ok || len(raw) == 0 {
		t.Fatal("the decision was not written down")
	}
	r.led.drop(d.ID, 100)
	// Its way to remediation is open, and no sign that containment leaks.
	r.watch.Observe([]flow.Record{{Time: d.Applied.Add(150 * time.Millisecond).UnixNano(), Source: flow.SourceTap, Signal: flow.SignalAttempt,
		Proto: flow.ProtoTCP, Src: host(9), Dst: host(1), InPort: 9, Rate: 1, Packets: 1}})
	now := d.Applied.Add(settle + 100*time.Millisecond)
	r.tick(ctx, now)
	if d = r.only(t); d.State != StateVerified || !d.Proof.Effective || !d.Proof.Harmless || d.Proof.Dropped != 100 {
		t.Fatalf("not verified: %+v", d)
	}
	// While the attack lasts, and while the finding fires, it is held and renewed.
	for i := range uint64(200) {
		now = now.Add(time.Second)
		r.led.drop(d.ID, 200+i)
		r.tick(ctx, now)
	}
	if d = r.only(t); d.State != StateVerified {
		t.Fatalf("let go during the attack: %+v", d)
	}
	if want := int(200 * time.Second / r.cfg.TTL); r.led.renewed < want {
		t.Errorf("renewed %d times in 200 s with a TTL of %s", r.led.renewed, r.cfg.TTL)
	}
	for range 30 {
		now = now.Add(time.Second)
		r.tick(ctx, now)
	}
	if d = r.only(t); d.State != StateVerified {
		t.Fatalf("let go while the finding fires: %+v", d)
	}
	r.consider(ctx, resolved(f))
	r.tick(ctx, now.Add(time.Second))
	if d = r.only(t); d.State != StateProbation || d.Stage != StageLimited {
		t.Fatalf("not on its way back after quiet: %+v, rules %v", d, r.led.rules)
	}
}

func TestRelapseDoublesTheHold(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	var hold time.Duration
	for i := range 3 {
		f := scanBy(9, 9, i)
		r.consider(ctx, f)
		all := r.Decisions()
		d := all[len(all)-1]
		if i > 0 && d.Hold != 2*hold {
			t.Fatalf("hold %s after %d relapses, want %s", d.Hold, i, 2*hold)
		}
		hold = d.Hold
		r.consider(ctx, resolved(f))
		if err := r.releaseNow(d.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// releaseNow is Release without Run.
func (r *rig) releaseNow(id string) error {
	d, err := r.find(id)
	if err != nil {
		return err
	}
	r.finish(context.Background(), d, StateReleased, "", func() {})
	return nil
}

func TestGuards(t *testing.T) {
	for name, c := range map[string]struct {
		f     detector.Finding
		guard string
	}{
		"protected":     {scanBy(1, 2, 1), "compile"},
		"unknown port":  {scanBy(9, 99, 1), "place"},
		"link":          {scanBy(9, 10, 1), "place"},
		"bridge of OVN": {scanBy(9, 11, 1), "place"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig())
			r.consider(t.Context(), c.f)
			d := r.only(t)
			if d.State != StateRefused || d.Guards[len(d.Guards)-1].Guard != c.guard || d.Guards[len(d.Guards)-1].Pass {
				t.Errorf("got %s, guards %+v; want a refusal by %s", d.State, d.Guards, c.guard)
			}
			if r.led.applied != 0 {
				t.Error("rules were written")
			}
		})
	}
}

func TestForgedSourcesAreNeverQuarantined(t *testing.T) {
	cfg := testConfig()
	cfg.Actions[detector.KindSYNFlood] = ActionQuarantine
	r := newRig(t, cfg)
	r.consider(t.Context(), floodOn(7, 3, 1))
	if d := r.only(t); d.Action != ActionRateLimit || d.Target.Host.IsValid() {
		t.Fatalf("got %s of %s", d.Action, d.Target)
	}
}

func TestBudgetFreesUp(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	for n := range byte(4) {
		r.consider(ctx, scanBy(10+n, uint32(n)+1, 1))
	}
	states := map[State]int{}
	for _, d := range r.Decisions() {
		states[d.State]++
	}
	if states[StateApplied] != 3 || states[StateRefused] != 1 {
		t.Fatalf("got %v, want 3 applied and 1 refused", states)
	}
	for _, d := range r.Decisions() {
		if d.Target.Host == host(10) {
			if err := r.releaseNow(d.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.tick(ctx, time.Now().Add(2*time.Second))
	for _, d := range r.Decisions() {
		if d.Target.Host == host(13) && !d.State.Holds() {
			t.Errorf("still firing, budget free, but %s", d.State)
		}
	}
}

func TestBrake(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	defer func() { cancel(); <-done }()
	if err := r.SetBrake(ctx, true, false, "op"); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Contain(ctx, Order{Host: host(50), Who: "op", For: time.Minute}); !errors.Is(err, ErrState) {
		t.Errorf("quarantine of an unseen host: %v", err)
	}
	r.Handle(scanBy(9, 9, 1))
	eventually(t, "a refusal", func() bool {
		all := r.Decisions()
		return len(all) == 1 && all[0].State == StateRefused
	})
	again := newRig(t, testConfig())
	again.store.m, _ = r.store.All(ctx)
	if err := again.Load(ctx, time.Now()); err != nil || !again.Braked() {
		t.Errorf("the brake did not survive a restart: %v", err)
	}
	if err := r.SetBrake(ctx, false, false, "op"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "containment after the brake", func() bool {
		all := r.Decisions()
		return len(all) == 1 && all[0].State == StateApplied
	})
	if err := r.SetBrake(ctx, true, true, "op"); err != nil {
		t.Fatal(err)
	}
	if d := r.only(t); d.State != StateReleased {
		t.Errorf("brake --release left it %s", d.State)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("no %s", what)
		case <-tick.C:
		}
	}
}

func TestAdviseWaitsForPeople(t *testing.T) {
	cfg := testConfig()
	cfg.Mode = ModeAdvise
	r, ctx := newRig(t, cfg), t.Context()
	for i := range byte(3) {
		r.consider(ctx, scanBy(20+i, uint32(i)+1, 1))
	}
	if r.led.applied != 0 {
		t.Fatal("acted without approval")
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	all := r.Decisions()
	if err := r.Approve(ctx, all[0].ID, "alice"); err != nil {
		t.Fatal(err)
	}
	if err := r.Reject(ctx, all[1].ID, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := r.Approve(ctx, all[1].ID, "alice"); !errors.Is(err, ErrState) {
		t.Errorf("approved what was rejected: %v", err)
	}
	if err := r.Release(ctx, "d-none", "alice"); !errors.Is(err, ErrNotFound) {
		t.Errorf("released what is not there: %v", err)
	}
	cancel()
	<-done
	r.tick(ctx, time.Now().Add(cfg.ApprovalWithin+time.Second))
	want := []State{StateApplied, StateRefused, StateExpired}
	for i, d := range r.Decisions() {
		if d.State != want[i] && !(i == 0 && d.State == StateVerified) {
			t.Errorf("decision %d is %s, want %s", i, d.State, want[i])
		}
	}
	if r.led.applied != 1 {
		t.Errorf("%d containments, want the approved one", r.led.applied)
	}
}

func TestRestartAdoptsWhatMayStand(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)

	soon := newRig(t, testConfig())
	soon.store.m = maps.Clone(r.store.m)
	if err := soon.Load(ctx, d.Applied.Add(r.cfg.TTL/2)); err != nil {
		t.Fatal(err)
	}
	if got := soon.only(t); !got.State.Holds() || soon.led.adopted != 1 || soon.led.applied != 0 {
		t.Errorf("within the TTL: %s, adopted %d, applied %d", got.State, soon.led.adopted, soon.led.applied)
	}
	late := newRig(t, testConfig())
	late.store.m = maps.Clone(r.store.m)
	if err := late.Load(ctx, d.Applied.Add(r.cfg.TTL+time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := late.only(t); got.State != StateExpired || late.led.adopted != 0 {
		t.Errorf("after the TTL: %s, adopted %d", got.State, late.led.adopted)
	}
	// Killed between writing down and acting: the rules may stand.
	cut := *r.all[d.ID]
	cut.State, cut.Applied, cut.Renewed = StateProposed, time.Time{}, time.Time{}
	raw, err := encode(&cut)
	if err != nil {
		t.Fatal(err)
	}
	mid := newRig(t, testConfig())
	mid.store.m = map[string][]byte{cut.ID: raw}
	if err := mid.Load(ctx, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := mid.only(t); got.State != StateApplied || mid.led.adopted != 1 {
		t.Errorf("killed in mid-change: %s, adopted %d", got.State, mid.led.adopted)
	}
}

func TestHarmRollsBack(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	start := time.Now()
	talk := func(at time.Time, answered bool) {
		rec := flow.Record{Time: at.UnixNano(), Source: flow.SourceTap, Proto: flow.ProtoTCP, Src: host(2), Dst: host(3), SrcPort: 4000, DstPort: 80, Rate: 1, Packets: 1, InPort: 2}
		back := rec
		back.Src, back.Dst, back.SrcPort, back.DstPort, back.InPort, back.Signal = rec.Dst, rec.Src, 80, 4000, 3, flow.SignalAccept
		end := rec
		rec.Signal, end.Signal = flow.SignalAttempt, flow.SignalFinish
		batch := []flow.Record{rec}
		if answered {
			batch = append(batch, back, end)
		}
		r.watch.Observe(batch)
	}
	for i := range 50 {
		talk(start.Add(time.Duration(i-60)*100*time.Millisecond), true)
	}
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)
	for i := range 30 {
		talk(d.Applied.Add(time.Duration(i+1)*100*time.Millisecond), false)
	}
	r.led.drop(d.ID, 10)
	now := d.Applied.Add(3200 * time.Millisecond)
	r.tick(ctx, now)
	if d = r.only(t); d.State != StateApplied || d.Action != ActionSegment || d.Target.Peer != host(200) || len(r.led.rules[d.ID]) != 1 {
		t.Fatalf("harm did not lead one rung down: %s %s, %+v", d.State, d.Action, r.led.rules)
	}
	// The rung below is too much as well.
	r.all[d.ID].Applied = now
	for i := range 30 {
		talk(now.Add(time.Duration(i+1)*100*time.Millisecond), false)
	}
	r.tick(ctx, now.Add(3200*time.Millisecond))
	if d = r.only(t); d.State != StateRolledBack || len(r.led.rules) != 0 || d.Proof.Harmless {
		t.Fatalf("harm was not undone: %s, %+v", d.State, d.Proof)
	}
}

func TestUnprovenIsInstalledOnceMore(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)
	r.watch.Observe([]flow.Record{{Time: d.Applied.Add(time.Second).UnixNano(), Source: flow.SourceTap, Signal: flow.SignalAttempt,
		Proto: flow.ProtoTCP, Src: host(9), Dst: host(3), InPort: 9, Rate: 1, Packets: 1}})
	r.led.drop(d.ID, 10)
	r.tick(ctx, d.Applied.Add(2*time.Second))
	if d = r.only(t); d.State != StateApplied {
		t.Fatalf("verified although a packet passed: %+v", d.Proof)
	}
	r.tick(ctx, d.Applied.Add(4*time.Second))
	if r.led.applied != 2 {
		t.Fatalf("applied %d times, want a second attempt", r.led.applied)
	}
	r.led.drop(d.ID, 50)
	r.tick(ctx, d.Applied.Add(5*time.Second))
	if d = r.only(t); d.State != StateVerified {
		t.Errorf("not verified after the second attempt: %s %+v", d.State, d.Proof)
	}
}

// What is only observed must not add up for ever.
func TestDecisionsAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Mode = ModeObserve
	r, ctx := newRig(t, cfg), t.Context()
	for i := range 3 * kept {
		f := scanBy(byte(i), uint32(i%9)+1, i)
		r.consider(ctx, f)
		r.consider(ctx, resolved(f))
	}
	if n := len(r.Decisions()); n > kept || len(r.store.m) > kept || len(r.firing) != 0 {
		t.Errorf("%d decisions, %d stored, %d findings", n, len(r.store.m), len(r.firing))
	}
}

func TestSwitchThatNeverReturnsEndsContainment(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)
	r.led.err = errors.New("no such bridge")
	for s := range 3 * int(r.cfg.TTL/time.Second) {
		r.tick(ctx, d.Applied.Add(time.Duration(s)*time.Second))
	}
	if d = r.only(t); d.State != StateExpired {
		t.Errorf("still %s", d.State)
	}
}

func TestFailedApplyLeavesNothing(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	r.led.err = errors.New("switch says no")
	r.consider(ctx, scanBy(9, 9, 1))
	if d := r.only(t); d.State != StateRolledBack || len(r.lives) != 0 {
		t.Errorf("got %s", d.State)
	}
}

// No sequence of findings, operators and faults exceeds a budget, hits a
// protected address or quarantines a forged source.
func TestBudgetsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, ctx := newRig(t, testConfig()), context.Background()
		now := time.Now()
		var begun []time.Time
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := len(r.led.owners)
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1:
				r.decide(ctx, scanBy(rapid.ByteRange(0, 15).Draw(t, "host"), rapid.Uint32Range(1, 12).Draw(t, "port"), i), now)
			case 2:
				r.decide(ctx, floodOn(rapid.ByteRange(0, 15).Draw(t, "victim"), rapid.Uint32Range(1, 12).Draw(t, "port"), i), now)
			case 3:
				r.tick(ctx, now)
			case 4:
				for _, d := range r.Decisions() {
					if d.State.Holds() {
						if err := r.releaseNow(d.ID); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
			case 5:
				if rapid.Bool().Draw(t, "fault") {
					r.led.err = errors.New("fault")
				} else {
					r.led.err = nil
				}
			}
			for range len(r.led.owners) - before {
				begun = append(begun, now)
			}
			r.checkBudgets(t, begun, now)
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
		}
	})
}

func (r *rig) checkBudgets(t *rapid.T, begun []time.Time, now time.Time) {
	quarantines, minute := 0, 0
	for _, d := range r.Decisions() {
		if !d.State.Holds() {
			continue
		}
		if d.Target.Host == host(1) {
			t.Fatalf("protected host contained: %+v", d)
		}
		if d.Action == ActionQuarantine && d.State != StateProbation {
			quarantines++
		}
	}
	for _, at := range begun {
		if now.Sub(at) <= time.Minute {
			minute++
		}
	}
	if quarantines > r.cfg.MaxQuarantines || minute > r.cfg.MaxActions {
		t.Fatalf("%d quarantines (at most %d), %d actions in a minute (at most %d)", quarantines, r.cfg.MaxQuarantines, minute, r.cfg.MaxActions)
	}
}

// Questions in a victim's name are limited where they enter, unless that may be
// where the victim lives; segments of no connection unless a router's port
// carries others' that do exist.
func TestReflectedAndForgedSegments(t *testing.T) {
	asking := floodOn(7, 3, 1)
	asking.Kind, asking.Proto, asking.DstPort, asking.HostMAC = detector.KindAmplification, flow.ProtoUDP, 53, flow.MAC{2, 0, 0, 0, 0, 3}
	answers := asking
	answers.HostMAC = flow.MAC{}
	segments := floodOn(7, 3, 1)
	segments.Kind = detector.KindACKFlood
	at := func(n byte, port string) topology.Host {
		return topology.Host{Addr: host(n), MAC: flow.MAC{2, 0, 0, 0, 0, 99}, Port: topology.PortID{Switch: "s1", Port: port}, Bound: true}
	}
	router := []topology.Host{at(101, "p3"), at(102, "p3"), at(103, "p3"), at(104, "p3"), at(105, "p3")}
	for name, c := range map[string]struct {
		f       detector.Finding
		hosts   []topology.Host
		allowed bool
	}{
		"asked elsewhere":        {asking, []topology.Host{at(7, "p5")}, true},
		"asked at home":          {asking, []topology.Host{at(7, "p3")}, false},
		"asked, home unknown":    {asking, nil, false},
		"answers":                {answers, nil, true},
		"segments":               {segments, router[:2], true},
		"segments from a router": {segments, router, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testConfig())
			p := testPlace()
			p.s.Hosts = map[netip.Addr]topology.Host{}
			for _, h := range c.hosts {
				p.s.Hosts[h.Addr] = h
			}
			r.where = p
			r.consider(t.Context(), c.f)
			if d := r.only(t); (d.State == StateApplied) != c.allowed || c.allowed != (len(d.Intents) > 0) {
				t.Errorf("%s, guards %+v", d.State, d.Guards)
			}
		})
	}
}

// Where stations are invented the port is locked, for those that are known
// there and for protected ones it stays open, and what is dropped is seen.
func TestInventedStationsLockTheirPort(t *testing.T) {
	cfg := testConfig()
	cfg.Protected = segmentation.NewProtected([]netip.Prefix{netip.PrefixFrom(host(40), 32)})
	at := func(n byte, bound bool) topology.Host {
		return topology.Host{Addr: host(n), MAC: flow.MAC{2, 0, 0, 0, 0, n}, Port: topology.PortID{Switch: "s1", Port: "p3"}, Bound: bound}
	}
	p := testPlace()
	p.s.Hosts = map[netip.Addr]topology.Host{host(3): at(3, true), host(40): at(40, false), host(66): at(66, false)}
	r := newRig(t, cfg)
	r.where = p
	f := scanBy(3, 3, 1)
	f.Kind, f.Victims, f.Host = detector.KindMACFlood, nil, netip.Addr{}
	r.consider(t.Context(), f)
	d := r.only(t)
	if d.State != StateApplied || !d.Target.Lock || d.Target.Port != "p3" || d.Target.Host.IsValid() || len(d.Intents) != 3 {
		t.Fatalf("%s of %s, %d intents, guards %+v", d.State, d.Target, len(d.Intents), d.Guards)
	}
	known := d.known()
	slices.SortFunc(known, func(a, b flow.MAC) int { return int(a[5]) - int(b[5]) })
	if !slices.Equal(known, []flow.MAC{{2, 0, 0, 0, 0, 3}, {2, 0, 0, 0, 0, 40}}) {
		t.Errorf("spares %v", known)
	}
	w := r.lives[d.ID].w
	record := func(mac flow.MAC, s flow.Signal) flow.Record {
		return flow.Record{Time: w.since + 1, Source: flow.SourceTap, Signal: s, Rate: 1, Packets: 1, SrcMAC: mac, Src: host(9), Dst: host(8), InPort: 3}
	}
	r.watch.Observe([]flow.Record{record(flow.MAC{2, 9, 9}, flow.SignalDropped), record(flow.MAC{2, 9, 8}, flow.SignalAttempt), record(known[0], flow.SignalAttempt)})
	if dropped, passed := w.dropped.Load(), w.passed.Load(); dropped != 1 || passed != 1 {
		t.Errorf("%d dropped and %d passed, want one of each", dropped, passed)
	}
	r.consider(t.Context(), f)
	r.only(t)
}
