package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
)

// Segments reports whether policies restrict anybody on the bridge.
func (b *Bridge) Segments() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.policy.tracks()
}

// SetPolicy replaces the policies that are enforced by those of the program,
// on the switch in one transaction, and reads back what it changed, of much a
// part and the number of all flows. What both
// programs say alike is left alone, so that an address that moves to another
// class costs two flows; a rule that is in both, by its ID, goes on counting.
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
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lock(ctx); err != nil {
		return Receipt{}, err
	}
	defer b.unlock()
	b.mu.Lock()
	next, err := b.policy.next(program)
	b.mu.Unlock()
	if err != nil {
		return Receipt{}, fmt.Errorf("set policies: %w", err)
	}
	conn, ready := b.current()
	if !ready {
		return b.keepPolicy(ctx, start, next, conn)
	}
	p, err := b.commitPolicy(ctx, conn, next)
	receipt := Receipt{Barrier: time.Since(start), Installed: len(next.rules), Waiting: p.waiting}
	if receipt, err = b.conclude(conn, &p, receipt, err, func() { b.acceptPolicy(next, &p) }); err != nil {
		return receipt, err
	}
	receipt.ReadBack, err = b.readBackPolicy(ctx, conn, &p)
	if !receipt.ReadBack {
		b.heedDrift()
	}
	return receipt, err
}

// A change of many flows is read back in part, as long as their number is
// right: all the while, containment would have to wait.
const (
	wholeReadBack  = 4096
	sampleReadBack = 24 // as many cookies as are asked for one by one
)

// readBackPolicy reads what a change made and compares. It reports false where
// the number of all our flows is not what it should be, which a rule that ends
// at this moment may cause.
func (b *Bridge) readBackPolicy(ctx context.Context, conn *openflow.Conn, p *plan) (bool, error) {
	if len(p.come)+len(p.gone) <= wholeReadBack {
		err := b.readBack(ctx, conn, p)
		return err == nil, err
	}
	part := plan{come: sampled(p.come, sampleReadBack), gone: sampled(p.gone, readSingly-sampleReadBack)}
	if err := b.readBack(ctx, conn, &part); err != nil {
		return false, err
	}
	sum, err := conn.Aggregate(ctx, b.cfg.Layout.ownFilters()...)
	if err != nil {
		return false, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return int(sum.Flows) == b.flowCount, nil
}

// sampled returns some of the flows.
func sampled(flows []openflow.Flow, n int) (out []openflow.Flow) {
	for _, i := range rand.Perm(len(flows))[:min(n, len(flows))] {
		out = append(out, flows[i])
	}
	return out
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
	receipt.Waiting = b.policyFlows(func(openflow.Flow, *policyRule) {})
	return receipt, nil
}

// commitPolicy plans and sends a change of the policies; see commit.
func (b *Bridge) commitPolicy(ctx context.Context, conn *openflow.Conn, next *policySet) (plan, error) {
	b.mu.Lock()
	refusals := b.copyMeters[copyRefusals-1]
	b.mu.Unlock()
	for attempt := 0; ; attempt++ {
		p := b.planPolicy(next, refusals.ID == 0)
		if size(&p.tx) == 0 {
			return p, nil
		}
		if err := b.countLeaving(ctx, conn, &p); err != nil {
			return plan{}, err
		}
		err := b.commitTx(ctx, conn, p.tx)
		if err == nil || attempt > 0 || !meterTaken(err) {
			if err != nil {
				b.mu.Lock()
				b.copyMeters[copyRefusals-1] = refusals
				b.mu.Unlock()
			}
			return p, err
		}
		list, err := conn.Meters(ctx)
		if err != nil {
			return plan{}, err
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

// planPolicy compares the policies in force with the next ones. newRefusals
// says that the meter of refusals is not on the switch yet.
func (b *Bridge) planPolicy(next *policySet, newRefusals bool) plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := plan{place: map[*rule]*openflow.Flow{}}
	b.planMeters(next, newRefusals, &p)
	place, l := b.policyPlace(), b.cfg.Layout
	d := difference{plan: &p, gone: map[openflow.FlowKey]openflow.Flow{}}
	if next.tracks() && !b.policy.tracks() && !b.now().Before(b.lingers) {
		d.come(l.statefulFrame(b.tap))
	}
	before, after := b.policy.inForce(), next.inForce()
	compareMaps(before.Endpoints, after.Endpoints, &d, l.endpointFlows)
	compareMaps(before.Services, after.Services, &d, l.serviceFlows)
	compareMaps(before.Tracked, after.Tracked, &d, l.trackedFlows)
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
	port func(string) (uint32, bool)
}

// policyPlace returns the place as it is now. The caller holds mu.
func (b *Bridge) policyPlace() policyPlace {
	return policyPlace{b.cfg.Name, rulePlace{layout: b.cfg.Layout, tap: b.tap, refuse: b.copies(copyRefusals)}, b.ports.number}
}

// waits reports whether a rule lacks its meter or the port that it mirrors to.
func (p policyPlace) waits(r *policyRule) bool {
	port := mirrorPort(p.bridge, r.Mirror)
	_, there := p.port(port)
	return r.limited() && r.meter.ID == 0 || port != "" && !there
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
	return ruleFlows(&r.Rule, at)
}

// policyFlows calls add for every flow of the policies, with its rule if it is
// one of a rule, and returns the rules that wait. The caller holds mu.
func (b *Bridge) policyFlows(add func(openflow.Flow, *policyRule)) (waiting []string) {
	place, l, p := b.policyPlace(), b.cfg.Layout, b.policy.inForce()
	all := func(flows []openflow.Flow, r *policyRule) {
		for _, f := range flows {
			add(f, r)
		}
	}
	for x, c := range p.Endpoints {
		all(l.endpointFlows(x, c), nil)
	}
	for s, c := range p.Services {
		all(l.serviceFlows(s, c), nil)
	}
	for x, on := range p.Tracked {
		all(l.trackedFlows(x, on), nil)
	}
	for _, r := range b.policy.rules {
		if place.waits(r) {
			waiting = append(waiting, r.ID.String())
		}
		all(place.flows(r), r)
	}
	slices.Sort(waiting)
	return waiting
}

// acceptPolicy makes the planned policies those in force.
func (b *Bridge) acceptPolicy(next *policySet, p *plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range p.gone {
		if r := b.policy.ruleOf(p.gone[i].Cookie); r != nil {
			delete(r.count.last, p.gone[i].Key())
		}
	}
	b.flowCount += next.flowCount() - b.policy.flowCount()
	switch was, is := b.policy.tracks(), next.tracks(); {
	case was && !is:
		b.lingers = b.now().Add(linger)
	case !was && is:
		if !b.now().Before(b.lingers) {
			b.flowCount += len(b.cfg.Layout.statefulFrame(b.tap))
		}
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
