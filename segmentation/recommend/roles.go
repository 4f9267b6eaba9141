package recommend

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

const (
	// rounds bounds how often groups are found by the groups of the peers.
	rounds = 6
	// maxProfiles bounds the distinct hosts that are compared with one
	// another: 16 million pairs. Beyond it, those that differ from all of the
	// commonest stay alone.
	maxProfiles = 4000
	// leastWeight is what a trait counts that everybody has.
	leastWeight = 0.1
)

// roles puts hosts that behave alike into groups.
func (n *network) roles() {
	n.group = make([]int, len(n.nodes))
	for i := range n.group {
		n.group[i] = outside
	}
	active := n.active()
	labels := n.labels(active)
	role := make([]int, len(n.nodes)) // nobody's peers have roles at first
	var before []int
	for range rounds {
		groups := n.round(active, labels, role)
		if slices.Equal(groups, before) {
			break
		}
		before = groups
		for i, node := range active {
			role[node] = groups[i] + 1
		}
	}
	for i, node := range active {
		n.group[node] = before[i]
	}
	n.collect()
}

// collect fills members from group.
func (n *network) collect() {
	n.members = nil
	for node, g := range n.group {
		if g == outside {
			continue
		}
		for len(n.members) <= g {
			n.members = append(n.members, nil)
		}
		n.members[g] = append(n.members[g], node)
	}
}

// active lists the nodes that have something to be told by, in order of their
// names.
func (n *network) active() []int {
	has := map[int]bool{}
	for _, e := range n.edges {
		has[e.from], has[e.to] = true, true
	}
	delete(has, outside)
	delete(has, everybody)
	return slices.SortedFunc(maps.Keys(has), func(a, b int) int { return n.compareNodes(a, b) })
}

func (n *network) compareNodes(a, b int) int {
	x, y := &n.nodes[a], &n.nodes[b]
	return cmp.Or(x.addrs[0].Compare(y.addrs[0]), cmp.Compare(x.name, y.name))
}

// jaccard is the weight of what both have, by that of what either has; false
// where neither has anything.
func jaccard(a, b []int, weight []float64) (float64, bool) {
	both, either := 0.0, 0.0
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0] < b[0]:
			either += weight[a[0]]
			a = a[1:]
		case len(a) == 0 || b[0] < a[0]:
			either += weight[b[0]]
			b = b[1:]
		default:
			both += weight[a[0]]
			either += weight[a[0]]
			a, b = a[1:], b[1:]
		}
	}
	if either == 0 {
		return 0, false
	}
	return both / either, true
}

// weigh gives sets of words numbers, and the words weights by how rare they
// are.
func weigh(sets []map[string]bool) (numbered [][]int, weight []float64) {
	count := map[string]int{}
	for _, s := range sets {
		for w := range s {
			count[w]++
		}
	}
	words := slices.Sorted(maps.Keys(count))
	number := map[string]int{}
	for i, w := range words {
		number[w] = i
		weight = append(weight, max(leastWeight, math.Log(float64(len(sets)+1)/float64(count[w]))))
	}
	for _, s := range sets {
		var list []int
		for w := range s {
			list = append(list, number[w])
		}
		slices.Sort(list)
		numbered = append(numbered, list)
	}
	return numbered, weight
}

// behaviour describes what hosts offer and use, and the roles of those to whom
// and of whom: with the role, and without, lest all be lost on hosts whose peers
// fell into two groups by chance.
func (n *network) behaviour(active []int, role []int) []map[string]bool {
	index := map[int]int{}
	sets := make([]map[string]bool, len(active))
	for i, node := range active {
		index[node], sets[i] = i, map[string]bool{}
	}
	roleOf := func(node int) int {
		if !isHost(node) {
			return node
		}
		return role[node]
	}
	note := func(node, peer int, does string) {
		if isHost(node) && n.regular(node, does) {
			set := sets[index[node]]
			set[does] = true
			set[fmt.Sprintf("%s, %d", does, roleOf(peer))] = true
		}
	}
	for _, e := range n.edges {
		note(e.from, e.to, "uses "+e.service)
		note(e.to, e.from, "offers "+e.service)
	}
	return sets
}

// habit is what a host does, of or for whomever.
type habit struct {
	node int
	does string
}

// fewDoers is how many hosts must do the same for it to be no coincidence.
const fewDoers = 3

// regular reports whether a host does something again and again, as several
// others do, or nothing so: what happened once, to one host, is a coincidence,
// and would part it from its likes.
func (n *network) regular(node int, does string) bool {
	if n.habits == nil {
		n.habits, n.regulars, n.doers = map[habit]uint32{}, map[int]bool{}, map[string]int{}
		note := func(node int, does string, e *edge) {
			if !isHost(node) {
				return
			}
			k := habit{node, does}
			if n.habits[k] == 0 {
				n.doers[does]++
			}
			n.habits[k] += e.conn.Minutes
		}
		for i := range n.edges {
			e := &n.edges[i]
			note(e.from, "uses "+e.service, e)
			note(e.to, "offers "+e.service, e)
		}
		for k, minutes := range n.habits {
			n.regulars[k.node] = n.regulars[k.node] || minutes > 1 || n.doers[k.does] >= fewDoers
		}
	}
	return n.habits[habit{node, does}] > 1 || n.doers[does] >= fewDoers || !n.regulars[node]
}

