package cacao

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// Export writes a playbook for others. The rung of the ladder becomes a manual
// command that tells what to do, approvals become manual commands before it, and
// questions manual commands in their place. Templates, conditions, retries,
// rollbacks and all actions but webhook, ask and a wait for a time are refused by
// name.
func Export(p *playbook.Playbook, now time.Time) ([]byte, error) {
	at := now.UTC().Format("2006-01-02T15:04:05.000Z")
	out := exporter{book: p.Name, doc: document{
		Type: typePlaybook, SpecVersion: version, ID: uuid(typePlaybook, p.Name), Name: p.Name, Description: p.About, Types: []string{"mitigation"},
		CreatedBy: uuid("identity", "platelet"), Created: at, Modified: at, Workflow: map[string]step{}, Agents: map[string]agent{}, Targets: map[string]agent{},
	}}
	if err := out.steps(p); err != nil {
		return nil, fmt.Errorf("playbook %s: %w", p.Name, err)
	}
	raw, err := json.MarshalIndent(out.doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("playbook %s: %w", p.Name, err)
	}
	return append(raw, '\n'), nil
}

type exporter struct {
	book string
	doc  document
}

func (x *exporter) steps(p *playbook.Playbook) error {
	end := uuid(stepEnd, x.book)
	failed := uuid(stepEnd, x.book+"/failed") // of its own, so that it is not what follows on success
	x.doc.Workflow[end], x.doc.Workflow[failed] = step{Type: stepEnd}, step{Type: stepEnd}
	next := end
	rest := p.Rest()
	for i := len(rest) - 1; i >= 0; i-- { // from behind: each names the one after it
		s := &rest[i]
		if err := plain(s); err != nil {
			return err
		}
		if w, ok := s.With.Args.(playbook.Wait); ok && w.For > 0 {
			if next == end {
				return fmt.Errorf("step %s: a wait at the end cannot be said in CACAO", s.Name)
			}
			after := x.doc.Workflow[next]
			after.Delay += w.For.Milliseconds()
			x.doc.Workflow[next] = after
			continue
		}
		id, err := x.one(s, next, end, failed)
		if err != nil {
			return err
		}
		next = id
	}
	switch rung := p.Rung(); {
	case rung.Contains():
		next = x.manual("rung", fmt.Sprintf("Contain the attacker: %s. Platelet does so by itself.", rung), next, failed)
	case rung.Acts():
		next = x.manual("rung", fmt.Sprintf("Look at the suspect: %s. Platelet does so by itself.", rung), next, failed)
	}
	for i := range p.People {
		next = x.manual(fmt.Sprintf("approval %d", i+1), "Approve what follows.", next, failed)
	}
	x.doc.Start = uuid(stepStart, x.book)
	x.doc.Workflow[x.doc.Start] = step{Type: stepStart, OnCompletion: next}
	return nil
}

// plain refuses what CACAO, or another program that reads it, does not know.
func plain(s *playbook.Step) error {
	what := ""
	switch {
	case s.If != nil || s.Unless != nil:
		what = "a condition"
	case s.Retries.Count > 0:
		what = "retries"
	case s.Rollback != nil:
		what = "a rollback"
	case s.OnFailure == playbook.FailRollback:
		what = "on_failure: rollback"
	}
	if what != "" {
		return fmt.Errorf("step %s: %s cannot be said in CACAO", s.Name, what)
	}
	return nil
}

func (x *exporter) manual(name, text, next, failed string) string {
	id := uuid(stepAction, x.book+"/"+name)
	x.doc.Workflow[id] = step{Type: stepAction, Name: name, Commands: []command{{Type: commandManual, Command: text}},
		Agent: x.person("individual", "operator"), OnSuccess: next, OnFailure: failed}
	return id
}

// person is an agent who carries out what is manual.
func (x *exporter) person(kind, name string) string {
	id := uuid(kind, name)
	x.doc.Agents[id] = agent{Type: kind, Name: name}
	return id
}

