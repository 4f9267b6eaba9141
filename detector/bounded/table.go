// Package bounded holds a hash table of fixed size that never grows: when it is full, the least worthy entry near
// the new one makes room, or the new one is refused.
//
// An ordinary map with a random victim would let whoever can invent keys
// (spoofed source addresses) wash out what is known about everybody else.
// Here the owner says what an entry is worth, so that invented keys, which
// are worth nothing yet, only ever replace each other.
package bounded

import (
	"hash/maphash"
	"iter"
	"math/bits"
	"unsafe"
)

// ways is the number of entries that share a hash and compete for room. Eight
// tags are compared in one 64-bit word.
const ways = 8

const (
	lowBits  = 0x0101010101010101
	highBits = 0x8080808080808080
)

// Table is a set-associative hash table. Entries stay in their slot from
// insertion to eviction, so a slot number may be kept as a weak reference:
// verify it with Key.
//
// Entries are apart from the hash, side by side in the order of their
// insertion: a thousand of them in a table for a million share a few pages
// instead of having one each, which is most of what a lookup costs.
type Table[K comparable, V any] struct {
	seed  maphash.Seed
	mask  uint64
	sets  []set
	slots []slot[K, V]
	free  []uint32 // slots below used that are empty
	used  uint32   // slots that were ever taken
	worth func(*V) int64

	length            int
	evicted, rejected uint64
}

// set is what shares a hash.
type set struct {
	tags  uint64 // a byte per way, 0 when empty
	index [ways]uint32
}

type slot[K comparable, V any] struct {
	key   K
	home  uint32 // set*ways + way + 1; 0 when empty
	value V
}

// New makes a table for at least capacity entries. worth orders entries: the
// lowest goes first.
func New[K comparable, V any](capacity int, worth func(*V) int64) *Table[K, V] {
	room := ways
	for room < capacity {
		room *= 2
	}
	// Twice as many ways as slots: with as many, every eighth entry of a full
	// table would find its set full before. They cost little beside the slots.
	sets := room / ways
	if sets > 1 {
		sets *= 2
	}
	return &Table[K, V]{
		seed:  maphash.MakeSeed(),
		mask:  uint64(sets - 1),
		sets:  make([]set, sets),
		slots: make([]slot[K, V], room),
		worth: worth,
	}
}

// place returns the set of a key and its tag, which is never 0. The hash is
// keyed by a random seed, so nobody outside can aim at one set.
func (t *Table[K, V]) place(k K) (set uint64, tag uint64) {
	h := maphash.Comparable(t.seed, k)
	return h & t.mask, h>>57 | 0x80
}

// Find returns the slot and the value of k, or nil.
func (t *Table[K, V]) Find(k K) (uint32, *V) {
	set, tag := t.place(k)
	return t.find(set, tag, k)
}

func (t *Table[K, V]) find(n uint64, tag uint64, k K) (uint32, *V) {
	set := &t.sets[n]
	// A byte of x is 0 where the tag matches; the classic test may also mark
	// the byte above a match, which the key comparison sorts out.
	x := set.tags ^ tag*lowBits
	for m := (x - lowBits) &^ x & highBits; m != 0; m &= m - 1 {
		i := set.index[bits.TrailingZeros64(m)/8]
		if s := &t.slots[i]; s.key == k {
			return i, &s.value
		}
	}
	return 0, nil
}

// Put finds k, or inserts it with a zero value for the caller to fill. An
// entry of lower worth than the given one is evicted if there is no room; if
// there is none, Put returns nil and the key is not held.
func (t *Table[K, V]) Put(k K, worth int64) (i uint32, v *V, fresh bool) {
	n, tag := t.place(k)
	if i, v := t.find(n, tag, k); v != nil {
		return i, v, false
	}
	way, i, ok := t.room(n, worth)
	if !ok {
		t.rejected++
		return 0, nil, false
	}
	set, shift := &t.sets[n], 8*way
	set.tags = set.tags&^(0xff<<shift) | tag<<shift
	set.index[way] = i
	s := &t.slots[i]
	*s = slot[K, V]{key: k, home: uint32(n*ways+way) + 1}
	return i, &s.value, true
}

