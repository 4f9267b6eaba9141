package policy

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func mustRead(t *testing.T, text string) *Set {
	t.Helper()
	set, err := Read(Source{Name: "p.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Every example is read, and reads the same when it was written again.
func TestExamples(t *testing.T) {
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no examples", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set, err := Read(Source{Name: name, Data: raw})
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		again(t, set)
	}
}

// again holds a set against what is read of what it writes.
func again(t interface{ Fatalf(string, ...any) }, set *Set) {
	raw, err := set.Marshal()
	if err != nil {
		t.Fatalf("%v", err)
	}
	back, err := Read(Source{Name: "again", Data: raw})
	if err != nil {
		t.Fatalf("%v in\n%s", err, raw)
	}
	set, back = bare(set), bare(back)
	if !reflect.DeepEqual(set, back) {
		t.Fatalf("written:\n%s\nread: %+v\nwas:  %+v", raw, back, set)
	}
}

// bare is a set without its places.
func bare(s *Set) *Set {
	out := *s
	out.origins = nil
	return &out
}

// The design's example, part by part.
func TestDesignExample(t *testing.T) {
	raw, err := os.ReadFile("testdata/examples/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	set := mustRead(t, string(raw))
	var order []string
	for _, p := range set.Policies {
		order = append(order, p.Name)
	}
	if got := strings.Join(order, " "); got != "q-10.20.3.7 db-ingress default-deny" {
		t.Errorf("order %s", got)
	}
	if r := set.Policy("db-ingress").Ingress[1]; r.Action != ActionRateLimit || r.Rate.PacketsPerSecond != 100 || r.Rate.Burst != 20 {
		t.Errorf("%+v", r)
	}
	if p := set.Policies[0].AppliesTo[0]; p.String() != "10.20.3.7" {
		t.Errorf("applies to %s", p)
	}
	if at := set.RuleAt(RuleID{"db-ingress", Ingress, "corp-ping"}).String(); at != "p.yaml:19:5" {
		t.Errorf("rule at %s", at)
	}
	if at := set.GroupAt("corp").String(); at != "p.yaml:5:9" {
		t.Errorf("group at %s", at)
	}
}