// question becomes a manual command.
func (x *exporter) question(s *playbook.Step, a playbook.Ask, next, failed string) (string, error) {
	what := ""
	switch {
	case a.People > 1:
		what = "a question to two people"
	case len(a.Who)+len(a.Groups) > 1:
		what = "a question that several may answer"
	case strings.Contains(a.Title, "{{"):
		what = "a template"
	case (s.OnFailure == playbook.FailContinue) != (a.OnTimeout == playbook.TimeoutSkip) || a.OnTimeout == playbook.TimeoutRollback:
		what = "another answer to no than to none"
	}
	if what != "" {
		return "", fmt.Errorf("step %s: %s cannot be said in CACAO", s.Name, what)
	}
	id := x.manual(s.Name, a.Title, next, failed)
	out := x.doc.Workflow[id]
	out.Timeout = s.Deadline().Milliseconds()
	for _, name := range a.Who {
		out.Agent = x.person("individual", name)
	}
	for _, name := range a.Groups {
		out.Agent = x.person("group", name)
	}
	if s.OnFailure == playbook.FailContinue {
		out.OnFailure = next
	}
	x.doc.Workflow[id] = out
	return id, nil
}

func (x *exporter) one(s *playbook.Step, next, end, failed string) (string, error) {
	if len(s.Parallel) == 0 {
		return x.action(s, next, failed)
	}
	id := uuid(stepParallel, x.book+"/"+s.Name)
	out := step{Type: stepParallel, Name: s.Name, OnCompletion: next}
	for i := range s.Parallel {
		if err := plain(&s.Parallel[i]); err != nil {
			return "", err
		}
		branch, err := x.action(&s.Parallel[i], end, failed)
		if err != nil {
			return "", err
		}
		out.NextSteps = append(out.NextSteps, branch)
	}
	x.doc.Workflow[id] = out
	return id, nil
}

func (x *exporter) action(s *playbook.Step, next, failed string) (string, error) {
	if a, ok := s.With.Args.(playbook.Ask); ok {
		return x.question(s, a, next, failed)
	}
	w, ok := s.With.Args.(playbook.Webhook)
	if !ok {
		return "", fmt.Errorf("step %s: action %s cannot be said in CACAO", s.Name, s.Action)
	}
	for _, text := range []string{w.URL, w.Body, fmt.Sprint(w.Headers), w.ContentType} {
		if strings.Contains(text, "{{") {
			return "", fmt.Errorf("step %s: templates cannot be said in CACAO", s.Name)
		}
	}
	if w.Body == "" || w.Secret != "" || len(w.SecretHeaders) > 0 || w.CA != "" {
		return "", fmt.Errorf("step %s: a webhook without a body, or with files, cannot be said in CACAO", s.Name)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return "", fmt.Errorf("step %s: %w", s.Name, err)
	}
	c := command{Type: commandHTTP, Command: "POST " + u.RequestURI() + " HTTP/1.1", Content: w.Body, Headers: map[string][]string{"Content-Type": {w.ContentType}}}
	switch {
	case w.ContentType == "":
		c.Headers["Content-Type"] = []string{"application/json"}
	case strings.HasPrefix(w.ContentType, "application/openc2+json"):
		c.Type = commandOpenC2
	}
	for name, value := range w.Headers {
		c.Headers[name] = []string{value}
	}
	base := u.Scheme + "://" + u.Host
	target := uuid("http-api", base)
	x.doc.Targets[target] = agent{Type: "http-api", Name: u.Host, Address: map[string][]string{"url": {base}}}
	x.doc.Agents[target] = x.doc.Targets[target]
	out := step{Type: stepAction, Name: s.Name, Commands: []command{c}, Agent: target, Targets: []string{target}, Timeout: s.Deadline().Milliseconds(), OnSuccess: next, OnFailure: failed}
	if s.OnFailure == playbook.FailContinue {
		out.OnFailure = next
	}
	id := uuid(stepAction, x.book+"/"+s.Name)
	x.doc.Workflow[id] = out
	return id, nil
}

// uuid makes an identifier of a name (RFC 9562, version 5), so that the same
// playbook is the same one at others.
func uuid(kind, name string) string {
	const namespace = "b0c4a6de-7d3f-4f6b-8a0e-6f6f5a1d2c33"
	sum := sha1.Sum([]byte(namespace + kind + name))
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%s--%x-%x-%x-%x-%x", kind, sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
