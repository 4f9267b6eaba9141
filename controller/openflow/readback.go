package openflow

import (
	"context"
	"fmt"
)

// Difference is something in which a switch differs from what a transaction
// made of it.
type Difference struct {
	// Member is "meter", "group" or "flow".
	Member string
	// Want and Have are the member in ovs-ofctl's syntax; empty is not there.
	Want, Have string
}

// String says it for people.
func (d Difference) String() string {
	switch {
	case d.Have == "":
		return fmt.Sprintf("%s missing: %s", d.Member, d.Want)
	case d.Want == "":
		return fmt.Sprintf("%s still there: %s", d.Member, d.Have)
	}
	return fmt.Sprintf("%s %s is %s", d.Member, d.Want, d.Have)
}

// Reading is what a switch holds of a transaction.
type Reading struct {
	// Differences is empty when the switch holds what the transaction made.
	Differences []Difference
	// Flows are those that the transaction put there, with their counters,
	// in the order of Tx.Flows; the missing and the different are left out.
	Flows []FlowStats
}

// ReadBack reads what a transaction has touched, in one round trip for the
// flows and one each for meters and groups if it has any, and compares. It
// says nothing of flows that Modify changed, nor of those that a deletion by
// wildcards may have taken away again behind their addition.
func (c *Conn) ReadBack(ctx context.Context, tx Tx) (Reading, error) {
	var r Reading
	for _, part := range []func(context.Context, *Tx) error{
		func(ctx context.Context, tx *Tx) error { return r.readFlows(ctx, c, tx) },
		func(ctx context.Context, tx *Tx) error { return r.readGroups(ctx, c, tx) },
		func(ctx context.Context, tx *Tx) error { return r.readMeters(ctx, c, tx) },
	} {
		if err := part(ctx, &tx); err != nil {
			return Reading{}, fmt.Errorf("read a transaction back: %w", err)
		}
	}
	return r, nil
}

// outcome is what the flow-mods of a transaction should have come to.
type outcome struct {
	there map[FlowKey]*Flow
	gone  map[FlowKey]*FlowMod
	wide  []*FlowMod // deletions by wildcards
	order []FlowKey  // of there
}

func outcomeOf(mods []FlowMod) outcome {
	o := outcome{there: make(map[FlowKey]*Flow, len(mods)), gone: map[FlowKey]*FlowMod{}}
	for i := range mods {
		m := &mods[i]
		switch m.Command {
		case Add:
			key := m.Key()
			if delete(o.gone, key); o.there[key] == nil {
				o.order = append(o.order, key)
			}
			o.there[key] = &m.Flow
		case DeleteStrict:
			key := m.Key()
			if old := o.there[key]; old == nil || (old.Cookie^m.Cookie)&m.CookieMask == 0 {
				delete(o.there, key)
				o.gone[key] = m
			}
		case ModifyStrict:
			delete(o.there, m.Key())
		case Modify, Delete:
			o.forget(m)
		}
	}
	return o
}

// forget expects nothing any more of what a flow-mod with wildcards may select.
func (o *outcome) forget(m *FlowMod) {
	for key := range o.there {
		if m.Table == TableAll || m.Table == key.Table {
			delete(o.there, key)
		}
	}
	if m.Command == Delete {
		o.wide = append(o.wide, m)
	}
}

// readSingly is up to how many cookies are asked for one by one: the switch
// finds a flow by its whole cookie at once, and by a part of it among all.
const readSingly = 32

// filters select all that the outcome is about: what is left of each deletion
// by wildcards, and of each table what has the right cookie or, if there are
// many, what has the bits in common that the cookies have.
func (o *outcome) filters() []FlowFilter {
	places := map[place]bool{}
	for key, f := range o.there {
		places[place{key.Table, f.Cookie, ^uint64(0)}] = true
	}
	for key, m := range o.gone {
		places[place{key.Table, m.Cookie & m.CookieMask, m.CookieMask}] = true
	}
	if len(places) > readSingly {
		places = merged(places)
	}
	out := make([]FlowFilter, 0, len(places)+len(o.wide))
	for k := range places {
		out = append(out, FlowFilter{Table: k.table, Cookie: k.cookie, CookieMask: k.mask})
	}
	for _, m := range o.wide {
		out = append(out, FlowFilter{Table: m.Table, Cookie: m.Cookie & m.CookieMask, CookieMask: m.CookieMask, Match: m.Match})
	}
	return out
}

