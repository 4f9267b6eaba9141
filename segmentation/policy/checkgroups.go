package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

func (r *reader) checkGroups() {
	for _, name := range slices.Sorted(maps.Keys(r.groups)) {
		at := r.groups[name]
		want := r.at(at.doc, at.path)
		g := r.set.Groups[name]
		checkName(want, "", name)
		_, isAddress, _ := parsePrefix(name)
		want(!isAddress, "", "the name %s is an address", name)
		want(name != Any, "", "the name any stands for every address")
		want(!slices.Contains(AssetClasses(), name), "", "the name %s stands for what the controller protects", name)
		r.group(want, &g)
	}
	if len(r.groups) > maxNames {
		r.at(r.parts[0].doc, "")(false, "groups", "%d groups, at most %d are allowed", len(r.groups), maxNames)
	}
	r.checkNesting()
}

func (r *reader) group(want check, g *Group) {
	notEmpty(want, "ports", g.Ports)
	notEmpty(want, "macs", g.MACs)
	notEmpty(want, "cidrs", g.CIDRs)
	notEmpty(want, "except", g.Except)
	notEmpty(want, "groups", g.Groups)
	want(g.Selector == nil || len(g.Selector) > 0, "selector", "is empty; leave it out")
	joins := len(g.Groups) > 0
	says := g.ByWorkload() || len(g.CIDRs) > 0 || g.Intel != ""
	want(!joins || !says && g.During == nil, "groups", "stands alone but for except: make a group of the rest and join that")
	want(joins || says, "", "says of nobody that it belongs to the group")
	for _, key := range slices.Sorted(maps.Keys(g.Selector)) {
		r.selector(want.under("selector."+key), key, g.Selector[key])
	}
	for i, p := range g.Ports {
		want(placeForm.MatchString(p), fmt.Sprintf("ports[%d]", i), `%q is not "port" or "switch/port"`, p)
	}
	for i, m := range g.MACs {
		want(!m.IsZero(), fmt.Sprintf("macs[%d]", i), "needs an Ethernet address")
	}
	want(g.Intel == "" || nameForm.MatchString(g.Intel), "intel", "%q is not a name of letters, digits and . _ -", g.Intel)
	if g.During != nil {
		g.During.check(want.under("during"))
	}
	for i, name := range g.Groups {
		if _, known := r.set.Groups[name]; !known {
			want(false, fmt.Sprintf("groups[%d]", i), "there is no group %q%s", name, meant(name, r.set.Groups))
		}
	}
}

// selector checks what is wanted of one label.
func (r *reader) selector(want check, key, value string) {
	want(key != "" && len(key) <= maxName && printable(key), "", "%q is not the name of a label", key)
	want(len(value) <= maxText && printable(value), "", "%q is not the value of a label", value)
	bare, _ := strings.CutPrefix(value, "!")
	if bare != "*" {
		bare, _ = strings.CutPrefix(value, "*!")
		bare, _ = strings.CutPrefix(bare, "!")
		want(!strings.ContainsAny(bare, "!*"), "", `%q: a value is "*", "a|b", "!a|b", "*!a|b" or "!*"`, value)
	}
}

// checkNesting finds groups that join themselves, and piles of groups.
func (r *reader) checkNesting() {
	levels := map[string]int{} // of groups that are done
	open := map[string]bool{}
	var visit func(name string) int
	visit = func(name string) int {
		if n, done := levels[name]; done {
			return n
		}
		if open[name] {
			at := r.groups[name]
			r.at(at.doc, at.path)(false, "groups", "%s is joined into itself", name)
			return 0
		}
		open[name] = true
		deepest := 0
		for _, sub := range r.set.Groups[name].Groups {
			if _, known := r.groups[sub]; known {
				deepest = max(deepest, visit(sub))
			}
		}
		open[name] = false
		levels[name] = deepest + 1
		return deepest + 1
	}
	for _, name := range slices.Sorted(maps.Keys(r.groups)) {
		at := r.groups[name]
		n := visit(name)
		r.at(at.doc, at.path)(n <= maxGroupLevels, "groups", "groups within groups, %d deep, at most %d are allowed", n, maxGroupLevels)
	}
}