// near is how many sets a newcomer looks through for somebody to make room,
// when there are no slots left.
const near = 4

// room frees a way of a set, and a slot, for a newcomer of the given worth.
func (t *Table[K, V]) room(n uint64, worth int64) (way uint64, i uint32, ok bool) {
	empty := ^t.sets[n].tags & highBits
	if empty != 0 && t.length < len(t.slots) {
		t.length++
		return uint64(bits.TrailingZeros64(empty) / 8), t.take(), true
	}
	if way, i, ok = t.least(n, worth); ok {
		t.evicted++
		return way, i, true
	}
	for step := uint64(1); step < near && empty != 0; step++ {
		other := (n + step) & t.mask
		if way, i, ok = t.least(other, worth); ok {
			t.evicted++
			t.sets[other].tags &^= 0xff << (8 * way)
			return uint64(bits.TrailingZeros64(empty) / 8), i, true
		}
	}
	return 0, 0, false
}

// least finds the entry of a set that is worth least, if that is less than worth.
func (t *Table[K, V]) least(n uint64, worth int64) (way uint64, i uint32, ok bool) {
	set := &t.sets[n]
	for taken := set.tags & highBits; taken != 0; taken &= taken - 1 {
		w := uint64(bits.TrailingZeros64(taken) / 8)
		if x := t.worth(&t.slots[set.index[w]].value); x < worth {
			worth, way, i, ok = x, w, set.index[w], true
		}
	}
	return way, i, ok
}

// take returns an empty slot.
func (t *Table[K, V]) take() uint32 {
	if last := len(t.free) - 1; last >= 0 {
		i := t.free[last]
		t.free = t.free[:last]
		return i
	}
	t.used++
	return t.used - 1
}

// At returns the value in a slot, whoever holds it now.
func (t *Table[K, V]) At(i uint32) *V { return &t.slots[i].value }

// Key returns the key in a slot, and false when the slot is empty.
func (t *Table[K, V]) Key(i uint32) (K, bool) {
	s := &t.slots[i]
	return s.key, s.home != 0
}

// All yields the slots that are taken and their keys, in the order of slots. It
// looks at no more slots than were ever taken at once. The entry that was yielded
// may be deleted meanwhile, nothing may be inserted.
func (t *Table[K, V]) All() iter.Seq2[uint32, K] {
	return func(yield func(uint32, K) bool) {
		for i := range t.used {
			if s := &t.slots[i]; s.home != 0 && !yield(i, s.key) {
				return
			}
		}
	}
}

// Delete removes the entry in a slot.
func (t *Table[K, V]) Delete(i uint32) {
	s := &t.slots[i]
	if s.home == 0 {
		return
	}
	way := s.home - 1
	t.sets[way/ways].tags &^= 0xff << (8 * (way % ways))
	*s = slot[K, V]{}
	t.free = append(t.free, i)
	t.length--
}

// Len is the number of entries held, Cap the most there can be.
func (t *Table[K, V]) Len() int { return t.length }

// Cap is the most entries that the table can hold.
func (t *Table[K, V]) Cap() int { return len(t.slots) }

// Bytes is what the table takes when it is full.
func (t *Table[K, V]) Bytes() int {
	return len(t.slots)*int(unsafe.Sizeof(slot[K, V]{})) + len(t.sets)*int(unsafe.Sizeof(set{}))
}

// Evicted counts entries that made room for worthier ones.
func (t *Table[K, V]) Evicted() uint64 { return t.evicted }

// Rejected counts newcomers that found no room.
func (t *Table[K, V]) Rejected() uint64 { return t.rejected }
