package packet

import (
	"encoding/binary"
	"net/netip"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

const (
	ipv4Len        = 20
	ipv6Len        = 40
	fragOffsetMask = 0x1fff
	moreFragments  = 0x2000 // IPv4
	moreFragments6 = 1
)

// IPv6 extension headers (RFC 8200, section 4, and IANA's list of them).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
	// maxExtensions bounds the chain. RFC 8504, section 5.3, lets a host
	// drop packets with more than 8.
	maxExtensions = 8
)

// ipHeader is what the caller of an IP header parser goes on with.
type ipHeader struct {
	src, dst netip.Addr
	proto    uint8
	ttl      uint8
	// payload is where the payload starts and end where the packet ends by
	// its own account, which may be before (Ethernet padding) or beyond
	// (a cut capture) the end of the bytes at hand.
	payload, end int
	// fragment is true for a fragment other than the first: its payload
	// does not start with a transport header.
	fragment bool
	// first is true for the first of several fragments.
	first bool
}

func ipv4(b []byte, off int, r *flow.Record) error {
	h, err := ipv4Header(b, off)
	if err != 0 {
		return err
	}
	return internet(b, &h, r)
}

func ipv6(b []byte, off int, r *flow.Record) error {
	h, err := ipv6Header(b, off)
	if h.src.IsValid() {
		r.Src, r.Dst, r.TTL = h.src, h.dst, h.ttl
	}
	if err != 0 {
		return err
	}
	return internet(b, &h, r)
}

// internet copies an IP header and goes on with its payload.
func internet(b []byte, h *ipHeader, r *flow.Record) error {
	r.Src, r.Dst, r.TTL, r.Proto = h.src, h.dst, h.ttl, h.proto
	if h.fragment {
		return nil
	}
	return transport(b, h, r)
}

// ipv4Header parses the IPv4 header at off (RFC 791, section 3.1). An Error of
// 0 means success.
func ipv4Header(b []byte, off int) (ipHeader, Error) {
	if len(b) < off+ipv4Len {
		return ipHeader{}, newError(Truncated, off)
	}
	p := b[off:]
	headerLen := int(p[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(p[2:]))
	if total == 0 {
		// Segmentation offload: the length did not fit in its field.
		total = len(p)
	}
	if p[0]>>4 != 4 || headerLen < ipv4Len || total < headerLen {
		return ipHeader{}, newError(Malformed, off)
	}
	frag := binary.BigEndian.Uint16(p[6:])
	return ipHeader{
		src:      netip.AddrFrom4([4]byte(p[12:16])),
		dst:      netip.AddrFrom4([4]byte(p[16:20])),
		proto:    p[9],
		ttl:      p[8],
		payload:  off + headerLen,
		end:      off + total,
		fragment: frag&fragOffsetMask != 0,
		first:    frag&(fragOffsetMask|moreFragments) == moreFragments,
	}, 0
}

// ipv6Header parses the IPv6 header at off with its extension headers (RFC
// 8200, sections 3 and 4). Src is valid even when an extension header is not.
func ipv6Header(b []byte, off int) (ipHeader, Error) {
	if len(b) < off+ipv6Len {
		return ipHeader{}, newError(Truncated, off)
	}
	p := b[off:]
	if p[0]>>4 != 6 {
		return ipHeader{}, newError(Malformed, off)
	}
	h := ipHeader{
		src:     netip.AddrFrom16([16]byte(p[8:24])),
		dst:     netip.AddrFrom16([16]byte(p[24:40])),
		proto:   p[6],
		ttl:     p[7],
		payload: off + ipv6Len,
		end:     off + ipv6Len + int(binary.BigEndian.Uint16(p[4:])),
	}
	if h.end == h.payload {
		// A jumbogram (RFC 2675), segmentation offload, or no payload.
		h.end = len(b)
	}
	return h, h.skipExtensions(b)
}

// skipExtensions moves payload and proto behind the extension headers.
func (h *ipHeader) skipExtensions(b []byte) Error {
	for range maxExtensions {
		if !isExtension(h.proto) {
			return 0
		}
		if err := h.need(b, 8); err != 0 {
			return err
		}
		e := b[h.payload:]
		n := 8 + int(e[1])*8
		switch h.proto {
		case extFragment:
			n = 8
			frag := binary.BigEndian.Uint16(e[2:])
			h.fragment = frag>>3 != 0
			h.first = !h.fragment && frag&moreFragments6 != 0
		case extAuth:
			n = 8 + int(e[1])*4 // RFC 4302, section 2.2
		}
		h.proto = e[0]
		h.payload += n
		if h.fragment {
			return 0
		}
	}
	if isExtension(h.proto) {
		return newError(Malformed, h.payload)
	}
	return 0
}

// need checks that n bytes of payload are there. If not, it tells a cut frame
// from a packet that is too short by its own account.
func (h *ipHeader) need(b []byte, n int) Error {
	switch {
	case h.payload+n > h.end:
		return newError(Malformed, h.payload)
	case h.payload+n > len(b):
		return newError(Truncated, h.payload)
	}
	return 0
}

func isExtension(proto uint8) bool {
	switch proto {
	case extHopByHop, extRouting, extFragment, extAuth, extDestination, extMobility, extHIP, extShim6:
		return true
	}
	return false
}
