package playbook

import (
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response"
)

func facts() Facts {
	f := FactsOf(scan(), response.Decision{ID: "d-1", Action: response.ActionQuarantine, Who: "playbook", Target: response.Target{Host: scan().Host, Switch: "br0", Port: "p1"}}, map[string]string{"env": "prod"})
	f.Run, f.Playbook = "r-1", "p"
	return f
}

func TestTemplates(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"{{.Finding.Kind}} by {{.Host.Address}} at {{.Host.Port}}", "port-scan by 10.0.0.7 at p1"},
		{"{{json .Host.Tags.env}} {{json .Host.Tags.none}}", `"prod" ""`},
		{"{{if eq .Finding.Severity `high`}}!{{else}}.{{end}}", "!"},
		{"{{.Finding.Kind | upper}}", "PORT-SCAN"},
		{"{{urlquery .Finding.Why}}", "port-scan+by+10.0.0.7+against+10.0.0.9%3A+failed_first_contacts+12+against+a+normal+0.2"},
		{"{{.Finding.Victim}} {{.Finding.Protocol}} {{.Decision.Target}}", "10.0.0.9 tcp 10.0.0.7"},
	} {
		got, err := render(c.in, facts())
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestTemplatesAreRestricted(t *testing.T) {
	for _, in := range []string{
		"{{range .Host.Tags}}{{.}}{{end}}", "{{with .Host}}{{.Address}}{{end}}", "{{define \"x\"}}{{end}}", "{{template \"x\"}}", "{{block \"x\" .}}{{end}}",
		"{{$x := 1}}", "{{printf \"%999999999d\" 1}}", "{{call .Run}}", "{{html .Run}}", "{{.Secret}}", "{{.Finding.Host}}", "{{.Run.Length}}", "{{index .Host.Tags \"a\"}}",
		"{{(.Host).Secret}}", "{{slice .Run 1}}", "{{nosuch}}", "{{.Run", "{{$.Run}}", "{{nil}}", strings.Repeat("x", maxTemplate+1) + "{{.Run}}",
	} {
		if _, err := compile(in); err == nil {
			t.Errorf("%.60s is accepted", in)
		}
	}
	grows := strings.Repeat("{{json .}}", 1000)
	if _, err := render(grows, facts()); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("made without bound: %v", err)
	}
}

// What fails only when it is rendered is found when it is read.
func TestTemplatesAreTried(t *testing.T) {
	for _, in := range []string{"{{eq .Finding.Port `x`}}", "{{json}}", "{{if .Host.Address}}{{ne .Finding.Score .Host.Port}}{{end}}", "{{.Run .Step}}"} {
		if err := try(in); err == nil {
			t.Errorf("%s is accepted", in)
		}
	}
}

// A template that is accepted ends, within its bound.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{{.Finding.Kind | upper}}", "{{if and .Run (eq .Step `x`)}}{{json .}}{{else if not .Playbook}}{{end}}", "{{/* c */ -}} {{urlquery .Host.Tags.a}}", "{{1.5e3}}{{true}}", "{{json . | json | json}}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		if try(in) != nil {
			return
		}
		if out, err := render(in, facts()); err == nil && len(out) > maxRendered && len(in) <= maxRendered {
			t.Fatalf("%d bytes of %q", len(out), in)
		}
	})
}

func TestRenderedWebhook(t *testing.T) {
	p := mustParse(t, full)[0]
	args, err := p.Steps[1].Render(facts())
	if err != nil {
		t.Fatal(err)
	}
	w := args.(Webhook)
	if w.URL != "https://desk.example/hooks/port-scan?v=1" || !strings.Contains(w.Body, `"host": "10.0.0.7", "env": "prod"`) {
		t.Errorf("%+v", w)
	}
	undo, _ := p.Steps[1].Undo()
	args, err = undo.Render(facts())
	if body := args.(Webhook).Body; err != nil || !strings.Contains(body, `"step":"ticket"`) || !strings.Contains(body, `"address":"10.0.0.7"`) {
		t.Errorf("%v: the body of its own has not all fields: %s", err, body)
	}
}
