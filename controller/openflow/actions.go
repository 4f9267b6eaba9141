package openflow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// portInPort16 is OFPP_IN_PORT in the 16-bit form of the Nicira actions.
const portInPort16 uint16 = 0xfff8

// Output sends the packet to a port (section 7.2.5, OFPAT_OUTPUT).
type Output struct {
	Port uint32
	// MaxLen is how much of the packet goes to PortController; Open vSwitch
	// since 2.7 sends all of it.
	MaxLen uint16
}

func (a Output) append(b []byte) []byte {
	b = append(b, 0, byte(actionOutput), 0, 16)
	b = binary.BigEndian.AppendUint32(b, a.Port)
	return zeros(binary.BigEndian.AppendUint16(b, a.MaxLen), 6)
}

func (a Output) check(*situation) error {
	if a.Port == 0 || a.Port >= maxPort && a.Port < PortInPort || a.Port == PortAny {
		return fmt.Errorf("no output to port %s", PortText(a.Port))
	}
	return nil
}

func (a Output) String() string {
	switch a.Port {
	case PortController:
		return fmt.Sprintf("CONTROLLER:%d", a.MaxLen)
	case PortNormal, PortFlood, PortAll, PortInPort, PortLocal, PortTable:
		return PortText(a.Port)
	}
	return fmt.Sprintf("output:%d", a.Port)
}

// OutputReg sends the packet to the port whose number stands in a field
// (nicira-ext, NXAST_OUTPUT_REG).
type OutputReg struct {
	Src    Subfield // at most 64 bits
	MaxLen uint16   // see Output
}

func (a OutputReg) append(b []byte) []byte {
	b = appendNicira(b, 24, nxOutputReg)
	b = binary.BigEndian.AppendUint16(b, a.Src.ofsNBits())
	b = binary.BigEndian.AppendUint32(b, a.Src.Field.nxmHeader())
	b = binary.BigEndian.AppendUint16(b, a.MaxLen)
	return zeros(b, 6)
}

func (a OutputReg) check(s *situation) error {
	if a.Src.Bits > 64 {
		return fmt.Errorf("a port has no %d bits", a.Src.Bits)
	}
	return s.checkRead(a.Src)
}

func (a OutputReg) String() string { return "output:" + a.Src.String() }

// Resubmit looks the packet up in another table and then goes on with the
// next action (nicira-ext, NXAST_RESUBMIT_TABLE).
type Resubmit struct {
	// InPort is the port that the lookup takes the packet to have come by;
	// 0 is the one it came by.
	InPort uint16
	Table  uint8 // 255 is the table that the flow stands in
	// CT lets the lookup see the original tuple of the packet's connection
	// in the place of its addresses (NXAST_RESUBMIT_TABLE_CT).
	CT bool
}

func (a Resubmit) append(b []byte) []byte {
	subtype := nxResubmitTable
	if a.CT {
		subtype = nxResubmitTableCT
	}
	port := a.InPort
	if port == 0 {
		port = portInPort16
	}
	b = appendNicira(b, 16, subtype)
	b = binary.BigEndian.AppendUint16(b, port)
	return append(b, a.Table, 0, 0, 0)
}

// decodeResubmit returns nil for what our fields cannot say: port 0.
func decodeResubmit(subtype uint16, b []byte) Action {
	a := Resubmit{InPort: binary.BigEndian.Uint16(b[10:]), Table: b[12], CT: subtype == nxResubmitTableCT}
	switch a.InPort {
	case 0:
		return nil
	case portInPort16:
		a.InPort = 0
	}
	if subtype == nxResubmit {
		a.Table = TableAll
	}
	return a
}

func (a Resubmit) check(s *situation) error {
	if a.CT {
		if err := s.needAlways("resubmit(ct)", prereqCT); err != nil {
			return err
		}
	}
	if a.InPort == 0 && a.Table == TableAll {
		return errors.New("resubmits to itself: neither port nor table given")
	}
	return nil
}

func (a Resubmit) String() string {
	port, table, ct := "", "", ""
	if a.InPort != 0 {
		port = port16Text(a.InPort)
	}
	if a.Table != TableAll {
		table = fmt.Sprint(a.Table)
	}
	if a.CT {
		ct = ",ct"
	}
	return fmt.Sprintf("resubmit(%s,%s%s)", port, table, ct)
}

// port16Text prints a port of the Nicira actions, whose reserved numbers are
// the last of 16 bits.
func port16Text(p uint16) string {
	if p >= 0xff00 {
		return PortText(0xffff0000 | uint32(p))
	}
	return PortText(uint32(p))
}

