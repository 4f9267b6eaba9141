package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// ErrConflict says that somebody else's flow stands where ours belong. It is
// never overwritten.
var ErrConflict = errors.New("foreign flow in our place")

// errDrift says that the switch does not hold what was just put there.
var errDrift = errors.New("switch does not hold what it confirmed")

// picture is what the switch holds.
type picture struct {
	own     []openflow.FlowStats
	foreign []openflow.FlowStats // in our tables, or exactly at our hook
	meters  []openflow.Meter
	limits  []openflow.FlowStats // of policies, where those are not among own
}

// look reads what the switch holds, apart without the flows of policies.
func look(ctx context.Context, conn *openflow.Conn, l Layout, apart bool) (p picture, err error) {
	filters := append(l.filters(), openflow.FlowFilter{Table: l.table(tableRemembered)})
	if apart {
		filters = l.rulesFilters()
	}
	flows, err := conn.Flows(ctx, filters...)
	if err != nil {
		return p, err
	}
	if apart {
		others, err := strangers(ctx, conn, l)
		if err != nil {
			return p, err
		}
		for _, f := range others {
			if !isOurs(f.Cookie) {
				flows = append(flows, f)
			}
		}
	}
	hook := openflow.Flow{Table: 0, Priority: HookPriority, Match: hookMatch()}
	for _, f := range flows {
		switch {
		case !l.owns(f.Table) && f.Key() != hook.Key():
		case isRemembered(f.Cookie) && f.Table == l.table(tableRemembered): // comes and goes by itself
		case isOurs(f.Cookie):
			p.own = append(p.own, f)
		default:
			p.foreign = append(p.foreign, f)
		}
	}
	p.meters, err = conn.Meters(ctx)
	return p, err
}

// conflict describes the first foreign flow, nil when there is none.
func (p *picture) conflict(l Layout) error {
	if len(p.foreign) == 0 {
		return nil
	}
	f := &p.foreign[0]
	return fmt.Errorf("%w: %d in all, first in table %d (%s): %s", ErrConflict, len(p.foreign), f.Table, l.TableName(f.Table), f.Flow.String())
}

// desired is a flow that belongs on the switch; rule is nil but for rules about
// packets, policy but for rules of policies, guarded but for guarded ports.
type desired struct {
	flow    openflow.Flow
	rule    *rule
	policy  *policyRule
	guarded *sourcePort
}

// source says for people which rule a flow comes from, empty for none.
func (d *desired) source() (owner, intent, why string) { return sourceOf(d.rule, d.policy) }

func sourceOf(r *rule, p *policyRule) (owner, intent, why string) {
	switch {
	case r != nil:
		return r.owner, r.intent.ID, r.intent.Why
	case p != nil:
		return p.ID.Policy, p.ID.String(), ""
	}
	return "", "", ""
}

// desiredFlows returns everything that belongs on the switch now and the IDs
// of intents that wait for their port; apart without the flows of policies.
// Meters must have been chosen before.
func (b *Bridge) desiredFlows(now time.Time, apart bool) (map[openflow.FlowKey]desired, []string, error) {
	out := map[openflow.FlowKey]desired{}
	if !b.attached {
		return out, nil, nil
	}
	for key, f := range b.frame() {
		out[key] = desired{flow: f}
	}
	var waiting []string
	if apart {
		waiting = b.policyPlace().waiting(b.policy)
	} else {
		waiting = b.policyFlows(func(f openflow.Flow, r *policyRule) { out[f.Key()] = desired{flow: f, policy: r} })
	}
	waiting = append(waiting, b.sourceFlows(func(f openflow.Flow, p *sourcePort) { out[f.Key()] = desired{flow: f, guarded: p} })...)
	for _, r := range b.rules.all() {
		if !r.expiry.IsZero() && !r.expiry.After(now) {
			continue // expireLoop is about to report it
		}
		if r.limited() && r.meter.ID == 0 {
			waiting = append(waiting, r.intent.ID) // without its meter it would allow everything
			continue
		}
		f, ok, err := r.compile(now, b.placement(), b.ports.number)
		if err != nil {
			return nil, nil, err
		}
		if !ok {
			waiting = append(waiting, r.intent.ID)
			continue
		}
		out[f.Key()] = desired{flow: f, rule: r}
	}
	if b.leaving && !b.staying {
		b.bound(out, now)
	}
	return out, waiting, nil
}

