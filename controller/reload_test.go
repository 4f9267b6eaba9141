package controller_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/platelet-sdn/platelet/controller/api"
)

// A live controller takes playbooks that change: by itself, at SIGHUP and when told
// to. Files with faults change nothing, and it says where the faults are; a run
// that waits goes on by the playbook that it began with.
func TestPlaybooksAreReadAgain(t *testing.T) {
	r := newRig(t, "plt-reload")
	h := newHooks(t)
	file := filepath.Join(t.TempDir(), "p.yaml")
	write := func(action, hook, extra string) {
		t.Helper()
		text := "apiVersion: playbook/v1\nplaybooks:\n- name: book\n  trigger: {kinds: [port-scan]}\n  steps:\n  - {name: contain, action: " + action + "}\n" +
			"  - {name: sure, action: ask, with: {title: \"Sure?\"}}\n  - {name: tell, action: webhook, with: {url: \"" + h.URL + "/" + hook + "\"}}\n" + extra
		// In place of the old one at once, as editors do.
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	status := func() (s api.PlaybookStatus) {
		if err := r.get("playbooks", &s); err != nil {
			t.Log(err)
		}
		return s
	}
	changed := func(what, from string) string {
		t.Helper()
		r.await(what, func() bool { v := status().Version; return v != "" && v != from })
		return status().Version
	}
	write("segment", "one", "")
	r.start(quick + "playbooks: [" + file + "]\n")
	first := status().Version
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(r.addr("h5").String(), "verified")
	if d.Action != "segment" {
		t.Errorf("%s", d.Action)
	}
	r.await("the question", func() bool { return len(r.runOf("book").Asks) == 1 })
	asks := r.runOf("book").Asks[0]

	write("quarantine", "two", "")
	second := changed("the change of the file", first)
	write("quarantine", "two", "- {name: broken, steps: [{name: x, action: webhok}]}\n")
	r.await("the fault", func() bool { return status().Error != "" })
	if s := status(); s.Version != second || !strings.Contains(s.Error, file+":9:") || !strings.Contains(s.Error, `did you mean "webhook"`) {
		t.Errorf("%s", pretty(s))
	}
	if out, err := r.run("playbook", "reload", "--socket", r.socket); err == nil || !strings.Contains(out, file+":9:") {
		t.Errorf("%v: %s", err, out)
	}
	if raw, _ := os.ReadFile(r.log.Name()); !strings.Contains(string(raw), "those in force stay: "+file+":9:") {
		t.Errorf("the log does not say where the fault is")
	}
	write("reroute", "three", "")
	r.await("what is missing", func() bool { return strings.Contains(status().Error, "needs response.honeypot") })

	r.scan("h6", r.addr("h1"))
	if d := r.awaitState(r.addr("h6").String(), "verified"); d.Action != "quarantine" {
		t.Errorf("by the new playbook: %s", d.Action)
	}
	if out, err := r.run("approve", asks, "--socket", r.socket); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r.await("the end of what began before", func() bool { return len(h.of("one")) == 1 })
	if len(h.of("two"))+len(h.of("three")) > 0 {
		t.Error("it went on by another playbook")
	}

	r.stop()
	write("segment", "four", "")
	r.start(quick + "playbook_watch: false\nplaybooks: [" + file + "]\n")
	third := status().Version
	write("quarantine", "four", "")
	if err := r.process.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	fourth := changed("the signal", third)
	write("segment", "four", "")
	if out, err := r.run("playbook", "reload", "--socket", r.socket); err != nil || !strings.Contains(out, third) {
		t.Errorf("%v: %s; want version %s again", err, out, third)
	}
	if s := status(); s.Version == fourth || s.Error != "" {
		t.Errorf("%s", pretty(s))
	}
	r.stop()
	entries := r.audited()
	after(t, &entries, "playbooks.reloaded", "")
	if e := after(t, &entries, "playbooks.refused", ""); !strings.Contains(e.Why, file+":9:") {
		t.Errorf("%s", e.Sentence())
	}
}