// Load writes a value into bits of a field (nicira-ext, NXAST_REG_LOAD).
type Load struct {
	Dst   Subfield // at most 64 bits
	Value uint64
}

func (a Load) append(b []byte) []byte {
	b = appendNicira(b, 24, nxRegLoad)
	b = binary.BigEndian.AppendUint16(b, a.Dst.ofsNBits())
	b = binary.BigEndian.AppendUint32(b, a.Dst.Field.nxmHeader())
	return binary.BigEndian.AppendUint64(b, a.Value)
}

func (a Load) check(s *situation) error {
	if err := s.checkSet(a.Dst); err != nil {
		return err
	}
	if a.Dst.Bits > 64 || a.Value>>a.Dst.Bits != 0 {
		return fmt.Errorf("0x%x does not fit %d bits", a.Value, a.Dst.Bits)
	}
	s.written(a.Dst, a.Value)
	return nil
}

func (a Load) String() string { return fmt.Sprintf("load:0x%x->%s", a.Value, a.Dst) }

// Move copies bits of a field into as many bits of another (nicira-ext,
// NXAST_REG_MOVE).
type Move struct{ Src, Dst Subfield }

func (a Move) append(b []byte) []byte {
	b = appendNicira(b, 24, nxRegMove)
	b = binary.BigEndian.AppendUint16(b, uint16(a.Src.Bits))
	b = binary.BigEndian.AppendUint16(b, uint16(a.Src.Offset))
	b = binary.BigEndian.AppendUint16(b, uint16(a.Dst.Offset))
	b = binary.BigEndian.AppendUint32(b, a.Src.Field.nxmHeader())
	return binary.BigEndian.AppendUint32(b, a.Dst.Field.nxmHeader())
}

func (a Move) check(s *situation) error {
	if err := s.checkRead(a.Src); err != nil {
		return err
	}
	if err := s.checkWrite(a.Dst); err != nil {
		return err
	}
	if a.Src.Bits != a.Dst.Bits {
		return fmt.Errorf("%d bits do not fit %d", a.Src.Bits, a.Dst.Bits)
	}
	return nil
}

func (a Move) String() string { return fmt.Sprintf("move:%s->%s", a.Src, a.Dst) }

// SetField writes a header field or a register: all of it (section 7.2.5,
// OFPAT_SET_FIELD), or the bits of its mask (nicira-ext, NXAST_REG_LOAD2,
// because OpenFlow 1.4 has no masked set-field).
type SetField struct{ Field OXM }

func (a SetField) append(b []byte) []byte {
	start := len(b)
	a.Field, _ = a.Field.trimmed()
	if a.Field.masked {
		b = appendNicira(b, 0, nxRegLoad2)
	} else {
		b = append(b, 0, byte(actionSetField), 0, 0)
	}
	return finishAction(a.Field.append(b), start)
}

// decodeSetField reads a field with padding behind it.
func decodeSetField(b []byte) (Action, error) {
	if len(b) < oxmHeaderLen || len(b) < oxmHeaderLen+int(b[3]) {
		return nil, malformed("set-field holds half a field")
	}
	o, err := decodeOXM(b[:oxmHeaderLen+int(b[3])])
	if err != nil {
		return nil, err
	}
	if o.field == fieldUnknown {
		return nil, nil
	}
	o, _ = o.trimmed()
	return SetField{Field: o}, nil
}

// trimmed is normal for what is written, which may be bits that a match does
// not take.
func (o OXM) trimmed() (t OXM, nothing bool) {
	if !o.masked || o.field == fieldUnknown {
		return o, false
	}
	full, empty := true, true
	for i := range int(fields[o.field].size) {
		o.value[i] &= o.mask[i]
		full = full && o.mask[i] == 0xff
		empty = empty && o.mask[i] == 0
	}
	if full {
		o.masked, o.mask = false, [16]byte{}
	}
	return o, empty
}

func (a SetField) check(s *situation) error {
	f := a.Field.field
	if f == fieldUnknown || f >= fieldEnd {
		return errors.New("set-field takes a known field")
	}
	switch o, nothing := a.Field.trimmed(); {
	case nothing:
		return fmt.Errorf("set-field writes no bit of %s", f)
	case o.masked && fields[f].access&matchMasked == 0:
		return fmt.Errorf("set-field writes all of %s; load writes parts", f)
	case f == FieldInPort:
		return errors.New("set-field does not take in_port; load does")
	case f == FieldVLAN && !o.masked && o.value[0]&(vlanPresent>>8) == 0:
		return errors.New("set-field does not remove a VLAN tag; pop_vlan does")
	}
	if err := s.checkSet(Whole(f)); err != nil {
		return err
	}
	return a.Field.checkBits()
}

