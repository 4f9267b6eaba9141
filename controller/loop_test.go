package controller_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// quick are settings that let a life of containment pass within seconds.
const quick = `
mode: autonomous
protected: [10.77.0.1]
response:
  ttl: 10s
  min_hold: 2s
  quiet_for: 2s
  probation: {limited: 1s, watched: 1s}
  quarantine: {remediation: [10.77.0.1]}
detection: {keep_firing: 2s}
`

func TestScanIsContainedProvenAndReleased(t *testing.T) {
	r := newRig(t, "plt-scan")
	r.start(quick)
	bad, web, gw := r.addr("h5"), r.addr("h1"), r.addr("gw")
	r.awaitReach("h5", web, "before the attack")
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	if d.Action != "quarantine" || d.Kind != "port-scan" {
		t.Fatalf("got %s for %s", d.Action, d.Kind)
	}
	if !d.Proof.Installed || !d.Proof.Effective || !d.Proof.Harmless || d.Proof.Dropped == 0 || d.Proof.Passed != 0 {
		t.Errorf("proof: %+v", d.Proof)
	}
	if r.reaches("h5", web) {
		t.Error("the quarantined host reaches its victim")
	}
	r.awaitReach("h5", gw, "to remediation, from quarantine")
	r.awaitReach("h3", web, "beside the containment")
	r.awaitReach("h3", gw, "beside the containment")
	for _, rule := range r.emergency() {
		if !strings.Contains(rule, "hard_timeout=10") {
			t.Errorf("a rule that the switch does not end: %s", rule)
		}
	}
	r.awaitState(bad.String(), "released")
	if n := len(r.emergency()); n != 0 {
		t.Errorf("%d emergency rules after release", n)
	}
	r.awaitReach("h5", web, "after release")
}

func TestProtectedHostIsNotContained(t *testing.T) {
	r := newRig(t, "plt-prot")
	r.start(quick)
	r.scan("gw", r.addr("h1"))
	d := r.awaitState(r.addr("gw").String(), "refused")
	last := d.Guards[len(d.Guards)-1]
	if last.Pass || last.Guard != "compile" || !strings.Contains(last.Why, "protected") {
		t.Errorf("refused by %+v", last)
	}
	if n := len(r.emergency()); n != 0 {
		t.Errorf("%d emergency rules against a protected host", n)
	}
}

// flood sends as fast as it can until it is stopped, and for at most two minutes.
func (r *rig) flood(from string, to netip.Addr, args ...string) (stop func()) {
	r.t.Helper()
	return r.background(from, "timeout", append([]string{"120", "hping3", "-q", "--flood", to.String()}, args...)...)
}

func TestFloodsAreLimitedWhereTheyEnter(t *testing.T) {
	r := newRig(t, "plt-flood")
	r.start(quick)
	web := r.addr("h1")
	for _, c := range []struct {
		kind string
		args []string
	}{
		{"syn-flood", []string{"-S", "-p", "80", "--rand-source"}},
		{"udp-flood", []string{"--udp", "-p", "53"}},
		{"icmp-flood", []string{"--icmp"}},
		{"ack-flood", []string{"-A", "-p", "80", "--rand-source"}},
	} {
		stop := r.flood("h6", web, c.args...)
		var d decision
		r.await(c.kind+" verified", func() bool {
			i := slices.IndexFunc(r.decisions(), func(d decision) bool { return d.Kind == c.kind && d.State == "verified" })
			if i >= 0 {
				d = r.decisions()[i]
			}
			return i >= 0
		})
		if d.Action != "rate-limit" || !strings.HasPrefix(d.At.Port, "first-h6") {
			t.Errorf("%s: %s at %s", c.kind, d.Action, d.At.Port)
		}
		r.awaitReach("h3", web, "beside the contained "+c.kind)
		stop()
		r.await(c.kind+" released", func() bool {
			return slices.ContainsFunc(r.decisions(), func(e decision) bool { return e.ID == d.ID && e.State == "released" })
		})
	}
	for _, d := range r.decisions() {
		if !strings.HasPrefix(d.At.Port, "first-h6") {
			t.Errorf("contained at %s, where nothing attacked: %s", d.At.Port, pretty(d))
		}
	}
}

