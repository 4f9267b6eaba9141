package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/flowtext"
)

// DriftKind says in what way a switch is not as it should be.
type DriftKind string

// Kinds of drift.
const (
	// DriftMissing is wanted and not there.
	DriftMissing DriftKind = "missing"
	// DriftUnexpected is ours by its cookie or ID, and wanted by nobody.
	DriftUnexpected DriftKind = "unexpected"
	// DriftDifferent is there with other actions, timeouts or cookie.
	DriftDifferent DriftKind = "different"
	// DriftForeign is somebody else's flow in our tables or in the place of
	// our hook. It is never healed: it is not ours to change.
	DriftForeign DriftKind = "foreign"
)

// Drift is one difference between a switch and what is wanted on it.
type Drift struct {
	Kind  DriftKind `json:"kind"`
	What  string    `json:"what"` // "flow" or "meter"
	Table string    `json:"table,omitempty"`
	// Owner, Intent and Why are those of the rule that is affected; empty
	// for the frame, the tap and what is foreign.
	Owner  string `json:"owner,omitempty"`
	Intent string `json:"intent,omitempty"`
	Why    string `json:"why,omitempty"`
	// Want and Have are what should be there and what is, in ovs-ofctl's
	// syntax; empty for nothing.
	Want string `json:"want,omitempty"`
	Have string `json:"have,omitempty"`

	order openflow.FlowKey
}

// Drift compares the switch with what is wanted there now, and changes
// nothing on it. Rules that wait for their port are not wanted yet. It works on
// a switch that is refused as well, over a connection of its own. Where another
// Platelet holds the bridge the error wraps ErrHeld: what stands there is not
// ours to judge.
func (b *Bridge) Drift(ctx context.Context) ([]Drift, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lockPolicy(ctx); err != nil {
		return nil, err
	}
	defer b.unlockPolicy()
	conn, _ := b.current()
	if conn == nil {
		var err error
		if conn, err = b.cfg.Dialer.Dial(ctx, b.cfg.Target); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
		}
		defer conn.Close()
		if err := b.learn(ctx, conn); err != nil {
			return nil, err
		}
	}
	claims, err := b.claimFlows(ctx, conn)
	if err != nil {
		return nil, err
	}
	if found := holder(claims); found != nil && found.instance != b.cfg.Instance.name() {
		return nil, fmt.Errorf("%w: %s", ErrHeld, *found)
	}
	apart, err := b.apart(ctx, conn)
	if err != nil {
		return nil, err
	}
	out, err := b.driftOfRules(ctx, conn, apart)
	if err != nil {
		return nil, err
	}
	if apart {
		more, err := b.driftOfPolicies(ctx, conn)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	slices.SortFunc(out, func(x, y Drift) int {
		return cmp.Or(cmp.Compare(x.What, y.What), cmp.Compare(x.order.Table, y.order.Table),
			cmp.Compare(y.order.Priority, x.order.Priority), cmp.Compare(x.order.Match, y.order.Match))
	})
	return out, nil
}

// driftOfRules compares all that belongs on the switch; apart all but the flows
// of policies.
func (b *Bridge) driftOfRules(ctx context.Context, conn *openflow.Conn, apart bool) ([]Drift, error) {
	if err := b.lockRules(ctx); err != nil {
		return nil, err
	}
	defer b.unlockRules()
	p, err := look(ctx, conn, b.cfg.Layout, apart)
	if err != nil {
		return nil, err
	}
	b.adoptBank(&p)
	b.setAside(&p)
	b.mu.Lock()
	defer b.mu.Unlock()
	want, _, err := b.desiredFlows(b.now(), apart)
	if err != nil {
		return nil, err
	}
	return slices.Concat(b.flowDrift(&p, want), b.meterDrift(&p, want)), nil
}

// driftOfPolicies compares the flows of policies. The caller holds their lock.
func (b *Bridge) driftOfPolicies(ctx context.Context, conn *openflow.Conn) ([]Drift, error) {
	h, err := b.lookPolicies(ctx, conn)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	place, lingers := b.policyPlace(), b.spare.lingers(b.now())
	b.mu.Unlock()
	if !lingers {
		h.mine = append(h.mine, h.other...)
	}
	want := place.desired(b.policy)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.flowDrift(&picture{own: h.mine}, want), nil
}

// flowDrift compares flows. The caller holds mu.
func (b *Bridge) flowDrift(p *picture, want map[openflow.FlowKey]desired) []Drift {
	var out []Drift
	add := func(kind DriftKind, f *openflow.Flow, of desired, wanted, have string) {
		d := Drift{Kind: kind, What: "flow", Table: b.cfg.Layout.TableName(f.Table), Want: wanted, Have: have, order: f.Key()}
		d.Owner, d.Intent, d.Why = of.source()
		out = append(out, d)
	}
	there := make(map[openflow.FlowKey]bool, len(p.own))
	for i := range p.own {
		f := &p.own[i].Flow
		if b.claim == nil && cookieCategory(f.Cookie) == CategoryClaim {
			continue // an earlier one of our own
		}
		there[f.Key()] = true
		w, ok := want[f.Key()]
		switch {
		case !ok:
			add(DriftUnexpected, f, desired{rule: b.ruleOf(f.Cookie), policy: b.policy.ruleOf(f.Cookie)}, "", flowtext.Text(f))
		case !same(f, &w.flow):
			add(DriftDifferent, f, w, flowtext.Text(&w.flow), flowtext.Text(f))
		}
	}
	for i := range p.foreign {
		f := &p.foreign[i].Flow
		add(DriftForeign, f, desired{}, "", flowtext.Text(f))
	}
	for key, w := range want {
		if !there[key] {
			add(DriftMissing, &w.flow, w, flowtext.Text(&w.flow), "")
		}
	}
	return out
}

// ruleOf returns the rule about packets that a cookie of ours names, nil if
// there is none.
func (b *Bridge) ruleOf(cookie uint64) *rule {
	if !ruleCategory(cookieCategory(cookie)) {
		return nil
	}
	return b.rules.objects[cookieObject(cookie)]
}

// meterDrift compares meters. The caller holds mu.
func (b *Bridge) meterDrift(p *picture, want map[openflow.FlowKey]desired) []Drift {
	have := make(map[uint32]openflow.Meter, len(p.meters))
	for _, m := range p.meters {
		have[m.ID] = m
	}
	var out []Drift
	used := map[uint32]bool{}
	compare := func(m openflow.Meter, d Drift) {
		used[m.ID] = true
		d.What, d.Want = "meter", m.String()
		switch got, ok := have[m.ID]; {
		case m.ID == 0:
			return
		case !ok:
			d.Kind = DriftMissing
		case got != m:
			d.Kind, d.Have = DriftDifferent, got.String()
		default:
			return
		}
		out = append(out, d)
	}
	for _, m := range b.copyMeters {
		compare(m, Drift{Why: "limits the copies of packets"})
	}
	for _, r := range b.policy.all() {
		compare(r.meter, Drift{Owner: r.ID.Policy, Intent: r.ID.String()})
	}
	for _, w := range want {
		if w.rule != nil {
			compare(w.rule.meter, Drift{Owner: w.rule.owner, Intent: w.rule.intent.ID, Why: w.rule.intent.Why, order: w.flow.Key()})
		}
	}
	for _, m := range p.meters {
		if !used[m.ID] && b.meters.owns(m) {
			out = append(out, Drift{Kind: DriftUnexpected, What: "meter", Have: m.String()})
		}
	}
	return out
}
