package measure

import (
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
)

// at makes times from milliseconds after the start.
func at(ms ...float64) []time.Time {
	var out []time.Time
	for _, m := range ms {
		out = append(out, time.Unix(1000, 0).Add(time.Duration(m*1e6)))
	}
	return out
}

// every makes times from one moment to another with a pause.
func every(from, to, pause float64) []time.Time {
	var out []time.Time
	for m := from; m < to; m += pause {
		out = append(out, at(m)...)
	}
	return out
}

// stalling delivers what comes during every fourth 80 ms after 200 ms at its
// end, all at once.
func stalling(times []time.Time) []time.Time {
	start := at(0)[0]
	for i, t := range times {
		if n := t.Sub(start) / (80 * time.Millisecond); n > 2 && n%4 == 0 {
			times[i] = start.Add((n + 1) * 80 * time.Millisecond)
		}
	}
	return times
}

func TestContained(t *testing.T) {
	flood := every(0, 30, 0.01) // 100,000 packets/s for 30 ms
	for _, tt := range []struct {
		name  string
		t     trace
		limit float64
		want  float64
		ok    bool
	}{
		{"blocked", trace{first: at(0)[0], sentUntil: at(1500)[0], sent: 1500, delivered: at(0, 1, 2.5)}, 0, 2.5, true},
		{"nothing delivered", trace{first: at(0)[0], sentUntil: at(1500)[0], sent: 1500}, 0, 0, true},
		{"stopped by itself", trace{first: at(0)[0], sentUntil: at(900)[0], sent: 900, delivered: at(0, 1, 2.5)}, 0, 0, false},
		{"leaks", trace{first: at(0)[0], sentUntil: at(1500)[0], sent: 1500, delivered: at(0, 1, 700)}, 0, 0, false},
		{"never stopped", trace{first: at(0)[0], sentUntil: at(1500)[0], sent: 1500, delivered: every(0, 1500, 1)}, 0, 0, false},
		{"no attack", trace{}, 0, 0, false},
		{"limited", trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 200_000, delivered: append(flood, every(30, 2000, 2)...)}, 500, 29.99, true},
		{"limit not kept", trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 200_000, delivered: append(flood, every(30, 2000, 1)...)}, 500, 0, false},
		{"limit above 5 % of what is sent", trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 10_000, delivered: every(0, 2000, 2)}, 500, 0, false},
		{"limited, the switch stalls now and then", trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 200_000, delivered: stalling(append(flood, every(30, 2000, 5)...))}, 200, 29.99, true},
		{"limited from the start", trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 200_000, delivered: every(0, 2000, 2)}, 500, 0, true},
		{"limited relapse", trace{first: at(0)[0], sentUntil: at(3000)[0], sent: 300_000, delivered: append(append(flood, every(30, 1000, 2)...), append(every(1000, 1010, 0.01), every(1010, 3000, 2)...)...)}, 500, 1009.99, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ttc, ok := tt.t.contained(tt.limit, time.Second)
			if ok != tt.ok || millis(ttc) < tt.want-0.3 || millis(ttc) > tt.want+0.3 {
				t.Errorf("got %v, %v; want %v ms, %v", ttc, ok, tt.want, tt.ok)
			}
		})
	}
}

func TestMergeOrders(t *testing.T) {
	got := merge([][]time.Time{at(1, 5), nil, at(0, 2)})
	for i, want := range at(0, 1, 2, 5) {
		if !got[i].Equal(want) {
			t.Fatalf("got %v", got)
		}
	}
}

