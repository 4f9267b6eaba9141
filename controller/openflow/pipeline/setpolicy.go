package pipeline

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
)

// Segments reports whether policies restrict anybody on the bridge, or sources
// are guarded there.
func (b *Bridge) Segments() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.policy.tracks() || len(b.sources.ports) > 0
}

// SetPolicy replaces the policies that are enforced by those of the program,
// from one packet to the next, and reads back what it changed. What both
// programs say alike is left alone, so that an address that moves to another
// class costs two flows, and the change is a transaction; where much is changed,
// the program is prepared bit by bit where no packet meets it, so that
// containment need not wait, and what was in force before goes some seconds
// later (bank.go). A rule that is in both, by its ID, goes on counting.
// nil, or a program that tracks nobody, takes all of policy off the switch; the
// way that tracked packets take goes some seconds later, when none is on it.
//
// The program must not be changed afterwards. Errors, and a switch that is not
// connected, are as with Apply: what the switch refuses leaves the old policies
// in force, and what it cannot be told now is kept for when it can. The receipt
// counts rules, and lists as waiting those without their meter or mirror port.
// Policies have no TTL: they stay on the switch when the controller dies, and
// RemoveAll takes them away like all rules.
func (b *Bridge) SetPolicy(ctx context.Context, program *compile.Program) (Receipt, error) {
	start := time.Now()
	ctx, cancel := within(ctx, policyTimeout)
	defer cancel()
	for {
		receipt, wait, err := b.setPolicy(ctx, start, program)
		if wait <= 0 {
			return receipt, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return Receipt{}, fmt.Errorf("wait until the policies before the last ones can go: %w", ctx.Err())
		}
	}
}

// setPolicy sets policies once it can: wait is for how long the bank out of force
// is still needed, when that is where the program would have to be put.
func (b *Bridge) setPolicy(ctx context.Context, start time.Time, program *compile.Program) (_ Receipt, wait time.Duration, _ error) {
	if err := b.lockPolicy(ctx); err != nil {
		return Receipt{}, 0, err
	}
	defer b.unlockPolicy()
	next, err := b.policy.next(program)
	if err != nil {
		return Receipt{}, 0, fmt.Errorf("set policies: %w", err)
	}
	conn, ready := b.current()
	if !ready {
		if err := b.lockRules(ctx); err != nil {
			return Receipt{}, 0, err
		}
		defer b.unlockRules()
		r, err := b.keepPolicy(ctx, start, next, conn)
		return r, 0, err
	}
	p, wait, err := b.commitPolicy(ctx, conn, next)
	if wait > 0 {
		return Receipt{}, wait, nil
	}
	receipt := Receipt{Barrier: time.Since(start), Installed: len(next.rules), Waiting: p.waiting}
	if receipt, err = b.conclude(conn, &p, receipt, err, func() { b.acceptPolicy(next, &p) }); err != nil {
		return receipt, 0, err
	}
	if p.staged {
		p.come, p.gone = b.hookFlow(), nil // the rest was read before
	}
	err = b.readBack(ctx, conn, &p)
	if receipt.ReadBack = err == nil; err != nil {
		b.heedDrift()
	}
	return receipt, 0, err
}

