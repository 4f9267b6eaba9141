package policy_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

func editor(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(policy.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// instance reads YAML as editors do: times are texts.
func instance(t interface{ Fatal(...any) }, raw []byte) any {
	var n yaml.Node
	if err := yaml.Unmarshal(raw, &n); err != nil {
		t.Fatal(err)
	}
	return valueOf(n.Content[0])
}

func valueOf(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		m := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			m[n.Content[i].Value] = valueOf(n.Content[i+1])
		}
		return m
	case yaml.SequenceNode:
		list := []any{}
		for _, c := range n.Content {
			list = append(list, valueOf(c))
		}
		return list
	}
	switch n.ShortTag() {
	case "!!int":
		x, _ := strconv.ParseInt(n.Value, 0, 64)
		return x
	case "!!float":
		x, _ := strconv.ParseFloat(n.Value, 64)
		return x
	case "!!bool":
		return n.Value == "true"
	case "!!null":
		return nil
	}
	return n.Value
}

// What the reader takes an editor takes, for the examples and for every random
// set as it is written.
func TestEditorsAcceptWhatIsValid(t *testing.T) {
	s := editor(t)
	names, err := filepath.Glob("testdata/examples/*.yaml")
	if err != nil || len(names) == 0 {
		t.Fatal("no examples", err)
	}
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		raw, err := policytest.Sets().Draw(t, "set").Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(instance(t, raw)); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
	})
}

// Editors see each class of fault that can be seen without knowing names, and
// the good file is good to them, so that it is the fault that they see.
func TestEditorsSeeFaults(t *testing.T) {
	s := editor(t)
	if err := s.Validate(instance(t, []byte(good))); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range faults {
		text := strings.Replace(good, f.old, f.new, 1)
		if !f.schema {
			continue
		}
		seen++
		if s.Validate(instance(t, []byte(text))) == nil {
			t.Errorf("%s: the schema accepts it", f.class)
		}
	}
	if seen < 45 {
		t.Errorf("only %d classes", seen)
	}
}
