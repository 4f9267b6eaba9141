package compile

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/bitset"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Compiler compiles policies again and again, and lets as much as possible of
// a program be as it was in the one before: classes keep their numbers and
// rules their ranks. Where only workloads have changed, it looks at those
// alone. It is for one goroutine at a time.
type Compiler struct {
	pol    *policy.Set
	active string // which policies and groups are in force
	feeds  string

	groups    *groups
	addresses addressSets
	services  serviceSets
	rules     []draft
	inv       []policy.Workload

	classes map[string]Class // by the unions that hold an address
	vectors map[Class]bitset.Set
	fresh   bool // there are classes that rules do not know
	last    Class
	ranks   map[policy.RuleID]uint16
	program *Program
}

// draft is a rule whose dimensions are unions and lists, -1 for everything.
type draft struct {
	rule                       Rule
	opener, responder, service int
}

// New returns a compiler.
func New() *Compiler { return &Compiler{} }

// Compile returns the program of the enforced policies that are active at a
// time. The set must come from policy.Read. Neither it nor the inventory may be
// changed behind the compiler's back: whether they are others is told by where
// they stand. Rules
// never restrict what is protected: what a policy applies to is without it. An
// error leaves the compiler as it was.
func (c *Compiler) Compile(pol *policy.Set, inv policy.Inventory, now time.Time) (*Program, error) {
	active, feeds := activity(pol, now), feedKey(&inv, pol)
	if c.program != nil && c.pol == pol && c.active == active && c.feeds == feeds && len(c.vectors) < 2*len(c.program.Endpoints)+1024 { // else forget classes that nobody has
		return c.update(inv), nil
	}
	next := &Compiler{pol: pol, active: active, feeds: feeds, last: c.last, ranks: c.ranks, program: c.program,
		addresses: addressSets{index: map[string]int{}}, services: serviceSets{index: map[string]int{}},
		classes: map[string]Class{}, vectors: map[Class]bitset.Set{}}
	if err := next.all(inv, now); err != nil {
		return nil, err
	}
	*c = *next
	return c.program, nil
}

// activity tells which policies and groups are in force at a time.
func activity(pol *policy.Set, now time.Time) string {
	var out []byte
	for i := range pol.Policies {
		if p := &pol.Policies[i]; p.Active(now) {
			out = append(out, '1')
		} else {
			out = append(out, '0')
		}
	}
	for _, name := range slices.Sorted(maps.Keys(pol.Groups)) {
		if d := pol.Groups[name].During; d != nil && d.Covers(now) {
			out = append(out, name...)
			out = append(out, '\n')
		}
	}
	return string(out)
}

// all compiles everything anew.
func (c *Compiler) all(inv policy.Inventory, now time.Time) (err error) {
	if c.groups, err = newGroups(c.pol, &inv, now); err != nil {
		return fmt.Errorf("compile policies: %w", err)
	}
	if err := c.drafts(now); err != nil {
		return fmt.Errorf("compile policies: %w", err)
	}
	was := &Program{}
	if c.program != nil {
		was = c.program
	}
	p := &Program{Endpoints: map[netip.Prefix]Class{}, Services: c.serviceClasses(was)}
	has := c.having(c.setWorkloads(inv))
	c.program = p
	c.number(was, has)
	c.finish(p)
	return nil
}

// drafts collects the rules that are in force, and gives them their ranks.
func (c *Compiler) drafts(now time.Time) error {
	order := map[[2]uint8][]policy.RuleID{}
	for i := range c.pol.Policies {
		p := &c.pol.Policies[i]
		if p.Mode != policy.ModeEnforce || !p.Active(now) {
			continue
		}
		for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
			rules := p.Rules(d)
			for j := range rules {
				r, err := c.draft(p, d, &rules[j])
				if err != nil {
					return fmt.Errorf("policy %q, rule %q: %w", p.Name, rules[j].Name, err)
				}
				side := [2]uint8{uint8(p.Tier), uint8(d)}
				order[side] = append(order[side], r.rule.ID)
				c.rules = append(c.rules, r)
			}
		}
	}
	ranks := map[policy.RuleID]uint16{}
	for _, ids := range order {
		some, err := rank(ids, c.ranks)
		if err != nil {
			return err
		}
		maps.Copy(ranks, some)
	}
	c.ranks = ranks
	return nil
}

func (c *Compiler) draft(p *policy.Policy, d policy.Direction, r *policy.Rule) (out draft, err error) {
	out.rule = Rule{ID: policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}, Tier: p.Tier, Action: r.Action,
		Established: p.Established, Mirror: r.Mirror, Log: r.Log}
	if r.Rate != nil {
		out.rule.Rate = *r.Rate
	}
	dimension := func(n int, any bool, err2 error) int {
		if err2 != nil {
			err = err2
		}
		if any {
			return -1
		}
		return n
	}
	own := dimension(c.addresses.add(c.groups, p.AppliesTo, c.pol.Protected))
	other := dimension(c.addresses.add(c.groups, r.Peers(d), nil))
	out.service = dimension(c.services.add(c.pol, r.Services))
	out.opener, out.responder = other, own
	if d == policy.Egress {
		out.opener, out.responder = own, other
	}
	return out, err
}

