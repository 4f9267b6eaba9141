package prove

import (
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Addresses are told apart by family: no connection is between both.
const (
	v4 = iota
	v6
	families
)

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return v4
	}
	return v6
}

// span is all addresses from one to another, both within.
type span struct{ first, last netip.Addr }

// spans are sets of addresses of one family: sorted, neither overlapping nor
// adjacent.
type spans []span

// whole is every address of a family.
func whole(family int) spans {
	if family == v4 {
		return spans{spanOf(netip.PrefixFrom(netip.IPv4Unspecified(), 0))}
	}
	return spans{spanOf(netip.PrefixFrom(netip.IPv6Unspecified(), 0))}
}

func spanOf(p netip.Prefix) span {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for i := p.Bits(); i < 8*len(last); i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(last) // it has the length of an address
	return span{p.Addr(), a}
}

// normal sorts spans and joins those that touch. It changes the list.
func normal(list []span) spans {
	slices.SortFunc(list, func(a, b span) int { return a.first.Compare(b.first) })
	var out spans
	for _, s := range list {
		if n := len(out); n > 0 {
			if next := out[n-1].last.Next(); !next.IsValid() || s.first.Compare(next) <= 0 {
				if s.last.Compare(out[n-1].last) > 0 {
					out[n-1].last = s.last
				}
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// intersect returns what is in both.
func (s spans) intersect(o spans) spans {
	var out spans
	for i, j := 0, 0; i < len(s) && j < len(o); {
		first, last := s[i].first, s[i].last
		if o[j].first.Compare(first) > 0 {
			first = o[j].first
		}
		if o[j].last.Compare(last) < 0 {
			last = o[j].last
		}
		if first.Compare(last) <= 0 {
			out = append(out, span{first, last})
		}
		if s[i].last.Compare(o[j].last) < 0 {
			i++
		} else {
			j++
		}
	}
	return out
}

// complement returns the addresses of the family that are not in the spans.
func (s spans) complement(family int) spans {
	var out spans
	next := whole(family)[0].first
	for _, x := range s {
		if next.Compare(x.first) < 0 {
			out = append(out, span{next, x.first.Prev()})
		}
		if next = x.last.Next(); !next.IsValid() {
			return out
		}
	}
	return append(out, span{next, whole(family)[0].last})
}

// String is a CIDR or an address where the span is one.
func (s span) String() string {
	for bits := s.first.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(s.first, bits)
		last := spanOf(p).last
		if p.Masked().Addr() != s.first || last.Compare(s.last) > 0 {
			break
		}
		if last == s.last {
			return policy.Peer{Prefix: p}.String()
		}
	}
	return s.first.String() + "-" + s.last.String()
}

func (s span) holds(a netip.Addr) bool { return s.first.Compare(a) <= 0 && a.Compare(s.last) <= 0 }
