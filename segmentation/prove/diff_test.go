package prove_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/prove"
)

// edit makes another set of one: a rule or a policy more, less, or moved.
func edit(t *rapid.T, set *policy.Set) *policy.Set {
	next := *set
	next.Policies = slices.Clone(set.Policies)
	p := &next.Policies[rapid.IntRange(0, len(next.Policies)-1).Draw(t, "policy")]
	p.Ingress, p.Egress = slices.Clone(p.Ingress), slices.Clone(p.Egress)
	switch rapid.SampledFrom([]string{"mode", "tier", "action", "drop", "set"}).Draw(t, "edit") {
	case "mode":
		p.Mode = 3 - p.Mode
	case "tier":
		p.Tier = policy.Tier(rapid.IntRange(1, 4).Draw(t, "tier"))
		p.Priority += 1000
	case "action":
		for _, r := range [][]policy.Rule{p.Ingress, p.Egress} {
			if len(r) > 0 {
				r[0].Action, r[0].Rate = policy.Action(rapid.IntRange(1, 5).Draw(t, "action")), nil
				if r[0].Action == policy.ActionRateLimit {
					r[0].Rate = &policy.Rate{KilobitsPerSecond: rapid.SampledFrom([]uint32{1, 2}).Draw(t, "kbps")}
				}
			}
		}
	case "drop":
		p.Ingress = nil
	case "set":
		return policytest.Sets().Draw(t, "other")
	}
	slices.SortStableFunc(next.Policies, func(a, b policy.Policy) int { return a.Compare(&b) })
	return &next
}

// rates are those of the rules that limit a connection.
func rates(set *policy.Set, v oracle.Verdict) string {
	if v.Action != policy.ActionRateLimit {
		return ""
	}
	out := ""
	for _, s := range []oracle.Side{v.Egress, v.Ingress} {
		if s.Action == policy.ActionRateLimit {
			rules := set.Policy(s.ID.Policy).Rules(s.ID.Direction)
			out += fmt.Sprint(*rules[slices.IndexFunc(rules, func(r policy.Rule) bool { return r.Name == s.ID.Rule })].Rate)
		}
	}
	return out
}

func fate(v oracle.Verdict) string {
	ids := []policy.RuleID{v.Egress.ID, v.Ingress.ID}
	switch {
	case !v.Egress.Action.Consents():
		ids = ids[:1]
	case !v.Ingress.Action.Consents():
		ids = ids[1:]
	}
	ids = slices.DeleteFunc(ids, func(id policy.RuleID) bool { return id == policy.RuleID{} })
	return fmt.Sprint(v.Action, ids)
}

// A connection has another verdict when, and only when, one change speaks of
// it, and then that tells which; the other way round it is the other way.
func TestDiffAgreesWithTheOracle(t *testing.T) {
	changed := 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		next := edit(t, w.Set)
		changes, back := prove.Diff(w.Set, next, w.Inventory, policytest.Now()), prove.Diff(next, w.Set, w.Inventory, policytest.Now())
		both := policytest.World{Set: &policy.Set{Groups: w.Set.Groups, Policies: slices.Concat(w.Set.Policies, next.Policies)}, Inventory: w.Inventory}
		before, after := oracle.New(w.Set, w.Inventory, policytest.Now()), oracle.New(next, w.Inventory, policytest.Now())
		for _, c := range rapid.SliceOfN(policytest.Connections(both), 20, 40).Draw(t, "connections") {
			if c.Src == c.Dst {
				continue
			}
			old, now := before.Verdict(c), after.Verdict(c)
			differs := old.Action != now.Action || rates(w.Set, old) != rates(next, now)
			about, reverse := covering(changes, c), covering(back, c)
			if len(about) != len(reverse) || differs != (len(about) == 1) || len(about) > 1 {
				t.Fatalf("%+v: %s, then %s: told by %d changes, backwards by %d", c, old.Why, now.Why, len(about), len(reverse))
			}
			if !differs {
				continue
			}
			changed++
			x, y := about[0], reverse[0]
			if got, want := fmt.Sprint(x.Before.Action, x.Before.Rules, x.After.Action, x.After.Rules), fate(old)+fate(now); strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
				t.Fatalf("%+v: told as %s, but is %s", c, got, want)
			}
			if fmt.Sprint(x.Before, x.After) != fmt.Sprint(y.After, y.Before) {
				t.Fatalf("%+v: told as %v, and backwards as %v", c, x, y)
			}
		}
		if same := prove.Diff(w.Set, w.Set, w.Inventory, policytest.Now()); len(same) > 0 {
			t.Fatalf("a set differs from itself: %+v", same)
		}
	})
	if changed < 100 {
		t.Errorf("only %d connections changed", changed)
	}
}

