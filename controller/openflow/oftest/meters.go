package oftest

import (
	"slices"
	"time"

	of "github.com/platelet-sdn/platelet/controller/openflow"
)

// Codes of METER_MOD_FAILED (section 7.5.4).
const (
	meterExists  uint16 = 1
	meterInvalid uint16 = 2
	meterUnknown uint16 = 3
)

// meter is a token bucket as Open vSwitch's userspace datapath keeps it, in
// thousandths of a packet, or in bits: a millisecond adds the rate.
type meter struct {
	of.Meter
	of.MeterCounters
	bucket uint64
	last   time.Time
}

// MeterMod adds, changes or deletes a meter. Deleting one deletes every flow
// that names it.
func (s *Switch) MeterMod(c of.MeterCommand, m of.Meter) error {
	s.expire()
	if c == of.MeterDelete {
		if m.ID == of.MeterAll {
			for id := range s.meters {
				s.deleteMeter(id)
			}
			return nil
		}
		if s.meters[m.ID] == nil {
			return refuse(of.ErrorTypeMeterFailed, meterUnknown)
		}
		s.deleteMeter(m.ID)
		return nil
	}
	if err := m.Validate(); err != nil {
		return err
	}
	old := s.meters[m.ID]
	switch {
	case c == of.MeterAdd && old != nil:
		return refuse(of.ErrorTypeMeterFailed, meterExists)
	case c == of.MeterModify && old == nil:
		return refuse(of.ErrorTypeMeterFailed, meterUnknown)
	}
	// A changed meter starts anew: full, and counting from 0.
	next := &meter{Meter: m, last: s.cfg.Now()}
	next.bucket = next.size()
	s.meters[m.ID] = next
	return nil
}

func (s *Switch) deleteMeter(id uint32) {
	delete(s.meters, id)
	for i := range s.tables {
		for _, r := range slices.Clone(s.tables[i].rules) {
			if r.Meter == id {
				s.remove(r, of.RemovedMeterDelete)
			}
		}
	}
}

// size is what the bucket holds: the burst, or without one what a second
// brings.
func (m *meter) size() uint64 {
	if m.Flags&of.MeterBurst != 0 {
		return uint64(m.Burst) * 1000
	}
	return uint64(m.Rate) * 1000
}

// pass reports whether a packet may go on.
func (m *meter) pass(now time.Time, length int) bool {
	m.bucket = min(m.size(), m.bucket+uint64(now.Sub(m.last)/time.Millisecond)*uint64(m.Rate))
	m.last = now
	m.Packets++
	m.MeterCounters.Bytes += uint64(length)
	need := uint64(length) * 8
	if m.Flags&of.MeterPktps != 0 {
		need = 1000
	}
	if m.bucket < need {
		m.DroppedPackets++
		m.DroppedBytes += uint64(length)
		return false
	}
	m.bucket -= need
	return true
}

// MeterCounters returns what a meter has counted.
func (s *Switch) MeterCounters(id uint32) (of.MeterCounters, bool) {
	m := s.meters[id]
	if m == nil {
		return of.MeterCounters{}, false
	}
	c := m.MeterCounters
	c.ID = id
	for i := range s.tables {
		for _, r := range s.tables[i].rules {
			if r.Meter == id {
				c.Flows++
			}
		}
	}
	return c, true
}
