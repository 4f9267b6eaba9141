package sflow

import "github.com/platelet-sdn/platelet/flowcollector/flow"

const (
	counterSampleLen         = 12
	expandedCounterSampleLen = 16

	// Counter record formats of enterprise 0.
	recordInterface = 1
	recordOpenFlow  = 1004
	recordPortName  = 1005

	interfaceLen = 88
	openFlowLen  = 12
	maxNameLen   = 255
)

// UnknownCounter is what an agent reports for a 32-bit counter that it does
// not keep; UnknownCounter64 is its 64-bit form.
const (
	UnknownCounter   uint32 = 0xffffffff
	UnknownCounter64 uint64 = 0xffffffffffffffff
)

// Counters is one counter sample: the state of one interface.
type Counters struct {
	// Time is the time of reception in Unix nanoseconds.
	Time     int64
	Exporter flow.Exporter
	// SourceType is the sFlow data source type, 0 for an interface.
	SourceType uint32
	// SourceIndex is the index of the data source, a kernel interface index
	// for SourceType 0.
	SourceIndex uint32

	// Interface is valid when HasInterface.
	HasInterface bool
	Interface    InterfaceCounters

	// OpenFlowPort and DatapathID are valid when HasOpenFlow. They map the
	// interface index of flow samples to the port that rules name.
	HasOpenFlow  bool
	OpenFlowPort uint32
	DatapathID   uint64

	// Name of the port, nil when not reported. It is valid during the call.
	Name []byte
}

// InterfaceCounters are the generic interface counters (sFlow version 5,
// if_counters; the names are those of RFC 2863). Counters run from the agent's
// start; see UnknownCounter.
type InterfaceCounters struct {
	Index       uint32
	Type        uint32 // IANA ifType
	Speed       uint64 // bit/s
	Direction   uint32 // 0 unknown, 1 full duplex, 2 half duplex, 3 in, 4 out
	AdminUp     bool
	OperUp      bool
	InOctets    uint64
	InUnicast   uint32
	InMulticast uint32
	InBroadcast uint32
	InDiscards  uint32
	InErrors    uint32
	InUnknown   uint32

	OutOctets    uint64
	OutUnicast   uint32
	OutMulticast uint32
	OutBroadcast uint32
	OutDiscards  uint32
	OutErrors    uint32
	Promiscuous  uint32
}

// counterSample hands a counter sample to the configured function.
func (d *Decoder) counterSample(c cursor, expanded bool, at int64, e flow.Exporter) error {
	length := counterSampleLen
	if expanded {
		length = expandedCounterSampleLen
	}
	if err := c.need(length, KindSample); err != nil {
		return err
	}
	c.skip(4) // sequence number of the source
	out := &d.counters
	*out = Counters{Time: at, Exporter: e}
	if expanded {
		out.SourceType, out.SourceIndex = c.uint32(), c.uint32()
	} else {
		const typeShift, indexMask = 24, 1<<24 - 1
		v := c.uint32()
		out.SourceType, out.SourceIndex = v>>typeShift, v&indexMask
	}
	records, err := c.count(KindRecordCount)
	if err != nil {
		return err
	}
	for range records {
		format, body, err := c.structure(KindRecord)
		if err != nil {
			return err
		}
		if err := out.record(format, body); err != nil {
			return err
		}
	}
	if d.cfg.Counters != nil {
		d.cfg.Counters(out)
	}
	out.Name = nil // belongs to the caller's buffer
	return nil
}

func (s *Counters) record(format uint32, c cursor) error {
	switch format {
	case recordInterface:
		if err := c.need(interfaceLen, KindRecord); err != nil {
			return err
		}
		s.HasInterface, s.Interface = true, interfaceCounters(&c)
	case recordOpenFlow:
		if err := c.need(openFlowLen, KindRecord); err != nil {
			return err
		}
		s.HasOpenFlow, s.DatapathID, s.OpenFlowPort = true, c.uint64(), c.uint32()
	case recordPortName:
		if err := c.need(4, KindRecord); err != nil {
			return err
		}
		at := c.offset
		n := c.uint32()
		if n > maxNameLen || int(n) > len(c.b) {
			return &Error{Kind: KindRecord, Offset: at}
		}
		s.Name = c.b[:n]
	}
	return nil
}

// interfaceCounters reads interfaceLen bytes. Go evaluates the calls of a
// composite literal in the order in which they are written.
func interfaceCounters(c *cursor) InterfaceCounters {
	i := InterfaceCounters{
		Index:     c.uint32(),
		Type:      c.uint32(),
		Speed:     c.uint64(),
		Direction: c.uint32(),
	}
	status := c.uint32()
	i.AdminUp, i.OperUp = status&1 != 0, status&2 != 0
	i.InOctets = c.uint64()
	i.InUnicast, i.InMulticast, i.InBroadcast = c.uint32(), c.uint32(), c.uint32()
	i.InDiscards, i.InErrors, i.InUnknown = c.uint32(), c.uint32(), c.uint32()
	i.OutOctets = c.uint64()
	i.OutUnicast, i.OutMulticast, i.OutBroadcast = c.uint32(), c.uint32(), c.uint32()
	i.OutDiscards, i.OutErrors, i.Promiscuous = c.uint32(), c.uint32(), c.uint32()
	return i
}
