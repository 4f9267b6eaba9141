package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Learn adds a flow that is made of the packet (nicira-ext, NXAST_LEARN and
// NXAST_LEARN2). A flow of the same table, priority and match is replaced; one
// that is there as it would be added goes on counting.
type Learn struct {
	Table       uint8
	Priority    uint16
	Cookie      uint64
	IdleTimeout uint16 // in seconds, 0 is none
	HardTimeout uint16 // from when a packet last learned the flow
	FinIdle     uint16 // timeouts of TCP that ends, 0 for none
	FinHard     uint16
	SendRemoved bool // the flow tells of its end
	// DeleteLearned takes the flows of the table and cookie away with the last
	// flow that learns such ones.
	DeleteLearned bool
	// Limit is how many flows of the cookie the table holds at most; 0 is any
	// number.
	Limit uint32
	// Result is a bit that says afterwards whether the flow is there: the limit
	// was not in the way. nil is none. It stays as it is in a trace.
	Result *Subfield
	// Specs make match and actions, in this order.
	Specs []LearnSpec
}

// LearnKind says what a LearnSpec makes.
type LearnKind uint16

// Kinds of specs, numbered as on the wire.
const (
	LearnMatch  LearnKind = iota // of bits of a field
	LearnLoad                    // a write into bits of a field
	LearnOutput                  // an output to the port whose number it is
)

// LearnSpec is a part of a learned flow: a value and what becomes of it.
type LearnSpec struct {
	Kind LearnKind
	// Src is what of the packet the value is; without a field it is Value.
	Src   Subfield
	Value uint64   // at most as many bits as Dst has
	Dst   Subfield // not for LearnOutput; as many bits as Src
}

// Flags of NXAST_LEARN, and what is in the header of a spec.
const (
	learnSendRemoved   uint16 = 1 << 0
	learnDeleteLearned uint16 = 1 << 1
	learnResult        uint16 = 1 << 2

	learnImmediate uint16 = 1 << 13
	learnBits      uint16 = 1<<11 - 1
	learnKindShift        = 11

	learnLen  = 32
	learn2Len = 40
)

func (a Learn) flags() (f uint16) {
	if a.SendRemoved {
		f |= learnSendRemoved
	}
	if a.DeleteLearned {
		f |= learnDeleteLearned
	}
	if a.Result != nil {
		f |= learnResult
	}
	return f
}

func (a Learn) append(b []byte) []byte {
	start, subtype := len(b), nxLearn
	if a.Limit != 0 || a.Result != nil {
		subtype = nxLearn2
	}
	b = appendNicira(b, 0, subtype)
	b = binary.BigEndian.AppendUint16(b, a.IdleTimeout)
	b = binary.BigEndian.AppendUint16(b, a.HardTimeout)
	b = binary.BigEndian.AppendUint16(b, a.Priority)
	b = binary.BigEndian.AppendUint64(b, a.Cookie)
	b = binary.BigEndian.AppendUint16(b, a.flags())
	b = append(b, a.Table, 0)
	b = binary.BigEndian.AppendUint16(b, a.FinIdle)
	b = binary.BigEndian.AppendUint16(b, a.FinHard)
	if subtype == nxLearn2 {
		b = binary.BigEndian.AppendUint32(b, a.Limit)
		var offset uint16
		if a.Result != nil {
			offset = uint16(a.Result.Offset)
		}
		b = zeros(binary.BigEndian.AppendUint16(b, offset), 2)
		if a.Result != nil {
			b = binary.BigEndian.AppendUint32(b, a.Result.Field.nxmHeader())
		}
	}
	for _, s := range a.Specs {
		b = s.append(b)
	}
	return finishAction(b, start)
}

// bits is how many bits the value has.
func (s LearnSpec) bits() int {
	if s.Kind == LearnOutput {
		return s.Src.Bits
	}
	return s.Dst.Bits
}

// constant reports whether the value is one.
func (s LearnSpec) constant() bool { return s.Src.Field == fieldUnknown }

func (s LearnSpec) append(b []byte) []byte {
	header := uint16(s.bits())&learnBits | uint16(s.Kind)<<learnKindShift
	part := func(f Subfield) {
		b = binary.BigEndian.AppendUint32(b, f.Field.nxmHeader())
		b = binary.BigEndian.AppendUint16(b, uint16(f.Offset))
	}
	if s.constant() {
		b = binary.BigEndian.AppendUint16(b, header|learnImmediate)
		words := (s.bits() + 15) / 16
		for i := words - 1; i >= 0; i-- {
			b = binary.BigEndian.AppendUint16(b, uint16(s.Value>>(16*i)))
		}
	} else {
		b = binary.BigEndian.AppendUint16(b, header)
		part(s.Src)
	}
	if s.Kind != LearnOutput {
		part(s.Dst)
	}
	return b
}

// decodeLearn reads NXAST_LEARN and NXAST_LEARN2; b has at least the fixed
// part. It returns nil for what our fields cannot say: constants of more than
// 64 bits, and what we would write in another way.
func decodeLearn(b []byte) Action {
	flags := binary.BigEndian.Uint16(b[24:])
	a := Learn{
		IdleTimeout: binary.BigEndian.Uint16(b[10:]), HardTimeout: binary.BigEndian.Uint16(b[12:]),
		Priority: binary.BigEndian.Uint16(b[14:]), Cookie: binary.BigEndian.Uint64(b[16:]), Table: b[26],
		SendRemoved: flags&learnSendRemoved != 0, DeleteLearned: flags&learnDeleteLearned != 0,
		FinIdle: binary.BigEndian.Uint16(b[28:]), FinHard: binary.BigEndian.Uint16(b[30:]),
	}
	rest := b[learnLen:]
	if binary.BigEndian.Uint16(b[8:]) == nxLearn2 {
		a.Limit = binary.BigEndian.Uint32(b[32:])
		rest = b[learn2Len:]
		if flags&learnResult != 0 {
			if len(rest) < 4 {
				return nil
			}
			result, ok := decodeSubfield(binary.BigEndian.Uint16(b[36:]), 1, rest)
			if !ok {
				return nil
			}
			a.Result, rest = &result, rest[4:]
		}
	}
	for len(rest) >= 2 && binary.BigEndian.Uint16(rest) != 0 {
		s, n := decodeLearnSpec(rest)
		if n == 0 {
			return nil
		}
		a.Specs, rest = append(a.Specs, s), rest[n:]
	}
	if string(a.append(nil)) != string(b) {
		return nil
	}
	return a
}

// decodeLearnSpec returns the length of the spec that b begins with, 0 where
// there is none that we know.
func decodeLearnSpec(b []byte) (s LearnSpec, n int) {
	header := binary.BigEndian.Uint16(b)
	bits := header & learnBits
	s.Kind, n = LearnKind(header&^learnImmediate>>learnKindShift), 2
	part := func() (f Subfield, ok bool) {
		if len(b) < n+6 {
			return f, false
		}
		f, ok = decodeSubfield(binary.BigEndian.Uint16(b[n+4:]), bits, b[n:])
		n += 6
		return f, ok
	}
	ok := s.Kind <= LearnOutput && bits > 0
	switch words := int(bits+15) / 16; {
	case ok && header&learnImmediate == 0:
		s.Src, ok = part()
	case !ok || bits > 64 || s.Kind == LearnOutput || len(b) < n+2*words:
		return s, 0
	default:
		for range words {
			s.Value = s.Value<<16 | uint64(binary.BigEndian.Uint16(b[n:]))
			n += 2
		}
	}
	if ok && s.Kind != LearnOutput {
		s.Dst, ok = part()
	}
	if !ok {
		return s, 0
	}
	return s, n
}

func (a Learn) check(s *situation) error {
	if a.Table == TableAll {
		return errors.New("flows of table 255 cannot be learned")
	}
	if a.Result != nil {
		if a.Result.Bits != 1 {
			return fmt.Errorf("the result is one bit, not %d", a.Result.Bits)
		}
		// The switch asks for no more: not for what the field needs.
		if err := (&situation{}).checkWrite(*a.Result); err != nil {
			return fmt.Errorf("no place for the result: %w", err)
		}
	}
	if s.match == nil {
		return nil // nobody looks into what a group learns
	}
	// What the learned flow writes must suit what it matches, as far as it
	// matches constants.
	learned := newSituation(nil)
	for i, spec := range a.Specs {
		if err := spec.check(s, learned); err != nil {
			return fmt.Errorf("spec %d: %w", i, err)
		}
	}
	return nil
}

// check holds a spec against the packets that learn and against what the flow
// matches so far.
func (s LearnSpec) check(from, learned *situation) error {
	switch {
	case s.Kind > LearnOutput:
		return fmt.Errorf("kind %d does not exist", s.Kind)
	case s.constant() && s.Kind == LearnOutput:
		return errors.New("outputs go to a port that a field holds")
	case s.constant() && (s.Dst.Bits > 64 || s.Dst.Bits >= 0 && s.Dst.Bits < 64 && s.Value>>s.Dst.Bits != 0):
		return fmt.Errorf("0x%x does not fit %d bits", s.Value, s.Dst.Bits)
	case !s.constant() && s.Value != 0:
		return errors.New("the value is that of a field, and a constant")
	}
	if !s.constant() {
		if err := from.checkRead(s.Src); err != nil {
			return err
		}
	}
	switch s.Kind {
	case LearnOutput:
		return nil
	case LearnLoad:
		if err := learned.checkWrite(s.Dst); err != nil {
			return err
		}
	default:
		if err := learned.checkRead(s.Dst); err != nil {
			return err
		}
	}
	if !s.constant() && s.Src.Bits != s.Dst.Bits {
		return fmt.Errorf("%d bits do not fit %d", s.Src.Bits, s.Dst.Bits)
	}
	if o, ok := s.whole(); ok {
		learned.match = append(learned.match, o)
	}
	return nil
}

// whole returns the match that a constant makes of all of a field.
func (s LearnSpec) whole() (o OXM, ok bool) {
	if s.Kind != LearnMatch || !s.constant() || s.Dst.Bits > 64 || s.Dst.check() != nil || s.Dst != Whole(s.Dst.Field) {
		return o, false
	}
	return oxm(s.Dst.Field, binary.BigEndian.AppendUint64(nil, s.Value)[8-fields[s.Dst.Field].size:]), true
}

// Learned returns the flow that a packet adds. Of bits of the packet, read says
// what they are, as the last of 16 bytes in network byte order.
func (a Learn) Learned(read func(Subfield) [16]byte) Flow {
	f := Flow{Table: a.Table, Priority: a.Priority, Cookie: a.Cookie, IdleTimeout: a.IdleTimeout, HardTimeout: a.HardTimeout}
	if a.SendRemoved {
		f.Flags = FlagSendFlowRemoved
	}
	matched := map[Field]*OXM{}
	for _, s := range a.Specs {
		var v [16]byte
		if s.constant() {
			binary.BigEndian.PutUint64(v[8:], s.Value)
		} else {
			v = read(s.Src)
		}
		switch s.Kind {
		case LearnOutput:
			f.Actions = append(f.Actions, Output{Port: uint32(binary.BigEndian.Uint64(v[8:]))})
		case LearnLoad:
			f.Actions = append(f.Actions, s.load(v))
		default:
			o := matched[s.Dst.Field]
			if o == nil {
				o = &OXM{field: s.Dst.Field, masked: true}
				matched[s.Dst.Field] = o
			}
			o.write(s.Dst, v)
		}
	}
	for _, o := range matched {
		f.Match = append(f.Match, *o)
	}
	f.Match = f.Match.Canonical()
	return f
}

// load is the write of a value, whose size decides what can carry it.
func (s LearnSpec) load(v [16]byte) Action {
	if s.Dst.Bits <= 64 {
		return Load{Dst: s.Dst, Value: binary.BigEndian.Uint64(v[8:])}
	}
	o := OXM{field: s.Dst.Field, masked: true}
	o.write(s.Dst, v)
	o, _ = o.normal()
	return SetField{Field: o}
}

// write makes bits of the value, the last ones of v, count.
func (o *OXM) write(dst Subfield, v [16]byte) {
	last := int(fields[o.field].size) - 1
	for i := range dst.Bits {
		at, bit := last-(dst.Offset+i)/8, byte(1)<<((dst.Offset+i)%8)
		o.mask[at] |= bit
		o.value[at] &^= bit
		if v[15-i/8]>>(i%8)&1 != 0 {
			o.value[at] |= bit
		}
	}
}

func (a Learn) String() string {
	parts := []string{fmt.Sprintf("table=%d", a.Table)}
	number := func(name string, n uint64, format string) {
		if n != 0 {
			parts = append(parts, fmt.Sprintf(name+"="+format, n))
		}
	}
	number("idle_timeout", uint64(a.IdleTimeout), "%d")
	number("hard_timeout", uint64(a.HardTimeout), "%d")
	number("fin_idle_timeout", uint64(a.FinIdle), "%d")
	number("fin_hard_timeout", uint64(a.FinHard), "%d")
	parts = append(parts, fmt.Sprintf("priority=%d", a.Priority))
	if a.SendRemoved {
		parts = append(parts, "send_flow_rem")
	}
	if a.DeleteLearned {
		parts = append(parts, "delete_learned")
	}
	number("cookie", a.Cookie, "0x%x")
	number("limit", uint64(a.Limit), "%d")
	if a.Result != nil {
		parts = append(parts, "result_dst="+a.Result.String())
	}
	for _, s := range a.Specs {
		parts = append(parts, s.String())
	}
	return "learn(" + strings.Join(parts, ",") + ")"
}

// String returns the spec as ovs-ofctl prints it.
func (s LearnSpec) String() string {
	if o, ok := s.whole(); ok {
		return o.field.setName() + "=" + o.maskedText()
	}
	value := s.Src.String()
	if s.constant() {
		value = fmt.Sprintf("0x%x", s.Value)
	}
	switch {
	case s.Kind == LearnOutput:
		return "output:" + value
	case s.Kind == LearnLoad:
		return "load:" + value + "->" + s.Dst.String()
	case s.Src == s.Dst:
		return s.Dst.String()
	}
	return s.Dst.String() + "=" + value
}
