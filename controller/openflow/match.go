package openflow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// OXM is one field of a match: OpenFlow Extensible Match (section 7.2.3).
// It is a comparable value without owned memory.
type OXM struct {
	field       Field
	masked      bool
	value, mask [16]byte // left-aligned, info.size bytes valid
	raw         string   // the whole TLV of a field we do not know
}

// Field returns which field it matches; fields of other controllers' flows
// that this package does not know are "unknown field".
func (o OXM) Field() Field { return o.field }

// Bytes returns the value and the mask in network byte order, as many bytes
// as the field has on the wire; a field without a mask has one of all ones.
// For a field that this package does not know both are empty.
func (o OXM) Bytes() (value, mask []byte) {
	if o.field == fieldUnknown || o.field >= fieldEnd {
		return nil, nil
	}
	n := fields[o.field].size
	if !o.masked {
		return o.value[:n], bytes.Repeat([]byte{0xff}, int(n))
	}
	return o.value[:n], o.mask[:n]
}

// Match is a conjunction of fields; the empty match matches every packet.
type Match []OXM

// PrereqError says that a match uses a field, or an action writes one, without
// the fields that give it meaning (section 7.2.3.8). Open vSwitch's own tools widen such a match to
// everything; here it is an error before anything is sent.
type PrereqError struct {
	Field Field
	Needs string
}

func (e *PrereqError) Error() string {
	return fmt.Sprintf("%s needs %s", e.Field, e.Needs)
}

func oxm(f Field, value []byte) OXM {
	o := OXM{field: f}
	copy(o.value[:], value)
	return o
}

func oxmMasked(f Field, value, mask []byte) OXM {
	o := OXM{field: f, masked: true}
	copy(o.value[:], value)
	copy(o.mask[:], mask)
	return o
}

func oxm8(f Field, v uint8) OXM   { return oxm(f, []byte{v}) }
func oxm16(f Field, v uint16) OXM { return oxm(f, binary.BigEndian.AppendUint16(nil, v)) }
func oxm32(f Field, v uint32) OXM { return oxm(f, binary.BigEndian.AppendUint32(nil, v)) }
func oxm64m(f Field, v, m uint64) OXM {
	return oxmMasked(f, binary.BigEndian.AppendUint64(nil, v), binary.BigEndian.AppendUint64(nil, m))
}
func oxm32m(f Field, v, m uint32) OXM {
	return oxmMasked(f, binary.BigEndian.AppendUint32(nil, v), binary.BigEndian.AppendUint32(nil, m))
}

// normal returns the field as the switch stores it: no value bits outside the
// mask, a full mask dropped. all is true when it matches every packet.
func (o OXM) normal() (n OXM, all bool) {
	if !o.masked || o.field == fieldUnknown {
		return o, false
	}
	full, empty := true, true
	for i, valid := range o.field.validBits() {
		o.mask[i] &= valid
		o.value[i] &= o.mask[i]
		full = full && o.mask[i] == valid
		empty = empty && o.mask[i] == 0
	}
	if full {
		o.masked, o.mask = false, [16]byte{}
	}
	return o, empty
}

// Canonical returns the match as the switch stores it: fields in canonical
// order, redundant masks removed. Two matches select the same packets on the
// switch if and only if their canonical forms are equal. It may be m itself.
func (m Match) Canonical() Match {
	if m.isCanonical() {
		return m
	}
	return slices.Clone(m).settle()
}

// settle makes the match canonical in its own place.
func (m Match) settle() Match {
	c := m[:0]
	for _, o := range m {
		if n, all := o.normal(); !all {
			c = append(c, n)
		}
	}
	slices.SortFunc(c, compareOXM)
	return c
}

// isCanonical spares what was compiled or decoded, most matches by far, a copy.
func (m Match) isCanonical() bool {
	for i := range m {
		if i > 0 && m[i-1].after(&m[i]) {
			return false
		}
		if !m[i].masked {
			continue
		}
		if n, all := m[i].normal(); all || n != m[i] {
			return false
		}
	}
	return true
}

// after says whether o stands behind p in a match. What we do not know is
// last, its prerequisites before it: one less than unknown is the highest.
func (o *OXM) after(p *OXM) bool {
	return o.field-1 > p.field-1 || o.field == p.field && o.raw > p.raw
}

func compareOXM(a, b OXM) int {
	switch {
	case a.after(&b):
		return 1
	case b.after(&a):
		return -1
	}
	return 0
}

// Key returns a string that is equal for equal matches, for use in maps.
func (m Match) Key() string {
	var room [128]byte // spares most matches an allocation
	return string(m.Canonical().appendOXMs(room[:0]))
}

// exact returns the value of a field of at most 32 bits; ok is false when it
// is not matched, or not as a whole.
func (m Match) exact(f Field) (v uint32, ok bool) {
	for i := range m {
		if m[i].field != f {
			continue
		}
		o, _ := m[i].normal()
		if o.masked {
			return 0, false
		}
		for _, b := range o.value[:fields[f].size] {
			v = v<<8 | uint32(b)
		}
		return v, true
	}
	return 0, false
}
