package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Command says what a flow-mod does (section 7.3.4.2, enum
// ofp_flow_mod_command).
type Command uint8

// Flow-mod commands. Add overwrites a flow with the same table, priority and
// match, whoever owns it; the strict commands act on exactly that flow, and a
// cookie mask narrows them to flows of one owner.
const (
	Add Command = iota
	Modify
	ModifyStrict
	Delete
	DeleteStrict
)

// Flow-mod flags (section 7.3.4.2, enum ofp_flow_mod_flags).
const (
	FlagSendFlowRemoved uint16 = 1 << 0
	FlagCheckOverlap    uint16 = 1 << 1
	FlagResetCounts     uint16 = 1 << 2
	FlagNoPacketCounts  uint16 = 1 << 3
	FlagNoByteCounts    uint16 = 1 << 4
)

// Flow is a flow entry: what it matches and what it does.
type Flow struct {
	Table       uint8
	Priority    uint16
	Cookie      uint64
	IdleTimeout uint16 // seconds; 0 is never
	HardTimeout uint16 // seconds; 0 is never
	Flags       uint16
	Match       Match
	Instructions
}

// Instructions is what a flow does (section 7.2.4), in order of execution.
// With none set, the packet is dropped.
type Instructions struct {
	Meter   uint32   // 0 is none
	Actions []Action // applied at once
	Goto    uint8    // valid when HasGoto
	HasGoto bool
	unknown string // instructions we do not know, as bytes
}

// FlowMod adds, changes or deletes flows (section 7.3.4.2). The zero
// CookieMask ignores the cookie.
type FlowMod struct {
	Command    Command
	CookieMask uint64
	Flow
}

// Instruction types (section 7.2.4).
const (
	instructionGoto  uint16 = 1
	instructionApply uint16 = 4
	instructionMeter uint16 = 6
)

func (i *Instructions) append(b []byte) []byte {
	if i.Meter != 0 {
		b = append(b, 0, byte(instructionMeter), 0, 8)
		b = binary.BigEndian.AppendUint32(b, i.Meter)
	}
	if len(i.Actions) > 0 {
		start := len(b)
		b = append(b, 0, byte(instructionApply), 0, 0, 0, 0, 0, 0)
		b = appendActions(b, i.Actions)
		binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	if i.HasGoto {
		b = append(b, 0, byte(instructionGoto), 0, 8, i.Goto, 0, 0, 0)
	}
	return append(b, i.unknown...)
}

func decodeInstructions(b []byte) (i Instructions, err error) {
	for len(b) > 0 {
		if len(b) < 8 {
			return i, malformed("instruction cut short at %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n > len(b) {
			return i, malformed("instruction length %d of %d bytes", n, len(b))
		}
		switch t := binary.BigEndian.Uint16(b); {
		case t == instructionMeter && n == 8:
			i.Meter = binary.BigEndian.Uint32(b[4:])
		case t == instructionGoto && n == 8:
			i.Goto, i.HasGoto = b[4], true
		case t == instructionApply:
			if i.Actions, err = decodeActions(b[8:n]); err != nil {
				return i, err
			}
		default:
			i.unknown += string(b[:n])
		}
		b = b[n:]
	}
	return i, nil
}

// Key returns a string that is equal for equal instructions.
func (i *Instructions) Key() string { return string(i.append(nil)) }

// String returns the instructions as ovs-ofctl's actions.
func (i *Instructions) String() string {
	var parts []string
	if i.Meter != 0 {
		parts = append(parts, fmt.Sprintf("meter:%d", i.Meter))
	}
	for _, a := range i.Actions {
		parts = append(parts, a.String())
	}
	if i.HasGoto {
		parts = append(parts, fmt.Sprintf("goto_table:%d", i.Goto))
	}
	if i.unknown != "" {
		parts = append(parts, fmt.Sprintf("unknown(%x)", i.unknown))
	}
	if len(parts) == 0 {
		return "drop"
	}
	return strings.Join(parts, ",")
}

// FlowKey identifies a flow on a switch: no two flows share one.
type FlowKey struct {
	Table    uint8
	Priority uint16
	Match    string
}

// Key returns what identifies the flow on its switch.
func (f *Flow) Key() FlowKey {
	return FlowKey{Table: f.Table, Priority: f.Priority, Match: f.Match.Key()}
}

// String returns the flow in ovs-ofctl's syntax, as add-flow takes it.
func (f *Flow) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "cookie=0x%x,table=%d,", f.Cookie, f.Table)
	if f.IdleTimeout != 0 {
		fmt.Fprintf(&s, "idle_timeout=%d,", f.IdleTimeout)
	}
	if f.HardTimeout != 0 {
		fmt.Fprintf(&s, "hard_timeout=%d,", f.HardTimeout)
	}
	if f.Flags&FlagSendFlowRemoved != 0 {
		s.WriteString("send_flow_rem,")
	}
	fmt.Fprintf(&s, "priority=%d", f.Priority)
	if m := f.Match.String(); m != "" {
		s.WriteString("," + m)
	}
	s.WriteString(" actions=" + f.Instructions.String())
	return s.String()
}

// Validate reports what the switch would reject and can be told from the
// flow alone.
func (f *Flow) Validate() error {
	if err := f.Match.Validate(); err != nil {
		return err
	}
	for i, a := range f.Actions {
		switch a := a.(type) {
		case LoadReg:
			if a.Reg < 0 || a.Reg > 15 || a.Bits < 1 || a.Offset < 0 || a.Offset+a.Bits > 32 || a.Value>>a.Bits != 0 {
				return fmt.Errorf("action %d: %s does not fit a register", i, a)
			}
		case SetField:
			if a.Field.masked || a.Field.field == fieldUnknown {
				return fmt.Errorf("action %d: set-field takes a known field without mask", i)
			}
		case Sample:
			if a.Probability == 0 {
				return fmt.Errorf("action %d: sample with probability 0", i)
			}
		}
	}
	return nil
}

// Validate reports what the switch would reject and can be told from the
// message alone.
func (m *FlowMod) Validate() error {
	if m.Command > DeleteStrict {
		return fmt.Errorf("flow-mod command %d", m.Command)
	}
	if m.Table == TableAll && m.Command < Delete {
		return fmt.Errorf("flow-mod into table %d", m.Table)
	}
	return m.Flow.Validate()
}

// appendFlowMod appends the whole message (section 7.3.4.2).
func appendFlowMod(b []byte, xid uint32, m *FlowMod) ([]byte, error) {
	start := len(b)
	b = appendHeader(b, TypeFlowMod, xid)
	b = binary.BigEndian.AppendUint64(b, m.Cookie)
	b = binary.BigEndian.AppendUint64(b, m.CookieMask)
	b = append(b, m.Table, byte(m.Command))
	b = binary.BigEndian.AppendUint16(b, m.IdleTimeout)
	b = binary.BigEndian.AppendUint16(b, m.HardTimeout)
	b = binary.BigEndian.AppendUint16(b, m.Priority)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = binary.BigEndian.AppendUint32(b, groupAny)
	b = binary.BigEndian.AppendUint16(b, m.Flags)
	b = append(b, 0, 0) // importance
	b = m.Match.append(b)
	if m.Command < Delete {
		b = m.Instructions.append(b)
	}
	return finishMessage(b, start)
}
