package controller_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
)

// beside returns a second controller's rig on the same switch, with a state of
// its own.
func (r *rig) beside(name string) *rig {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	s := &rig{t: r.t, dir: dir, ovs: r.ovs, lab: r.lab, bridge: r.bridge, socket: filepath.Join(dir, "api.sock"),
		config: filepath.Join(dir, "c.yaml"), ports: [2]int{freePort(r.t), freePort(r.t)}, nats: r.nats}
	s.api = api.NewClient(s.socket)
	r.t.Cleanup(s.stop)
	return s
}

// hold is how a controller stands with the rig's bridge.
func (r *rig) hold() (state, heldBy string) {
	var status struct {
		Switches []struct {
			Name, State string
			HeldBy      string `json:"held_by"`
		}
	}
	if r.get("status", &status) != nil {
		return "", ""
	}
	for _, s := range status.Switches {
		if s.Name == r.bridge {
			return s.State, s.HeldBy
		}
	}
	return "", ""
}

func (r *rig) holds() bool { state, _ := r.hold(); return state == "connected" }

func (r *rig) refused() bool {
	state, by := r.hold()
	return state == "refused" && strings.Contains(by, "process ")
}

// exportsTo is where the bridge sends its samples.
func (r *rig) exportsTo() string {
	out, err := r.ovs.Ctl(r.t.Context(), "--bare", "--columns=targets", "list", "sflow")
	if err != nil {
		return err.Error()
	}
	return out
}

// Of two controllers one holds the switch. The other says so and changes
// nothing, takes over within a second when the first is killed, and is taken
// over from when a third is told to; a containment stands all the time.
func TestOneControllerAtATime(t *testing.T) {
	const settings = "mode: autonomous\nprotected: [10.77.0.1]\nresponse: {ttl: 60s, min_hold: 1m, quarantine: {remediation: [10.77.0.1]}}"
	first := newRig(t, "plt-two")
	first.start(settings)
	bad, web := first.addr("h5"), first.addr("h1")
	first.awaitReach("h5", web, "before the attack")
	first.scan("h5", web)
	first.awaitState(bad.String(), "verified")
	rules, target := len(first.emergency()), first.exportsTo()
	if rules == 0 {
		t.Fatal("no rules")
	}

	second := first.beside("second")
	second.startOnly(settings)
	second.await("the second to be refused", second.refused)
	if n := len(first.emergency()); n != rules || first.exportsTo() != target || !first.holds() {
		t.Fatalf("the second changed the switch: %d rules, not %d; exports to %s, not %s", n, rules, first.exportsTo(), target)
	}

	killed := time.Now()
	first.kill()
	second.await("the second to hold the switch", second.holds)
	t.Logf("the second holds the switch %v after the first was killed", time.Since(killed))
	second.await("telemetry to follow", func() bool { return second.exportsTo() != target })
	if n := len(second.emergency()); n != rules {
		t.Fatalf("%d rules of %d outlive their controller", n, rules)
	}

	first.startOnly(settings, "--take-over")
	first.await("the first to have the switch back", first.holds)
	second.await("the second to be refused again", second.refused)
	first.await("telemetry to be back", func() bool { return first.exportsTo() == target })
	if d := first.awaitState(bad.String(), "verified"); len(first.emergency()) != rules {
		t.Fatalf("%d rules of decision %s", len(first.emergency()), d.ID)
	}
	second.stop()
	if n := len(first.emergency()); n != rules || first.exportsTo() != target || !first.holds() {
		t.Fatalf("the second's end changed the switch: %d rules; exports to %s", n, first.exportsTo())
	}
	if first.reaches("h5", web) {
		t.Error("the quarantined host reaches its victim")
	}

	// Each one's audit log tells its part.
	entries := second.audited()
	after(t, &entries, "bridge.refused", "")
	if e := after(t, &entries, "bridge.held", ""); !strings.Contains(e.Why, "taken over: ") || e.Detail["inherited_rules"] == "" {
		t.Errorf("the take-over is told as %s", e.Sentence())
	}
	after(t, &entries, "bridge.lost", "")
	first.stop()
	entries = first.audited()
	after(t, &entries, "controller.crashed", "")
	if e := after(t, &entries, "controller.started", ""); e.Detail["take_over"] != "true" {
		t.Errorf("the start is told as %s", e.Sentence())
	}
	after(t, &entries, "bridge.held", "")
}
