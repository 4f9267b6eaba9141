package benign_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/vishvananda/netlink"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// start starts a profile; it goes with the test.
func start(ctx context.Context, t *testing.T, lab *runner.Lab, o benign.Options) *benign.Traffic {
	t.Helper()
	traffic, err := benign.Start(ctx, lab, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := traffic.Stop(); err != nil {
			t.Error(err)
		}
	})
	return traffic
}

// await waits until every behaviour has had some flows, and for the fate of
// those.
func await(ctx context.Context, t *testing.T, traffic *benign.Traffic, behaviours []string, flows int) {
	t.Helper()
	for {
		all, _ := traffic.Totals()
		if !slices.ContainsFunc(behaviours, func(b string) bool { return all[b].Flows < flows }) {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("behaviours %v, but only %v", behaviours, all)
		case <-time.After(20 * time.Millisecond):
		}
	}
	if _, err := traffic.Loss(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestFirstLab(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	t.Run("refusals", func(t *testing.T) { refusals(ctx, t, env, lab) })
	t.Run("seed", func(t *testing.T) { seed(ctx, t, lab) })
	t.Run("pace", func(t *testing.T) { pace(ctx, t, lab) })
	t.Run("loss is counted", func(t *testing.T) { lossIsCounted(ctx, t, env, lab) })
}

// refusals are before anything is started.
func refusals(ctx context.Context, t *testing.T, env labtest.Env, lab *runner.Lab) {
	if traffic, err := benign.Start(ctx, lab, benign.Options{Profile: "tv"}); err == nil || !strings.Contains(err.Error(), "unknown benign profile") {
		t.Errorf("unknown profile: %v, %v", traffic, err)
	}
	file := t.TempDir() + "/bare.clab.yml"
	if err := os.WriteFile(file, []byte("name: bare\ntopology:\n  nodes:\n    a: {kind: linux}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if env.Topology, err = clab.Load(file); err != nil {
		t.Fatal(err)
	}
	env.Options.Name += "b"
	bare := env.Up(ctx, t)
	if traffic, err := benign.Start(ctx, bare, benign.Options{Profile: "ot"}); err == nil || !strings.Contains(err.Error(), "ot needs a node labelled app=plc") {
		t.Errorf("a lab without labels: %v, %v", traffic, err)
	}
}

// pace lets everybody ask for the time far more often than once in 20 s.
func pace(ctx context.Context, t *testing.T, lab *runner.Lab) {
	nodes := start(ctx, t, lab, benign.Options{Profile: "quiet", Pace: 100})
	began := time.Now()
	await(ctx, t, nodes, []string{"ntp"}, 30) // of a few clients: at the pace of the profile that takes minutes
	if took := time.Since(began); took > time.Minute {
		t.Errorf("thirty times took %s", took)
	}
}

func lossIsCounted(ctx context.Context, t *testing.T, env labtest.Env, lab *runner.Lab) {
	traffic := start(ctx, t, lab, benign.Options{})
	whole, err := traffic.Loss(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if whole.ProbesSent < 20 || whole.RequestsSent < 2 || whole.RequestsFailed > 0 {
		t.Errorf("on a whole network: %+v", whole)
	}
	port, err := lab.HostSide("h3", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	cut := "in_port=" + port
	if _, err := env.OVS.Ofctl(ctx, "add-flow", env.OVS.Mgmt(lab.Bridges()[0]), "priority=9,"+cut+" actions=drop"); err != nil {
		t.Fatal(err)
	}
	// Twice: what is sent while the first count waits is lost for certain.
	for range 2 {
		if _, err := traffic.Loss(ctx); err != nil {
			t.Fatal(err)
		}
	}
	after, err := traffic.Loss(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if lost := after.Sub(whole); lost.ProbesLost < 20 || lost.RequestsFailed < 2 || lost.ProbesLost > lost.ProbesSent*3/4 {
		t.Errorf("with one of two clients cut off: %+v", lost)
	}
}

// TestCutHarmsOneHost runs everything that the lab has nodes for, and pulls
// one host's cable.
func TestCutHarmsOneHost(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	var lines bytes.Buffer
	truth := agent.NewTruth(&lines)
	traffic := start(ctx, t, lab, benign.Options{Profile: "all", Seed: 3, Truth: truth})
	if missing := strings.Join(traffic.Missing(), ", "); missing != "rpc needs a node labelled app=db, ot needs a node labelled app=plc, telemetry needs a node labelled app=sensor" {
		t.Errorf("missing: %s", missing)
	}
	if all, office := benign.Scanner(lab, "all"), benign.Scanner(lab, "office"); all != "h4" || office != "" {
		t.Errorf("licensed to scan: %q of all, %q of office", all, office)
	}
	began := time.Now()
	await(ctx, t, traffic, []string{"page", "probe", "web", "dns", "ntp", "backup", "update", "monitor", "video", "scanner"}, 1)
	before := time.Now()
	whole := traffic.Flows(began, before)
	for _, f := range whole {
		if f.Harmed || f.End.Before(f.Start) {
			t.Errorf("on a whole network: %+v", f)
		}
	}
	pull(t, lab, "h3")
	cut := time.Now()
	// Twice: what is sent while the first count waits is lost for certain.
	for range 2 {
		if _, err := traffic.Loss(ctx); err != nil {
			t.Fatal(err)
		}
	}
	harmed := map[string]bool{}
	for _, f := range traffic.Flows(before, time.Now()) {
		of := f.Client == "h3" || f.Server == "h3"
		if f.Harmed && !of {
			t.Errorf("h3 is cut off, but harmed: %+v", f)
		}
		if of && !f.Harmed && f.Start.After(cut) && f.End.Before(time.Now()) {
			t.Errorf("h3 is cut off, and not harmed: %+v", f)
		}
		if f.Harmed {
			harmed[f.Behaviour] = true
		}
	}
	for _, b := range []string{"page", "probe", "web", "dns", "video"} {
		if !harmed[b] {
			t.Errorf("the cut harmed %v, but no %s", harmed, b)
		}
	}
	checkTruth(t, truth, &lines, len(whole))
}

// pull pulls a host's cable out of the switch.
func pull(t *testing.T, lab *runner.Lab, node string) {
	t.Helper()
	port, err := lab.HostSide(node, "eth1")
	if err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName(port)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
}

// checkTruth looks for a line per flow.
func checkTruth(t *testing.T, truth *agent.Truth, lines *bytes.Buffer, flows int) {
	t.Helper()
	if err := truth.Flush(); err != nil {
		t.Fatal(err)
	}
	n := 0
	for dec := json.NewDecoder(lines); dec.More(); n++ {
		var a agent.Action
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if a.Role != agent.Benign || a.Agent == "" || a.Behaviour == "" || a.Action == "" || !a.To.IsValid() || a.Time.IsZero() {
			t.Errorf("line %d: %+v", n+1, a)
		}
	}
	if n < flows {
		t.Errorf("%d lines of %d flows", n, flows)
	}
	if len(truth.Attackers()) > 0 {
		t.Errorf("attackers: %v", truth.Attackers())
	}
}

// TestProfilesInTheirLabs runs profiles where they belong, side by side on one
// switch, and nothing is harmed.
func TestProfilesInTheirLabs(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	t.Run("labs", func(t *testing.T) { profilesInTheirLabs(ctx, t, env) }) // ends when all in it have
}

func profilesInTheirLabs(ctx context.Context, t *testing.T, env labtest.Env) {
	for _, test := range []struct{ lab, profile string }{{"ot", "ot"}, {"iot", "iot"}, {"dc3tier", "datacenter"}} {
		own := env
		own.Options.Name += test.profile[:1]
		var err error
		if own.Topology, err = clab.Load("../" + test.lab + ".clab.yml"); err != nil {
			t.Fatal(err)
		}
		lab := own.Up(ctx, t)
		t.Run(test.profile, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			traffic := start(ctx, t, lab, benign.Options{Profile: test.profile})
			if len(traffic.Missing()) > 0 {
				t.Errorf("missing: %v", traffic.Missing())
			}
			p, err := benign.Find(test.profile)
			if err != nil {
				t.Fatal(err)
			}
			await(ctx, t, traffic, p.Behaviours, 1)
			for _, f := range traffic.Flows(began, time.Now()) {
				if f.Harmed || slices.Contains(lab.Select("role", "attacker"), f.Client) || slices.Contains(lab.Select("role", "attacker"), f.Server) {
					t.Errorf("%+v", f)
				}
			}
			for _, f := range traffic.Flows(began, time.Now()) {
				if dev := lab.Select("env", "dev"); f.Behaviour == "rpc" && slices.Contains(dev, f.Client) != slices.Contains(dev, f.Server) {
					t.Errorf("from one environment to the other: %+v", f)
				}
			}
			if _, unserved := traffic.Totals(); unserved > 0 {
				t.Errorf("%d exchanges were not served", unserved)
			}
		})
	}
}

// seed starts the same traffic twice, and other traffic.
func seed(ctx context.Context, t *testing.T, lab *runner.Lab) {
	visits := func(seed uint64) []uint64 {
		var lines bytes.Buffer
		truth := agent.NewTruth(&lines)
		traffic, err := benign.Start(ctx, lab, benign.Options{Profile: "office", Seed: seed, Truth: truth})
		if err != nil {
			t.Fatal(err)
		}
		for all, _ := traffic.Totals(); all["web"].Flows < 3 && ctx.Err() == nil; all, _ = traffic.Totals() {
			time.Sleep(10 * time.Millisecond)
		}
		if err := traffic.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := truth.Flush(); err != nil {
			t.Fatal(err)
		}
		var sizes []uint64
		for dec := json.NewDecoder(&lines); dec.More(); {
			var a agent.Action
			if err := dec.Decode(&a); err != nil {
				t.Fatal(err)
			}
			if a.Behaviour == "web" && a.Agent == "h3" {
				sizes = append(sizes, a.Bytes)
			}
		}
		return sizes
	}
	one, same, other := visits(1), visits(1), visits(2)
	n := min(len(one), len(same), len(other))
	if n == 0 || !slices.Equal(one[:n], same[:n]) || slices.Equal(one[:n], other[:n]) {
		t.Errorf("visits of %v, %v with the same seed, %v with another", one, same, other)
	}
}

func TestProfiles(t *testing.T) {
	if _, err := benign.Find("offices"); err == nil || !strings.Contains(err.Error(), `did you mean "office"`) {
		t.Errorf("unknown profile: %v", err)
	}
	names := map[string]bool{}
	for _, p := range benign.Profiles() {
		if p.About == "" || len(p.Behaviours) == 0 || names[p.Name] {
			t.Errorf("%+v", p)
		}
		names[p.Name] = true
	}
	for _, want := range []string{"quiet", "default", "office", "datacenter", "ot", "iot", "scanner", "all"} {
		if !names[want] {
			t.Errorf("there is no profile %s", want)
		}
	}
}
