package response

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// stationRig has a honeypot and a scrubber at p5, and copies that go to p6.
func stationRig(t *testing.T, actions map[detector.Kind]Action) *rig {
	t.Helper()
	cfg := testConfig()
	for k, a := range actions {
		cfg.Actions[k] = a
	}
	cfg.Honeypot, cfg.Scrubbers = host(105), []netip.Addr{host(106), host(105)}
	cfg.Mirror.Ports, cfg.Mirror.Max = map[string]string{"s1": "p6"}, 2
	r := newRig(t, cfg)
	r.move(105, "p5", true)
	return r
}

// move says where a host is, and whether its port's link is up.
func (r *rig) move(n byte, port string, up bool) {
	p := testPlace()
	x := p.s.Switches["s1"].Ports[port]
	x.LinkUp = up
	p.s.Switches["s1"].Ports[port] = x
	p.s.Hosts = map[netip.Addr]topology.Host{host(n): {Addr: host(n), MAC: flow.MAC{2, 0, 0, 0, 0, n}, Bound: true, Port: topology.PortID{Switch: "s1", Port: port}}}
	r.where = p
}

func actionsOf(in []segmentation.Intent) string {
	var out []string
	for _, x := range in {
		out = append(out, fmt.Sprint(x.Action))
	}
	return strings.Join(out, " ")
}

// A flood goes to the scrubber that is there; when it is there no more, the flood is
// limited.
func TestScrubberThatIsLost(t *testing.T) {
	r, ctx := stationRig(t, map[detector.Kind]Action{detector.KindSYNFlood: ActionScrub}), t.Context()
	r.consider(ctx, floodOn(200, 9, 1))
	d := r.only(t)
	if d.Action != ActionScrub || d.State != StateApplied || d.Station == nil || d.Station.Port != "p5" || d.Target.Victim != host(200) || d.Target.Host.IsValid() {
		t.Fatalf("%+v", d)
	}
	in := r.led.rules[d.ID]
	if in[1].To != (flow.MAC{2, 0, 0, 0, 0, 105}) || in[0].Match.InPort != "p5" {
		t.Fatalf("%+v", in)
	}
	r.led.counters[d.ID] = []Counter{{Intent: in[0].ID, Packets: 10}, {Intent: in[1].ID, Packets: 100}}
	now := d.Applied.Add(settle + 100*time.Millisecond)
	r.tick(ctx, now)
	if d = r.only(t); d.State != StateVerified || d.Proof.Handed != 100 || d.Proof.Returned != 10 || d.Proof.Passed != 0 {
		t.Fatalf("not proven: %s %+v", d.State, d.Proof)
	}
	r.tick(ctx, now.Add(time.Hour/2)) // the flood goes on
	if d = r.only(t); !d.State.Holds() {
		t.Fatalf("ended while the flood goes on: %s", d.State)
	}
	r.move(105, "p5", false)
	r.tick(ctx, now.Add(time.Hour/2+time.Second))
	if d = r.only(t); d.Action != ActionRateLimit || d.State != StateApplied || d.Station != nil || !strings.Contains(d.lastVerdict(), "link of p5 is down") {
		t.Errorf("the scrubber is gone: %s %s %+v", d.Action, d.State, d.Guards)
	}
	if have := actionsOf(r.led.rules[d.ID]); have != fmt.Sprint(segmentation.ActionRateLimit) {
		t.Errorf("rules do %s", have)
	}
}

// Known-good connections that fail through the scrubber take it out of the way, also
// long after it began.
func TestScrubberThatHurts(t *testing.T) {
	r, ctx := stationRig(t, map[detector.Kind]Action{detector.KindSYNFlood: ActionScrub}), t.Context()
	talk := func(at time.Time, s flow.Signal, n int) {
		for i := range n {
			rec := flow.Record{Time: at.Add(time.Duration(i)).UnixNano(), Source: flow.SourceTap, Signal: s, Proto: flow.ProtoTCP, Rate: 1, Packets: 1,
				Src: host(50), Dst: host(200), SrcPort: 40000, DstPort: 80, InPort: 9}
			if s == flow.SignalAccept {
				rec.Src, rec.Dst, rec.SrcPort, rec.DstPort, rec.InPort = rec.Dst, rec.Src, rec.DstPort, rec.SrcPort, 2
			}
			r.watch.Observe([]flow.Record{rec})
		}
	}
	talk(time.Now(), flow.SignalFinish, 1)
	r.consider(ctx, floodOn(200, 9, 1))
	d := r.only(t)
	now := d.Applied.Add(time.Minute)
	talk(now.Add(-time.Second), flow.SignalAttempt, 20)
	talk(now.Add(-time.Second), flow.SignalAccept, 18)
	r.tick(ctx, now)
	if d = r.only(t); d.Action != ActionScrub {
		t.Fatalf("%s although connections succeed: %+v", d.Action, d.Guards)
	}
	now = now.Add(time.Minute)
	talk(now.Add(-time.Second), flow.SignalAttempt, 20)
	r.tick(ctx, now)
	if d = r.only(t); d.Action != ActionRateLimit || !strings.Contains(d.lastVerdict(), "succeed at 0 %") {
		t.Errorf("%s: %+v", d.Action, d.Guards)
	}
}

