package lint

import "math/bits"

// set is a set of small numbers.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

func (s set) meets(t set) bool {
	for i, w := range s {
		if w&t[i] != 0 {
			return true
		}
	}
	return false
}

// and makes the intersection.
func (s set) and(t set) set {
	out := make(set, len(s))
	for i, w := range s {
		out[i] = w & t[i]
	}
	return out
}

func (s set) join(t set) {
	for i, w := range t {
		s[i] |= w
	}
}

func (s set) remove(t set) {
	for i, w := range t {
		s[i] &^= w
	}
}

// all iterates over the numbers, rising.
func (s set) all(yield func(int) bool) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			if !yield(i*64 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}
