package prove_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
	"github.com/platelet-sdn/platelet/segmentation/prove"
)

// BenchmarkVerify proves what is true, which takes longest: nothing but web
// reaches app, web does, and nothing else does.
func BenchmarkVerify(b *testing.B) {
	for _, size := range [][2]int{{100, 10}, {1000, 100}, {10000, 1000}} {
		set, inv := policytest.Large(size[0], size[1])
		group := func(name string, not bool) []policy.Term {
			return []policy.Term{{Not: not, Peer: policy.Peer{Group: name}}}
		}
		http := []policy.ServiceRef{{Name: "http"}}
		for a := range 10 {
			web, app := fmt.Sprintf("a%d-web", a%max(1, size[1]/4)), fmt.Sprintf("a%d-app", a%max(1, size[1]/4))
			set.Invariants = append(set.Invariants,
				policy.Invariant{Name: fmt.Sprint("deny", a), Deny: &policy.Connections{From: group(web, true), To: group(app, false)}},
				policy.Invariant{Name: fmt.Sprint("allow", a), Allow: &policy.Connections{From: group(web, false), To: group(app, false), Services: http}})
		}
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			for b.Loop() {
				results, err := prove.Verify(set, inv, policytest.Now())
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range results {
					if !r.Holds {
						b.Fatalf("%s: %+v", r.Invariant.Name, r.Counterexample)
					}
				}
			}
		})
	}
}

// BenchmarkDiff compares policies with what one rule's service, and the
// default, make of them.
func BenchmarkDiff(b *testing.B) {
	for _, size := range [][2]int{{100, 10}, {1000, 100}, {10000, 1000}} {
		set, inv := policytest.Large(size[0], size[1])
		rule := *set
		rule.Policies = slices.Clone(set.Policies)
		rule.Policies[0].Ingress = slices.Clone(rule.Policies[0].Ingress)
		rule.Policies[0].Ingress[0].Services = []policy.ServiceRef{{Name: "db"}}
		base := *set
		base.Policies = append(slices.Clone(set.Policies), policy.Policy{Name: "base", Tier: policy.TierBaseline, Mode: policy.ModeEnforce,
			AppliesTo: []policy.Peer{{Group: policy.Any}}, Ingress: []policy.Rule{{Name: "no", Action: policy.ActionDeny, From: []policy.Peer{{Group: policy.Any}}}}})
		for name, next := range map[string]*policy.Set{"rule": &rule, "default": &base} {
			b.Run(fmt.Sprintf("%s/%dx%d", name, size[0], size[1]), func(b *testing.B) {
				for b.Loop() {
					if n := len(prove.Diff(set, next, inv, policytest.Now())); n == 0 || n > 20 {
						b.Fatal(n, "changes")
					}
				}
			})
		}
	}
}

// BenchmarkIdentities compares policies of workloads that have all labels, a
// group and a policy of their own, so that each is a class by itself, and holds
// them against the policies of BenchmarkDiff, whose workloads share 750 groups:
// a default that is added to both, and for identities a service that all open
// to all. On two cores that others used as well, 10,000 identities under 40,000
// rules took 3 to 5 s of processor time, 40 to 50 times the shared ones, and
// 1,000 took 0.1 to 0.9 s; by pairs of rectangles, as it was before, 1,000 took
// 107 and 160 s.
func BenchmarkIdentities(b *testing.B) {
	anybody := []policy.Peer{{Group: policy.Any}}
	add := func(set *policy.Set, p policy.Policy) *policy.Set {
		next := *set
		next.Policies = append(slices.Clone(set.Policies), p)
		slices.SortStableFunc(next.Policies, func(a, b policy.Policy) int { return a.Compare(&b) })
		return &next
	}
	deny := policy.Policy{Name: "base", Tier: policy.TierBaseline, Mode: policy.ModeEnforce, AppliesTo: anybody,
		Ingress: []policy.Rule{{Name: "no", Action: policy.ActionDeny, From: anybody}}}
	scrape := policy.Policy{Name: "scrape", Tier: policy.TierAdmin, Mode: policy.ModeEnforce, AppliesTo: anybody,
		Ingress: []policy.Rule{{Name: "all", Action: policy.ActionAllow, From: anybody, Services: []policy.ServiceRef{{Name: "db"}}}},
		Egress:  []policy.Rule{{Name: "all", Action: policy.ActionAllow, To: anybody, Services: []policy.ServiceRef{{Name: "db"}}}}}
	took := func(before, after *policy.Set, inv policy.Inventory) (time.Duration, int) {
		began := time.Now()
		n := len(prove.Diff(before, after, inv, policytest.Now()))
		return time.Since(began), n
	}
	for _, workloads := range []int{1000, 10000} {
		shared, sharedInv := policytest.Large(workloads, workloads/10)
		own, inv := policytest.Identities(workloads)
		open := *own // without the denials
		open.Policies = slices.Clone(own.Policies)
		for i := range open.Policies {
			open.Policies[i].Ingress, open.Policies[i].Egress = open.Policies[i].Ingress[:1], open.Policies[i].Egress[:1]
		}
		for _, c := range []struct {
			name          string
			before, after *policy.Set
		}{{"default", &open, add(&open, deny)}, {"service", own, add(own, scrape)}} {
			b.Run(fmt.Sprint(c.name, "/", workloads), func(b *testing.B) {
				var mine, peer time.Duration
				regions := 0
				for b.Loop() {
					d, n := took(c.before, c.after, inv)
					mine, regions = mine+d, n
					d, _ = took(shared, add(shared, deny), sharedInv)
					peer += d
				}
				b.ReportMetric(float64(mine)/float64(peer), "x-shared")
				b.ReportMetric(mine.Seconds()/float64(b.N), "s/diff")
				b.ReportMetric(float64(regions), "regions")
			})
		}
	}
}