// Without a scrubber, or with one at the port of the flood, a flood is limited; so are
// questions in a victim's name, of which nothing is clean.
func TestNoScrubber(t *testing.T) {
	for name, change := range map[string]func(*rig, *detector.Finding){
		"none known":    func(r *rig, _ *detector.Finding) { r.where = testPlace() },
		"down":          func(r *rig, _ *detector.Finding) { r.move(105, "p5", false) },
		"where it is":   func(r *rig, _ *detector.Finding) { r.move(105, "p9", true) },
		"is the victim": func(_ *rig, f *detector.Finding) { f.Victims = []netip.Addr{host(105)} },
	} {
		r := stationRig(t, map[detector.Kind]Action{detector.KindSYNFlood: ActionScrub})
		f := floodOn(200, 9, 1)
		change(r, &f)
		r.consider(t.Context(), f)
		if d := r.only(t); d.Action != ActionRateLimit || d.State != StateApplied {
			t.Errorf("%s: %s, %s: %+v", name, d.Action, d.State, d.Guards)
		}
	}
	cfg := testConfig()
	cfg.Actions[detector.KindAmplification] = ActionScrub
	f := floodOn(200, 9, 1)
	f.Kind, f.HostMAC, f.DstPort = detector.KindAmplification, flow.MAC{2, 9}, 53
	if d, ok := Propose(cfg, f, Circumstances{}); !ok || d.Action != ActionRateLimit || !d.Target.Asking {
		t.Errorf("%+v", d)
	}
}

// One vote is enough to look closer; mirrors have a budget of their own, hide nothing
// from containment, and go with their port.
func TestMirrors(t *testing.T) {
	r, ctx := stationRig(t, map[detector.Kind]Action{detector.KindAnomaly: ActionMirror}), t.Context()
	odd := func(n byte, serial int) detector.Finding {
		f := scanBy(n, uint32(n), serial)
		f.Kind, f.Sequential = detector.KindAnomaly, false
		return f
	}
	r.consider(ctx, odd(9, 1))
	d := r.only(t)
	if d.Action != ActionMirror || d.State != StateApplied || d.Station.Port != "p6" || len(r.recent) != 0 {
		t.Fatalf("%+v, %d actions", d, len(r.recent))
	}
	in := r.led.rules[d.ID]
	now := d.Applied.Add(settle + 100*time.Millisecond)
	r.led.counters[d.ID] = []Counter{{Intent: in[0].ID, Packets: 100}}
	r.tick(ctx, now)
	r.tick(ctx, now.Add(time.Second))
	if d = r.only(t); d.State != StateApplied {
		t.Fatalf("proven without a copy: %s", d.State)
	}
	r.led.counters[d.ID] = []Counter{{Intent: in[0].ID, Packets: 100, Copied: 7}}
	r.tick(ctx, now.Add(2*time.Second))
	if d = r.only(t); d.State != StateVerified || d.Proof.Handed != 7 {
		t.Fatalf("%s %+v", d.State, d.Proof)
	}
	r.consider(ctx, odd(8, 2))
	r.consider(ctx, odd(7, 3))
	if d := r.all[r.id(t, 7)]; d.State != StateRefused || !strings.Contains(d.lastVerdict(), "2 mirrors stand") {
		t.Errorf("%s: %s", d.State, d.lastVerdict())
	}
	r.consider(ctx, scanBy(9, 9, 4))
	contained := 0
	for _, d := range r.Decisions() {
		if d.Action == ActionQuarantine && d.State == StateApplied {
			contained++
		}
	}
	if contained != 1 {
		t.Errorf("a host that is mirrored is not contained")
	}
	r.move(105, "p6", false)
	r.tick(ctx, now.Add(3*time.Second))
	for _, d := range r.Decisions() {
		if d.Action == ActionMirror && d.State != StateRolledBack && d.State != StateRefused {
			t.Errorf("copies to a port that is down: %s of %s", d.State, d.Target)
		}
	}
	r.consider(ctx, odd(6, 5)) // who lives where the copies go
	if d := r.all[r.id(t, 6)]; d.State != StateRefused || !strings.Contains(d.lastVerdict(), "lives where the copies") {
		t.Errorf("copies of what the port of copies sends: %s", d.State)
	}
}

// A mirror ends when its finding has, and leaves nobody on probation.
func TestMirrorEnds(t *testing.T) {
	r, ctx := stationRig(t, map[detector.Kind]Action{detector.KindPortScan: ActionMirror}), t.Context()
	f := scanBy(9, 9, 1)
	r.consider(ctx, f)
	d := r.only(t)
	now := d.Applied
	for range 10 {
		now = now.Add(r.cfg.MinHold / 5)
		r.led.counters[d.ID] = []Counter{{Intent: d.ID + "/0", Packets: uint64(now.Unix()), Copied: uint64(now.Unix())}}
		r.tick(ctx, now)
	}
	if d = r.only(t); d.State != StateVerified {
		t.Fatalf("%s while it fires", d.State)
	}
	r.consider(ctx, resolved(f))
	r.tick(ctx, now.Add(r.cfg.QuietFor))
	if d = r.only(t); d.State != StateReleased || len(r.led.rules) != 0 {
		t.Errorf("%s with %d rules", d.State, len(r.led.rules))
	}
}

// A rerouted host is kept from what it abuses when the honeypot is lost.
func TestHoneypotThatIsLost(t *testing.T) {
	r, ctx := stationRig(t, map[detector.Kind]Action{detector.KindPortScan: ActionReroute}), t.Context()
	r.consider(ctx, scanBy(9, 9, 1))
	d := r.only(t)
	if d.Action != ActionReroute || d.Station == nil {
		t.Fatalf("%+v", d)
	}
	r.where = place{topology.NewSnapshot(nil)} // nobody knows anything: no reason to change
	r.tick(ctx, d.Applied.Add(time.Second))
	if d = r.only(t); d.Action != ActionReroute {
		t.Fatalf("given up blindly: %+v", d.Guards)
	}
	r.move(105, "p4", true)
	r.tick(ctx, d.Applied.Add(2*time.Second))
	if d = r.only(t); d.Action != ActionSegment || !strings.Contains(d.lastVerdict(), "moved to p4") {
		t.Errorf("%s: %+v", d.Action, d.Guards)
	}
}
