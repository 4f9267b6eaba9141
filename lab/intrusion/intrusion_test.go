package intrusion_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/capture"
	"github.com/platelet-sdn/platelet/lab/intrusion"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// onTheWire plays every attack with a single attacker in one lab.
func onTheWire(ctx context.Context, t *testing.T, lab *runner.Lab) {
	for name, test := range map[string]func(*testing.T, context.Context, *runner.Lab){
		"ssh-brute-force": sshBruteForce, "http-brute-force": httpBruteForce, "password-spray": passwordSpray,
		"beacon": beacon, "exfiltration": exfiltration, "dns-tunnel": dnsTunnel, "lateral-movement": lateralMovement,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, ctx, lab)
			for _, node := range []string{"h1", "h2", "h3", "h4", "h5", "h6"} {
				if left := listeners(ctx, t, lab, node); left != "" {
					t.Errorf("%s still listens: %s", node, left)
				}
			}
		})
	}
}

// arrivals counts the packets that match a filter and arrive at a node while
// f runs.
func arrivals(t *testing.T, ctx context.Context, lab *runner.Lab, node, filter string, f func()) int {
	t.Helper()
	c, err := capture.Start(ctx, lab, node, "eth1", t.TempDir()+"/in.pcap", capture.Options{Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	f()
	times, missed, err := c.Stop(ctx)
	if err != nil || missed > 0 {
		t.Fatalf("capture: %v, missed %d", err, missed)
	}
	return len(times)
}

const syn = "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and tcp dst port "

func sshBruteForce(t *testing.T, ctx context.Context, lab *runner.Lab) {
	r := newRig(t, lab, 20, 30)
	got := arrivals(t, ctx, lab, "h1", syn+"22", func() {
		if err := intrusion.SSHBruteForce(ctx, &r.Stage); err != nil {
			t.Error(err)
		}
	})
	logins := r.actions("login")
	if got != 30 || count(logins, "rejected") != 29 || count(logins, "accepted") != 1 {
		t.Errorf("%d connections arrived, %v", got, logins)
	}
	checkRate(t, logins, 20)
}

func httpBruteForce(t *testing.T, ctx context.Context, lab *runner.Lab) {
	r := newRig(t, lab, 50, 60)
	got := arrivals(t, ctx, lab, "h1", syn+"8080", func() {
		if err := intrusion.HTTPBruteForce(ctx, &r.Stage); err != nil {
			t.Error(err)
		}
	})
	logins := r.actions("login")
	if got != 60 || count(logins, "rejected") != 59 || count(logins, "accepted") != 1 {
		t.Errorf("%d connections arrived, %v", got, logins)
	}
	checkRate(t, logins, 50)
}

func passwordSpray(t *testing.T, ctx context.Context, lab *runner.Lab) {
	r := newRig(t, lab, 30, 24)
	got := arrivals(t, ctx, lab, "h3", syn+"22", func() {
		if err := intrusion.PasswordSpray(ctx, &r.Stage); err != nil {
			t.Error(err)
		}
	})
	logins := r.actions("login")
	if got != 6 || len(logins) != 24 || count(logins, "rejected") != 24 {
		t.Errorf("%d connections arrived at one of four hosts, %v", got, logins)
	}
	checkRate(t, logins, 30)
}

func beacon(t *testing.T, ctx context.Context, lab *runner.Lab) {
	for port, play := range map[string]func(context.Context, *intrusion.Stage) error{"8000": intrusion.Beacon, "8443": intrusion.BeaconTLS} {
		r := newRig(t, lab, 20, 20)
		got := arrivals(t, ctx, lab, "h1", syn+port, func() {
			if err := play(ctx, &r.Stage); err != nil {
				t.Error(err)
			}
		})
		calls := r.actions("check-in")
		if got != 20 || count(calls, "answered") != 20 {
			t.Errorf("port %s: %d connections arrived, %v", port, got, calls)
		}
		same := 0
		for i := range calls[1:] {
			gap := calls[i+1].Time.Sub(calls[i].Time)
			if gap > 49*time.Millisecond && gap < 51*time.Millisecond {
				same++
			}
		}
		if same > 10 {
			t.Errorf("port %s: no jitter: %v", port, calls)
		}
	}
}

func exfiltration(t *testing.T, ctx context.Context, lab *runner.Lab) {
	fast := newRig(t, lab, 2000, 1500)
	got := arrivals(t, ctx, lab, "h1", "tcp dst port 443 and greater 1400", func() {
		if err := intrusion.ExfiltrateFast(ctx, &fast.Stage); err != nil {
			t.Error(err)
		}
	})
	var sent, octets uint64
	uploads := fast.actions("upload")
	for _, a := range uploads {
		sent, octets = sent+a.Packets, octets+a.Bytes
	}
	// The kernel may join two pieces into one packet.
	if sent != 1500 || octets != 1500*1400 || got < 700 || got > 1600 || count(uploads, "complete") != 1 {
		t.Errorf("%d large packets arrived, %v", got, uploads)
	}
	slow := newRig(t, lab, 10, 8)
	got = arrivals(t, ctx, lab, "h1", syn+"443", func() {
		if err := intrusion.ExfiltrateSlow(ctx, &slow.Stage); err != nil {
			t.Error(err)
		}
	})
	if uploads = slow.actions("upload"); got != 8 || count(uploads, "complete") != 8 {
		t.Errorf("%d connections arrived, %v", got, uploads)
	}
	checkRate(t, uploads, 10)
}

func dnsTunnel(t *testing.T, ctx context.Context, lab *runner.Lab) {
	r := newRig(t, lab, 100, 100)
	answers := 0
	got := arrivals(t, ctx, lab, "h2", "udp dst port 53 and greater 200", func() {
		answers = arrivals(t, ctx, lab, "h5", "udp src port 53", func() {
			if err := intrusion.DNSTunnel(ctx, &r.Stage); err != nil {
				t.Error(err)
			}
		})
	})
	queries := r.actions("query")
	if got != 100 || answers != 100 || len(queries) != 100 {
		t.Errorf("%d queries arrived and %d answers, %d lines of truth", got, answers, len(queries))
	}
	checkRate(t, queries, 100)
}

func lateralMovement(t *testing.T, ctx context.Context, lab *runner.Lab) {
	r := newRig(t, lab, 40, 100)
	if err := intrusion.LateralMovement(ctx, &r.Stage); err != nil {
		t.Error(err)
	}
	moves, tries := r.actions("moved"), r.actions("session")
	if len(moves) != 3 || moves[0].Agent != "h5" {
		t.Fatalf("moves: %v", moves)
	}
	been := map[string]bool{"h5": true}
	for _, m := range moves {
		to := strings.TrimPrefix(m.Note, "to ")
		if !been[m.Agent] || been[to] {
			t.Errorf("moved %s %s, having been at %v", m.Agent, m.Note, been)
		}
		been[to] = true
	}
	// From h5 each of four hosts has one door of four that is open; from one
	// of them there are three left.
	if count(tries, "accepted") != 4+3+3 || count(tries, "rejected") != 12+9+9 {
		t.Errorf("%d sessions accepted, %d rejected", count(tries, "accepted"), count(tries, "rejected"))
	}
	checkRate(t, tries[:16], 40)
}
