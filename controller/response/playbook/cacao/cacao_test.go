package cacao

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

func parse(t testing.TB, text string) playbook.Playbook {
	t.Helper()
	books, err := playbook.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return books[0]
}

// someday is when playbooks are imported.
var someday = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

const ours = `apiVersion: playbook/v1
playbooks:
- name: desk
  about: Tell the desk
  people: 1
  steps:
  - {name: alert, action: alert}
  - {name: ticket, action: webhook, with: {url: "https://desk.example:8443/new?q=1", body: "{}", headers: {X-Team: net}}, timeout: 5s, on_failure: continue}
  - {name: delay, action: wait, with: {for: 2s}}
  - {name: sure, action: ask, with: {title: "Is it the right one?", expires: 30m}, on_failure: stop}
  - {name: maybe, action: ask, with: {title: "Tell them?", expires: 1h, on_timeout: skip}, on_failure: continue}
  - name: both
    parallel:
    - {name: one, action: webhook, with: {url: "https://a.example/", body: "a", content_type: text/plain}, timeout: 1s, on_failure: stop}
    - {name: two, action: webhook, with: {url: "https://b.example/openc2", body: "{}", content_type: application/openc2+json;version=1.0}, timeout: 1s, on_failure: stop}
`

// What was written is what is read, but for the rung, which CACAO does not know.
func TestExportAndImport(t *testing.T) {
	p := parse(t, ours)
	raw, err := Export(&p, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	text, err := Import(raw, someday)
	if err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	got := parse(t, string(text))
	want := p.Rest()
	for i := range want { // what is said without a word is said
		if w, ok := want[i].With.Args.(playbook.Webhook); ok && w.ContentType == "" {
			w.ContentType = "application/json"
			want[i].With.Args = w
		}
		for j := range want[i].Parallel {
			w, _ := want[i].Parallel[j].With.Args.(playbook.Webhook)
			w.Headers = nil
			want[i].Parallel[j].With.Args = w
		}
	}
	if got.Name != "desk" || got.People != 1 || got.About != p.About || !reflect.DeepEqual(got.Steps, want) {
		t.Errorf("got  %+v\nwant %+v\nfrom %s", got.Steps, want, raw)
	}
}

// theirs is a playbook as others write it.
const theirs = `{
 "type": "playbook", "spec_version": "cacao-2.0", "id": "playbook--61a6c41e-6efc-4516-a242-dfbc5c89d562", "name": "Block & tell!",
 "description": "Deny the address,\nthen tell.", "created_by": "identity--5abe695c-7bd5-4c31-8824-2528696cdbf1", "created": "2023-05-26T15:56:00.123456Z",
 "modified": "2023-05-26T15:56:00.123456Z", "workflow_start": "start--1", "labels": ["x"], "playbook_variables": {},
 "workflow": {
  "start--1": {"type": "start", "on_completion": "action--0"},
  "action--0": {"type": "action", "name": "Ask", "on_completion": "action--1", "agent": "individual--1", "commands": [{"type": "manual", "command": "Is it worth it?"}]},
  "action--1": {"type": "action", "name": "Deny", "on_success": "action--2", "on_failure": "end--1", "agent": "openc2--1", "delay": 1000, "timeout": 5000,
   "commands": [{"type": "openc2-http", "command": "POST /openc2-api/ HTTP/1.1", "content_b64": "eyJhY3Rpb24iOiJkZW55In0=", "headers": {"X-Request-ID": ["1", "2"]}}]},
  "action--2": {"type": "action", "name": "Tell", "on_completion": "end--1", "targets": ["http-api--1"], "agent": "soarca--1",
   "commands": [{"type": "http-api", "command": "POST /new HTTP/1.1", "content": "{{not a template}}", "headers": {"Content-Type": ["text/plain"]}}]},
  "end--1": {"type": "end"}
 },
 "agent_definitions": {"individual--1": {"type": "individual", "name": "op"}, "openc2--1": {"type": "http-api", "name": "fw", "address": {"dname": ["fw.example"]}, "port": "8443"}, "soarca--1": {"type": "soarca", "name": "x"}},
 "target_definitions": {"http-api--1": {"type": "http-api", "name": "desk", "address": {"url": ["http://desk.example/api/"]}}}
}`

func TestImport(t *testing.T) {
	text, err := Import([]byte(theirs), someday)
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, string(text))
	if p.Name != "block-tell" || p.About != "Deny the address, then tell." || p.People != 1 || len(p.Steps) != 3 {
		t.Fatalf("%s", text)
	}
	deny, tell := p.Steps[1], p.Steps[2]
	d, _ := deny.With.Args.(playbook.Webhook)
	if p.Steps[0].Action != playbook.ActionWait || deny.Name != "deny" || deny.Timeout != 5*time.Second || deny.OnFailure != playbook.FailStop ||
		d.URL != "https://fw.example:8443/openc2-api/" || d.Body != `{"action":"deny"}` || d.ContentType != openC2Type || d.Headers["X-Request-ID"] != "1, 2" {
		t.Errorf("%s", text)
	}
	rendered, err := tell.Render(playbook.Facts{})
	w, _ := rendered.(playbook.Webhook)
	if err != nil || w.URL != "http://desk.example/api/new" || w.Body != "{{not a template}}" || w.ContentType != "text/plain" || tell.OnFailure != playbook.FailContinue {
		t.Errorf("%v: %+v", err, w)
	}
}

