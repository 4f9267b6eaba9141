package policytest_test

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/policy/policytest"
)

// What is drawn is what files can say.
func TestSetsAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw, err := policytest.Sets().Draw(t, "set").Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := policy.Read(policy.Source{Name: "set", Data: raw}); err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
	})
}

// Properties over worlds in which everything is allowed would say nothing.
func TestWorldsAreVaried(t *testing.T) {
	type kind struct {
		action         policy.Action
		ruled, changes bool
	}
	seen := map[kind]int{}
	worlds := policytest.Worlds()
	for seed := range 300 {
		w := worlds.Example(seed)
		o := oracle.New(w.Set, w.Inventory, policytest.Now())
		connections := policytest.Connections(w)
		for n := range 10 {
			v := o.Verdict(connections.Example(n))
			seen[kind{v.Action, v.Egress.ID != policy.RuleID{} && v.Ingress.ID != policy.RuleID{}, v.Staged != nil}]++
		}
	}
	for _, a := range []policy.Action{policy.ActionAllow, policy.ActionDeny, policy.ActionReject, policy.ActionRateLimit} {
		for _, ruled := range []bool{false, true} {
			for _, changes := range []bool{false, true} {
				if a == policy.ActionAllow && ruled && changes {
					continue // seldom
				}
				if seen[kind{a, ruled, changes}] < 3 {
					t.Errorf("%s, both sides ruled %v, staged changes it %v: %d of 3000; all: %v", a, ruled, changes, seen[kind{a, ruled, changes}],
						slices.Sorted(maps.Values(seen)))
				}
			}
		}
	}
}