func TestJudge(t *testing.T) {
	a := attack.Attack{Finding: "port-scan"}
	tr := trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 2000, delivered: at(0, 1, 2)}
	scanner := culprit{node: "h5", addrs: []netip.Addr{netip.MustParseAddr("10.77.0.15"), netip.MustParseAddr("fe80::5")}, ports: []string{"p5"}, macs: []string{"aa:00:00:00:00:05"}}
	infected := culprit{node: "h3", since: at(500)[0], addrs: []netip.Addr{netip.MustParseAddr("10.77.0.13")}, ports: []string{"p3"}}
	o := observation{trace: tr, ended: at(2100)[0], events: []Event{
		{Type: Finding, Kind: "port-scan", State: "pending", Host: "10.77.0.15", Time: at(1)[0]},
		{Type: Finding, Kind: "udp-flood", State: StateFiring, Host: "10.77.0.14", Time: at(1)[0]},
		// Of an earlier attack, by one who took part in it and by one who did not.
		{Type: Finding, Kind: "learned-threat", State: StateFiring, Host: "10.77.0.16", Time: at(1)[0], Began: at(-9000)[0]},
		{Type: Finding, Kind: "learned-threat", State: StateFiring, Host: "10.77.0.12", Time: at(1)[0], Began: at(-9000)[0]},
		{Type: Finding, Kind: "learned-threat", State: StateFiring, Host: "10.77.0.15", Time: at(1)[0], Began: at(-9000)[0]},
		{Type: Finding, Kind: "beacon", State: StateFiring, Host: "10.77.0.16", Time: at(1)[0], Began: at(1)[0]},
		{Type: Finding, Kind: "host-sweep", State: StateFiring, Host: "10.77.0.15", Time: at(1.2)[0]},
		{Type: Finding, Kind: "port-scan", State: StateFiring, Host: "10.77.0.15", Time: at(1.5)[0]},
		{Type: Finding, Kind: "port-scan", State: StateFiring, Host: "10.77.0.15", Time: at(9)[0]},
		{Type: Finding, Kind: "syn-flood", State: StateFiring, Victims: []string{"10.77.0.11"}, Time: at(10)[0]},
		{Type: Finding, Kind: "icmp-flood", State: StateFiring, Victims: []string{"10.77.0.12"}, Time: at(10)[0]},
		{Type: Decision, ID: "d-1", State: StateApplied, Host: "10.77.0.15", Action: "quarantine", Time: at(2)[0]},
		{Type: Decision, ID: "d-1", State: StateVerified, Host: "10.77.0.15", Time: at(300)[0]},
		{Type: Decision, ID: "d-2", State: StateApplied, Host: "10.77.0.13", Action: "quarantine", Kind: "worm", Time: at(499)[0]},
		{Type: Decision, ID: "d-2", State: StateApplied, Host: "10.77.0.13", Action: "quarantine", Kind: "worm", Time: at(499)[0]},
		{Type: Decision, ID: "d-3", State: StateApplied, Host: "10.77.0.13", Action: "quarantine", Time: at(501)[0]},
		{Type: Decision, ID: "d-4", State: StateApplied, Port: "p5", Action: "quarantine", Time: at(600)[0]},
		{Type: Decision, ID: "d-5", State: "proposed", Host: "10.77.0.14", Time: at(600)[0]},
		{Type: Decision, ID: "d-6", State: StateApplied, Host: "fe80::5", Port: "p6", Action: "quarantine", Time: at(600)[0]},
		{Type: Decision, ID: "d-7", State: StateApplied, MAC: "aa:00:00:00:00:05", Action: "quarantine", Time: at(600)[0]},
		{Type: Decision, ID: "d-8", State: StateApplied, Port: "p4", Action: "rate-limit", Kind: "syn-flood", Time: at(600)[0]},
		{Type: Decision, ID: "d-8", State: StateRolledBack, Port: "p4", Time: at(700)[0]},
		{Type: Decision, ID: "d-2", State: StateReleased, Time: at(4000)[0]},
		{Type: Decision, ID: "d-1", State: StateReleased, Time: at(4100)[0]},
	}}
	b := bench{attack: a, victims: []string{"10.77.0.11"}, culprits: []culprit{scanner, infected}, hold: time.Second}
	b.former = []culprit{{node: "h6", addrs: []netip.Addr{netip.MustParseAddr("10.77.0.16")}}, scanner}
	out := b.judge(o)
	if out.TTD != Took(1200*time.Microsecond) || out.Named != Took(1500*time.Microsecond) || out.TTC != Took(2*time.Millisecond) ||
		out.Verified != Took(300*time.Millisecond) || out.Ended != Took(2100*time.Millisecond) {
		t.Errorf("times: %+v", out)
	}
	if got := strings.Join(out.Kinds, " "); got != "host-sweep port-scan syn-flood" {
		t.Errorf("kinds %s", got)
	}
	if got := strings.Join(out.False, ", "); got != "quarantine of 10.77.0.13 for worm (d-2), rate-limit of p4 for syn-flood (d-8)" {
		t.Errorf("false containments: %s", got)
	}
	if got := strings.Join(out.Strange, ", "); got != "udp-flood 10.77.0.14, learned-threat 10.77.0.12, beacon 10.77.0.16, icmp-flood forged sources" {
		t.Errorf("false findings: %s", got)
	}
	if b.attack.Finding, b.attack.Early = "worm", "port-scan"; b.judge(o).Right {
		t.Error("a worm that took a host is called a scan, and that is right")
	}
	b.culprits = b.culprits[:1]
	if !b.judge(o).Right {
		t.Error("a worm that was contained before it took a host is called a scan, and that is wrong")
	}
	b.attack, b.culprits = a, []culprit{scanner, infected}
	if out.Release.OK {
		t.Errorf("released after %v, though d-3 and others stand", out.Release)
	}
	for _, id := range []string{"d-3", "d-4", "d-6", "d-7"} {
		o.events = append(o.events, Event{Type: Decision, ID: id, State: StateReleased, Time: at(5000)[0]})
	}
	if out := b.judge(o); out.Release != Took(2900*time.Millisecond) {
		t.Errorf("released after %v", out.Release)
	}
	if len(out.Steps) != len(o.events)-4 || out.Steps[1].Ours || !out.Steps[6].Ours {
		t.Errorf("steps %+v", out.Steps)
	}
}

