package packet

import "strconv"

// Kind says why a frame could not be parsed to the end.
type Kind uint8

const (
	// Truncated means that the frame was cut (by the capture's or the
	// exporter's snapshot length) before a header that it announces.
	Truncated Kind = 1
	// Malformed means that a header contradicts itself or what carries it.
	Malformed Kind = 2
)

// String returns the kind in one lower-case word.
func (k Kind) String() string {
	switch k {
	case Truncated:
		return "truncated"
	case Malformed:
		return "malformed"
	}
	return "kind " + strconv.Itoa(int(k))
}

// Error says why and where parsing stopped. It fits in one byte because a
// one-byte value becomes an error without an allocation: whoever floods us with
// broken frames shall not feed our garbage collector as well.
type Error uint8

const (
	kindShift  = 6
	offsetMask = 1<<kindShift - 1
	// Every header that we parse starts at an even offset, so six bits
	// reach to byte 126.
	offsetUnit = 2
	maxOffset  = offsetMask * offsetUnit
)

func newError(k Kind, offset int) Error {
	return Error(uint8(k)<<kindShift | uint8(min(offset, maxOffset)/offsetUnit))
}

// Kind returns the reason.
func (e Error) Kind() Kind { return Kind(e >> kindShift) }

// Offset returns where the offending header starts, in bytes from the start of
// what was given to the parser; offsets above 126 are reported as 126.
func (e Error) Offset() int { return int(e&offsetMask) * offsetUnit }

// Error implements the error interface.
func (e Error) Error() string {
	return e.Kind().String() + " header at byte " + strconv.Itoa(e.Offset())
}