// labels describes hosts by their labels, without those that name a single
// host each.
func (n *network) labels(active []int) []map[string]bool {
	values := map[string]map[string]int{}
	for _, node := range active {
		if w := n.nodes[node].workload; w != nil {
			for k, v := range w.Labels {
				if values[k] == nil {
					values[k] = map[string]int{}
				}
				values[k][v]++
			}
		}
	}
	names := func(key string) bool { // as a serial number does
		all := 0
		for _, count := range values[key] {
			all += count
		}
		return len(values[key]) > 4 && len(values[key])*10 > all*9
	}
	sets := make([]map[string]bool, len(active))
	for i, node := range active {
		sets[i] = map[string]bool{}
		if w := n.nodes[node].workload; w != nil {
			for k, v := range w.Labels {
				if !names(k) {
					sets[i][k+"="+v] = true
				}
			}
		}
	}
	return sets
}

// profile is what hosts that are exactly alike have in common.
type profile struct {
	hosts []int // of active
	does  []int
	is    []int
}

// round finds groups, with the roles that peers have so far.
func (n *network) round(active []int, labels []map[string]bool, role []int) []int {
	does, doesWeight := weigh(n.behaviour(active, role))
	is, isWeight := weigh(labels)
	profiles := profilesOf(does, is)
	compared := profiles[:min(len(profiles), maxProfiles)]
	weights := make([]float64, len(compared))
	for i, p := range compared {
		weights[i] = float64(len(p.hosts))
	}
	found := cluster(weights, func(i, j int) float64 {
		like, _ := jaccard(compared[i].does, compared[j].does, doesWeight)
		if len(compared[i].is) == 0 || len(compared[j].is) == 0 {
			return like
		}
		labels, _ := jaccard(compared[i].is, compared[j].is, isWeight)
		return (like + labels) / 2
	}, similar)
	out := make([]int, len(active))
	for i, p := range profiles {
		g := len(compared) + i // alone
		if i < len(found) {
			g = found[i]
		}
		for _, host := range p.hosts {
			out[host] = g
		}
	}
	return renumber(out)
}

// profilesOf joins hosts that are exactly alike, the commonest first.
func profilesOf(does, is [][]int) []*profile {
	byKey := map[string]*profile{}
	var out []*profile
	for i := range does {
		key := fmt.Sprint(does[i], is[i])
		p := byKey[key]
		if p == nil {
			p = &profile{does: does[i], is: is[i]}
			byKey[key] = p
			out = append(out, p)
		}
		p.hosts = append(p.hosts, i)
	}
	slices.SortStableFunc(out, func(a, b *profile) int { return cmp.Compare(len(b.hosts), len(a.hosts)) })
	return out
}

// renumber numbers groups in the order of their first members.
func renumber(groups []int) []int {
	next := map[int]int{}
	for i, g := range groups {
		if _, has := next[g]; !has {
			next[g] = len(next)
		}
		groups[i] = next[g]
	}
	return groups
}

// split takes groups apart by a label that all observed connections of a
// service between two of them keep to: copies of one application.
func (n *network) split() {
	type between struct {
		from, to int
		service  string
	}
	edges := map[between][]edge{}
	for _, e := range n.edges {
		if isHost(e.from) && isHost(e.to) {
			k := between{n.group[e.from], n.group[e.to], e.service}
			edges[k] = append(edges[k], e)
		}
	}
	by := map[int]map[string]bool{} // keys by which a group is split
	for k, list := range edges {
		for _, key := range n.keeps(n.members[k.from], n.members[k.to], list) {
			for _, g := range []int{k.from, k.to} {
				if by[g] == nil {
					by[g] = map[string]bool{}
				}
				by[g][key] = true
			}
		}
	}
	parts := map[string]int{}
	for _, node := range slices.SortedFunc(slices.Values(n.active()), n.compareNodes) {
		g := n.group[node]
		id := []string{fmt.Sprint(g)}
		for _, key := range slices.Sorted(maps.Keys(by[g])) {
			id = append(id, n.nodes[node].workload.Labels[key])
		}
		word := strings.Join(id, "\x00")
		if _, has := parts[word]; !has {
			parts[word] = len(parts)
		}
		n.group[node] = parts[word]
	}
	n.collect()
}

// keeps lists the labels that two groups have with several values in common,
// and by which no connection goes from one value to another.
func (n *network) keeps(from, to []int, list []edge) []string {
	value := func(node int, key string) (string, bool) {
		w := n.nodes[node].workload
		if w == nil {
			return "", false
		}
		v, has := w.Labels[key]
		return v, has
	}
	values := func(nodes []int, key string) map[string]bool {
		out := map[string]bool{}
		for _, node := range nodes {
			v, has := value(node, key)
			if !has {
				return nil
			}
			out[v] = true
		}
		return out
	}
	if n.nodes[from[0]].workload == nil {
		return nil
	}
	var out []string
	for key := range n.nodes[from[0]].workload.Labels {
		a, b := values(from, key), values(to, key)
		common := 0
		for v := range a {
			if b[v] {
				common++
			}
		}
		// A value each would be a serial number.
		if common < 2 || len(a) > len(from)/2 && len(from) > 4 {
			continue
		}
		seen := map[string]bool{}
		crosses := slices.ContainsFunc(list, func(e edge) bool {
			x, _ := value(e.from, key)
			y, _ := value(e.to, key)
			seen[x] = true
			return x != y
		})
		if !crosses && len(seen) >= 2 {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
