package sflow

import (
	"encoding/binary"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/packet"
)

const (
	flowSampleLen         = 32
	expandedFlowSampleLen = 44
	countLen              = 4 // the number of records, which ends both

	// Flow record formats of enterprise 0.
	recordRawHeader = 1
	recordSwitch    = 1001

	rawHeaderLen = 16 // in front of the sampled bytes
	switchLen    = 16

	// Header protocols of raw header records.
	headerEthernet = 1
	headerIPv4     = 11
	headerIPv6     = 12
)

// Interface formats. Compact samples keep them in the two upper bits of the
// interface word.
const (
	interfaceSingle   = 0
	interfaceDropped  = 1
	interfaceMultiple = 2

	formatShift = 30
	valueMask   = 1<<formatShift - 1
	// noInterface says that the packet came from, or went to, the agent.
	noInterface = valueMask
)

// flowSample appends the record of a flow sample to dst.
func (d *Decoder) flowSample(dst []flow.Record, c cursor, expanded bool, at int64, e flow.Exporter) ([]flow.Record, error) {
	n := len(dst)
	dst = grow(dst)
	r := &dst[n]
	r.Time, r.Exporter, r.Source, r.Packets = at, e, flow.SourceSFlow, 1
	records, err := sampleHeader(&c, expanded, r)
	if err != nil {
		return dst[:n], err
	}
	var vlan uint32
	found := false
	for range records {
		format, body, err := c.structure(KindRecord)
		if err != nil {
			return dst[:n], err
		}
		switch {
		case format == recordRawHeader && !found:
			if found, err = d.rawHeader(body, r); err != nil {
				return dst[:n], err
			}
		case format == recordSwitch:
			if err := body.need(switchLen, KindRecord); err != nil {
				return dst[:n], err
			}
			vlan = body.uint32()
		}
	}
	if !found {
		d.counts.Headerless++
		return dst[:n], nil
	}
	// The tag in the packet is first-hand; what the switch says matters for
	// access ports, whose packets have none.
	const maxVLAN = 4094
	if r.VLAN == 0 && vlan <= maxVLAN {
		r.VLAN = uint16(vlan)
	}
	return dst, nil
}

// sampleHeader reads what stands in front of the records of a flow sample and
// returns their number.
func sampleHeader(c *cursor, expanded bool, r *flow.Record) (records int, err error) {
	length := flowSampleLen
	if expanded {
		length = expandedFlowSampleLen
	}
	if err := c.need(length, KindSample); err != nil {
		return 0, err
	}
	// Sequence number, source (two words if expanded), rate, pool, drops,
	// input and output (two words each if expanded), number of records.
	b := c.b
	var in, out port
	if expanded {
		r.Rate = rate(b[12:])
		in, out = port{word(b[24:]), word(b[28:])}, port{word(b[32:]), word(b[36:])}
	} else {
		r.Rate = rate(b[8:])
		in, out = compactPort(word(b[20:])), compactPort(word(b[24:]))
	}
	c.skip(length - countLen)
	r.InPort, _ = in.resolve()
	r.OutPort, r.Verdict = out.resolve()
	return c.count(KindRecordCount)
}

func word(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// rate reads a sampling rate. Agents that do not know theirs send 0.
func rate(b []byte) float64 { return float64(max(word(b), 1)) }

// port is an interface with the format of its number.
type port struct{ format, value uint32 }

func compactPort(v uint32) port { return port{format: v >> formatShift, value: v & valueMask} }

// resolve returns the interface index, 0 unless it is exactly one, and what
// that says of a packet with this output.
func (p port) resolve() (index uint32, v flow.Verdict) {
	switch p.format {
	case interfaceSingle:
		if p.value == 0 {
			return 0, flow.VerdictUnknown
		}
		if p.value == noInterface {
			return 0, flow.VerdictForwarded
		}
		return p.value, flow.VerdictForwarded
	case interfaceDropped:
		return 0, flow.VerdictDropped
	case interfaceMultiple:
		return 0, flow.VerdictForwarded
	}
	return 0, flow.VerdictUnknown
}

// rawHeader reads a sampled packet header; ok is false when it is of a kind
// that we cannot read.
func (d *Decoder) rawHeader(c cursor, r *flow.Record) (ok bool, err error) {
	if err := c.need(rawHeaderLen, KindRecord); err != nil {
		return false, err
	}
	protocol, frame, stripped, length := word(c.b), word(c.b[4:]), word(c.b[8:]), word(c.b[12:])
	b := c.b[rawHeaderLen:]
	if uint64(length) > uint64(len(b)) {
		return false, &Error{Kind: KindRecord, Offset: c.offset}
	}
	if frame > stripped {
		r.Bytes = uint64(frame - stripped)
	}
	var parseErr error
	switch sampled := b[:length]; protocol {
	case headerEthernet:
		parseErr = packet.Parse(sampled, r)
	case headerIPv4, headerIPv6:
		parseErr = packet.ParseIP(sampled, r)
	default:
		return false, nil
	}
	// A broken packet is not the exporter's fault, and it still has volume.
	if parseErr != nil {
		d.counts.Unparsed++
	}
	return true, nil
}

// grow appends a zero record without building it elsewhere first.
func grow(dst []flow.Record) []flow.Record {
	if len(dst) == cap(dst) {
		return append(dst, flow.Record{})
	}
	dst = dst[:len(dst)+1]
	dst[len(dst)-1] = flow.Record{}
	return dst
}
