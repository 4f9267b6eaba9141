package sourceguard_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

const guards = `apiVersion: segmentation/v1
groups:
  web: {selector: {app: web}}
  db: {selector: {app: db}}
  lan: {cidrs: [10.0.0.0/16]}
protected: [10.0.0.1, gateways]
sourceGuards:
- {name: watch, mode: staged, appliesTo: [lan]}
- {name: own, mode: enforce, appliesTo: [web]}
- {name: seen, mode: enforce, appliesTo: [db], learned: true}
policies: []
`

func addrs(texts ...string) (out []netip.Addr) {
	for _, t := range texts {
		out = append(out, netip.MustParseAddr(t))
	}
	return out
}

func mac(last byte) flow.MAC { return flow.MAC{2, 0, 0, 0, 0, last} }

func resolve(t *testing.T, text string, list ...policy.Workload) sourceguard.Plan {
	t.Helper()
	set, err := policy.Read(policy.Source{Name: "g.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return sourceguard.Resolve(set, policy.Inventory{Workloads: list, Assets: map[string][]netip.Prefix{"gateways": {netip.MustParsePrefix("10.0.0.254/32")}}}, policytest.Now())
}

// What is declared decides; who is not known is not restricted, and neither is
// a port by which a protected address sends.
func TestResolve(t *testing.T) {
	web, db := map[string]string{"app": "web"}, map[string]string{"app": "db"}
	seen := func(l policy.Learned) *policy.Learned { return &l }
	for _, c := range []struct {
		name  string
		w     []policy.Workload
		guard string // "name mode macs addrs", or why not
	}{
		{"declared", []policy.Workload{{Addrs: addrs("10.0.0.3", "10.0.0.2"), MAC: mac(1), Labels: web}}, "own enforce [02:00:00:00:00:01] [10.0.0.2 10.0.0.3]"},
		{"by address, staged", []policy.Workload{{Addrs: addrs("10.0.0.9")}}, "watch staged [] [10.0.0.9]"},
		{"an enforced one goes first", []policy.Workload{{Addrs: addrs("10.0.0.9"), Labels: web}}, "own enforce [] [10.0.0.9]"},
		{"nobody's", []policy.Workload{{Addrs: addrs("192.0.2.1")}}, "none"},
		{"a MAC that was seen restricts nobody", []policy.Workload{{Addrs: addrs("10.0.0.2"), MAC: mac(1), Labels: web, Learned: seen(policy.Learned{MAC: true})}}, "own enforce [] [10.0.0.2]"},
		{"addresses that were seen", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: web, Learned: seen(policy.Learned{Addrs: true, Bound: addrs("10.0.0.2")})}}, "its addresses are not declared"},
		{"no addresses at all", []policy.Workload{{Labels: web}}, "its addresses are not declared"},
		{"bound, where the guard says so", []policy.Workload{{Addrs: addrs("10.0.0.2", "10.0.0.66"), Labels: db, Learned: seen(policy.Learned{Addrs: true, Bound: addrs("10.0.0.2"), Stations: 1})}}, "seen enforce [] [10.0.0.2]"},
		{"merely seen", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: db, Learned: seen(policy.Learned{Addrs: true})}}, "no address is bound"},
		{"several stations", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: db, Learned: seen(policy.Learned{Addrs: true, Bound: addrs("10.0.0.2"), Stations: 2})}}, "2 stations are behind"},
		{"a trunk", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: db, Learned: seen(policy.Learned{Addrs: true, Bound: addrs("10.0.0.2"), Trunk: true})}}, "its port is a trunk"},
		{"a router", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: db, Learned: seen(policy.Learned{Addrs: true, Stations: 1,
			Bound: addrs("10.0.0.2", "1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6", "1.1.1.7", "1.1.1.8")})}}, "9 addresses are behind"},
		{"a declared trunk", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: web, Learned: seen(policy.Learned{Trunk: true, Stations: 3})}}, "own enforce [] [10.0.0.2]"},
		{"protected", []policy.Workload{{Addrs: addrs("10.0.0.1"), Labels: web}}, "10.0.0.1 is protected"},
		{"a protected class", []policy.Workload{{Addrs: addrs("10.0.0.254"), Labels: web}}, "10.0.0.254 is protected"},
		{"a protected address behind it", []policy.Workload{{Addrs: addrs("10.0.0.2"), Labels: web, Learned: seen(policy.Learned{Bound: addrs("10.0.0.1")})}}, "10.0.0.1 is protected"},
		{"two workloads of one port", []policy.Workload{{Addrs: addrs("10.0.0.2"), MAC: mac(1), Labels: web}, {Name: "y", Addrs: addrs("192.0.2.9"), MAC: mac(2)}},
			"own enforce [02:00:00:00:00:01 02:00:00:00:00:02] [10.0.0.2 192.0.2.9]"},
	} {
		for i := range c.w {
			c.w[i].Switch, c.w[i].Port = "br0", "p1"
			if c.w[i].Name == "" {
				c.w[i].Name = "x"
			}
		}
		p := resolve(t, guards, c.w...)
		got := "none"
		if len(p.Open) > 0 {
			got = p.Open[0].Why
		}
		if x := p.At("br0", "p1"); x != nil {
			mode := "staged"
			if x.Enforce {
				mode = "enforce"
			}
			got = x.Guard + " " + mode + " [" + strings.Join(texts(x.MACs), " ") + "] [" + strings.Join(texts(x.Addrs), " ") + "]"
		}
		if !strings.HasPrefix(got, c.guard) {
			t.Errorf("%s: %s, want %s", c.name, got, c.guard)
		}
	}
}