func TestOnlyWhatTheControllerDidIsContainment(t *testing.T) {
	a := attack.Attack{Finding: "worm"}
	host := netip.MustParseAddr("10.77.0.15")
	b := bench{attack: a, culprits: []culprit{{node: "h5", addrs: []netip.Addr{host}}}, hold: time.Second}
	applied := func(ms float64) []Event {
		return []Event{{Type: Decision, ID: "d", State: StateApplied, Host: host.String(), Time: at(ms)[0]}}
	}
	sent := every(0, 2000, 50)
	for _, tt := range []struct {
		name   string
		t      trace
		events []Event
		ok     bool
		note   string
	}{
		{"acted in time", trace{left: sent, delivered: at(0, 50, 100)}, applied(120), true, ""},
		{"the switch confirms late", trace{left: sent, delivered: at(0, 50, 100)}, applied(340), true, ""},
		{"did nothing", trace{left: sent, delivered: at(0, 50, 100)}, nil, false, "without the controller"},
		{"was over before", trace{left: sent, delivered: at(0, 50, 100)}, applied(600), false, "before the controller"},
		{"sent nothing meanwhile", trace{left: at(0, 900, 1900), delivered: at(0)}, applied(600), true, ""},
		{"cut the victim off", trace{left: sent, delivered: at(0, 50, 100)}, append(applied(90), Event{Type: Decision, ID: "v", State: StateApplied, Host: "10.77.0.11", Time: at(120)[0]}), false, "victim"},
		{"cut the victim's port off", trace{left: sent, delivered: at(0, 50, 100)}, append(applied(90), Event{Type: Decision, ID: "v", State: StateApplied, Port: "p1", Time: at(120)[0]}), false, "victim"},
		{"cut the victim off much later", trace{left: sent, delivered: at(0, 50, 100)}, append(applied(90), Event{Type: Decision, ID: "v", State: StateApplied, Host: "10.77.0.11", Time: at(900)[0]}), true, ""},
		{"a flood was over before", trace{counted: []reading{{at(0)[0], 10}, {at(200)[0], 1000}, {at(300)[0], 1500}, {at(2000)[0], 9000}}, delivered: at(0, 50, 100)}, applied(600), false, "before"},
	} {
		b.victims, b.victimPort = []string{"10.77.0.11"}, "p1"
		tt.t.first, tt.t.sentUntil, tt.t.sent = at(0)[0], at(2000)[0], 9000
		out := b.judge(observation{trace: tt.t, events: tt.events, ended: at(2000)[0]})
		if out.TTC.OK != tt.ok || (out.Note == "") != (tt.note == "") || !strings.Contains(out.Note, tt.note) {
			t.Errorf("%s: %v, %q", tt.name, out.TTC, out.Note)
		}
	}
}

