package controller_test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hooks remembers what is posted to it, by the last part of the path.
type hooks struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]hook
}

type hook struct {
	key, signature, body string
	at                   time.Time
}

func newHooks(t *testing.T) *hooks {
	h := &hooks{got: map[string][]hook{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		one := hook{req.Header.Get("Idempotency-Key"), req.Header.Get("X-Platelet-Signature"), string(body), time.Now()}
		h.mu.Lock()
		defer h.mu.Unlock()
		name := req.URL.Path[strings.LastIndex(req.URL.Path, "/")+1:]
		h.got[name] = append(h.got[name], one)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hooks) of(name string) []hook {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.got[name])
}

type runOf struct{ ID, Playbook, Decision, State string }

// withPlaybooks is a configuration with a file of playbooks.
func (r *rig) withPlaybooks(books string) string {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "p.yaml")
	if err := os.WriteFile(file, []byte("apiVersion: playbook/v1\nplaybooks:\n"+books), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return "playbooks: [" + file + "]\n"
}

// The steps follow on the containment, once each, a killed controller or not;
// they wait for the attack to be over, and the host is healed then.
func TestPlaybookHealsAfterContainment(t *testing.T) {
	r := newRig(t, "plt-play")
	h := newHooks(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("k"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings := quick + r.withPlaybooks(`
- name: heal
  trigger: {kinds: [port-scan], within: [10.77.0.0/16]}
  steps:
  - {name: contain, action: quarantine}
  - {name: ticket, action: webhook, with: {url: "`+h.URL+`/ticket", secret: `+key+`}}
  - {name: clean, action: wait, with: {clean: 2s}, timeout: 5m}
  - {name: healed, action: webhook, with: {url: "`+h.URL+`/healed"}}
`)
	r.start(settings)
	bad, web := r.addr("h5"), r.addr("h1")
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	r.await("the ticket", func() bool { return len(h.of("ticket")) > 0 })
	ticket := h.of("ticket")[0]
	var facts struct {
		Finding  struct{ Kind, Severity, Victim string }
		Decision struct{ ID, Action string }
		Host     struct{ Address, Switch, Port string }
	}
	if err := json.Unmarshal([]byte(ticket.body), &facts); err != nil {
		t.Fatal(err)
	}
	if facts.Finding.Kind != "port-scan" || facts.Finding.Victim != web.String() || facts.Decision.ID != d.ID || facts.Host.Address != bad.String() || facts.Host.Port == "" {
		t.Errorf("%s", ticket.body)
	}
	if ticket.at.Before(d.Applied) || !strings.HasPrefix(ticket.signature, "sha256=") || len(h.of("healed")) > 0 {
		t.Errorf("before the containment, unsigned or not waited for: %+v", ticket)
	}
	r.kill()
	r.start(settings)
	r.await("the healing", func() bool { return len(h.of("healed")) > 0 })
	r.await("the end of the run", func() bool {
		var runs []runOf
		return r.get("runs", &runs) == nil && slices.ContainsFunc(runs, func(x runOf) bool { return x.Playbook == "heal" && x.Decision == d.ID && x.State == "done" })
	})
	if n := len(h.of("ticket")); n != 1 {
		t.Errorf("%d tickets", n)
	}
}

// Two people are asked before the switch is, and then told to.
func TestPlaybookAsksFirst(t *testing.T) {
	r := newRig(t, "plt-ask")
	h := newHooks(t)
	r.start(quick + r.withPlaybooks(`
- name: ask
  people: 1
  trigger: {kinds: [port-scan]}
  steps:
  - {name: contain, action: quarantine}
  - {name: ticket, action: webhook, with: {url: "`+h.URL+`/ticket"}}
`))
	bad := r.addr("h5")
	r.scan("h5", r.addr("h1"))
	d := r.awaitState(bad.String(), "awaiting-approval")
	if n := len(r.emergency()); n != 0 || len(h.of("ticket")) > 0 {
		t.Fatalf("%d rules and %d tickets before approval", n, len(h.of("ticket")))
	}
	if out, err := r.run("approve", d.ID, "--socket", r.socket); err != nil {
		t.Fatalf("approve: %v: %s", err, out)
	}
	r.await("the ticket", func() bool { return len(h.of("ticket")) > 0 })
	if out, err := r.run("playbook", "runs", "--socket", r.socket); err != nil || !strings.Contains(out, d.ID) {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := r.run("playbook", "test", "--socket", r.socket, "--finding", d.Finding); err != nil || !strings.Contains(out, "+ playbook contain-host") {
		t.Errorf("%v: %s", err, out)
	}
}

// A service that a playbook names stops to answer when its host is contained: less
// is done.
func TestProbesOfPlaybooks(t *testing.T) {
	r := newRig(t, "plt-probe")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			c.Close()
		}
	}()
	r.start(quick + r.withPlaybooks(`
- name: careful
  trigger: {kinds: [port-scan]}
  probes: ["tcp://`+l.Addr().String()+`"]
  steps:
  - {name: contain, action: quarantine}
`))
	bad, web := r.addr("h5"), r.addr("h1")
	r.await("the service asked", func() bool { return asked.Load() > 0 })
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	l.Close() // as if it had needed the host
	r.await("one rung down", func() bool {
		return slices.ContainsFunc(r.decisions(), func(e decision) bool { return e.ID == d.ID && e.Action == "segment" })
	})
	r.awaitReach("h5", r.addr("h3"), "one rung down")
}

// A host that is contained attacks in another way: nothing more is done on the
// switch, and the steps for that way are done, once, under the same decision.
func TestContainedHostAttacksAgain(t *testing.T) {
	r := newRig(t, "plt-join")
	h := newHooks(t)
	settings := strings.Replace(strings.Replace(quick, "min_hold: 2s", "min_hold: 2m", 1), "keep_firing: 2s", "keep_firing: 2s, udp_flood: 500", 1)
	r.start(settings + r.withPlaybooks(`
- name: scans
  trigger: {kinds: [port-scan]}
  steps:
  - {name: contain, action: quarantine}
  - {name: tell, action: webhook, with: {url: "`+h.URL+`/scan"}}
- name: floods
  trigger: {kinds: [udp-flood]}
  steps:
  - {name: contain, action: rate-limit}
  - {name: tell, action: webhook, with: {url: "`+h.URL+`/flood"}}
`))
	bad, web := r.addr("h5"), r.addr("h1")
	r.awaitReach("h5", web, "before the scan") // it has to know where to send to
	r.scan("h5", web)
	d := r.awaitState(bad.String(), "verified")
	rules := len(r.emergency())
	stop := r.background("h5", "timeout", "300", "hping3", "-q", "-i", "u200", "--udp", "-p", "9", web.String())
	r.await("the flood told", func() bool { return len(h.of("flood")) > 0 })
	var facts struct {
		Finding  struct{ Kind string }
		Decision struct{ ID string }
	}
	if err := json.Unmarshal([]byte(h.of("flood")[0].body), &facts); err != nil || facts.Finding.Kind != "udp-flood" || facts.Decision.ID != d.ID {
		t.Errorf("%v: %s", err, h.of("flood")[0].body)
	}
	r.await("the end of the run", func() bool { return r.runOf("floods").State == "done" })
	stop()
	if n, m := len(r.decisions()), len(r.emergency()); n != 1 || m != rules {
		t.Errorf("%d decisions, %d rules instead of %d", n, m, rules)
	}
	if n, m := len(h.of("scan")), len(h.of("flood")); n != 1 || m != 1 {
		t.Errorf("told of %d scans and %d floods", n, m)
	}
	r.stop()
	entries := r.audited()
	if e := after(t, &entries, "decision.joined", d.ID); e.Playbook != "floods" || e.Finding == d.Finding {
		t.Errorf("%s", e.Sentence())
	}
}
