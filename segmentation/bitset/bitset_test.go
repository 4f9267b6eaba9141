package bitset_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
)

const n = 130

func of(list []int) bitset.Set {
	s := bitset.New(n)
	for _, i := range list {
		s.Add(i)
	}
	return s
}

// Sets do what lists of numbers do.
func TestSetsAreSets(t *testing.T) {
	numbers := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, 20, rapid.ID[int])
	rapid.Check(t, func(t *rapid.T) {
		a, b := numbers.Draw(t, "a"), numbers.Draw(t, "b")
		slices.Sort(a)
		x, y := of(a), of(b)
		pick := func(keep func(int) bool) (out []int) {
			for i := range n {
				if keep(i) {
					out = append(out, i)
				}
			}
			return out
		}
		in := func(list []int) func(int) bool { return func(i int) bool { return slices.Contains(list, i) } }
		ina, inb := in(a), in(b)
		both := pick(func(i int) bool { return ina(i) && inb(i) })
		either := pick(func(i int) bool { return ina(i) || inb(i) })
		rest := pick(func(i int) bool { return ina(i) && !inb(i) })
		for name, c := range map[string]struct {
			got  bitset.Set
			want []int
		}{"itself": {x, a}, "and": {x.And(y), both}, "or": {x.Or(y), either}, "without": {x.Without(y), rest}} {
			if !slices.Equal(slices.Collect(c.got.All()), c.want) || c.got.Len() != len(c.want) || c.got.Empty() != (len(c.want) == 0) || c.got.Key() != of(c.want).Key() {
				t.Fatalf("%s: %v, want %v", name, slices.Collect(c.got.All()), c.want)
			}
		}
		if x.Common(y) != len(both) || x.Meets(y) != (len(both) > 0) || x.Within(y) != (len(rest) == 0) {
			t.Fatalf("%v and %v: %d common, meets %v, within %v", a, b, x.Common(y), x.Meets(y), x.Within(y))
		}
		for _, i := range a {
			x.Remove(i)
		}
		if !x.Empty() || bitset.Full(n).Len() != n {
			t.Fatal("not empty, or not full")
		}
	})
}
