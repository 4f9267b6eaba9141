package policy_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// The reference is made from the types, their comments and the examples:
//
//	UPDATE=1 go test ./segmentation/policy -run 'TestSchemaIsTheCode|TestReference'
func TestReference(t *testing.T) {
	docs := policy.Comments(t)
	var b strings.Builder
	b.WriteString(preface)
	for _, s := range []struct {
		title string
		typ   reflect.Type
	}{
		{"File", reflect.TypeFor[policy.File]()}, {"Group", reflect.TypeFor[policy.Group]()}, {"Service", reflect.TypeFor[policy.Service]()},
		{"SourceGuard", reflect.TypeFor[policy.SourceGuard]()},
		{"Policy", reflect.TypeFor[policy.Policy]()}, {"Rule", reflect.TypeFor[policy.Rule]()}, {"Rate", reflect.TypeFor[policy.Rate]()},
		{"Schedule", reflect.TypeFor[policy.Schedule]()}, {"Invariant", reflect.TypeFor[policy.Invariant]()}, {"Connections", reflect.TypeFor[policy.Connections]()},
	} {
		about := strings.TrimPrefix(strings.TrimPrefix(docs[s.typ.Name()], s.typ.Name()+" "), "is ")
		fmt.Fprintf(&b, "\n## %s\n\n%s%s\n\n| key | of | meaning |\n|---|---|---|\n", s.title, strings.ToUpper(about[:1]), about[1:])
		for i := range s.typ.NumField() {
			f := s.typ.Field(i)
			if !f.IsExported() {
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			doc := docs[s.typ.Name()+"."+f.Name]
			if doc == "" {
				t.Errorf("%s.%s has no comment", s.typ.Name(), f.Name)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", key, kindOf(f.Type), strings.ReplaceAll(doc, "|", `\|`))
		}
	}
	b.WriteString("\n## Implied\n\nAllowed before all rules, so that nobody has to write it:\n\n| name | what |\n|---|---|\n")
	for _, r := range policy.ImpliedRules() {
		fmt.Fprintf(&b, "| %s | %s |\n", r.Name, r.What)
	}
	b.WriteString(appendix)
	b.WriteString("\n## Examples\n")
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) < 4 {
		t.Fatal("no examples", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n### [%s](%s)\n\n```yaml\n%s```\n", filepath.Base(name), name, raw)
	}
	policy.Same(t, "REFERENCE.md", []byte(b.String()))
}

// The files of the reference are read as they stand there.
func TestReferenceExamples(t *testing.T) {
	raw, err := os.ReadFile("REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(raw), "```yaml\n")[1:]
	if len(blocks) < 4 {
		t.Fatalf("%d examples", len(blocks))
	}
	for i, b := range blocks {
		text, _, _ := strings.Cut(b, "```")
		if _, err := policy.Read(policy.Source{Name: fmt.Sprintf("example %d", i), Data: []byte(text)}); err != nil {
			t.Error(err)
		}
	}
}

// words lists the words of an enumeration.
func words(typ reflect.Type) string {
	var out []string
	for i := range 8 {
		v := reflect.New(typ).Elem()
		if !v.CanUint() || typ.PkgPath() == "" {
			return ""
		}
		v.SetUint(uint64(i))
		if s, ok := v.Interface().(fmt.Stringer); ok && s.String() != fmt.Sprint(i) {
			out = append(out, "`"+s.String()+"`")
		}
	}
	return strings.Join(out, ", ")
}

// kindOf says what stands behind a key.
func kindOf(typ reflect.Type) string {
	switch typ {
	case reflect.TypeFor[policy.Proto]():
		return "`tcp`, `udp`, `sctp`, `icmp`, `icmp6`, `any` or a number"
	case reflect.TypeFor[policy.PortRange]():
		return "port or range"
	case reflect.TypeFor[policy.Clock]():
		return "time of day"
	case reflect.TypeFor[policy.Zone]():
		return "time zone"
	case reflect.TypeFor[policy.Weekday]():
		return "`mon` to `sun`"
	}
	if w := words(typ); w != "" {
		return w
	}
	switch typ {
	case reflect.TypeFor[policy.Prefix]():
		return "CIDR or address"
	case reflect.TypeFor[flow.MAC]():
		return "MAC"
	case reflect.TypeFor[policy.ServiceRef]():
		return "service, or the name of one"
	case reflect.TypeFor[policy.Term]():
		return "peer, or \"not\" and one"
	}
	switch typ.Kind() {
	case reflect.Pointer:
		return kindOf(typ.Elem())
	case reflect.Slice:
		return "list of " + kindOf(typ.Elem())
	case reflect.Map:
		return kindOf(typ.Elem()) + " by name"
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "`true`, `false`"
	case reflect.Int, reflect.Uint8, reflect.Uint32:
		return "number"
	}
	return strings.ToLower(typ.Name())
}

const preface = `# Segmentation policies

Made from the code by a test. ` + "`platelet check FILE...`" + ` checks files of policies, together; ` + "`platelet policy schema`" + ` prints their JSON Schema for editors
(` + "`# yaml-language-server: $schema=policy.schema.json`" + `).

- **What decides.** Tiers in the order emergency, admin, application, baseline; in a tier policies by priority, the lower number first; in a policy rules by line. The
  first that matches decides; ` + "`pass`" + ` goes on to the next tier; where no rule matches, the connection is allowed. Deny the rest where you want a default deny.
- **Two sides.** Directions are the workload's: ingress is towards it. A connection needs the egress of who opens it and the ingress of whom it is opened to.
- **Connections.** Rules are about who opens a connection. Answers, and ICMP errors about it, share its fate.
- **Names.** Files that are read together know each other's groups and services; names of policies, and priorities within a tier, are taken once among all. A group
  may stand in several files as long as it is the same.
- **Peers** are a group by its name, an address, a CIDR, or ` + "`any`" + `; ` + "`{group: corp}`, `{ip: 10.0.0.1}` and `{cidr: 10.0.0.0/8}`" + ` say the same. A rule always names its peers.
- **Nothing is forgiven.** Unknown keys and words, lists that are there and empty, ports of protocols that have none, host bits in a CIDR: every fault is told with
  file:line:column, and with the word that was probably meant. Nothing is in force of files with faults.
`

const appendix = `
## What is looked at beyond validity

` + "`platelet policy lint FILE...`" + ` judges every rule for every pair of addresses, every service and every time within a year, and exactly: rules that never decide
(shadowed, unreachable), rules without which nothing would change (redundant), groups of nobody, contradictions within a tier, workloads that can no longer resolve
names or reach what is protected. A rule that would restrict something protected is an error, and has the files refused. Without ` + "`--inventory`" + ` only what holds for
every inventory is told. ` + "`platelet policy print`" + ` shows the order in which rules decide, and where the rest is denied.

## Kubernetes

The policy commands also read ` + "`NetworkPolicy` of `networking.k8s.io/v1`, `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` of `policy.networking.k8s.io/v1alpha1`" + `, several in
a file, or lists as ` + "`kubectl get -o yaml`" + ` prints them; ` + "`platelet policy import kubernetes FILE...`" + ` prints what they become. What cannot be said is refused by its place.

| Kubernetes | becomes |
|---|---|
| pod | workload with the pod's labels, those of its namespace as ` + "`ns:KEY`, and `k8s:namespace`" + ` |
| NetworkPolicy | ` + "`np/NAMESPACE/NAME`" + ` in the application tier allows, from priority 1000000 on; ` + "`np/NAMESPACE/NAME/isolate`" + ` behind all of them denies the rest |
| AdminNetworkPolicy | ` + "`anp/NAME`" + ` in the admin tier, with its priority |
| BaselineAdminNetworkPolicy | ` + "`banp/default`" + ` in the baseline tier |
| named ports | what ` + "`--port http=tcp/8080`" + ` says; refused without |
| nodes, domainNames, sameLabels | refused |
`
