package prove

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// vocabulary holds the groups and services that have a name, as numbers of
// sets.
type vocabulary struct {
	groups, services map[string]int
	workloads        map[netip.Addr]string
}

// newVocabulary adds the names of two sets. What means something else in the
// second is told apart by "before".
func newVocabulary(old, next *resolver, d *dimensions) *vocabulary {
	v := &vocabulary{groups: map[string]int{}, services: map[string]int{}, workloads: names(old.inv)}
	for name := range next.set.Groups {
		v.groups[name] = d.addAddresses(next.group(name))
	}
	for name := range old.set.Groups {
		a, b := old.group(name), next.group(name)
		_, known := next.set.Groups[name]
		switch {
		case !known:
			v.groups[name] = d.addAddresses(a)
		case !slices.Equal(a[v4], b[v4]) || !slices.Equal(a[v6], b[v6]):
			v.groups[name+" (before)"] = d.addAddresses(a)
		}
	}
	for name, list := range next.set.Services {
		v.services[name] = d.addServices(list)
	}
	for name, list := range old.set.Services {
		again, known := next.set.Services[name]
		switch {
		case !known:
			v.services[name] = d.addServices(list)
		case textOf(list) != textOf(again):
			v.services[name+" (before)"] = d.addServices(list)
		}
	}
	return v
}

func textOf(list []policy.Service) string {
	out := ""
	for i := range list {
		out += describeService(&list[i]) + ";"
	}
	return out
}

// describeService is a service as it could stand in a file.
func describeService(s *policy.Service) string {
	var out strings.Builder
	out.WriteString(s.Proto.String())
	for i, r := range s.Ports {
		if i == 0 {
			out.WriteByte(' ')
		} else {
			out.WriteByte(',')
		}
		out.WriteString(r.String())
	}
	if s.Type != nil {
		fmt.Fprintf(&out, " type %d", *s.Type)
	}
	if s.Code != nil {
		fmt.Fprintf(&out, " code %d", *s.Code)
	}
	return out.String()
}

// speaker puts sets of classes of one family into words.
type speaker struct {
	*vocabulary
	space                *space
	ofAddress, ofService *naming
	said                 map[string][]string
}

func (v *vocabulary) in(s *space) *speaker {
	return &speaker{vocabulary: v, space: s, ofAddress: newNaming(v.groups, s.holders, len(s.addresses)),
		ofService: newNaming(v.services, s.fitting, len(s.services)), said: map[string][]string{}}
}

// addresses returns terms that are exactly some classes: "any", peers, or
// peers that are left out of everybody, "not corp".
func (s *speaker) addresses(classes bitset.Set) []string {
	key := classes.Key()
	if _, known := s.said[key]; !known {
		s.said[key] = shorter(classes, bitset.Full(len(s.space.addresses)), func(some bitset.Set, most int) ([]string, bool) {
			terms, rest, ok := s.ofAddress.cover(some, most)
			if !ok {
				return nil, false
			}
			var left []span
			for class := range rest.All() {
				left = append(left, s.space.addresses[class].spans...)
			}
			for _, x := range normal(left) {
				text := x.String()
				if name, known := s.workloads[x.first]; known && x.first == x.last {
					text = name
				}
				terms = append(terms, text)
			}
			return terms, len(terms) <= most
		})
	}
	return s.said[key]
}

// services returns terms that are exactly some classes of services.
func (s *speaker) services(classes bitset.Set) []string {
	return shorter(classes, bitset.Full(len(s.space.services)), func(some bitset.Set, most int) ([]string, bool) {
		terms, rest, ok := s.ofService.cover(some, most)
		terms = append(terms, s.space.atomTexts(rest)...)
		return terms, ok && len(terms) <= most
	})
}

// shorter says what something is, or what it is not if that is shorter. What
// is the smaller set is said first, and the other only while it is no longer.
func shorter(some, all bitset.Set, say func(some bitset.Set, most int) (terms []string, ok bool)) []string {
	rest := all.Without(some)
	if rest.Empty() {
		return []string{policy.Any}
	}
	if some.Len() <= rest.Len() {
		is, _ := say(some, math.MaxInt)
		if not, ok := say(rest, len(is)-1); ok {
			return negated(not)
		}
		return is
	}
	not, _ := say(rest, math.MaxInt)
	if is, ok := say(some, len(not)); ok {
		return is
	}
	return negated(not)
}

