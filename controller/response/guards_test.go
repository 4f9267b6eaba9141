package response

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestExemptionsHold(t *testing.T) {
	at := func(s string) time.Time {
		t.Helper()
		x, err := time.Parse("Mon 2006-01-02 15:04", s)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	night := Exemption{Days: []time.Weekday{time.Saturday}, Begin: 22 * 60, End: 4 * 60, Zone: time.UTC}
	span := Exemption{From: at("Mon 2026-11-23 08:00"), Until: at("Mon 2026-11-23 09:00")}
	day := Exemption{Days: []time.Weekday{time.Sunday}, Zone: time.UTC}
	for _, c := range []struct {
		name string
		x    Exemption
		at   string
		want bool
	}{
		{"always", Exemption{}, "Mon 2026-11-23 08:00", true},
		{"before", span, "Mon 2026-11-23 07:59", false},
		{"within", span, "Mon 2026-11-23 08:00", true},
		{"after", span, "Mon 2026-11-23 09:00", false},
		{"too early", night, "Sat 2026-11-28 21:59", false},
		{"in the evening", night, "Sat 2026-11-28 22:00", true},
		{"past midnight", night, "Sun 2026-11-29 03:59", true},
		{"past its end", night, "Sun 2026-11-29 04:00", false},
		{"the night before", night, "Sat 2026-11-28 03:00", false},
		{"all day", day, "Sun 2026-11-29 23:59", true},
		{"another day", day, "Mon 2026-11-30 00:00", false},
	} {
		if have := c.x.holds(at(c.at)); have != c.want {
			t.Errorf("%s: %v at %s", c.name, have, c.at)
		}
	}
}

func TestExemptAreLeftAlone(t *testing.T) {
	cfg := testConfig()
	cfg.Exempt = []Exemption{{Hosts: []netip.Prefix{prefix("10.0.0.8/31")}, Kinds: []detector.Kind{detector.KindPortScan}, Why: "licensed scanner"}}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	if d := r.only(t); d.State != StateRefused || !strings.Contains(d.lastVerdict(), "licensed scanner") {
		t.Errorf("%s: %s", d.State, d.lastVerdict())
	}
	worm := scanBy(9, 9, 2)
	worm.Kind = detector.KindWorm
	r.consider(ctx, worm)
	if r.led.applied != 1 {
		t.Error("exempt from more than what was said")
	}
}

// A scanner that may try passwords of one service is contained for everything else
// that it does once it is taken over: other services, other kinds.
func TestExemptByService(t *testing.T) {
	cfg := testConfig()
	cfg.Exempt = []Exemption{{Hosts: []netip.Prefix{prefix("10.0.0.9/32")}, Kinds: []detector.Kind{detector.KindBruteForce}, Services: []Service{{flow.ProtoTCP, 22}}}}
	r := newRig(t, cfg)
	for i, c := range []struct {
		kind detector.Kind
		port uint16
		want State
	}{
		{detector.KindBruteForce, 22, StateRefused},
		{detector.KindBruteForce, 23, StateApplied},
		{detector.KindBeacon, 22, StateApplied},
		{detector.KindPortScan, 0, StateApplied},
	} {
		f := scanBy(9, 9, i)
		f.Kind, f.DstPort = c.kind, c.port
		r.consider(t.Context(), f)
		for _, d := range r.Decisions() {
			if d.Finding == f.ID && d.State != c.want {
				t.Errorf("%s of tcp/%d: %s: %s", c.kind, c.port, d.State, d.lastVerdict())
			}
		}
	}
	if n := len(r.Decisions()); n != 4 {
		t.Errorf("%d decisions", n)
	}
}

// An operator exempts who is held, and it is let go; over a restart it stays
// exempt, until it does not.
func TestOperatorsExempt(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	defer func() { cancel(); <-done }()
	r.Handle(scanBy(9, 9, 1))
	eventually(t, "containment", func() bool { return len(r.Decisions()) == 1 && r.Decisions()[0].State == StateApplied })
	x := Exemption{Hosts: []netip.Prefix{prefix("10.0.0.9/32")}, Until: time.Now().Add(time.Hour), Who: "op", Why: "repair"}
	if err := r.Exempt(ctx, x); err != nil {
		t.Fatal(err)
	}
	if d := r.only(t); d.State != StateReleased || !strings.Contains(d.Proof.Why, "repair, says op") {
		t.Errorf("held on: %s %s", d.State, d.Proof.Why)
	}
	again := newRig(t, testConfig())
	again.store.m = maps.Clone(r.store.m)
	if err := again.Load(ctx, time.Now()); err != nil || len(again.Exemptions()) != 1 {
		t.Errorf("after a restart: %v, %v", again.Exemptions(), err)
	}
	if err := r.Unexempt(ctx, host(8), "op"); !errors.Is(err, ErrNotFound) {
		t.Errorf("somebody else's exemption: %v", err)
	}
	if err := r.Unexempt(ctx, host(9), "op"); err != nil || len(r.Exemptions()) != 0 {
		t.Errorf("still exempt: %v, %v", r.Exemptions(), err)
	}
	if err := r.Exempt(ctx, Exemption{Hosts: x.Hosts, Until: time.Now()}); !errors.Is(err, ErrState) {
		t.Errorf("exempt until now: %v", err)
	}
}

// An address that stands for many is kept from what it abuses, and never cut off.
func TestSharedAddress(t *testing.T) {
	cfg := testConfig()
	cfg.Shared = []netip.Prefix{prefix("10.0.0.9/32")}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	if d := r.only(t); d.Action != ActionSegment || d.Target.Peer != host(200) || d.State != StateApplied {
		t.Errorf("a shared address: %s of %s from %s, %s", d.Action, d.Target.Host, d.Target.Peer, d.State)
	}
	blind := scanBy(9, 9, 2)
	blind.Victims, blind.Kind = nil, detector.KindHostSweep
	r.consider(ctx, blind)
	if d := r.Decisions()[1]; d.State != StateRefused {
		t.Errorf("a shared address, when nothing narrower is known: %s", d.State)
	}
}

// Where the honeypot is not known nothing harder is done than was asked for.
func TestNoHoneypot(t *testing.T) {
	cfg := testConfig()
	cfg.Actions[detector.KindPortScan], cfg.Honeypot = ActionReroute, host(12)
	r := newRig(t, cfg)
	r.consider(t.Context(), scanBy(9, 9, 1))
	if d := r.only(t); d.Action != ActionSegment || d.State != StateApplied {
		t.Errorf("%s, %s: %s", d.Action, d.State, d.lastVerdict())
	}
}

func TestGroupsKeepSomeHosts(t *testing.T) {
	cfg := testConfig()
	cfg.Groups = []Group{{Name: "pair", Addresses: []netip.Prefix{prefix("10.0.0.8/31")}, Max: 1}}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	r.consider(ctx, scanBy(8, 8, 1))
	r.consider(ctx, scanBy(7, 7, 1))
	var states []string
	for _, d := range r.Decisions() {
		states = append(states, string(d.State))
	}
	if have := strings.Join(states, " "); have != "applied refused applied" {
		t.Errorf("decisions: %s", have)
	}
}

// A host on whom much depends is cut off only with approval; one that makes
// conversations up, under whatever names, does not become such a host.
func TestImpactAsks(t *testing.T) {
	r, ctx := newRig(t, testConfig()), t.Context()
	now := time.Now().UnixNano()
	finish := func(client netip.Addr, server byte, port uint32) {
		r.watch.Observe([]flow.Record{{Time: now, Source: flow.SourceTap, Signal: flow.SignalFinish, Proto: flow.ProtoTCP, Rate: 1, Packets: 1,
			Src: client, Dst: host(server), SrcPort: 40000, DstPort: 80, InPort: port}})
	}
	for i := range byte(5) {
		finish(host(100+i), 9, uint32(1+i))
		finish(host(100+i), 8, 1)
	}
	for i := range byte(200) { // all from where 10.0.0.7 is, one of them by an accomplice's
		finish(host(7), i, 7)
		finish(host(i), 7, 7)
		finish(netip.AddrFrom4([4]byte{10, 9, 0, i}), 7, 6)
	}
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)
	if d.State != StateAwaitingApproval || d.Impact == nil || *d.Impact != (Impact{Served: 6, Known: 7}) {
		t.Fatalf("%s, impact %+v", d.State, d.Impact)
	}
	r.consider(ctx, scanBy(7, 7, 1))
	if d := r.all[r.id(t, 7)]; d.State != StateApplied {
		t.Errorf("a host that made its friends up: %s, %+v", d.State, d.Impact)
	}
}

