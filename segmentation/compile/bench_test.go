package compile_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// large makes workloads of applications with three roles each, and rules that
// let web reach app and app reach db, a default deny behind them, and
// exceptions by CIDR.
func large(workloads, rules int) (*policy.Set, policy.Inventory) {
	apps := max(1, rules/4)
	roles := []string{"web", "app", "db"}
	inv := policy.Inventory{}
	for i := range workloads {
		inv.Workloads = append(inv.Workloads, policy.Workload{
			Name: fmt.Sprint("w", i), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
			Labels: map[string]string{"app": fmt.Sprint("a", i/3%apps), "role": roles[i%3]},
		})
	}
	pol := &policy.Set{Groups: map[string]policy.Group{}, Services: map[string][]policy.Service{
		"http": {{Proto: 6, Ports: []policy.PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}, {First: 8000, Last: 8999}}}},
		"db":   {{Proto: 6, Ports: []policy.PortRange{{First: 5432, Last: 5432}}}},
	}}
	group := func(a int, role string) []policy.Peer {
		name := fmt.Sprintf("a%d-%s", a, role)
		pol.Groups[name] = policy.Group{Selector: map[string]string{"app": fmt.Sprint("a", a), "role": role}}
		return []policy.Peer{{Group: name}}
	}
	anybody := []policy.Peer{{Group: policy.Any}}
	for a := range apps {
		web, app, db := group(a, "web"), group(a, "app"), group(a, "db")
		service := func(n string) []policy.ServiceRef { return []policy.ServiceRef{{Name: n}} }
		pol.Policies = append(pol.Policies,
			policy.Policy{Name: fmt.Sprintf("a%d-app", a), Tier: policy.TierApplication, Priority: 2 * a, Mode: policy.ModeEnforce, AppliesTo: app,
				Ingress: []policy.Rule{{Name: "web", Action: policy.ActionAllow, From: web, Services: service("http")},
					{Name: "rest", Action: policy.ActionDeny, From: anybody}}},
			policy.Policy{Name: fmt.Sprintf("a%d-db", a), Tier: policy.TierApplication, Priority: 2*a + 1, Mode: policy.ModeEnforce, AppliesTo: db,
				Ingress: []policy.Rule{{Name: "app", Action: policy.ActionAllow, From: app, Services: service("db")},
					{Name: "rest", Action: policy.ActionDeny, From: anybody}}})
	}
	return pol, inv
}

// BenchmarkCompile compiles 10,000 workloads and 1,000 rules from nothing, and
// what one label changes.
func BenchmarkCompile(b *testing.B) {
	for _, size := range [][2]int{{100, 10}, {1000, 100}, {10000, 1000}, {100000, 10000}} {
		pol, inv := large(size[0], size[1])
		b.Run(fmt.Sprintf("all/%dx%d", size[0], size[1]), func(b *testing.B) {
			for b.Loop() {
				p, err := compile.New().Compile(pol, inv, noon)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(p.Endpoints)), "endpoints")
				b.ReportMetric(float64(len(p.Rules)), "rules")
			}
		})
		b.Run(fmt.Sprintf("label/%dx%d", size[0], size[1]), func(b *testing.B) {
			c := compile.New()
			if _, err := c.Compile(pol, inv, noon); err != nil {
				b.Fatal(err)
			}
			i := 0
			for b.Loop() {
				i++
				next := policy.Inventory{Workloads: slices.Clone(inv.Workloads)}
				w := &next.Workloads[i%len(next.Workloads)]
				w.Labels = maps.Clone(w.Labels)
				w.Labels["role"] = []string{"web", "app", "db"}[(i/len(next.Workloads)+i+1)%3]
				if _, err := c.Compile(pol, next, noon); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
