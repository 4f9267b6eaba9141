package keyed

import "testing"

// The vectors of the authors' reference: key 00..0f, messages 00, 01, 02, ...
// of 0, 8 and 16 bytes.
func TestReferenceVectors(t *testing.T) {
	k := Key{0x0706050403020100, 0x0f0e0d0c0b0a0908}
	for _, c := range []struct {
		words []uint64
		want  uint64
	}{
		{nil, 0x726fdb47dd0e0e31},
		{[]uint64{0x0706050403020100}, 0x93f5f5799a932462},
		{[]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}, 0x3f2acc7f57c29bdb},
	} {
		if got := k.Sum(c.words...); got != c.want {
			t.Errorf("Sum(%x) = %x, want %x", c.words, got, c.want)
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	a, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if a == b || a.Sum(1) == b.Sum(1) {
		t.Error("two keys agree")
	}
}

func BenchmarkSum(b *testing.B) {
	k := Key{1, 2}
	b.ReportAllocs()
	var x uint64
	for b.Loop() {
		x = k.Sum(x, 7)
	}
}
