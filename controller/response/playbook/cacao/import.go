package cacao

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

// Import makes a file of one playbook. It has no trigger and no rung of the
// ladder, which CACAO does not know: its author is to add both. The first two
// manual commands that it begins with become approvals, so that people answer
// before a rung is taken as well; others become questions. Who may answer is the
// author's to say: CACAO's agents are no users of the controller's machine.
func Import(raw []byte) ([]byte, error) {
	d, err := read(raw)
	if err != nil {
		return nil, fmt.Errorf("CACAO playbook: %w", err)
	}
	in := importer{doc: d, names: map[string]int{}}
	if err := in.walk(); err != nil {
		return nil, fmt.Errorf("CACAO playbook %s: %w", d.ID, err)
	}
	in.book.Name = plainName(d.Name)
	in.book.About = strings.Join(strings.Fields(cmp.Or(d.Description, d.Name)), " ")
	out, err := playbook.Write([]playbook.Playbook{in.book})
	if err != nil {
		return nil, err
	}
	if _, err := playbook.Parse(d.ID, out); err != nil { // what would not be taken is not given
		return nil, fmt.Errorf("CACAO playbook %s: %w", d.ID, err)
	}
	return out, nil
}

type importer struct {
	doc   *document
	book  playbook.Playbook
	names map[string]int
	// branch is set in a branch, where nothing comes before everything else.
	branch bool
}

// walk follows the steps from the start to an end.
func (in *importer) walk() error {
	seen := map[string]bool{}
	for id := in.doc.Start; ; {
		s, err := in.step(id, seen)
		if err != nil {
			return err
		}
		next := cmp.Or(s.OnCompletion, s.OnSuccess)
		if s.Delay > 0 && (s.Type == stepAction || s.Type == stepParallel) {
			in.book.Steps = append(in.book.Steps, playbook.Step{Name: in.name("delay"), Action: playbook.ActionWait,
				With: playbook.With{Args: playbook.Wait{For: time.Duration(s.Delay) * time.Millisecond}}})
		}
		switch s.Type {
		case stepStart:
		case stepEnd:
			return nil
		case stepAction:
			steps, err := in.action(id, s)
			if err != nil {
				return err
			}
			in.book.Steps = append(in.book.Steps, steps...)
		case stepParallel:
			if err := in.parallel(s, seen); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: steps of type %q cannot be said here", id, s.Type)
		}
		if next == "" {
			return nil // the last one may have nothing after it
		}
		id = next
	}
}

func (in *importer) step(id string, seen map[string]bool) (step, error) {
	s, ok := in.doc.Workflow[id]
	switch {
	case !ok:
		return s, fmt.Errorf("%s: there is no such step", id)
	case seen[id]:
		return s, fmt.Errorf("%s: the steps go round in circles", id)
	}
	seen[id] = true
	return s, nil
}

// parallel takes branches of one step each.
func (in *importer) parallel(s step, seen map[string]bool) error {
	out := playbook.Step{Name: in.name(cmp.Or(s.Name, "parallel"))}
	in.branch = true
	defer func() { in.branch = false }()
	for _, next := range s.NextSteps {
		branch, err := in.step(next, seen)
		if err != nil {
			return err
		}
		if branch.Delay > 0 {
			return fmt.Errorf("%s: a branch with a delay cannot be said here", next)
		}
		if branch.Type != stepAction {
			return fmt.Errorf("%s: a branch of type %q cannot be said here", next, branch.Type)
		}
		if after := cmp.Or(branch.OnCompletion, branch.OnSuccess); after != "" && in.doc.Workflow[after].Type != stepEnd {
			return fmt.Errorf("%s: a branch of several steps cannot be said here", next)
		}
		steps, err := in.action(next, branch)
		if err != nil {
			return err
		}
		if len(steps) != 1 {
			return fmt.Errorf("%s: a branch of %d commands cannot be said here", next, len(steps))
		}
		out.Parallel = append(out.Parallel, steps[0])
	}
	in.book.Steps = append(in.book.Steps, out)
	return nil
}

