package netflow

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// The layout of NetFlow version 5 (Cisco, "NetFlow Export Datagram Format").
const (
	headerLenV5 = 24
	recordLenV5 = 48
	maxCountV5  = 30
	// The upper two bits of the sampling field are the mode.
	samplingMaskV5 = 0x3fff
)

func (d *Decoder) decodeV5(dst []flow.Record, b []byte, at int64, from netip.AddrPort) ([]flow.Record, error) {
	if len(b) < headerLenV5 {
		return dst, malformed(KindHeader, 0)
	}
	count := int(binary.BigEndian.Uint16(b[2:]))
	if count > maxCountV5 || len(b) < headerLenV5+count*recordLenV5 {
		return dst, malformed(KindLength, 2)
	}
	engine := uint32(binary.BigEndian.Uint16(b[20:]))
	s := d.sessions.stream(streamKey{from: from, domain: engine, version: version5}, at)
	seq := binary.BigEndian.Uint32(b[16:])
	d.counts.Lost += lost(s.sequence, sequence{}, seq)
	s.sequence.advance(seq, uint32(count), true)
	s.rate = float64(binary.BigEndian.Uint16(b[22:]) & samplingMaskV5)
	b = b[headerLenV5:]
	for range count {
		dst = grow(dst)
		s.recordV5(&dst[len(dst)-1], b[:recordLenV5], at)
		b = b[recordLenV5:]
	}
	return dst, nil
}

func (s *stream) recordV5(r *flow.Record, b []byte, at int64) {
	*r = flow.Record{
		Time:      at,
		Exporter:  s.exporter(),
		Source:    flow.SourceIPFIX,
		Src:       netip.AddrFrom4([4]byte(b)),
		Dst:       netip.AddrFrom4([4]byte(b[4:])),
		InPort:    uint32(binary.BigEndian.Uint16(b[12:])),
		OutPort:   uint32(binary.BigEndian.Uint16(b[14:])),
		Rate:      max(s.rate, 1),
		Packets:   uint64(binary.BigEndian.Uint32(b[16:])),
		Bytes:     uint64(binary.BigEndian.Uint32(b[20:])),
		SrcPort:   binary.BigEndian.Uint16(b[32:]),
		DstPort:   binary.BigEndian.Uint16(b[34:]),
		TCPFlags:  b[37],
		Proto:     b[38],
		EtherType: flow.EtherIPv4,
	}
	// The subtraction is in 32 bits because sysUpTime wraps.
	const milli = 1e6
	if d := int32(binary.BigEndian.Uint32(b[28:]) - binary.BigEndian.Uint32(b[24:])); d > 0 {
		r.Duration = int64(d) * milli
	}
	if r.OutPort != 0 {
		r.Verdict = flow.VerdictForwarded
	}
	transport(0, r)
	r.Signal = Signal(r)
}
