package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Action is something done to a packet. String returns it in ovs-ofctl's
// syntax.
type Action interface {
	fmt.Stringer
	append(b []byte) []byte
	// check reports what the switch would reject in this situation, and
	// brings the situation up to date.
	check(s *situation) error
}

// Action types (section 7.2.5).
const (
	actionOutput       uint16 = 0
	actionPushVLAN     uint16 = 17
	actionPopVLAN      uint16 = 18
	actionSetQueue     uint16 = 21
	actionGroup        uint16 = 22
	actionDecTTL       uint16 = 24
	actionSetField     uint16 = 25
	actionExperimenter uint16 = 0xffff
)

// Nicira action subtypes (nicira-ext, enum nx_action_subtype).
const (
	nxResubmit        uint16 = 1
	nxRegMove         uint16 = 6
	nxRegLoad         uint16 = 7
	nxResubmitTable   uint16 = 14
	nxOutputReg       uint16 = 15
	nxLearn           uint16 = 16
	nxController      uint16 = 20
	nxSample          uint16 = 29
	nxRegLoad2        uint16 = 33
	nxConjunction     uint16 = 34
	nxCT              uint16 = 35
	nxNAT             uint16 = 36
	nxController2     uint16 = 37
	nxCTClear         uint16 = 43
	nxResubmitTableCT uint16 = 44
	nxLearn2          uint16 = 45
)

// maxActionDepth bounds actions within actions: ct holds a list that can
// itself hold ct. Open vSwitch refuses that, a lying peer may not.
const maxActionDepth = 4

// UnknownAction is an action this package does not know, as its bytes.
type UnknownAction string

func (a UnknownAction) append(b []byte) []byte { return append(b, a...) }

func (a UnknownAction) check(*situation) error {
	if len(a) < 8 || len(a)%8 != 0 || int(binary.BigEndian.Uint16([]byte(a[2:4]))) != len(a) {
		return fmt.Errorf("an action of %d bytes does not have its own length", len(a))
	}
	return nil
}

func (a UnknownAction) String() string { return fmt.Sprintf("unknown(%x)", string(a)) }

func appendNicira(b []byte, n, subtype uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, actionExperimenter)
	b = binary.BigEndian.AppendUint16(b, n)
	b = binary.BigEndian.AppendUint32(b, experimenterNicira)
	return binary.BigEndian.AppendUint16(b, subtype)
}

// finishAction pads the action that began at start and writes its length.
func finishAction(b []byte, start int) []byte {
	b = padTo8(b, start)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func appendActions(b []byte, actions []Action) []byte {
	for _, a := range actions {
		b = a.append(b)
	}
	return b
}

func actionsText(actions []Action) string {
	parts := make([]string, len(actions))
	for i, a := range actions {
		parts[i] = a.String()
	}
	return strings.Join(parts, ",")
}

// decodeActions reads a list of actions that fills b.
func decodeActions(b []byte) ([]Action, error) { return decodeNested(b, 0) }

func decodeNested(b []byte, depth int) ([]Action, error) {
	var out []Action
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed("action cut short at %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, malformed("action length %d of %d bytes", n, len(b))
		}
		a, err := decodeAction(b[:n], depth)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
		b = b[n:]
	}
	return out, nil
}

// decodeAction reads one action; b holds exactly it, at least 8 bytes. What
// would not come out as the same bytes again stays as bytes.
func decodeAction(b []byte, depth int) (Action, error) {
	a, err := decodeKnown(b, depth)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return UnknownAction(b), nil
	}
	return a, nil
}

