package actions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/response/playbook"
)

var idForm = regexp.MustCompile(`^[a-z][a-z-]+--[0-9a-f]{8}-[0-9a-f]{4}-[45][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// required are the properties that STIX 2.1 requires of the objects we write.
func required() map[string][]string {
	sdo := []string{"type", "spec_version", "id", "created", "modified"}
	return map[string][]string{
		"marking-definition": {"type", "spec_version", "id", "created", "definition_type", "definition"},
		"identity":           append([]string{"name", "identity_class"}, sdo...),
		"indicator":          append([]string{"pattern", "pattern_type", "valid_from", "valid_until", "indicator_types"}, sdo...),
		"sighting":           append([]string{"sighting_of_ref", "first_seen", "last_seen"}, sdo...),
	}
}

func TestIntelWritesABundle(t *testing.T) {
	dir := t.TempDir()
	args := playbook.Intel{Dir: dir, Valid: time.Hour, TLP: "green"}
	name, err := New(nil).Do(t.Context(), call(args))
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var b struct {
		Type, ID string
		Objects  []map[string]any
	}
	if err := json.Unmarshal(first, &b); err != nil || b.Type != "bundle" || !idForm.MatchString(b.ID) || len(b.Objects) != 4 {
		t.Fatalf("%v: %s", err, first)
	}
	ids := map[string]bool{}
	for _, o := range b.Objects {
		kind, _ := o["type"].(string)
		for _, p := range required()[kind] {
			if o[p] == nil {
				t.Errorf("%s lacks %s", kind, p)
			}
		}
		id, _ := o["id"].(string)
		if !idForm.MatchString(id) || !strings.HasPrefix(id, kind+"--") {
			t.Errorf("%s has the id %s", kind, id)
		}
		ids[id] = true
	}
	in, seen := b.Objects[2], b.Objects[3]
	if in["pattern"] != "[ipv4-addr:value = '10.0.0.7']" || in["valid_from"] != "2026-11-23T09:00:00.500Z" || in["valid_until"] != "2026-11-23T10:00:00.500Z" || in["confidence"] != 90.0 {
		t.Errorf("%v", in)
	}
	if of, _ := seen["sighting_of_ref"].(string); !ids[of] || of != in["id"] {
		t.Errorf("%v", seen)
	}
	// Written once more it is the same file, and nothing else is left.
	if _, err := New(nil).Do(t.Context(), call(args)); err != nil {
		t.Fatal(err)
	}
	again, _ := os.ReadFile(name)
	left, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if string(again) != string(first) || len(left)+len(hidden) != 1 {
		t.Errorf("the second is another, or there are more files: %v %v", left, hidden)
	}
}

func TestIntelOfForgedSources(t *testing.T) {
	dir := t.TempDir()
	c := call(playbook.Intel{Dir: dir})
	c.Facts.Host = playbook.HostFacts{}
	if _, err := New(nil).Do(t.Context(), c); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("somebody was accused: %v", left)
	}
	for address, want := range map[string]string{"fe80::1%eth0": "[ipv6-addr:value = 'fe80::1']", "": "[mac-addr:value = '02:00:00:00:00:01']"} {
		if got := pattern(playbook.HostFacts{Address: address, MAC: "02:00:00:00:00:01"}); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	if _, err := New(nil).Do(t.Context(), call(playbook.Intel{Dir: "/nosuch"})); err == nil || permanent(err) {
		t.Errorf("no directory: %v", err)
	}
}
