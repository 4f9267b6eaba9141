package topology

import (
	"encoding/binary"
	"hash/maphash"
	"math/bits"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const recentSlots = 16384 // a power of two; 256 KiB stay in the core's cache

// recent remembers which sightings were learned within the last second, so
// that most records of a busy network cost a hash and no look-up. Two
// sightings that share a slot only make each other cost more.
type recent struct {
	seed  uint64
	slots []slot
}

type slot struct {
	tag  uint64
	time int64
}

func newRecent() recent {
	// The seed keeps senders from choosing what is forgotten.
	return recent{seed: maphash.Comparable(maphash.MakeSeed(), 0), slots: make([]slot, recentSlots)}
}

// kinds of sightings
const (
	kindSource = iota
	kindAccept
	kindDestination
)

// again reports whether a sighting was seen within the last second, and
// otherwise remembers it.
func (r *recent) again(addr [16]byte, mac flow.MAC, port int32, kind uint32, now int64) bool {
	tag := r.tag(addr, mac, uint32(port)<<2|kind)
	s := &r.slots[tag%recentSlots]
	if s.tag == tag && now-s.time < refresh && s.time <= now {
		return true
	}
	s.tag, s.time = tag, now
	return false
}

// tag hashes a sighting, in the manner of wyhash.
func (r *recent) tag(addr [16]byte, mac flow.MAC, what uint32) uint64 {
	a := binary.LittleEndian.Uint64(addr[:8]) ^ r.seed
	b := binary.LittleEndian.Uint64(addr[8:]) ^ 0xa0761d6478bd642f
	c := uint64(binary.LittleEndian.Uint32(mac[:4])) | uint64(binary.LittleEndian.Uint16(mac[4:]))<<32
	h := mix(a, b)
	return mix(h^c^0xe7037ed1a0b428db, h^uint64(what)^r.seed)
}

func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// reset forgets everything, as when ports are renumbered.
func (r *recent) reset() { clear(r.slots) }
