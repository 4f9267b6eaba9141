package openflow

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MeterCommand says what a meter-mod does (section 7.3.4.5).
type MeterCommand uint16

// Meter-mod commands. Deleting a meter deletes every flow that names it.
const (
	MeterAdd MeterCommand = iota
	MeterModify
	MeterDelete
)

// Meter flags (section 7.3.4.5, enum ofp_meter_flags). Without MeterBurst
// about a second's worth of packets passes before Open vSwitch drops any.
const (
	MeterKbps  uint16 = 1 << 0
	MeterPktps uint16 = 1 << 1
	MeterBurst uint16 = 1 << 2
	MeterStats uint16 = 1 << 3
)

// MeterAll stands for every meter in requests and deletions.
const MeterAll uint32 = 0xffffffff

// bandDrop is the only band type that Open vSwitch implements.
const (
	bandDrop = 1
	bandLen  = 16
)

// Meter is a rate limiter with one drop band.
type Meter struct {
	ID    uint32
	Flags uint16
	Rate  uint32 // kb/s or packets/s, as Flags say
	Burst uint32 // kb or packets; when 0, or without MeterBurst, the switch takes Rate
	// Bands counts the bands that the switch reports; Platelet makes one.
	Bands int
}

// String returns the meter in ovs-ofctl's syntax.
func (m Meter) String() string {
	text := fmt.Sprintf("meter=%d,", m.ID)
	for _, flag := range [...]struct {
		bit  uint16
		name string
	}{{MeterKbps, "kbps"}, {MeterPktps, "pktps"}, {MeterBurst, "burst"}, {MeterStats, "stats"}} {
		if m.Flags&flag.bit != 0 {
			text += flag.name + ","
		}
	}
	text += fmt.Sprintf("bands=type=drop,rate=%d", m.Rate)
	if m.Flags&MeterBurst != 0 { // ovs-ofctl takes no burst_size otherwise
		text += fmt.Sprintf(",burst_size=%d", m.Burst)
	}
	return text
}

// Validate reports what the switch would reject.
func (m Meter) Validate() error {
	switch {
	case m.ID == 0:
		return errors.New("meter without an ID")
	case m.Rate == 0:
		return fmt.Errorf("meter %d without a rate", m.ID)
	case m.Flags&^(MeterKbps|MeterPktps|MeterBurst|MeterStats) != 0:
		return fmt.Errorf("meter %d with flags 0x%x", m.ID, m.Flags)
	case m.Flags&MeterKbps != 0 == (m.Flags&MeterPktps != 0):
		return fmt.Errorf("meter %d needs one unit, kb/s or packets/s", m.ID)
	}
	return nil
}

// appendMeterMod appends the whole message (section 7.3.4.5).
func appendMeterMod(b []byte, xid uint32, c MeterCommand, m Meter) []byte {
	start := len(b)
	b = appendHeader(b, TypeMeterMod, xid)
	b = binary.BigEndian.AppendUint16(b, uint16(c))
	b = binary.BigEndian.AppendUint16(b, m.Flags)
	b = binary.BigEndian.AppendUint32(b, m.ID)
	if c != MeterDelete {
		b = append(b, 0, bandDrop, 0, bandLen)
		b = binary.BigEndian.AppendUint32(b, m.Rate)
		b = binary.BigEndian.AppendUint32(b, m.Burst)
		b = zeros(b, 4)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// decodeMeterConfigs reads the body of a meter-config reply (section 7.3.5.12).
func decodeMeterConfigs(b []byte) ([]Meter, error) {
	var out []Meter
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed("meter config of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 8 || n > len(b) {
			return nil, malformed("meter config length %d of %d bytes", n, len(b))
		}
		m := Meter{Flags: binary.BigEndian.Uint16(b[2:]), ID: binary.BigEndian.Uint32(b[4:])}
		for bands := b[8:n]; len(bands) > 0; m.Bands++ {
			if len(bands) < bandLen || int(binary.BigEndian.Uint16(bands[2:])) != bandLen {
				return nil, malformed("band %d of meter %d", m.Bands, m.ID)
			}
			if m.Bands == 0 {
				m.Rate, m.Burst = binary.BigEndian.Uint32(bands[4:]), binary.BigEndian.Uint32(bands[8:])
			}
			bands = bands[bandLen:]
		}
		out = append(out, m)
		b = b[n:]
	}
	return out, nil
}

// MeterCounters is what a meter has counted (section 7.3.5.11). Unlike flow
// counters they are exact at once.
type MeterCounters struct {
	ID              uint32
	Flows           uint32
	Packets, Bytes  uint64 // offered
	DroppedPackets  uint64 // by its first band
	DroppedBytes    uint64
	DurationSeconds uint32
}

// meterStatsLen is the fixed part of struct ofp_meter_stats.
const meterStatsLen = 40

// decodeMeterStats reads the body of a meter statistics reply.
func decodeMeterStats(b []byte) ([]MeterCounters, error) {
	var out []MeterCounters
	for len(b) > 0 {
		if len(b) < meterStatsLen {
			return nil, malformed("meter statistics of %d bytes", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[4:]))
		if n < meterStatsLen || n > len(b) || (n-meterStatsLen)%16 != 0 {
			return nil, malformed("meter statistics length %d of %d bytes", n, len(b))
		}
		c := MeterCounters{
			ID: binary.BigEndian.Uint32(b), Flows: binary.BigEndian.Uint32(b[12:]),
			Packets: binary.BigEndian.Uint64(b[16:]), Bytes: binary.BigEndian.Uint64(b[24:]),
			DurationSeconds: binary.BigEndian.Uint32(b[32:]),
		}
		if n > meterStatsLen {
			c.DroppedPackets, c.DroppedBytes = binary.BigEndian.Uint64(b[40:]), binary.BigEndian.Uint64(b[48:])
		}
		out = append(out, c)
		b = b[n:]
	}
	return out, nil
}

// MeterFeatures is what the switch can do with meters (section 7.3.5.13).
type MeterFeatures struct {
	// Max is the highest meter ID the switch takes; 0 is no meters at all.
	Max      uint32
	MaxBands uint8
}

func decodeMeterFeatures(b []byte) (MeterFeatures, error) {
	if len(b) < 16 {
		return MeterFeatures{}, malformed("meter features of %d bytes", len(b))
	}
	return MeterFeatures{Max: binary.BigEndian.Uint32(b), MaxBands: b[12]}, nil
}