// own is the union on whose side the rule stands.
func (d *draft) own() int {
	if d.rule.ID.Direction == policy.Egress {
		return d.opener
	}
	return d.responder
}

// setWorkloads takes over an inventory, and says whose addresses may mean
// something else now.
func (c *Compiler) setWorkloads(inv policy.Inventory) (changed map[netip.Addr]bool) {
	changed = map[netip.Addr]bool{}
	if n := len(inv.Workloads); n == len(c.inv) && (n == 0 || &inv.Workloads[0] == &c.inv[0]) {
		return changed // the same one
	}
	touch := func(w *policy.Workload) {
		for _, a := range w.Addrs {
			changed[a] = true
		}
	}
	next := inv.Workloads
	for i := range next {
		if i < len(c.inv) && c.inv[i].Name == next[i].Name { // most stand where they stood
			if !sameWorkload(&c.inv[i], &next[i]) {
				touch(&c.inv[i])
				touch(&next[i])
			}
			continue
		}
		touch(&next[i])
		if i < len(c.inv) {
			touch(&c.inv[i])
		}
	}
	for i := len(next); i < len(c.inv); i++ {
		touch(&c.inv[i])
	}
	c.inv = next
	return changed
}

// having returns the workloads that have one of some addresses.
func (c *Compiler) having(addrs map[netip.Addr]bool) map[netip.Addr][]*policy.Workload {
	out := make(map[netip.Addr][]*policy.Workload, len(addrs))
	for i := range c.inv {
		for _, a := range c.inv[i].Addrs {
			if addrs[a] {
				out[a] = append(out[a], &c.inv[i])
			}
		}
	}
	return out
}

// serviceClasses numbers the services.
func (c *Compiler) serviceClasses(was *Program) map[ServiceMatch]Class {
	regions := c.services.regions()
	ids := numbering{had: was.Services, taken: map[Class]bool{}, by: map[string]Class{}, next: &c.last}
	out := make(map[ServiceMatch]Class, len(regions))
	lists := make([][]Class, len(c.services.lists))
	for _, keep := range []bool{true, false} {
		for _, r := range regions {
			if n, ok := numberOf(&ids, r.match, r.in.Key(), keep); ok {
				out[r.match] = n
			}
		}
	}
	seen := map[Class]bool{}
	for _, r := range regions {
		n := out[r.match]
		if seen[n] {
			continue
		}
		seen[n] = true
		for i := range r.in.All() {
			lists[i] = append(lists[i], n)
		}
	}
	for i := range c.rules {
		d := &c.rules[i]
		if d.service >= 0 {
			slices.Sort(lists[d.service])
			d.rule.Service = lists[d.service]
		}
	}
	return out
}

// numbering gives equal members one class, the one that they had before where
// that is free.
type numbering struct {
	had   any
	taken map[Class]bool
	by    map[string]Class
	next  *Class
}

func numberOf[K comparable](n *numbering, k K, key string, keep bool) (Class, bool) {
	if id, ok := n.by[key]; ok {
		return id, true
	}
	had, _ := n.had.(map[K]Class)
	id, ok := had[k]
	switch {
	case ok && id != 0 && !n.taken[id]:
	case keep:
		return 0, false
	default:
		*n.next++
		id = *n.next
	}
	n.taken[id] = true
	n.by[key] = id
	return id, true
}

// number gives all addresses their classes. First those that can keep the
// number that they had.
func (c *Compiler) number(was *Program, workloads map[netip.Addr][]*policy.Workload) {
	type place struct {
		p  netip.Prefix
		in bitset.Set
	}
	var places []place
	vectors := map[string]bitset.Set{} // a memory, by the groups
	union := func(in bitset.Set) bitset.Set {
		key := in.Key()
		v, ok := vectors[key]
		if !ok {
			v = c.addresses.of(in)
			vectors[key] = v
		}
		return v
	}
	for _, p := range c.groups.prefixes() {
		places = append(places, place{p, union(c.groups.of(p.Addr(), p.Bits(), nil))})
	}
	for a, has := range workloads {
		places = append(places, place{single(a), union(c.groups.of(a, a.BitLen(), has))})
	}
	slices.SortStableFunc(places, func(a, b place) int { return comparePrefix(a.p, b.p) })
	ids := numbering{had: was.Endpoints, taken: map[Class]bool{}, by: c.classes, next: &c.last}
	for _, keep := range []bool{true, false} {
		for _, x := range places {
			if x.in.Empty() {
				continue
			}
			if id, ok := numberOf(&ids, x.p, x.in.Key(), keep); ok {
				c.vectors[id] = x.in
			}
		}
	}
	for _, x := range places { // those that hold others first
		c.place(c.program.Endpoints, x.p, c.class(x.in))
	}
}

// class returns the class of addresses that some unions hold, a new one if
// there is none.
func (c *Compiler) class(in bitset.Set) Class {
	if in.Empty() {
		return 0
	}
	key := in.Key()
	id, ok := c.classes[key]
	if !ok {
		c.last++
		id = c.last
		c.classes[key], c.vectors[id], c.fresh = id, in, true
	}
	return id
}

