package midas

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/platelet-sdn/platelet/detector/keyed"
)

// stateVersion changes with the layout of header.
const stateVersion = 1

// header precedes the sketches in the written state.
type header struct {
	Version       uint32
	Variant       uint32
	Rows, Buckets uint32
	Tick          int64
	Key           keyed.Key
}

// MarshalBinary writes the counts, and the key that says which cells they are
// in: keep it as secret as the key.
func (d *Detector) MarshalBinary() ([]byte, error) {
	b, err := binary.Append(nil, binary.LittleEndian, &header{stateVersion, uint32(d.cfg.Variant),
		uint32(d.cfg.Rows), uint32(d.cfg.Buckets), d.tick, d.cfg.Key})
	for i := range d.aspects {
		for _, s := range d.aspects[i].sketches() {
			if err == nil {
				b, err = binary.Append(b, binary.LittleEndian, []float32(s))
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("midas: writing state: %w", err)
	}
	return b, nil
}

// UnmarshalBinary restores what MarshalBinary wrote for the same variant and
// dimensions, with its key. Anything else is refused and changes nothing.
func (d *Detector) UnmarshalBinary(data []byte) error {
	var h header
	n, err := binary.Decode(data, binary.LittleEndian, &h)
	if err != nil {
		return fmt.Errorf("midas: reading state: %w", err)
	}
	if h.Version != stateVersion {
		return fmt.Errorf("midas: state of version %d, want %d", h.Version, stateVersion)
	}
	if h.Variant != uint32(d.cfg.Variant) || h.Rows != uint32(d.cfg.Rows) || h.Buckets != uint32(d.cfg.Buckets) {
		return errors.New("midas: state of another variant or of other dimensions")
	}
	if h.Tick < 1 {
		return fmt.Errorf("midas: state of tick %d", h.Tick)
	}
	cfg := d.cfg
	cfg.Key = h.Key
	fresh, err := New(cfg)
	if err != nil {
		return err
	}
	data = data[n:]
	for i := range fresh.aspects {
		for _, s := range fresh.aspects[i].sketches() {
			if data, err = s.read(data); err != nil {
				return err
			}
		}
	}
	if len(data) > 0 {
		return fmt.Errorf("midas: %d bytes behind the state", len(data))
	}
	fresh.tick = h.Tick
	*d = *fresh
	return nil
}

func (a *aspect) sketches() []sketch { return []sketch{a.current, a.total, a.score} }

// read fills a sketch and returns the rest. Counts are finite and not negative.
func (s sketch) read(data []byte) ([]byte, error) {
	n, err := binary.Decode(data, binary.LittleEndian, []float32(s))
	if err != nil {
		return nil, fmt.Errorf("midas: reading counts: %w", err)
	}
	for _, v := range s {
		if !(v >= 0 && v <= math.MaxFloat32/4) {
			return nil, fmt.Errorf("midas: a count of %v", v)
		}
	}
	return data[n:], nil
}
