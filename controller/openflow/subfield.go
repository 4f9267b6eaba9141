package openflow

import (
	"encoding/binary"
	"fmt"
)

// Subfield is a run of bits of a field, Field[Offset..Offset+Bits-1] in
// ovs-ofctl's syntax; bit 0 is the field's least significant.
type Subfield struct {
	Field        Field
	Offset, Bits int
}

// Whole returns all bits of a field.
func Whole(f Field) Subfield { return Subfield{Field: f, Bits: f.Bits()} }

// RegBits returns bits of register n (0 to 15), from bit offset on.
func RegBits(n, offset, bits int) Subfield {
	return Subfield{Field: FieldReg0 + Field(n&15), Offset: offset, Bits: bits}
}

// String returns the subfield as ovs-ofctl prints it.
func (s Subfield) String() string {
	if s.Field == fieldUnknown || s.Field >= fieldEnd {
		return "unknown field"
	}
	name := fields[s.Field].nxm
	switch {
	case s.Offset == 0 && s.Bits == s.Field.Bits():
		return name + "[]"
	case s.Bits == 1:
		return fmt.Sprintf("%s[%d]", name, s.Offset)
	}
	return fmt.Sprintf("%s[%d..%d]", name, s.Offset, s.Offset+s.Bits-1)
}

// check reports what is wrong with the subfield by itself.
func (s Subfield) check() error {
	if s.Field == fieldUnknown || s.Field >= fieldEnd {
		return fmt.Errorf("field %d does not exist", s.Field)
	}
	if s.Bits < 1 || s.Offset < 0 || s.Offset+s.Bits > s.Field.Bits() {
		return fmt.Errorf("%s has %d bits, not [%d..%d]", s.Field, s.Field.Bits(), s.Offset, s.Offset+s.Bits-1)
	}
	return nil
}

// ofsNBits is the form in which the Nicira actions carry offset and length,
// 10 and 6 bits (nicira-ext, nxm_encode_ofs_nbits).
func (s Subfield) ofsNBits() uint16 { return uint16(s.Offset)<<6 | uint16(s.Bits-1)&63 }

// decodeSubfield reads an offset, a length and a header; ok is false for a
// field that we do not know or bits that it does not have.
func decodeSubfield(offset, bits uint16, header []byte) (s Subfield, ok bool) {
	f, ok := fieldOfHeader(binary.BigEndian.Uint32(header))
	s = Subfield{Field: f, Offset: int(offset), Bits: int(bits)}
	return s, ok && s.check() == nil
}

// decodeOfsNBits is decodeSubfield for the packed form.
func decodeOfsNBits(packed uint16, header []byte) (Subfield, bool) {
	return decodeSubfield(packed>>6, packed&63+1, header)
}
