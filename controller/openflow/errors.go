package openflow

import (
	"encoding/binary"
	"fmt"
)

// Error is an error message from the switch (section 7.5.4).
type Error struct {
	Type, Code uint16
	// Experimenter is valid when Type is 0xffff; Code is then its own type.
	Experimenter uint32
	// XID is the request that the switch complains about.
	XID uint32
	// Data is at least 64 bytes of that request.
	Data []byte
}

const errorExperimenter = 0xffff

// Error types that callers tell apart (section 7.5.4, enum ofp_error_type).
const (
	ErrorTypeHelloFailed   uint16 = 0
	ErrorTypeBadRequest    uint16 = 1
	ErrorTypeBadMatch      uint16 = 4
	ErrorTypeFlowModFailed uint16 = 5
	ErrorTypeRoleFailed    uint16 = 11
	ErrorTypeMeterFailed   uint16 = 12
	ErrorTypeBundleFailed  uint16 = 17
)

// errorType names an error type and its codes, as the specification does.
type errorType struct {
	name  string
	codes []string
}

// errorTypes is section 7.5.4 in its order; an empty name is a reserved code.
var errorTypes = []errorType{
	{"HELLO_FAILED", []string{"INCOMPATIBLE", "EPERM"}},
	{"BAD_REQUEST", []string{"BAD_VERSION", "BAD_TYPE", "BAD_MULTIPART", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "EPERM", "BAD_LEN",
		"BUFFER_EMPTY", "BUFFER_UNKNOWN", "BAD_TABLE_ID", "IS_SLAVE", "BAD_PORT", "BAD_PACKET", "MULTIPART_BUFFER_OVERFLOW",
		"MULTIPART_REQUEST_TIMEOUT", "MULTIPART_REPLY_TIMEOUT"}},
	{"BAD_ACTION", []string{"BAD_TYPE", "BAD_LEN", "BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_OUT_PORT", "BAD_ARGUMENT", "EPERM",
		"TOO_MANY", "BAD_QUEUE", "BAD_OUT_GROUP", "MATCH_INCONSISTENT", "UNSUPPORTED_ORDER", "BAD_TAG", "BAD_SET_TYPE",
		"BAD_SET_LEN", "BAD_SET_ARGUMENT"}},
	{"BAD_INSTRUCTION", []string{"UNKNOWN_INST", "UNSUP_INST", "BAD_TABLE_ID", "UNSUP_METADATA", "UNSUP_METADATA_MASK",
		"BAD_EXPERIMENTER", "BAD_EXP_TYPE", "BAD_LEN", "EPERM", "DUP_INST"}},
	{"BAD_MATCH", []string{"BAD_TYPE", "BAD_LEN", "BAD_TAG", "BAD_DL_ADDR_MASK", "BAD_NW_ADDR_MASK", "BAD_WILDCARDS", "BAD_FIELD",
		"BAD_VALUE", "BAD_MASK", "BAD_PREREQ", "DUP_FIELD", "EPERM"}},
	{"FLOW_MOD_FAILED", []string{"UNKNOWN", "TABLE_FULL", "BAD_TABLE_ID", "OVERLAP", "EPERM", "BAD_TIMEOUT", "BAD_COMMAND",
		"BAD_FLAGS", "CANT_SYNC", "BAD_PRIORITY"}},
	{"GROUP_MOD_FAILED", []string{"GROUP_EXISTS", "INVALID_GROUP", "WEIGHT_UNSUPPORTED", "OUT_OF_GROUPS", "OUT_OF_BUCKETS",
		"CHAINING_UNSUPPORTED", "WATCH_UNSUPPORTED", "LOOP", "UNKNOWN_GROUP", "CHAINED_GROUP", "BAD_TYPE", "BAD_COMMAND",
		"BAD_BUCKET", "BAD_WATCH", "EPERM"}},
	{"PORT_MOD_FAILED", []string{"BAD_PORT", "BAD_HW_ADDR", "BAD_CONFIG", "BAD_ADVERTISE", "EPERM"}},
	{"TABLE_MOD_FAILED", []string{"BAD_TABLE", "BAD_CONFIG", "EPERM"}},
	{"QUEUE_OP_FAILED", []string{"BAD_PORT", "BAD_QUEUE", "EPERM"}},
	{"SWITCH_CONFIG_FAILED", []string{"BAD_FLAGS", "BAD_LEN", "EPERM"}},
	{"ROLE_REQUEST_FAILED", []string{"STALE", "UNSUP", "BAD_ROLE"}},
	{"METER_MOD_FAILED", []string{"UNKNOWN", "METER_EXISTS", "INVALID_METER", "UNKNOWN_METER", "BAD_COMMAND", "BAD_FLAGS",
		"BAD_RATE", "BAD_BURST", "BAD_BAND", "BAD_BAND_VALUE", "OUT_OF_METERS", "OUT_OF_BANDS"}},
	{"TABLE_FEATURES_FAILED", []string{"BAD_TABLE", "BAD_METADATA", "BAD_TYPE", "BAD_LEN", "BAD_ARGUMENT", "EPERM"}},
	{"BAD_PROPERTY", []string{"BAD_TYPE", "BAD_LEN", "BAD_VALUE", "TOO_MANY", "DUP_TYPE", "BAD_EXPERIMENTER", "BAD_EXP_TYPE",
		"BAD_EXP_VALUE", "EPERM"}},
	{"ASYNC_CONFIG_FAILED", []string{"INVALID", "UNSUPPORTED", "EPERM"}},
	{"FLOW_MONITOR_FAILED", []string{"UNKNOWN", "MONITOR_EXISTS", "INVALID_MONITOR", "UNKNOWN_MONITOR", "BAD_COMMAND", "BAD_FLAGS",
		"BAD_TABLE_ID", "BAD_OUT"}},
	{"BUNDLE_FAILED", []string{"UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES", "BAD_TYPE",
		"BAD_FLAGS", "MSG_BAD_LEN", "MSG_BAD_XID", "MSG_UNSUP", "MSG_CONFLICT", "MSG_TOO_MANY", "MSG_FAILED", "TIMEOUT",
		"BUNDLE_IN_PROGRESS"}},
}

