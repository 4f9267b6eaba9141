package compile

import (
	"fmt"
	"slices"
	"sort"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// rank gives rules, which stand in the order in which they decide, rising
// ranks below MaxRank. As many as possible keep the rank they had: those of a
// longest rising subsequence, while the others find room between them.
func rank(order []policy.RuleID, had map[policy.RuleID]uint16) (map[policy.RuleID]uint16, error) {
	if len(order) >= MaxRank {
		return nil, fmt.Errorf("%d rules in one tier and direction, at most %d are possible", len(order), MaxRank-1)
	}
	out := make(map[policy.RuleID]uint16, len(order))
	lo, from := -1, 0 // behind this rank, from this place on, nothing is placed yet
	place := func(to, hi int) bool {
		n := to - from
		if hi-lo-1 < n {
			return false
		}
		for i := range n {
			out[order[from+i]] = uint16(lo + (hi-lo)*(i+1)/(n+1))
		}
		return true
	}
	for _, i := range keepers(order, had) {
		r := int(had[order[i]])
		if !place(i, r) {
			return renumber(order), nil
		}
		out[order[i]] = uint16(r)
		lo, from = r, i+1
	}
	if !place(len(order), MaxRank) {
		return renumber(order), nil
	}
	return out, nil
}

// renumber spreads ranks evenly.
func renumber(order []policy.RuleID) map[policy.RuleID]uint16 {
	out := make(map[policy.RuleID]uint16, len(order))
	for i, id := range order {
		out[id] = uint16((i + 1) * MaxRank / (len(order) + 1))
	}
	return out
}

// keepers returns the places of a longest subsequence whose ranks rise
// (patience sorting; M. L. Fredman, 1975).
func keepers(order []policy.RuleID, had map[policy.RuleID]uint16) []int {
	var tails []int // of the best subsequence of each length, the place of its last
	before := make([]int, len(order))
	for i, id := range order {
		r, ok := had[id]
		if !ok {
			continue
		}
		n := sort.Search(len(tails), func(k int) bool { return had[order[tails[k]]] >= r })
		before[i] = -1
		if n > 0 {
			before[i] = tails[n-1]
		}
		if n == len(tails) {
			tails = append(tails, i)
		} else {
			tails[n] = i
		}
	}
	if len(tails) == 0 {
		return nil
	}
	out := make([]int, 0, len(tails))
	for i := tails[len(tails)-1]; i >= 0; i = before[i] {
		out = append(out, i)
	}
	slices.Reverse(out)
	return out
}