func TestKilledControllerLeavesContainmentThatHeals(t *testing.T) {
	r := newRig(t, "plt-kill")
	r.start(quick)
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	before := r.emergency()
	r.kill()
	if n := len(r.emergency()); n != len(before) || n == 0 {
		t.Fatalf("%d rules after the kill, %d before", n, len(before))
	}
	if r.reaches("h5", web) {
		t.Error("containment did not outlive its controller")
	}
	r.start(quick)
	r.await("the containment known again", func() bool {
		return slices.ContainsFunc(r.decisions(), func(e decision) bool { return e.ID == d.ID })
	})
	r.await("its release", func() bool {
		return slices.ContainsFunc(r.decisions(), func(e decision) bool { return e.ID == d.ID && e.State == "released" })
	})
	r.awaitReach("h5", web, "after release")
	// The switch repeats its IPFIX templates every ten minutes only: without
	// the stored ones the restarted controller would be blind.
	r.scan("h6", web)
	r.awaitState(r.addr("h6").String(), "verified")
}

func TestDeadControllerLocksNobodyOutForEver(t *testing.T) {
	r := newRig(t, "plt-dead")
	r.start(quick)
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web)
	r.awaitState(bad.String(), "verified")
	r.kill()
	r.await("the switch to let go by itself", func() bool { return len(r.emergency()) == 0 })
	r.awaitReach("h5", web, "after the TTL")
}

func TestSwitchRestartAndForeignDeletionHeal(t *testing.T) {
	r := newRig(t, "plt-heal")
	r.start(strings.Replace(quick, "min_hold: 2s", "min_hold: 10m", 1))
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web)
	r.awaitState(bad.String(), "verified")
	want := len(r.emergency())
	heal := func(what string) {
		t.Helper()
		start := time.Now()
		r.await(what, func() bool { return len(r.emergency()) == want })
		t.Logf("%s after %s", what, time.Since(start).Round(time.Millisecond))
		r.await("the host contained again after "+what, func() bool { return !r.reaches("h5", web) })
		r.awaitReach("h3", web, "after "+what)
	}
	if _, err := r.ovs.Ofctl(t.Context(), "-O", "OpenFlow14", "del-flows", r.ovs.Mgmt(r.bridge), "table=201"); err != nil {
		t.Fatal(err)
	}
	heal("rules back after deletion by hand")
	if err := r.ovs.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := r.ovs.StartSwitch(t.Context()); err != nil {
		t.Fatal(err)
	}
	heal("rules back after kill -9 of ovs-vswitchd")
}

func TestLeavingPutsBackWhatWasThere(t *testing.T) {
	r := newRig(t, "plt-leave")
	if _, err := r.ovs.Ctl(t.Context(), "--", "--id=@s", "create", "sFlow", `targets="127.0.0.1:9"`, "sampling=400", "agent=lo",
		"--", "set", "bridge", r.bridge, "sflow=@s"); err != nil {
		t.Fatal(err)
	}
	before := r.switchState()
	r.start(quick)
	if foreign := r.switchState(); !strings.Contains(foreign, "sampling=400") {
		t.Errorf("a foreign sFlow configuration was replaced:\n%s", foreign)
	}
	r.stop()
	if after := r.switchState(); after != before {
		t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
	}
	r.start(quick)
	r.stop()
	if after := r.switchState(); after != before {
		t.Errorf("left behind after the second run:\n%s", after)
	}
}

