package packet

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
)

// Ports of DNS (RFC 1035, section 4.2) and multicast DNS (RFC 6762, section 3).
const (
	portDNS  = 53
	portMDNS = 5353
)

// DNS messages (RFC 1035, sections 2.3.4, 4.1.1 and 4.1.2).
const (
	dnsHeaderLen   = 12
	dnsQuestions   = 4 // where their number is
	dnsQuestionEnd = 4 // type and class
	dnsMaxLabel    = 63
	dnsMaxName     = 255 // on the wire
	dnsResponseBit = 0x80
	dnsOpcodeMask  = 0x78
	dnsCodeMask    = 0x0f
	// entropyLeast is how many characters say something about their source.
	entropyLeast = 8
	entropyScale = 32
)

// dns summarises the DNS message in a UDP datagram. What is no message is no
// error: whoever opens a port may send through it what he likes.
func dns(b []byte, h *ipHeader, r *flow.Record) {
	if !isDNSPort(r.SrcPort) && !isDNSPort(r.DstPort) || len(b) < h.payload+udpLen {
		return
	}
	from, end := h.payload+udpLen, min(h.end, h.payload+int(binary.BigEndian.Uint16(b[h.payload+4:])))
	m := b[from:max(from, min(end, len(b)))]
	if len(m) < dnsHeaderLen+1 || m[2]&dnsOpcodeMask != 0 || binary.BigEndian.Uint16(m[dnsQuestions:]) == 0 {
		return
	}
	n := dnsName{b: m[dnsHeaderLen:]}
	if !n.walk() || n.cut && end <= len(b) {
		return // by its own account the datagram ends within the name
	}
	d := flow.DNS{Flags: flow.DNSQuery, Labels: n.labels, Longest: n.longest}
	if m[2]&dnsResponseBit != 0 {
		d.Flags = flow.DNSResponse | flow.DNSFlags(m[3]&dnsCodeMask)
	}
	n.summarise(&d)
	if !n.cut && len(n.b) >= n.end+dnsQuestionEnd {
		d.Type = binary.BigEndian.Uint16(n.b[n.end:])
	}
	r.DNS = d
}

func isDNSPort(p uint16) bool { return p == portDNS || p == portMDNS }

// dnsName is a name on the wire: labels, each after its length.
type dnsName struct {
	b   []byte
	end int // behind the name
	// last holds where the last four labels begin, the last one first.
	last    [4]int
	labels  uint8
	longest uint8
	cut     bool
}

// walk goes over the labels; false when they are none. A question's name is
// the first of its message, so there is nothing that it could point to.
func (n *dnsName) walk() bool {
	for n.end < len(n.b) {
		size := int(n.b[n.end])
		if size == 0 {
			n.end++
			return true
		}
		if size > dnsMaxLabel || n.end+1+size >= dnsMaxName {
			return false
		}
		copy(n.last[1:], n.last[:3])
		n.last[0] = n.end
		n.labels++
		n.longest = max(n.longest, uint8(size))
		n.end += 1 + size
	}
	n.cut = true
	return true
}

// summarise says what a name is made of.
func (n *dnsName) summarise(d *flow.DNS) {
	text := n.b[:min(n.end, len(n.b))]
	if n.cut {
		d.Flags |= flow.DNSCut
		d.Name = hashName(text)
		d.Length = uint8(max(len(text)-1, 0))
		d.Carried, d.Entropy = d.Length, entropy(text)
		return
	}
	text = text[:len(text)-1] // without the root
	if len(text) == 0 {
		return
	}
	zone := n.zone()
	d.Name, d.Zone = hashName(text), hashName(text[zone:])
	d.Length, d.Carried = uint8(len(text)-1), uint8(max(zone-1, 0))
	d.Entropy = entropy(text[:zone])
	if n.reverse() {
		d.Flags |= flow.DNSReverse
	}
}

// zone is where the part of the name begins that somebody registered: two
// labels, or three below the likes of co.uk. The list of public suffixes
// (publicsuffix.org) would know better, but it changes by the week; where this
// is wrong, several registrations count as one.
func (n *dnsName) zone() int {
	switch {
	case n.labels < 2:
		return 0
	case n.labels > 2 && n.size(0) == 2 && n.public():
		return n.last[2]
	}
	return n.last[1]
}

// public reports whether the second label from the end is one that registries
// of countries sell names below.
func (n *dnsName) public() bool {
	for _, l := range [...]string{"co", "com", "ac", "edu", "go", "gov", "ne", "net", "or", "org"} {
		if n.label(1, l) {
			return true
		}
	}
	return false
}

// size is the length of a label, counted from the last.
func (n *dnsName) size(i int) int { return int(n.b[n.last[i]]) }

// reverse reports whether the name stands for an address (RFC 1035, section
// 3.5; RFC 3596, section 2.5).
func (n *dnsName) reverse() bool {
	return n.labels >= 2 && n.label(0, "arpa") && (n.label(1, "in-addr") || n.label(1, "ip6"))
}

func (n *dnsName) label(i int, want string) bool {
	at := n.last[i] + 1
	if n.size(i) != len(want) {
		return false
	}
	for j := range len(want) {
		if lower(n.b[at+j]) != want[j] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// hashName hashes a name on the wire without regard to case: clients vary it
// to be harder to forge answers to. It is FNV-1a with a finish that spreads its
// bits, and never 0.
func hashName(text []byte) uint32 {
	h := uint64(0xcbf29ce484222325)
	for _, c := range text {
		h = (h ^ uint64(lower(c))) * 0x100000001b3
	}
	hi, lo := bits.Mul64(h, 0x9e3779b97f4a7c15)
	return uint32(hi^lo) | 1
}

// entropy estimates the collision entropy of the characters (Renyi, "On
// measures of entropy and information", 1961) from how often two of them are
// equal, which is unbiased for short texts where Shannon's estimate is not.
// The lengths of labels count as characters: they are as good as dots.
func entropy(text []byte) uint8 {
	if len(text) <= entropyLeast {
		return 0
	}
	var seen [256]uint8
	pairs := 0
	for _, c := range text {
		c = lower(c)
		pairs += int(seen[c])
		seen[c]++
	}
	all := len(text) * (len(text) - 1) / 2
	if pairs == 0 {
		return math.MaxUint8 // no two alike
	}
	return uint8(min(entropyScale*math.Log2(float64(all)/float64(pairs)), math.MaxUint8))
}
