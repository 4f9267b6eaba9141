package oftest

import "encoding/binary"

// bits is the value of a field as an unsigned number of up to 128 bits.
type bits struct{ hi, lo uint64 }

func number(v uint64) bits { return bits{lo: v} }

// fromBytes reads a number in network byte order, at most 16 bytes.
func fromBytes(b []byte) bits {
	var full [16]byte
	copy(full[16-len(b):], b)
	return bits{hi: binary.BigEndian.Uint64(full[:8]), lo: binary.BigEndian.Uint64(full[8:])}
}

func (b bits) bytes() (out [16]byte) {
	binary.BigEndian.PutUint64(out[:8], b.hi)
	binary.BigEndian.PutUint64(out[8:], b.lo)
	return out
}

// ones returns the n lowest bits set.
func ones(n int) bits {
	switch {
	case n <= 0:
		return bits{}
	case n < 64:
		return bits{lo: 1<<n - 1}
	case n < 128:
		return bits{hi: 1<<(n-64) - 1, lo: ^uint64(0)}
	}
	return bits{hi: ^uint64(0), lo: ^uint64(0)}
}

func (b bits) and(o bits) bits { return bits{b.hi & o.hi, b.lo & o.lo} }
func (b bits) or(o bits) bits  { return bits{b.hi | o.hi, b.lo | o.lo} }
func (b bits) not() bits       { return bits{^b.hi, ^b.lo} }

func (b bits) shl(n int) bits {
	if n >= 64 {
		return bits{hi: b.lo << (n - 64)}
	}
	return bits{hi: b.hi<<n | b.lo>>(64-n), lo: b.lo << n}
}

func (b bits) shr(n int) bits {
	if n >= 64 {
		return bits{lo: b.hi >> (n - 64)}
	}
	return bits{hi: b.hi >> n, lo: b.lo>>n | b.hi<<(64-n)}
}

// replace returns b with the bits of mask taken from v.
func (b bits) replace(v, mask bits) bits { return b.and(mask.not()).or(v.and(mask)) }
