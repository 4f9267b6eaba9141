package controller_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/audit"
)

// asking is a run with its questions.
type asking struct {
	ID, Playbook, State string
	Asks                []string
	Steps               map[string]struct {
		State    string
		Question struct {
			Title   string
			Expires time.Time
			Answers []struct {
				Who, Why string
				Yes      bool
			}
		}
	}
}

func (r *rig) runOf(playbook string) (x asking) {
	var all []asking
	if r.get("runs", &all) != nil {
		return x
	}
	for _, one := range all {
		if one.Playbook == playbook {
			return one
		}
	}
	return x
}

// A question in the middle of a playbook outlives a controller that is killed while
// it waits, with its time to answer; the answer is given by command, and what
// follows is done once.
func TestQuestionOutlivesTheController(t *testing.T) {
	r := newRig(t, "plt-asks")
	h := newHooks(t)
	settings := quick + r.withPlaybooks(`
- name: careful
  trigger: {kinds: [port-scan]}
  steps:
  - {name: contain, action: quarantine}
  - {name: ticket, action: webhook, with: {url: "`+h.URL+`/ticket"}}
  - name: sure
    action: ask
    with: {title: "Set {{.Host.Address}} up anew?", groups: [root], expires: 1h}
  - {name: redeploy, action: webhook, with: {url: "`+h.URL+`/redeploy"}}
`)
	r.start(settings)
	bad := r.addr("h5")
	r.scan("h5", r.addr("h1"))
	r.await("the question", func() bool { return len(r.runOf("careful").Asks) == 1 })
	before := r.runOf("careful")
	r.kill()
	r.start(settings)
	r.await("the same question", func() bool { return len(r.runOf("careful").Asks) == 1 })
	now := r.runOf("careful")
	if q := now.Steps["sure"].Question; now.ID != before.ID || now.Asks[0] != before.Asks[0] || !q.Expires.Equal(before.Steps["sure"].Question.Expires) || q.Title != "Set "+bad.String()+" up anew?" {
		t.Errorf("before %s\nafter %s", pretty(before), pretty(now))
	}
	if out, err := r.run("playbook", "runs", "--socket", r.socket); err != nil || !strings.Contains(out, now.Asks[0]) {
		t.Errorf("%v: %s", err, out)
	}
	if n := len(h.of("redeploy")); n > 0 {
		t.Fatal("nobody has answered")
	}
	if out, err := r.run("approve", now.Asks[0], "--why", "it is a test host", "--socket", r.socket); err != nil {
		t.Fatalf("approve: %v: %s", err, out)
	}
	r.await("the end of the run", func() bool { return r.runOf("careful").State == "done" })
	if a := r.runOf("careful").Steps["sure"].Question.Answers; len(a) != 1 || !a[0].Yes || a[0].Who == "" || a[0].Why != "it is a test host" {
		t.Errorf("answers %+v", a)
	}
	if n, m := len(h.of("ticket")), len(h.of("redeploy")); n != 1 || m != 1 {
		t.Errorf("%d tickets, set up anew %d times", n, m)
	}
	if out, err := r.run("reject", now.Asks[0], "--socket", r.socket); err == nil {
		t.Errorf("answered twice: %s", out)
	}
	r.stop()
	if !slices.ContainsFunc(r.audited(), func(e audit.Entry) bool { return e.Why == "it is a test host" && e.Decision == now.Asks[0] }) {
		t.Error("the audit log does not say why it was approved")
	}
}
