package compile

import (
	"encoding/binary"
	"math/bits"
)

// set is a set of small numbers, such as the groups that an address is in.
type set []uint64

func newSet(n int) set { return make(set, (n+63)/64) }

func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }

func (s set) union(o set) {
	for i, w := range o {
		s[i] |= w
	}
}

func (s set) clone() set { return append(set(nil), s...) }

func (s set) empty() bool {
	for _, w := range s {
		if w != 0 {
			return false
		}
	}
	return true
}

// each calls f for every member, in rising order.
func (s set) each(f func(int)) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			f(i*64 + bits.TrailingZeros64(w))
		}
	}
}

// key is equal for equal sets of one capacity.
func (s set) key() string {
	buf := make([]byte, 0, len(s)*8)
	for _, w := range s {
		buf = binary.LittleEndian.AppendUint64(buf, w)
	}
	return string(buf)
}