// switchState is all that a controller could change on the switch.
func (r *rig) switchState() string {
	r.t.Helper()
	var b strings.Builder
	for _, table := range []string{"sFlow", "IPFIX", "NetFlow", "Flow_Sample_Collector_Set", "Controller"} {
		out, err := r.ovs.Ctl(r.t.Context(), "--no-headings", "--columns=_uuid", "list", table)
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %d rows\n", table, strings.Count(out, "-")/4)
	}
	if out, err := r.ovs.Ctl(r.t.Context(), "--bare", "--columns=sampling", "list", "sFlow"); err == nil && out != "" {
		fmt.Fprintf(&b, "sampling=%s\n", out)
	}
	flows, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "--no-stats", "dump-flows", r.ovs.Mgmt(r.bridge))
	if err != nil {
		r.t.Fatal(err)
	}
	meters, err := r.ovs.Ofctl(r.t.Context(), "-O", "OpenFlow14", "dump-meters", r.ovs.Mgmt(r.bridge))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, out := range []string{flows, meters} {
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "OFPST") {
				b.WriteString(line)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestReadOnlyChangesNothing(t *testing.T) {
	r := newRig(t, "plt-ro")
	if _, err := r.ovs.Ctl(t.Context(), "--", "--id=@s", "create", "sFlow", fmt.Sprintf(`targets="127.0.0.1:%d"`, r.ports[0]), "sampling=1", "agent=lo",
		"--", "set", "bridge", r.bridge, "sflow=@s"); err != nil {
		t.Fatal(err)
	}
	before := r.switchState()
	r.startOnly(quick, "--read-only")
	stop := r.flood("h6", r.addr("h1"), "--udp", "-p", "53")
	r.await("a finding from what is exported", func() bool {
		return slices.ContainsFunc(r.findings(), func(f finding) bool { return f.Kind == "udp-flood" })
	})
	stop()
	d := r.awaitState("", "proposed")
	if during := r.switchState(); during != before {
		t.Errorf("changed while read-only (decision %s):\n%s\nbefore:\n%s", d.ID, during, before)
	}
}

func TestAdviseActsOnApproval(t *testing.T) {
	r := newRig(t, "plt-adv")
	r.start(strings.Replace(quick, "autonomous", "advise", 1))
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "awaiting-approval")
	if n := len(r.emergency()); n != 0 {
		t.Fatalf("%d rules before approval", n)
	}
	if out, err := r.run("approve", d.ID, "--socket", r.socket); err != nil {
		t.Fatalf("approve: %v: %s", err, out)
	}
	if n := len(r.emergency()); n == 0 {
		t.Error("no rules after approval")
	}
	out, err := r.run("release", d.ID, "--socket", r.socket)
	if err != nil || len(r.emergency()) != 0 {
		t.Errorf("release: %v: %s; %d rules", err, out, len(r.emergency()))
	}
	if out, err := r.run("approve", d.ID, "--socket", r.socket); err == nil {
		t.Errorf("approved twice: %s", out)
	}
}

func TestMissingSwitchIsAStateNotAFailure(t *testing.T) {
	r := newRig(t, "plt-miss")
	if err := r.ovs.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := r.ovs.KillDB(); err != nil {
		t.Fatal(err)
	}
	r.startOnly(quick)
	var s struct {
		OVSDB struct {
			Connected bool   `json:"connected"`
			LastError string `json:"last_error"`
		} `json:"ovsdb"`
	}
	r.await("the missing database in the status", func() bool {
		return r.get("status", &s) == nil && !s.OVSDB.Connected && s.OVSDB.LastError != ""
	})
	if err := r.ovs.StartDB(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.ovs.StartSwitch(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("care for the bridge once it is there", func() bool {
		flows, err := r.ovs.Ofctl(t.Context(), "-O", "OpenFlow14", "dump-flows", r.ovs.Mgmt(r.bridge))
		return err == nil && strings.Contains(flows, "collector_set_id")
	})
	bad := r.addr("h5")
	r.scan("h5", r.addr("h1"))
	r.awaitState(bad.String(), "verified")
}
