package cacao

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

func theirSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(filepath.Join("testdata", "cacao-2.0.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// conforms holds a playbook against the schema, and against what the
// specification demands and no schema can say.
func conforms(schema *jsonschema.Schema, raw []byte) error {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if err := schema.Validate(v); err != nil {
		return err
	}
	var d document
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	if err := uniqueUUIDs(&d); err != nil {
		return err
	}
	if d.Workflow[d.Start].Type != stepStart || d.Modified < d.Created {
		return fmt.Errorf("begins with %s, was made at %s and changed at %s", d.Start, d.Created, d.Modified)
	}
	actions, used := false, map[string]bool{d.Start: true, d.Exception: true}
	for id, s := range d.Workflow {
		if !strings.HasPrefix(id, s.Type+"--") {
			return fmt.Errorf("%s is of type %s", id, s.Type)
		}
		actions = actions || s.Type == stepAction
		for _, next := range append(s.NextSteps, s.OnCompletion, s.OnSuccess, s.OnFailure) {
			if _, ok := d.Workflow[next]; next != "" && !ok {
				return fmt.Errorf("%s leads to %s, which is not there", id, next)
			}
			used[next] = true
		}
		if err := parties(&d, id); err != nil {
			return err
		}
		if err := ends(&d, id); err != nil {
			return err
		}
	}
	for id := range d.Workflow {
		if !used[id] {
			return fmt.Errorf("nothing leads to %s", id)
		}
	}
	if !actions {
		return fmt.Errorf("no action: a playbook has a start, an action and an end (section 3.1)")
	}
	return reflected(&d)
}

// uniqueUUIDs: no UUID is used twice, whatever stands before it (section 10.10).
func uniqueUUIDs(d *document) error {
	seen := map[string]string{}
	ids := []string{d.ID, d.CreatedBy}
	for id := range d.Workflow {
		ids = append(ids, id)
	}
	for id := range d.Agents {
		ids = append(ids, id)
	}
	for id := range d.Targets {
		ids = append(ids, id)
	}
	for _, id := range ids {
		_, u, _ := strings.Cut(id, "--")
		if seen[u] != "" {
			return fmt.Errorf("%s has the UUID of %s", id, seen[u])
		}
		seen[u] = id
	}
	return nil
}

// parties: agents and targets are defined, and their keys say their type.
func parties(d *document, id string) error {
	s := d.Workflow[id]
	if a, ok := d.Agents[s.Agent]; s.Agent != "" && (!ok || !strings.HasPrefix(s.Agent, a.Type+"--")) {
		return fmt.Errorf("%s has no agent %s of type %q", id, s.Agent, a.Type)
	}
	for _, target := range s.Targets {
		if a, ok := d.Targets[target]; !ok || !strings.HasPrefix(target, a.Type+"--") {
			return fmt.Errorf("%s has no target %s of type %q", id, target, a.Type)
		}
	}
	return nil
}

// ends: each branch leads to one end, and to one of its own (section 4.7).
func ends(d *document, id string) error {
	mine := map[string]string{}
	for _, first := range d.Workflow[id].NextSteps {
		found, next := map[string]bool{}, []string{first}
		for len(next) > 0 {
			s := d.Workflow[next[0]]
			if s.Type == stepEnd {
				found[next[0]] = true
			}
			next = next[1:]
			for _, n := range []string{s.OnCompletion, s.OnSuccess, s.OnFailure} {
				if n != "" {
					next = append(next, n)
				}
			}
		}
		if len(found) != 1 {
			return fmt.Errorf("branch %s of %s has %d ends", first, id, len(found))
		}
		for end := range found {
			if mine[end] != "" {
				return fmt.Errorf("branches %s and %s of %s share an end", first, mine[end], id)
			}
			mine[end] = first
		}
	}
	return nil
}

// reflected: what a playbook says that it does, one of its commands does.
func reflected(d *document) error {
	var done []string
	for _, s := range d.Workflow {
		for _, c := range s.Commands {
			done = append(done, c.Activity)
		}
	}
	for _, a := range d.Activities {
		if !slices.Contains(done, a) {
			return fmt.Errorf("no command does %s", a)
		}
	}
	return nil
}

// The playbooks that come with the program are said as CACAO wants it, or
// refused by name.
func TestDefaultsConform(t *testing.T) {
	schema := theirSchema(t)
	books, err := playbook.Default()
	if err != nil {
		t.Fatal(err)
	}
	said := 0
	for _, p := range books {
		raw, err := Export(&p, someday)
		if !p.Rung().Acts() {
			if err == nil || !strings.Contains(err.Error(), "playbook "+p.Name+": nothing that it does") {
				t.Errorf("%s does nothing and is exported: %v", p.Name, err)
			}
			continue
		}
		if err == nil {
			err = conforms(schema, raw)
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", p.Name, err, raw)
		}
		if _, err := Import(raw, someday); err == nil || !strings.Contains(err.Error(), "nothing in it can be said here") {
			t.Errorf("%s has a rung only, which is not imported: %v", p.Name, err)
		}
		said++
	}
	if said < 3 {
		t.Errorf("%d playbooks were looked at", said)
	}
}

// drawStep makes a step that CACAO can say.
func drawStep(t *rapid.T, name string, branch bool) playbook.Step {
	s := playbook.Step{Name: name, OnFailure: rapid.SampledFrom([]playbook.OnFailure{"", playbook.FailStop, playbook.FailContinue}).Draw(t, "on_failure")}
	kinds := []playbook.Action{playbook.ActionWebhook, playbook.ActionWebhook, playbook.ActionAsk}
	if !branch {
		kinds = append(kinds, playbook.ActionWait, "")
	}
	switch s.Action = rapid.SampledFrom(kinds).Draw(t, "action"); s.Action {
	case "":
		s.OnFailure = ""
		for i := range rapid.IntRange(2, 4).Draw(t, "branches") {
			s.Parallel = append(s.Parallel, drawStep(t, fmt.Sprintf("%s-%d", name, i), true))
		}
	case playbook.ActionWait:
		s.OnFailure = ""
		s.With.Args = playbook.Wait{For: time.Duration(rapid.IntRange(1, 1e6).Draw(t, "for")) * time.Millisecond}
	case playbook.ActionAsk:
		a := playbook.Ask{Title: rapid.SampledFrom([]string{"Go on?", "\"Why\"", "ist es so?"}).Draw(t, "title"), Expires: time.Duration(rapid.IntRange(1000, 1e6).Draw(t, "expires")) * time.Millisecond}
		if s.OnFailure == playbook.FailContinue {
			a.OnTimeout = playbook.TimeoutSkip
		}
		s.With.Args = a
	case playbook.ActionWebhook:
		host := rapid.SampledFrom([]string{"desk.example", "desk", "192.0.2.7", "[2001:db8::7]"}).Draw(t, "host") + rapid.SampledFrom([]string{"", ":80", ":443", ":8080", ":8443"}).Draw(t, "port")
		s.With.Args = playbook.Webhook{
			URL:         rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme") + "://" + host + rapid.SampledFrom([]string{"", "/", "/new?a=b&c=%20", "/a/b"}).Draw(t, "path"),
			Body:        rapid.SampledFrom([]string{"{}", "x", "\x00\u2028\""}).Draw(t, "body"),
			ContentType: rapid.SampledFrom([]string{"", "text/plain", "application/openc2+json;version=1.0", "application/openc2-cmd+json;version=1.0"}).Draw(t, "type"),
			Headers:     rapid.SampledFrom([]map[string]string{nil, {"X-Team": "net"}, {"X-A": "1, 2", "X-B": ""}}).Draw(t, "headers"),
		}
		s.Timeout = time.Duration(rapid.IntRange(1, 1e6).Draw(t, "timeout")) * time.Millisecond
	}
	return s
}

// drawBook makes a playbook that CACAO can say.
func drawBook(t *rapid.T) playbook.Playbook {
	p := playbook.Playbook{Name: rapid.StringMatching(`[a-z][a-z0-9-]{0,20}[a-z0-9]`).Draw(t, "name"), About: rapid.SampledFrom([]string{"", "What <it> \"is\" for"}).Draw(t, "about"),
		People: rapid.IntRange(0, 2).Draw(t, "people")}
	p.Name = plainName(strings.ReplaceAll(p.Name, "--", "-"))
	if rung := rapid.SampledFrom(append(response.Ladder(), "")).Draw(t, "rung"); rung != "" {
		p.Steps = append(p.Steps, playbook.Step{Name: "contain", Action: playbook.Action(rung)})
	}
	names := []string{"rung", "approval-1", "failed", "a", "b", "delay"}
	for i := range rapid.IntRange(1, 5).Draw(t, "steps") {
		p.Steps = append(p.Steps, drawStep(t, names[i], false))
	}
	last := &p.Steps[len(p.Steps)-1]
	if last.Action == playbook.ActionWait { // of which nothing would be left
		last.Action, last.With.Args = playbook.ActionAsk, playbook.Ask{Title: "?"}
	}
	return p
}

// meaning is what CACAO can say of a playbook, with what goes without saying said.
func meaning(p *playbook.Playbook) (steps []playbook.Step) {
	var wait time.Duration
	for _, s := range p.Rest() {
		if w, ok := s.With.Args.(playbook.Wait); ok {
			wait += w.For
			continue
		}
		if wait > 0 {
			steps = append(steps, playbook.Step{Action: playbook.ActionWait, With: playbook.With{Args: playbook.Wait{For: wait}}})
			wait = 0
		}
		for i := range s.Parallel {
			s.Parallel[i] = plainly(s.Parallel[i])
		}
		steps = append(steps, plainly(s))
	}
	return steps
}

func plainly(s playbook.Step) playbook.Step {
	s.Timeout = s.Deadline()
	if s.OnFailure == "" && len(s.Parallel) == 0 {
		s.OnFailure = playbook.FailStop
	}
	switch a := s.With.Args.(type) {
	case playbook.Webhook:
		if a.ContentType == "" {
			a.ContentType = "application/json"
		}
		if len(a.Headers) == 0 {
			a.Headers = nil
		}
		a.URL = strings.Replace(strings.Replace(a.URL, "https://", "https:443//", 1), "http://", "http:80//", 1) // a port that goes without saying
		for _, x := range []string{"https:443//", "http:80//"} {
			scheme, port, _ := strings.Cut(strings.TrimSuffix(x, "//"), ":")
			if rest, ok := strings.CutPrefix(a.URL, x); ok {
				host, path, _ := strings.Cut(rest, "/")
				a.URL = scheme + "://" + strings.TrimSuffix(host, ":"+port) + "/" + path
			}
		}
		s.With.Args = a
	case playbook.Ask:
		a.Expires = s.Deadline()
		s.With.Args = a
	}
	return s
}

// Whatever playbook CACAO can say is one that OASIS's schemas take, and is read
// again as what it was.
func TestRandomPlaybooksConform(t *testing.T) {
	schema := theirSchema(t)
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawBook(t)
		text, err := playbook.Write([]playbook.Playbook{drawn})
		if err != nil {
			t.Fatal(err)
		}
		books, err := playbook.Parse("drawn.yaml", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		p := books[0]
		raw, err := Export(&p, someday)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if err := conforms(schema, raw); err != nil {
			t.Fatalf("%v\n%s\n%s", err, text, raw)
		}
		read, err := Import(raw, someday)
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		again, err := playbook.Parse("read.yaml", read)
		if err != nil {
			t.Fatalf("%v\n%s", err, read)
		}
		got, want := meaning(&again[0]), meaning(&p)
		for i := range min(len(got), len(want)) {
			if want[i].Action == playbook.ActionWait {
				got[i].Name, got[i].Timeout, got[i].OnFailure = "", 0, "" // has another name
			}
			if want[i].Name == "delay" { // the name of a wait as well
				got[i].Name = "delay"
			}
		}
		if again[0].Name != p.Name || again[0].People != p.People || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v\nwant %+v\n%s\n%s", got, want, text, read)
		}
	})
}
