package forest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// stateVersion changes with the layout of header.
const stateVersion = 1

// header precedes the points of the trees in the written state.
type header struct {
	Version                    uint32
	Trees, Samples, Dimensions uint32
	Seed                       uint64
}

// MarshalBinary writes the points that the trees hold. The cuts are not
// written: trees are drawn anew around the same points, which by the paper's
// theorem 2 is another draw of the same distribution.
func (f *Forest) MarshalBinary() ([]byte, error) {
	// The seed of the restored forest follows from this one's, so that two
	// restarts from the same state agree.
	next := *f.source
	b, err := binary.Append(nil, binary.LittleEndian, &header{stateVersion, uint32(f.cfg.Trees),
		uint32(f.cfg.Samples), uint32(f.cfg.Dimensions), next.Uint64()})
	if err != nil {
		return nil, fmt.Errorf("forest: writing state: %w", err)
	}
	for i := range f.trees {
		t := &f.trees[i]
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.held)))
		for _, n := range t.held {
			x, _ := t.box(n)
			for _, v := range x {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
		}
	}
	return b, nil
}

// UnmarshalBinary restores what MarshalBinary wrote for as many trees, samples
// and dimensions. Anything else is refused and changes nothing.
func (f *Forest) UnmarshalBinary(data []byte) error {
	var h header
	n, err := binary.Decode(data, binary.LittleEndian, &h)
	if err != nil {
		return fmt.Errorf("forest: reading state: %w", err)
	}
	if h.Version != stateVersion {
		return fmt.Errorf("forest: state of version %d, want %d", h.Version, stateVersion)
	}
	if h.Trees != uint32(f.cfg.Trees) || h.Samples != uint32(f.cfg.Samples) || h.Dimensions != uint32(f.cfg.Dimensions) {
		return errors.New("forest: state of other trees, samples or dimensions")
	}
	fresh, err := New(f.cfg)
	if err != nil {
		return err
	}
	fresh.source = rand.NewPCG(h.Seed, uint64(h.Dimensions))
	fresh.rand = rand.New(fresh.source)
	data = data[n:]
	for i := range fresh.trees {
		if data, err = fresh.readTree(&fresh.trees[i], data); err != nil {
			return fmt.Errorf("forest: tree %d: %w", i, err)
		}
	}
	if len(data) > 0 {
		return fmt.Errorf("forest: %d bytes behind the state", len(data))
	}
	*f = *fresh
	return nil
}

// readTree inserts the points of one tree and returns the rest.
func (f *Forest) readTree(t *tree, data []byte) ([]byte, error) {
	if len(data) < 4 {
		return nil, errors.New("no number of points")
	}
	points, size := binary.LittleEndian.Uint32(data), 4*f.cfg.Dimensions
	data = data[4:]
	if points > uint32(f.cfg.Samples) || len(data) < int(points)*size {
		return nil, fmt.Errorf("%d points in %d bytes", points, len(data))
	}
	for range points {
		for j := range f.point {
			v := math.Float32frombits(binary.LittleEndian.Uint32(data[4*j:]))
			if !(math.Abs(float64(v)) <= maxCoordinate) {
				return nil, fmt.Errorf("a coordinate of %v", v)
			}
			f.point[j] = v
		}
		t.insert(f.point, f.rand)
		data = data[size:]
	}
	return data, nil
}
