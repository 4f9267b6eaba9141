package measure

import (
	"net/netip"
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

func TestQuantiles(t *testing.T) {
	var samples []time.Duration
	for i := 20; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	if got := quantiles(samples); got != (Quantiles{10, 19, 20, 20}) {
		t.Errorf("got %+v", got)
	}
	if got := quantiles(samples[:1]); got != (Quantiles{20, 20, 20, 20}) {
		t.Errorf("one sample: %+v", got)
	}
	if got := quantiles(nil); got != (Quantiles{}) {
		t.Errorf("no samples: %+v", got)
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
	a, err := attack.Find("port-scan")
	if err != nil {
		t.Fatal(err)
	}
	roles := attack.Roles{AttackerAddrs: []netip.Addr{netip.MustParseAddr("10.77.0.15"), netip.MustParseAddr("fe80::5")}, Port: "p5"}
	tr := trace{first: at(0)[0], sentUntil: at(2000)[0], sent: 2000, delivered: at(0, 1, 2)}
	o := observation{trace: tr, events: []Event{
		{Type: Finding, Kind: "port-scan", State: "pending", Time: at(1)[0]},
		{Type: Finding, Kind: "udp-flood", State: StateFiring, Time: at(1)[0]},
		{Type: Finding, Kind: "port-scan", State: StateFiring, Time: at(1.5)[0]},
		{Type: Finding, Kind: "port-scan", State: StateFiring, Time: at(9)[0]},
		{Type: Decision, ID: "d-1", State: StateApplied, Host: "10.77.0.15"},
		{Type: Decision, ID: "d-2", State: StateApplied, Host: "10.77.0.13"},
		{Type: Decision, ID: "d-2", State: StateApplied, Host: "10.77.0.13"},
		{Type: Decision, ID: "d-3", State: StateApplied, Port: "p3"},
		{Type: Decision, ID: "d-4", State: StateApplied, Port: "p5"},
		{Type: Decision, ID: "d-5", State: "proposed", Host: "10.77.0.14"},
		{Type: Decision, ID: "d-6", State: StateApplied, Host: "fe80::5", Port: "p5"},
		{Type: Decision, ID: "d-7", State: StateApplied, Host: "fe80::5"},
	}}
	out := judge(o, a, roles, time.Second)
	if !out.Detected || millis(out.TTD) != 1.5 || !out.Contained || millis(out.TTC) != 2 || out.FalseContainments != 2 {
		t.Errorf("got %+v", out)
	}
}
