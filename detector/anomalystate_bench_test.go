package detector

import "testing"

// BenchmarkLearned measures for how long the engine stands still while what it
// has learned of 10,000 hosts is copied, and what takes place beside it.
func BenchmarkLearned(b *testing.B) {
	f := learned(b, func(c *Config) { c.Anomaly.Hosts = 1 << 17 })
	const hosts = 10_000
	for n := range hosts {
		x := f.e.anomaly.baseline(addressOf(hostAddr(1000 + n)))
		x.windows = uint32(n) + 1
	}
	l, err := f.e.Learned()
	if err != nil {
		b.Fatal(err)
	}
	if len(l.hosts) < hosts {
		b.Fatalf("%d of %d hosts", len(l.hosts), hosts)
	}
	b.Run("copy", func(b *testing.B) {
		for b.Loop() {
			if _, err := f.e.Learned(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("write", func(b *testing.B) {
		for b.Loop() {
			raw, err := l.MarshalBinary()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(raw)), "bytes")
		}
	})
}
