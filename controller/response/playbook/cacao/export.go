package cacao

import (
	"cmp"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// Export writes a playbook for others. The rung of the ladder becomes a manual
// command that tells what to do, approvals become manual commands before it, and
// questions manual commands in their place. Templates, conditions, retries,
// rollbacks and all actions but webhook, ask and a wait for a time are refused by
// name. What is written is held against what OASIS publishes (conformance_test.go).
func Export(p *playbook.Playbook, now time.Time) ([]byte, error) {
	out := exporter{book: p.Name, doc: document{
		Type: typePlaybook, SpecVersion: version, Name: p.Name, Description: p.About, CreatedBy: createdBy, Created: created,
		Modified: now.UTC().Format("2006-01-02T15:04:05.000Z"), Workflow: map[string]step{}, Agents: map[string]agent{}, Targets: map[string]agent{},
	}}
	if err := out.steps(p); err != nil {
		return nil, fmt.Errorf("playbook %s: %w", p.Name, err)
	}
	if err := out.finish(); err != nil {
		return nil, fmt.Errorf("playbook %s: %w", p.Name, err)
	}
	raw, err := json.MarshalIndent(out.doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("playbook %s: %w", p.Name, err)
	}
	return append(raw, '\n'), nil
}

// created is the same in every version of a playbook, as the standard asks; the
// author may choose it (section 3.1).
const created = "2026-01-01T00:00:00.000Z"

type exporter struct {
	book string
	doc  document
}

// finish gives the playbook what depends on its steps: its purpose, the
// activities that the standard wants beside it, and its identifier.
func (x *exporter) finish() error {
	purpose, acts, reached := "notification", false, map[string]bool{x.doc.Exception: true}
	for _, id := range slices.Sorted(maps.Keys(x.doc.Workflow)) {
		s := x.doc.Workflow[id]
		acts = acts || s.Type == stepAction
		for _, next := range append(s.NextSteps, s.OnCompletion, s.OnSuccess, s.OnFailure) {
			reached[next] = true
		}
		for _, c := range s.Commands {
			if c.Activity != "" && !slices.Contains(x.doc.Activities, c.Activity) {
				x.doc.Activities = append(x.doc.Activities, c.Activity)
			}
			if c.Activity == actRestrict || c.Activity == actDisconnect {
				purpose = "mitigation"
			}
		}
	}
	maps.DeleteFunc(x.doc.Workflow, func(id string, s step) bool { return s.Type == stepEnd && !reached[id] }) // nothing failed
	if !acts {
		return fmt.Errorf("nothing that it does can be said in CACAO")
	}
	slices.Sort(x.doc.Activities)
	if len(x.doc.Activities) > 0 {
		x.doc.Types = []string{purpose}
	}
	var err error
	x.doc.ID, err = bookID(x.doc.Name, x.doc.Types)
	return err
}

// The activities of the standard's vocabulary (section 3.1.2) that commands of
// ours are.
const (
	actRestrict   = "restrict-access"
	actDisconnect = "disconnect-system"
	actAnalyze    = "analyze-collected-data"
	actConfigure  = "configure-systems"
	actDeliver    = "deliver-content"
)

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
		id, err := x.one(s, next, failed)
		if err != nil {
			return err
		}
		next = id
	}
	if rung := p.Rung(); rung.Acts() {
		next = x.rung(rung, next, failed)
	}
	for i := range p.People {
		next = x.manual(fmt.Sprintf("%s%d", approvalName, i+1), "Approve what follows.", next, failed)
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

// The names of the manual commands that are no steps of a playbook; no step can
// be called so.
const (
	approvalName = "approval "
	rungName     = "the rung"
)

// rung becomes a manual command.
func (x *exporter) rung(rung response.Action, next, failed string) string {
	text, activity := "Look at the suspect", actAnalyze
	if rung.Contains() {
		text, activity = "Contain the attacker", actRestrict
	}
	if rung == response.ActionQuarantine {
		activity = actDisconnect
	}
	id := x.manual(rungName, fmt.Sprintf("%s: %s. Platelet does so by itself.", text, rung), next, failed)
	x.doc.Workflow[id].Commands[0].Activity = activity
	return id
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

func (x *exporter) one(s *playbook.Step, next, failed string) (string, error) {
	if len(s.Parallel) == 0 {
		return x.action(s, next, failed)
	}
	if len(s.Parallel) < 2 {
		return "", fmt.Errorf("step %s: a single branch cannot be said in CACAO", s.Name)
	}
	id := uuid(stepParallel, x.book+"/"+s.Name)
	out := step{Type: stepParallel, Name: s.Name, OnCompletion: next}
	for i := range s.Parallel {
		branch, err := x.branch(&s.Parallel[i], failed)
		if err != nil {
			return "", err
		}
		out.NextSteps = append(out.NextSteps, branch)
	}
	x.doc.Workflow[id] = out
	return id, nil
}

// branch is a step with an end of its own (section 4.7). What fails in it and
// stops the playbook is an exception of the whole, for another end would only end
// the branch.
func (x *exporter) branch(s *playbook.Step, failed string) (string, error) {
	if err := plain(s); err != nil {
		return "", err
	}
	end := uuid(stepEnd, x.book+"/"+s.Name)
	x.doc.Workflow[end] = step{Type: stepEnd}
	id, err := x.action(s, end, failed)
	if err != nil {
		return "", err
	}
	if out := x.doc.Workflow[id]; out.OnFailure == failed {
		out.OnFailure, x.doc.Exception = "", failed
		x.doc.Workflow[id] = out
	}
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
		if v := variable.FindString(text); v != "" {
			return "", fmt.Errorf("step %s: %s would be a variable in CACAO", s.Name, v)
		}
	}
	if w.Body == "" || w.Secret != "" || len(w.SecretHeaders) > 0 || w.CA != "" {
		return "", fmt.Errorf("step %s: a webhook without a body, or with files, cannot be said in CACAO", s.Name)
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return "", fmt.Errorf("step %s: %w", s.Name, err)
	}
	c := command{Type: commandHTTP, Activity: actDeliver, Command: "POST " + u.RequestURI() + " HTTP/1.1", Content: w.Body,
		Headers: map[string][]string{"Content-Type": {cmp.Or(w.ContentType, "application/json")}}}
	if strings.HasPrefix(w.ContentType, "application/openc2") { // such a command has its content in one form only (section 5.8)
		c.Type, c.Activity, c.Content, c.ContentB64 = commandOpenC2, actConfigure, "", base64.StdEncoding.EncodeToString([]byte(w.Body))
	}
	for name, value := range w.Headers {
		c.Headers[name] = []string{value}
	}
	api := endpoint(u)
	agent, target := uuid("http-api", "agent "+api.Name), uuid("http-api", "target "+api.Name)
	x.doc.Agents[agent], x.doc.Targets[target] = api, api
	out := step{Type: stepAction, Name: s.Name, Commands: []command{c}, Agent: agent, Targets: []string{target}, Timeout: s.Deadline().Milliseconds(), OnSuccess: next, OnFailure: failed}
	if s.OnFailure == playbook.FailContinue {
		out.OnFailure = next
	}
	id := uuid(stepAction, x.book+"/"+s.Name)
	x.doc.Workflow[id] = out
	return id, nil
}

// endpoint is where a URL leads, without its path, which is the command's. A name
// or an address with a port is understood by everybody; a URL only says it where
// the scheme is not the one that goes with the port.
func endpoint(u *url.URL) agent {
	out := agent{Type: "http-api", Name: u.Scheme + "://" + u.Host, Port: u.Port()}
	if out.Port == "" {
		out.Port = portOf(u.Scheme)
	}
	if schemeOf(out.Port) != u.Scheme {
		return agent{Type: out.Type, Name: out.Name, Address: map[string][]string{"url": {out.Name}}}
	}
	kind := "dname"
	if a, err := netip.ParseAddr(u.Hostname()); err == nil {
		kind = "ipv6"
		if a.Is4() {
			kind = "ipv4"
		}
	}
	out.Address = map[string][]string{kind: {u.Hostname()}}
	return out
}

// uuid makes an identifier of a name, so that the same playbook is the same one at
// others. It has the form of version 4, which the standard wants of all objects but
// playbooks (section 10.10), with bits that a hash has drawn.
func uuid(kind, name string) string {
	const namespace = "b0c4a6de-7d3f-4f6b-8a0e-6f6f5a1d2c33"
	sum := sha1.Sum([]byte(namespace + kind + name))
	return identifier(kind, 4, sum[:])
}

// bookID is the identifier of a playbook: a UUID of version 5 (RFC 9562) in the
// namespace and of the properties that the standard names (section 10.10).
func bookID(name string, types []string) (string, error) {
	namespace := []byte{0xaa, 0x7c, 0xaf, 0x3a, 0xd5, 0x5a, 0x4e, 0x9a, 0xb3, 0x4e, 0x05, 0x62, 0x15, 0xfb, 0xa5, 0x6a}
	raw, err := json.Marshal(struct { // in the order and without the spaces of RFC 8785
		Name  string   `json:"name"`
		Types []string `json:"playbook_types,omitempty"`
	}{name, types})
	if err != nil {
		return "", err
	}
	sum := sha1.Sum(append(namespace, raw...))
	return identifier(typePlaybook, 5, sum[:]), nil
}

func identifier(kind string, version byte, sum []byte) string {
	sum[6] = sum[6]&0x0f | version<<4
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%s--%x-%x-%x-%x-%x", kind, sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
