package detector

// deadline is a contact that waits for an answer since a time.
type deadline struct {
	since int64
	slot  uint32
}

// deadlines is a bounded queue of contacts in the order of their attempts.
// A second cursor follows those that wait for longer than a margin.
type deadlines struct {
	ring             []deadline // length is a power of two
	head, tail, aged uint64
}

func newDeadlines(capacity int) deadlines {
	n := 1
	for n < capacity {
		n *= 2
	}
	return deadlines{ring: make([]deadline, n)}
}

func (q *deadlines) len() int { return int(q.tail - q.head) }

// crowded reports whether only sources with a past should still be queued.
func (q *deadlines) crowded() bool { return q.len() >= len(q.ring)/4*3 }

// push queues a contact; false when there is no room.
func (q *deadlines) push(d deadline) bool {
	if q.len() == len(q.ring) {
		return false
	}
	q.ring[q.tail&uint64(len(q.ring)-1)] = d
	q.tail++
	return true
}

// pop takes the first contact if it has waited for d.
func (q *deadlines) pop(now, d int64) (deadline, bool) {
	if q.head == q.tail {
		return deadline{}, false
	}
	x := q.ring[q.head&uint64(len(q.ring)-1)]
	if now-x.since < d {
		return deadline{}, false
	}
	q.head++
	q.aged = max(q.aged, q.head)
	return x, true
}

// age takes the next contact that has waited for d, without removing it.
func (q *deadlines) age(now, d int64) (deadline, bool) {
	if q.aged == q.tail {
		return deadline{}, false
	}
	x := q.ring[q.aged&uint64(len(q.ring)-1)]
	if now-x.since < d {
		return deadline{}, false
	}
	q.aged++
	return x, true
}

// due is when the next contact will have waited for d (margin: for the second
// cursor), or never.
func (q *deadlines) due(d, margin, never int64) int64 {
	if q.head == q.tail {
		return never
	}
	t := q.ring[q.head&uint64(len(q.ring)-1)].since + d
	if q.aged != q.tail {
		t = min(t, q.ring[q.aged&uint64(len(q.ring)-1)].since+margin)
	}
	return t
}
