package detector

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// address is an IP address as two words: smaller than netip.Addr, without a
// pointer for the garbage collector and hashed as plain memory. IPv4 is held
// in its IPv6-mapped form; zones are dropped.
type address struct{ hi, lo uint64 }

const mappedPrefix = 0xffff << 32 // ::ffff:0:0/96, RFC 4291, section 2.5.5.2

func addressOf(a netip.Addr) address {
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// netip returns the address, invalid for the zero value.
func (a address) netip() netip.Addr {
	if a == (address{}) {
		return netip.Addr{}
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], a.hi)
	binary.BigEndian.PutUint64(b[8:], a.lo)
	return netip.AddrFrom16(b).Unmap()
}

// is4 reports whether the address is IPv4.
func (a address) is4() bool { return a.hi == 0 && a.lo&^0xffffffff == mappedPrefix }

// unicast reports whether a contact with the address is one with a single
// host: not unspecified, multicast, loopback or limited broadcast.
func (a address) unicast() bool {
	if a.is4() {
		v := uint32(a.lo)
		return v>>24 != 0 && v>>24 != 127 && v < 224<<24
	}
	return a.hi>>56 != 0xff && (a.hi != 0 || a.lo > 1)
}

// looksBroadcast reports whether an IPv4 address ends in .255, the broadcast
// address of the usual prefix lengths. The prefix itself is not in a record.
func (a address) looksBroadcast() bool { return a.is4() && a.lo&0xff == 0xff }

// group reports whether an Ethernet address is multicast or broadcast.
func group(m flow.MAC) bool { return m[0]&1 != 0 }

// private reports whether an address is of private or link-local space: RFC
// 1918, RFC 6598 (shared), RFC 3927, RFC 4193 and RFC 4291, section 2.5.6.
func (a address) private() bool {
	if a.is4() {
		v := uint32(a.lo)
		return v>>24 == 10 || v>>20 == 172<<4|1 || v>>16 == 192<<8|168 || v>>22 == 100<<2|1 || v>>16 == 169<<8|254
	}
	return a.hi>>57 == 0xfc>>1 || a.hi>>54 == 0xfe80>>6
}