// A manual command in the middle is a question; those before everything are
// approvals.
func TestManualCommandsAsk(t *testing.T) {
	text, err := Import([]byte(strings.Replace(theirs, `"type": "openc2-http", "command": "POST /openc2-api/ HTTP/1.1"`, `"type": "manual", "command": "Pull the {{plug}}"`, 1)), someday)
	if err != nil {
		t.Fatal(err)
	}
	p := parse(t, string(text))
	if p.People != 1 || p.Steps[1].Action != playbook.ActionAsk || p.Steps[1].OnFailure != playbook.FailStop {
		t.Fatalf("%s", text)
	}
	args, err := p.Steps[1].Render(playbook.Facts{})
	if a, ok := args.(playbook.Ask); err != nil || !ok || a.Title != "Pull the {{plug}}" || a.Expires != 5*time.Second || a.OnTimeout != "" {
		t.Errorf("%+v, %v", args, err)
	}
	three := strings.Replace(theirs, `[{"type": "manual", "command": "Is it worth it?"}]`, `[{"type": "manual", "command": "One?"}, {"type": "manual", "command": "Two?"}, {"type": "manual", "command": "Three?"}]`, 1)
	if text, err = Import([]byte(three), someday); err != nil {
		t.Fatal(err)
	}
	if p = parse(t, string(text)); p.People != 2 || p.Steps[0].Action != playbook.ActionAsk {
		t.Errorf("%s", text)
	}
	group := playbook.Playbook{Name: "g", Steps: []playbook.Step{{Name: "a", Action: playbook.ActionAsk, With: playbook.With{Args: playbook.Ask{Title: "x", Groups: []string{"soc"}}}}}}
	raw, err := Export(&group, time.Unix(0, 0))
	if err != nil || !strings.Contains(string(raw), `"type": "group"`) || !strings.Contains(string(raw), `"name": "soc"`) {
		t.Errorf("%v: %s", err, raw)
	}
}

func TestImportRefusesByName(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{`"cacao-2.0"`, `"cacao-1.1"`, `spec_version is "cacao-1.1"`},
		{`"created_by"`, `"made_by"`, "created_by is missing"},
		{`"type": "action", "name": "Tell"`, `"type": "if-condition", "name": "Tell"`, `action--2: steps of type "if-condition"`},
		{`"type": "http-api", "command"`, `"type": "bash", "command"`, `action--2: commands of type "bash"`},
		{`POST /new`, `GET /new`, "only POST"},
		{`"on_failure": "end--1"`, `"on_failure": "action--0"`, "action--1: other steps on failure"},
		{`"on_completion": "end--1"`, `"on_completion": "action--0"`, "round in circles"},
		{`"on_completion": "end--1"`, `"on_completion": "end--9"`, "end--9: there is no such step"},
		{`{not a template}`, `__ip__:value`, "variable __ip__:value"},
		{`"name": "desk",`, `"name": "desk", "authentication_info": "a--1",`, "authentication_info"},
		{`"type": "manual", "command": "Is it worth it?"`, `"type": "ssh", "command": "x"`, `commands of type "ssh"`},
		{`["http-api--1"]`, `["http-api--1", "openc2--1"]`, "several targets"},
		{`["http-api--1"]`, `["nobody"]`, `no target "nobody"`},
		{`eyJhY3Rpb24iOiJkZW55In0=`, `!`, "content_b64"},
		{`http://desk.example/api/`, `ftp://desk.example`, "needs https://"},
		{`"workflow_start"`, `"workflow_exception": "action--1", "workflow_start"`, "workflow_exception"},
	} {
		_, err := Import([]byte(strings.Replace(theirs, c.from, c.to, 1)), someday)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: %v, want %q", c.to, c.from, err, c.want)
		}
	}
	for doc, want := range map[string]string{"{": "is no JSON document", "[]": "the whole is a JSON array", `{"workflow": 7}`: "workflow is a JSON number"} {
		if _, err := Import([]byte(doc), someday); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", doc, err, want)
		}
	}
}

func TestExportRefusesByName(t *testing.T) {
	book := func(step string) string {
		return "apiVersion: playbook/v1\nplaybooks: [{name: p, steps: [" + step + "]}]\n"
	}
	hook := `{name: a, action: webhook, with: {url: "http://x/", body: "{}"}`
	for step, want := range map[string]string{
		`{name: a, action: docker, with: {label: "a=b", do: restart}}`: "step a: action docker",
		`{name: a, action: wait, with: {clean: 1s}}`:                   "step a: action wait",
		`{name: a, action: wait, with: {for: 1s}}`:                     "step a: a wait at the end",
		`{name: a, action: ask, with: {title: "x", people: 2}}`:        "step a: a question to two people",
		`{name: a, action: ask, with: {title: "x", who: [a, b]}}`:      "step a: a question that several may answer",
		`{name: a, action: ask, with: {title: "{{.Run}}"}}`:            "step a: a template",
		`{name: a, action: ask, with: {title: "x", on_timeout: skip}}`: "step a: another answer to no than to none",
		hook + `, if: {severity: high}}`:                               "step a: a condition",
		hook + `, retries: {count: 1}}`:                                "step a: retries",
		hook + `, on_failure: rollback}`:                               "step a: on_failure: rollback",
		`{name: a, action: webhook, with: {url: "http://x/"}}`:         "step a: a webhook without a body",
		strings.Replace(hook, "{}", "{{.Run}}", 1) + "}":               "step a: templates",
	} {
		p := parse(t, book(step))
		if _, err := Export(&p, time.Unix(0, 0)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", step, err, want)
		}
	}
	p := parse(t, book(`{name: contain, action: quarantine}`))
	raw, err := Export(&p, time.Unix(0, 0))
	if err != nil || !strings.Contains(string(raw), "Contain the attacker: quarantine.") {
		t.Errorf("%v: %s", err, raw)
	}
}

func FuzzImport(f *testing.F) {
	f.Add([]byte(theirs))
	p := parse(f, ours)
	raw, err := Export(&p, time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if text, err := Import(raw, someday); err == nil {
			parse(t, string(text))
		}
	})
}
