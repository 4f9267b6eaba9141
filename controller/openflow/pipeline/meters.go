package pipeline

import (
	"encoding/binary"
	"errors"
	"hash/fnv"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// errNoMeters says that the switch cannot take another meter.
var errNoMeters = errors.New("no free meter on the switch")

// meterFlags are those of every meter of ours, beside its unit; without burst
// about a second's worth of packets would pass first.
const meterFlags = openflow.MeterBurst | openflow.MeterStats

// leastBurst, in kilobits, lets a packet of 1,500 bytes and its headers pass: a
// bucket that never holds as much as a packet drops all of them.
const leastBurst = 16

// meterRange is the range of meter IDs reserved for us: the highest ones, as
// others count from 1. Meters carry no cookie, so an ID says by itself whose
// meter it is: it lies in a window that follows from the meter's own rate and
// burst. A meter that was left behind (its flow's TTL ended while no
// controller ran) can so be told from somebody else's.
type meterRange struct {
	first, window, count uint32
}

// newMeterRange reserves the upper quarter of what the switch takes.
func newMeterRange(f openflow.MeterFeatures) meterRange {
	n := min(f.Max/4, 1<<16)
	return meterRange{first: f.Max - n + 1, window: n / 16, count: n}
}

func (r meterRange) start(m openflow.Meter) uint32 {
	h := fnv.New32a()
	var b []byte
	for _, v := range []uint32{m.Rate, m.Burst} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if m.Flags&openflow.MeterKbps != 0 {
		b = append(b, 1)
	}
	h.Write(b) // never fails
	return h.Sum32() % r.count
}

// owns reports whether a meter is one that we would have made.
func (r meterRange) owns(m openflow.Meter) bool {
	if r.count == 0 || m.ID < r.first || m.ID-r.first >= r.count || m.Bands != 1 ||
		m.Flags != meterFlags|openflow.MeterPktps && m.Flags != meterFlags|openflow.MeterKbps {
		return false
	}
	return (m.ID-r.first+r.count-r.start(m))%r.count < r.window
}

// allocate returns a meter for a limit under an ID that taken does not hold.
func (r meterRange) allocate(l segmentation.Limit, taken map[uint32]bool) (openflow.Meter, error) {
	if r.count == 0 {
		return openflow.Meter{}, errNoMeters
	}
	m := meterOf(l)
	start := r.start(m)
	for i := range r.window {
		m.ID = r.first + (start+i)%r.count
		if !taken[m.ID] {
			return m, nil
		}
	}
	return openflow.Meter{}, errNoMeters
}

// meterOf returns the meter of a limit, without an ID. A burst of 0 would
// drop everything, so it counts as one packet, or as what a tenth of a second
// brings.
func meterOf(l segmentation.Limit) openflow.Meter {
	m := openflow.Meter{Flags: meterFlags | openflow.MeterPktps, Rate: l.PacketsPerSecond, Burst: max(l.Burst, 1), Bands: 1}
	if l.KilobitsPerSecond != 0 {
		m.Flags, m.Rate, m.Burst = meterFlags|openflow.MeterKbps, l.KilobitsPerSecond, l.Burst
		if l.Burst == 0 {
			m.Burst = l.KilobitsPerSecond / 10
		}
		m.Burst = max(m.Burst, leastBurst)
	}
	return m
}
