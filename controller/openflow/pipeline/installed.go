package pipeline

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/flowtext"
)

// InstalledRule is a flow of ours on the switch.
type InstalledRule struct {
	Table    string `json:"table"`
	Category string `json:"category"`
	// Owner and Intent are empty for the frame, the tap and classes; of a
	// policy's rule they are the policy and the rule.
	Owner  string `json:"owner,omitempty"`
	Intent string `json:"intent,omitempty"`
	Why    string `json:"why,omitempty"`
	// Expires is when the rule ends unless it is renewed.
	Expires time.Time `json:"expires,omitzero"`
	// Flow is the flow in ovs-ofctl's syntax.
	Flow    string `json:"flow"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// PlacedRule is a rule that an owner has on the switch, as far as we know.
type PlacedRule struct {
	Intent string
	Cookie uint64
}

// Placed lists an owner's rules with the cookies of their flows, without asking
// the switch.
func (b *Bridge) Placed(owner string) []PlacedRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []PlacedRule
	for _, r := range b.rules.owners[owner] {
		if r.placed != nil {
			list = append(list, PlacedRule{r.intent.ID, r.placed.Cookie})
		}
	}
	slices.SortFunc(list, func(x, y PlacedRule) int {
		return cmp.Or(cmp.Compare(x.Intent, y.Intent), cmp.Compare(x.Cookie, y.Cookie))
	})
	return list
}

// InstalledPart is a meter or group on the switch that flows of ours name.
type InstalledPart struct {
	// Text is what add-meter or add-group of ovs-ofctl takes.
	Text string `json:"text"`
	// Owner and Intent are those of a rule that uses it; empty when none
	// does any more.
	Owner  string `json:"owner,omitempty"`
	Intent string `json:"intent,omitempty"`
}

// Installed is what is ours on a switch, and what it needs.
type Installed struct {
	Meters []InstalledPart `json:"meters"`
	Groups []InstalledPart `json:"groups"`
	Rules  []InstalledRule `json:"rules"`
}

// Rules reads our flows from the switch, in the order in which packets meet
// them.
func (b *Bridge) Rules(ctx context.Context) ([]InstalledRule, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	conn, flows, err := b.ownFlows(ctx)
	if conn == nil || err != nil {
		return nil, err
	}
	return b.rows(flows), nil
}

// Installed reads our flows from the switch, and the meters and groups that
// they name, with the meters that were left behind.
func (b *Bridge) Installed(ctx context.Context) (Installed, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	conn, flows, err := b.ownFlows(ctx)
	if err != nil {
		return Installed{}, err
	}
	meters, err := conn.Meters(ctx)
	if err != nil {
		return Installed{}, err
	}
	groups, err := conn.Groups(ctx)
	if err != nil {
		return Installed{}, err
	}
	out := Installed{Meters: []InstalledPart{}, Groups: []InstalledPart{}, Rules: b.rows(flows)}
	b.mu.Lock()
	defer b.mu.Unlock()
	byMeter, byGroup := map[uint32]desired{}, map[uint32]desired{} // empty for the frame's
	for i := range flows {
		r := desired{rule: b.ruleOf(flows[i].Cookie), policy: b.policy.ruleOf(flows[i].Cookie)}
		byMeter[flows[i].Meter] = r
		for _, a := range slices.Concat(flows[i].Actions, flows[i].Write) {
			if g, ok := a.(openflow.ToGroup); ok {
				byGroup[g.ID] = r
			}
		}
	}
	for _, m := range meters {
		if r, named := byMeter[m.ID]; named || b.meters.owns(m) {
			out.Meters = append(out.Meters, part(m.String(), r))
		}
	}
	for i := range groups {
		if r, named := byGroup[groups[i].ID]; named {
			out.Groups = append(out.Groups, part(groups[i].String(), r))
		}
	}
	return out, nil
}

func part(text string, of desired) InstalledPart {
	owner, intent, _ := of.source()
	return InstalledPart{Text: text, Owner: owner, Intent: intent}
}

// ownFlows reads our flows, in the order in which packets meet them; those that
// packets taught are connections, not rules.
func (b *Bridge) ownFlows(ctx context.Context) (*openflow.Conn, []openflow.FlowStats, error) {
	conn, _ := b.current()
	if conn == nil {
		return nil, nil, ErrNotConnected
	}
	flows, err := conn.Flows(ctx, openflow.FlowFilter{Table: openflow.TableAll, Cookie: cookieOwner, CookieMask: cookieOwnerMask})
	flows = slices.DeleteFunc(flows, func(f openflow.FlowStats) bool { return isRemembered(f.Cookie) })
	slices.SortFunc(flows, func(x, y openflow.FlowStats) int {
		return cmp.Or(cmp.Compare(x.Table, y.Table), cmp.Compare(y.Priority, x.Priority), cmp.Compare(x.Match.Key(), y.Match.Key()))
	})
	return conn, flows, err
}

// rows says of flows what they are for.
func (b *Bridge) rows(flows []openflow.FlowStats) []InstalledRule {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]InstalledRule, 0, len(flows))
	for i := range flows {
		f := &flows[i]
		row := InstalledRule{
			Table: b.cfg.Layout.TableName(f.Table), Category: cookieCategory(f.Cookie).String(),
			Flow: flowtext.Text(&f.Flow), Packets: f.Packets, Bytes: f.Bytes,
		}
		r := b.ruleOf(f.Cookie)
		if row.Owner, row.Intent, row.Why = sourceOf(r, b.policy.ruleOf(f.Cookie)); r != nil {
			row.Expires = r.expiry
		}
		out = append(out, row)
	}
	return out
}