// frame is what belongs on the switch beside rules and policies. The caller
// holds mu.
func (b *Bridge) frame() map[openflow.FlowKey]openflow.Flow {
	out := map[openflow.FlowKey]openflow.Flow{}
	add := func(flows []openflow.Flow) {
		for _, f := range flows {
			out[f.Key()] = f
		}
	}
	base := b.cfg.Layout.baseFlows()
	for i := range base {
		if cookieCategory(base[i].Cookie) == CategoryHook {
			base[i] = b.hook(b.bank)
		}
	}
	add(base)
	if b.claim != nil && !b.leaving {
		add(b.claim.flows())
	}
	if len(b.sources.ports) > 0 {
		add(b.cfg.Layout.sourceFrame())
	}
	add(b.tap.flows(b.cfg.Layout, b.overrideList(), b.copies, b.ports.number))
	if b.policy.tracks() || b.now().Before(b.lingers) {
		add(b.cfg.Layout.statefulFrame(b.tap))
	}
	return out
}

func (b *Bridge) placement() Placement { return Placement{Layout: b.cfg.Layout, Tap: b.tap} }

// same reports whether an installed flow is the wanted one. Its hard timeout
// may differ: the time left at a heal is not the intent's TTL.
func same(have *openflow.Flow, want *openflow.Flow) bool {
	return have.Cookie == want.Cookie && have.Flags == want.Flags && have.IdleTimeout == want.IdleTimeout &&
		(have.HardTimeout == 0) == (want.HardTimeout == 0) && have.Instructions.Key() == want.Instructions.Key()
}

// diff returns the bundle that turns what the switch holds into what is
// wanted. Flows that nobody wants are deleted first, so that an old rule
// never hides a new one; nothing foreign is touched.
func diff(p *picture, want map[openflow.FlowKey]desired) []openflow.FlowMod {
	var mods []openflow.FlowMod
	good, blocked := map[openflow.FlowKey]bool{}, map[openflow.FlowKey]bool{}
	for i := range p.foreign {
		blocked[p.foreign[i].Key()] = true
	}
	for i := range p.own {
		f := &p.own[i].Flow
		w, ok := want[f.Key()]
		if !ok {
			mods = append(mods, remove(f))
			continue
		}
		// A rule with a TTL that we did not place ourselves (it outlived an
		// earlier controller) is placed again, to start its time anew.
		known := w.rule == nil || w.rule.placed != nil || w.flow.HardTimeout == 0
		good[f.Key()] = known && same(f, &w.flow)
	}
	for key, w := range want {
		if !good[key] && !blocked[key] {
			mods = append(mods, openflow.FlowMod{Command: openflow.Add, Flow: w.flow})
		}
	}
	return mods
}

// remove deletes exactly this flow, and only while it carries our cookie.
func remove(f *openflow.Flow) openflow.FlowMod {
	return openflow.FlowMod{Command: openflow.DeleteStrict, CookieMask: ^uint64(0), Flow: openflow.Flow{
		Table: f.Table, Priority: f.Priority, Cookie: f.Cookie, Match: f.Match,
	}}
}

// healRules heals all that belongs on the switch; apart all but the flows of
// policies. The caller holds both operation locks.
func (b *Bridge) healRules(ctx context.Context, conn *openflow.Conn, apart bool) (int, error) {
	p, err := look(ctx, conn, b.cfg.Layout, apart)
	if err != nil {
		return 0, err
	}
	if idle, err := b.hold(ctx, conn, &p, apart); idle || err != nil {
		return 0, err
	}
	if apart {
		if p.limits, err = b.limits(ctx, conn); err != nil {
			return 0, err
		}
	}
	b.adoptBank(&p)
	others := b.setAside(&p)
	b.observe(&p, !apart)
	b.mu.Lock()
	b.status.Compared++
	b.sawMeters(p.meters)
	b.mu.Unlock()
	meters, add := b.chooseMeters(&p)
	want, waiting, err := b.healPlan(meters, apart)
	if err != nil {
		return 0, err
	}
	tx := openflow.Tx{AddMeters: add, Flows: diff(&p, want)}
	if tx.DeleteMeters, err = b.orphanMeters(ctx, conn, &p); err != nil {
		return 0, err
	}
	if size(&tx) == 0 {
		b.healed(want, waiting, others, 0, apart)
		return 0, errors.Join(b.let(ctx, conn), p.conflict(b.cfg.Layout))
	}
	void := b.voidZone(&p, want)
	shed, err := b.commitOrShed(ctx, conn, &p, want, &tx)
	if err != nil {
		return 0, err
	}
	b.flush(ctx, conn, void)
	changes := size(&tx)
	b.healed(want, waiting, others, changes, apart)
	b.settle(conn)
	if p, err = look(ctx, conn, b.cfg.Layout, apart); err != nil {
		return changes, err
	}
	b.setAside(&p)
	if rest := diff(&p, want); len(rest) > 0 {
		return changes, fmt.Errorf("%w: %d flows differ, first %s", errDrift, len(rest), rest[0].Flow.String())
	}
	return changes, errors.Join(shed, b.let(ctx, conn), p.conflict(b.cfg.Layout))
}

