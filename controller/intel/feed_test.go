package intel_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/intel"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const bundle = `{"type":"bundle","id":"bundle--1","objects":[
 {"type":"identity","name":"x"},
 {"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '192.0.2.7']","valid_from":"2026-11-23T00:00:00Z"},
 {"type":"indicator","pattern_type":"stix","pattern":"[ipv6-addr:value = '2001:db8::1' OR ipv4-addr:value = '198.51.100.0/24']","valid_from":"2026-11-23T00:00:00Z","valid_until":"2026-11-24T00:00:00Z"},
 {"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '203.0.113.1']","valid_from":"2026-11-20T00:00:00Z","valid_until":"2026-11-21T00:00:00Z"},
 {"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '203.0.113.2']","valid_from":"2026-11-20T00:00:00Z","revoked":true},
 {"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '203.0.113.3' AND network-traffic:dst_port = 25]","valid_from":"2026-11-20T00:00:00Z"},
 {"type":"indicator","pattern_type":"snort","pattern":"alert tcp any any","valid_from":"2026-11-20T00:00:00Z"}]}`

func TestFeedsOfBothForms(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.txt", "# a list\n192.0.2.7\n\n10.9.0.0/16 # a CIDR\n2001:db8::1\n")
	write("b.json", bundle)
	got, err := intel.Read(filepath.Join(dir, "*"), noon)
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, p := range []string{"10.9.0.0/16", "192.0.2.7/32", "198.51.100.0/24", "2001:db8::1/128"} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if !slices.Equal(got.Prefixes, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if want := noon.Add(12 * time.Hour); !got.Until.Equal(want) {
		t.Errorf("it says something else at %v, want %v", got.Until, want)
	}
	if got, err := intel.Read(filepath.Join(dir, "b.json"), noon.Add(-24*time.Hour)); err != nil || len(got.Prefixes) != 0 || !got.Until.Equal(noon.Add(-12*time.Hour)) {
		t.Errorf("before anything is valid: %v, %v", got, err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"a word":        {"192.0.2.1\nnonsense\n", ":2:1: \"nonsense\" is neither"},
		"everybody":     {"0.0.0.0/0\n", ":1:1: \"0.0.0.0/0\" is everybody"},
		"a bad bundle":  {`{"type":"bundle","objects":[{"type":"indicator","pattern_type":"stix","pattern":"[ipv4-addr:value = '1.2.3']","valid_from":"2026-11-20T00:00:00Z"}]}`, "objects[0]: pattern"},
		"not a bundle":  {`{"type":"report"}`, "is a \"report\""},
		"half a bundle": {`{"type":"bundle","objects":[`, "unexpected end"},
	} {
		write("bad", c.text)
		if _, err := intel.Read(filepath.Join(dir, "bad"), noon); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := intel.Read(filepath.Join(dir, "missing"), noon); err == nil {
		t.Error("a feed that is not there was read")
	}
}

// Patterns as the standard and its open implementations write them. Those about
// something else, or about more than an address, are passed over.
func TestPatterns(t *testing.T) {
	for pattern, want := range map[string]string{
		`[ipv4-addr:value = '198.51.100.1/32' OR ipv4-addr:value = '203.0.113.33/32' OR ipv6-addr:value = '2001:0db8:dead:beef:dead:beef:dead:0001/128']`: "198.51.100.1/32 203.0.113.33/32 2001:db8:dead:beef:dead:beef:dead:1/128",
		`[ipv4-addr:value='203.0.113.1']`: "203.0.113.1/32",
		` [ ipv4-addr:value = '203.0.113.1' ] OR
 [ipv4-addr:value = '203.0.113.2'] `: "203.0.113.1/32 203.0.113.2/32",
		`[ipv4-addr:value ISSUBSET '198.51.100.0/24']`:                                         "198.51.100.0/24",
		`[ipv4-addr:value IN ('203.0.113.1', '203.0.113.2') OR ipv6-addr:value IN ('::2')]`:    "203.0.113.1/32 203.0.113.2/32 ::2/128",
		`[ipv4-addr:value != '203.0.113.1']`:                                                   "",
		`[ipv4-addr:value NOT = '203.0.113.1']`:                                                "",
		`[NOT ipv4-addr:value = '203.0.113.1']`:                                                "",
		`[ipv4-addr:value ISSUPERSET '203.0.113.1']`:                                           "",
		`[ipv4-addr:value LIKE '203.0.113.%']`:                                                 "",
		`[ipv4-addr:value = '203.0.113.1' AND domain-name:value = 'x.example']`:                "",
		`[ipv4-addr:value = '203.0.113.1'] AND [ipv4-addr:value = '203.0.113.2']`:              "",
		`[ipv4-addr:value = '203.0.113.1'] FOLLOWEDBY [ipv4-addr:value = '203.0.113.2']`:       "",
		`[ipv4-addr:value = '203.0.113.1'] REPEATS 5 TIMES WITHIN 60 SECONDS`:                  "",
		`[ipv4-addr:value = '203.0.113.1' OR domain-name:value = 'x.example']`:                 "",
		`[domain-name:value = 'ipv4-addr:value = 203.0.113.1']`:                                "",
		`[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = 'x']`: "",
	} {
		for _, kind := range []string{`"pattern_type":"stix",`, ""} { // 2.1 and 2.0
			raw := fmt.Sprintf(`{"type":"bundle","id":"bundle--1","objects":[{"type":"indicator",%s"pattern":%q,"valid_from":"2026-11-23T00:00:00Z"}]}`, kind, pattern)
			list, err := intel.Bundle("b", []byte(raw), noon)
			var words []string
			for _, p := range list.Prefixes {
				words = append(words, p.String())
			}
			if got := strings.Join(words, " "); err != nil || got != want {
				t.Errorf("%s gives %q, %v; want %q", pattern, got, err, want)
			}
		}
	}
}

func FuzzFeed(f *testing.F) {
	f.Add([]byte(bundle))
	f.Add([]byte("192.0.2.0/24 # x\n::1\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, _ := intel.List("f", raw)
		bundle, _ := intel.Bundle("f", raw, noon)
		if !bundle.Until.IsZero() && !bundle.Until.After(noon) {
			t.Fatalf("it changed before it was read: %v", bundle.Until)
		}
		for _, l := range [][]netip.Prefix{list, bundle.Prefixes} {
			for _, p := range l {
				if !p.IsValid() || p.Bits() == 0 || p != p.Masked() {
					t.Fatalf("%v came out", p)
				}
			}
		}
	})
}
