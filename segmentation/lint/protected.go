package lint

import (
	"fmt"
	"maps"
	"slices"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// guards lists what is protected: what the files say, and what the controller
// protects anyway.
func guards(s *policy.Set, opt Options) []guard {
	var out []guard
	var classes []string
	for _, p := range s.Protected {
		_, known := s.Groups[p.Group]
		if p.Group != "" && !known && slices.Contains(policy.AssetClasses(), p.Group) {
			classes = append(classes, p.Group)
			continue
		}
		out = append(out, guard{name: p.String(), listed: true, peers: []policy.Peer{p}})
	}
	for _, p := range opt.Protected {
		out = append(out, guard{name: policy.Peer{Prefix: p.Masked()}.String(), listed: true, peers: []policy.Peer{{Prefix: p.Masked()}}})
	}
	listed := slices.Clone(classes)
	assets := map[string][]policy.Peer{}
	if opt.Inventory != nil {
		for class, prefixes := range opt.Inventory.Assets {
			for _, p := range prefixes {
				assets[class] = append(assets[class], policy.Peer{Prefix: p.Masked()})
			}
		}
	}
	for class := range assets {
		if !slices.Contains(classes, class) {
			classes = append(classes, class)
		}
	}
	slices.Sort(classes)
	for _, class := range slices.Compact(classes) {
		out = append(out, guard{name: class, class: true, listed: slices.Contains(listed, class), peers: assets[class], anywhere: len(assets[class]) == 0})
	}
	return out
}

// protect tells of a rule that restricts something protected: that denies,
// rejects or limits some connection which no rule before it has decided, if it
// applied to what is protected. When
// the workloads are not known, only what holds for every inventory counts:
// addresses that the policy names, or the whole of what is protected.
func (c *checker) protect(dir *direction, r *rule, res *result) {
	switch r.rule.Action {
	case policy.ActionAllow, policy.ActionPass:
		return
	}
	for g := range dir.w.guards {
		some := false
		var has, spared [2]bool // of each family
		for i := range dir.own {
			if !dir.own[i].guards.Has(g) {
				continue
			}
			hit, family := res.own.Has(i), flag(dir.own[i].v6)
			some = some || hit && (!dir.w.open || !dir.w.kinds[dir.own[i].member].workload)
			has[family], spared[family] = true, spared[family] || !hit
		}
		partly := dir.w.narrow && slices.ContainsFunc(dir.w.guards[g].peers, func(p policy.Peer) bool { return p.Group != "" })
		for family := range has {
			some = some || has[family] && !spared[family] && !partly
		}
		if some {
			c.aboutRule(r.id, SeverityError, KindProtected, fmt.Sprintf("would %s connections of %s, which is protected: leave it out of appliesTo, or allow it before",
				r.rule.Action, dir.w.guards[g].name))
		}
	}
}

// exempt reports whether no policy applies to a class, because the files say
// that it is protected.
func (dir *direction) exempt(own int) bool {
	for g := range dir.own[own].guards.All() {
		if dir.w.guards[g].listed {
			return true
		}
	}
	return false
}

// cutOff is a rule that leaves somebody no way to something protected.
type cutOff struct{ rule, guard int }

// cutOffs tells of workloads that can no longer reach something protected: no
// service of it, or, of name servers, not their own. The emergency tier is
// meant to. Those that manage must reach the workloads as well.
func (c *checker) cutOffs(dir *direction, in []int, staged bool) {
	found := map[cutOff]bool{}
	for own := range dir.own {
		for g := range dir.w.guards {
			if dir.exempt(own) {
				continue
			}
			name := dir.w.guards[g].name
			if dir.own[own].guards.Has(g) || dir.d == policy.Ingress && name != "management" && name != "controllers" {
				continue
			}
			if i := dir.cut(in, own, g); i != nobody && dir.rules[i].policy.Tier != policy.TierEmergency && dir.rules[i].staged == staged {
				found[cutOff{i, g}] = true
			}
		}
	}
	for _, x := range slices.SortedFunc(maps.Keys(found), func(a, b cutOff) int {
		if a.rule != b.rule {
			return a.rule - b.rule
		}
		return a.guard - b.guard
	}) {
		guard := dir.w.guards[x.guard]
		message := fmt.Sprintf("leaves workloads no way to %s, which is protected", guard.name)
		switch {
		case dir.d == policy.Ingress:
			message = fmt.Sprintf("leaves %s, which is protected, no way to workloads", guard.name)
		case guard.name == "dns":
			message = "leaves workloads no way to resolve names: nothing before it allows udp 53 to dns, which is protected"
		}
		c.aboutRule(dir.rules[x.rule].id, SeverityWarning, KindCutOff, message)
	}
}

// cut returns the rule by which a class has no way to something protected, or
// from it, or nobody.
func (dir *direction) cut(in []int, own, g int) int {
	guard := dir.w.guards[g]
	if guard.anywhere && guard.name != "dns" {
		return nobody
	}
	by := nobody
	family := dir.family(own)
	for s, x := range dir.samples {
		if guard.class && guard.name == "dns" && x != dnsSamples()[0] {
			continue
		}
		decides := dir.backward(dir.chain(in, own, s), family, nil, nil)
		reached := false
		for class := range family.All() {
			if !guard.anywhere && !dir.other[class].guards.Has(g) {
				continue
			}
			reached = true
			if i := decides[class]; i == nobody || dir.rules[i].rule.Action.Consents() {
				return nobody
			} else {
				by = i
			}
		}
		if !reached {
			return nobody
		}
	}
	return by
}
