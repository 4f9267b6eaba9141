package topology

import (
	"hash/maphash"
	"net/netip"
	"time"
)

const (
	attemptSlots = 8192 // a power of two
	// An answer that comes later than this is not one.
	attemptLife = 3 * int64(time.Second)
)

// attempts remembers recent connection attempts, so that an answer can be told
// from one that nobody asked for. It forgets the older of two attempts in one
// slot: then an answer counts for less than it might, which is harmless.
type attempts struct {
	seed  maphash.Seed
	slots []attempt // nil until the first attempt
}

type attempt struct {
	tag  uint64
	time int64
}

type pair struct{ client, server netip.Addr }

// note remembers an attempt.
func (a *attempts) note(client, server netip.Addr, now int64) {
	if a.slots == nil {
		a.seed, a.slots = maphash.MakeSeed(), make([]attempt, attemptSlots)
	}
	tag := maphash.Comparable(a.seed, pair{client, server})
	a.slots[tag%attemptSlots] = attempt{tag, now}
}

// seen reports whether client recently tried to reach server.
func (a *attempts) seen(client, server netip.Addr, now int64) bool {
	if a.slots == nil {
		return false
	}
	tag := maphash.Comparable(a.seed, pair{client, server})
	s := a.slots[tag%attemptSlots]
	return s.tag == tag && now-s.time < attemptLife
}
