package detector

import (
	"math/bits"
	"math/rand/v2"
)

// keys make an engine's hashes. Who can choose what is hashed (addresses, ports)
// could otherwise choose what collides: the targets of a sweep that a sketch
// counts as one, the sources of a flood that a vote takes for one conversation.
// Two halves are multiplied into 128 bits and folded, as wyhash (Wang Yi) does
// and the Go runtime where it has no AES; without the keys nobody knows which
// differences cancel out. bounded.Table has keys of its own.
type keys struct {
	a, b, c uint64
}

// newKeys derives keys from a seed, so that a replay can be told twice.
func newKeys(seed uint64) keys {
	source := rand.NewPCG(seed, 0x506c6174656c6574)
	return keys{source.Uint64(), source.Uint64(), source.Uint64()}
}

// pair hashes two words, neither of which can cancel the other out.
func (k *keys) pair(x, y uint64) uint64 {
	hi, lo := bits.Mul64(x^k.a, y^k.b)
	return mix(hi ^ lo ^ k.c)
}

func (k *keys) number(v uint64) uint64 { return k.pair(v, 0) }

func (k *keys) address(a address) uint64 { return k.pair(a.hi, a.lo) }

// hash hashes a number.
func (e *Engine) hash(v uint64) uint64 { return e.keys.number(v) }

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014). It has no
// key: alone it is for numbers that nobody chooses.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
