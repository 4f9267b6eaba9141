package playbook

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
)

// The reference is made from the types and their comments:
//
//	UPDATE=1 go test ./controller/response/playbook -run TestReference
func TestReference(t *testing.T) {
	const path = "REFERENCE.md"
	docs := comments(t)
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("\n## Keys\n\n| key | meaning |\n|---|---|\n")
	keys(t, &b, docs, reflect.TypeFor[File](), "")
	b.WriteString("\n## Actions\n\nThe rungs of the ladder (`" + strings.Join(rungs(), "`, `") + "`) take no arguments. The others, with what stands below `with`:\n")
	for _, a := range []struct {
		action Action
		args   any
	}{{ActionWebhook, Webhook{}}, {ActionExec, Exec{}}, {ActionNotify, Notify{}}, {ActionIntel, Intel{}}, {ActionDocker, Docker{}}, {ActionWait, Wait{}}, {ActionAsk, Ask{}}} {
		typ := reflect.TypeOf(a.args)
		about := strings.TrimPrefix(docs[typ.Name()], typ.Name()+" ")
		fmt.Fprintf(&b, "\n### %s\n\n%s%s\n\n| key | meaning |\n|---|---|\n", a.action, strings.ToUpper(about[:1]), about[1:])
		keys(t, &b, docs, typ, "")
	}
	b.WriteString(templates)
	b.WriteString("\n| field | meaning |\n|---|---|\n")
	fields(t, &b, docs, reflect.TypeFor[Facts](), "")
	b.WriteString("\n## Example\n\n```yaml\n" + full + "```\n")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || string(have) != b.String() {
		t.Errorf("%s is not what the code says (%v); run the command above this test", path, err)
	}
}

const preface = `# Playbooks

Made from the code by a test. ` + "`platelet check`" + ` checks files and the configuration that names them; ` + "`platelet playbook test FILE --finding F`" + ` tells what they
would do, and does nothing; ` + "`platelet playbook list`, `show` and `runs`" + ` show what is in force and what was done.

- **Which one.** Playbooks are tried in the order of the files in ` + "`playbooks`" + ` of the configuration, then ` + "`response.actions`" + ` where it differs from the defaults, then those
  that the program brings along, which match everything. The first whose trigger matches is used. One that others hide is a fault.
- **Who is contained already.** A finding of another kind about a host whose containment covers what its playbook asks for has the playbook's other steps done under that decision, once
  for each kind within ` + "`" + `response.relapse_window` + "`" + `; approvals that the playbook asks for are asked for the steps.
- **Changes.** Files that change are read again a second or two later (unless ` + "`" + `playbook_watch` + "`" + ` is false), at SIGHUP, and by ` + "`" + `platelet playbook reload` + "`" + `: all or, where one has faults, none.
  ` + "`" + `platelet status` + "`" + ` shows the version in force and the faults. Runs, decisions and findings that began by one version go on by it.
- **The switch first.** A rung of the ladder is the first step, decided and bounded by the guards as ever, and takes microseconds. The other steps begin when the
  switch has answered. A run whose playbook has no rung that contains begins when its finding fires, 60 within a minute at most.
- **Nothing bolder than the configuration.** The more careful of the playbook's mode and the configuration's holds. In mode observe, where a guard refuses, while people
  have yet to approve, and where a finding is not enough to contain, only ` + "`notify`" + ` steps are done. While the global brake is on, no other step begins.
- **People.** ` + "`platelet approve ID`" + ` of a decision, of a run that has no containment, or of a question (` + "`ask`" + `) in the middle of one. No answer is no action.
- **Crashes.** Each step is written down before it is tried and when its result is known. After a crash a run goes on; an attempt whose result is not known is made again
  with the same key (` + "`Idempotency-Key`" + ` of a webhook, ` + "`PLATELET_KEY`" + ` of a command, ` + "`Message-ID`" + ` of a mail, the name of a bundle, a label of a container). A command is not run again
  unless it is ` + "`idempotent`" + `: its step is in doubt, which counts as failed.
- **Several controllers.** Where they share a NATS cluster (` + "`" + `state.nats` + "`" + `), a run is its controller's alone. When that has been silent for 8 s, the one that holds all its bridges by then
  goes on with its runs; should it come back, its next write is refused, and it leaves them.
- **Undoing.** When a step fails with ` + "`on_failure: rollback`" + `, the containment is rolled back, or ` + "`platelet brake on --release`" + ` undoes everything, the steps that were done, or are in doubt, are undone by their ` + "`rollback`" + `,
  the latest first. A containment is never undone by a playbook.
- **OASIS CACAO 2.0.** ` + "`platelet playbook import FILE` and `export NAME`" + ` translate manual, http-api and openc2-http commands, in sequence and in parallel, and refuse everything
  else by its name. A manual command is a question (` + "`ask`" + `), one of the first two before everything else an approval (` + "`people`" + `). CACAO knows no triggers and no rungs of the ladder: add them after an import; an export says a rung as a manual command.
  A target without a port is at port 80, as CACAO has it; at 80 and 8080 it is asked by http, elsewhere by https, unless it has a URL.
- **Commands** are named in ` + "`playbook_exec`" + ` of the configuration, with an absolute path of a file that only root, or the controller's user, can write.
`