// decodeKnown returns nil for an action that we do not know.
func decodeKnown(b []byte, depth int) (Action, error) {
	switch t := binary.BigEndian.Uint16(b); {
	case t == actionOutput && len(b) == 16:
		return Output{Port: binary.BigEndian.Uint32(b[4:]), MaxLen: binary.BigEndian.Uint16(b[8:])}, nil
	case t == actionPushVLAN && len(b) == 8:
		return PushVLAN{EtherType: binary.BigEndian.Uint16(b[4:])}, nil
	case t == actionPopVLAN && len(b) == 8:
		return PopVLAN{}, nil
	case t == actionSetQueue && len(b) == 8:
		return SetQueue{ID: binary.BigEndian.Uint32(b[4:])}, nil
	case t == actionGroup && len(b) == 8:
		return ToGroup{ID: binary.BigEndian.Uint32(b[4:])}, nil
	case t == actionDecTTL && len(b) == 8:
		return DecTTL{}, nil
	case t == actionSetField:
		return decodeSetField(b[4:])
	case t == actionExperimenter && len(b) >= 16 && binary.BigEndian.Uint32(b[4:]) == experimenterNicira:
		return decodeNicira(binary.BigEndian.Uint16(b[8:]), b, depth)
	}
	return nil, nil
}

// decodeNicira decodes the Nicira actions that we know; b has at least 16
// bytes.
func decodeNicira(subtype uint16, b []byte, depth int) (Action, error) {
	switch {
	case subtype == nxNote:
		return Note{Data: string(b[10:])}, nil
	case subtype == nxCT && len(b) >= 24 && depth < maxActionDepth:
		return decodeConntrack(b, depth)
	case subtype == nxLearn && len(b) >= learnLen, subtype == nxLearn2 && len(b) >= learn2Len:
		return decodeLearn(b), nil
	case subtype == nxNAT:
		return decodeNAT(b), nil
	case subtype == nxRegLoad2:
		return decodeSetField(b[10:])
	case subtype == nxController2:
		return decodeController2(b), nil
	case len(b) == 16:
		return decodeNicira16(subtype, b), nil
	case len(b) == 24:
		return decodeNicira24(subtype, b), nil
	}
	return nil, nil
}

func decodeNicira16(subtype uint16, b []byte) Action {
	switch subtype {
	case nxResubmit, nxResubmitTable, nxResubmitTableCT:
		return decodeResubmit(subtype, b)
	case nxController:
		return Controller{MaxLen: binary.BigEndian.Uint16(b[10:]), ID: binary.BigEndian.Uint16(b[12:]), Reason: b[14]}
	case nxConjunction:
		// Clauses count from 0 on the wire and from 1 in text.
		return Conjunction{ID: binary.BigEndian.Uint32(b[12:]), Clause: b[10] + 1, Of: b[11]}
	case nxCTClear:
		return CTClear{}
	}
	return nil
}

func decodeNicira24(subtype uint16, b []byte) Action {
	switch subtype {
	case nxRegLoad:
		if dst, ok := decodeOfsNBits(binary.BigEndian.Uint16(b[10:]), b[12:]); ok {
			return Load{Dst: dst, Value: binary.BigEndian.Uint64(b[16:])}
		}
	case nxRegMove:
		bits := binary.BigEndian.Uint16(b[10:])
		src, ok := decodeSubfield(binary.BigEndian.Uint16(b[12:]), bits, b[16:])
		dst, ok2 := decodeSubfield(binary.BigEndian.Uint16(b[14:]), bits, b[20:])
		if ok && ok2 {
			return Move{Src: src, Dst: dst}
		}
	case nxOutputReg:
		if src, ok := decodeOfsNBits(binary.BigEndian.Uint16(b[10:]), b[12:]); ok {
			return OutputReg{Src: src, MaxLen: binary.BigEndian.Uint16(b[16:])}
		}
	case nxSample:
		return Sample{
			Probability:  binary.BigEndian.Uint16(b[10:]),
			CollectorSet: binary.BigEndian.Uint32(b[12:]),
			Domain:       binary.BigEndian.Uint32(b[16:]),
			Point:        binary.BigEndian.Uint32(b[20:]),
		}
	}
	return nil
}