func (a SetField) String() string {
	o := a.Field
	if o.field == fieldUnknown {
		return fmt.Sprintf("set_field:%x", o.raw)
	}
	o, _ = o.trimmed()
	return fmt.Sprintf("set_field:%s->%s", o.maskedText(), o.field.setName())
}

// ToGroup hands the packet to a group (section 7.2.5, OFPAT_GROUP).
type ToGroup struct{ ID uint32 }

func (a ToGroup) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, byte(actionGroup), 0, 8), a.ID)
}

func (a ToGroup) check(*situation) error {
	if a.ID > groupMax {
		return fmt.Errorf("group 0x%x is reserved", a.ID)
	}
	return nil
}

func (a ToGroup) String() string { return fmt.Sprintf("group:%d", a.ID) }

// SetQueue chooses the queue of the port that the packet leaves by (section
// 7.2.5, OFPAT_SET_QUEUE).
type SetQueue struct{ ID uint32 }

func (a SetQueue) append(b []byte) []byte {
	return binary.BigEndian.AppendUint32(append(b, 0, byte(actionSetQueue), 0, 8), a.ID)
}

func (a SetQueue) check(*situation) error { return nil }

func (a SetQueue) String() string { return fmt.Sprintf("set_queue:%d", a.ID) }

// PushVLAN puts an empty VLAN tag in front (section 7.2.5).
type PushVLAN struct{ EtherType uint16 } // 0x8100 or 0x88a8

func (a PushVLAN) append(b []byte) []byte {
	b = append(b, 0, byte(actionPushVLAN), 0, 8)
	return zeros(binary.BigEndian.AppendUint16(b, a.EtherType), 2)
}

func (a PushVLAN) check(s *situation) error {
	if s.tags++; s.tags > maxTags {
		return fmt.Errorf("the switch tells no more than %d VLAN tags apart", maxTags)
	}
	if a.EtherType != 0x8100 && a.EtherType != 0x88a8 {
		return fmt.Errorf("0x%04x is not the EtherType of a VLAN tag", a.EtherType)
	}
	return nil
}

func (a PushVLAN) String() string { return fmt.Sprintf("push_vlan:0x%04x", a.EtherType) }

// PopVLAN takes the outer VLAN tag away (section 7.2.5).
type PopVLAN struct{}

func (PopVLAN) append(b []byte) []byte { return append(b, 0, byte(actionPopVLAN), 0, 8, 0, 0, 0, 0) }
func (PopVLAN) check(s *situation) error {
	if s.match == nil || s.tags == 0 && s.set {
		return nil
	}
	if s.tags == 0 {
		return &PrereqError{Field: FieldVLAN, Needs: "a VLAN tag to pop"}
	}
	s.tags--
	return nil
}
func (PopVLAN) String() string { return "pop_vlan" }

// DecTTL decrements the IP time to live (section 7.2.5, OFPAT_DEC_NW_TTL).
// A packet whose TTL is 0 or 1 goes no further, and to the controller if it
// asked for such packets.
type DecTTL struct{}

func (DecTTL) append(b []byte) []byte   { return append(b, 0, byte(actionDecTTL), 0, 8, 0, 0, 0, 0) }
func (DecTTL) check(s *situation) error { return s.need("dec_ttl", prereqIP) }
func (DecTTL) String() string           { return "dec_ttl" }

// Controller sends a copy of the packet to the controllers of one ID
// (nicira-ext, NXAST_CONTROLLER); the packet itself goes on to the next action.
type Controller struct {
	MaxLen uint16 // see Output
	ID     uint16
	Reason uint8 // as PacketIn.Reason shows it
	// Meter, if not 0, limits these copies: it drops what is above its rate of
	// them, and never the packet (NXAST_CONTROLLER2). Open vSwitch takes a meter
	// that does not exist for none.
	Meter uint32
}

// Properties of NXAST_CONTROLLER2 (nicira-ext, enum
// nx_action_controller2_prop_type).
const (
	controllerMaxLen uint16 = 0
	controllerID     uint16 = 1
	controllerReason uint16 = 2
	controllerMeter  uint16 = 5
	// controllerAll is the MaxLen that Open vSwitch leaves out.
	controllerAll uint16 = 0xffff
)

func (a Controller) append(b []byte) []byte {
	if a.Meter != 0 {
		return a.appendMetered(b)
	}
	b = appendNicira(b, 16, nxController)
	b = binary.BigEndian.AppendUint16(b, a.MaxLen)
	b = binary.BigEndian.AppendUint16(b, a.ID)
	return append(b, a.Reason, 0)
}