// place is where flows of a cookie stand.
type place struct {
	table        uint8
	cookie, mask uint64
}

// merged returns one place for each table, which holds all of its places.
func merged(places map[place]bool) map[place]bool {
	tables := map[uint8]place{}
	for p := range places {
		all, ok := tables[p.table]
		if !ok {
			all = p
		}
		all.mask &= p.mask &^ (all.cookie ^ p.cookie)
		all.cookie &= all.mask
		tables[p.table] = all
	}
	out := make(map[place]bool, len(tables))
	for _, p := range tables {
		out[p] = true
	}
	return out
}

func (r *Reading) readFlows(ctx context.Context, c *Conn, tx *Tx) error {
	o := outcomeOf(tx.Flows)
	filters := o.filters()
	if len(filters) == 0 {
		return nil
	}
	list, err := c.Flows(ctx, filters...)
	if err != nil {
		return err
	}
	have := make(map[FlowKey]*FlowStats, len(list))
	for i := range list {
		have[list[i].Key()] = &list[i]
	}
	for _, key := range o.order {
		want, got := o.there[key], have[key]
		switch {
		case want == nil: // taken away again
		case got == nil:
			r.differ("flow", want.String(), "")
		case !got.same(want):
			r.differ("flow", want.String(), got.Flow.String())
		default:
			r.Flows = append(r.Flows, *got)
		}
	}
	for key, got := range have {
		if o.there[key] == nil && changes(append(o.wide, o.strictOf(key)...), &got.Flow) {
			r.differ("flow", "", got.Flow.String())
		}
	}
	return nil
}

func (o *outcome) strictOf(key FlowKey) []*FlowMod {
	if m := o.gone[key]; m != nil {
		return []*FlowMod{m}
	}
	return nil
}

// same reports whether two flows of the same key are the same.
func (f *Flow) same(other *Flow) bool {
	const kept = FlagSendFlowRemoved | FlagNoPacketCounts | FlagNoByteCounts
	return f.Cookie == other.Cookie && f.IdleTimeout == other.IdleTimeout && f.HardTimeout == other.HardTimeout &&
		f.Flags&kept == other.Flags&kept && f.Instructions.Key() == other.Instructions.Key()
}

func (r *Reading) differ(member, want, have string) {
	r.Differences = append(r.Differences, Difference{Member: member, Want: want, Have: have})
}

func (r *Reading) readGroups(ctx context.Context, c *Conn, tx *Tx) error {
	if len(tx.Groups)+len(tx.DeleteGroups) == 0 {
		return nil
	}
	list, err := c.Groups(ctx)
	if err != nil {
		return err
	}
	have, want := map[uint32]*Group{}, map[uint32]*Group{}
	for i := range list {
		have[list[i].ID] = &list[i]
	}
	for i := range tx.Groups {
		want[tx.Groups[i].ID] = &tx.Groups[i].Group
	}
	for _, id := range tx.DeleteGroups {
		want[id] = nil
	}
	for id, w := range want {
		switch h := have[id]; {
		case w == nil && h != nil:
			r.differ("group", "", h.String())
		case w != nil && h == nil:
			r.differ("group", w.String(), "")
		case w != nil && h.Key() != w.Key():
			r.differ("group", w.String(), h.String())
		}
	}
	return nil
}

func (r *Reading) readMeters(ctx context.Context, c *Conn, tx *Tx) error {
	if tx.meters()+len(tx.DeleteMeters) == 0 {
		return nil
	}
	list, err := c.Meters(ctx)
	if err != nil {
		return err
	}
	have := map[uint32]Meter{}
	for _, m := range list {
		have[m.ID] = m
	}
	for i := range tx.meters() {
		want := *tx.meter(i)
		want.Bands = 1
		switch got, ok := have[want.ID]; {
		case !ok:
			r.differ("meter", want.String(), "")
		case got != want:
			r.differ("meter", want.String(), got.String())
		}
	}
	for _, id := range tx.DeleteMeters {
		if m, ok := have[id]; ok {
			r.differ("meter", "", m.String())
		}
	}
	return nil
}
