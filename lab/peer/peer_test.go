package peer

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// TestFastNetMonsPart tests everything around the program itself, which is
// not installed where only tests run: its files, the switch's export, and
// that its script stops the victim's traffic and is reported.
func TestFastNetMonsPart(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := &FastNetMon{lab: lab, roles: roles, kind: "udp-flood", dir: t.TempDir(), port: 16343}
	if err := f.configure(); err != nil {
		t.Fatal(err)
	}
	checkFiles(t, f)
	if err := f.export(ctx); err != nil {
		t.Fatal(err)
	}
	if got, err := env.OVS.Ctl(ctx, "--bare", "--columns=targets,sampling", "list", "sflow"); err != nil || got != "127.0.0.1:16343\n10" {
		t.Errorf("export %q, %v", got, err)
	}
	follow, stop := context.WithCancel(ctx)
	defer stop()
	events, err := f.Events(follow)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"attack_details", "ban"} { // only the second counts
		if out, err := exec.CommandContext(ctx, filepath.Join(f.dir, "notify.sh"), "10.77.0.11", "incoming", "40000", action).CombinedOutput(); err != nil {
			t.Fatalf("notify script: %v: %s", err, out)
		}
	}
	finding, decision := <-events, <-events
	if finding.Type != measure.Finding || finding.Kind != "udp-flood" || decision.State != measure.StateApplied ||
		decision.Host != "10.77.0.11" || !decision.Time.After(finding.Time) {
		t.Errorf("got %+v, %+v", finding, decision)
	}
	if flows, err := env.OVS.Ofctl(ctx, "dump-flows", env.OVS.Mgmt(lab.Bridges()[0])); err != nil || !strings.Contains(flows, "nw_dst=10.77.0.11 actions=drop") {
		t.Errorf("no drop: %s, %v", flows, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if flows, err := env.OVS.Ofctl(ctx, "dump-flows", env.OVS.Mgmt(lab.Bridges()[0])); err != nil || strings.Contains(flows, "drop") {
		t.Errorf("drop stays: %s, %v", flows, err)
	}
	if got, err := env.OVS.Ctl(ctx, "list", "sflow"); err != nil || got != "" {
		t.Errorf("export stays: %q, %v", got, err)
	}
}

// checkFiles holds that nothing is ever reported to anybody.
func checkFiles(t *testing.T, f *FastNetMon) {
	t.Helper()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(f.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	conf := "\n" + read("fastnetmon.conf")
	for _, line := range []string{"disable_usage_report = on", "sflow_host = 127.0.0.1", "threshold_pps = 20000", "average_calculation_time = 1", "enable_api = off", "prometheus = off"} {
		if !strings.Contains(conf, "\n"+line+"\n") {
			t.Errorf("configuration lacks %q", line)
		}
	}
	if got := read("networks_list"); got != "10.77.0.11/32\n" {
		t.Errorf("networks %q", got)
	}
}

func TestReadBansRefusesNonsense(t *testing.T) {
	for _, text := range []string{"x y z\n", "1.2 3.4\n"} {
		file := filepath.Join(t.TempDir(), "bans")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if bans, err := readBans(file); err == nil {
			t.Errorf("%q: %v", text, bans)
		}
	}
}

func TestPrint(t *testing.T) {
	var out strings.Builder
	r := Report{
		Platelet: measure.Attack{Summary: measure.Summary{Contained: measure.NewShare(5, 5), TTC: measure.Distribution{P50: 30, P95: 40, Max: 45}}},
		FastNetMon: measure.Attack{Summary: measure.Summary{
			Contained: measure.NewShare(5, 5), TTC: measure.Distribution{P50: 720, P95: 960, Max: 969}, False: 5,
		}},
	}
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "ratio") || !strings.Contains(out.String(), "24.0") {
		t.Error(out.String())
	}
}
