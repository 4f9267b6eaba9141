package audit

import (
	"testing"
	"time"
)

// What it costs the goroutine that decides to say what happened.
func BenchmarkRecord(b *testing.B) {
	l := New(configIn(b.TempDir()))
	e := numbered(1)
	for b.Loop() {
		l.Record(e)
		if len(l.queue) == queueSize {
			for len(l.queue) > 0 { // part of the figure, and small
				<-l.queue
			}
		}
	}
}

// What it costs to write an entry down: its text alone, in batches as they come
// under load, each flushed to the disk, and one by one.
func BenchmarkAppend(b *testing.B) {
	stamp := func(p pending) Entry { return Entry{Time: time.Unix(1e9, 0), Run: "0123456789ab", Event: p.event} }
	b.Run("text", func(b *testing.B) {
		e := stamp(pending{event: numbered(1)})
		var t tree
		for b.Loop() {
			line, err := e.line()
			if err != nil {
				b.Fatal(err)
			}
			e.Prev = hashLine(line)
			t.add(e.Prev)
		}
	})
	for _, c := range []struct {
		name string
		n    int
	}{{"flush-of-256", 256}, {"flush-each", 1}} {
		b.Run(c.name, func(b *testing.B) {
			cfg := configIn(b.TempDir())
			cfg.FileSize = 1 << 30
			s := newStore(cfg)
			if err := s.open(stamp); err != nil {
				b.Fatal(err)
			}
			list := make([]pending, c.n)
			for i := range list {
				list[i] = pending{event: numbered(i)}
			}
			for b.Loop() {
				if err := s.append(list, stamp); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.n), "ns/entry")
			b.ReportMetric(float64(s.size)/float64(s.next), "bytes/entry")
		})
	}
}

// What it costs to verify an entry.
func BenchmarkVerify(b *testing.B) {
	cfg := configIn(b.TempDir())
	written(b, cfg, 2000)
	for b.Loop() {
		if r := verify(b, cfg.Dir, Options{}); !r.OK() {
			b.Fatal(r.Faults)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*2001), "ns/entry")
}
