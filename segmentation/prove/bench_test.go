package prove_test

import (
	"fmt"
	"slices"
	"testing"

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
