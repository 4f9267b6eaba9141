package playbook

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

const (
	// maxTemplate bounds a template, and maxRendered what becomes of it, in
	// bytes.
	maxTemplate = 64 << 10
	maxRendered = 256 << 10
)

// functions lists what templates may call. Everything else that text/template
// knows is refused, loops and definitions included: a template ends, soon.
func functions() template.FuncMap {
	return template.FuncMap{
		"json":  asJSON,
		"lower": func(v any) string { return strings.ToLower(fmt.Sprint(v)) },
		"upper": func(v any) string { return strings.ToUpper(fmt.Sprint(v)) },
	}
}

// builtin functions of text/template that are allowed.
func builtin() []string { return []string{"eq", "ne", "and", "or", "not", "urlquery"} }

func asJSON(v any) (string, error) {
	raw, err := json.Marshal(v)
	return string(raw), err
}

// compile parses a template and holds it to what is documented.
func compile(text string) (*template.Template, error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("more than %d bytes", maxTemplate)
	}
	t, err := template.New("").Option("missingkey=zero").Funcs(functions()).Parse(text)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	if len(t.Templates()) > 1 {
		return nil, errors.New("a template may not define others")
	}
	if t.Tree == nil { // empty
		return t, nil
	}
	return t, allowed(t.Root)
}

// allowed walks a parsed template.
func allowed(n parse.Node) error {
	switch n := n.(type) {
	case nil, *parse.TextNode, *parse.CommentNode, *parse.StringNode, *parse.NumberNode, *parse.BoolNode, *parse.DotNode:
		return nil
	case *parse.ListNode:
		if n == nil { // no else
			return nil
		}
		return each(n.Nodes)
	case *parse.ActionNode:
		return allowed(n.Pipe)
	case *parse.IfNode:
		return errors.Join(allowed(n.Pipe), allowed(n.List), allowed(n.ElseList))
	case *parse.PipeNode:
		if len(n.Decl) > 0 {
			return errors.New("variables are not allowed")
		}
		return each(n.Cmds)
	case *parse.CommandNode:
		return each(n.Args)
	case *parse.FieldNode:
		return known(n.Ident)
	case *parse.IdentifierNode:
		if _, ours := functions()[n.Ident]; !ours && !slices.Contains(builtin(), n.Ident) {
			return fmt.Errorf("function %s is not allowed", n.Ident)
		}
		return nil
	}
	return fmt.Errorf("%q is not allowed", n.String())
}

func each[T parse.Node](nodes []T) error {
	for _, n := range nodes {
		if err := allowed(n); err != nil {
			return err
		}
	}
	return nil
}

// known reports whether facts have a field.
func known(path []string) error {
	t := reflect.TypeFor[Facts]()
	for i, name := range path {
		switch t.Kind() {
		case reflect.Struct:
			f, ok := t.FieldByName(name)
			if !ok {
				return fmt.Errorf("there is no field .%s (there are %s)", strings.Join(path[:i+1], "."), strings.Join(fieldNames(t), ", "))
			}
			t = f.Type
		case reflect.Map:
			t = t.Elem()
		default:
			return fmt.Errorf(".%s has no fields", strings.Join(path[:i], "."))
		}
	}
	return nil
}

func fieldNames(t reflect.Type) []string {
	out := make([]string, t.NumField())
	for i := range out {
		out[i] = t.Field(i).Name
	}
	return out
}

// errTooLong says that a template made more than is reasonable.
var errTooLong = fmt.Errorf("makes more than %d bytes", maxRendered)

// bounded keeps what a template writes, up to a bound.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}

func render(text string, facts Facts) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	t, err := compile(text)
	if err != nil {
		return "", err
	}
	var b bounded
	if err := t.Execute(&b, facts); err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "template: :"))
	}
	return b.String(), nil
}

// try compiles a template and renders it with nothing known and with everything:
// what does not fit together, such as a comparison of a number with a text, shows
// only then.
func try(text string) error {
	if _, err := compile(text); err != nil {
		return err
	}
	known := Facts{
		Run: "r-1", Playbook: "p", Step: "s",
		Finding:  FindingFacts{ID: "f-1", Kind: detector.KindPortScan, Severity: detector.SeverityHigh, Why: "because", Score: 1, Confidence: 1, Victims: 1, Port: 22, Spoofed: true},
		Decision: DecisionFacts{ID: "d-1", Action: response.ActionQuarantine, Target: "10.0.0.7", Who: "playbook"},
		Host:     HostFacts{Address: "10.0.0.7", Switch: "br0", Port: "p1", Tags: map[string]string{"env": "prod"}},
	}
	for _, facts := range []Facts{{}, known} {
		if _, err := render(text, facts); err != nil {
			return err
		}
	}
	return nil
}

// Render gives the arguments of a step with every template replaced.
func (s *Step) Render(facts Facts) (Args, error) {
	if s.With.Args == nil {
		return nil, nil
	}
	facts.Step = s.Name
	var errs []error
	args := s.With.each(func(path, text string) string {
		out, err := render(text, facts)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
		return out
	})
	if w, ok := args.(Webhook); ok && w.Body == "" {
		body, err := asJSON(facts)
		errs = append(errs, err)
		w.Body = body
		args = w
	}
	return args, errors.Join(errs...)
}
