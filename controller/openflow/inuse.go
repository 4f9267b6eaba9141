package openflow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// guardGroups refuses to delete a group that somebody still needs. It looks
// right before the commit, when only who acts in the same millisecond can be
// overlooked.
func (r *txRun) guardGroups(ctx context.Context) error {
	if len(r.tx.DeleteGroups) == 0 {
		return nil
	}
	strict := map[FlowKey][]*FlowMod{}
	var wide []*FlowMod
	for i := range r.tx.Flows {
		switch m := &r.tx.Flows[i]; m.Command {
		case Modify, Delete:
			wide = append(wide, m)
		default:
			strict[m.Key()] = append(strict[m.Key()], m)
		}
	}
	bodies := make([][]byte, len(r.tx.DeleteGroups))
	for i, id := range r.tx.DeleteGroups {
		bodies[i] = flowsOfGroupBody(id)
	}
	var flows []FlowStats
	if err := r.c.multipart(ctx, multipartFlow, bodies, decodeAll(&flows, decodeFlowStats)); err != nil {
		return fmt.Errorf("read the flows of groups to be deleted: %w", err)
	}
	for i := range flows {
		f := &flows[i].Flow
		if !changes(strict[f.Key()], f) && !changes(wide, f) {
			return r.inUse(f)
		}
	}
	return r.guardChains(ctx)
}

// inUse blames the group of DeleteGroups that a flow names.
func (r *txRun) inUse(f *Flow) error {
	blame := 0
	for i, id := range r.tx.DeleteGroups {
		if namesGroup(f.Actions, id) || namesGroup(f.Write, id) {
			blame = i
		}
	}
	return r.deletedGroup(blame, fmt.Errorf("%w by %s", ErrInUse, f))
}

func (r *txRun) deletedGroup(i int, err error) *MemberError {
	return r.tx.member(r.tx.members()-len(r.tx.DeleteGroups)+i, err)
}

// guardChains looks for groups that hand packets on to a group to be deleted.
func (r *txRun) guardChains(ctx context.Context) error {
	groups, err := r.c.Groups(ctx)
	if err != nil {
		return err
	}
	changed := map[uint32]bool{}
	for i := range r.tx.Groups {
		changed[r.tx.Groups[i].ID] = true
	}
	for _, id := range r.tx.DeleteGroups {
		changed[id] = true
	}
	for i, id := range r.tx.DeleteGroups {
		for g := range groups {
			if !changed[groups[g].ID] && groups[g].leadsTo(id) {
				return r.deletedGroup(i, fmt.Errorf("%w by %s", ErrInUse, &groups[g]))
			}
		}
	}
	return nil
}

// leadsTo reports whether a bucket names or watches a group.
func (g *Group) leadsTo(id uint32) bool {
	for i := range g.Buckets {
		k := &g.Buckets[i]
		if namesGroup(k.Actions, id) || id != 0 && k.WatchGroup == id {
			return true
		}
	}
	return false
}

// flowsOfGroupBody asks for the flows of all tables that name a group (section
// 7.3.5.2, out_group).
func flowsOfGroupBody(id uint32) []byte {
	body := FlowFilter{Table: TableAll}.appendStatsRequest(nil)
	binary.BigEndian.PutUint32(body[8:], id)
	return body
}

// changes reports whether one of the flow-mods replaces, changes or deletes a
// flow; when in doubt, it does not.
func changes(mods []*FlowMod, f *Flow) bool {
	for _, m := range mods {
		if m.Command != Add && (f.Cookie^m.Cookie)&m.CookieMask != 0 {
			continue
		}
		switch m.Command {
		case Modify, Delete:
			if (m.Table == TableAll || m.Table == f.Table) && m.Match.includes(f.Match) {
				return true
			}
		default: // the strict ones are looked up by the flow's key
			return true
		}
	}
	return false
}

// includes reports whether every field of m stands in other as it is, so that
// m selects all that other does.
func (m Match) includes(other Match) bool {
	has := make(map[OXM]bool, len(other))
	for _, o := range other.Canonical() {
		has[o] = true
	}
	for _, o := range m.Canonical() {
		if !has[o] {
			return false
		}
	}
	return true
}

// deleteMeters deletes the old meters that no flow names any more: Open
// vSwitch would delete the flow as well.
func (r *txRun) deleteMeters(ctx context.Context) error {
	if len(r.tx.DeleteMeters) == 0 {
		return nil
	}
	result := &TxError{Committed: true}
	flows, err := r.c.flowsOfMeters(ctx, r.tx.DeleteMeters)
	if err == nil {
		var unused []int
		for i, n := range flows {
			if n == 0 {
				unused = append(unused, i)
			} else if n > 0 {
				result.Members = append(result.Members, r.deletedMember(i, fmt.Errorf("%w by %d flows", ErrInUse, n)))
			}
		}
		err = r.sendDeletions(ctx, unused, result)
	}
	if err != nil {
		result.Cause = fmt.Errorf("delete old meters: %w", err)
	}
	if len(result.Members) > 0 || err != nil {
		return result
	}
	return nil
}

func (r *txRun) deletedMember(i int, err error) *MemberError {
	return &MemberError{Member: "meter", Index: r.tx.meters() + i, Text: fmt.Sprintf("meter=%d", r.tx.DeleteMeters[i]), Err: err}
}

// sendDeletions deletes the given ones of DeleteMeters.
func (r *txRun) sendDeletions(ctx context.Context, which []int, result *TxError) error {
	if len(which) == 0 {
		return nil
	}
	first := uint32(0)
	errs, err := r.c.sendChecked(ctx, len(which), func(b []byte, i int, xid uint32) []byte {
		if i == 0 {
			first = xid
		}
		return appendMeterMod(b, xid, MeterDelete, Meter{ID: r.tx.DeleteMeters[which[i]]})
	})
	for _, e := range errs {
		if i := int(e.XID - first); i < len(which) && !isUnknownMeter(e) {
			result.Members = append(result.Members, r.deletedMember(which[i], e))
		}
	}
	return err
}

func isUnknownMeter(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Type == ErrorTypeMeterFailed && e.CodeName() == "UNKNOWN_METER"
}

// flowsOfMeters returns how many flows name each of the meters, -1 where there
// is no such meter.
func (c *Conn) flowsOfMeters(ctx context.Context, ids []uint32) ([]int, error) {
	r := &txRun{c: c}
	types := make([]Type, len(ids))
	for i := range types {
		types[i] = TypeMultipartReply
	}
	calls, err := r.begin(types...)
	if err != nil {
		return nil, err
	}
	if err := c.write(ctx, func(w *messageWriter) {
		for i, k := range calls {
			w.add(func(b []byte) []byte { return appendMultipart(b, k.xid, multipartMeter, meterBody(ids[i])) })
		}
	}); err != nil {
		return nil, r.abandon(calls, err)
	}
	out := make([]int, len(ids))
	for i, k := range calls {
		out[i] = -1
		replies, waitErr := c.wait(ctx, k)
		if isUnknownMeter(waitErr) {
			continue
		}
		var counters []MeterCounters
		if waitErr == nil {
			waitErr = eachPart(replies, multipartMeter, decodeAll(&counters, decodeMeterStats))
		}
		err = errors.Join(err, waitErr)
		if len(counters) > 0 {
			out[i] = int(counters[0].Flows)
		}
	}
	return out, err
}
