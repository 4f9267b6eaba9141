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
	Importance  uint16 // flows of low importance are evicted first
	Match       Match
	Instructions
}

// FlowMod adds, changes or deletes flows (section 7.3.4.2). The zero
// CookieMask ignores the cookie.
type FlowMod struct {
	Command    Command
	CookieMask uint64
	Flow
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
	if f.Importance != 0 {
		fmt.Fprintf(&s, "importance=%d,", f.Importance)
	}
	for i, name := range [...]string{"send_flow_rem", "check_overlap", "reset_counts", "no_packet_counts", "no_byte_counts"} {
		if f.Flags&(1<<i) != 0 {
			s.WriteString(name + ",")
		}
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
	return f.Instructions.check(f.Table, f.Match)
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

// append appends the whole message (section 7.3.4.2).
func (m *FlowMod) append(b []byte, xid uint32) ([]byte, error) {
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
	b = binary.BigEndian.AppendUint16(b, m.Importance)
	b = m.Match.append(b)
	if m.Command < Delete {
		b = m.Instructions.append(b)
	}
	return finishMessage(b, start)
}
