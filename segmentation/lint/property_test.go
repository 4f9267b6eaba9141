package lint

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/calendar"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// asked is a connection of a world at a time, and both its sides.
type asked struct {
	at time.Time
	c  oracle.Connection
}

// settle takes out of a world what lint leaves open: risks and feeds.
func settle(w policytest.World) {
	for name, g := range w.Set.Groups {
		g.Risk, g.Intel = 0, ""
		if len(g.Groups) == 0 && !g.ByWorkload() && len(g.CIDRs) == 0 {
			g.CIDRs = []policy.Prefix{{Prefix: netip.MustParsePrefix("10.0.0.0/28")}}
		}
		w.Set.Groups[name] = g
	}
}

// everything lists connections between addresses of every kind, by services of
// every kind, at every time that matters: at the edges of all that is drawn.
// What the oracle, and fits below, do not tell apart is asked once.
func everything(w policytest.World) []asked {
	var peers []policy.Peer
	var all []policy.Service
	for i := range w.Set.Policies {
		p := &w.Set.Policies[i]
		peers = append(peers, p.AppliesTo...)
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for _, r := range p.Rules(d) {
				peers = append(peers, r.Peers(d)...)
				for _, ref := range r.Services {
					if all = append(all, w.Set.Services[ref.Name]...); ref.Inline != nil {
						all = append(all, *ref.Inline)
					}
				}
			}
		}
	}
	services := edges(all)
	var out []asked
	for _, at := range calendar.Instants(policytest.Now(), w.Set) {
		o := oracle.New(w.Set, w.Inventory, at)
		seen := map[string]bool{}
		var addrs []netip.Addr
		for _, a := range addresses() {
			guard, _ := o.Protected(a)
			key := fmt.Sprint(a.Is4(), guard)
			for _, p := range peers {
				key += fmt.Sprint(o.Holds(p, a))
			}
			if !seen[key] {
				seen[key] = true
				addrs = append(addrs, a)
			}
		}
		for _, src := range addrs {
			for _, dst := range addrs {
				for _, c := range services {
					if c.Src, c.Dst = src, dst; src.Is4() == dst.Is4() {
						out = append(out, asked{at, c})
					}
				}
			}
		}
	}
	return out
}

// addresses lists those that worlds draw from, their neighbours, and far ones.
func addresses() []netip.Addr {
	var out []netip.Addr
	for _, base := range []string{"10.0.0.0", "10.0.1.0", "192.0.2.0", "fd00::", "fd00:0:0:1::", "2001:db8::"} {
		a := netip.MustParseAddr(base)
		out = append(out, a.Prev())
		for range 34 {
			out = append(out, a)
			a = a.Next()
		}
	}
	for _, far := range []string{"0.0.0.0", "10.0.2.0", "10.1.0.0", "11.0.0.0", "192.0.3.0", "192.1.0.0", "193.0.0.0", "255.255.255.255", "::",
		"fd00:0:0:2::", "fd00:0:1::", "fd00:1::", "fd01::", "2001:db8:0:1::", "2001:db9::", "2002::", "ffff::"} {
		out = append(out, netip.MustParseAddr(far))
	}
	return out
}

// edges lists one connection for each set of services that it fits.
func edges(all []policy.Service) []oracle.Connection {
	fits := func(s policy.Service, c oracle.Connection) bool {
		in := func(r policy.PortRange) bool { return r.First <= c.DstPort && c.DstPort <= r.Last }
		return (s.Proto == 0 || s.Proto == c.Proto) && (len(s.Ports) == 0 || slices.ContainsFunc(s.Ports, in)) &&
			(s.Type == nil || *s.Type == c.Type) && (s.Code == nil || *s.Code == c.Code)
	}
	var out []oracle.Connection
	seen := map[string]bool{}
	ask := func(c oracle.Connection) {
		c.SrcPort = 40000 // not that of DHCP
		key := ""
		for _, s := range all {
			key += fmt.Sprint(fits(s, c))
		}
		if !seen[key] {
			seen[key] = true
			out = append(out, c)
		}
	}
	for _, p := range []policy.Proto{6, 17, 132} {
		for _, n := range []uint16{0, 22, 53, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535} {
			for _, port := range []uint16{n - 1, n, n + 1} {
				ask(oracle.Connection{Proto: p, DstPort: port})
			}
		}
	}
	for _, p := range []policy.Proto{1, 58} {
		for _, kind := range []uint8{0, 3, 8, 13, 128} {
			for code := range uint8(3) {
				ask(oracle.Connection{Proto: p, Type: kind, Code: code})
			}
		}
	}
	ask(oracle.Connection{Proto: 47})
	ask(oracle.Connection{Proto: 89})
	return out
}