// What is sent to an address is cut off only where it is certain whose it is: else
// whoever forges an address would cut its owner off.
func TestForgedAddressCutsNobodyOff(t *testing.T) {
	r := newRig(t, testConfig())
	r.consider(t.Context(), scanBy(9, 9, 1)) // nobody knows 10.0.0.9
	d := r.only(t)
	for _, in := range d.Intents {
		if in.Match.InPort == "" && in.Match.Dst.Contains(host(9)) && !in.Match.Src.IsValid() {
			t.Errorf("everybody is kept from an address that may be forged: %+v", in)
		}
	}
}

// No sequence of findings, operators, exemptions and faults cuts off a protected
// asset, an exempt or a shared host, or more of a group than may be.
func TestGuardsHold(t *testing.T) {
	cfg := testConfig()
	cfg.Exempt = []Exemption{{Hosts: []netip.Prefix{prefix("10.0.0.2/32")}}}
	cfg.Shared = []netip.Prefix{prefix("10.0.0.3/32")}
	cfg.Groups = []Group{{Name: "few", Addresses: []netip.Prefix{prefix("10.0.0.4/30")}, Max: 1}}
	cfg.MaxQuarantines, cfg.MaxActions = 4, 100
	cfg.Actions[detector.KindWorm], cfg.Actions[detector.KindBeacon], cfg.Actions[detector.KindSYNFlood] = ActionReroute, ActionMirror, ActionScrub
	cfg.Honeypot, cfg.Scrubbers = host(105), []netip.Addr{host(105)}
	cfg.Mirror.Ports, cfg.Mirror.Max = map[string]string{"s1": "p6"}, 2
	cfg.MaxTraffic = 0.15
	rapid.Check(t, func(t *rapid.T) {
		r, ctx, now := newRig(t, cfg), context.Background(), time.Now()
		shares := r.baseline(now, rapid.SliceOfN(rapid.IntRange(1, 20), 13, 13).Draw(t, "traffic"))
		r.log.(*logrus.Logger).SetLevel(logrus.PanicLevel)
		kinds := []detector.Kind{detector.KindPortScan, detector.KindWorm, detector.KindBruteForce, detector.KindBeacon, detector.KindSYNFlood, detector.KindARPSpoof}
		var firing []detector.Finding
		for i := range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 6: // what an attacker sends does not make it important
				r.talk(time.Now(), rapid.ByteRange(0, 12).Draw(t, "sender"), 150, flow.ProtoTCP, 80, 1000)
			case 7:
				r.approveOne()
			case 5:
				r.move(105, rapid.SampledFrom([]string{"p5", "p6", "p9"}).Draw(t, "station"), rapid.Bool().Draw(t, "up"))
			case 0, 1:
				f := scanBy(rapid.ByteRange(0, 12).Draw(t, "host"), rapid.Uint32Range(1, 9).Draw(t, "port"), i)
				f.Kind = rapid.SampledFrom(kinds).Draw(t, "kind")
				f.DstPort = rapid.SampledFrom([]uint16{0, 22}).Draw(t, "service")
				f.HostMAC, f.FirstSeen = flow.MAC{2, 0, 0, 0, 0, f.Host.As4()[3]}, now.UnixNano()
				f.Spoofed = rapid.Bool().Draw(t, "spoofed")
				r.consider(ctx, f)
				firing = append(firing, f)
			case 2:
				if len(firing) > 0 {
					r.consider(ctx, resolved(rapid.SampledFrom(firing).Draw(t, "which")))
				}
			case 3:
				r.led.err = nil
				if rapid.Bool().Draw(t, "fault") {
					r.led.err = errors.New("fault")
				}
			case 4:
				now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "seconds")) * time.Second)
				r.tick(ctx, now)
			}
			r.checkGuards(t)
			r.checkTraffic(t, shares)
		}
	})
}