func covering(changes []prove.Change, c oracle.Connection) []*prove.Change {
	return coveringKind(changes, prove.KindVerdict, c)
}

func coveringKind(changes []prove.Change, kind prove.Kind, c oracle.Connection) (out []*prove.Change) {
	for i := range changes {
		if changes[i].Kind == kind && changes[i].Covers(c) {
			out = append(out, &changes[i])
		}
	}
	return out
}

// tell gives rules logs and mirrors, and policies another word about what is
// established, in both of two sets or in one.
func tell(t *rapid.T, before, after *policy.Set) {
	for _, set := range []*policy.Set{before, after} {
		for i := range set.Policies {
			p := &set.Policies[i]
			p.Ingress, p.Egress = slices.Clone(p.Ingress), slices.Clone(p.Egress)
			for _, rules := range [][]policy.Rule{p.Ingress, p.Egress} {
				for j := range rules {
					rules[j].Log = rapid.IntRange(0, 2).Draw(t, "log") == 0
					rules[j].Mirror = rapid.SampledFrom([]string{"", "", "m1", "m2"}).Draw(t, "mirror")
				}
			}
			if rapid.IntRange(0, 3).Draw(t, "turn") == 0 {
				p.Established = 1 - p.Established
			}
		}
	}
}

// effects says of a connection, by kind, what comes with its verdict: asked of
// the oracle, rule by rule.
func effects(set *policy.Set, inv policy.Inventory, c oracle.Connection) map[prove.Kind]string {
	v := oracle.New(set, inv, policytest.Now()).Verdict(c)
	met := append(slices.Clone(v.Egress.Passed), v.Egress.ID)
	if v.Egress.Action.Consents() {
		met = append(append(met, v.Ingress.Passed...), v.Ingress.ID)
	}
	logs := "not logged"
	var ports []string
	for _, id := range met {
		p := set.Policy(id.Policy)
		if p == nil {
			continue
		}
		rules := p.Rules(id.Direction)
		r := rules[slices.IndexFunc(rules, func(r policy.Rule) bool { return r.Name == id.Rule })]
		if r.Log {
			logs = "logged"
		}
		if r.Mirror != "" && !slices.Contains(ports, r.Mirror) {
			ports = append(ports, r.Mirror)
		}
	}
	slices.Sort(ports)
	out := map[prove.Kind]string{prove.KindLog: logs, prove.KindMirror: "not mirrored", prove.KindEstablished: "as new ones", prove.KindStaged: "no change"}
	if len(ports) > 0 {
		out[prove.KindMirror] = "to " + strings.Join(ports, " and ")
	}
	lasting := *set // without the rules that are about new connections alone
	lasting.Policies = slices.Clone(set.Policies)
	for i := range lasting.Policies {
		p := &lasting.Policies[i]
		ends := func(r policy.Rule) bool {
			return p.Established == policy.EstablishedKeep && (r.Action == policy.ActionDeny || r.Action == policy.ActionReject)
		}
		p.Ingress, p.Egress = slices.DeleteFunc(slices.Clone(p.Ingress), ends), slices.DeleteFunc(slices.Clone(p.Egress), ends)
	}
	if !v.Allowed() && oracle.New(&lasting, inv, policytest.Now()).Verdict(c).Allowed() {
		out[prove.KindEstablished] = "go on"
	}
	if s := v.Staged; s != nil && (s.Action != v.Action || rates(set, oracle.Verdict{Outcome: *s}) != rates(set, v)) {
		out[prove.KindStaged] = s.Action.String() + rates(set, oracle.Verdict{Outcome: *s})
	}
	return out
}

