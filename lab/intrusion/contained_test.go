package intrusion_test

import (
	"context"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/capture"
	"github.com/platelet-sdn/platelet/lab/intrusion"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// goesOnInVain cuts the intruder off: it must go on trying, or nothing
// would show that containment holds, and end without an error.
func goesOnInVain(ctx context.Context, t *testing.T, env labtest.Env, lab *runner.Lab) {
	plays := map[string]struct { // by the port that each goes for
		play func(context.Context, *intrusion.Stage) error
		rate float64
	}{
		"22": {intrusion.SSHBruteForce, 10}, "8080": {intrusion.HTTPBruteForce, 10}, "8000": {intrusion.Beacon, 2},
		"8443": {intrusion.BeaconTLS, 2}, "443": {intrusion.ExfiltrateFast, 200}, "53": {intrusion.DNSTunnel, 20}, "445": {intrusion.Worm, 50},
	}
	playing, stop := context.WithCancel(ctx)
	defer stop()
	dir := t.TempDir()
	captures := map[string]*capture.Capture{}
	done := make(chan error, len(plays))
	for port, p := range plays {
		c, err := capture.Start(ctx, lab, "h5", "eth1", dir+"/"+port+".pcap", capture.Options{Filter: "dst port " + port, Out: true})
		if err != nil {
			t.Fatal(err)
		}
		captures[port] = c
		r := newRig(t, lab, p.rate, 1_000_000)
		r.Hosts = []string{"h1", "h2", "h3"}
		go func() { done <- p.play(playing, &r.Stage) }()
	}
	sendAfter(ctx, t, captures, time.Time{})
	port, err := lab.HostSide("h5", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := env.OVS.Ofctl(ctx, "add-flow", env.OVS.Mgmt(lab.Bridges()[0]), "priority=9,in_port="+port+" actions=drop"); err != nil {
		t.Fatal(err)
	}
	// By then what was under way has been given up.
	sendAfter(ctx, t, captures, time.Now().Add(2500*time.Millisecond))
	stop()
	for range plays {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, c := range captures {
		if _, _, err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

// sendAfter waits until every capture has a packet from after a moment.
func sendAfter(ctx context.Context, t *testing.T, captures map[string]*capture.Capture, at time.Time) {
	t.Helper()
	for port, c := range captures {
		for {
			times, err := c.Peek()
			if err != nil {
				t.Fatal(err)
			}
			if n := len(times); n > 0 && times[n-1].After(at) {
				break
			}
			select {
			case <-ctx.Done():
				t.Fatalf("nothing more is sent to port %s", port)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}
