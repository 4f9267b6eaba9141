package response

import "testing"

// What is read as a service is written as it was read, but for leading zeros.
func FuzzService(f *testing.F) {
	for _, s := range []string{"tcp/22", "udp/53", "tcp/022", "icmp/8", "tcp/0", "tcp/65536", "tcp", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Service
		if s.UnmarshalText([]byte(text)) != nil {
			if s != (Service{}) {
				t.Fatalf("%q is refused, and leaves %+v", text, s)
			}
			return
		}
		raw, err := s.MarshalText()
		if err != nil || again.UnmarshalText(raw) != nil || again != s || s.Port == 0 {
			t.Fatalf("%q is read as %+v, written as %q, %v, and read as %+v", text, s, raw, err, again)
		}
	})
}
