package openflow

import "encoding/binary"

// helloVersionBitmap is the only hello element (section 7.5.1).
const helloVersionBitmap = 1

// appendHello offers exactly OpenFlow 1.4.
func appendHello(b []byte, xid uint32) []byte {
	body := []byte{0, helloVersionBitmap, 0, 8}
	return appendMessage(b, TypeHello, xid, binary.BigEndian.AppendUint32(body, 1<<Version))
}

// checkHello reports whether the peer can speak OpenFlow 1.4: its bitmap says
// so, or, without a bitmap, its highest version is at least ours.
func checkHello(m Message) error {
	b := m.Body
	for len(b) >= 4 {
		t, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return malformed("hello element length %d of %d bytes", n, len(b))
		}
		if t == helloVersionBitmap && n >= 8 {
			if binary.BigEndian.Uint32(b[4:])&(1<<Version) == 0 {
				return &VersionError{Highest: m.Version}
			}
			return nil
		}
		b = b[min(roundUp8(n), len(b)):]
	}
	if m.Version < Version {
		return &VersionError{Highest: m.Version}
	}
	return nil
}

// VersionError says that the switch does not speak OpenFlow 1.4.
type VersionError struct{ Highest uint8 }

func (e *VersionError) Error() string {
	return "the switch does not offer OpenFlow 1.4 (its highest version on the wire is " + versionName(e.Highest) +
		"): set its bridge's protocols to include OpenFlow14"
}

func versionName(v uint8) string {
	if v >= 1 && v <= 6 {
		return "1." + string('0'+rune(v)-1)
	}
	return "unknown"
}

// Features is the switch's answer to a features request (section 7.3.1).
type Features struct {
	DatapathID   uint64
	Tables       uint8
	Capabilities uint32
}

func decodeFeatures(m Message) (Features, error) {
	if m.Type != TypeFeaturesReply || len(m.Body) < 24 {
		return Features{}, malformed("features reply of type %d, %d bytes", m.Type, len(m.Body))
	}
	b := m.Body
	return Features{DatapathID: binary.BigEndian.Uint64(b), Tables: b[12], Capabilities: binary.BigEndian.Uint32(b[16:])}, nil
}
