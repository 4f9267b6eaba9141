// Package keyed hashes words under a secret key, for sketches that live longer
// than a process: what is counted must land in the same cell after a restart,
// and nobody who does not know the key can aim at a cell. hash/maphash gives the
// second but not the first.
package keyed

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Key is the secret. Two sketches with the same key can be merged.
type Key [2]uint64

// KeySize is the length of a key in bytes.
const KeySize = 16

// NewKey draws a key from the system's randomness.
func NewKey() (Key, error) {
	var b [KeySize]byte
	if _, err := rand.Read(b[:]); err != nil {
		return Key{}, fmt.Errorf("drawing a hash key: %w", err)
	}
	return Key{binary.LittleEndian.Uint64(b[:8]), binary.LittleEndian.Uint64(b[8:])}, nil
}

// Sum is SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input
// PRF", INDOCRYPT 2012) of the words in little-endian order.
func (k Key) Sum(words ...uint64) uint64 {
	s := state{
		k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d,
		k[0] ^ 0x6c7967656e657261, k[1] ^ 0x7465646279746573,
	}
	for _, m := range words {
		s.absorb(m)
	}
	s.absorb(uint64(8*len(words)) << 56)
	s[2] ^= 0xff
	for range 4 {
		s.round()
	}
	return s[0] ^ s[1] ^ s[2] ^ s[3]
}

type state [4]uint64

func (s *state) absorb(m uint64) {
	s[3] ^= m
	s.round()
	s.round()
	s[0] ^= m
}

func (s *state) round() {
	s[0] += s[1]
	s[1] = bits.RotateLeft64(s[1], 13) ^ s[0]
	s[0] = bits.RotateLeft64(s[0], 32)
	s[2] += s[3]
	s[3] = bits.RotateLeft64(s[3], 16) ^ s[2]
	s[0] += s[3]
	s[3] = bits.RotateLeft64(s[3], 21) ^ s[0]
	s[2] += s[1]
	s[1] = bits.RotateLeft64(s[1], 17) ^ s[2]
	s[2] = bits.RotateLeft64(s[2], 32)
}
