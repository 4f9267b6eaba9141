package pipeline

import (
	"errors"
	"hash/fnv"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// errNoMeters says that the switch cannot take another meter.
var errNoMeters = errors.New("no free meter on the switch")

// meterFlags are those of every meter of ours; without burst about a second's
// worth of packets would pass first.
const meterFlags = openflow.MeterPktps | openflow.MeterBurst | openflow.MeterStats

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

func (r meterRange) start(rate, burst uint32) uint32 {
	h := fnv.New32a()
	h.Write([]byte{ // never fails
		byte(rate >> 24), byte(rate >> 16), byte(rate >> 8), byte(rate),
		byte(burst >> 24), byte(burst >> 16), byte(burst >> 8), byte(burst),
	})
	return h.Sum32() % r.count
}

// owns reports whether a meter is one that we would have made.
func (r meterRange) owns(m openflow.Meter) bool {
	if r.count == 0 || m.ID < r.first || m.ID-r.first >= r.count || m.Flags != meterFlags || m.Bands != 1 {
		return false
	}
	return (m.ID-r.first+r.count-r.start(m.Rate, m.Burst))%r.count < r.window
}

// allocate returns a meter for a limit under an ID that taken does not hold.
func (r meterRange) allocate(l segmentation.Limit, taken map[uint32]bool) (openflow.Meter, error) {
	if r.count == 0 {
		return openflow.Meter{}, errNoMeters
	}
	m := meterOf(l)
	start := r.start(m.Rate, m.Burst)
	for i := range r.window {
		m.ID = r.first + (start+i)%r.count
		if !taken[m.ID] {
			return m, nil
		}
	}
	return openflow.Meter{}, errNoMeters
}

// meterOf returns the meter of a limit, without an ID. A burst of 0 would
// drop everything, so it counts as one packet.
func meterOf(l segmentation.Limit) openflow.Meter {
	return openflow.Meter{Flags: meterFlags, Rate: l.PacketsPerSecond, Burst: max(l.Burst, 1), Bands: 1}
}
