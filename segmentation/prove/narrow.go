package prove

import (
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// A statement about some connections depends on few of the rules, and these
// tell few classes apart. So it is judged in a space of its own.

// box is a product of classes: what a statement is about.
type box struct{ from, to, services bitset.Set }

func (b box) empty() bool { return b.from.Empty() || b.to.Empty() || b.services.Empty() }

// lens is a coarser space, with the classes of the whole one that each of its
// classes stands for.
type lens struct {
	*space
	addressesOf, servicesOf [][]int
}

// relevant returns the rules that match anything in a box, in their order.
func (s *space) relevant(all rules, b box) rules {
	var out rules
	for d, list := range all {
		own, other := b.to, b.from
		if policy.Direction(d) == policy.Egress {
			own, other = b.from, b.to
		}
		for _, r := range list {
			if s.holding(r.own).Meets(own) && s.holding(r.other).Meets(other) && s.fit(r.service).Meets(b.services) {
				out[d] = append(out[d], r)
			}
		}
	}
	return out
}

// narrow returns the space of a box's classes that some rules, and some other
// sets, tell apart.
func (s *space) narrow(b box, addressSets, serviceSets []int, all ...rules) *lens {
	addressMask, serviceMask := bitset.New(len(s.holders)), bitset.New(len(s.fitting))
	for _, some := range all {
		for _, r := range slices.Concat(some[:]...) {
			addressSets, serviceSets = append(addressSets, r.own, r.other), append(serviceSets, r.service)
		}
	}
	for _, n := range addressSets {
		addressMask.Add(n)
	}
	for _, n := range serviceSets {
		if n != everything {
			serviceMask.Add(n)
		}
	}
	l := &lens{space: &space{family: s.family}}
	index := map[string]int{}
	for c := range b.from.Or(b.to).All() {
		in := s.addresses[c].in.And(addressMask)
		n, known := index[in.Key()]
		if !known {
			n = len(l.addresses)
			index[in.Key()] = n
			l.addresses, l.addressesOf = append(l.addresses, addressClass{in: in}), append(l.addressesOf, nil)
		}
		l.addressesOf[n] = append(l.addressesOf[n], c)
	}
	index = map[string]int{}
	for c := range b.services.All() {
		in := s.services[c].in.And(serviceMask)
		n, known := index[in.Key()]
		if !known {
			n = len(l.services)
			index[in.Key()] = n
			l.services, l.servicesOf = append(l.services, serviceClass{in: in}), append(l.servicesOf, nil)
		}
		l.servicesOf[n] = append(l.servicesOf[n], c)
	}
	l.index(len(s.holders), len(s.fitting))
	return l
}

// within returns the classes of the lens that stand for some of the whole. No
// class may stand for others as well.
func (l *lens) within(some bitset.Set) bitset.Set {
	out := bitset.New(len(l.addresses))
	for n, of := range l.addressesOf {
		if some.Has(of[0]) {
			out.Add(n)
		}
	}
	return out
}

// whole returns a product of classes in the whole space.
func (l *lens) whole(s *space, from, to, services bitset.Set) box {
	return box{stand(from, l.addressesOf, len(s.addresses)), stand(to, l.addressesOf, len(s.addresses)), stand(services, l.servicesOf, len(s.services))}
}

// stand returns the classes of the whole space that some stand for.
func stand(some bitset.Set, of [][]int, size int) bitset.Set {
	out := bitset.New(size)
	for n := range some.All() {
		for _, c := range of[n] {
			out.Add(c)
		}
	}
	return out
}

// maxTable bounds the table for the longest common subsequence, about 100 MB.
const maxTable = 25_000_000

// changedRules returns rules of both lists, so that what is left of each is
// the same in the same order: a connection that none of them matches has the
// verdict that it had. There are as few as possible, unless the lists differ
// in too many places.
func changedRules(old, next []rule) []rule {
	for len(old) > 0 && len(next) > 0 && old[0].same(&next[0]) {
		old, next = old[1:], next[1:]
	}
	for len(old) > 0 && len(next) > 0 && old[len(old)-1].same(&next[len(next)-1]) {
		old, next = old[:len(old)-1], next[:len(next)-1]
	}
	if len(old)*len(next) > maxTable {
		return slices.Concat(old, next)
	}
	width := len(next) + 1
	longest := make([]uint32, (len(old)+1)*width) // of the rests behind i, j
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(next) - 1; j >= 0; j-- {
			if old[i].same(&next[j]) {
				longest[i*width+j] = longest[(i+1)*width+j+1] + 1
			} else {
				longest[i*width+j] = max(longest[(i+1)*width+j], longest[i*width+j+1])
			}
		}
	}
	var out []rule
	i, j := 0, 0
	for i < len(old) && j < len(next) {
		switch {
		case old[i].same(&next[j]):
			i, j = i+1, j+1
		case longest[(i+1)*width+j] >= longest[i*width+j+1]:
			out = append(out, old[i])
			i++
		default:
			out = append(out, next[j])
			j++
		}
	}
	return slices.Concat(out, old[i:], next[j:])
}

// boxOf is a box that holds everything that some rules match.
func (s *space) boxOf(changed rules) box {
	b := box{bitset.New(len(s.addresses)), bitset.New(len(s.addresses)), bitset.New(len(s.services))}
	for d, list := range changed {
		for _, r := range list {
			from, to, services := s.holding(r.other), s.holding(r.own), s.fit(r.service)
			if policy.Direction(d) == policy.Egress {
				from, to = to, from
			}
			if !from.Empty() && !to.Empty() && !services.Empty() {
				b = box{b.from.Or(from), b.to.Or(to), b.services.Or(services)}
			}
		}
	}
	return b
}
