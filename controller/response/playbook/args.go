package playbook

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// Args are the arguments of an action: Webhook, Exec, Notify, Intel, Docker,
// Wait or Ask, with templates before a step is rendered and without afterwards.
type Args interface {
	// each replaces every template by what f makes of it. The path says
	// where it stands.
	each(f func(path, text string) string) Args
	// check tells what cannot work.
	check(want check)
}

// check is told whether something that a path names is so, and what is said
// otherwise.
type check func(ok bool, path, format string, args ...any)

// With is the arguments of an action; which, the action says.
type With struct {
	Args
	node *strictyaml.Node
}

// UnmarshalStrict keeps the node until the action is known.
func (w *With) UnmarshalStrict(n strictyaml.Node) error {
	w.node = &n
	return nil
}

// MarshalYAML writes the arguments.
func (w With) MarshalYAML() (any, error) { return w.Args, nil }

// IsZero reports whether there are none.
func (w With) IsZero() bool { return w.Args == nil }

// read decodes the arguments of an action.
func (w *With) read(a Action) error {
	decode := func(into any) error {
		if w.node == nil {
			return nil
		}
		return w.node.Decode(into)
	}
	var err error
	switch a {
	case ActionWebhook:
		err = readInto[Webhook](w, decode)
	case ActionExec:
		err = readInto[Exec](w, decode)
	case ActionNotify:
		err = readInto[Notify](w, decode)
	case ActionIntel:
		err = readInto[Intel](w, decode)
	case ActionDocker:
		err = readInto[Docker](w, decode)
	case ActionWait:
		err = readInto[Wait](w, decode)
	case ActionAsk:
		err = readInto[Ask](w, decode)
	default:
		if a.Rung() && w.node != nil {
			err = w.node.Errorf("action %s takes no arguments", a)
		}
	}
	w.node = nil
	return err
}

func readInto[T Args](w *With, decode func(any) error) error {
	var args T
	err := decode(&args)
	w.Args = args
	return err
}

// Webhook posts to a URL. The request carries Idempotency-Key, the same at
// every attempt, and where there is a secret X-Platelet-Timestamp and
// X-Platelet-Signature: "sha256=" and the HMAC-SHA256, in hexadecimal, of the
// timestamp, a dot and the body. Redirects are refused. An answer of 2xx is
// success; of 4xx other than 408, 425 and 429 it is not tried again.
type Webhook struct {
	// https or http URL; templates only behind the host
	URL string `yaml:"url"`
	// template of the body; without one, all fields as JSON
	Body string `yaml:"body,omitempty"`
	// type of the body (application/json)
	ContentType string `yaml:"content_type,omitempty"`
	// further headers
	Headers map[string]string `yaml:"headers,omitempty"`
	// further headers whose values are read from files
	SecretHeaders map[string]string `yaml:"secret_headers,omitempty"`
	// file with the key of the signature
	Secret string `yaml:"secret,omitempty"`
	// file of certificates (PEM) that the server's must lead to, instead of the system's
	CA string `yaml:"ca,omitempty"`
}

// Exec runs a command without a shell, with a clean environment, and kills it
// with all it started when its time is up. It succeeds with exit code 0.
type Exec struct {
	// name of the command in playbook_exec of the configuration
	Command string `yaml:"command"`
	// templates of its arguments, one for each
	Args []string `yaml:"args,omitempty,flow"`
	// template of its standard input
	Stdin string `yaml:"stdin,omitempty"`
	// it does no harm to run it again where it is not known whether it ran
	Idempotent bool `yaml:"idempotent,omitempty"`
}

// Notify tells people or a SIEM, in one way or both. It is the one action that
// is also done in mode observe.
type Notify struct {
	// RFC 5424 message with a CEF payload
	Syslog *Syslog `yaml:"syslog,omitempty"`
	// e-mail
	Email *Email `yaml:"email,omitempty"`
}

// Syslog says where messages go.
type Syslog struct {
	// udp:HOST:PORT, tcp:HOST:PORT (RFC 6587, octet counting) or unix:/PATH
	To string `yaml:"to"`
	// template of the text; without one, why the finding fired
	Message string `yaml:"message,omitempty"`
}

