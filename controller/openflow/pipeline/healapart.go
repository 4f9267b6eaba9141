package pipeline

import (
	"context"
	"errors"
	"fmt"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// Where policies have many flows, a heal deals with them apart: first, as one
// transaction, with the frame and the rules about packets, and then, while
// containment goes on, with the flows of policies, which it reads in parts and
// brings in order by way of the bank out of force. After a restart of the switch,
// emergency rules so come first.

// errOutdated says that flows of policies stand in no bank: those of an earlier
// version, which goes in one transaction.
var errOutdated = errors.New("policies of an earlier version")

// apart reports whether policies are to be dealt with apart.
func (b *Bridge) apart(ctx context.Context, conn *openflow.Conn) (bool, error) {
	b.mu.Lock()
	stays, flows := b.attached && !b.leaving, b.policy.flowCount()
	b.mu.Unlock()
	if !stays || flows > b.stageAbove {
		return stays, nil
	}
	var filters []openflow.FlowFilter
	for _, t := range policyTables() {
		filters = append(filters, openflow.FlowFilter{Table: b.cfg.Layout.table(t), Cookie: cookieOwner, CookieMask: cookieOwnerMask})
	}
	sum, err := conn.Aggregate(ctx, filters...)
	return int(sum.Flows) > b.stageAbove, err
}

// heal makes the switch hold what we want: meters, flows, barrier, read back.
// It returns the number of changes. The caller holds both operation locks, of
// which that of rules is given back for as long as policies alone are healed.
func (b *Bridge) heal(ctx context.Context, conn *openflow.Conn) (int, error) {
	apart, err := b.apart(ctx, conn)
	if err != nil {
		return 0, err
	}
	changes, err := b.healRules(ctx, conn, apart)
	if !apart || err != nil && !errors.Is(err, errShed) {
		return changes, err
	}
	if !b.Connected() {
		b.connected(conn, err) // containment need not wait any longer
	}
	b.unlockRules()
	n, later := b.healPolicies(ctx, conn)
	_ = b.lockRules(context.WithoutCancel(ctx)) // whoever has it gives it back in time
	if errors.Is(later, errOutdated) {
		n, later = b.healRules(ctx, conn, false)
	}
	return changes + n, errors.Join(err, later)
}

// adoptBank takes over which bank is in force on the switch, where that is not
// known: after a restart of ours, and where the answer to a change got lost.
func (b *Bridge) adoptBank(p *picture) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.bankUnsure {
		return
	}
	b.bankUnsure, b.spare = false, spare{}
	for i := range p.own {
		if f := &p.own[i].Flow; cookieCategory(f.Cookie) == CategoryHook {
			b.bank = bankOfHook(f)
		}
	}
}

// rulesFilters are filters without the flows of policies. Foreign flows among
// those are counted (strangers).
func (l Layout) rulesFilters() []openflow.FlowFilter {
	out := []openflow.FlowFilter{{Table: 0, Match: hookMatch()}}
	shared := map[uint8]bool{}
	for _, t := range policyTables() {
		shared[t] = true
		for _, c := range []Category{CategoryMiss, CategoryState} {
			out = append(out, openflow.FlowFilter{Table: l.table(t), Cookie: cookieOwner | uint64(c)<<32, CookieMask: cookieOwnerMask | 0xff<<32})
		}
	}
	for t := range tableCount {
		if !shared[t] {
			out = append(out, openflow.FlowFilter{Table: l.table(t)})
		}
	}
	return out
}

// strangers reads the flows of the tables where those of policies are, if any is
// not ours.
func strangers(ctx context.Context, conn *openflow.Conn, l Layout) ([]openflow.FlowStats, error) {
	var all, own []openflow.FlowFilter
	for _, t := range policyTables() {
		all = append(all, openflow.FlowFilter{Table: l.table(t)})
		own = append(own, openflow.FlowFilter{Table: l.table(t), Cookie: cookieOwner, CookieMask: cookieOwnerMask})
	}
	n, err := conn.Aggregate(ctx, all...)
	if err != nil {
		return nil, err
	}
	ours, err := conn.Aggregate(ctx, own...)
	if err != nil || n.Flows == ours.Flows {
		return nil, err
	}
	return conn.Flows(ctx, all...)
}

// banked is what the switch holds in the tables where policies are.
type banked struct {
	all     []openflow.FlowStats // of ours, with those of the frame
	mine    []openflow.FlowStats // in the bank that is in force, or in none
	other   []openflow.FlowStats // in the other one
	foreign []openflow.FlowStats
}

// lookPolicies reads what the switch holds of policies, bit by bit.
func (b *Bridge) lookPolicies(ctx context.Context, conn *openflow.Conn) (h banked, err error) {
	b.mu.Lock()
	k := b.bank
	b.mu.Unlock()
	for _, t := range policyTables() {
		table := openflow.FlowFilter{Table: b.cfg.Layout.table(t)}
		sum, err := conn.Aggregate(ctx, table)
		if err != nil {
			return h, err
		}
		for _, part := range divided(table, int(sum.Flows)) {
			flows, err := b.read(ctx, conn, part)
			if err != nil {
				return h, err
			}
			if err := h.sort(flows, k); err != nil {
				return h, err
			}
		}
	}
	return h, nil
}

