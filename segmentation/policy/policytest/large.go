package policytest

import (
	"fmt"
	"net/netip"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Large makes workloads of applications with three roles each, and rules that
// let web reach app and app reach db, a default deny behind them, and
// exceptions by CIDR.
func Large(workloads, rules int) (*policy.Set, policy.Inventory) {
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

// Identities makes workloads that each have labels, a group and a policy of
// their own: so nobody's addresses can be treated like another's. Each may
// open db to the next two, and nothing else is allowed to it or by it.
func Identities(workloads int) (*policy.Set, policy.Inventory) {
	inv := policy.Inventory{}
	pol := &policy.Set{Groups: map[string]policy.Group{}, Services: map[string][]policy.Service{"db": {{Proto: 6, Ports: []policy.PortRange{{First: 5432, Last: 5432}}}}}}
	name := func(i int) string { return fmt.Sprint("id", (i+workloads)%workloads) }
	peers := func(list ...int) (out []policy.Peer) {
		for _, i := range list {
			out = append(out, policy.Peer{Group: name(i)})
		}
		return out
	}
	anybody, db := []policy.Peer{{Group: policy.Any}}, []policy.ServiceRef{{Name: "db"}}
	for i := range workloads {
		inv.Workloads = append(inv.Workloads, policy.Workload{Name: fmt.Sprint("w", i), Labels: map[string]string{"id": name(i)},
			Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}})
		pol.Groups[name(i)] = policy.Group{Selector: map[string]string{"id": name(i)}}
		pol.Policies = append(pol.Policies, policy.Policy{Name: name(i), Tier: policy.TierApplication, Priority: i, Mode: policy.ModeEnforce, AppliesTo: peers(i),
			Ingress: []policy.Rule{{Name: "db", Action: policy.ActionAllow, From: peers(i-1, i-2), Services: db}, {Name: "rest", Action: policy.ActionDeny, From: anybody}},
			Egress:  []policy.Rule{{Name: "db", Action: policy.ActionAllow, To: peers(i+1, i+2), Services: db}, {Name: "rest", Action: policy.ActionDeny, To: anybody}}})
	}
	return pol, inv
}