// baseline is a quarter of an hour in which each host talks as much as is given for
// it, with somebody of its own. It returns their shares.
func (r *rig) baseline(now time.Time, amounts []int) (shares map[netip.Addr]float64) {
	shares = map[netip.Addr]float64{}
	all := 0
	for _, n := range amounts {
		all += n
	}
	for m := range 10 {
		for i, n := range amounts {
			r.talk(now.Add(time.Duration(m-15)*time.Minute), byte(i), byte(180+i), flow.ProtoTCP, 80, 10*n)
			shares[host(byte(i))] = float64(n) / float64(all)
		}
	}
	return shares
}

// approveOne says yes to the first decision that waits for it, if there is one.
func (r *rig) approveOne() {
	for _, d := range r.Decisions() {
		if d.State == StateAwaitingApproval {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = r.Approve(context.Background(), d.ID, "op") // a guard may refuse it
			}()
			(<-r.inbox)(context.Background())
			<-done
			return
		}
	}
}

// checkTraffic holds that without a person's word no host was cut off whose traffic,
// with that of those who were cut off before, is above the budget.
func (r *rig) checkTraffic(t *rapid.T, shares map[netip.Addr]float64) {
	off := map[netip.Addr]float64{}
	asked := false
	for _, d := range r.Decisions() {
		if r.lives[d.ID] != nil && d.Action.Isolates() && d.State != StateProbation {
			off[d.Target.Host] = shares[d.Target.Host]
			asked = asked || len(d.Approvals) > 0
		}
	}
	total := 0.0
	for _, s := range off {
		total += s
	}
	if total > r.cfg.MaxTraffic+0.02 && !asked { // openings and rounding aside
		t.Fatalf("hosts with %.2f of the traffic are cut off, and nobody was asked: %v", total, off)
	}
}

