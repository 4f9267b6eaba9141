package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Instructions is what a flow does (section 7.2.4), in order of execution.
// With none set, the packet is dropped.
type Instructions struct {
	Meter   uint32   // 0 is none
	Actions []Action // applied at once
	// ClearActions empties the action set, what Write of earlier tables put
	// there.
	ClearActions bool
	// Write is put into the action set, which is carried out at the end of
	// the pipeline.
	Write []Action
	// Metadata is written to those bits of the pipeline's metadata that
	// stand in MetadataMask.
	Metadata, MetadataMask uint64
	Goto                   uint8 // valid when HasGoto
	HasGoto                bool
	unknown                string // instructions we do not know, as bytes
}

// Instruction types (section 7.2.4).
const (
	instructionGoto     uint16 = 1
	instructionMetadata uint16 = 2
	instructionWrite    uint16 = 3
	instructionApply    uint16 = 4
	instructionClear    uint16 = 5
	instructionMeter    uint16 = 6
)

func (i *Instructions) append(b []byte) []byte {
	if i.Meter != 0 {
		b = append(b, 0, byte(instructionMeter), 0, 8)
		b = binary.BigEndian.AppendUint32(b, i.Meter)
	}
	b = appendActionList(b, instructionApply, i.Actions)
	if i.ClearActions {
		b = append(b, 0, byte(instructionClear), 0, 8, 0, 0, 0, 0)
	}
	b = appendActionList(b, instructionWrite, i.Write)
	if i.MetadataMask != 0 {
		b = append(b, 0, byte(instructionMetadata), 0, 24, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint64(b, i.Metadata)
		b = binary.BigEndian.AppendUint64(b, i.MetadataMask)
	}
	if i.HasGoto {
		b = append(b, 0, byte(instructionGoto), 0, 8, i.Goto, 0, 0, 0)
	}
	return append(b, i.unknown...)
}

func appendActionList(b []byte, t uint16, actions []Action) []byte {
	if len(actions) == 0 {
		return b
	}
	start := len(b)
	b = append(b, 0, byte(t), 0, 0, 0, 0, 0, 0)
	b = appendActions(b, actions)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func decodeInstructions(b []byte) (i Instructions, err error) {
	var unknown []byte
	for len(b) > 0 {
		if len(b) < 8 {
			return i, malformed("instruction cut short at %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n > len(b) {
			return i, malformed("instruction length %d of %d bytes", n, len(b))
		}
		known, err := i.decodeOne(b[:n])
		if err != nil {
			return i, err
		}
		if !known {
			unknown = append(unknown, b[:n]...)
		}
		b = b[n:]
	}
	i.unknown = string(unknown)
	return i, nil
}

// decodeOne reads one instruction; b holds exactly it, at least 8 bytes.
func (i *Instructions) decodeOne(b []byte) (known bool, err error) {
	switch t := binary.BigEndian.Uint16(b); {
	case t == instructionMeter && len(b) == 8:
		i.Meter = binary.BigEndian.Uint32(b[4:])
	case t == instructionGoto && len(b) == 8:
		i.Goto, i.HasGoto = b[4], true
	case t == instructionApply:
		i.Actions, err = decodeActions(b[8:])
	case t == instructionWrite:
		i.Write, err = decodeActions(b[8:])
	case t == instructionClear && len(b) == 8:
		i.ClearActions = true
	case t == instructionMetadata && len(b) == 24:
		i.Metadata, i.MetadataMask = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	default:
		return false, nil
	}
	return true, err
}

// Key returns a string that is equal for equal instructions.
func (i *Instructions) Key() string { return string(i.append(nil)) }

// String returns the instructions as ovs-ofctl's actions.
func (i *Instructions) String() string {
	var parts []string
	add := func(on bool, format string, args ...any) {
		if on {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(i.Meter != 0, "meter:%d", i.Meter)
	add(len(i.Actions) > 0, "%s", actionsText(i.Actions))
	add(i.ClearActions, "clear_actions")
	add(len(i.Write) > 0, "write_actions(%s)", actionsText(i.Write))
	switch i.MetadataMask {
	case 0:
	case ^uint64(0):
		add(true, "write_metadata:0x%x", i.Metadata)
	default:
		add(true, "write_metadata:0x%x/0x%x", i.Metadata, i.MetadataMask)
	}
	add(i.HasGoto, "goto_table:%d", i.Goto)
	add(i.unknown != "", "unknown(%x)", i.unknown)
	if len(parts) == 0 {
		return "drop"
	}
	return strings.Join(parts, ",")
}

// check reports what the switch would reject of a flow with this match in
// this table.
func (i *Instructions) check(table uint8, m Match) error {
	s := newSituation(m)
	if err := s.checkActions(i.Actions); err != nil {
		return err
	}
	if err := checkSet(i.Write); err != nil {
		return err
	}
	s.set = true
	if err := s.checkActions(i.Write); err != nil {
		return fmt.Errorf("write_actions: %w", err)
	}
	if i.HasGoto && (i.Goto == TableAll || i.Goto <= table) {
		return fmt.Errorf("goto_table:%d: only forward from table %d", i.Goto, table)
	}
	return i.checkConjunctions()
}

// checkConjunctions holds that nothing but notes stands beside a conjunction.
func (i *Instructions) checkConjunctions() error {
	n, notes := 0, 0
	for _, a := range i.Actions {
		switch a.(type) {
		case Conjunction:
			n++
		case Note:
			notes++
		}
	}
	alone := n+notes == len(i.Actions) && i.Meter == 0 && !i.ClearActions && len(i.Write) == 0 && i.MetadataMask == 0 && !i.HasGoto
	if n > 0 && !alone {
		return errors.New("a conjunction takes no other action beside it")
	}
	return nil
}
