package cacao

import (
	"fmt"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// soarca is a playbook of the shape of those that SOARCA, the open implementation
// of CACAO, comes with (github.com/COSSAS/SOARCA, examples): an exception that
// ends, agents of types of its own, metadata that says nothing here, targets with a
// name and no port.
func soarca(step, more string) string {
	return fmt.Sprintf(`{"type": "playbook", "spec_version": "cacao-2.0", "id": "playbook--300270f9-0e64-42c8-93cc-0927edbe3ae7", "name": "Example",
 "playbook_types": ["notification"], "created_by": "identity--96abab60-238a-44ff-8962-5806aa60cbce", "created": "2023-11-20T15:56:00.123456Z", "modified": "2023-11-20T15:56:00.123456Z",
 "revoked": false, "valid_from": "2023-11-20T15:56:00.123456Z", "valid_until": "2123-11-20T15:56:00.123456Z", "priority": 1, "severity": 1, "impact": 1, "labels": ["soarca"],
 "external_references": [{"description": "somebody"}],
 "agent_definitions": {"soarca--00020001-1000-1000-a000-000100010001": {"type": "soarca-http-api", "name": "soarca-http-api"}},
 "target_definitions": {"http-api--1c3900b4-f86b-430d-b415-12312b9e31f4": {"type": "http-api", "name": "desk", "address": {"dname": ["desk.example"]}},
  "individual--9d1f6217-34d5-435c-b29a-6a1af6b664d9": {"type": "individual", "name": "Ann", "location": {"name": "Lab"}}},
 "workflow_start": "start--9e7d62b2-88ac-4656-94e1-dbd4413ba008", "workflow_exception": "end--a6f0b81e-affb-4bca-b4f6-a2d5af908958", %s
 "workflow": {
  "start--9e7d62b2-88ac-4656-94e1-dbd4413ba008": {"type": "start", "name": "Start", "on_completion": "X--eb9372d4-d524-49fc-bf24-be26ea084779"},
  "X--eb9372d4-d524-49fc-bf24-be26ea084779": {"name": "do", %s},
  "end--a6f0b81e-affb-4bca-b4f6-a2d5af908958": {"type": "end", "name": "End Flow"}}}`, more, step)
}

// act is a step that does one command at the target.
func act(command string) string {
	return `"type": "action", "on_completion": "end--a6f0b81e-affb-4bca-b4f6-a2d5af908958", "agent": "soarca--00020001-1000-1000-a000-000100010001",
 "targets": ["http-api--1c3900b4-f86b-430d-b415-12312b9e31f4"], "commands": [` + command + `]`
}

func TestImportOfOthersPlaybooks(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		check     func(p playbook.Playbook) bool
	}{
		{"a request", soarca(act(`{"type": "http-api", "command": "POST post HTTP1.1", "content": "x"}`), ""), func(p playbook.Playbook) bool {
			w, ok := p.Steps[0].With.Args.(playbook.Webhook)
			return ok && w.URL == "http://desk.example/post" && w.Body == "x" && p.Steps[0].OnFailure == playbook.FailContinue
		}},
		{"OpenC2", soarca(act(`{"type": "openc2-http", "command": "POST /openc2 HTTP/1.1", "content_b64": "e30="}`), ""), func(p playbook.Playbook) bool {
			w, ok := p.Steps[0].With.Args.(playbook.Webhook)
			return ok && w.URL == "http://desk.example/openc2" && w.Body == "{}" && w.ContentType == openC2Type
		}},
		{"a person, and then a request", strings.Replace(soarca(act(`{"type": "manual", "command": "prepare"}, {"type": "http-api", "command": "POST / HTTP/1.1"}`)+`, "out_args": ["__done__"],
			"step_variables": {"__done__": {"type": "string"}}`, ""), `["http-api`, `["http-api`, 1), func(p playbook.Playbook) bool {
			return p.People == 1 && len(p.Steps) == 1
		}},
		{"a person, and nothing to approve", soarca(act(`{"type": "manual", "command": "prepare"}, {"type": "manual", "command_b64": "Z28="}`), ""), func(p playbook.Playbook) bool {
			a, ok := p.Steps[1].With.Args.(playbook.Ask)
			return p.People == 0 && len(p.Steps) == 2 && ok && a.Title == "go"
		}},
	} {
		text, err := Import([]byte(c.doc), someday)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if p := parse(t, string(text)); !c.check(p) {
			t.Errorf("%s: %s", c.name, text)
		}
	}
}

