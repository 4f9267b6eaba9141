package prove

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// chooser chooses members of classes that people recognise.
type chooser struct {
	*space
	names map[netip.Addr]string // of workloads
	// best and second are two members of each class; second is the zero
	// address when there is one member.
	best, second []netip.Addr
}

func newChooser(s *space, inv policy.Inventory) *chooser {
	c := &chooser{space: s, names: names(inv), best: make([]netip.Addr, len(s.addresses)), second: make([]netip.Addr, len(s.addresses))}
	known := slices.SortedFunc(maps.Keys(c.names), netip.Addr.Compare)
	for i := range s.addresses {
		offer := func(a netip.Addr) {
			switch {
			case !a.IsValid() || a == c.best[i]:
			case !c.best[i].IsValid() || c.worth(a) > c.worth(c.best[i]):
				c.best[i], c.second[i] = a, c.best[i]
			case !c.second[i].IsValid() || c.worth(a) > c.worth(c.second[i]):
				c.second[i] = a
			}
		}
		for _, x := range s.addresses[i].spans {
			n, _ := slices.BinarySearchFunc(known, x.first, netip.Addr.Compare)
			for _, a := range known[n:min(n+2, len(known))] {
				if a.Compare(x.last) <= 0 {
					offer(a)
				}
			}
			for _, a := range outside() {
				if familyOf(a) == s.family && x.holds(a) {
					offer(a)
				}
			}
			offer(x.first)
			if x.first != x.last {
				offer(x.last)
				offer(x.first.Next())
			}
		}
	}
	return c
}

// outside are addresses of nobody, for documentation (RFC 5737, 3849).
func outside() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{198, 51, 100, 7}), netip.AddrFrom4([4]byte{203, 0, 113, 7}), netip.AddrFrom4([4]byte{192, 0, 2, 7}),
		netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: 7}), netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: 1, 15: 7})}
}

func names(inv policy.Inventory) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, w := range inv.Workloads {
		for _, a := range w.Addrs {
			if _, taken := out[a]; !taken {
				out[a] = w.Name
			}
		}
	}
	return out
}

// worth orders addresses by how much they say to people.
func (c *chooser) worth(a netip.Addr) int {
	_, known := c.names[a]
	switch {
	case known:
		return 3
	case slices.Contains(outside(), a):
		return 2
	case a.IsGlobalUnicast():
		return 1
	}
	return 0
}

// pair chooses two different addresses, one of each of two sets of classes.
// There are none when both sets are one class with one member.
func (c *chooser) pair(from, to bitset.Set) (src, dst netip.Addr, ok bool) {
	src = c.top(from, netip.Addr{})
	if dst = c.top(to, src); !dst.IsValid() { // the one of to is src: is there another to begin from?
		src = c.top(from, src)
		dst = c.top(to, src)
	}
	return src, dst, src.IsValid() && dst.IsValid()
}

// top returns the best member of some classes but one address.
func (c *chooser) top(classes bitset.Set, but netip.Addr) (best netip.Addr) {
	for i := range classes.All() {
		a := c.best[i]
		if a == but {
			a = c.second[i]
		}
		if a.IsValid() && (!best.IsValid() || c.worth(a) > c.worth(best)) {
			best = a
		}
	}
	return best
}

// connection chooses one of some services, from one of some classes to
// another. ok is false when there is none but of an address to itself.
func (c *chooser) connection(from, to, services bitset.Set) (x oracle.Connection, ok bool) {
	x.Src, x.Dst, ok = c.pair(from, to)
	if !ok {
		return x, false
	}
	var best atom
	score := -1
	for s := range services.All() {
		for _, a := range c.services[s].atoms {
			if n := a.familiarity(); n > score {
				best, score = a, n
			}
		}
	}
	x.Proto = best.proto
	n := best.choice()
	switch {
	case best.proto.HasPorts():
		x.SrcPort, x.DstPort = 50000, n
	case best.proto.IsICMP():
		x.Type, x.Code = uint8(n>>8), uint8(n)
	default:
		x.Proto = policy.Proto(n)
	}
	return x, score >= 0
}

// wellKnown are services that people recognise.
func wellKnown(proto policy.Proto) []uint16 {
	switch {
	case proto.HasPorts():
		return []uint16{443, 80, 22, 53, 8080}
	case proto.IsICMP():
		return []uint16{8 << 8, 128 << 8}
	}
	return []uint16{47}
}

func (a atom) holds(n uint16) bool { return a.first <= n && n <= a.last }

// choice is the member of the atom that says most.
func (a atom) choice() uint16 {
	for _, n := range wellKnown(a.proto) {
		if a.holds(n) {
			return n
		}
	}
	return max(a.first, min(a.last, 1)) // port 0 only if it must be
}

// familiarity orders atoms: TCP first, and what people recognise.
func (a atom) familiarity() int {
	n := map[policy.Proto]int{6: 6, 17: 4, 1: 2, 58: 2}[a.proto]
	if slices.ContainsFunc(wellKnown(a.proto), a.holds) {
		n++
	}
	return n
}
