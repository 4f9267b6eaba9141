package autoenc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// stateVersion changes with the layout of header.
const stateVersion = 1

// header precedes the weights in the written state.
type header struct {
	Version            uint32
	Dimensions, Hidden uint32
	Steps              uint64
	Seed               uint64
}

// MarshalBinary writes the weights and the state of Adam.
func (e *Encoder) MarshalBinary() ([]byte, error) {
	// The blanks to come after a restart follow from the ones so far.
	next := *e.source
	b, err := binary.Append(nil, binary.LittleEndian, &header{stateVersion, uint32(e.cfg.Dimensions),
		uint32(e.cfg.Hidden), e.steps, next.Uint64()})
	for _, s := range e.slices() {
		if err == nil {
			b, err = binary.Append(b, binary.LittleEndian, s)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("autoenc: writing state: %w", err)
	}
	return b, nil
}

func (e *Encoder) slices() [][]float64 {
	return [][]float64{e.encode.weights, e.encode.mean, e.encode.power, e.decode.weights, e.decode.mean, e.decode.power}
}

// UnmarshalBinary restores what MarshalBinary wrote for as many dimensions and
// hidden units. Anything else is refused and changes nothing.
func (e *Encoder) UnmarshalBinary(data []byte) error {
	var h header
	n, err := binary.Decode(data, binary.LittleEndian, &h)
	if err != nil {
		return fmt.Errorf("autoenc: reading state: %w", err)
	}
	if h.Version != stateVersion {
		return fmt.Errorf("autoenc: state of version %d, want %d", h.Version, stateVersion)
	}
	if h.Dimensions != uint32(e.cfg.Dimensions) || h.Hidden != uint32(e.cfg.Hidden) {
		return errors.New("autoenc: state of other dimensions or hidden units")
	}
	if h.Steps > 1<<62 {
		return fmt.Errorf("autoenc: state after %d points", h.Steps)
	}
	fresh, err := New(e.cfg)
	if err != nil {
		return err
	}
	fresh.source = rand.NewPCG(h.Seed, uint64(h.Dimensions))
	fresh.rand = rand.New(fresh.source)
	fresh.steps = h.Steps
	data = data[n:]
	for i, s := range fresh.slices() {
		if n, err = binary.Decode(data, binary.LittleEndian, s); err != nil {
			return fmt.Errorf("autoenc: reading weights: %w", err)
		}
		data = data[n:]
		squares := i%3 == 2 // Adam's second moment
		for _, v := range s {
			// Beyond this no learning with clipped inputs gets, and sums
			// stay finite.
			if !(math.Abs(v) <= 1e12) || squares && v < 0 {
				return fmt.Errorf("autoenc: a weight of %v", v)
			}
		}
	}
	if len(data) > 0 {
		return fmt.Errorf("autoenc: %d bytes behind the state", len(data))
	}
	*e = *fresh
	return nil
}