func negated(terms []string) []string {
	for i := range terms {
		terms[i] = "not " + terms[i]
	}
	return terms
}

// atomTexts says what services some classes hold, protocol by protocol.
func (s *space) atomTexts(classes bitset.Set) []string {
	parts := map[policy.Proto][]atom{}
	for class := range classes.All() {
		for _, a := range s.services[class].atoms {
			parts[a.proto] = append(parts[a.proto], a)
		}
	}
	var out []string
	for _, l := range s.lines() {
		list := parts[l.proto]
		slices.SortFunc(list, func(a, b atom) int { return int(a.first) - int(b.first) })
		var runs []atom
		for _, a := range list {
			if n := len(runs); n > 0 && l.touch(runs[n-1].last, a.first) {
				runs[n-1].last = a.last
				continue
			}
			runs = append(runs, a)
		}
		for _, a := range runs {
			out = append(out, l.text(a)...)
		}
	}
	return out
}

// touch reports whether nothing but what is skipped lies between two numbers.
func (l *line) touch(last, first uint16) bool {
	return int(last)+1 == int(first) || len(l.parts(int(last)+1, int(first)-1)) == 0
}

// text says what a run of numbers means on the line.
func (l *line) text(a atom) []string {
	all := l.parts(l.first, l.last)
	switch complete := int(a.first) == all[0][0] && int(a.last) == all[len(all)-1][1]; {
	case l.proto == 0 && complete:
		return []string{"other protocols"}
	case l.proto == 0 && a.first == a.last:
		return []string{fmt.Sprintf("protocol %d", a.first)}
	case l.proto == 0:
		return []string{fmt.Sprintf("protocols %d-%d", a.first, a.last)}
	case complete:
		return []string{l.proto.String()}
	case l.proto.HasPorts():
		return []string{fmt.Sprintf("%s %s", l.proto, policy.PortRange{First: a.first, Last: a.last})}
	}
	var out []string
	for n := int(a.first); n <= int(a.last); { // type by type
		t, end := n>>8, min(n|0xff, int(a.last))
		if n&0xff == 0 && end&0xff == 0xff {
			last := t
			for (last+2)<<8-1 <= int(a.last) {
				last++
			}
			end = last<<8 | 0xff
			out = append(out, fmt.Sprintf("%s type %s", l.proto, policy.PortRange{First: uint16(t), Last: uint16(last)}))
		} else {
			out = append(out, fmt.Sprintf("%s type %d code %s", l.proto, t, policy.PortRange{First: uint16(n & 0xff), Last: uint16(end & 0xff)}))
		}
		n = end + 1
	}
	return out
}

// holds reports whether an address is in one of some classes.
func (s *space) holds(classes bitset.Set, a netip.Addr) bool {
	for class := range classes.All() {
		if slices.ContainsFunc(s.addresses[class].spans, func(x span) bool { return x.holds(a) }) {
			return true
		}
	}
	return false
}

// atomOf is the atom that a connection's service is.
func atomOf(c oracle.Connection) atom {
	switch {
	case c.Proto.HasPorts():
		return atom{c.Proto, c.DstPort, c.DstPort}
	case c.Proto.IsICMP():
		n := uint16(c.Type)<<8 | uint16(c.Code)
		return atom{c.Proto, n, n}
	}
	return atom{0, uint16(c.Proto), uint16(c.Proto)}
}

// fits reports whether a connection's service is in one of some classes.
func (s *space) fits(classes bitset.Set, c oracle.Connection) bool {
	at := atomOf(c)
	for class := range classes.All() {
		if slices.ContainsFunc(s.services[class].atoms, func(a atom) bool { return a.proto == at.proto && a.holds(at.first) }) {
			return true
		}
	}
	return false
}