// verdicts asks the oracle of a set in which the staged policies are left out,
// or enforced.
func verdicts(w policytest.World, staged bool, ask []asked) []oracle.Outcome {
	set := *w.Set
	set.Policies = nil
	for _, p := range w.Set.Policies {
		if p.Mode == policy.ModeStaged && !staged {
			continue
		}
		p.Mode = policy.ModeEnforce
		set.Policies = append(set.Policies, p)
	}
	oracles := map[time.Time]*oracle.Oracle{}
	var out []oracle.Outcome
	for _, a := range ask {
		if oracles[a.at] == nil {
			oracles[a.at] = oracle.New(&set, w.Inventory, a.at)
		}
		out = append(out, oracles[a.at].Verdict(a.c).Outcome)
	}
	return out
}

func sideOf(v oracle.Outcome, d policy.Direction) oracle.Side {
	if d == policy.Egress {
		return v.Egress
	}
	return v.Ingress
}

// fate is what a rule makes of a connection.
func fate(s *policy.Set, x oracle.Side) string {
	p := s.Policy(x.ID.Policy)
	if p == nil {
		return "allow"
	}
	i := slices.IndexFunc(p.Rules(x.ID.Direction), func(r policy.Rule) bool { return r.Name == x.ID.Rule })
	r := p.Rules(x.ID.Direction)[i]
	switch {
	case r.Log || r.Mirror != "" || r.Action == policy.ActionRateLimit:
		return x.ID.String()
	case r.Action == policy.ActionAllow:
		return "allow"
	}
	return r.Action.String() + p.Established.String()
}

// without is the world without a rule.
func without(w policytest.World, id policy.RuleID) policytest.World {
	set := *w.Set
	set.Policies = slices.Clone(set.Policies)
	for i := range set.Policies {
		p := &set.Policies[i]
		if p.Name != id.Policy {
			continue
		}
		drop := func(rules []policy.Rule) []policy.Rule {
			return slices.DeleteFunc(slices.Clone(rules), func(r policy.Rule) bool { return r.Name == id.Rule })
		}
		if id.Direction == policy.Egress {
			p.Egress = drop(p.Egress)
		} else {
			p.Ingress = drop(p.Ingress)
		}
	}
	return policytest.World{Set: &set, Inventory: w.Inventory}
}

func kindsOf(found []Finding) map[string]Kind {
	out := map[string]Kind{}
	for _, f := range found {
		if f.Rule != "" && (f.Kind == KindShadowed || f.Kind == KindRedundant || f.Kind == KindUnreachable) {
			out[f.Policy+"/"+f.Rule] = f.Kind
		}
	}
	return out
}

// Of every rule lint says the same as asking the oracle about every connection:
// that it decides none, or that it decides some and without it all would be as
// they are.
func TestRulesAreJudgedExactly(t *testing.T) {
	seen := map[Kind]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		settle(w)
		ask := everything(w)
		if len(ask) > 6_000 {
			t.Skip("too much to ask")
		}
		got := kindsOf(Check(w.Set, Options{Now: policytest.Now(), Inventory: &w.Inventory}))
		for _, staged := range []bool{false, true} {
			have := verdicts(w, staged, ask)
			for _, p := range w.Set.Policies {
				if (p.Mode == policy.ModeStaged) != staged || p.ExpiresAt != nil && !policytest.Now().Before(*p.ExpiresAt) {
					continue
				}
				for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
					for _, r := range p.Rules(d) {
						id := policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}
						decides, needed := asks(w, id, staged, ask, have)
						kind := got[id.String()]
						seen[kind]++
						switch {
						case decides && needed && kind != "", decides && !needed && kind != KindRedundant, !decides && kind == KindRedundant, !decides && (kind == "") != quiet(w, id):
							raw, _ := w.Set.Marshal()
							t.Fatalf("%s: decides %v, needed %v, lint says %q\n%s", id, decides, needed, kind, raw)
						}
					}
				}
			}
		}
	})
	for _, k := range []Kind{"", KindShadowed, KindRedundant, KindUnreachable} {
		if seen[k] < 10 {
			t.Errorf("only %d rules are %q: %v", seen[k], k, seen)
		}
	}
}

// quiet reports whether lint tells of a policy, or of a group, instead of a
// rule that decides nothing.
func quiet(w policytest.World, id policy.RuleID) bool {
	found := Check(w.Set, Options{Now: policytest.Now(), Inventory: &w.Inventory})
	return !slices.ContainsFunc(found, func(f Finding) bool { return f.Policy == id.Policy && f.Rule == id.Direction.String()+"/"+id.Rule }) &&
		slices.ContainsFunc(found, func(f Finding) bool {
			return f.Kind == KindEmptyGroup || f.Kind == KindUnreachable && f.Policy == id.Policy && f.Rule == ""
		})
}