// keepPolicy sets policies aside as keep does rules.
func (b *Bridge) keepPolicy(ctx context.Context, start time.Time, next *policySet, conn *openflow.Conn) (Receipt, error) {
	b.mu.Lock()
	b.policy = next
	b.mu.Unlock()
	receipt, installed, err := b.kept(ctx, start, next.tracks(), conn)
	if err != nil || !installed {
		return receipt, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	receipt.Installed = len(next.rules)
	receipt.Waiting = b.policyPlace().waiting(next)
	return receipt, nil
}

// commitPolicy plans and sends a change of the policies; see commit. Wait is as
// with setPolicy.
func (b *Bridge) commitPolicy(ctx context.Context, conn *openflow.Conn, next *policySet) (_ plan, wait time.Duration, _ error) {
	b.mu.Lock()
	refusals := b.copyMeters[copyRefusals-1]
	b.mu.Unlock()
	for attempt := 0; ; attempt++ {
		p := b.planPolicy(next, refusals.ID == 0)
		if size(&p.tx) == 0 {
			return p, 0, nil
		}
		if p.staged {
			if wait := b.needed(); wait > 0 {
				b.mu.Lock()
				b.copyMeters[copyRefusals-1] = refusals
				b.mu.Unlock()
				return p, wait, nil
			}
		}
		err := b.sendPolicy(ctx, conn, next, &p)
		if err == nil || attempt > 0 || !meterTaken(err) {
			if err != nil {
				b.mu.Lock()
				b.copyMeters[copyRefusals-1] = refusals
				b.mu.Unlock()
			}
			return p, 0, err
		}
		list, err := conn.Meters(ctx)
		if err != nil {
			return plan{}, 0, err
		}
		b.mu.Lock()
		b.sawMeters(list)
		for _, r := range next.rules {
			if b.meterIDs[r.meter.ID] && b.policy.meterOf(r.ID) != r.meter {
				r.meter = openflow.Meter{} // choose again
			}
		}
		b.copyMeters[copyRefusals-1] = refusals
		b.mu.Unlock()
	}
}

// sendPolicy sends a planned change: of many flows by way of the bank out of
// force, unless the switch has no room for both, and otherwise as a transaction.
func (b *Bridge) sendPolicy(ctx context.Context, conn *openflow.Conn, next *policySet, p *plan) error {
	if p.staged {
		err := b.stage(ctx, conn, next, p)
		var refused *openflow.TxError
		if err == nil || !errors.As(err, &refused) || errors.Is(err, ErrHeld) || meterTaken(err) || ctx.Err() != nil {
			return err
		}
		b.log.WithError(err).Warn("policies cannot be prepared beside those in force; they are changed in one transaction")
		if err := b.clear(ctx, conn); err != nil {
			return err
		}
		p.staged = false
	}
	if err := b.countLeaving(ctx, conn, p); err != nil {
		p.place = nil // nothing was sent
		return err
	}
	if err := b.lockRules(ctx); err != nil {
		p.place = nil
		return err
	}
	defer b.unlockRules()
	return b.commitTx(ctx, conn, p.tx)
}

// planPolicy compares the policies in force with the next ones. newRefusals
// says that the meter of refusals is not on the switch yet. The caller holds the
// lock for policies, not mu: that takes time.
func (b *Bridge) planPolicy(next *policySet, newRefusals bool) plan {
	p := plan{place: map[*rule]*openflow.Flow{}}
	d := difference{plan: &p, gone: map[openflow.FlowKey]openflow.Flow{}}
	b.mu.Lock()
	b.planMeters(next, newRefusals, &p)
	place := b.policyPlace()
	if next.tracks() && !b.policy.tracks() && !b.now().Before(b.lingers) {
		p.frame = b.cfg.Layout.statefulFrame(b.tap)
		d.come(p.frame)
	}
	b.mu.Unlock()
	before, after := b.policy.inForce(), next.inForce()
	compareMaps(before.Endpoints, after.Endpoints, &d, place.endpoint)
	compareMaps(before.Services, after.Services, &d, place.service)
	compareMaps(before.Tracked, after.Tracked, &d, place.tracked)
	for id, old := range b.policy.rules {
		if next.rules[id] != old {
			d.leave(place.flows(old))
		}
	}
	for id, r := range next.rules {
		if place.waits(r) {
			p.waiting = append(p.waiting, id.String())
		}
		if b.policy.rules[id] != r {
			d.come(place.flows(r))
		}
	}
	slices.Sort(p.waiting)
	d.settle()
	p.staged = len(p.tx.Flows) > b.stageAbove
	return p
}

// compareMaps notes the flows of all entries that differ.
func compareMaps[K, V comparable](before, after map[K]V, d *difference, flows func(K, V) []openflow.Flow) {
	if sameMap(before, after) {
		return
	}
	both := 0
	for k, v := range before {
		now, ok := after[k]
		if !ok {
			d.leave(flows(k, v))
			continue
		}
		if both++; now != v {
			d.come(flows(k, now)) // in the place of the old ones
		}
	}
	if both == len(after) {
		return
	}
	for k, v := range after {
		if _, ok := before[k]; !ok {
			d.come(flows(k, v))
		}
	}
}

// difference collects the flows that come and go.
type difference struct {
	plan *plan
	gone map[openflow.FlowKey]openflow.Flow
	adds []openflow.Flow
}

func (d *difference) come(flows []openflow.Flow) { d.adds = append(d.adds, flows...) }

func (d *difference) leave(flows []openflow.Flow) {
	for _, f := range flows {
		d.gone[f.Key()] = f
	}
}

// settle orders the transaction: what goes before what comes, so that an old
// rule never hides a new one. A flow whose place is taken by one of the same
// rule stays, and counts on.
func (d *difference) settle() {
	p := d.plan
	var mods []openflow.FlowMod
	for _, f := range d.adds {
		if len(d.gone) > 0 {
			key := f.Key()
			if old, there := d.gone[key]; there && old.Cookie == f.Cookie {
				delete(d.gone, key)
				if same(&old, &f) {
					continue
				}
			}
		}
		p.come = append(p.come, f)
		mods = append(mods, openflow.FlowMod{Command: openflow.Add, Flow: f})
	}
	for _, f := range d.gone {
		p.gone = append(p.gone, f)
		p.tx.Flows = append(p.tx.Flows, remove(&f))
	}
	p.tx.Flows = append(p.tx.Flows, mods...)
}

// planMeters allocates meters for the limits that need one, and gives those
// back that nobody needs any more. A limit that finds none free is left out,
// as it would allow everything. The caller holds mu.
func (b *Bridge) planMeters(next *policySet, newRefusals bool, p *plan) {
	unused, taken := map[uint32]bool{}, b.takenMeters()
	for _, r := range b.policy.rules {
		if r.meter.ID != 0 {
			unused[r.meter.ID] = true
		}
	}
	for _, r := range next.rules {
		if !r.limited() {
			continue
		}
		if r.meter.ID == 0 {
			var err error
			if r.meter, err = b.meters.allocate(limitOf(&r.Rule), taken); err != nil {
				b.log.WithField("rule", r.ID).WithError(err).Error("rate limit not enforced")
				continue
			}
			taken[r.meter.ID] = true
		}
		if !unused[r.meter.ID] {
			p.tx.AddMeters = append(p.tx.AddMeters, r.meter)
		}
		delete(unused, r.meter.ID)
	}
	for _, m := range p.tx.AddMeters {
		b.meterIDs[m.ID] = true // from now on: rules about packets need meters, too
	}
	for id := range unused {
		p.tx.DeleteMeters = append(p.tx.DeleteMeters, id)
	}
	m := &b.copyMeters[copyRefusals-1]
	if !newRefusals || !next.rejects() || b.leaving {
		return
	}
	if m.ID == 0 {
		var err error
		if *m, err = b.meters.allocate(copyLimit(copyRefusals), taken); err != nil {
			b.log.WithError(err).Warn("what is rejected is dropped: the answers would not be limited")
			return
		}
	}
	p.tx.AddMeters = append(p.tx.AddMeters, *m)
}

// policyPlace is what compiling policies needs to know of the switch.
type policyPlace struct {
	bridge string
	rulePlace
	bank bank
	port func(string) (uint32, bool)
}

// policyPlace returns the place as it is now. The caller holds mu.
func (b *Bridge) policyPlace() policyPlace {
	return policyPlace{b.cfg.Name, rulePlace{layout: b.cfg.Layout, tap: b.tap, refuse: b.copies(copyRefusals)}, b.bank, b.ports.number}
}

func (p policyPlace) endpoint(x netip.Prefix, c compile.Class) []openflow.Flow {
	return p.bank.put(p.layout.endpointFlows(x, c))
}

func (p policyPlace) service(s compile.ServiceMatch, c compile.Class) []openflow.Flow {
	return p.bank.put(p.layout.serviceFlows(s, c))
}

func (p policyPlace) tracked(x netip.Prefix, on bool) []openflow.Flow {
	return p.bank.put(p.layout.trackedFlows(x, on))
}

// waits reports whether a rule lacks its meter or the port that it mirrors to.
func (p policyPlace) waits(r *policyRule) bool {
	port := mirrorPort(p.bridge, r.Mirror)
	_, there := p.port(port)
	return r.limited() && r.meter.ID == 0 || port != "" && !there
}

// waiting lists the rules of a set that wait.
func (p policyPlace) waiting(set *policySet) (out []string) {
	for _, r := range set.rules {
		if p.waits(r) {
			out = append(out, r.ID.String())
		}
	}
	slices.Sort(out)
	return out
}

// flows compiles a rule; none while a limit has no meter.
func (p policyPlace) flows(r *policyRule) []openflow.Flow {
	if r.limited() && r.meter.ID == 0 {
		return nil
	}
	at := p.rulePlace
	at.object, at.meter = r.object, r.meter.ID
	if port := mirrorPort(p.bridge, r.Mirror); port != "" {
		at.mirror, _ = p.port(port)
	}
	return p.bank.put(ruleFlows(&r.Rule, at))
}

// policyFlows calls add for every flow of the policies, with its rule if it is
// one of a rule, and returns the rules that wait. The caller holds mu.
func (b *Bridge) policyFlows(add func(openflow.Flow, *policyRule)) (waiting []string) {
	return b.policyPlace().all(b.policy, add)
}

// all is policyFlows of a set.
func (p policyPlace) all(set *policySet, add func(openflow.Flow, *policyRule)) []string {
	program := set.inForce()
	each := func(flows []openflow.Flow, r *policyRule) {
		for _, f := range flows {
			add(f, r)
		}
	}
	for x, c := range program.Endpoints {
		each(p.endpoint(x, c), nil)
	}
	for s, c := range program.Services {
		each(p.service(s, c), nil)
	}
	for x, on := range program.Tracked {
		each(p.tracked(x, on), nil)
	}
	for _, r := range set.rules {
		each(p.flows(r), r)
	}
	return p.waiting(set)
}

// acceptPolicy makes the planned policies those in force.
func (b *Bridge) acceptPolicy(next *policySet, p *plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.staged {
		b.acceptStaged(next, p)
		return
	}
	for i := range p.gone {
		if r := b.policy.ruleOf(p.gone[i].Cookie); r != nil {
			delete(r.count.last, p.gone[i].Key())
		}
	}
	b.flowCount += next.flowCount() - b.policy.flowCount() + len(p.frame)
	b.follow(next)
}

// follow makes policies those in force, and notes since when nobody has taken the
// way of tracked packets. The caller holds mu.
func (b *Bridge) follow(next *policySet) {
	switch was, is := b.policy.tracks(), next.tracks(); {
	case was && !is:
		b.lingers = b.now().Add(linger)
	case is:
		b.lingers = time.Time{}
	}
	b.policy = next
}

// linger is how long the way of tracked packets outlives the last policy: until
// the datapath has let go of what leads there, a packet that the tracker has
// seen must not find nothing behind it.
const linger = 3 * time.Second

// lingered reports, once, that the way which nobody takes any more can go.
func (b *Bridge) lingered() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lingers.IsZero() || b.now().Before(b.lingers) {
		return false
	}
	b.lingers = time.Time{}
	return true
}
