package pipeline

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

const (
	// fullCheck is how many turns of the watch loop pass between complete
	// comparisons for each fullFlows flows; the checks in between count flows
	// only. A comparison of rules about packets keeps containment waiting, some
	// 10 ms for each 1,000.
	fullCheck = 32
	fullFlows = 8192
	// healTimeout bounds one heal, but for policies.
	healTimeout = 5 * time.Second
	// turnTimeout is how long a check waits for who is at work on policies.
	turnTimeout = 100 * time.Millisecond
	// expirySlack allows for the switch's clock: it looks for ended rules
	// about once a second, and its time began slightly before ours.
	expirySlack = 1500 * time.Millisecond
	// expiryCheck is how often ended rules are looked for.
	expiryCheck = 200 * time.Millisecond
)

// lossless reports whether no asynchronous message was lost since the last
// time; what was lost may have been a change.
func (b *Bridge) lossless(conn *openflow.Conn) bool {
	n := conn.AsyncDropped()
	b.mu.Lock()
	defer b.mu.Unlock()
	same := b.status.AsyncDropped == n
	b.status.AsyncDropped = n
	return same
}

// fullEvery is how many turns pass between complete comparisons.
func (b *Bridge) fullEvery() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fullCheck * (1 + b.flowCount/fullFlows)
}

// onAsync looks at a message that the switch sent by itself.
func (b *Bridge) onAsync(m openflow.Message) {
	b.mu.Lock()
	b.messages++
	b.mu.Unlock()
	switch m.Type {
	case openflow.TypePortStatus:
		s, err := openflow.DecodePortStatus(m)
		if err != nil {
			b.log.WithError(err).Warn("port status")
			return
		}
		b.onPort(s)
	case openflow.TypePacketIn:
		b.onPacket(m)
	case openflow.TypeFlowRemoved:
		r, err := openflow.DecodeFlowRemoved(m)
		if err != nil {
			b.log.WithError(err).Warn("flow removed")
			return
		}
		b.onFlowRemoved(r)
	case openflow.TypeMultipartReply:
		updates, ok, err := openflow.DecodeFlowUpdates(m)
		if err != nil {
			b.log.WithError(err).Warn("flow monitor")
			return
		}
		if ok {
			b.onFlowUpdates(updates)
		}
	}
}

// onPort follows a port; the rules that name it move with it.
func (b *Bridge) onPort(s openflow.PortStatus) {
	b.mu.Lock()
	b.ports = b.ports.clone() // who plans works with the old ones
	changed := b.ports.update(s)
	b.mu.Unlock()
	if changed {
		b.heedDrift()
	}
}

// onFlowRemoved takes the last counters of a rule, and ends a rule whose time
// was up on the switch.
func (b *Bridge) onFlowRemoved(f openflow.FlowRemoved) {
	if !isOurs(f.Cookie) || !ruleCategory(cookieCategory(f.Cookie)) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rules.objects[cookieObject(f.Cookie)]
	if r == nil {
		return
	}
	r.flow.observe(f.Packets, f.Bytes)
	if f.Reason == openflow.RemovedHard && !r.expiry.IsZero() && b.now().Add(expirySlack).After(r.expiry) {
		r.expiry = b.now() // the switch was first; expireLoop reports it
	}
}

// onFlowUpdates asks for a heal when somebody else touched our places.
func (b *Bridge) onFlowUpdates(updates []openflow.FlowUpdate) {
	disturbed := false
	for _, u := range updates {
		switch u.Event {
		case openflow.FlowOwnChange, openflow.MonitorPaused:
			continue
		case openflow.FlowRemovedEvent:
			if u.Reason == openflow.RemovedHard && b.ended(u) {
				continue
			}
		}
		b.mu.Lock()
		b.status.Disturbed++
		if b.messages > b.settled {
			b.lossOf.note(u)
			disturbed = true
		}
		b.mu.Unlock()
	}
	if disturbed {
		b.heedLoss()
	}
}

// ended reports whether a flow's end by timeout is the end that its rule is
// due anyway.
func (b *Bridge) ended(u openflow.FlowUpdate) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.rules.objects[cookieObject(u.Cookie)]
	return r == nil || !r.expiry.IsZero() && b.now().Add(expirySlack).After(r.expiry)
}