// place gives a prefix its class, unless it has it by what holds it.
func (c *Compiler) place(endpoints map[netip.Prefix]Class, p netip.Prefix, id Class) {
	if id == c.inherited(endpoints, p) {
		delete(endpoints, p)
		return
	}
	endpoints[p] = id
}

// inherited is the class that a prefix has if it has none of its own.
func (c *Compiler) inherited(endpoints map[netip.Prefix]Class, p netip.Prefix) Class {
	for bits := p.Bits() - 1; bits >= 0; {
		up, ok := c.groups.holder(p.Addr(), bits)
		if !ok {
			return 0
		}
		if id, ok := endpoints[up]; ok {
			return id
		}
		bits = up.Bits() - 1
	}
	return 0
}

// update compiles what changed with the workloads.
func (c *Compiler) update(inv policy.Inventory) *Program {
	changed := c.setWorkloads(inv)
	if len(changed) == 0 {
		return c.program
	}
	p := *c.program
	p.Endpoints = maps.Clone(p.Endpoints)
	has := c.having(changed)
	for a := range changed {
		at := single(a)
		if has[a] == nil && c.groups.static[at] == nil {
			delete(p.Endpoints, at)
			continue
		}
		c.place(p.Endpoints, at, c.class(c.addresses.of(c.groups.of(a, a.BitLen(), has[a]))))
	}
	if c.fresh {
		c.finish(&p)
	} else {
		p.Tracked = c.retrack(&p, changed)
	}
	c.program = &p
	return &p
}

// finish gives rules the classes that exist, and says what is to be tracked.
func (c *Compiler) finish(p *Program) {
	c.fresh = false
	lists := make([][]Class, len(c.addresses.lists))
	for id, in := range c.vectors {
		for i := range in.All() {
			lists[i] = append(lists[i], id)
		}
	}
	for i := range lists {
		slices.Sort(lists[i])
	}
	p.Rules = make(map[policy.RuleID]Rule, len(c.rules))
	for i := range c.rules {
		r := c.rules[i].rule
		r.Rank = c.ranks[r.ID]
		dims := []struct {
			n    int
			list *[]Class
		}{{c.rules[i].opener, &r.Opener}, {c.rules[i].responder, &r.Responder}}
		never := c.rules[i].service >= 0 && len(r.Service) == 0
		for _, d := range dims {
			if d.n >= 0 {
				*d.list = lists[d.n]
				never = never || len(lists[d.n]) == 0
			}
		}
		if !never {
			p.Rules[r.ID] = r
		}
	}
	p.Tracked = c.track(p)
}

// owned are the unions on whose side a rule stands; all is true where one
// stands on everybody's.
func (c *Compiler) owned() (owned bitset.Set, all bool) {
	owned = bitset.New(len(c.addresses.lists))
	for i := range c.rules {
		if n := c.rules[i].own(); n >= 0 {
			owned.Add(n)
		} else {
			all = true
		}
	}
	return owned, all
}

// track says which prefixes have a rule on their side. What lies within one of
// them is tracked with it.
func (c *Compiler) track(p *Program) map[netip.Prefix]bool {
	owned, all := c.owned()
	out := map[netip.Prefix]bool{}
	if all {
		for _, x := range everything() {
			out[x] = true
		}
		return out
	}
	for _, x := range slices.SortedFunc(maps.Keys(p.Endpoints), comparePrefix) {
		c.trackOne(out, x, p.Endpoints[x], owned)
	}
	return out
}

func (c *Compiler) trackOne(out map[netip.Prefix]bool, x netip.Prefix, id Class, owned bitset.Set) {
	mine := false
	for i, w := range c.vectors[id] {
		mine = mine || w&owned[i] != 0
	}
	for bits := x.Bits() - 1; mine && bits >= 0; {
		up, ok := c.groups.holder(x.Addr(), bits)
		if !ok {
			break
		}
		mine, bits = !out[up], up.Bits()-1
	}
	if mine {
		out[x] = true
	} else {
		delete(out, x)
	}
}

// retrack is track for the addresses that have changed.
func (c *Compiler) retrack(p *Program, changed map[netip.Addr]bool) map[netip.Prefix]bool {
	owned, all := c.owned()
	if all {
		return p.Tracked
	}
	out := maps.Clone(p.Tracked)
	for a := range changed {
		c.trackOne(out, single(a), p.Endpoints[single(a)], owned)
	}
	return out
}

// Order lists the program's rules in the order in which they decide: egress
// before ingress, by tier and rank.
func (p *Program) Order() []policy.RuleID {
	return slices.SortedFunc(maps.Keys(p.Rules), func(a, b policy.RuleID) int {
		x, y := p.Rules[a], p.Rules[b]
		return cmp.Or(-cmp.Compare(a.Direction, b.Direction), cmp.Compare(x.Tier, y.Tier), cmp.Compare(x.Rank, y.Rank))
	})
}