// asks tells whether a rule decides any connection, and whether any fares
// otherwise without it.
func asks(w policytest.World, id policy.RuleID, staged bool, ask []asked, have []oracle.Outcome) (decides, needed bool) {
	var mine []asked
	var had []oracle.Outcome
	for i, v := range have {
		if s := sideOf(v, id.Direction); s.ID == id || slices.Contains(s.Passed, id) {
			mine, had = append(mine, ask[i]), append(had, v)
		}
	}
	rest := without(w, id)
	r := rule{}
	for i := range w.Set.Policies {
		for _, x := range w.Set.Policies[i].Rules(id.Direction) {
			if w.Set.Policies[i].Name == id.Policy && x.Name == id.Rule {
				r.rule = &x
			}
		}
	}
	for i, v := range verdicts(rest, staged, mine) {
		before, after := sideOf(had[i], id.Direction), sideOf(v, id.Direction)
		if fate(w.Set, before) != fate(rest.Set, after) || r.rule.Log || r.rule.Mirror != "" {
			needed = true
		}
	}
	return len(mine) > 0, needed
}

// What is told without an inventory holds for every inventory: rules that are
// said to decide nothing do so, whatever workloads, risks and feeds there are.
func TestWithoutInventory(t *testing.T) {
	told := 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		got := kindsOf(Check(w.Set, Options{Now: policytest.Now()}))
		ask := everything(w)
		if len(ask) > 6_000 {
			t.Skip("too much to ask")
		}
		for _, staged := range []bool{false, true} {
			have := verdicts(w, staged, ask)
			for _, p := range w.Set.Policies {
				for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
					for _, r := range p.Rules(d) {
						id := policy.RuleID{Policy: p.Name, Direction: d, Rule: r.Name}
						kind := got[id.String()]
						if kind == "" || (p.Mode == policy.ModeStaged) != staged {
							continue
						}
						told++
						decides, needed := asks(w, id, staged, ask, have)
						if decides && (kind != KindRedundant || needed) {
							t.Fatalf("%s: lint says %s, and it decides %v, needed %v", id, kind, decides, needed)
						}
					}
				}
			}
		}
	})
	if told < 20 {
		t.Errorf("only %d rules were told of", told)
	}
}

// Refused is exactly what would restrict something protected: some connection
// of it that a rule denies, rejects or limits, were it not protected. Without
// an inventory nothing else is refused.
func TestRefusedExactly(t *testing.T) {
	refused, open, few := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		settle(w)
		w.Inventory.Assets = nil // of which the oracle knows those that files name
		w.Set.Protected = []policy.Peer{policytest.Peers(w.Set).Filter(func(p policy.Peer) bool { return !p.IsAny() }).Draw(t, "protected")}
		ask := everything(w)
		if len(ask) > 6_000 {
			t.Skip("too much to ask")
		}
		of := func(inv *policy.Inventory) map[string]bool {
			out := map[string]bool{}
			for _, f := range Check(w.Set, Options{Now: policytest.Now(), Inventory: inv}) {
				if f.Kind == KindProtected {
					out[f.Policy+"/"+f.Rule] = true
				}
			}
			return out
		}
		got, sure := of(&w.Inventory), of(nil)
		if err := Refused(w.Set, nil, policytest.Now()); (err != nil) != (len(sure) > 0) {
			t.Fatalf("refused: %v; without an inventory %v", err, sure)
		}
		narrow := &checker{set: w.Set, opt: Options{Now: policytest.Now()}, told: map[Finding]bool{}, guardsOnly: true}
		narrow.judge(newNarrowWorld(w.Set, narrow.opt))
		for _, f := range narrow.found {
			few++
			if !sure[f.Policy+"/"+f.Rule] {
				t.Fatalf("%s/%s is refused only when the world is too large: %v", f.Policy, f.Rule, sure)
			}
		}
		bare := *w.Set
		bare.Protected = nil
		want := restricting(w, policytest.World{Set: &bare, Inventory: w.Inventory}, ask)
		refused += len(want)
		open += len(sure)
		for id := range want {
			if !got[id] {
				t.Fatalf("%s restricts %s, and is not told of: %v", id, w.Set.Protected[0], got)
			}
		}
		for id := range got {
			if !want[id] {
				raw, _ := w.Set.Marshal()
				t.Fatalf("%s does not restrict %s\n%s", id, w.Set.Protected[0], raw)
			}
		}
	})
	if refused < 20 || open < 20 || few < 20 {
		t.Errorf("only %d rules, %d without an inventory, %d in a narrow world, were refused", refused, open, few)
	}
}

// restricting lists the rules that restrict what a world protects, in a world
// that is the same and protects nothing.
func restricting(w, bare policytest.World, ask []asked) map[string]bool {
	out := map[string]bool{}
	guard := map[time.Time]*oracle.Oracle{}
	for _, staged := range []bool{false, true} {
		for i, v := range verdicts(bare, staged, ask) {
			at := ask[i].at
			if guard[at] == nil {
				guard[at] = oracle.New(w.Set, w.Inventory, at)
			}
			for d, own := range map[policy.Direction]netip.Addr{policy.Egress: ask[i].c.Src, policy.Ingress: ask[i].c.Dst} {
				s := sideOf(v, d)
				p := w.Set.Policy(s.ID.Policy)
				if p == nil || (p.Mode == policy.ModeStaged) != staged || s.Action == policy.ActionAllow {
					continue
				}
				if _, ok := guard[at].Protected(own); ok {
					out[s.ID.String()] = true
				}
			}
		}
	}
	return out
}