func TestEveryHostOfAWormMustBeContained(t *testing.T) {
	a, c := netip.MustParseAddr("10.77.0.15"), netip.MustParseAddr("10.77.0.13")
	b := bench{attack: attack.Attack{Finding: "worm"}, hold: time.Second,
		culprits: []culprit{{node: "h5", addrs: []netip.Addr{a}}, {node: "h3", since: at(50)[0], addrs: []netip.Addr{c}}}}
	o := observation{trace: trace{first: at(0)[0], sentUntil: at(2000)[0], left: every(0, 2000, 50), delivered: at(0, 50, 100)}, ended: at(2000)[0],
		events: []Event{{Type: Decision, ID: "a", State: StateApplied, Host: a.String(), Time: at(90)[0]}}}
	if out := b.judge(o); out.TTC.OK || !strings.Contains(out.Note, "1 of 2 attacking hosts") {
		t.Errorf("one of two: %v, %q", out.TTC, out.Note)
	}
	o.events = append(o.events, Event{Type: Decision, ID: "c", State: StateApplied, Host: c.String(), Time: at(95)[0]})
	if out := b.judge(o); out.TTC != Took(100*time.Millisecond) || out.Note != "" {
		t.Errorf("both: %v, %q", out.TTC, out.Note)
	}
}

func TestAnyMeans(t *testing.T) {
	b := bench{victims: []string{"10.77.0.11"}, hold: time.Second, anyMeans: true}
	tr := trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 40, left: every(0, 2000, 50), delivered: at(0, 50, 100)}
	out := b.judge(observation{trace: tr, ended: at(2000)[0], events: []Event{{Type: Decision, ID: "v", State: StateApplied, Host: "10.77.0.11", Time: at(90)[0]}}})
	if out.TTC != Took(100*time.Millisecond) || len(out.False) != 1 || out.Note != "" {
		t.Errorf("%v, %v, %q", out.TTC, out.False, out.Note)
	}
}

func TestTimesCountFromTheBeginning(t *testing.T) {
	host := netip.MustParseAddr("10.77.0.15")
	b := bench{attack: attack.Attack{Finding: "worm"}, culprits: []culprit{{node: "h5", addrs: []netip.Addr{host}}}, hold: time.Second}
	o := observation{trace: trace{first: at(900)[0], sentUntil: at(3000)[0], left: every(900, 3000, 100), delivered: at(900)}, ended: at(3000)[0], events: []Event{
		{Type: Finding, Kind: "arp-sweep", State: StateFiring, Host: "10.77.0.13", Time: at(100)[0]}, // about somebody else
		{Type: Finding, Kind: "arp-sweep", State: StateFiring, Host: host.String(), Time: at(250)[0]},
	}}
	if out := b.judge(o); out.TTD.OK || !strings.Contains(out.Note, "not known") || len(out.Kinds) != 1 {
		t.Errorf("without the ground truth: %v, %q", out.TTD, out.Note)
	}
	b.firstAction = at(0)[0]
	if out := b.judge(o); out.TTD != Took(250*time.Millisecond) || !out.First.Equal(at(0)[0]) || out.Ended != Took(3*time.Second) || !strings.Contains(out.Note, "650 ms before") {
		t.Errorf("by the ground truth: %v, %q", out.TTD, out.Note)
	}
	o.first, o.events[1].Time = at(250.5)[0], at(250)[0] // within what clocks differ
	if out := b.judge(o); out.TTD != Took(0) || out.Note != "delivery ended without the controller having acted" && out.Note != "" {
		t.Errorf("at once: %v, %q", out.TTD, out.Note)
	}
}

