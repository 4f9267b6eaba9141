package prove

import (
	"cmp"
	"container/heap"
	"maps"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
)

// naming chooses names for sets of classes.
type naming struct {
	named  []named        // the largest first, equal ones by name
	single map[int]string // the first name of a class that has one of its own
	alone  bitset.Set     // these classes
}

type named struct {
	name    string
	classes bitset.Set
	gain    int // how many classes it adds, at most
}

func (a named) compare(b named) int { return cmp.Or(b.gain-a.gain, cmp.Compare(a.name, b.name)) }

func newNaming(sets map[string]int, classes []bitset.Set, size int) *naming {
	n := &naming{single: map[int]string{}, alone: bitset.New(size)}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		x := named{name, classes[sets[name]], classes[sets[name]].Len()}
		switch x.gain {
		case 0:
		case 1:
			for class := range x.classes.All() {
				if !n.alone.Has(class) {
					n.alone.Add(class)
					n.single[class] = name
				}
			}
		default:
			n.named = append(n.named, x)
		}
	}
	slices.SortFunc(n.named, named.compare)
	return n
}

// cover chooses named sets that lie within some classes, the one that adds
// most first, the first by name of several, and returns what none of them
// holds. It gives up, and ok is false, if that takes more names than most.
func (n *naming) cover(some bitset.Set, most int) (terms []string, rest bitset.Set, ok bool) {
	rest = some.Clone()
	next := n.named // nothing of them is known but their size
	var again queue // what adds less than it holds, since others were chosen
	for len(next) > 0 || len(again) > 0 {
		var x named
		if len(again) == 0 || len(next) > 0 && next[0].compare(again[0]) < 0 {
			x, next = next[0], next[1:]
			if !x.classes.Within(some) {
				continue
			}
		} else {
			x = heap.Pop(&again).(named)
		}
		switch gain := x.classes.Common(rest); {
		case gain == 0:
			continue
		case gain < x.gain:
			x.gain = gain
			heap.Push(&again, x)
			continue
		case gain == 1: // and no other adds more
			heap.Push(&again, x)
			return n.one(terms, rest, again, most)
		}
		if terms, rest = append(terms, x.name), rest.Without(x.classes); len(terms) > most {
			return nil, nil, false
		}
	}
	return n.one(terms, rest, nil, most)
}

// one goes on where no set adds more than one class: each is given the first
// of its names.
func (n *naming) one(terms []string, rest bitset.Set, again queue, most int) ([]string, bitset.Set, bool) {
	if len(terms)+n.alone.Common(rest) > most {
		return nil, nil, false
	}
	by := map[int]string{}
	for class := range rest.And(n.alone).All() {
		by[class] = n.single[class]
	}
	for _, x := range again {
		for class := range x.classes.And(rest).All() {
			if name, has := by[class]; !has || x.name < name {
				by[class] = x.name
			}
		}
	}
	rest = rest.Clone()
	for class := range by {
		rest.Remove(class)
	}
	terms = append(terms, slices.Sorted(maps.Values(by))...)
	return terms, rest, len(terms) <= most
}

// queue is a heap of sets, the one that adds most first.
type queue []named

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push is for package heap.
func (q *queue) Push(x any) { *q = append(*q, x.(named)) }

// Pop is for package heap.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
