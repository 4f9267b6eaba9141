package strictyaml_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

type guard struct {
	MaxQuarantines int           `yaml:"max_quarantines"`
	Protected      []string      `yaml:"protected"`
	Hold           time.Duration `yaml:"hold"`
	Ratio          float64       `yaml:"ratio"`
}

type common struct {
	Name string `yaml:"name"`
}

type config struct {
	Common *common                `yaml:"common"`
	Guard  guard                  `yaml:"guard"`
	Listen netip.AddrPort         `yaml:"listen"`
	Nets   []netip.Prefix         `yaml:"nets"`
	Hosts  map[netip.Addr]string  `yaml:"hosts"`
	Labels map[string]string      `yaml:"labels"`
	Port   uint16                 `yaml:"port"`
	On     bool                   `yaml:"on"`
	Ends   []endpoint             `yaml:"ends"`
	Extra  any                    `yaml:"extra"`
	Rules  map[string]map[int]int `yaml:"rules"`
}

// Embedded is exported because reflection cannot set fields of an embedded
// struct that is not.
type Embedded struct {
	Site string `yaml:"site"`
}

type withEmbedded struct {
	Embedded
	Port int `yaml:"port"`
}

// endpoint is either "node:iface" or a mapping.
type endpoint struct{ Node, Iface string }

func (e *endpoint) UnmarshalStrict(n strictyaml.Node) error {
	if n.Value() != "" {
		var ok bool
		if e.Node, e.Iface, ok = strings.Cut(n.Value(), ":"); !ok {
			return n.Errorf("needs node:interface")
		}
		return nil
	}
	var long struct {
		Node  string `yaml:"node"`
		Iface string `yaml:"interface"`
	}
	if err := n.Decode(&long); err != nil {
		return err
	}
	*e = endpoint(long)
	return nil
}

const good = `
common: &c {name: "7"}
guard: {max_quarantines: 3, protected: [10.0.0.1, dns], hold: 10s, ratio: 1}
listen: 127.0.0.1:9090
nets: [10.77.0.0/24, "fd77::/64"]
hosts: {10.0.0.1: a}
labels: {as: 65001, env: prod}
port: 6343
on: true
ends:
- h1:eth1
- {node: h2, interface: eth2}
extra: {a: [1, x]}
rules: {r: {1: 2}}
`

func TestDecodeEverything(t *testing.T) {
	c := config{Guard: guard{Ratio: 9}}
	if err := strictyaml.Decode("c.yml", []byte(good), &c); err != nil {
		t.Fatal(err)
	}
	want := config{
		Common: &common{Name: "7"},
		Guard:  guard{3, []string{"10.0.0.1", "dns"}, 10 * time.Second, 1},
		Listen: netip.MustParseAddrPort("127.0.0.1:9090"),
		Nets:   []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")},
		Hosts:  map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "a"},
		Labels: map[string]string{"as": "65001", "env": "prod"},
		Port:   6343, On: true,
		Ends:  []endpoint{{"h1", "eth1"}, {"h2", "eth2"}},
		Extra: map[string]any{"a": []any{1, "x"}},
		Rules: map[string]map[int]int{"r": {1: 2}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Fatalf("got  %+v\nwant %+v", c, want)
	}
}

func TestDefaultsStayAndEmptyDocumentsAreFine(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "port: 5\n"} {
		c := config{Guard: guard{MaxQuarantines: 3}}
		if err := strictyaml.Decode("c.yml", []byte(text), &c); err != nil || c.Guard.MaxQuarantines != 3 {
			t.Fatalf("%q: %+v, %v", text, c.Guard, err)
		}
	}
	var e withEmbedded
	if err := strictyaml.Decode("c.yml", []byte("site: x\nport: 1\n"), &e); err != nil || e.Site != "x" {
		t.Fatalf("embedded: %+v, %v", e, err)
	}
}