// Email says how to send one (RFC 5321).
type Email struct {
	// HOST:PORT of the mail server
	Server string `yaml:"server"`
	// starttls (needed, which is the default), tls or none
	TLS string `yaml:"tls,omitempty"`
	// file of certificates (PEM) that the server's must lead to, instead of the system's
	CA string `yaml:"ca,omitempty"`
	// user to log in as
	User string `yaml:"user,omitempty"`
	// file with the password
	Password string `yaml:"password,omitempty"`
	// sender
	From string `yaml:"from"`
	// recipients
	To []string `yaml:"to,flow"`
	// template of the subject
	Subject string `yaml:"subject,omitempty"`
	// template of the text
	Body string `yaml:"body,omitempty"`
}

// Intel writes a STIX 2.1 bundle about the attacker (indicator, identity,
// sighting) into a directory, as a whole or not at all. Forged sources have no
// address to tell of: there it does nothing.
type Intel struct {
	// directory, which must exist; the file is named for the run and the step
	Dir string `yaml:"dir"`
	// how long the indicator is valid (24h)
	Valid time.Duration `yaml:"valid,omitempty"`
	// traffic light: clear, green, amber or red (amber)
	TLP string `yaml:"tlp,omitempty"`
}

// Docker acts on the containers that carry a label, through the Docker Engine
// API.
type Docker struct {
	// path of the engine's socket (/var/run/docker.sock)
	Socket string `yaml:"socket,omitempty"`
	// template of the label, KEY=VALUE
	Label string `yaml:"label"`
	// restart, or recreate from the same image and settings without what was written into it
	Do string `yaml:"do"`
}

// Wait lets time pass.
type Wait struct {
	// this long
	For time.Duration `yaml:"for,omitempty"`
	// until the finding is over and nothing of the attack was seen for this long
	Clean time.Duration `yaml:"clean,omitempty"`
}

// Ask waits for people to say yes, with platelet approve and the ID that platelet
// playbook runs shows. A no (platelet reject) is a failure of the step. It waits
// over restarts of the controller.
type Ask struct {
	// template of the question
	Title string `yaml:"title"`
	// users who may answer, by their names on the controller's machine
	Who []string `yaml:"who,omitempty,flow"`
	// groups of that machine whose members may; without who and groups, everybody who may operate the controller
	Groups []string `yaml:"groups,omitempty,flow"`
	// how many have to say yes, each another one: 1 or 2 (1)
	People int `yaml:"people,omitempty"`
	// how long the answer may take (1h)
	Expires time.Duration `yaml:"expires,omitempty"`
	// stop, rollback or skip: what follows when nobody has answered by then; skip goes on with the next step (stop)
	OnTimeout OnTimeout `yaml:"on_timeout,omitempty"`
}

// OnTimeout is what follows when nobody answers.
type OnTimeout string

// What can follow. Without a word it is TimeoutStop: no answer is no action.
const (
	TimeoutStop     OnTimeout = "stop"
	TimeoutRollback OnTimeout = "rollback"
	TimeoutSkip     OnTimeout = "skip"
)

func (w Webhook) each(f func(path, text string) string) Args {
	w.URL, w.Body, w.ContentType = f("url", w.URL), f("body", w.Body), f("content_type", w.ContentType)
	headers := maps.Clone(w.Headers)
	for k, v := range headers {
		headers[k] = f("headers."+k, v)
	}
	w.Headers = headers
	return w
}

func (e Exec) each(f func(path, text string) string) Args {
	args := slices.Clone(e.Args)
	for i, a := range args {
		args[i] = f(fmt.Sprintf("args[%d]", i), a)
	}
	e.Args, e.Stdin = args, f("stdin", e.Stdin)
	return e
}

func (n Notify) each(f func(path, text string) string) Args {
	if n.Syslog != nil {
		s := *n.Syslog
		s.Message = f("syslog.message", s.Message)
		n.Syslog = &s
	}
	if n.Email != nil {
		e := *n.Email
		e.Subject, e.Body = f("email.subject", e.Subject), f("email.body", e.Body)
		n.Email = &e
	}
	return n
}

func (d Docker) each(f func(path, text string) string) Args {
	d.Label = f("label", d.Label)
	return d
}

func (a Ask) each(f func(path, text string) string) Args {
	a.Title = f("title", a.Title)
	return a
}

func (i Intel) each(func(path, text string) string) Args { return i }
func (w Wait) each(func(path, text string) string) Args  { return w }

// Repeatable reports whether an attempt of which it is not known whether it
// happened may be made again.
func (s *Step) Repeatable() bool {
	e, ok := s.With.Args.(Exec)
	return !ok || e.Idempotent
}
