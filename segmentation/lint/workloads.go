package lint

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Values that no selector names.
const otherValue = "\x00"

// states lists the sets of groups that one workload could be selected by,
// whatever its labels, its MAC and its place. It goes through these one after
// the other, and keeps what groups are left; ok is false when there are too
// many.
func (b *builder) states() ([]bitset.Set, bool) {
	all := bitset.New(len(b.w.names))
	for i, name := range b.w.names {
		if g := b.w.set.Groups[name]; g.ByWorkload() {
			all.Add(i)
		}
	}
	states := map[string]bitset.Set{all.Key(): all}
	for _, choices := range b.choices() {
		next := map[string]bitset.Set{}
		for _, s := range states {
			for _, lost := range choices {
				left := slices.Clone(s)
				left.RemoveAll(lost)
				next[left.Key()] = left
			}
		}
		if len(next) > maxStates {
			return nil, false
		}
		states = next
	}
	out := make([]bitset.Set, 0, len(states))
	for _, key := range slices.Sorted(maps.Keys(states)) {
		out = append(out, states[key])
	}
	return out, true
}

// choices lists, for each property of a workload, the groups that each of its
// values is not for.
func (b *builder) choices() [][]bitset.Set {
	keys := map[string]map[string]bool{}
	macs, places := map[flow.MAC]bool{{}: true}, map[string]bool{"/": true}
	for _, name := range b.w.names {
		g := b.w.set.Groups[name]
		for key, want := range g.Selector {
			if keys[key] == nil {
				keys[key] = map[string]bool{otherValue: true}
			}
			for v := range strings.SplitSeq(strings.TrimLeft(want, "*!"), "|") {
				keys[key][v] = true
			}
		}
		for _, m := range g.MACs {
			macs[m] = true
		}
		for _, p := range g.Ports {
			if !strings.Contains(p, "/") {
				p = otherValue + "/" + p
			} else {
				_, port, _ := strings.Cut(p, "/")
				places[otherValue+"/"+port] = true
			}
			places[p] = true
		}
	}
	var out [][]bitset.Set
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		loss := b.losses(func(g *policy.Group) { *g = policy.Group{Selector: only(g.Selector, key)} })
		choices := []bitset.Set{loss(&policy.Workload{})} // without the label
		for v := range keys[key] {
			choices = append(choices, loss(&policy.Workload{Labels: map[string]string{key: v}}))
		}
		out = append(out, distinct(choices))
	}
	var ofMAC, ofPlace []bitset.Set
	loss := b.losses(func(g *policy.Group) { *g = policy.Group{MACs: g.MACs} })
	for m := range macs {
		ofMAC = append(ofMAC, loss(&policy.Workload{MAC: m}))
	}
	loss = b.losses(func(g *policy.Group) { *g = policy.Group{Ports: g.Ports} })
	for p := range places {
		sw, port, _ := strings.Cut(p, "/")
		ofPlace = append(ofPlace, loss(&policy.Workload{Switch: sw, Port: port}))
	}
	return append(out, distinct(ofMAC), distinct(ofPlace))
}

// losses makes a function that lists the groups which, reduced to one of
// their keys, do not select a workload.
func (b *builder) losses(reduce func(*policy.Group)) func(*policy.Workload) bitset.Set {
	groups := make([]policy.Group, len(b.w.names))
	for i, name := range b.w.names {
		groups[i] = b.w.set.Groups[name]
		reduce(&groups[i])
	}
	return func(w *policy.Workload) bitset.Set {
		out := bitset.New(len(groups))
		for i := range groups {
			if !groups[i].Selects(w, time.Time{}) {
				out.Add(i)
			}
		}
		return out
	}
}

func only(selector map[string]string, key string) map[string]string {
	if want, has := selector[key]; has {
		return map[string]string{key: want}
	}
	return nil
}

// distinct leaves out sets that are there already.
func distinct(list []bitset.Set) []bitset.Set {
	byKey := map[string]bitset.Set{}
	for _, s := range list {
		byKey[s.Key()] = s
	}
	out := make([]bitset.Set, 0, len(byKey))
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		out = append(out, byKey[key])
	}
	return out
}
