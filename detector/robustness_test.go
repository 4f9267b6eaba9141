package detector

import (
	"testing"
)

// Addresses that somebody chose so that an unkeyed hash takes them all for one.
// The second word undoes what the first one did.
func colliding(n int) []address {
	list := make([]address, n)
	for i := range list {
		hi := 0x2001_0db8_0000_0000 + uint64(i)
		list[i] = address{hi, mix(hi) ^ 0x5eed}
	}
	return list
}

func TestChosenAddressesDoNotCollide(t *testing.T) {
	const n = 200
	unkeyed := map[uint64]bool{}
	for _, a := range colliding(n) {
		unkeyed[mix(mix(a.hi)^a.lo)] = true
	}
	if len(unkeyed) != 1 {
		t.Fatalf("the addresses are badly chosen: %d hashes without a key", len(unkeyed))
	}
	for seed := range uint64(50) {
		k := newKeys(seed)
		var large, swapped sketch
		for _, a := range colliding(n) {
			large.put(k.address(a))
			swapped.put(k.address(address{a.lo, a.hi}))
		}
		for _, s := range []sketch{large, swapped} {
			if e := s.estimate(); e < n*0.8 || e > n*1.2 {
				t.Errorf("seed %d: %d chosen addresses count as %.0f", seed, n, e)
			}
		}
		if k.address(address{1, 2}) == k.address(address{2, 1}) || k.pair(0, 0) == k.pair(1, 1) {
			t.Errorf("seed %d: the halves cancel out", seed)
		}
	}
}

// The seed decides everything, so that a recording tells the same story twice;
// another seed another hash.
func TestKeysFollowTheSeed(t *testing.T) {
	a, b := newKeys(7), newKeys(8)
	if a != newKeys(7) || a.number(1) == b.number(1) {
		t.Error("keys do not follow the seed")
	}
}
