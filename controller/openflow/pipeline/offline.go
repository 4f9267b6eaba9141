package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// PolicyFlow is a flow of a bridge that enforces policies, and the rule that it
// is of; the zero rule is the frame, and what classifies addresses and services.
type PolicyFlow struct {
	openflow.Flow
	Rule policy.RuleID
}

// PolicyTables compiles a program to all that a bridge without a tap holds for
// it, the meters first, in the order of tables and priorities. Rules that
// reject drop, because nobody is there to answer; ports to mirror to are not
// known.
func PolicyTables(l Layout, program *compile.Program) ([]openflow.Meter, []PolicyFlow, error) {
	b, err := New(Config{Name: "offline", Layout: l})
	if err != nil {
		return nil, nil, err
	}
	b.meters = newMeterRange(openflow.MeterFeatures{Max: 1 << 16})
	next, err := b.policy.next(program)
	if err != nil {
		return nil, nil, fmt.Errorf("compile policies: %w", err)
	}
	taken := map[uint32]bool{}
	var meters []openflow.Meter
	for _, id := range slices.SortedFunc(maps.Keys(next.rules), func(x, y policy.RuleID) int { return strings.Compare(x.String(), y.String()) }) {
		r := next.rules[id]
		if !r.limited() {
			continue
		}
		if r.meter, err = b.meters.allocate(limitOf(&r.Rule), taken); err != nil {
			return nil, nil, fmt.Errorf("compile policies: rule %s: %w", id, err)
		}
		taken[r.meter.ID] = true
		meters = append(meters, r.meter)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy, b.attached = next, true
	var out []PolicyFlow
	for _, f := range b.frame() {
		out = append(out, PolicyFlow{Flow: f})
	}
	b.policyFlows(func(f openflow.Flow, r *policyRule) {
		x := PolicyFlow{Flow: f}
		if r != nil {
			x.Rule = r.ID
		}
		out = append(out, x)
	})
	slices.SortFunc(out, func(x, y PolicyFlow) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), -cmp.Compare(x.Priority, y.Priority), strings.Compare(x.Match.String(), y.Match.String()))
	})
	return meters, out, nil
}