func texts[T interface{ String() string }](list []T) (out []string) {
	for _, x := range list {
		out = append(out, x.String())
	}
	return out
}

// Link-local addresses are those of the stations, those that are declared
// instead, or any where nobody knows the station.
func TestSources(t *testing.T) {
	p := sourceguard.Port{Addrs: addrs("10.0.0.1", "fd00::1"), MACs: []flow.MAC{{0x72, 0xc4, 0x68, 0x34, 0xb9, 0x4c}}}
	if got := strings.Join(texts(p.Sources()), " "); got != "10.0.0.1/32 fd00::1/128 fe80::70c4:68ff:fe34:b94c/128" {
		t.Error(got)
	}
	if p.Owns(netip.MustParseAddr("fe80::1")) || !p.Owns(netip.MustParseAddr("::ffff:10.0.0.1")) {
		t.Error("whose is it")
	}
	p.MACs = nil
	if !p.Owns(netip.MustParseAddr("fe80::1")) || p.Owns(netip.MustParseAddr("fec0::1")) {
		t.Error("without a station every link-local address is its own, and no other")
	}
	p.Addrs = addrs("10.0.0.1", "fe80::7")
	if p.Owns(netip.MustParseAddr("fe80::1")) || !p.Owns(netip.MustParseAddr("fe80::7")) {
		t.Error("a declared link-local address is the only one")
	}
}

// On random worlds: whoever the oracle says belongs to a guard's groups by an
// address of his alone is guarded or listed, nobody else is, and no port of a
// protected address is restricted.
func TestResolveAgreesWithTheOracle(t *testing.T) {
	restricted, open := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := policytest.Worlds().Draw(t, "world")
		w.Set.SourceGuards = policytest.Guards(w.Set).Draw(t, "guards")
		for i := range w.Inventory.Workloads { // addresses and ports of their own, so that the oracle can tell them apart
			x := &w.Inventory.Workloads[i]
			x.Port = x.Name
			x.Addrs = slices.DeleteFunc(slices.Clone(x.Addrs), func(a netip.Addr) bool {
				return slices.ContainsFunc(w.Inventory.Workloads, func(y policy.Workload) bool { return y.Name != x.Name && slices.Contains(y.Addrs, a) })
			})
		}
		if x := w.Inventory.Workloads[0]; len(x.Addrs) > 0 && rapid.Bool().Draw(t, "protects the first") {
			w.Set.Protected = append(w.Set.Protected, policy.Peer{Prefix: netip.PrefixFrom(x.Addrs[0], x.Addrs[0].BitLen())})
		}
		o := oracle.New(w.Set, w.Inventory, policytest.Now())
		plan := sourceguard.Resolve(w.Set, w.Inventory, policytest.Now())
		for _, x := range w.Inventory.Workloads {
			if len(x.Addrs) == 0 {
				continue
			}
			applies, enforced, protected := false, false, false
			for _, a := range x.Addrs {
				if _, ok := o.Protected(a); ok {
					protected = true
				}
				for _, g := range w.Set.SourceGuards {
					if slices.ContainsFunc(g.AppliesTo, func(p policy.Peer) bool { return o.Holds(p, a) }) {
						applies, enforced = true, enforced || g.Mode == policy.ModeEnforce
					}
				}
			}
			at := plan.At(x.Switch, x.Port)
			listed := slices.ContainsFunc(plan.Open, func(p sourceguard.Open) bool { return p.Workload == x.Name })
			if (at != nil) != (applies && !protected) || at != nil && at.Enforce != enforced || listed != (applies && protected) {
				t.Fatalf("%+v: applies %v, enforced %v, protected %v; %+v, listed %v", x, applies, enforced, protected, at, listed)
			}
			if at != nil {
				restricted++
			}
			if listed {
				open++
			}
		}
	})
	if restricted < 20 || open < 1 {
		t.Errorf("%d restricted, %d protected: too few", restricted, open)
	}
}
