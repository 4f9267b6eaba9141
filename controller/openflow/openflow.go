// Package openflow speaks OpenFlow 1.4 (ONF TS-012) and the Nicira extensions
// that Open vSwitch adds to it: a codec for the messages that Platelet sends
// and receives, and a connection that correlates them.
//
// Everything that comes from the switch is decoded within bounds: a length
// field that lies, a message cut short or an endless multipart reply is an
// error, never a crash, a hang or unbounded memory. What the decoders do not
// know (a match field, an action, an instruction of somebody else's flow) is
// kept as its bytes, so that a flow reads back different from another one
// whenever it is different.
package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Version is the protocol version on the wire, OpenFlow 1.4 (section 7.1.1).
const Version = 0x05

// headerLen is the length of struct ofp_header (section 7.1.1).
const headerLen = 8

// maxMessage is the longest message the 16-bit length field can announce.
const maxMessage = 1<<16 - 1

// Type is a message type (section 7.1.1, enum ofp_type).
type Type uint8

// Message types that this package uses.
const (
	TypeHello            Type = 0
	TypeError            Type = 1
	TypeEchoRequest      Type = 2
	TypeEchoReply        Type = 3
	TypeExperimenter     Type = 4
	TypeFeaturesRequest  Type = 5
	TypeFeaturesReply    Type = 6
	TypeSetConfig        Type = 9
	TypePacketIn         Type = 10
	TypeFlowRemoved      Type = 11
	TypePortStatus       Type = 12
	TypePacketOut        Type = 13
	TypeFlowMod          Type = 14
	TypeGroupMod         Type = 15
	TypeMultipartRequest Type = 18
	TypeMultipartReply   Type = 19
	TypeBarrierRequest   Type = 20
	TypeBarrierReply     Type = 21
	TypeRoleRequest      Type = 24
	TypeRoleReply        Type = 25
	TypeSetAsync         Type = 28
	TypeMeterMod         Type = 29
	TypeRoleStatus       Type = 30
	TypeBundleControl    Type = 33
	TypeBundleAdd        Type = 34
)

// Experimenter IDs.
const (
	experimenterNicira uint32 = 0x00002320
	experimenterONF    uint32 = 0x4f4e4600
)

// Reserved ports (section 7.2.1, enum ofp_port_no).
const (
	PortInPort     uint32 = 0xfffffff8
	PortTable      uint32 = 0xfffffff9 // of packet-out: through the tables
	PortNormal     uint32 = 0xfffffffa
	PortFlood      uint32 = 0xfffffffb
	PortAll        uint32 = 0xfffffffc
	PortController uint32 = 0xfffffffd
	PortLocal      uint32 = 0xfffffffe
	PortAny        uint32 = 0xffffffff
)

// maxPort is the first number that no port has (OFPP_MAX of Open vSwitch);
// numbers from 0xffffff00 on are reserved.
const maxPort uint32 = 0xff00

const (
	groupAny uint32 = 0xffffffff
	// TableAll stands for every table in deletions and statistics requests.
	TableAll uint8 = 0xff
	// noBuffer says that a flow-mod names no buffered packet.
	noBuffer uint32 = 0xffffffff
)

// ErrMalformed is wrapped by every decoding error: the peer sent bytes that
// are not the message they claim to be.
var ErrMalformed = errors.New("malformed OpenFlow message")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Message is one message as it stood on the wire.
type Message struct {
	Version uint8
	Type    Type
	XID     uint32
	// Body is what follows the header.
	Body []byte
}

// appendHeader starts a message whose length finishMessage fills in.
func appendHeader(b []byte, t Type, xid uint32) []byte {
	b = append(b, Version, byte(t), 0, 0)
	return binary.BigEndian.AppendUint32(b, xid)
}

// finishMessage writes the length of the message that began at start.
func finishMessage(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > maxMessage {
		return b[:start], fmt.Errorf("message type %d of %d bytes exceeds the 16-bit length", b[start+1], n)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

// appendMessage appends a whole message with a body that is known to be short.
func appendMessage(b []byte, t Type, xid uint32, body []byte) []byte {
	start := len(b)
	b = append(appendHeader(b, t, xid), body...)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// parseHeader reads the fixed header; n is the whole message's length.
func parseHeader(h []byte) (m Message, n int, err error) {
	if len(h) < headerLen {
		return m, 0, malformed("header of %d bytes", len(h))
	}
	n = int(binary.BigEndian.Uint16(h[2:]))
	if n < headerLen {
		return m, 0, malformed("length %d is below the header's own", n)
	}
	return Message{Version: h[0], Type: Type(h[1]), XID: binary.BigEndian.Uint32(h[4:])}, n, nil
}

func zeros(b []byte, n int) []byte {
	for range n {
		b = append(b, 0)
	}
	return b
}

// padTo8 pads what began at start to a multiple of eight bytes.
func padTo8(b []byte, start int) []byte { return zeros(b, (8-(len(b)-start)%8)%8) }

func roundUp8(n int) int { return (n + 7) &^ 7 }
