package openflow

import (
	"encoding/binary"
	"time"
)

// RemovedReason says why a flow went (section 7.4.2, enum
// ofp_flow_removed_reason).
type RemovedReason uint8

// Reasons for a flow's end.
const (
	RemovedIdle RemovedReason = iota
	RemovedHard
	RemovedDelete
	RemovedGroupDelete
	RemovedMeterDelete
	RemovedEviction
)

// FlowRemoved reports the end of a flow that asked for it with
// FlagSendFlowRemoved, with its final counters (section 7.4.2).
type FlowRemoved struct {
	Reason                   RemovedReason
	Table                    uint8
	Priority                 uint16
	Cookie                   uint64
	IdleTimeout, HardTimeout uint16
	Duration                 time.Duration
	Packets, Bytes           uint64
	Match                    Match
}

// flowRemovedLen is the fixed part of struct ofp_flow_removed.
const flowRemovedLen = 40

// DecodeFlowRemoved reads an asynchronous TypeFlowRemoved message.
func DecodeFlowRemoved(m Message) (r FlowRemoved, err error) {
	b := m.Body
	if m.Type != TypeFlowRemoved || len(b) < flowRemovedLen {
		return r, malformed("flow removed of type %d, %d bytes", m.Type, len(b))
	}
	r = FlowRemoved{
		Cookie: binary.BigEndian.Uint64(b), Priority: binary.BigEndian.Uint16(b[8:]),
		Reason: RemovedReason(b[10]), Table: b[11], Duration: wireDuration(b[12:]),
		IdleTimeout: binary.BigEndian.Uint16(b[20:]), HardTimeout: binary.BigEndian.Uint16(b[22:]),
		Packets: binary.BigEndian.Uint64(b[24:]), Bytes: binary.BigEndian.Uint64(b[32:]),
	}
	r.Match, _, err = decodeMatch(b[flowRemovedLen:])
	return r, err
}

// Async says which asynchronous messages the switch sends (section 7.3.10).
// A management socket sends none until it is told to.
type Async struct {
	FlowRemoved bool // every reason
	PortStatus  bool // every reason
	RoleStatus  bool // every reason
	PacketIn    bool // every reason
}

// Properties of set-async, each for the roles of slave and of master or equal.
const (
	asyncPacketInSlave     uint16 = 0
	asyncPacketInMaster    uint16 = 1
	asyncPortStatusSlave   uint16 = 2
	asyncPortStatusMaster  uint16 = 3
	asyncFlowRemovedSlave  uint16 = 4
	asyncFlowRemovedMaster uint16 = 5
	asyncRoleStatusSlave   uint16 = 6
	asyncRoleStatusMaster  uint16 = 7
)

func (a Async) body() []byte {
	reasons := func(on bool, last uint8) uint32 {
		if !on {
			return 0
		}
		return 1<<(last+1) - 1
	}
	packetIn := reasons(a.PacketIn, ReasonPacketOut)
	portStatus := reasons(a.PortStatus, uint8(PortModified))
	flowRemoved := reasons(a.FlowRemoved, uint8(RemovedEviction))
	roleStatus := reasons(a.RoleStatus, uint8(RoleExperimenter))
	var b []byte
	for _, p := range [...]struct {
		t    uint16
		mask uint32
	}{
		{asyncPacketInSlave, packetIn}, {asyncPacketInMaster, packetIn},
		{asyncPortStatusSlave, portStatus}, {asyncPortStatusMaster, portStatus},
		{asyncFlowRemovedSlave, flowRemoved}, {asyncFlowRemovedMaster, flowRemoved},
		{asyncRoleStatusSlave, roleStatus}, {asyncRoleStatusMaster, roleStatus},
	} {
		b = binary.BigEndian.AppendUint16(b, p.t)
		b = append(b, 0, 8)
		b = binary.BigEndian.AppendUint32(b, p.mask)
	}
	return b
}