func (r *rig) checkGuards(t *rapid.T) {
	few, mirrors := 0, 0
	for owner, in := range r.led.rules {
		d := r.all[owner]
		h := d.Target.Host
		if d.Action == ActionMirror && d.State.Holds() {
			mirrors++
		}
		switch {
		case d.State == StateExpired: // and so have they, on a switch
			continue
		case h == host(1) || h == host(2):
			t.Fatalf("%s was touched: %+v", h, in)
		case h == host(3) && d.Action.Isolates() && d.State != StateProbation:
			t.Fatalf("a shared address was cut off: %+v", in)
		case h.IsValid() && prefix("10.0.0.4/30").Contains(h) && d.Action.Isolates() && d.State != StateProbation:
			few++
		}
		for _, x := range in {
			if x.TTL <= 0 {
				t.Fatalf("a rule without a TTL: %+v", x)
			}
			if x.Action == segmentation.ActionReroute && d.Action == ActionScrub && x.Match.InPort == d.Station.Port {
				t.Fatalf("what the scrubber sends goes back to it: %+v", x)
			}
			if x.Match.InPort == "" && !x.Match.Src.IsValid() && !x.Match.SrcMAC.IsZero() {
				t.Fatalf("a rule for every port: %+v", x)
			}
		}
	}
	if mirrors > r.cfg.Mirror.Max {
		t.Fatalf("%d mirrors, at most %d may stand", mirrors, r.cfg.Mirror.Max)
	}
	if few > 1 {
		t.Fatalf("%d hosts of a group are in quarantine, at most 1 may be", few)
	}
}

// hostsAt are hosts that live at the ports of their numbers.
func hostsAt(numbers ...byte) map[netip.Addr]topology.Host {
	all := map[netip.Addr]topology.Host{}
	for _, n := range numbers {
		all[host(n)] = topology.Host{Addr: host(n), MAC: flow.MAC{2, 0, 0, 0, 0, n}, Bound: true,
			Port: topology.PortID{Switch: "s1", Port: fmt.Sprintf("p%d", n)}}
	}
	return all
}

// What people ask for goes through the same guards.
func TestOrders(t *testing.T) {
	cfg := testConfig()
	cfg.Shared = []netip.Prefix{prefix("10.0.0.3/32")}
	r, p := newRig(t, cfg), testPlace()
	p.s.Hosts = hostsAt(1, 3, 9)
	r.where = p
	run, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(run) }()
	defer func() { cancel(); <-done }()
	for _, c := range []struct {
		name string
		o    Order
		want string // of the error
	}{
		{"protected", Order{Host: host(1)}, "protected asset"},
		{"shared", Order{Host: host(3)}, "stands for many"},
		{"unseen", Order{Host: host(77)}, "has not been seen"},
		{"segment", Order{Host: host(3), Proto: flow.ProtoTCP, Service: 22}, ""},
		{"the same again", Order{Host: host(3), Proto: flow.ProtoTCP, Service: 22}, "stands already"},
		{"quarantine", Order{Host: host(9)}, ""},
	} {
		c.o.Who, c.o.For = "op", time.Minute
		id, err := r.Contain(t.Context(), c.o)
		switch {
		case c.want == "" && (err != nil || id == ""):
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrState) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if len(r.led.rules) != 2 {
		t.Errorf("rules of %d orders", len(r.led.rules))
	}
}

// Of a playbook that hits many the first is the test of the rest.
func TestCanary(t *testing.T) {
	cfg := testConfig()
	cfg.Playbooks = fixed{plan: Plan{Playbook: "p", Action: ActionQuarantine, Canary: true}}
	r, ctx := newRig(t, cfg), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	r.consider(ctx, scanBy(8, 8, 1))
	first, second := r.all[r.id(t, 9)], r.id(t, 8)
	if first.State != StateApplied || r.all[second].State != StateRefused {
		t.Fatalf("the first is %s, the second %s", first.State, r.all[second].State)
	}
	now := first.Applied.Add(settle + 100*time.Millisecond)
	r.led.drop(first.ID, 100)
	r.tick(ctx, now) // proves the first
	r.tick(ctx, now.Add(2*time.Second))
	if d := r.all[second]; !d.State.Holds() {
		t.Fatalf("after the proof the second is %s: %s", d.State, d.lastVerdict())
	}
	r.rollBack(ctx, r.all[second], "it hurt")
	r.tick(ctx, now.Add(4*time.Second))
	r.consider(ctx, scanBy(7, 7, 1))
	if d := r.all[r.id(t, 7)]; d.State != StateAwaitingApproval || d.People != 1 {
		t.Errorf("after one was rolled back the next is %s: %+v", d.State, d.Guards)
	}
}

// id is that of the only decision about a host.
func (r *rig) id(t *testing.T, n byte) string {
	t.Helper()
	for id, d := range r.all {
		if d.Target.Host == host(n) {
			return id
		}
	}
	t.Fatalf("no decision about %s", host(n))
	return ""
}