// action makes a step of each command.
func (in *importer) action(id string, s step) ([]playbook.Step, error) {
	var out []playbook.Step
	onFailure := playbook.FailStop
	if s.OnFailure != "" {
		switch {
		case s.OnFailure == s.OnSuccess:
			onFailure = playbook.FailContinue
		case in.doc.Workflow[s.OnFailure].Type != stepEnd:
			return nil, fmt.Errorf("%s: other steps on failure cannot be said here", id)
		}
	} else if s.OnCompletion != "" { // whatever comes of it
		onFailure = playbook.FailContinue
	}
	for _, c := range s.Commands {
		if c.Type == commandManual && len(in.book.Steps)+len(out) == 0 && in.book.People < 2 && !in.branch {
			in.book.People++
			continue
		}
		if c.Type == commandManual {
			ask, err := in.question(s, c, onFailure)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
			out = append(out, ask)
			continue
		}
		hook, err := in.webhook(s, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		out = append(out, playbook.Step{Name: in.name(cmp.Or(s.Name, c.Type)), Action: playbook.ActionWebhook, With: playbook.With{Args: hook},
			Timeout: time.Duration(s.Timeout) * time.Millisecond, OnFailure: onFailure})
	}
	return out, nil
}

// question makes a step that asks of a manual command.
func (in *importer) question(s step, c command, onFailure playbook.OnFailure) (out playbook.Step, err error) {
	text := c.Command
	if c.CommandB64 != "" {
		raw, err := base64.StdEncoding.DecodeString(c.CommandB64)
		if err != nil {
			return out, fmt.Errorf("%s command: command_b64: %w", c.Type, err)
		}
		text = string(raw)
	}
	if v := variable.FindString(text); v != "" {
		return out, fmt.Errorf("%s command: the variable %s cannot be said here", c.Type, v)
	}
	ask := playbook.Ask{Title: literal(cmp.Or(strings.TrimSpace(text), s.Name, "Go on?")), Expires: time.Duration(s.Timeout) * time.Millisecond}
	if onFailure == playbook.FailContinue {
		ask.OnTimeout = playbook.TimeoutSkip
	}
	return playbook.Step{Name: in.name(cmp.Or(s.Name, c.Type)), Action: playbook.ActionAsk, With: playbook.With{Args: ask}, OnFailure: onFailure}, nil
}

func (in *importer) webhook(s step, c command) (w playbook.Webhook, err error) {
	if c.Type != commandHTTP && c.Type != commandOpenC2 {
		return w, fmt.Errorf("commands of type %q cannot be said here", c.Type)
	}
	words := strings.Fields(c.Command)
	if len(words) < 2 || words[0] != "POST" {
		return w, fmt.Errorf("%s command %q: only POST can be said here", c.Type, c.Command)
	}
	base, err := in.address(s)
	if err != nil {
		return w, err
	}
	body := c.Content
	if c.ContentB64 != "" {
		raw, err := base64.StdEncoding.DecodeString(c.ContentB64)
		if err != nil {
			return w, fmt.Errorf("%s command: content_b64: %w", c.Type, err)
		}
		body = string(raw)
	}
	w = playbook.Webhook{URL: literal(strings.TrimSuffix(base, "/") + "/" + strings.TrimPrefix(words[1], "/")), Body: literal(cmp.Or(body, "{}")), Headers: map[string]string{}}
	if c.Type == commandOpenC2 {
		w.ContentType = openC2Type
	}
	for _, name := range slices.Sorted(maps.Keys(c.Headers)) {
		value := literal(strings.Join(c.Headers[name], ", "))
		if strings.EqualFold(name, "Content-Type") {
			w.ContentType = value
		} else {
			w.Headers[name] = value
		}
	}
	for _, text := range []string{w.URL, w.Body, fmt.Sprint(w.Headers)} {
		if v := variable.FindString(text); v != "" {
			return w, fmt.Errorf("%s command: the variable %s cannot be said here", c.Type, v)
		}
	}
	return w, nil
}

// variable is how CACAO refers to a variable (section 10.18).
var variable = regexp.MustCompile(`__[A-Za-z0-9_-]+__:(value|[A-Za-z0-9_]+)`)

// address is the URL of the only target of a step, or of its agent.
func (in *importer) address(s step) (string, error) {
	id := s.Agent
	if len(s.Targets) > 0 {
		id = s.Targets[0]
	}
	if len(s.Targets) > 1 {
		return "", fmt.Errorf("several targets cannot be said here")
	}
	a, ok := in.doc.Targets[id]
	if !ok {
		a, ok = in.doc.Agents[id]
	}
	if !ok {
		return "", fmt.Errorf("there is no target %q", id)
	}
	if a.Auth != "" {
		return "", fmt.Errorf("target %s: authentication_info cannot be said here; secret_headers name a file with the credentials", id)
	}
	if list := a.Address["url"]; len(list) == 1 {
		return list[0], nil
	}
	for _, kind := range []string{"dname", "ipv4", "ipv6"} {
		if list := a.Address[kind]; len(list) == 1 {
			host := list[0]
			if kind == "ipv6" {
				host = "[" + host + "]"
			}
			if a.Port != "" {
				host += ":" + a.Port
			}
			return (&url.URL{Scheme: "https", Host: host}).String(), nil
		}
	}
	return "", fmt.Errorf("target %s: needs one url, dname, ipv4 or ipv6", id)
}

// literal keeps a text from being taken for a template.
func literal(s string) string { return strings.ReplaceAll(s, "{{", `{{"{{"}}`) }

var other = regexp.MustCompile(`[^a-z0-9]+`)

// plainName makes a name of ours.
func plainName(s string) string {
	s = strings.Trim(other.ReplaceAllString(strings.ToLower(s), "-"), "-")
	return cmp.Or(strings.Trim(s[:min(len(s), 50)], "-"), "playbook")
}

// name makes the name of a step, each another one.
func (in *importer) name(s string) string {
	s = plainName(s)
	in.names[s]++
	if n := in.names[s]; n > 1 {
		return fmt.Sprintf("%s-%d", s, n)
	}
	return s
}