// size is the number of changes in a transaction.
func size(tx *openflow.Tx) int { return len(tx.AddMeters) + len(tx.Flows) + len(tx.DeleteMeters) }

// maxShed bounds how many rules a heal does without.
const maxShed = 64

// commitOrShed commits, without the rules that the switch refuses: one rule
// that it cannot take (its table is full, say) must not keep all the others
// out. They leave tx and want, and shed says which and why; the next heal tries them
// again. Our frame is never left out.
func (b *Bridge) commitOrShed(ctx context.Context, conn *openflow.Conn, p *picture, want map[openflow.FlowKey]desired, tx *openflow.Tx) (shed, err error) {
	for n := 0; ; n++ {
		err := b.commitTx(ctx, conn, *tx)
		var refused *openflow.TxError
		if err == nil || !errors.As(err, &refused) || refused.Committed || n == maxShed {
			return shed, err
		}
		before := len(want)
		for _, m := range refused.Members {
			if m.Member != "flow" {
				continue
			}
			if shedMember(want, tx.Flows, m) > 0 {
				shed = errors.Join(shed, errShed, m)
			}
		}
		if len(want) == before {
			return shed, err
		}
		tx.Flows = diff(p, want)
	}
}

// shedMember takes a refused rule out of want, and returns how many it took.
// Where a table is full, the members behind the refused one do not fit either.
func shedMember(want map[openflow.FlowKey]desired, mods []openflow.FlowMod, m *openflow.MemberError) int {
	var e *openflow.Error
	full := errors.As(m, &e) && e.CodeName() == "TABLE_FULL"
	n := 0
	for i := m.Index; i < len(mods); i++ {
		if i > m.Index && (!full || mods[i].Table != mods[m.Index].Table || mods[i].Command != openflow.Add) {
			continue
		}
		key := mods[i].Key()
		if w := want[key]; w.rule != nil || w.policy != nil || w.guarded != nil {
			n += shedRule(want, key)
		}
		if !full {
			break
		}
	}
	return n
}

// shedRule takes out of want a rule that a flow belongs to, with all its flows,
// as a part of a policy's rule, or of a guarded port, would mean something else.
// It returns how many flows it took.
func shedRule(want map[openflow.FlowKey]desired, key openflow.FlowKey) int {
	refused := want[key]
	if refused.policy == nil && refused.guarded == nil {
		delete(want, key)
		return 1
	}
	before := len(want)
	maps.DeleteFunc(want, func(_ openflow.FlowKey, d desired) bool {
		return d.policy == refused.policy && d.guarded == refused.guarded
	})
	return before - len(want)
}

// errShed says that a rule is not in force because the switch refuses it.
var errShed = errors.New("rule refused by the switch and left out")

// healPlan takes over the chosen meters and compiles everything.
func (b *Bridge) healPlan(meters map[*rule]openflow.Meter, apart bool) (map[openflow.FlowKey]desired, []string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r, m := range meters {
		r.meter = m
	}
	return b.desiredFlows(b.now(), apart)
}

// observe takes the counters of the rules that are there, and notes the ones
// that are not; all says that flows of policies are in the picture.
func (b *Bridge) observe(p *picture, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	there := map[openflow.FlowKey]bool{}
	for i := range p.own {
		f := &p.own[i]
		there[f.Key()] = true
		if r := b.ruleOf(f.Cookie); r != nil {
			r.flow.observe(f.Packets, f.Bytes)
		}
	}
	b.observePolicy(p.own, all)
	for _, p := range b.sources.ports {
		p.count.forget(there)
	}
	for _, r := range b.rules.objects {
		if r.placed != nil && !there[r.placed.Key()] {
			r.put(nil)
		}
	}
}

// ruleCategory reports whether flows of a category are rules about packets,
// whose object is an intent.
func ruleCategory(c Category) bool { return c == CategoryGuard || c == CategoryEmergency }

