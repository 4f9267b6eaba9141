package compile

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// serviceSets numbers the distinct lists of services that rules name.
type serviceSets struct {
	index map[string]int
	lists [][]policy.Service
}

// add returns the number of the list of a rule's services; any is true where
// it holds every service.
func (s *serviceSets) add(pol *policy.Set, refs []policy.ServiceRef) (n int, any bool, err error) {
	var list []policy.Service
	for _, r := range refs {
		switch named, ok := pol.Services[r.Name]; {
		case r.Inline != nil:
			list = append(list, *r.Inline)
		case ok:
			list = append(list, named...)
		default:
			return 0, false, fmt.Errorf("unknown service %q", r.Name)
		}
	}
	if len(refs) == 0 || slices.ContainsFunc(list, func(x policy.Service) bool { return x.Proto == 0 }) {
		return 0, true, nil
	}
	keys := make([]string, len(list))
	for i := range list {
		keys[i] = serviceKey(&list[i])
	}
	slices.Sort(keys)
	key := fmt.Sprint(slices.Compact(keys))
	n, ok := s.index[key]
	if !ok {
		n = len(s.lists)
		s.index[key] = n
		s.lists = append(s.lists, list)
	}
	return n, false, nil
}

func serviceKey(s *policy.Service) string {
	key := fmt.Sprintf("%d %v", s.Proto, s.Ports)
	if s.Type != nil {
		key += fmt.Sprintf(" t%d", *s.Type)
	}
	if s.Code != nil {
		key += fmt.Sprintf(" c%d", *s.Code)
	}
	return key
}

// region is a part of the service space whose members all lists treat alike.
type region struct {
	match ServiceMatch
	in    bitset.Set // of lists
}

// regions partitions the services, the specific before what holds them. A
// region that is treated as what holds it is left out.
func (s *serviceSets) regions() []region {
	var out []region
	for proto := 1; proto <= 255; proto++ {
		out = append(out, s.protoRegions(policy.Proto(proto))...)
	}
	return out
}

func (s *serviceSets) protoRegions(proto policy.Proto) (out []region) {
	whole := bitset.New(len(s.lists))
	var named bool
	s.each(proto, func(n int, e *policy.Service) {
		named = true
		if len(e.Ports) == 0 && e.Type == nil {
			whole.Add(n)
		}
	})
	if !named {
		return nil
	}
	base := region{ServiceMatch{Proto: proto}, whole}
	switch {
	case proto.HasPorts():
		out = s.portRegions(proto, whole)
	case proto.IsICMP():
		out = s.typeRegions(proto, whole)
	}
	out = slices.DeleteFunc(out, func(r region) bool { return r.in.Empty() })
	every := func(r region) bool { return r.match == base.match } // a range of all ports
	if !whole.Empty() && !slices.ContainsFunc(out, every) {
		out = append(out, base)
	}
	return out
}

// each calls f for each entry of a protocol, with its list's number.
func (s *serviceSets) each(proto policy.Proto, f func(n int, e *policy.Service)) {
	for n := range s.lists {
		for i := range s.lists[n] {
			if e := &s.lists[n][i]; e.Proto == proto {
				f(n, e)
			}
		}
	}
}

// portRegions cuts the ports where a range begins or ends, and covers each
// piece by masks.
func (s *serviceSets) portRegions(proto policy.Proto, whole bitset.Set) (out []region) {
	type edge struct {
		at, list, step int // +1 where a range of the list begins, -1 behind its end
	}
	var edges []edge
	s.each(proto, func(n int, e *policy.Service) {
		for _, r := range e.Ports {
			edges = append(edges, edge{int(r.First), n, 1}, edge{int(r.Last) + 1, n, -1})
		}
	})
	slices.SortFunc(edges, func(a, b edge) int { return cmp.Compare(a.at, b.at) })
	open := make([]int, len(s.lists)) // ranges of the list that hold the place
	from, was := 0, whole
	flush := func(to int) {
		if from < to && was.Key() != whole.Key() {
			for _, m := range cover(from, to-1) {
				m.Proto = proto
				out = append(out, region{m, was})
			}
		}
		from = to
	}
	for i := 0; i < len(edges); {
		at := edges[i].at
		for ; i < len(edges) && edges[i].at == at; i++ {
			open[edges[i].list] += edges[i].step
		}
		now := whole.Clone()
		for n, k := range open {
			if k > 0 {
				now.Add(n)
			}
		}
		if now.Key() != was.Key() {
			flush(at)
			was = now
		}
	}
	flush(1 << 16)
	return out
}

// cover splits a range of ports, both ends within, into the fewest masked
// matches (aligned powers of two).
func cover(first, last int) (out []ServiceMatch) {
	for first <= last {
		size := 1 << 16
		if first > 0 {
			size = 1 << bits.TrailingZeros16(uint16(first))
		}
		for size > last-first+1 {
			size /= 2
		}
		out = append(out, ServiceMatch{Port: uint16(first), PortMask: uint16(1<<16 - size)})
		first += size
	}
	return out
}

// typeRegions tells ICMP types apart, and codes within them.
func (s *serviceSets) typeRegions(proto policy.Proto, whole bitset.Set) (out []region) {
	types := map[uint8]bitset.Set{}
	codes := map[[2]uint8]bitset.Set{}
	s.each(proto, func(n int, e *policy.Service) {
		switch {
		case e.Type == nil:
		case e.Code == nil:
			at(types, *e.Type, whole).Add(n)
		default:
			at(types, *e.Type, whole)
			at(codes, [2]uint8{*e.Type, *e.Code}, bitset.New(len(s.lists))).Add(n)
		}
	})
	for tc, in := range codes {
		in.AddAll(types[tc[0]])
		out = append(out, region{ServiceMatch{Proto: proto, Type: tc[0], Code: tc[1], HasType: true, HasCode: true}, in})
	}
	for t, in := range types {
		out = append(out, region{ServiceMatch{Proto: proto, Type: t, HasType: true}, in})
	}
	slices.SortFunc(out, func(a, b region) int {
		return cmp.Or(cmp.Compare(a.match.Type, b.match.Type), cmp.Compare(a.match.Code, b.match.Code))
	})
	return out
}

// at returns the set of a key, which begins as a copy of from.
func at[K comparable](m map[K]bitset.Set, k K, from bitset.Set) bitset.Set {
	if m[k] == nil {
		m[k] = from.Clone()
	}
	return m[k]
}
