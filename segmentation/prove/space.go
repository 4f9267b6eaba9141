package prove

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// dimensions are the sets of addresses and of services that are told apart.
type dimensions struct {
	addresses []addresses
	services  [][]policy.Service

	byAddresses map[fingerprint][]int
	byServices  map[string]int
}

// fingerprint is equal for equal sets of addresses, and seldom for others.
type fingerprint struct {
	sizes       [families]int
	first, last [families]span
}

func fingerprintOf(a addresses) fingerprint {
	var f fingerprint
	for i := range a {
		if f.sizes[i] = len(a[i]); f.sizes[i] > 0 {
			f.first[i], f.last[i] = a[i][0], a[i][f.sizes[i]-1]
		}
	}
	return f
}

// everything is the number of the set that holds all.
const everything = -1

// addAddresses returns the number of a set, that of an equal one if there is
// one.
func (d *dimensions) addAddresses(a addresses) int {
	f := fingerprintOf(a)
	for _, n := range d.byAddresses[f] {
		if b := d.addresses[n]; slices.Equal(a[v4], b[v4]) && slices.Equal(a[v6], b[v6]) {
			return n
		}
	}
	if d.byAddresses == nil {
		d.byAddresses = map[fingerprint][]int{}
	}
	n := len(d.addresses)
	d.byAddresses[f] = append(d.byAddresses[f], n)
	d.addresses = append(d.addresses, a)
	return n
}

func (d *dimensions) addServices(list []policy.Service) int {
	key := textOf(list)
	n, known := d.byServices[key]
	if !known {
		if d.byServices == nil {
			d.byServices = map[string]int{}
		}
		n = len(d.services)
		d.byServices[key] = n
		d.services = append(d.services, list)
	}
	return n
}

// space is the header space of one family, cut into classes: what no set
// tells apart is one. Whatever holds for one member of each holds for all.
type space struct {
	family    int
	addresses []addressClass
	services  []serviceClass
	// holders and fitting say of each set which classes are in it.
	holders, fitting []bitset.Set
}

// addressClass is a class of addresses.
type addressClass struct {
	in    bitset.Set // the sets that hold it
	spans spans
}

// serviceClass is a class of services.
type serviceClass struct {
	in    bitset.Set
	atoms []atom
}

// atom is a range of one protocol: of ports; of ICMP types and codes, a type
// being 256 codes; or, with proto 0, of protocols that have neither.
type atom struct {
	proto       policy.Proto
	first, last uint16
}

func newSpace(family int, d *dimensions) *space {
	s := &space{family: family}
	s.cutAddresses(d.addresses)
	s.cutServices(d.services)
	s.index(len(d.addresses), len(d.services))
	return s
}

// index notes of each set which classes are in it.
func (s *space) index(addressSets, serviceSets int) {
	s.holders, s.fitting = make([]bitset.Set, addressSets), make([]bitset.Set, serviceSets)
	for i := range s.holders {
		s.holders[i] = bitset.New(len(s.addresses))
	}
	for c := range s.addresses {
		for i := range s.addresses[c].in.All() {
			s.holders[i].Add(c)
		}
	}
	for i := range s.fitting {
		s.fitting[i] = bitset.New(len(s.services))
	}
	for c := range s.services {
		for i := range s.services[c].in.All() {
			s.fitting[i].Add(c)
		}
	}
}

// holding returns the classes of a set of addresses.
func (s *space) holding(n int) bitset.Set {
	if n == everything {
		return bitset.Full(len(s.addresses))
	}
	return s.holders[n]
}

// fit returns the classes of a set of services.
func (s *space) fit(n int) bitset.Set {
	if n == everything {
		return bitset.Full(len(s.services))
	}
	return s.fitting[n]
}

// edge is where a set begins or ends.
type edge[P any] struct {
	at     P
	set    int
	begins bool
}

// sweep goes along a line and tells of every stretch between edges which sets
// hold it. The last stretch has no end.
func sweep[P any](begin P, sets int, edges []edge[P], compare func(a, b P) int, emit func(from P, to *P, in bitset.Set)) {
	slices.SortFunc(edges, func(a, b edge[P]) int { return compare(a.at, b.at) })
	in, depth := bitset.New(sets), make([]int, sets) // a set may name a stretch twice
	for i := 0; i < len(edges); i++ {
		e := &edges[i]
		if compare(e.at, begin) > 0 {
			emit(begin, &e.at, in)
			begin = e.at
		}
		if e.begins {
			depth[e.set]++
			in.Add(e.set)
		} else if depth[e.set]--; depth[e.set] == 0 {
			in.Remove(e.set)
		}
	}
	emit(begin, nil, in)
}

