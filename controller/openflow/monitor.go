package openflow

import "encoding/binary"

// Flow monitor flags (section 7.3.5.17, enum ofp_flow_monitor_flags).
const (
	monitorAdd     uint16 = 1 << 1
	monitorRemoved uint16 = 1 << 2
	monitorModify  uint16 = 1 << 3
)

// monitorBody encodes a request that adds a monitor. The connection's own
// changes come back abbreviated: Open vSwitch refuses OFPFMF_NO_ABBREV.
func monitorBody(id uint32, f FlowFilter) []byte {
	var b []byte
	b = binary.BigEndian.AppendUint32(b, id)
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = binary.BigEndian.AppendUint32(b, groupAny)
	b = binary.BigEndian.AppendUint16(b, monitorAdd|monitorRemoved|monitorModify)
	b = append(b, f.Table, 0) // OFPFMC_ADD
	return f.Match.append(b)
}

// FlowEvent says what happened to a flow (section 7.3.5.17, enum
// ofp_flow_update_event).
type FlowEvent uint16

// Flow monitor events.
const (
	FlowInitial FlowEvent = iota
	FlowAdded
	FlowRemovedEvent
	FlowModified
	// FlowOwnChange stands for a change that this connection itself made.
	FlowOwnChange
	// MonitorPaused says that events are being lost; after MonitorResumed
	// the flows must be read again.
	MonitorPaused
	MonitorResumed
)

// FlowUpdate is one event of a flow monitor. Table, Priority, Cookie, Match
// and Reason are valid for added, removed and modified flows; XID for
// FlowOwnChange.
type FlowUpdate struct {
	Event    FlowEvent
	Table    uint8
	Reason   RemovedReason
	Priority uint16
	Cookie   uint64
	Match    Match
	XID      uint32
}

// flowUpdateLen is the fixed part of struct ofp_flow_update_full.
const flowUpdateLen = 24

// DecodeFlowUpdates reads an asynchronous TypeMultipartReply of a flow
// monitor; ok is false when the message is another multipart reply.
func DecodeFlowUpdates(m Message) (updates []FlowUpdate, ok bool, err error) {
	if m.Type != TypeMultipartReply {
		return nil, false, nil
	}
	t, _, b, err := parseMultipart(m.Body)
	if err != nil || t != multipartFlowMonitor {
		return nil, false, err
	}
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, true, malformed("flow update of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 8 || n > len(b) {
			return nil, true, malformed("flow update length %d of %d bytes", n, len(b))
		}
		u, err := decodeFlowUpdate(b[:n])
		if err != nil {
			return nil, true, err
		}
		updates = append(updates, u)
		b = b[n:]
	}
	return updates, true, nil
}

// decodeFlowUpdate reads one event; b holds exactly it, at least 8 bytes.
func decodeFlowUpdate(b []byte) (u FlowUpdate, err error) {
	u.Event = FlowEvent(binary.BigEndian.Uint16(b[2:]))
	switch u.Event {
	case FlowOwnChange:
		u.XID = binary.BigEndian.Uint32(b[4:])
		return u, nil
	case MonitorPaused, MonitorResumed:
		return u, nil
	case FlowInitial, FlowAdded, FlowRemovedEvent, FlowModified:
	default:
		return u, malformed("flow update event %d", u.Event)
	}
	if len(b) < flowUpdateLen {
		return u, malformed("full flow update of %d bytes", len(b))
	}
	u.Table, u.Reason = b[4], RemovedReason(b[5])
	u.Priority = binary.BigEndian.Uint16(b[10:])
	u.Cookie = binary.BigEndian.Uint64(b[16:])
	u.Match, _, err = decodeMatch(b[flowUpdateLen:])
	return u, err
}