// What comes with a verdict is told of in the same way: each kind once where,
// and only where, it differs.
func TestEffectsAgreeWithTheOracle(t *testing.T) {
	changed := map[prove.Kind]int{}
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		next := edit(t, w.Set)
		tell(t, w.Set, next)
		changes := prove.DiffNaming(w.Set, next, w.Inventory, policytest.Now(), rapid.SampledFrom([]int{0, 1, 16}).Draw(t, "named"))
		both := policytest.World{Set: &policy.Set{Groups: w.Set.Groups, Policies: slices.Concat(w.Set.Policies, next.Policies)}, Inventory: w.Inventory}
		for _, c := range rapid.SliceOfN(policytest.Connections(both), 20, 40).Draw(t, "connections") {
			if c.Src == c.Dst {
				continue
			}
			before, after := effects(w.Set, w.Inventory, c), effects(next, w.Inventory, c)
			for kind := range before {
				about := coveringKind(changes, kind, c)
				if len(about) > 1 || (before[kind] != after[kind]) != (len(about) == 1) {
					t.Fatalf("%+v: %s %q, then %q: told by %d changes", c, kind, before[kind], after[kind], len(about))
				}
				if len(about) == 0 {
					continue
				}
				changed[kind]++
				if got, want := value(about[0].Before)+", "+value(about[0].After), before[kind]+", "+after[kind]; got != want {
					t.Fatalf("%+v: %s is told as %q, but is %q", c, kind, got, want)
				}
			}
		}
	})
	for _, kind := range []prove.Kind{prove.KindLog, prove.KindMirror, prove.KindEstablished, prove.KindStaged} {
		if changed[kind] < 20 {
			t.Errorf("only %d connections changed in %s", changed[kind], kind)
		}
	}
}

// Whatever differs at any time is told, once, and not before it is so.
func TestDiffOverTimeMissesNoTime(t *testing.T) {
	later := 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		next := edit(t, w.Set)
		for i := range next.Policies {
			if rapid.IntRange(0, 3).Draw(t, "scheduled") == 0 {
				next.Policies[i].Schedule = policytest.Schedules().Draw(t, "schedule")
			}
		}
		text := func(c prove.Change) string {
			return fmt.Sprint(c.Kind, c.From, c.To, c.Services, c.Before, c.After)
		}
		all, until := prove.DiffOverTime(w.Set, next, w.Inventory, policytest.Now())
		told := map[string]time.Time{}
		for _, c := range all {
			if _, has := told[text(c)+fmt.Sprint(c.Families)]; has {
				t.Fatalf("%s is told twice", text(c))
			}
			told[text(c)+fmt.Sprint(c.Families)] = c.At
			told[text(c)] = c.At
			if !c.At.Equal(policytest.Now()) {
				later++
			}
		}
		at := policytest.Now().Add(time.Duration(rapid.IntRange(0, 20*24*60).Draw(t, "minutes")) * time.Minute)
		for _, c := range prove.Diff(w.Set, next, w.Inventory, at) {
			if first, has := told[text(c)]; !has || first.After(at) || !until.IsZero() {
				t.Fatalf("%s at %s is told %v, from %s", text(c), at, has, first)
			}
		}
	})
	if later < 20 {
		t.Errorf("only %d changes come later", later)
	}
}

func value(f prove.Fate) string {
	out := f.Value
	for _, r := range f.Rates {
		out += fmt.Sprint(r)
	}
	return out
}

