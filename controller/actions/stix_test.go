package actions

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	feed "github.com/platelet-sdn/platelet/controller/intel"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/playbook/cacao"
	"github.com/platelet-sdn/platelet/detector"
)

// conforms holds a bundle against the schema, and against what the standard demands
// and no schema can say.
func conforms(t *testing.T, schema *jsonschema.Schema, raw []byte) []map[string]any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(v); err != nil {
		t.Fatalf("%v\n%s", err, raw)
	}
	var b struct {
		ID      string
		Objects []map[string]any
	}
	if err := json.Unmarshal(raw, &b); err != nil {
		t.Fatal(err)
	}
	uuids := map[string]string{b.ID[strings.Index(b.ID, "--"):]: b.ID}
	ids := map[string]bool{}
	for _, o := range b.Objects {
		id, _ := o["id"].(string)
		u := id[strings.Index(id, "--"):]
		if uuids[u] != "" {
			t.Errorf("%s has the UUID of %s", id, uuids[u])
		}
		uuids[u], ids[id] = id, true
	}
	for _, o := range b.Objects {
		for key, value := range o {
			refs, _ := value.([]any)
			if strings.HasSuffix(key, "_ref") {
				refs = []any{value}
			}
			for _, ref := range refs {
				if text, _ := ref.(string); strings.Contains(key, "_ref") && !strings.HasPrefix(key, "external") && !ids[text] {
					t.Errorf("%s of %s is %s, which is not there", key, o["id"], text)
				}
			}
		}
		for _, order := range [][2]string{{"created", "modified"}, {"valid_from", "valid_until"}, {"first_seen", "last_seen"}} {
			from, _ := o[order[0]].(string)
			to, _ := o[order[1]].(string)
			if from > to && to != "" || from == to && order[0] == "valid_from" && from != "" {
				t.Errorf("%s is not after %s in %s", order[1], order[0], raw)
			}
		}
	}
	return b.Objects
}

// Whatever a bundle tells of, it is one of STIX 2.1; the same object in several
// bundles is the same; and a feed of it blocks whom it is about, for as long as it
// says.
func TestBundlesConform(t *testing.T) {
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("testdata", "stix-2.1.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]map[string]any{}
	begin := time.Date(2026, 11, 23, 9, 0, 0, 500e6, time.UTC)
	n := 0
	for _, tlp := range []string{"", "clear", "green", "amber", "red"} {
		for _, kind := range detector.Kinds() {
			for _, host := range []playbook.HostFacts{{Address: "10.0.0.7"}, {Address: "2001:db8::7", MAC: "02:00:00:00:00:07"}, {Address: "fe80::1%eth0"}, {MAC: "02:00:00:00:00:0a"}} {
				n++
				args := playbook.Intel{TLP: tlp, Valid: time.Hour}
				c := call(args)
				c.Key, c.Facts.Host = fmt.Sprintf("r-%d-intel", n), host
				c.Facts.Finding.Kind, c.Facts.Finding.Technique, c.Facts.Finding.Confidence = kind.Kind, kind.Technique, 0.29
				if n%3 == 0 {
					c.Facts.Finding.Why, c.Facts.Finding.FirstSeen = "", "2026-11-23T10:00:00Z"
				}
				b, err := stix(c, args)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := json.Marshal(b)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range conforms(t, schema, raw) {
					version := fmt.Sprint(o["id"], o["modified"])
					if was := seen[version]; was != nil && !reflect.DeepEqual(was, o) {
						t.Errorf("two objects are %s: %v and %v", version, was, o)
					}
					seen[version] = o
				}
				var want []netip.Prefix
				if a, err := netip.ParseAddr(host.Address); err == nil {
					want = []netip.Prefix{netip.PrefixFrom(a.WithZone(""), a.BitLen())}
				}
				if got, err := feed.Bundle(c.Key, raw, begin.Add(time.Minute)); err != nil || !slices.Equal(got.Prefixes, want) {
					t.Errorf("a feed of it holds %v, %v; want %v", got, err, want)
				}
				if got, err := feed.Bundle(c.Key, raw, begin.Add(time.Hour)); err != nil || len(got.Prefixes) > 0 {
					t.Errorf("an hour later a feed of it holds %v, %v", got, err)
				}
			}
		}
	}
}

// We are the same to those who read our bundles and to those who read our playbooks.
func TestOneIdentity(t *testing.T) {
	p := playbook.Playbook{Name: "p", Steps: []playbook.Step{{Name: "contain", Action: "quarantine"}}}
	raw, err := cacao.Export(&p, time.Now())
	if err != nil || !strings.Contains(string(raw), `"created_by": "`+id("identity", "platelet")+`"`) {
		t.Errorf("%v: %s", err, raw)
	}
}
