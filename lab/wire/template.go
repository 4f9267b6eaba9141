package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Offsets in a frame without a VLAN tag.
const (
	offType, offL3     = 12, 14
	off4ID, off4Sum    = offL3 + 4, offL3 + 10
	off4Proto          = offL3 + 9
	off4Src, off4Dst   = offL3 + 12, offL3 + 16
	off6Next           = offL3 + 6
	off6Src, off6Dst   = offL3 + 8, offL3 + 24
	header4, header6   = 20, 40
	type4, type6       = 0x0800, 0x86dd
	typeARP            = 0x0806
	protoICMP, protoIC = 1, 58
	protoTCP, protoUDP = 6, 17
)

// Template is a frame whose fields can be changed in place, checksums
// included (RFC 1624), without building it again and without allocation.
type Template struct {
	frame []byte
	six   bool
	proto byte
	l4    int // offset of the transport header
	sum   int // offset of its checksum; 0 when it has none to keep
	// pseudo is true when the transport checksum covers the addresses.
	pseudo bool
}

// NewTemplate takes a frame that this package built, with TCP, UDP or ICMP
// over IPv4 without options or IPv6 without extension headers. It keeps a
// copy.
func NewTemplate(frame []byte) (*Template, error) {
	t := &Template{frame: append([]byte(nil), frame...)}
	if len(frame) < offL3+header4 {
		return nil, fmt.Errorf("template: %d octets are no frame", len(frame))
	}
	switch kind := binary.BigEndian.Uint16(frame[offType:]); {
	case kind == type4 && frame[offL3] == 0x45:
		t.l4, t.proto = offL3+header4, frame[off4Proto]
	case kind == type6 && len(frame) >= offL3+header6:
		t.six, t.l4, t.proto = true, offL3+header6, frame[off6Next]
	default:
		return nil, fmt.Errorf("template: type %#04x is neither plain IPv4 nor IPv6", kind)
	}
	at := 0
	switch t.proto {
	case protoTCP:
		at, t.pseudo = 16, true
	case protoUDP:
		at, t.pseudo = 6, true
	case protoICMP:
		at = 2
	case protoIC:
		at, t.pseudo = 2, true
	default:
		return nil, fmt.Errorf("template: protocol %d is none of TCP, UDP and ICMP", t.proto)
	}
	if t.sum = t.l4 + at; len(frame) < max(t.sum+2, t.l4+8) {
		return nil, fmt.Errorf("template: %d octets end within the transport header", len(frame))
	}
	return t, nil
}

// Clone makes a second template of the same frame.
func (t *Template) Clone() *Template {
	c := *t
	c.frame = append([]byte(nil), t.frame...)
	return &c
}

// Frame is the frame as it is now; it changes with the template.
func (t *Template) Frame() []byte { return t.frame }

// SetSrcMAC changes who the frame is from.
func (t *Template) SetSrcMAC(mac [6]byte) { copy(t.frame[6:12], mac[:]) }

// SetDstMAC changes who takes the frame.
func (t *Template) SetDstMAC(mac [6]byte) { copy(t.frame[0:6], mac[:]) }

// SetSrc changes the source address, which must be of the frame's family.
func (t *Template) SetSrc(a netip.Addr) { t.setAddr(off4Src, off6Src, a) }

// SetDst changes the destination address, which must be of the frame's
// family.
func (t *Template) SetDst(a netip.Addr) { t.setAddr(off4Dst, off6Dst, a) }

func (t *Template) setAddr(at4, at6 int, a netip.Addr) {
	if t.six {
		b := a.As16()
		for i := 0; i < 16; i += 2 {
			t.patch(at6+i, binary.BigEndian.Uint16(b[i:]), false, t.pseudo)
		}
		return
	}
	b := a.Unmap().As4()
	t.patch(at4, binary.BigEndian.Uint16(b[0:]), true, t.pseudo)
	t.patch(at4+2, binary.BigEndian.Uint16(b[2:]), true, t.pseudo)
}

// SetID changes the identification of an IPv4 packet; IPv6 has none.
func (t *Template) SetID(id uint16) {
	if !t.six {
		t.patch(off4ID, id, true, false)
	}
}

// SetSrcPort changes the source port of TCP and UDP, the identifier of ICMP.
func (t *Template) SetSrcPort(port uint16) {
	if t.icmp() {
		t.patch(t.l4+4, port, false, true)
		return
	}
	t.patch(t.l4, port, false, true)
}

// SetDstPort changes the destination port of TCP and UDP, the sequence number
// of ICMP.
func (t *Template) SetDstPort(port uint16) {
	if t.icmp() {
		t.patch(t.l4+6, port, false, true)
		return
	}
	t.patch(t.l4+2, port, false, true)
}

func (t *Template) icmp() bool { return t.proto == protoICMP || t.proto == protoIC }

// SetSeq changes the sequence number of TCP; other protocols have none of 32
// bits.
func (t *Template) SetSeq(seq uint32) {
	if t.proto == protoTCP {
		t.patch(t.l4+4, uint16(seq>>16), false, true)
		t.patch(t.l4+6, uint16(seq), false, true)
	}
}

// patch writes a word and brings the checksums that cover it up to date.
func (t *Template) patch(at int, word uint16, l3, l4 bool) {
	old := binary.BigEndian.Uint16(t.frame[at:])
	if old == word {
		return
	}
	binary.BigEndian.PutUint16(t.frame[at:], word)
	if l3 {
		t.fix(off4Sum, old, word)
	}
	if !l4 {
		return
	}
	t.fix(t.sum, old, word)
	if t.proto == protoUDP && t.frame[t.sum] == 0 && t.frame[t.sum+1] == 0 {
		// Zero means "no checksum" in UDP (RFC 768).
		binary.BigEndian.PutUint16(t.frame[t.sum:], 0xffff)
	}
}

// fix is equation 3 of RFC 1624: HC' = ~(~HC + ~m + m').
func (t *Template) fix(at int, old, word uint16) {
	sum := uint32(^binary.BigEndian.Uint16(t.frame[at:])) + uint32(^old) + uint32(word)
	sum = sum&0xffff + sum>>16
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(t.frame[at:], ^uint16(sum))
}
