package openflow

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]string{
		"unix:/run/openvswitch/br0.mgmt": "unix:/run/openvswitch/br0.mgmt",
		"tcp:10.0.0.1":                   "tcp:10.0.0.1:6653",
		"tcp:10.0.0.1:6633":              "tcp:10.0.0.1:6633",
		"ssl:[fe80::1%eth0]":             "ssl:[fe80::1%eth0]:6653",
		"ssl:[::1]:16653":                "ssl:[::1]:16653",
		"ssl:hv-1.example.net:6653":      "ssl:hv-1.example.net:6653",
		"ptcp:":                          "ptcp:6653",
		"ptcp:0":                         "ptcp:0",
		"ptcp::10.0.0.1":                 "ptcp:6653:10.0.0.1",
		"pssl:6653:[::]":                 "pssl:6653:[::]",
	} {
		got, err := ParseTarget(in)
		if err != nil || got.String() != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		"":                                  "no scheme",
		"/run/br0.mgmt":                     "no scheme",
		"http://10.0.0.1":                   "unknown scheme",
		"unix:":                             "1 to 107 bytes",
		"unix:/" + strings.Repeat("x", 107): "1 to 107 bytes",
		"tcp:":                              "host is missing",
		"tcp::6653":                         "host is missing",
		"tcp:10.0.0.1:":                     "port is empty",
		"tcp:10.0.0.1:0":                    "port 0",
		"tcp:10.0.0.1:70000":                "up to 65535",
		"tcp:::1":                           "in brackets",
		"tcp:[::1":                          "in brackets",
		"tcp:[10.0.0.1]":                    "no IPv6 address",
		"tcp:a b":                           "neither an address nor a host name",
		"pssl:6653:here":                    "no address to listen on",
		"pssl:x":                            "up to 65535",
	} {
		if got, err := ParseTarget(in); err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "want unix:PATH") {
			t.Errorf("%q: got %s, %v, want %q", in, got, err, why)
		}
	}
}

// FuzzParseTarget holds that what is accepted reads back the same.
func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"unix:/x", "tcp:h", "ssl:[::1]:1", "ptcp:", "pssl:1:[::]", "ptcp::127.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseTarget(s)
		if err != nil {
			return
		}
		if b, err := ParseTarget(a.String()); err != nil || a != b {
			t.Fatalf("%q became %s, then %s, %v", s, a, b, err)
		}
	})
}
