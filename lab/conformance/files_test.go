package conformance

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// TestOurLabsMatchTheSchema validates every topology of ours against the
// schema that editors and containerlab's own tests use.
func TestOurLabsMatchTheSchema(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(module(t), "schemas/clab.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../*.clab.yml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var doc any
			if err := yaml.Unmarshal(data, &doc); err != nil {
				t.Fatal(err)
			}
			if err := schema.Validate(doc); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFilesMeanTheSame reads our labs, the public ones and containerlab's
// own with both readers.
func TestFilesMeanTheSame(t *testing.T) {
	files := labs(t)
	for _, pattern := range []string{"lab-examples/*/*.clab.y*ml", "tests/*/*.clab.y*ml", "core/test_data/*.y*ml"} {
		theirs, err := filepath.Glob(filepath.Join(module(t), pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, theirs...)
	}
	same, refused := 0, 0
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(data), "{{") {
				if _, err := ours(data); err == nil || !strings.Contains(err.Error(), "template") {
					t.Errorf("a template is not refused by name: %v", err)
				}
				return
			}
			if slices.Contains([]string{"topo6.yml", "topo7-dup-rootnetns.yml"}, filepath.Base(file)) {
				// Theirs finds a name that is used twice only when it deploys.
				if _, err := ours(data); err == nil || !strings.Contains(err.Error(), "is already used by") {
					t.Errorf("a name used twice is not refused: %v", err)
				}
				return
			}
			if compare(t, data) {
				same++
			} else {
				refused++
			}
		})
	}
	t.Logf("%d files mean the same, %d are refused by both", same, refused)
	if same < 60 {
		t.Errorf("only %d files could be compared", same)
	}
}

// compare reads one topology with both, and reports whether both took it.
func compare(t interface {
	Helper()
	Errorf(string, ...any)
}, data []byte) bool {
	t.Helper()
	c, theirErr := theirs(data)
	var want facts
	if theirErr == nil {
		want, theirErr = theirFacts(c)
	}
	topo, ourErr := ours(data)
	switch {
	case theirErr == nil && ourErr != nil:
		t.Errorf("containerlab takes what we refuse: %v", ourErr)
	case theirErr != nil && ourErr == nil:
		t.Errorf("we take what containerlab refuses: %v", theirErr)
	case theirErr == nil:
		got := ourFacts(topo)
		for _, line := range want {
			if !slices.Contains(got, line) {
				t.Errorf("theirs only: %s", line)
			}
		}
		for _, line := range got {
			if !slices.Contains(want, line) {
				t.Errorf("ours only:   %s", line)
			}
		}
		return true
	}
	return false
}
