package config_test

import (
	"testing"

	"github.com/platelet-sdn/platelet/controller/config"
)

func TestDigest(t *testing.T) {
	digest := func(text string) string {
		t.Helper()
		f, err := config.Parse("c.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		d, err := f.Digest()
		if err != nil || len(d) != 64 {
			t.Fatal(d, err)
		}
		return d
	}
	plain := digest("mode: advise\nprotected: [10.0.0.1]\n")
	if again := digest("# the same\nprotected:\n- 10.0.0.1/32\nresponse: {ttl: 60s}\nmode: advise\n"); again != plain {
		t.Error("the same settings, written in another way, have another digest")
	}
	if other := digest("mode: advise\nprotected: [10.0.0.2]\n"); other == plain {
		t.Error("another protected host, and the same digest")
	}
}

func TestAuditPaths(t *testing.T) {
	for _, c := range []struct{ text, dir, key string }{
		{"state: {dir: /s}", "/s/audit", "/s/audit.key"},
		{"state: {dir: /s}\naudit: {dir: /a}", "/a", "/s/audit.key"},
		{"state: {dir: '', nats: 'nats://x'}\naudit: {dir: /a}", "/a", "/a/audit.key"},
		{"state: {dir: '', nats: 'nats://x'}", "", "audit.key"},
	} {
		f, err := config.Parse("c.yaml", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		if f.AuditDir() != c.dir || f.AuditKey() != c.key {
			t.Errorf("%s: %s, %s", c.text, f.AuditDir(), f.AuditKey())
		}
	}
	for _, text := range []string{"audit: {file_size: 0}", "audit: {checkpoint: 1ms}"} {
		if _, err := config.Parse("c.yaml", []byte(text)); err == nil {
			t.Errorf("%s passes", text)
		}
	}
}