// appendMetered encodes the form with properties, those alone that Open vSwitch
// would encode: each takes eight bytes, the value first.
func (a Controller) appendMetered(b []byte) []byte {
	start := len(b)
	property := func(kind uint16, length byte, value uint32) {
		b = binary.BigEndian.AppendUint16(b, kind)
		b = binary.BigEndian.AppendUint32(append(b, 0, length), value)
	}
	b = zeros(appendNicira(b, 0, nxController2), 6)
	if a.MaxLen != controllerAll {
		property(controllerMaxLen, 8, uint32(a.MaxLen)<<16)
	}
	if a.ID != 0 {
		property(controllerID, 8, uint32(a.ID)<<16)
	}
	if a.Reason != ReasonAction {
		property(controllerReason, 5, uint32(a.Reason)<<24)
	}
	property(controllerMeter, 8, a.Meter)
	return finishAction(b, start)
}

// decodeController2 returns nil for what our fields cannot say.
func decodeController2(b []byte) Action {
	a := Controller{MaxLen: controllerAll, Reason: ReasonAction}
	for p := b[16:]; len(p) >= 8; p = p[8:] {
		value := binary.BigEndian.Uint32(p[4:])
		switch binary.BigEndian.Uint16(p) {
		case controllerMaxLen:
			a.MaxLen = uint16(value >> 16)
		case controllerID:
			a.ID = uint16(value >> 16)
		case controllerReason:
			a.Reason = uint8(value >> 24)
		case controllerMeter:
			a.Meter = value
		default:
			return nil
		}
	}
	if a.Meter == 0 || !bytes.Equal(a.append(nil), b) {
		return nil
	}
	return a
}

func (a Controller) check(*situation) error {
	if a.Reason > ReasonInvalidTTL {
		return fmt.Errorf("reason %d", a.Reason)
	}
	return nil
}

func (a Controller) String() string {
	reason := fmt.Sprint(a.Reason)
	if names := [...]string{"no_match", "action", "invalid_ttl"}; int(a.Reason) < len(names) {
		reason = names[a.Reason]
	}
	meter := ""
	if a.Meter != 0 {
		meter = fmt.Sprintf(",meter_id=%d", a.Meter)
	}
	return fmt.Sprintf("controller(max_len=%d,id=%d,reason=%s%s)", a.MaxLen, a.ID, reason, meter)
}

// Conjunction makes the flow one of Of clauses of a conjunctive match, of
// which Clause is the number from 1 on; a flow that matches ConjID then acts
// (nicira-ext, NXAST_CONJUNCTION). No other action may stand beside it.
type Conjunction struct {
	ID         uint32
	Clause, Of uint8
}

func (a Conjunction) append(b []byte) []byte {
	b = append(appendNicira(b, 16, nxConjunction), a.Clause-1, a.Of)
	return binary.BigEndian.AppendUint32(b, a.ID)
}

func (a Conjunction) check(*situation) error {
	if a.Of < 2 || a.Of > 64 || a.Clause < 1 || a.Clause > a.Of {
		return fmt.Errorf("clause %d of %d: want 2 to 64 clauses, numbered from 1", a.Clause, a.Of)
	}
	return nil
}

func (a Conjunction) String() string {
	return fmt.Sprintf("conjunction(%d,%d/%d)", a.ID, a.Clause, a.Of)
}

// Sample reports the packet to a Flow_Sample_Collector_Set with Probability
// of 65535 (nicira-ext, NXAST_SAMPLE).
type Sample struct {
	Probability  uint16
	CollectorSet uint32
	Domain       uint32 // IPFIX observation domain ID
	Point        uint32 // IPFIX observation point ID
}

func (a Sample) append(b []byte) []byte {
	b = appendNicira(b, 24, nxSample)
	b = binary.BigEndian.AppendUint16(b, a.Probability)
	b = binary.BigEndian.AppendUint32(b, a.CollectorSet)
	b = binary.BigEndian.AppendUint32(b, a.Domain)
	return binary.BigEndian.AppendUint32(b, a.Point)
}

func (a Sample) check(*situation) error {
	if a.Probability == 0 {
		return errors.New("sample with probability 0")
	}
	return nil
}

func (a Sample) String() string {
	return fmt.Sprintf("sample(probability=%d,collector_set_id=%d,obs_domain_id=%d,obs_point_id=%d)",
		a.Probability, a.CollectorSet, a.Domain, a.Point)
}