// expireLoop ends the rules that nobody renewed, connected or not.
func (b *Bridge) expireLoop(ctx context.Context) {
	tick := time.NewTicker(expiryCheck)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if b.lockRules(ctx) != nil {
			return
		}
		b.mu.Lock()
		owners := b.rules.expire(b.now())
		b.mu.Unlock()
		b.unlockRules()
		if len(owners) > 0 {
			b.heedDrift() // their meters, and what the switch still holds
		}
		for _, owner := range owners {
			b.log.WithField("owner", owner).Info("rules expired, nobody renewed them")
			if b.cfg.Expired != nil {
				b.cfg.Expired(owner)
			}
		}
	}
}

// Somebody who changes our flows all the time must not keep us and the switch
// at nothing else: after each heal there is a pause, four times as long.
const (
	healPauseMin = 10 * time.Millisecond
	healPauseMax = time.Second
)

// healPaced heals, and returns when to do so again at the earliest.
func (b *Bridge) healPaced(ctx context.Context, conn *openflow.Conn) time.Time {
	began := time.Now()
	b.mu.Lock()
	lost, all := b.lossOf, b.drifted.Swap(false)
	b.lossOf = loss{}
	b.mu.Unlock()
	if all || lost.more || !b.restoreNow(ctx, conn, lost.flows) {
		b.healNow(ctx, conn)
	}
	took := time.Since(began)
	return began.Add(took + min(max(4*took, healPauseMin), healPauseMax))
}

// restoreNow puts back what others deleted, and reports whether that was all
// there was to do.
func (b *Bridge) restoreNow(ctx context.Context, conn *openflow.Conn, lost map[openflow.FlowKey]uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	var policies map[openflow.FlowKey]desired
	if slices.ContainsFunc(slices.Collect(maps.Values(lost)), ofPolicy) { // else a containment is put back at once
		if b.lockPolicy(ctx) != nil {
			return false
		}
		defer b.unlockPolicy()
		policies = b.lostPolicies(lost)
	}
	if b.lockRules(ctx) != nil {
		return false
	}
	defer b.unlockRules()
	changes, done := b.restore(ctx, conn, lost, policies)
	if changes > 0 {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.status.Healed += uint64(changes)
		b.status.LastHeal = b.now()
	}
	return done
}

// healNow heals and records the outcome. A failed heal does not end the
// connection; the next check tries again.
func (b *Bridge) healNow(ctx context.Context, conn *openflow.Conn) {
	ctx, cancel := context.WithTimeout(ctx, healTimeout+policyTimeout)
	defer cancel()
	if b.lock(ctx) != nil {
		return
	}
	defer b.unlock()
	changes, err := b.heal(ctx, conn)
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.status.LastError
	b.status.LastError = ""
	if err != nil && !errors.Is(err, context.Canceled) {
		b.status.LastError = err.Error()
		if before != err.Error() { // it is tried again every second
			b.log.WithError(err).Warn("switch is not as it should be")
		}
	}
	if changes > 0 {
		b.status.Healed += uint64(changes)
		b.status.LastHeal = b.now()
	}
}

// check compares the switch with what we want: usually only the number of
// flows, because the flow monitor reports the rest, now and then everything.
func (b *Bridge) check(ctx context.Context, conn *openflow.Conn, full bool) {
	b.checkLease()
	b.mu.Lock()
	troubled := b.status.LastError != ""
	b.mu.Unlock()
	full = b.lingered() || full
	if lossless := b.lossless(conn); lossless && !full && !troubled && b.asExpected(ctx, conn) {
		return
	}
	b.healNow(ctx, conn)
}

// asExpected compares the number of flows, unless somebody is at work on the
// policies, who reads back what he does.
func (b *Bridge) asExpected(ctx context.Context, conn *openflow.Conn) bool {
	turn, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	if b.lockPolicy(turn) != nil {
		return true
	}
	defer b.unlockPolicy()
	ctx, cancel = context.WithTimeout(ctx, healTimeout)
	defer cancel()
	b.endLinger(ctx, conn)
	b.mu.Lock()
	expected := b.flowCount
	b.mu.Unlock()
	sum, err := conn.Aggregate(ctx, b.cfg.Layout.ownFilters()...)
	return err != nil || int(sum.Flows) == expected // a lost connection shows in Done
}