// What of theirs cannot be said here is refused by the name of what it is.
func TestImportRefusesOthersByName(t *testing.T) {
	post := act(`{"type": "http-api", "command": "POST / HTTP/1.1"}`)
	refused := map[string]string{
		soarca(act(`{"type": "http-api", "command": "GET get HTTP1.1"}`), ""):                         "only POST",
		soarca(act(`{"type": "http-api", "command": "POST http://10.0.0.1/x HTTP/1.1"}`), ""):         "needs a path",
		soarca(`"type": "parallel", "next_steps": ["end--a6f0b81e-affb-4bca-b4f6-a2d5af908958"]`, ""): `a branch of type "end"`,
		soarca(post, `"revoked": true,`):                                                                           "revoked",
		strings.Replace(soarca(post, ""), "2123-", "2024-", 1):                                                     "valid_until: it was not to be used after 2024-11-20",
		strings.Replace(soarca(post, ""), `"valid_from": "2023-`, `"valid_from": "2027-`, 1):                       "valid_from: it is not to be used before 2027-11-20",
		soarca(post, `"playbook_extensions": {"extension-definition--1": {}},`):                                    "playbook_extensions: extension-definition--1",
		soarca(post+`, "step_extensions": {"extension-definition--2": {"type": "soarca-assignment"}}`, ""):         "step_extensions: extension-definition--2",
		soarca(post+`, "on_failure": "end--a6f0b81e-affb-4bca-b4f6-a2d5af908958"`, ""):                             "on_completion stands beside",
		strings.Replace(soarca(post, ""), `{"dname": ["desk.example"]}`, `{"url": ["http://d/"]}, "port": "1"`, 1): "http://d/ is not at port 1",
	}
	for _, kind := range []string{"bash", "caldera-cmd", "elastic", "jupyter", "kestrel", "openc2", "powershell", "sigma", "ssh", "yara"} {
		refused[soarca(act(fmt.Sprintf(`{"type": %q, "command": "x"}`, kind)), "")] = fmt.Sprintf("X--eb9372d4-d524-49fc-bf24-be26ea084779: commands of type %q", kind)
	}
	for _, kind := range []string{"playbook-action", "if-condition", "while-condition", "switch-condition"} {
		refused[soarca(fmt.Sprintf(`"type": %q, "on_completion": "end--a6f0b81e-affb-4bca-b4f6-a2d5af908958"`, kind), "")] = fmt.Sprintf("steps of type %q", kind)
	}
	for doc, want := range refused {
		if _, err := Import([]byte(doc), someday); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s in\n%s", err, want, doc)
		}
	}
}

// forked is a playbook with two branches; how they and their step end is given.
func forked(fork, one, two string) string {
	branch := func(id, ends string) string {
		return fmt.Sprintf(`"action--%s": {"type": "action", "name": "b%s", "agent": "http-api--1", "commands": [{"type": "http-api", "command": "POST /%s HTTP/1.1"}], %s},`, id, id, id, ends)
	}
	return `{"type": "playbook", "spec_version": "cacao-2.0", "id": "playbook--1", "name": "n", "created_by": "identity--1", "created": "x", "modified": "x", "workflow_start": "start--1", "workflow": {
 "start--1": {"type": "start", "on_completion": "parallel--1", "delay": 2000},
 "parallel--1": {"type": "parallel", "next_steps": ["action--1", "action--2"], ` + fork + `},` + branch("1", one) + branch("2", two) + `
 "action--3": {"type": "action", "name": "after", "agent": "http-api--1", "commands": [{"type": "http-api", "command": "POST /3 HTTP/1.1"}], "on_completion": "end--0"},
 "end--0": {"type": "end"}, "end--1": {"type": "end"}, "end--2": {"type": "end"}},
 "agent_definitions": {"http-api--1": {"type": "http-api", "name": "x", "address": {"url": ["https://x.example"]}}}}`
}

// A branch that ends goes back to the step of the branches, whatever came of it;
// only what nobody handles, or what that step takes for a failure, ends the playbook.
func TestImportOfBranches(t *testing.T) {
	const (
		ends1, ends2 = `"on_completion": "end--1"`, `"on_completion": "end--2"`
		handled      = `"on_success": "end--1", "on_failure": "end--1"`
		stop, on     = playbook.FailStop, playbook.FailContinue
	)
	for _, c := range []struct {
		fork, one, two string
		want           [2]playbook.OnFailure
	}{
		{`"on_completion": "action--3"`, ends1, ends2, [2]playbook.OnFailure{on, on}},
		{`"on_completion": "action--3"`, handled, `"on_success": "end--2"`, [2]playbook.OnFailure{on, stop}},
		{`"on_success": "action--3", "on_failure": "end--0"`, ends1, `"on_success": "end--2"`, [2]playbook.OnFailure{stop, stop}},
		{`"on_success": "action--3"`, ends1, ends2, [2]playbook.OnFailure{stop, stop}},
		{`"on_success": "action--3", "on_failure": "action--3"`, ends1, `"on_success": "end--2"`, [2]playbook.OnFailure{on, stop}},
	} {
		text, err := Import([]byte(forked(c.fork, c.one, c.two)), someday)
		if err != nil {
			t.Errorf("%s: %v", c.fork, err)
			continue
		}
		p := parse(t, string(text))
		if len(p.Steps) != 3 || p.Steps[0].Action != playbook.ActionWait || p.Steps[1].Parallel[0].OnFailure != c.want[0] || p.Steps[1].Parallel[1].OnFailure != c.want[1] {
			t.Errorf("%s, %s, %s: want %v of\n%s", c.fork, c.one, c.two, c.want, text)
		}
	}
	for fork, want := range map[string]string{
		`"on_success": "action--3", "on_failure": "action--3x"`: "other steps on failure",
		`"on_completion": "action--3", "timeout": 1`:            "a timeout of all branches",
	} {
		if _, err := Import([]byte(forked(fork, ends1, ends2)), someday); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", fork, err)
		}
	}
	if _, err := Import([]byte(forked(`"on_completion": "action--3"`, `"on_success": "end--1", "on_failure": "end--0"`, ends2)), someday); err == nil || !strings.Contains(err.Error(), "a branch has one end") {
		t.Errorf("a branch with two ends: %v", err)
	}
}
