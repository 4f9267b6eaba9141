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
// before a rung is taken as well; others become questions. Of what Export wrote,
// approvals and questions are what they were. Who may answer is the author's to
// say: CACAO's agents are no users of the controller's machine. What is revoked or
// not valid at the time is refused.
func Import(raw []byte, now time.Time) ([]byte, error) {
	d, err := read(raw, now)
	if err != nil {
		return nil, fmt.Errorf("CACAO playbook: %w", err)
	}
	in := importer{doc: d, names: map[string]int{}}
	if err := in.walk(); err != nil {
		return nil, fmt.Errorf("CACAO playbook %s: %w", d.ID, err)
	}
	if len(in.book.Steps) == 0 { // nothing that could be approved
		in.book.Steps, in.book.People = in.asked, 0
	}
	if len(in.book.Steps) == 0 {
		return nil, fmt.Errorf("CACAO playbook %s: nothing in it can be said here", d.ID)
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
	// asked are questions of others that became approvals.
	asked []playbook.Step
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
		if s.Delay > 0 && s.Type != stepEnd { // nothing comes after an end
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
			if err := in.parallel(id, s, seen); err != nil {
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
func (in *importer) parallel(id string, s step, seen map[string]bool) error {
	if s.Timeout > 0 {
		return fmt.Errorf("%s: a timeout of all branches cannot be said here", id)
	}
	goesOn := s.OnCompletion != "" || s.OnSuccess == s.OnFailure
	if !goesOn && s.OnFailure != "" && in.doc.Workflow[s.OnFailure].Type != stepEnd {
		return fmt.Errorf("%s: other steps on failure cannot be said here", id)
	}
	out := playbook.Step{Name: in.name(cmp.Or(s.Name, "parallel"))}
	in.branch = true
	defer func() { in.branch = false }()
	for _, next := range s.NextSteps {
		b, err := in.oneBranch(next, seen)
		if err != nil {
			return err
		}
		if !goesOn {
			b.OnFailure = playbook.FailStop
		}
		if ask, ok := b.With.Args.(playbook.Ask); ok && !goesOn {
			ask.OnTimeout = ""
			b.With.Args = ask
		}
		out.Parallel = append(out.Parallel, b)
	}
	in.book.Steps = append(in.book.Steps, out)
	return nil
}

// oneBranch takes a branch. At its end the step of the branches goes on, whatever
// came of it; what fails and leads nowhere ends the playbook.
func (in *importer) oneBranch(id string, seen map[string]bool) (out playbook.Step, err error) {
	s, err := in.step(id, seen)
	if err != nil {
		return out, err
	}
	after := cmp.Or(s.OnCompletion, s.OnSuccess)
	switch {
	case s.Delay > 0:
		return out, fmt.Errorf("%s: a branch with a delay cannot be said here", id)
	case s.Type != stepAction:
		return out, fmt.Errorf("%s: a branch of type %q cannot be said here", id, s.Type)
	case after != "" && in.doc.Workflow[after].Type != stepEnd:
		return out, fmt.Errorf("%s: a branch of several steps cannot be said here", id)
	case s.OnFailure != "" && s.OnFailure != after:
		return out, fmt.Errorf("%s: a branch has one end (section 4.7), not %s as well", id, s.OnFailure)
	}
	steps, err := in.action(id, s)
	if err != nil {
		return out, err
	}
	if len(steps) != 1 {
		return out, fmt.Errorf("%s: a branch of %d commands cannot be said here", id, len(steps))
	}
	return steps[0], nil
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
		if c.Type == commandManual {
			ask, approval, err := in.asks(s, c, onFailure, len(out) == 0)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", id, err)
			}
			if !approval {
				out = append(out, ask)
			}
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

// asks makes a step of a manual command, unless it is an approval: one of the
// first two of a playbook, or what Export made of one.
func (in *importer) asks(s step, c command, onFailure playbook.OnFailure, first bool) (ask playbook.Step, approval bool, err error) {
	first = first && len(in.book.Steps) == 0 && !in.branch
	ours := in.doc.CreatedBy == createdBy
	switch {
	case first && ours && s.Name == rungName:
		return ask, true, nil
	case first && ours && strings.HasPrefix(s.Name, approvalName):
		in.book.People++
		return ask, true, nil
	}
	if ask, err = in.question(s, c, onFailure); err == nil && first && !ours && in.book.People < 2 {
		in.book.People++
		in.asked = append(in.asked, ask)
		return ask, true, nil
	}
	return ask, false, err
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
	at, err := join(base, words[1])
	if err != nil {
		return w, fmt.Errorf("%s command %q: %w", c.Type, c.Command, err)
	}
	w = playbook.Webhook{URL: literal(at), Body: literal(cmp.Or(body, "{}")), Headers: map[string]string{}}
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

// join puts the path of a command behind an address. An address that has that path
// already, as others write it, has it once.
func join(base, path string) (string, error) {
	if strings.Contains(path, "://") {
		return "", fmt.Errorf("needs a path, whose host the target names")
	}
	path = "/" + strings.TrimPrefix(path, "/")
	if u, err := url.Parse(base); err == nil && path != "/" && u.RequestURI() == path {
		return base, nil
	}
	return strings.TrimSuffix(base, "/") + path, nil
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
		if u, err := url.Parse(list[0]); a.Port != "" && err == nil && cmp.Or(u.Port(), portOf(u.Scheme)) != a.Port {
			return "", fmt.Errorf("target %s: %s is not at port %s", id, list[0], a.Port)
		}
		return list[0], nil
	}
	for _, kind := range []string{"dname", "ipv4", "ipv6"} {
		if list := a.Address[kind]; len(list) == 1 {
			return where(list[0], kind == "ipv6", cmp.Or(a.Port, portOf("http"))), nil // which is the standard's default
		}
	}
	return "", fmt.Errorf("target %s: needs one url, dname, ipv4 or ipv6", id)
}

// portOf is the port that goes with a scheme.
func portOf(scheme string) string {
	if scheme == "http" {
		return "80"
	}
	return "443"
}

// schemeOf is the scheme that goes with a port. The standard says nothing of it;
// this is what SOARCA, its open implementation, does.
func schemeOf(port string) string {
	if port == "80" || port == "8080" {
		return "http"
	}
	return "https"
}

// where is the URL of a host at a port.
func where(host string, six bool, port string) string {
	scheme := schemeOf(port)
	if six || strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if portOf(scheme) != port {
		host += ":" + port
	}
	return (&url.URL{Scheme: scheme, Host: host}).String()
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