// Where many rules say the same, they are one region, and those that are named
// are among those that decide.
func TestManyRulesAreOneRegion(t *testing.T) {
	few, many := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		next := edit(t, w.Set)
		apart, together := prove.DiffNaming(w.Set, next, w.Inventory, policytest.Now(), 1000), prove.DiffNaming(w.Set, next, w.Inventory, policytest.Now(), 0)
		few, many = few+len(together), many+len(apart)
		both := policytest.World{Set: &policy.Set{Groups: w.Set.Groups, Policies: slices.Concat(w.Set.Policies, next.Policies)}, Inventory: w.Inventory}
		for _, c := range rapid.SliceOfN(policytest.Connections(both), 20, 40).Draw(t, "connections") {
			if c.Src == c.Dst {
				continue // nobody talks with himself over a switch: a region of such pairs alone is not told
			}
			a, b := covering(apart, c), covering(together, c)
			if len(a) != len(b) {
				t.Fatalf("%+v: told by %d changes apart, by %d together", c, len(a), len(b))
			}
			for i := range a {
				for _, x := range [][2]prove.Fate{{a[i].Before, b[i].Before}, {a[i].After, b[i].After}} {
					named := !slices.ContainsFunc(x[0].Rules, func(id policy.RuleID) bool { return !slices.Contains(x[1].Rules, id) })
					if x[0].Action != x[1].Action || !named && !x[1].More {
						t.Fatalf("%+v: apart %+v, together %+v", c, x[0], x[1])
					}
				}
			}
		}
	})
	if few >= many {
		t.Errorf("%d regions together, %d apart", few, many)
	}
}

func TestDiffInWords(t *testing.T) {
	inv := policy.Inventory{}
	for _, w := range []struct{ name, addr string }{{"plc1", "10.50.0.1"}, {"plc2", "10.50.0.2"}, {"desk", "10.20.0.1"}} {
		inv.Workloads = append(inv.Workloads, policy.Workload{Name: w.name, Addrs: addrs(w.addr)})
	}
	for _, c := range []struct {
		old, new string // of the plant
		want     []string
	}{
		{"services: [modbus]", "services: [modbus, {proto: udp, ports: [53]}]", []string{"IPv4,IPv6: corp -> plc: udp 53: deny [plc/ingress/rest] to allow [plc/ingress/corp-modbus]; 2 pairs"}},
		{"action: deny", "action: reject", []string{
			"IPv4,IPv6: any -> plc: not modbus: deny [plc/ingress/rest] to reject [plc/ingress/rest]; 4 pairs",
			"IPv4,IPv6: not-corp -> plc: modbus: deny [plc/ingress/rest] to reject [plc/ingress/rest]; 2 pairs",
		}},
		{"appliesTo: [plc]", "appliesTo: [10.50.0.2]", []string{
			"IPv4: any -> 10.50.0.0/31,10.50.0.3-10.50.0.255: not modbus: deny [plc/ingress/rest] to allow []; 2 pairs",
			"IPv4: not-corp -> 10.50.0.0/31,10.50.0.3-10.50.0.255: modbus: deny [plc/ingress/rest] to allow []; 1 pairs",
			"IPv6: any -> plc: not modbus: deny [plc/ingress/rest] to allow []; 0 pairs",
			"IPv6: not-corp -> plc: modbus: deny [plc/ingress/rest] to allow []; 0 pairs",
		}},
		{"tier: application", "tier: admin", nil},
		{"- {name: rest, action: deny, from: [any]}", "- {name: rest, action: deny, from: [corp]}\n  - {name: more, action: deny, from: [not-corp]}", nil},
	} {
		text := strings.Replace(plant, "services:\n", "  not-corp: {cidrs: [0.0.0.0/0, '::/0'], except: [10.20.0.0/16, 'fd20::/16']}\nservices:\n", 1)
		changes := prove.Diff(read(t, text), read(t, strings.Replace(text, c.old, c.new, 1)), inv, policytest.Now())
		var got []string
		for _, x := range changes {
			got = append(got, fmt.Sprintf("%s: %s -> %s: %s: %s %v to %s %v; %d pairs", strings.Join(x.Families, ","), strings.Join(x.From, ","), strings.Join(x.To, ","),
				strings.Join(x.Services, ","), x.Before.Action, x.Before.Rules, x.After.Action, x.After.Rules, x.Pairs))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s\n-> %s\ngot  %s\nwant %s", c.old, c.new, strings.Join(got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}
