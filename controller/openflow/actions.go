package openflow

import (
	"encoding/binary"
	"fmt"
)

// Action types (section 7.2.5) and Nicira subtypes (nicira-ext, enum
// nx_action_subtype).
const (
	actionOutput       uint16 = 0
	actionSetField     uint16 = 25
	actionExperimenter uint16 = 0xffff

	nxRegLoad       uint16 = 7
	nxResubmitTable uint16 = 14
	nxSample        uint16 = 29
)

// portInPort16 is OFPP_IN_PORT in the 16-bit form of the Nicira actions.
const portInPort16 uint16 = 0xfff8

// Action is something done to a packet. String returns it in ovs-ofctl's
// syntax.
type Action interface {
	fmt.Stringer
	append(b []byte) []byte
}

// Output sends the packet to a port (section 7.2.5, OFPAT_OUTPUT).
type Output struct {
	Port uint32
	// MaxLen is how much of the packet goes to PortController.
	MaxLen uint16
}

func (a Output) append(b []byte) []byte {
	b = append(b, 0, byte(actionOutput), 0, 16)
	b = binary.BigEndian.AppendUint32(b, a.Port)
	return zeros(binary.BigEndian.AppendUint16(b, a.MaxLen), 6)
}

func (a Output) String() string {
	switch a.Port {
	case PortController:
		return fmt.Sprintf("CONTROLLER:%d", a.MaxLen)
	case PortNormal, PortFlood, PortAll, PortInPort, PortLocal:
		return PortText(a.Port)
	}
	return fmt.Sprintf("output:%d", a.Port)
}

// Resubmit looks the packet up in another table with its own in_port and then
// goes on with the next action (nicira-ext, NXAST_RESUBMIT_TABLE).
type Resubmit struct{ Table uint8 }

func (a Resubmit) append(b []byte) []byte {
	b = appendNicira(b, 16, nxResubmitTable)
	b = binary.BigEndian.AppendUint16(b, portInPort16)
	return append(b, a.Table, 0, 0, 0)
}

func (a Resubmit) String() string { return fmt.Sprintf("resubmit(,%d)", a.Table) }

// LoadReg writes Value into Bits bits of register Reg from bit Offset on
// (nicira-ext, NXAST_REG_LOAD). OpenFlow 1.4 has no masked set-field.
type LoadReg struct {
	Reg          int
	Offset, Bits int
	Value        uint64
}

// regHeader is the NXM header of a register without mask.
func regHeader(n int) uint32 { return uint32(classNXM1)<<16 | uint32(n&15)<<9 | 4 }

func (a LoadReg) append(b []byte) []byte {
	b = appendNicira(b, 24, nxRegLoad)
	b = binary.BigEndian.AppendUint16(b, uint16(a.Offset&31)<<6|uint16((a.Bits-1)&31))
	b = binary.BigEndian.AppendUint32(b, regHeader(a.Reg))
	return binary.BigEndian.AppendUint64(b, a.Value)
}

func (a LoadReg) String() string {
	return fmt.Sprintf("load:0x%x->NXM_NX_REG%d[%d..%d]", a.Value, a.Reg, a.Offset, a.Offset+a.Bits-1)
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

func (a Sample) String() string {
	return fmt.Sprintf("sample(probability=%d,collector_set_id=%d,obs_domain_id=%d,obs_point_id=%d)",
		a.Probability, a.CollectorSet, a.Domain, a.Point)
}

// SetField writes a whole header field or register (section 7.2.5,
// OFPAT_SET_FIELD); the field must carry no mask.
type SetField struct{ Field OXM }

func (a SetField) append(b []byte) []byte {
	start := len(b)
	b = append(b, 0, byte(actionSetField), 0, 0)
	b = padTo8(a.Field.append(b), start)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

func (a SetField) String() string {
	o := a.Field
	if o.field == fieldUnknown {
		return fmt.Sprintf("set_field:%x", o.raw)
	}
	return fmt.Sprintf("set_field:%s->%s", o.valueText(o.value[:fields[o.field].size]), o.field)
}

// UnknownAction is an action this package does not know, as its bytes.
type UnknownAction string

func (a UnknownAction) append(b []byte) []byte { return append(b, a...) }

func (a UnknownAction) String() string { return fmt.Sprintf("unknown(%x)", string(a)) }

func appendNicira(b []byte, n, subtype uint16) []byte {
	b = binary.BigEndian.AppendUint16(b, actionExperimenter)
	b = binary.BigEndian.AppendUint16(b, n)
	b = binary.BigEndian.AppendUint32(b, experimenterNicira)
	return binary.BigEndian.AppendUint16(b, subtype)
}

func appendActions(b []byte, actions []Action) []byte {
	for _, a := range actions {
		b = a.append(b)
	}
	return b
}

// decodeActions reads a list of actions that fills b.
func decodeActions(b []byte) ([]Action, error) {
	var out []Action
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed("action cut short at %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, malformed("action length %d of %d bytes", n, len(b))
		}
		a, err := decodeAction(b[:n])
		if err != nil {
			return nil, err
		}
		out = append(out, a)
		b = b[n:]
	}
	return out, nil
}

func decodeAction(b []byte) (Action, error) {
	switch binary.BigEndian.Uint16(b) {
	case actionOutput:
		if len(b) != 16 {
			return nil, malformed("output action of %d bytes", len(b))
		}
		return Output{Port: binary.BigEndian.Uint32(b[4:]), MaxLen: binary.BigEndian.Uint16(b[8:])}, nil
	case actionSetField:
		return decodeSetField(b)
	case actionExperimenter:
		if len(b) >= 16 && binary.BigEndian.Uint32(b[4:]) == experimenterNicira {
			return decodeNicira(binary.BigEndian.Uint16(b[8:]), b), nil
		}
	}
	return UnknownAction(b), nil
}

func decodeSetField(b []byte) (Action, error) {
	n := oxmHeaderLen + int(b[7])
	if 4+n > len(b) {
		return nil, malformed("set-field of %d bytes holds a field of %d", len(b), n)
	}
	o, err := decodeOXM(b[4 : 4+n])
	if err != nil {
		return nil, err
	}
	return SetField{Field: o}, nil
}

// decodeNicira decodes the Nicira actions we use; b has at least 16 bytes.
// Whatever is not exactly one of those stays as bytes.
func decodeNicira(subtype uint16, b []byte) Action {
	switch {
	case subtype == nxResubmitTable && len(b) == 16 && binary.BigEndian.Uint16(b[10:]) == portInPort16:
		return Resubmit{Table: b[12]}
	case subtype == nxRegLoad && len(b) == 24:
		ofsBits, dst := binary.BigEndian.Uint16(b[10:]), binary.BigEndian.Uint32(b[12:])
		reg := int(dst>>9) & 15
		if dst == regHeader(reg) {
			return LoadReg{Reg: reg, Offset: int(ofsBits >> 6), Bits: int(ofsBits&63) + 1, Value: binary.BigEndian.Uint64(b[16:])}
		}
	case subtype == nxSample && len(b) == 24:
		return Sample{
			Probability:  binary.BigEndian.Uint16(b[10:]),
			CollectorSet: binary.BigEndian.Uint32(b[12:]),
			Domain:       binary.BigEndian.Uint32(b[16:]),
			Point:        binary.BigEndian.Uint32(b[20:]),
		}
	}
	return UnknownAction(b)
}
