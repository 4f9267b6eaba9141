// Package bitset holds sets of small numbers: groups, classes, rules.
package bitset

import (
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"
)

// Set is a set of the numbers below its capacity. Operations on several sets
// are for those of one capacity.
type Set []uint64

// New returns an empty set for the numbers below n.
func New(n int) Set { return make(Set, (n+63)/64) }

// Full returns the set of all numbers below n.
func Full(n int) Set {
	s := New(n)
	for i := range s {
		s[i] = ^uint64(0)
	}
	if n%64 != 0 {
		s[n/64] = 1<<(n%64) - 1
	}
	return s
}

// Add puts a number in.
func (s Set) Add(i int) { s[i/64] |= 1 << (i % 64) }

// Remove takes a number out.
func (s Set) Remove(i int) { s[i/64] &^= 1 << (i % 64) }

// Has reports whether a number is in the set.
func (s Set) Has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

// AddAll puts all numbers of another set in.
func (s Set) AddAll(o Set) {
	for i, w := range o {
		s[i] |= w
	}
}

// RemoveAll takes all numbers of another set out.
func (s Set) RemoveAll(o Set) {
	for i, w := range o {
		s[i] &^= w
	}
}

// Empty reports whether no number is in the set.
func (s Set) Empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// Len counts the numbers.
func (s Set) Len() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// Common counts the numbers that are in both sets.
func (s Set) Common(o Set) int {
	n := 0
	for i, w := range s {
		n += bits.OnesCount64(w & o[i])
	}
	return n
}

// Within reports whether all numbers are in another set.
func (s Set) Within(o Set) bool {
	for i, w := range s {
		if w&^o[i] != 0 {
			return false
		}
	}
	return true
}

// Meets reports whether a number is in both sets.
func (s Set) Meets(o Set) bool {
	for i, w := range s {
		if w&o[i] != 0 {
			return true
		}
	}
	return false
}

// And returns what is in both sets.
func (s Set) And(o Set) Set {
	out := s.Clone()
	for i := range out {
		out[i] &= o[i]
	}
	return out
}

// Or returns what is in one of the sets.
func (s Set) Or(o Set) Set {
	out := s.Clone()
	out.AddAll(o)
	return out
}

// Without returns what is not in the other set.
func (s Set) Without(o Set) Set {
	out := s.Clone()
	out.RemoveAll(o)
	return out
}

// Clone returns a copy.
func (s Set) Clone() Set { return slices.Clone(s) }

// All yields the numbers, rising.
func (s Set) All() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(i*64 + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// Key is equal for equal sets.
func (s Set) Key() string {
	out := make([]byte, 0, 8*len(s))
	for _, w := range s {
		out = binary.LittleEndian.AppendUint64(out, w)
	}
	return string(out)
}
