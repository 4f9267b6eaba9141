package openflow

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// nxNote is NXAST_NOTE (nicira-ext).
const nxNote uint16 = 8

// maxNote is how many bytes of a note fit its action.
const maxNote = 1<<15 - 16

// Note does nothing; it carries Data for who reads the flow or group
// (nicira-ext, NXAST_NOTE). The switch fills it up with zeros, which stay when
// it is read back.
type Note struct{ Data string }

func (a Note) append(b []byte) []byte {
	start := len(b)
	return finishAction(append(appendNicira(b, 0, nxNote), a.Data...), start)
}

func (a Note) check(*situation) error {
	if len(a.Data) > maxNote {
		return fmt.Errorf("note of %d bytes", len(a.Data))
	}
	return nil
}

// String returns ovs-ofctl's syntax, bytes in hexadecimal with dots between.
func (a Note) String() string {
	parts := make([]string, len(a.Data))
	for i := range len(a.Data) {
		parts[i] = hex.EncodeToString([]byte(a.Data[i : i+1]))
	}
	return "note:" + strings.Join(parts, ".")
}
