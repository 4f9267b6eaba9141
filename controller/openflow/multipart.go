package openflow

import (
	"encoding/binary"
	"time"
)

// multipartType is a multipart message's type (section 7.3.5, enum
// ofp_multipart_type).
type multipartType uint16

const (
	multipartFlow          multipartType = 1
	multipartAggregate     multipartType = 2
	multipartGroup         multipartType = 6
	multipartGroupDesc     multipartType = 7
	multipartMeter         multipartType = 9
	multipartMeterConfig   multipartType = 10
	multipartMeterFeatures multipartType = 11
	multipartPortDesc      multipartType = 13
	multipartFlowMonitor   multipartType = 16
)

// multipartMore is OFPMPF_REPLY_MORE: the reply goes on in another message.
const multipartMore = 1

const multipartHeaderLen = 8

func appendMultipart(b []byte, xid uint32, t multipartType, body []byte) []byte {
	start := len(b)
	b = appendHeader(b, TypeMultipartRequest, xid)
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	b = zeros(b, 6)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// parseMultipart splits a multipart reply's body.
func parseMultipart(b []byte) (t multipartType, more bool, body []byte, err error) {
	if len(b) < multipartHeaderLen {
		return 0, false, nil, malformed("multipart reply of %d bytes", len(b))
	}
	return multipartType(binary.BigEndian.Uint16(b)), binary.BigEndian.Uint16(b[2:])&multipartMore != 0, b[multipartHeaderLen:], nil
}

// FlowFilter selects flows in statistics requests and flow monitors. Match
// selects every flow at least as narrow as itself.
type FlowFilter struct {
	Table              uint8
	Cookie, CookieMask uint64
	Match              Match
}

// appendStatsRequest encodes struct ofp_flow_stats_request, which aggregate
// requests share (sections 7.3.5.2 and 7.3.5.3).
func (f FlowFilter) appendStatsRequest(b []byte) []byte {
	b = append(b, f.Table, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, PortAny)
	b = binary.BigEndian.AppendUint32(b, groupAny)
	b = zeros(b, 4)
	b = binary.BigEndian.AppendUint64(b, f.Cookie)
	b = binary.BigEndian.AppendUint64(b, f.CookieMask)
	return f.Match.append(b)
}

// FlowStats is an installed flow with its counters (section 7.3.5.2). Open
// vSwitch brings the counters up to date about every 500 ms.
type FlowStats struct {
	Flow
	Duration       time.Duration // since it was added
	Packets, Bytes uint64
}

// flowStatsLen is the fixed part of struct ofp_flow_stats.
const flowStatsLen = 48

// decodeFlowStats reads the body of one flow statistics reply.
func decodeFlowStats(b []byte) ([]FlowStats, error) {
	var out []FlowStats
	for len(b) > 0 {
		if len(b) < flowStatsLen {
			return nil, malformed("flow statistics of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < flowStatsLen || n > len(b) {
			return nil, malformed("flow statistics length %d of %d bytes", n, len(b))
		}
		if out == nil {
			out = make([]FlowStats, 0, len(b)/n+1) // most flows are much alike
		}
		s, err := decodeFlowStat(b[:n])
		if err != nil {
			return nil, err
		}
		out = append(out, s)
		b = b[n:]
	}
	return out, nil
}

// decodeFlowStat reads one entry; b holds exactly it.
func decodeFlowStat(b []byte) (s FlowStats, err error) {
	s.Table = b[2]
	s.Duration = wireDuration(b[4:])
	s.Priority = binary.BigEndian.Uint16(b[12:])
	s.IdleTimeout, s.HardTimeout = binary.BigEndian.Uint16(b[14:]), binary.BigEndian.Uint16(b[16:])
	s.Flags, s.Importance = binary.BigEndian.Uint16(b[18:]), binary.BigEndian.Uint16(b[20:])
	s.Cookie = binary.BigEndian.Uint64(b[24:])
	s.Packets, s.Bytes = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:])
	m, rest, err := decodeMatch(b[flowStatsLen:])
	if err != nil {
		return s, err
	}
	s.Match = m
	s.Instructions, err = decodeInstructions(rest)
	return s, err
}

// wireDuration reads seconds and nanoseconds, 32 bits each.
func wireDuration(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b))*time.Second + time.Duration(binary.BigEndian.Uint32(b[4:]))
}

// Aggregate is the sum over the flows of a filter (section 7.3.5.3).
type Aggregate struct {
	Packets, Bytes uint64
	Flows          uint32
}

func decodeAggregate(b []byte) (Aggregate, error) {
	if len(b) < 24 {
		return Aggregate{}, malformed("aggregate reply of %d bytes", len(b))
	}
	return Aggregate{
		Packets: binary.BigEndian.Uint64(b), Bytes: binary.BigEndian.Uint64(b[8:]), Flows: binary.BigEndian.Uint32(b[16:]),
	}, nil
}