// TypeName returns the specification's name of the error's type.
func (e *Error) TypeName() string {
	switch {
	case e.Type == errorExperimenter:
		return fmt.Sprintf("EXPERIMENTER 0x%08x", e.Experimenter)
	case int(e.Type) < len(errorTypes):
		return errorTypes[e.Type].name
	}
	return fmt.Sprintf("type %d", e.Type)
}

// CodeName returns the specification's name of the error's code.
func (e *Error) CodeName() string {
	if int(e.Type) < len(errorTypes) && int(e.Code) < len(errorTypes[e.Type].codes) {
		return errorTypes[e.Type].codes[e.Code]
	}
	return fmt.Sprintf("code %d", e.Code)
}

func (e *Error) Error() string { return "switch refused: " + e.TypeName() + " " + e.CodeName() }

// Is reports whether target is an *Error of the same type and code, so that
// errors.Is(err, &Error{Type: t, Code: c}) works.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Type == e.Type && t.Code == e.Code
}

// decodeError reads an error message's body (section 7.5.4).
func decodeError(m Message) (*Error, error) {
	b := m.Body
	if len(b) < 4 {
		return nil, malformed("error message of %d bytes", len(b))
	}
	e := &Error{Type: binary.BigEndian.Uint16(b), Code: binary.BigEndian.Uint16(b[2:]), XID: m.XID}
	b = b[4:]
	if e.Type == errorExperimenter {
		if len(b) < 4 {
			return nil, malformed("experimenter error of %d bytes", len(m.Body))
		}
		e.Experimenter = binary.BigEndian.Uint32(b)
		b = b[4:]
	}
	e.Data = b
	return e, nil
}