func (s *space) cutAddresses(sets []addresses) {
	var edges []edge[netip.Addr]
	for i, a := range sets {
		for _, x := range a[s.family] {
			edges = append(edges, edge[netip.Addr]{x.first, i, true})
			if after := x.last.Next(); after.IsValid() {
				edges = append(edges, edge[netip.Addr]{after, i, false})
			}
		}
	}
	all := whole(s.family)[0]
	index := map[string]int{}
	sweep(all.first, len(sets), edges, netip.Addr.Compare, func(from netip.Addr, to *netip.Addr, in bitset.Set) {
		stretch := span{from, all.last}
		if to != nil {
			stretch.last = to.Prev()
		}
		c, known := index[in.Key()]
		if !known {
			c = len(s.addresses)
			index[in.Key()] = c
			s.addresses = append(s.addresses, addressClass{in: slices.Clone(in)})
		}
		s.addresses[c].spans = append(s.addresses[c].spans, stretch)
	})
}

// cutServices leaves out what is implied: it is allowed whatever rules say.
func (s *space) cutServices(sets [][]policy.Service) {
	index := map[string]int{}
	add := func(a atom, in bitset.Set) {
		c, known := index[in.Key()]
		if !known {
			c = len(s.services)
			index[in.Key()] = c
			s.services = append(s.services, serviceClass{in: slices.Clone(in)})
		}
		s.services[c].atoms = append(s.services[c].atoms, a)
	}
	for _, line := range s.lines() {
		var edges []edge[int]
		for i, list := range sets {
			for e := range list {
				for _, r := range line.ranges(&list[e]) {
					edges = append(edges, edge[int]{r[0], i, true}, edge[int]{r[1] + 1, i, false})
				}
			}
		}
		sweep(line.first, len(sets), edges, cmp.Compare[int], func(from int, to *int, in bitset.Set) {
			last := line.last
			if to != nil {
				last = min(last, *to-1)
			}
			for _, part := range line.parts(from, last) {
				add(atom{line.proto, uint16(part[0]), uint16(part[1])}, in)
			}
		})
	}
}

// line is one protocol's services, or the protocols without, as numbers.
type line struct {
	proto       policy.Proto
	first, last int
	skip        [][2]int // numbers that are no service of it
}

func (s *space) lines() []line {
	icmp, skip := policy.Proto(flow.ProtoICMP), [][2]int(nil)
	if s.family == v6 {
		icmp = policy.Proto(flow.ProtoICMPv6)
		for _, types := range [][2]int{{130, 137}, {143, 143}} { // oracle.Implied
			skip = append(skip, [2]int{types[0] << 8, types[1]<<8 | 0xff})
		}
	}
	var special [][2]int
	for p := 1; p < 256; p++ {
		if policy.Proto(p).HasPorts() || policy.Proto(p).IsICMP() {
			special = append(special, [2]int{p, p})
		}
	}
	return []line{
		{proto: policy.Proto(flow.ProtoTCP), last: 1<<16 - 1}, {proto: policy.Proto(flow.ProtoUDP), last: 1<<16 - 1},
		{proto: policy.Proto(flow.ProtoSCTP), last: 1<<16 - 1}, {proto: icmp, last: 1<<16 - 1, skip: skip},
		{first: 1, last: 255, skip: special},
	}
}

// ranges returns what a service selects of the line.
func (l *line) ranges(s *policy.Service) [][2]int {
	all := [][2]int{{l.first, l.last}}
	switch {
	case l.proto == 0 && s.Proto != 0:
		return [][2]int{{int(s.Proto), int(s.Proto)}}
	case s.Proto != 0 && s.Proto != l.proto:
		return nil
	case len(s.Ports) > 0 && !l.proto.HasPorts(), (s.Type != nil || s.Code != nil) && !l.proto.IsICMP():
		return nil
	case len(s.Ports) > 0:
		var out [][2]int
		for _, r := range s.Ports {
			out = append(out, [2]int{int(r.First), int(r.Last)})
		}
		return out
	case s.Type != nil && s.Code != nil:
		n := int(*s.Type)<<8 | int(*s.Code)
		return [][2]int{{n, n}}
	case s.Type != nil:
		return [][2]int{{int(*s.Type) << 8, int(*s.Type)<<8 | 0xff}}
	case s.Code != nil:
		var out [][2]int
		for t := range 256 {
			out = append(out, [2]int{t<<8 | int(*s.Code), t<<8 | int(*s.Code)})
		}
		return out
	}
	return all
}

// parts returns a stretch without what is to be skipped.
func (l *line) parts(first, last int) [][2]int {
	var out [][2]int
	for _, s := range l.skip {
		if s[0] > last {
			break
		}
		if first < s[0] {
			out = append(out, [2]int{first, s[0] - 1})
		}
		first = max(first, s[1]+1)
	}
	if first <= last {
		out = append(out, [2]int{first, last})
	}
	return out
}