// healed records a successful transaction; apart, flows of policies are counted
// later.
func (b *Bridge) healed(want map[openflow.FlowKey]desired, waiting []string, others, changes int, apart bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = waiting
	installed := 0
	for _, w := range want {
		if w.rule == nil {
			continue
		}
		installed++
		w.rule.put(&w.flow)
	}
	b.flowCount, b.status.Inherited = len(want)+others, others
	switch {
	case apart:
	case b.spare.lingers(b.now()):
		b.flowCount += b.spare.flows
	default:
		b.spare = spare{}
	}
	b.log.WithField("changes", changes).WithField("rules", installed).Debug("switch holds what we want")
}

// chooseMeters finds or allocates a meter for every rate limit and returns
// the ones to add. A limit that finds none free keeps no other rule back.
func (b *Bridge) chooseMeters(p *picture) (map[*rule]openflow.Meter, []openflow.Meter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := map[uint32]openflow.Meter{}
	taken := map[uint32]bool{}
	for _, m := range p.meters {
		have[m.ID], taken[m.ID] = m, true
	}
	named := map[uint32]uint32{} // object to the meter its flow names
	for i := range p.own {
		if p.own[i].Meter != 0 && ruleCategory(cookieCategory(p.own[i].Cookie)) {
			named[cookieObject(p.own[i].Cookie)] = p.own[i].Meter
		}
	}
	chosen := map[*rule]openflow.Meter{}
	add := b.chooseCopyMeters(have, taken)
	for _, r := range b.rules.all() {
		if !r.limited() {
			continue
		}
		m := meterOf(r.intent.Limit)
		if m.ID = r.meter.ID; m.ID == 0 {
			m.ID = named[r.object]
		}
		if m.ID == 0 || have[m.ID] != m {
			var err error
			if m, err = b.meters.allocate(r.intent.Limit, taken); err != nil {
				b.log.WithField("intent", r.intent.ID).WithError(err).Error("rate limit not enforced")
				chosen[r] = openflow.Meter{}
				continue
			}
			add = append(add, m)
			r.metered.restart()
		}
		taken[m.ID] = true
		chosen[r] = m
	}
	return chosen, append(add, b.choosePolicyMeters(p, have, taken)...)
}

// choosePolicyMeters is chooseMeters for the limits of policies. The caller
// holds mu.
func (b *Bridge) choosePolicyMeters(p *picture, have map[uint32]openflow.Meter, taken map[uint32]bool) (add []openflow.Meter) {
	named := map[*policyRule]uint32{}
	for _, list := range [][]openflow.FlowStats{p.own, p.limits} {
		for i := range list {
			if r := b.policy.ruleOf(list[i].Cookie); r != nil && list[i].Meter != 0 {
				named[r] = list[i].Meter
			}
		}
	}
	for _, r := range b.policy.all() {
		if !r.limited() {
			continue
		}
		m := meterOf(limitOf(&r.Rule))
		if m.ID = r.meter.ID; m.ID == 0 {
			m.ID = named[r]
		}
		if m.ID == 0 || have[m.ID] != m {
			var err error
			if m, err = b.meters.allocate(limitOf(&r.Rule), taken); err != nil {
				b.log.WithField("rule", r.ID).WithError(err).Error("rate limit not enforced")
				r.meter = openflow.Meter{}
				continue
			}
			add = append(add, m)
		}
		taken[m.ID], r.meter = true, m
	}
	return add
}

// unusedMeters returns the meters of ours that no rule uses.
func (b *Bridge) unusedMeters(p *picture) []uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	used := map[uint32]bool{}
	for _, r := range b.rules.objects {
		used[r.meter.ID] = true
	}
	for _, r := range b.policy.rules {
		used[r.meter.ID] = true
	}
	for _, m := range b.copyMeters {
		used[m.ID] = true
	}
	var ids []uint32
	for _, m := range p.meters {
		if !used[m.ID] && b.meters.owns(m) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// orphanMeters returns the meters of ours that no rule uses any more. One
// that a foreign flow names stays: deleting it would delete that flow.
func (b *Bridge) orphanMeters(ctx context.Context, conn *openflow.Conn, p *picture) ([]uint32, error) {
	ids := b.unusedMeters(p)
	if len(ids) == 0 {
		return nil, nil
	}
	ours := map[uint32]uint32{}
	for i := range p.own {
		ours[p.own[i].Meter]++
	}
	counters, err := conn.MeterCounters(ctx, ids...)
	if err != nil {
		return nil, err
	}
	orphans := ids[:0]
	for _, c := range counters {
		if c.Flows <= ours[c.ID] {
			orphans = append(orphans, c.ID)
		}
	}
	return orphans, nil
}