const templates = `
## Templates

Texts marked as templates are those of Go's [text/template](https://pkg.go.dev/text/template), with these fields, ` + "`if`" + ` and ` + "`else`" + `, and the functions ` + "`json`" + ` (a value as JSON,
quotes included), ` + "`urlquery`, `lower`, `upper`, `eq`, `ne`, `and`, `or`, `not`" + `. There are no loops, no variables and no other templates. What is not known is empty.
`

func rungs() []string {
	var out []string
	for _, a := range response.Ladder() {
		out = append(out, string(a))
	}
	return out
}

// keys lists the keys of a type, those of types below it in place.
func keys(t *testing.T, b *strings.Builder, docs map[string]string, typ reflect.Type, prefix string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue
		}
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		doc := docs[typ.Name()+"."+f.Name]
		if doc == "" && f.Type.Kind() != reflect.Pointer {
			t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
		}
		under, sub := f.Type, prefix+key+"."
		if under.Kind() == reflect.Slice {
			under, sub = under.Elem(), prefix+key+"[]."
		}
		if under.Kind() == reflect.Pointer {
			under = under.Elem()
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", prefix+key, doc)
		again := under == typ || under == reflect.TypeFor[Condition]() && key == "unless"
		if under.Kind() == reflect.Struct && strings.HasSuffix(under.PkgPath(), "/playbook") && under != reflect.TypeFor[With]() && !again {
			keys(t, b, docs, under, sub)
		}
	}
}

// fields lists the fields of templates.
func fields(t *testing.T, b *strings.Builder, docs map[string]string, typ reflect.Type, prefix string) {
	t.Helper()
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Type.Kind() == reflect.Struct {
			fields(t, b, docs, f.Type, prefix+"."+f.Name)
			continue
		}
		doc := docs[typ.Name()+"."+f.Name]
		if doc == "" {
			t.Errorf("%s.%s has no comment", typ.Name(), f.Name)
		}
		fmt.Fprintf(b, "| `%s.%s` | %s |\n", prefix, f.Name, doc)
	}
}

// comments reads the comments of types and of their fields.
func comments(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, name := range []string{"playbook.go", "args.go", "facts.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.TYPE {
				continue
			}
			spec, _ := gen.Specs[0].(*ast.TypeSpec)
			docs[spec.Name.Name] = strings.Join(strings.Fields(gen.Doc.Text()), " ")
			st, ok := spec.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, f := range st.Fields.List {
				for _, n := range f.Names {
					docs[spec.Name.Name+"."+n.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
	}
	return docs
}

// The example of the reference works as it reads.
func TestReferenceExample(t *testing.T) {
	set := NewSet(mustParse(t, full), mustDefault(t))
	cfg := response.DefaultConfig()
	cfg.Mode = response.ModeAutonomous
	trace := set.Try(cfg, scan(), inProd())
	var ran []string
	for _, s := range trace.Steps {
		if s.Runs {
			ran = append(ran, s.Name)
		}
	}
	if want := []string{"ticket", "revoke", "siem", "feed", "quiet", "sure", "redeploy"}; trace.Playbook != "scan-in-production" || trace.People != 2 || trace.Action != response.ActionQuarantine || !slices.Equal(ran, want) {
		t.Errorf("%s by %d people: %s, then %v, want %v", trace.Playbook, trace.People, trace.Action, ran, want)
	}
	cfg.Mode = response.ModeObserve
	ran = nil
	for _, s := range set.Try(cfg, scan(), inProd()).Steps {
		if s.Runs {
			ran = append(ran, s.Name)
		}
	}
	if !slices.Equal(ran, []string{"siem", "mail"}) {
		t.Errorf("in mode observe %v", ran)
	}
	forged := scan()
	forged.Spoofed, forged.Kind = true, detector.KindHostSweep
	if trace := set.Try(cfg, forged, inProd()); trace.Action == response.ActionQuarantine {
		t.Errorf("forged sources: %s", trace.Action)
	}
}
