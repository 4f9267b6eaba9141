package openflow

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// txModel is what a switch should hold after the transactions so far: plain
// maps, changed by the words of the specification.
type txModel struct {
	meters map[uint32]Meter
	groups map[uint32]Group
	flows  map[FlowKey]Flow
}

func (m txModel) clone() txModel {
	return txModel{maps.Clone(m.meters), maps.Clone(m.groups), maps.Clone(m.flows)}
}

// apply returns the refused members and what is in force afterwards; committed
// says that only old meters stayed.
func (m txModel) apply(tx *Tx) (refused []string, committed bool, after txModel) {
	for i, meter := range tx.ModifyMeters {
		if _, ok := m.meters[meter.ID]; !ok {
			return []string{fmt.Sprint("meter ", len(tx.AddMeters)+i)}, false, m
		}
	}
	next := m.clone()
	for i, meter := range tx.AddMeters {
		if _, ok := next.meters[meter.ID]; ok {
			refused = append(refused, fmt.Sprint("meter ", i))
		}
		next.meters[meter.ID] = meter
	}
	for _, meter := range tx.ModifyMeters {
		next.meters[meter.ID] = meter
	}
	for i := range tx.Flows {
		if len(tx.Flows[i].Actions) > 0 && tx.Flows[i].Actions[0] == refusedFlow(0).Actions[0] {
			refused = append(refused, fmt.Sprint("flow ", i))
		}
	}
	if len(refused) > 0 {
		return refused, false, m
	}
	if i := slices.IndexFunc(tx.DeleteGroups, func(id uint32) bool { return m.needs(id, tx) }); i >= 0 {
		return []string{fmt.Sprint("group ", len(tx.Groups)+i)}, false, m
	}
	if member := next.bundle(tx); member != "" {
		return []string{member}, false, m
	}
	for i, id := range tx.DeleteMeters {
		if next.names(func(f Flow) bool { return f.Meter == id }) {
			refused = append(refused, fmt.Sprint("meter ", tx.meters()+i))
			continue
		}
		delete(next.meters, id)
	}
	return refused, true, next
}

func (m txModel) names(does func(Flow) bool) bool {
	for _, f := range m.flows {
		if does(f) {
			return true
		}
	}
	return false
}

// needs reports whether a flow names a group that the transaction leaves.
func (m txModel) needs(id uint32, tx *Tx) bool {
	return m.names(func(f Flow) bool {
		touched := slices.ContainsFunc(tx.Flows, func(mod FlowMod) bool {
			if mod.Command == Delete {
				return mod.Table == f.Table
			}
			return mod.Key() == f.Key()
		})
		return namesGroup(f.Actions, id) && !touched
	})
}

// bundle carries out the bundle, up to the first member that fails.
func (m txModel) bundle(tx *Tx) (failed string) {
	for i, g := range tx.Groups {
		if _, ok := m.groups[g.ID]; ok == (g.Command == GroupAdd) {
			return fmt.Sprint("group ", i)
		}
		m.groups[g.ID] = g.Group
	}
	for i := range tx.Flows {
		mod := &tx.Flows[i]
		switch mod.Command {
		case Delete:
			maps.DeleteFunc(m.flows, func(k FlowKey, _ Flow) bool { return k.Table == mod.Table })
		case DeleteStrict:
			delete(m.flows, mod.Key())
		default:
			_, known := m.meters[mod.Meter]
			missing := slices.ContainsFunc(mod.Actions, func(a Action) bool {
				g, ok := a.(ToGroup)
				_, there := m.groups[g.ID]
				return ok && !there
			})
			if mod.Meter != 0 && !known || missing {
				return fmt.Sprint("flow ", i)
			}
			m.flows[mod.Key()] = mod.Flow
		}
	}
	for _, id := range tx.DeleteGroups {
		delete(m.groups, id)
	}
	return ""
}

