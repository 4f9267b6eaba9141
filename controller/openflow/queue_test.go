package openflow

import "testing"

// The queue is bounded in messages and in bytes, counts what does not fit,
// takes more as soon as somebody reads, and keeps the order of what it has.
func TestAsyncQueueIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ body, length, holds int }{
		"messages": {8, 3, 3},
		"bytes":    {maxMessage - headerLen, 4096, asyncBytes / (maxMessage - headerLen + messageOverhead)},
	} {
		t.Run(name, func(t *testing.T) {
			q := newAsyncQueue(c.length)
			next, read := uint32(0), uint32(0)
			add := func(n int) {
				for range n {
					q.add(Message{XID: next, Body: make([]byte, c.body)})
					next++
				}
			}
			add(c.holds + 7)
			if len(q.ch) != c.holds || q.dropped.Load() != 7 {
				t.Fatalf("holds %d messages and dropped %d, want %d and 7", len(q.ch), q.dropped.Load(), c.holds)
			}
			for range 2 {
				if m := <-q.ch; m.XID != read {
					t.Fatalf("message %d comes as number %d", m.XID, read)
				}
				read++
			}
			add(3)
			if len(q.ch) != c.holds || q.dropped.Load() != 8 {
				t.Fatalf("after reading 2 and adding 3: holds %d, dropped %d", len(q.ch), q.dropped.Load())
			}
			for last := uint32(0); len(q.ch) > 0; {
				m := <-q.ch
				if m.XID <= last {
					t.Fatalf("message %d after %d", m.XID, last)
				}
				last = m.XID
			}
			if add(1); q.bytes != c.body+messageOverhead || len(q.sizes) != 1 {
				t.Errorf("an empty queue counts %d bytes of %d messages", q.bytes, len(q.sizes))
			}
		})
	}
}