func TestForgedSourcesWithoutVictimsAreKnownByTheKind(t *testing.T) {
	b := bench{attack: attack.Attack{Finding: "syn-flood"}}
	for kind, want := range map[string]bool{"syn-flood": true, "udp-flood": false} {
		if got := b.about(Event{Type: Finding, Kind: kind}); got != want {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

func TestPacketsInSteps(t *testing.T) {
	tr := trace{first: at(0)[0], left: every(0, 10, 1), delivered: at(0.1, 1.1, 2.1)}
	p := tr.packets(10, 5)
	if p.Step != 2 || !slices.Equal(p.Sent, []int{2, 2, 2, 2, 2}) || !slices.Equal(p.Delivered, []int{2, 1, 0, 0, 0}) {
		t.Errorf("got %+v", p)
	}
	// A flood is counted where it leaves, and never in finer steps than that.
	tr = trace{first: at(0)[0], delivered: at(0.1), counted: []reading{{at(-3)[0], 0}, {at(2)[0], 100}, {at(7)[0], 350}, {at(99)[0], 400}}}
	p = tr.packets(10, 100)
	if p.Step != 5 || !slices.Equal(p.Sent, []int{100, 250}) || !slices.Equal(p.Delivered, []int{1, 0}) {
		t.Errorf("got %+v", p)
	}
	for ms, want := range map[float64]float64{0: 0.1, 0.1: 0.1, 0.11: 0.2, 0.3: 0.5, 1: 1, 3: 5, 7: 10, 1100: 2000} {
		if got := niceStep(ms); math.Abs(got-want) > 1e-9 {
			t.Errorf("step for %v: %v", ms, got)
		}
	}
}

func TestSummariseAndSlim(t *testing.T) {
	ms := func(n int) Span { return Took(time.Duration(n) * time.Millisecond) }
	runs := []Outcome{
		{TTD: ms(1), Named: ms(2), TTC: ms(9), Kinds: []string{"port-scan", "host-sweep"}, Actions: []string{"quarantine"}, Sent: 10, Delivered: 3, Awaited: ms(100), Release: ms(90),
			Benign: Benign{During: Harm{Seconds: 1, Flows: 10, Harmed: 1, Lost: 2, By: map[string]int{"web": 1}}}, Zoom: &Packets{}},
		{TTD: ms(3), TTC: ms(5), Kinds: []string{"host-sweep"}, Actions: []string{"quarantine"}, Sent: 10, Delivered: 1, Awaited: ms(100), False: []string{"x"}, Zoom: &Packets{}},
		{Sent: 10, Delivered: 10, Awaited: ms(1), Zoom: &Packets{}, Benign: Benign{During: Harm{Flows: 5, Harmed: 1, By: map[string]int{"web": 1}}}},
	}
	s := Summarise(runs, "port-scan")
	if s.Detected.K != 2 || s.Named.K != 1 || s.Contained.K != 2 || s.Contained.N != 3 || s.Released.K != 1 || s.Released.N != 2 {
		t.Errorf("shares %+v", s)
	}
	if s.TTC.P50 != 5 || s.TTC.Max != 9 || s.Release.P50 != 90 || s.Through.P50 != 3 || s.Sent != 30 || s.Delivered != 14 || s.False != 1 {
		t.Errorf("figures %+v", s)
	}
	if s.OtherKinds["host-sweep"] != 2 || s.Actions["quarantine"] != 2 {
		t.Errorf("kinds %+v", s)
	}
	if h := s.Benign.Total(); h.Flows != 15 || h.Harmed != 2 || h.By["web"] != 2 {
		t.Errorf("harm %+v", h)
	}
	if runs[0].Benign.During.By["web"] != 1 {
		t.Error("the sum changed what it summed up")
	}
	r := Report{Labs: []Lab{{Attacks: []Attack{{Runs: runs}}}}}
	slim := r.Slim().Labs[0].Attacks[0]
	if slim.Middle() != 0 || slim.Runs[0].Zoom == nil || slim.Runs[1].Zoom != nil || slim.Runs[1].TTC != ms(5) || runs[1].Zoom == nil {
		t.Errorf("kept run %d: %+v", slim.Middle(), slim.Runs)
	}
	if got := (Attack{}).Middle(); got != -1 {
		t.Errorf("the middle of none is %d", got)
	}
}