// text is the model as sorted lines, to be compared with the switch's.
func (m txModel) text() string {
	var out []string
	for _, x := range m.meters {
		out = append(out, x.String())
	}
	for _, g := range m.groups {
		out = append(out, g.String())
	}
	for _, f := range m.flows {
		out = append(out, f.String())
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (r *faultRig) held(t *rapid.T) string {
	meters, err1 := r.conn.Meters(r.ctx)
	groups, err2 := r.conn.Groups(r.ctx)
	flows, err3 := r.conn.Flows(r.ctx, FlowFilter{Table: 20}, FlowFilter{Table: 21})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	m := txModel{map[uint32]Meter{}, map[uint32]Group{}, map[FlowKey]Flow{}}
	for _, x := range meters {
		m.meters[x.ID] = x
	}
	for _, g := range groups {
		m.groups[g.ID] = g
	}
	for i := range flows {
		m.flows[flows[i].Key()] = flows[i].Flow
	}
	return m.text()
}

// drawTx draws a transaction over a handful of IDs, so that members get into
// each other's way.
func drawTx(t *rapid.T) Tx {
	id := rapid.Uint32Range(1, 4)
	meter := rapid.Custom(func(t *rapid.T) Meter {
		return Meter{ID: id.Draw(t, "meter"), Flags: MeterPktps | MeterBurst, Rate: rapid.Uint32Range(1, 9).Draw(t, "rate"), Burst: 9}
	})
	group := rapid.Custom(func(t *rapid.T) GroupMod {
		return faultGroup(rapid.SampledFrom([]GroupCommand{GroupAdd, GroupModify}).Draw(t, "command"), id.Draw(t, "group"),
			rapid.SampledFrom([]uint32{PortNormal, PortFlood}).Draw(t, "port"))
	})
	byID := func(m Meter) uint32 { return m.ID }
	tx := Tx{
		AddMeters: rapid.SliceOfN(meter, 0, 2).Draw(t, "add"), ModifyMeters: rapid.SliceOfNDistinct(meter, 0, 1, byID).Draw(t, "modify"),
		Groups: rapid.SliceOfN(group, 0, 2).Draw(t, "groups"), Flows: rapid.SliceOfN(rapid.Custom(drawMod), 0, 4).Draw(t, "flows"),
		DeleteMeters: rapid.SliceOfNDistinct(id, 0, 2, rapid.ID).Draw(t, "delete meters"),
	}
	named := map[uint32]bool{} // a group that the transaction itself names cannot go
	for i := range tx.Groups {
		named[tx.Groups[i].ID] = true
	}
	for i := range tx.Flows {
		for _, a := range tx.Flows[i].Actions {
			if g, ok := a.(ToGroup); ok {
				named[g.ID] = true
			}
		}
	}
	for _, id := range rapid.SliceOfNDistinct(id, 0, 2, rapid.ID).Draw(t, "delete groups") {
		if !named[id] {
			tx.DeleteGroups = append(tx.DeleteGroups, id)
		}
	}
	return tx
}

func drawMod(t *rapid.T) FlowMod {
	f := Flow{Table: rapid.SampledFrom([]uint8{20, 21}).Draw(t, "table"), Priority: rapid.Uint16Range(1, 3).Draw(t, "priority"), Match: Match{InPort(1)}}
	switch rapid.IntRange(0, 11).Draw(t, "kind") {
	case 0:
		return FlowMod{Command: Delete, Flow: Flow{Table: f.Table}}
	case 1, 2:
		return FlowMod{Command: DeleteStrict, Flow: f}
	case 3:
		f.Actions = refusedFlow(0).Actions
	case 4, 5:
		f.Actions = []Action{ToGroup{ID: rapid.Uint32Range(1, 4).Draw(t, "to group")}}
	case 6, 7, 8:
		f.Meter, f.Actions = rapid.Uint32Range(1, 4).Draw(t, "by meter"), []Action{Output{Port: PortNormal}}
	}
	return FlowMod{Flow: f}
}

// Random transactions leave the switch as the plain model says, and name
// exactly the members that are to blame.
func TestTransactionsAgainstAModel(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofm")
	r := newFaultRig(ctx, t, sw, "plofm0")
	committed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		everything := Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: TableAll}}}, DeleteGroups: []uint32{1, 2, 3, 4, 7}, DeleteMeters: []uint32{1, 2, 3, 4, 7}}
		if err := r.conn.Commit(ctx, everything); err != nil {
			t.Fatal(err)
		}
		m := txModel{map[uint32]Meter{}, map[uint32]Group{}, map[FlowKey]Flow{}}
		for range rapid.IntRange(1, 8).Draw(t, "transactions") {
			tx := drawTx(t)
			want, whole, next := m.apply(&tx)
			err := r.conn.Commit(ctx, tx)
			var e *TxError
			if errors.As(err, &e) != (len(want) > 0) || err != nil && e == nil {
				t.Fatalf("got %v, want %q refused\n%+v", err, want, tx)
			}
			var got []string
			if e != nil {
				for _, member := range e.Members {
					got = append(got, fmt.Sprint(member.Member, " ", member.Index))
				}
				if e.Committed != whole {
					t.Fatalf("committed %v, want %v: %v\n%+v", e.Committed, whole, err, tx)
				}
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Fatalf("blamed %q, want %q: %v\n%+v", got, want, err, tx)
			}
			if have := r.held(t); have != next.text() {
				t.Fatalf("the switch holds\n%s\nwant\n%s\nafter %v\n%+v", have, next.text(), err, tx)
			}
			if m = next; whole {
				committed++
			} else {
				refused++
			}
		}
	})
	if t.Logf("%d transactions committed, %d refused", committed, refused); committed < 50 || refused < 50 {
		t.Error("the draw is one-sided")
	}
}
