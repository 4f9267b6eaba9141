package controller_test

import (
	"strings"
	"testing"
)

// footprint is all that a controller could have left on the rig's switch and in
// its database.
func (r *rig) footprint() string {
	r.t.Helper()
	var all []string
	for _, args := range [][]string{{"--no-stats", "dump-flows"}, {"dump-groups"}, {"dump-meters"}} {
		out, err := r.ovs.Ofctl(r.t.Context(), append(append([]string{"-O", "OpenFlow14"}, args...), r.ovs.Mgmt(r.bridge))...)
		if err != nil {
			r.t.Fatal(err)
		}
		for line := range strings.Lines(out) {
			if !strings.Contains(line, "(xid=") { // a number that differs each time
				all = append(all, strings.TrimSpace(line))
			}
		}
	}
	for _, table := range []string{"sflow", "ipfix", "flow_sample_collector_set", "netflow"} {
		out, err := r.ovs.Ctl(r.t.Context(), "list", table)
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(all, table, out)
	}
	ids, err := r.ovs.Ctl(r.t.Context(), "--columns=external_ids,sflow,ipfix,netflow", "list", "bridge", r.bridge)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.Join(append(all, ids), "\n")
}

// Policies that are to be kept hold from one controller to the next. What a
// killed one leaves is taken off by clean, which leaves alone what a running one
// holds.
func TestPoliciesAreKeptAndCleaned(t *testing.T) {
	r := newRig(t, "plt-clean")
	before := r.footprint()
	settings := quick + strings.Replace(r.withPolicies(threeTier), "}", ", at_exit: keep}", 1)
	r.serve("h1", 8080)
	web := r.addr("h1")
	r.start(settings)
	inForce := func() bool { return !r.opens("h5", web, 8080) && r.opens("h3", web, 8080) }
	r.await("the policy in force", inForce)
	if out, err := r.run("clean", "-c", r.config); err == nil || !strings.Contains(out, "holds this bridge: process ") || !r.holds() {
		t.Errorf("under a running controller: %v\n%s", err, out)
	}

	r.stop()
	if now := r.footprint(); strings.Contains(now, "sample(") || strings.Contains(now, "127.0.0.1:") {
		t.Errorf("telemetry is left behind:\n%s", now)
	}
	if r.opens("h5", web, 8080) {
		t.Error("the policy did not outlive an orderly end")
	}
	r.awaitOpen("h3", web, 8080, "after an orderly end")
	r.start(settings)
	for range 5 { // while the controller finds out who is where; each waits for a second
		if r.opens("h5", web, 8080) {
			t.Fatal("the policy had a gap when the controller came back")
		}
	}
	r.await("the policy in force again", inForce)

	r.kill()
	if out, err := r.run("clean", "-c", r.config); err != nil || out != "bridge "+r.bridge+" is clean\n" {
		t.Fatalf("behind a killed controller: %v\n%s", err, out)
	}
	if now := r.footprint(); now != before {
		t.Errorf("left behind:\n%s\nwas:\n%s", now, before)
	}
	r.awaitOpen("h5", web, 8080, "when nothing is enforced any more")
	if out, err := r.run("clean", "-c", r.config); err != nil || r.footprint() != before {
		t.Errorf("a second time: %v\n%s", err, out)
	}
}
