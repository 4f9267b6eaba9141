package netflow

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// tcpCounters are IE 218 to 223, indexed by the bit number of the flag.
type tcpCounters [6]uint64

// extra is what a record says beside the fields of flow.Record, until the
// record is complete.
type extra struct {
	frameOctets, postOctets, postPackets uint64
	packetTotal                          uint64
	point                                uint32
	egress                               bool
	interval, space                      uint64
	tcp                                  tcpCounters
	start, end                           int64 // nanoseconds on one clock
	inName, outName                      []byte
}

// read decodes the record at the start of b into r and x. It returns the rest
// of b; ok is false when the record is cut short.
func (t *template) read(b []byte, r *flow.Record, x *extra) (rest []byte, ok bool) {
	for i := range t.segments {
		s := &t.segments[i]
		if len(b) < s.size {
			return nil, false
		}
		run := b[:s.size]
		for _, f := range s.fields {
			v := run[f.offset : int(f.offset)+int(f.length)]
			if f.op <= opLastDirect {
				direct(f.op, v, r)
			} else {
				x.set(f.op, v)
			}
		}
		b = b[s.size:]
		if !s.variable {
			continue
		}
		var v []byte
		if v, b, ok = variable(b); !ok {
			return nil, false
		}
		switch s.name {
		case opInPort:
			x.inName = v
		case opOutPort:
			x.outName = v
		}
	}
	return b, true
}

// variable splits a field of variable length off b (RFC 7011, section 7).
func variable(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 1 {
		return nil, nil, false
	}
	n, b := int(b[0]), b[1:]
	if n == 255 {
		if len(b) < 2 {
			return nil, nil, false
		}
		n, b = int(binary.BigEndian.Uint16(b)), b[2:]
	}
	if len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}

// number reads an unsigned integer of 1 to 8 octets.
func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 8:
		return binary.BigEndian.Uint64(b)
	}
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// direct stores a field that flow.Record has a place for.
func direct(op opcode, v []byte, r *flow.Record) {
	switch op {
	case opOctets:
		r.Bytes = number(v)
	case opPackets:
		r.Packets = number(v)
	case opProto:
		r.Proto = uint8(number(v))
	case opFlags:
		r.TCPFlags = uint8(number(v))
	case opSrcPort:
		r.SrcPort = uint16(number(v))
	case opDstPort:
		r.DstPort = uint16(number(v))
	case opInPort:
		r.InPort = uint32(number(v))
	case opOutPort:
		r.OutPort = uint32(number(v))
	case opSrc4, opSrc6:
		r.Src = prefer(r.Src, v)
	case opDst4, opDst6:
		r.Dst = prefer(r.Dst, v)
	case opSrcMAC:
		r.SrcMAC = flow.MAC(v)
	case opDstMAC:
		r.DstMAC = flow.MAC(v)
	case opVLAN:
		r.VLAN = uint16(number(v)) & 0x0fff
	case opEtherType:
		r.EtherType = uint16(number(v))
	case opTTL:
		r.TTL = uint8(number(v))
	case opICMPTypeCode:
		n := uint16(number(v))
		r.ICMPType, r.ICMPCode = uint8(n>>8), uint8(n)
	case opICMPType:
		r.ICMPType = uint8(number(v))
	case opICMPCode:
		r.ICMPCode = uint8(number(v))
	case opForwarding:
		r.Verdict = verdict(uint8(number(v)))
	}
}

// prefer returns the address in v, unless v is all zero and another one is
// known: some exporters fill the fields of both IP versions.
func prefer(known netip.Addr, v []byte) netip.Addr {
	var a netip.Addr
	if len(v) == 4 {
		a = netip.AddrFrom4([4]byte(v))
	} else {
		a = netip.AddrFrom16([16]byte(v))
	}
	if known.IsValid() && a.IsUnspecified() {
		return known
	}
	return a
}

// verdict interprets forwardingStatus (RFC 7270, section 4.12), whose upper
// two bits are the status and whose others are the reason.
func verdict(status uint8) flow.Verdict {
	switch status >> 6 {
	case 1:
		return flow.VerdictForwarded
	case 2:
		return flow.VerdictDropped
	}
	return flow.VerdictUnknown
}

func (x *extra) set(op opcode, v []byte) {
	n := number(v)
	switch op {
	case opFrameOctets:
		x.frameOctets = n
	case opPostOctets:
		x.postOctets = n
	case opPostPackets:
		x.postPackets = n
	case opPacketTotal:
		x.packetTotal = n
	case opPoint:
		x.point = uint32(n)
	case opDirection:
		x.egress = n == 1
	case opInterval:
		x.interval = n
	case opSpace:
		x.space = n
	case opFIN, opSYN, opRST, opPSH, opACK, opURG:
		x.tcp[op-opFIN] = n
	case opStartSec, opStartMilli, opStartNTP, opStartUptime, opStartDelta:
		x.start = instant(op, n)
	case opEndSec, opEndMilli, opEndNTP, opEndUptime, opEndDelta:
		x.end = instant(op, n)
	}
}

// instant converts a time stamp to nanoseconds since whatever its clock counts
// from. Stamps beyond the range of int64 come out wrong but harmless.
func instant(op opcode, n uint64) int64 {
	const second, milli, micro = 1e9, 1e6, 1e3
	switch op {
	case opStartSec, opEndSec:
		return int64(n) * second
	case opStartMilli, opEndMilli, opStartUptime, opEndUptime:
		return int64(n) * milli
	case opStartDelta, opEndDelta:
		return -int64(n) * micro // before the export time
	}
	// NTP format: seconds and a binary fraction (RFC 7011, section 6.1.9).
	fraction, _ := bits.Mul64(n<<32, second)
	return int64(n>>32)*second + int64(fraction)
}

// rate is the number of packets behind each counted one, 0 when the record
// does not tell (RFC 5477, section 8.2).
func (x *extra) rate() float64 {
	switch {
	case x.interval == 0:
		return 0
	case x.space == 0:
		// samplingInterval, or an exporter that uses samplingPacketInterval
		// in its place, as many do.
		return float64(x.interval)
	}
	return (float64(x.interval) + float64(x.space)) / float64(x.interval)
}
