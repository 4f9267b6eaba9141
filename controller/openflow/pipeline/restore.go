package pipeline

import (
	"context"
	"errors"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// maxLost is up to how many deleted flows are put back one by one; beyond, the
// whole switch is compared.
const maxLost = 256

// loss is what others have taken from us since the last heal, as the flow
// monitor tells it.
type loss struct {
	flows map[openflow.FlowKey]uint64 // cookies of deleted flows
	more  bool                        // something else has changed
}

// note records a change. Only flows of ours that somebody deleted can be put
// back without a look at the rest. The caller holds mu.
func (l *loss) note(u openflow.FlowUpdate) {
	if u.Event != openflow.FlowRemovedEvent || u.Reason != openflow.RemovedDelete || !isOurs(u.Cookie) || len(l.flows) == maxLost {
		l.more = true
		return
	}
	if l.flows == nil {
		l.flows = map[openflow.FlowKey]uint64{}
	}
	l.flows[openflow.FlowKey{Table: u.Table, Priority: u.Priority, Match: u.Match.Key()}] = u.Cookie
}

// settle forgets what others have changed so far, for who is about to read the
// whole switch, and so sees it. The messages that tell of it may still be in the
// queue: whoever heeded them would put back what is there, and count it twice.
func (b *Bridge) settle(conn *openflow.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lossOf, b.settled = loss{}, b.messages+uint64(len(conn.Async()))
}

// restore puts deleted flows back, at a cost that does not grow with the number
// of rules; done is false when the whole switch has to be compared instead. Those
// of policies are given by lostPolicies. The caller holds the operation lock.
func (b *Bridge) restore(ctx context.Context, conn *openflow.Conn, lost map[openflow.FlowKey]uint64, policies map[openflow.FlowKey]desired) (changes int, done bool) {
	p := plan{place: map[*rule]*openflow.Flow{}}
	if !b.planRestore(lost, policies, &p) {
		return 0, false
	}
	if len(p.tx.Flows) == 0 {
		return 0, true
	}
	if b.commitTx(ctx, conn, p.tx) != nil {
		return 0, false // that says what is wrong
	}
	if err := b.readBack(ctx, conn, &p); errors.Is(err, errDrift) {
		// Somebody was there again; the flow monitor tells of that, too.
		b.log.WithError(err).Debug("flows that were put back are gone")
	}
	return len(p.tx.Flows), true
}

// ofPolicy reports whether a cookie is that of a flow of the policies.
func ofPolicy(cookie uint64) bool {
	c := cookieCategory(cookie)
	return c == CategoryTracked || c == CategoryEndpoint || c == CategoryService || c.policy()
}

// lostPolicies finds the flows of policies that are wanted among those that are
// lost. The caller holds the lock for policies, and not mu: there may be many.
func (b *Bridge) lostPolicies(lost map[openflow.FlowKey]uint64) map[openflow.FlowKey]desired {
	b.mu.Lock()
	place := b.policyPlace()
	b.mu.Unlock()
	out := map[openflow.FlowKey]desired{}
	place.all(b.policy, func(f openflow.Flow, r *policyRule) {
		key := f.Key()
		if _, gone := lost[key]; gone {
			out[key] = desired{flow: f, policy: r}
		}
	})
	return out
}

// planRestore finds the wanted flow for every key; false when one needs more
// than its flow.
func (b *Bridge) planRestore(lost map[openflow.FlowKey]uint64, policies map[openflow.FlowKey]desired, p *plan) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.attached || b.leaving || b.status.LastError != "" {
		return false
	}
	frame := b.frame()
	for key, d := range policies {
		if frame[key] = d.flow; d.policy != nil {
			delete(d.policy.count.last, key)
		}
	}
	for key, cookie := range lost {
		if !ruleCategory(cookieCategory(cookie)) {
			if f, ok := frame[key]; ok {
				p.come = append(p.come, f)
				p.tx.Flows = append(p.tx.Flows, openflow.FlowMod{Command: openflow.Add, Flow: f})
			}
			continue
		}
		r := b.rules.objects[cookieObject(cookie)]
		if r == nil {
			continue // nobody wants it
		}
		now := b.now()
		if r.placed == nil || r.placed.Key() != key || !r.expiry.IsZero() && !r.expiry.After(now) {
			return false
		}
		f, ok, err := r.compile(now, b.placement(), b.ports.number)
		if err != nil || !ok || f.Key() != key {
			return false
		}
		r.flow.restart()
		p.place[r] = &f
		p.tx.Flows = append(p.tx.Flows, openflow.FlowMod{Command: openflow.Add, Flow: f})
	}
	return true
}