// sort adds flows.
func (h *banked) sort(flows []openflow.FlowStats, k bank) error {
	for _, f := range flows {
		if !isOurs(f.Cookie) {
			h.foreign = append(h.foreign, f)
			continue
		}
		h.all = append(h.all, f)
		c := cookieCategory(f.Cookie)
		at, in := bankOf(&f.Flow)
		switch {
		case c == CategoryMiss || c == CategoryState:
		case ofPolicy(f.Cookie) && !in:
			return fmt.Errorf("%w: %s", errOutdated, &f.Flow)
		case in && at != k:
			h.other = append(h.other, f)
		default:
			h.mine = append(h.mine, f)
		}
	}
	return nil
}

// healPolicies brings the flows of policies in order. The caller holds the lock
// for policies.
func (b *Bridge) healPolicies(ctx context.Context, conn *openflow.Conn) (int, error) {
	h, err := b.lookPolicies(ctx, conn)
	if err != nil {
		return 0, err
	}
	b.mu.Lock()
	b.observePolicy(h.all, true)
	place, lingers := b.policyPlace(), b.spare.lingers(b.now())
	b.flowCount += len(h.mine) + len(h.other)
	b.spare.flows, b.spare.dirty = len(h.other), len(h.other) > 0
	b.mu.Unlock()
	want := place.desired(b.policy)
	p := picture{own: h.mine, foreign: h.foreign}
	tx := openflow.Tx{Flows: diff(&p, want)}
	cleared := 0
	if !lingers || len(tx.Flows) > b.stageAbove {
		if err := b.clear(ctx, conn); err != nil {
			return 0, err
		}
		cleared = len(h.other)
	}
	if len(tx.Flows) == 0 {
		return cleared, nil
	}
	if len(tx.Flows) > b.stageAbove {
		err := b.healStaged(ctx, conn, len(h.mine))
		var refused *openflow.TxError
		if err == nil || !errors.As(err, &refused) || errors.Is(err, ErrHeld) || ctx.Err() != nil {
			return cleared + len(tx.Flows), err
		}
		if err := b.clear(ctx, conn); err != nil {
			return cleared, err
		}
	}
	err = b.healBank(ctx, conn, &p, want, &tx)
	return cleared + len(tx.Flows), err
}

// desired are the flows of a set.
func (p policyPlace) desired(set *policySet) map[openflow.FlowKey]desired {
	out := make(map[openflow.FlowKey]desired, set.flowCount())
	p.all(set, func(f openflow.Flow, r *policyRule) { out[f.Key()] = desired{flow: f, policy: r} })
	return out
}

// healStaged brings the policies into force by way of the other bank; had is how
// many flows are in this one.
func (b *Bridge) healStaged(ctx context.Context, conn *openflow.Conn, had int) error {
	p := plan{place: map[*rule]*openflow.Flow{}}
	err := b.stage(ctx, conn, b.policy, &p)
	b.mu.Lock()
	if errors.Is(err, openflow.ErrUncertain) {
		b.bankUnsure = true
	}
	if p.swapped {
		b.bank, b.spare = b.bank.other(), spare{flows: had, until: b.now().Add(linger)}
	}
	b.mu.Unlock()
	if err != nil {
		return err
	}
	p.come = b.hookFlow()
	return b.readBack(ctx, conn, &p)
}

// healBank brings the bank in force in order, in one transaction.
func (b *Bridge) healBank(ctx context.Context, conn *openflow.Conn, p *picture, want map[openflow.FlowKey]desired, tx *openflow.Tx) error {
	if err := b.lockRules(ctx); err != nil {
		return err
	}
	shed, err := b.commitOrShed(ctx, conn, p, want, tx)
	b.unlockRules()
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.flowCount += len(want) - len(p.own)
	b.mu.Unlock()
	now, err := b.lookPolicies(ctx, conn)
	if err != nil {
		return err
	}
	if rest := diff(&picture{own: now.mine, foreign: now.foreign}, want); len(rest) > 0 {
		return fmt.Errorf("%w: %d flows differ, first %s", errDrift, len(rest), rest[0].Flow.String())
	}
	return shed
}

// limits reads the flows of rate limits of which it is not known which meter they
// name.
func (b *Bridge) limits(ctx context.Context, conn *openflow.Conn) ([]openflow.FlowStats, error) {
	var filters []openflow.FlowFilter
	b.mu.Lock()
	for _, r := range b.policy.rules {
		if r.limited() && r.meter.ID == 0 {
			_, c := policyTable(&r.Rule)
			filters = append(filters, openflow.FlowFilter{Table: openflow.TableAll, Cookie: cookie(c, r.object), CookieMask: ^uint64(0)})
		}
	}
	b.mu.Unlock()
	if len(filters) == 0 {
		return nil, nil
	}
	return conn.Flows(ctx, filters...)
}
