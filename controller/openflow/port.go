package openflow

import (
	"bytes"
	"encoding/binary"
)

// Port is a switch port (section 7.2.1, struct ofp_port).
type Port struct {
	Number uint32
	MAC    [6]byte
	// Name is at most PortNameLen bytes: the switch cuts longer ones.
	Name          string
	Config, State uint32
}

// PortNameLen is how much of an interface name the protocol carries.
const PortNameLen = 15

// portLen is the fixed part of struct ofp_port.
const portLen = 40

// decodePort reads one port and returns what follows it.
func decodePort(b []byte) (Port, []byte, error) {
	if len(b) < portLen {
		return Port{}, nil, malformed("port description of %d bytes", len(b))
	}
	n := int(binary.BigEndian.Uint16(b[4:]))
	if n < portLen || n > len(b) {
		return Port{}, nil, malformed("port description length %d of %d bytes", n, len(b))
	}
	name, _, _ := bytes.Cut(b[16:32], []byte{0})
	return Port{
		Number: binary.BigEndian.Uint32(b), MAC: [6]byte(b[8:14]), Name: string(name),
		Config: binary.BigEndian.Uint32(b[32:]), State: binary.BigEndian.Uint32(b[36:]),
	}, b[n:], nil
}

func decodePorts(b []byte) ([]Port, error) {
	var out []Port
	for len(b) > 0 {
		p, rest, err := decodePort(b)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
		b = rest
	}
	return out, nil
}

// PortReason says what happened to a port (section 7.4.3).
type PortReason uint8

// Port status reasons.
const (
	PortAdded PortReason = iota
	PortDeleted
	PortModified
)

// PortStatus reports a change of a port (section 7.4.3).
type PortStatus struct {
	Reason PortReason
	Port   Port
}

// DecodePortStatus reads an asynchronous TypePortStatus message.
func DecodePortStatus(m Message) (PortStatus, error) {
	if m.Type != TypePortStatus || len(m.Body) < 8 {
		return PortStatus{}, malformed("port status of type %d, %d bytes", m.Type, len(m.Body))
	}
	p, _, err := decodePort(m.Body[8:])
	return PortStatus{Reason: PortReason(m.Body[0]), Port: p}, err
}
