package controller_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/audit"
)

// audited reads the rig's audit log, and fails unless it is whole.
func (r *rig) audited() (entries []audit.Entry) {
	r.t.Helper()
	report, err := audit.Verify(filepath.Join(r.dir, "state", "audit"), audit.Options{Each: func(e audit.Entry) error {
		entries = append(entries, e)
		return nil
	}})
	if err != nil || !report.OK() {
		r.t.Fatalf("audit log: %v: %s", err, pretty(report))
	}
	return entries
}

// after finds the next entry of an event about something; it moves entries
// behind it.
func after(t *testing.T, entries *[]audit.Entry, what, about string) audit.Entry {
	t.Helper()
	i := slices.IndexFunc(*entries, func(e audit.Entry) bool {
		return e.What == what && (about == "" || e.Decision == about || e.Finding == about)
	})
	if i < 0 {
		var left []string
		for _, e := range *entries {
			left = append(left, e.Sentence())
		}
		t.Fatalf("no %s of %s in\n%s", what, about, strings.Join(left, "\n"))
	}
	e := (*entries)[i]
	*entries = (*entries)[i+1:]
	return e
}

// A real attack, a real person, a real crash: the audit log has each step of it
// in order, with what it stands on, and is whole after kill -9.
func TestAuditTellsWhatWasDone(t *testing.T) {
	r := newRig(t, "plt-audit")
	r.start(strings.Replace(quick, "min_hold: 2s", "min_hold: 10m", 1))
	bad := r.addr("h5").String()
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(bad, "verified")
	onSwitch := strings.Join(r.emergency(), "\n")
	for _, args := range [][]string{
		{"feedback", d.Finding, "true", "--why", "seen on the screen"}, {"brake", "on"}, {"brake", "off"}, {"approve", d.ID}, {"release", d.ID},
	} {
		out, err := r.run(append(args, "--socket", r.socket)...)
		if (err != nil) != (args[0] == "approve") { // it acts already
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	r.awaitState(bad, "released")
	r.scan("h6", r.addr("h1"))
	second := r.awaitState(r.addr("h6").String(), "verified")
	r.await("the audit log to have it", func() bool {
		var s struct{ Audit audit.Status }
		return r.get("status", &s) == nil && s.Audit.Queued == 0 && s.Audit.Error == "" && s.Audit.Key != "" && slices.ContainsFunc(r.audited(), func(e audit.Entry) bool {
			return e.What == "decision.verified" && e.Decision == second.ID
		})
	})
	r.kill()
	r.start(quick)
	r.stop()

	entries := r.audited()
	whole := entries
	start := after(t, &entries, audit.EventStarted, "")
	if len(start.Detail["config_sha256"]) != 64 || start.Detail["mode"] != "autonomous" || start.Detail["instance"] == "" {
		t.Errorf("start: %+v", start.Detail)
	}
	if held := after(t, &entries, "bridge.held", ""); held.Detail["switch"] != r.bridge {
		t.Errorf("held: %+v", held)
	}
	firing := after(t, &entries, "finding.firing", d.Finding)
	proposed := after(t, &entries, "decision.proposed", d.ID)
	if len(proposed.Evidence) == 0 || len(proposed.Rules) == 0 || len(proposed.Guards) < 3 || proposed.About == nil || proposed.About.Technique == "" || firing.About.Host.String() != bad {
		t.Errorf("proposed: %s", pretty(proposed))
	}
	installed := after(t, &entries, "rules.installed", d.ID)
	if len(installed.Rules) < len(proposed.Rules) || !strings.Contains(onSwitch, "cookie="+installed.Rules[0].Cookie+",") {
		t.Errorf("installed: %s; on the switch:\n%s", pretty(installed), onSwitch)
	}
	after(t, &entries, "decision.applied", d.ID)
	if v := after(t, &entries, "decision.verified", d.ID); v.Before != "applied" || v.Proof == nil || v.Proof.Dropped == 0 || !v.Proof.Harmless {
		t.Errorf("verified: %s", pretty(v))
	}
	for _, act := range []string{"feedback", "brake-on", "brake-off", "approve"} {
		if e := after(t, &entries, "operator."+act, ""); e.Who != "root" {
			t.Errorf("%s by %q", act, e.Who)
		}
	}
	if e := after(t, &entries, "operator.refused", d.ID); e.Who != "root" || !strings.Contains(e.Why, "not possible now") {
		t.Errorf("refused: %s", pretty(e))
	}
	after(t, &entries, "operator.release", d.ID)
	after(t, &entries, "rules.removed", d.ID)
	if e := after(t, &entries, "decision.released", d.ID); e.Who != "root" {
		t.Errorf("released by %q", e.Who)
	}
	after(t, &entries, "decision.verified", second.ID)
	after(t, &entries, audit.EventCrashed, "")
	after(t, &entries, audit.EventStarted, "")
	after(t, &entries, "decision.adopted", second.ID)
	if last := whole[len(whole)-1]; last.What != audit.EventStopped {
		t.Errorf("the last entry is %s", last.Sentence())
	}

	// The same by the command line, without a controller.
	dir := filepath.Join(r.dir, "state", "audit")
	if out, err := r.run("audit", "verify", dir, "--checkpoint", r.log.Name()); err != nil || !strings.Contains(out, "whole: ") {
		t.Errorf("verify, with what the controller logged: %v: %s", err, out)
	}
	out, err := r.run("audit", "show", d.ID, "--dir", dir, "-o", "json")
	var story []audit.Entry
	if err != nil || json.Unmarshal([]byte(out), &story) != nil || story[0].What != "finding.firing" {
		t.Errorf("show: %v: %s", err, out)
	}
	path := filepath.Join(dir, "audit-000000000000.jsonl")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(raw), `"who":"root"`, `"who":"nemo"`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := r.run("audit", "verify", dir); err == nil || !strings.Contains(out, "was changed") {
		t.Errorf("verify of an edited log: %v: %s", err, out)
	}
}

// Without a place for the audit log containment is what it is with one; the
// status says what is wrong, and when it is mended nothing is missing.
func TestContainmentGoesOnWithoutAuditLog(t *testing.T) {
	r := newRig(t, "plt-noaud")
	place := filepath.Join(r.dir, "place")
	if err := os.WriteFile(place, []byte("in the way"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start(quick + "\naudit: {dir: " + place + "}")
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(r.addr("h5").String(), "verified")
	status := func() (s audit.Status) {
		var all struct{ Audit audit.Status }
		if err := r.get("status", &all); err != nil {
			t.Fatal(err)
		}
		return all.Audit
	}
	if s := status(); !strings.Contains(s.Error, "not a directory") || s.Queued == 0 {
		t.Errorf("the status says %+v", s)
	}
	if err := os.Remove(place); err != nil {
		t.Fatal(err)
	}
	r.await("the audit log to be written", func() bool { s := status(); return s.Error == "" && s.Queued == 0 && s.Lost == 0 && s.Entries > 0 })
	r.stop()
	if out, err := r.run("audit", "verify", place); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := r.run("audit", "show", d.ID, "--dir", place); err != nil || !strings.Contains(out, d.ID+" verified") {
		t.Errorf("%v: %s", err, out)
	}
}
