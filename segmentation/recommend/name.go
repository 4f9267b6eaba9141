package recommend

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Names of groups that are not roles.
const (
	outsideName = "outside"
	quietName   = "quiet"
)

// name gives every party of the rules a name, whole groups first.
func (n *network) name() {
	taken := map[string]bool{policy.Any: true, outsideName: true, quietName: true}
	for _, word := range policy.AssetClasses() {
		taken[word] = true
	}
	var parties []*party
	for _, b := range n.rules {
		for _, p := range []*party{b.from, b.to} {
			if isHost(p.group) && !slices.Contains(parties, p) {
				parties = append(parties, p)
			}
		}
	}
	for g := range n.members { // also those whose rules are too rare
		if !slices.ContainsFunc(parties, func(p *party) bool { return p.group == g && !p.part }) {
			parties = append(parties, &party{group: g, members: n.members[g]})
		}
	}
	slices.SortStableFunc(parties, func(a, b *party) int {
		return cmp.Or(compareBool(a.part, b.part), n.compareNodes(a.members[0], b.members[0]), cmp.Compare(len(b.members), len(a.members)))
	})
	whole := map[int]string{}
	for _, p := range parties {
		p.name = unique(taken, n.nameOf(p, whole))
		if !p.part {
			whole[p.group] = p.name
		}
	}
	n.parties = parties
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// nameOf says what a party is best called.
func (n *network) nameOf(p *party, whole map[int]string) string {
	if selector, ok := n.explain(p.members); ok {
		var words []string
		for _, key := range slices.Sorted(maps.Keys(selector)) {
			words = append(words, strings.ReplaceAll(selector[key], "|", "-or-"))
		}
		return clean(strings.Join(words, "-"))
	}
	if len(p.members) == 1 {
		return clean(n.nodes[p.members[0]].name)
	}
	if p.part {
		return whole[p.group] + "-part"
	}
	return n.nameOfRole(p)
}

// nameOfRole names a group by what it offers, or else by what it uses, that
// others do not.
func (n *network) nameOfRole(p *party) string {
	var offers, uses = map[string]map[int]bool{}, map[string]map[int]bool{}
	note := func(to map[string]map[int]bool, service string, node int) {
		if to[service] == nil {
			to[service] = map[int]bool{}
		}
		to[service][node] = true
	}
	for _, e := range n.edges {
		if isHost(e.to) {
			note(offers, e.service, e.to)
		}
		if isHost(e.from) {
			note(uses, e.service, e.from)
		}
	}
	if s, ok := n.typical(p, offers); ok {
		return clean(s + "-servers")
	}
	if s, ok := n.typical(p, uses); ok {
		return clean(s + "-clients")
	}
	return "hosts"
}

// typical is the service of most members that fewest others have to do with.
func (n *network) typical(p *party, has map[string]map[int]bool) (string, bool) {
	active := float64(len(n.active()))
	best, found := 0.3, ""
	for _, s := range slices.Sorted(maps.Keys(has)) {
		members := 0.0
		for _, m := range p.members {
			if has[s][m] {
				members++
			}
		}
		if score := members / float64(len(p.members)) * math.Log((active+1)/float64(len(has[s]))); score > best {
			best, found = score, s
		}
	}
	return found, found != ""
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// clean makes a word that can be a group's name.
func clean(s string) string {
	s = strings.Trim(notInNames.ReplaceAllString(s, "-"), "._-")
	if _, err := netip.ParseAddr(s); err == nil || s == "" {
		s = "host-" + s
	}
	return strings.Trim(s[:min(len(s), 60)], "._-")
}

// unique is a name that nobody has yet.
func unique(taken map[string]bool, name string) string {
	if taken[name] && !taken[name+"-hosts"] {
		name += "-hosts"
	}
	for i, base := 2, name; taken[name]; i++ {
		name = fmt.Sprintf("%s-%d", base, i)
	}
	taken[name] = true
	return name
}

const (
	// maxKeys and maxValues bound a selector that people would still read.
	maxKeys, maxValues = 3, 4
)

// explain finds the shortest selector that holds exactly these of all hosts
// that were seen.
func (n *network) explain(members []int) (map[string]string, bool) {
	keys := n.sharedKeys(members)
	var best map[string]string
	var cost int
	var try func(from int, chosen []string)
	try = func(from int, chosen []string) {
		if len(chosen) > 0 {
			selector, c := n.selector(members, chosen)
			if selector != nil && (best == nil || c < cost) && !n.holdsOthers(selector, members) {
				best, cost = selector, c
			}
		}
		if len(chosen) == maxKeys {
			return
		}
		for i := from; i < len(keys); i++ {
			try(i+1, append(chosen[:len(chosen):len(chosen)], keys[i]))
		}
	}
	try(0, nil)
	return best, best != nil
}

// maxLabels bounds the labels that are tried.
const maxLabels = 16

// sharedKeys lists the labels that all of some hosts have.
func (n *network) sharedKeys(members []int) []string {
	if len(members) == 0 || n.nodes[members[0]].workload == nil {
		return nil
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(n.nodes[members[0]].workload.Labels)) {
		all := !slices.ContainsFunc(members, func(m int) bool {
			w := n.nodes[m].workload
			if w == nil {
				return true
			}
			v, has := w.Labels[key]
			return !has || v == "" || strings.ContainsAny(v, "!|*")
		})
		if all && len(out) < maxLabels {
			out = append(out, key)
		}
	}
	return out
}

// selector takes the members' values of some labels; nil when they are too
// many. It costs what there is to read.
func (n *network) selector(members []int, keys []string) (map[string]string, int) {
	out, cost := map[string]string{}, 0
	for _, key := range keys {
		values := map[string]bool{}
		for _, m := range members {
			values[n.nodes[m].workload.Labels[key]] = true
		}
		if len(values) > maxValues || len(values) == len(members) && len(members) > 1 {
			return nil, 0 // a list of them in other words
		}
		out[key] = strings.Join(slices.Sorted(maps.Keys(values)), "|")
		cost += 1 + len(values)
	}
	return out, cost
}

// holdsOthers reports whether a selector also holds hosts of another group.
func (n *network) holdsOthers(selector map[string]string, members []int) bool {
	g := policy.Group{Selector: selector}
	for i := range n.nodes {
		if w := n.nodes[i].workload; w != nil && n.group[i] != outside && !slices.Contains(members, i) && g.Selects(w, anyTime()) {
			return true
		}
	}
	return false
}
