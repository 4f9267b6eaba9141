package policy_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// What is written is read as what it was.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		set := policytest.Sets().Draw(t, "set")
		set.SourceGuards = policytest.Guards(set).Draw(t, "guards")
		raw, err := set.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := policy.Read(policy.Source{Name: "again", Data: raw})
		if err != nil {
			t.Fatalf("%v in\n%s", err, raw)
		}
		if !equal(set, back) {
			t.Fatalf("read otherwise than written:\n%s", raw)
		}
	})
}

func equal(a, b *policy.Set) bool {
	return reflect.DeepEqual(a.Groups, b.Groups) && reflect.DeepEqual(a.Services, b.Services) &&
		reflect.DeepEqual(a.Protected, b.Protected) && reflect.DeepEqual(a.SourceGuards, b.SourceGuards) && reflect.DeepEqual(a.Policies, b.Policies) && reflect.DeepEqual(a.Invariants, b.Invariants)
}

// Whatever is read is either refused, at a place, or can be written and read.
func FuzzRead(f *testing.F) {
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) == 0 {
		f.Fatal("no examples", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 16<<10 {
			return
		}
		set, err := policy.Read(policy.Source{Name: "f", Data: raw})
		if err != nil {
			return
		}
		again, err := set.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := policy.Read(policy.Source{Name: "g", Data: again})
		if err != nil {
			t.Fatalf("%v in\n%s", err, again)
		}
		if third, err := back.Marshal(); err != nil || string(third) != string(again) {
			t.Fatalf("%v: written as\n%s\nand then as\n%s", err, again, third)
		}
	})
}