func TestMergeKeys(t *testing.T) {
	text := "labels: &l {a: 1, b: 2}\nextra:\n  <<: *l\n  b: 3\n"
	var c config
	if err := strictyaml.Decode("c.yml", []byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"a": 1, "b": 3}; !reflect.DeepEqual(c.Extra, want) {
		t.Fatalf("got %v", c.Extra)
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"unknown key", "prot: 1\n", `c.yml:1:1: unknown key "prot" (did you mean "port"?)`},
		{"unknown nested key", "guard:\n  max_quarantin: 1\n", `c.yml:2:3: unknown key "max_quarantin" in guard (did you mean "max_quarantines"?)`},
		{"far from everything", "guard: {zzzzzzzz: 1}\n", `c.yml:1:9: unknown key "zzzzzzzz" in guard (valid: max_quarantines, protected, hold, ratio)`},
		{"duplicate key", "port: 1\non: true\nport: 2\n", `c.yml:3:1: key "port" is already in line 1`},
		{"duplicate map key", "labels: {a: 1, a: 2}\n", `c.yml:1:16: labels: key "a" is already in line 1`},
		{"word for number", "guard: {max_quarantines: many}\n", `c.yml:1:26: guard.max_quarantines: needs a whole number, got "many"`},
		{"quoted number", "port: \"1\"\n", `c.yml:1:7: port: needs a whole number from 0 to 65535, got "1"`},
		{"overflow", "port: 65536\n", `c.yml:1:7: port: needs a whole number from 0 to 65535, got "65536"`},
		{"negative", "port: -1\n", `c.yml:1:7: port: needs a whole number from 0 to 65535, got "-1"`},
		{"fraction", "guard: {max_quarantines: 1.5}\n", `c.yml:1:26: guard.max_quarantines: needs a whole number, got "1.5"`},
		{"yes", "on: yes\n", `c.yml:1:5: on: needs true or false, got "yes"`},
		{"nothing", "common: {name: }\n", `c.yml:1:16: common.name: needs a text, got nothing`},
		{"duration", "guard: {hold: 10}\n", `c.yml:1:15: guard.hold: needs a duration such as 10s or 500ms, got "10"`},
		{"list for mapping", "guard: [1]\n", `c.yml:1:8: guard: needs a mapping, got a list`},
		{"scalar for list", "guard: {protected: dns}\n", `c.yml:1:20: guard.protected: needs a list, got "dns"`},
		{"mapping for text", "common: {name: {a: b}}\n", `c.yml:1:16: common.name: needs a text, got a mapping`},
		{"address", "nets: [10.0.0.0/99]\n", `c.yml:1:8: nets[0]: netip.ParsePrefix("10.0.0.0/99"): prefix length out of range`},
		{"map key", "hosts: {x: a}\n", `c.yml:1:9: hosts.x: ParseAddr("x"): unable to parse IP`},
		{"custom", "ends: [h1]\n", `c.yml:1:8: ends[0]: needs node:interface`},
		{"custom stays strict", "ends: [{node: h1, iface: e}]\n", `c.yml:1:19: unknown key "iface" in ends[0] (valid: node, interface)`},
		{"two faults in order", "port: x\non: 1\n", "c.yml:1:7: port: needs a whole number from 0 to 65535, got \"x\"\nc.yml:2:5: on: needs true or false, got \"1\""},
		{"syntax", "a: [1\nb: 2\n", `c.yml:1:1: did not find expected ',' or ']'`},
		{"two documents", "port: 1\n---\nport: 2\n", `c.yml:2:1: a second document starts here; one file holds one document`},
		{"alias of itself", "extra: &a [*a]\n", `c.yml:1:12: nested more than 64 deep`},
		{"merge of a scalar", "extra: {<<: 1}\n", `c.yml:1:13: extra: a merge key needs a mapping, got "1"`},
		{"list as key", "extra: {[a]: 1}\n", `c.yml:1:9: extra: a key must be a single word, got a list`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c config
			err := strictyaml.Decode("c.yml", []byte(tt.text), &c)
			var faults strictyaml.Errors
			if !errors.As(err, &faults) {
				t.Fatalf("want faults, got %v", err)
			}
			if got := err.Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestAliasBombIsRefusedQuickly(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < 12; i++ {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 8), i-1)
	}
	var out any
	start := time.Now()
	err := strictyaml.Decode("bomb.yml", []byte(b.String()), &out)
	if err == nil || !strings.Contains(err.Error(), "beyond reason") {
		t.Fatalf("got %v", err)
	}
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestManyFaultsAreCapped(t *testing.T) {
	var c config
	err := strictyaml.Decode("c.yml", []byte("ends: ["+strings.Repeat("x,", 5000)+"x]\n"), &c)
	var faults strictyaml.Errors
	if !errors.As(err, &faults) || len(faults) == 0 || len(faults) > 50 {
		t.Fatalf("%d faults", len(faults))
	}
}

func TestPos(t *testing.T) {
	doc, err := strictyaml.Parse("c.yml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"":                      "c.yml:2:1",
		"guard.max_quarantines": "c.yml:3:26",
		"guard.protected[1]":    "c.yml:3:51",
		"guard.missing":         "c.yml:3:8",
		"hosts.10.0.0.1":        "c.yml:6:19",
		"ends[1].interface":     "c.yml:12:25",
		"ends[9]":               "c.yml:11:1",
		"nowhere":               "c.yml:2:1",
	} {
		if got := doc.Pos(path).String(); got != want {
			t.Errorf("Pos(%q) = %s, want %s", path, got, want)
		}
	}
	if got := doc.Errorf("port", "is %d, too low", 6343).Error(); got != "c.yml:8:7: port: is 6343, too low" {
		t.Errorf("Errorf: %s", got)
	}
}

func TestNearest(t *testing.T) {
	valid := []string{"quarantine", "rate-limit", "observe"}
	for word, want := range map[string]string{"qarantine": "quarantine", "Observe": "observe", "boserve": "observe", "drop": "", "": ""} {
		if got := strictyaml.Nearest(word, valid); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{good, "", "a: &a [*a]", "x: &x {<<: [*x, *x]}", "labels: {<<: {a: 1}, b: 2}",
		"extra: !!binary aGk=", "extra: 2001-01-01", "port: 0o17", "? [a]\n: b", "--- a\n...\n--- b", "\t", "extra: !!float x", "common: *nope"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var c config
		var generic any
		for _, out := range []any{&c, &generic} {
			err := strictyaml.Decode("f.yml", data, out)
			if err == nil {
				continue
			}
			var faults strictyaml.Errors
			if !errors.As(err, &faults) {
				t.Fatalf("not positioned: %v", err)
			}
			for _, e := range faults {
				if e.Line < 1 || e.Column < 1 {
					t.Fatalf("no position: %v", e)
				}
			}
		}
	})
}

func TestParseAll(t *testing.T) {
	docs, err := strictyaml.ParseAll("many.yaml", []byte("# none\n---\na: 1\n---\n---\n# nothing\n---\na: 2\nb: x\n"))
	if err != nil || len(docs) != 2 {
		t.Fatalf("%v: %d documents", err, len(docs))
	}
	var one struct{ A int }
	if err := docs[0].Decode(&one); err != nil || one.A != 1 {
		t.Errorf("%v: %+v", err, one)
	}
	if err := docs[1].Decode(&one); err == nil || !strings.HasPrefix(err.Error(), `many.yaml:9:1: unknown key "b"`) {
		t.Errorf("%v", err)
	}
	if _, err := strictyaml.ParseAll("many.yaml", []byte("a: 1\n---\n[")); err == nil || !strings.HasPrefix(err.Error(), "many.yaml:") {
		t.Errorf("%v", err)
	}
	if _, err := strictyaml.ParseAll("many.yaml", []byte(strings.Repeat("--- 1\n", 10_001))); err == nil || !strings.Contains(err.Error(), "more than 10000 documents") {
		t.Errorf("%v", err)
	}
}
