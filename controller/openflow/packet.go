package openflow

import "encoding/binary"

// Reasons why a packet came to the controller (section 7.4.1, enum
// ofp_packet_in_reason).
const (
	ReasonNoMatch    uint8 = 0 // table-miss flow
	ReasonAction     uint8 = 1
	ReasonInvalidTTL uint8 = 2
	ReasonActionSet  uint8 = 3
	ReasonGroup      uint8 = 4
	ReasonPacketOut  uint8 = 5
)

// PacketIn is a packet that the switch sends to the controller (section
// 7.4.1).
type PacketIn struct {
	Reason uint8
	Table  uint8
	Cookie uint64 // of the flow that sent it
	InPort uint32 // 0 when the switch does not say
	Match  Match  // the packet's metadata: port, registers, tunnel
	// Length is that of the whole packet, Data its beginning.
	Length uint16
	Data   []byte
}

// DecodePacketIn reads an asynchronous TypePacketIn message; Data is part of
// the message's body.
func DecodePacketIn(m Message) (p PacketIn, err error) {
	const fixed, pad = 16, 2
	b := m.Body
	if m.Type != TypePacketIn || len(b) < fixed {
		return p, malformed("packet-in of type %d, %d bytes", m.Type, len(b))
	}
	p = PacketIn{Length: binary.BigEndian.Uint16(b[4:]), Reason: b[6], Table: b[7], Cookie: binary.BigEndian.Uint64(b[8:])}
	match, rest, err := decodeMatch(b[fixed:])
	if err != nil {
		return p, err
	}
	if len(rest) < pad {
		return p, malformed("packet-in ends behind its match")
	}
	p.Match, p.Data = match, rest[pad:]
	p.InPort, _ = match.exact(FieldInPort)
	return p, nil
}

// PacketOut sends a packet (section 7.3.6).
type PacketOut struct {
	InPort  uint32 // that the actions take it to have come by; 0 is PortController
	Actions []Action
	Data    []byte
}

// appendPacketOut appends the whole message.
func appendPacketOut(b []byte, xid uint32, p *PacketOut) ([]byte, error) {
	port := p.InPort
	if port == 0 {
		port = PortController
	}
	start := len(b)
	b = appendHeader(b, TypePacketOut, xid)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, port)
	at := len(b)
	b = appendActions(zeros(b, 8), p.Actions)
	binary.BigEndian.PutUint16(b[at:], uint16(len(b)-at-8))
	return finishMessage(append(b, p.Data...), start)
}
