package pipeline

import (
	"context"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Hits is what has met a rule since it was first set, over changes of its rank
// and restarts of the switch.
type Hits struct {
	// Connections counts packets that open a connection, or would where they
	// are denied: a retransmission counts again. Packets and Bytes count those,
	// and all that belong to them, in both directions.
	Connections uint64 `json:"connections"`
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
}

// PolicyHits is what the policies have met.
type PolicyHits struct {
	// Rules holds every rule in force.
	Rules map[policy.RuleID]Hits
	// Undecided is what no rule of a direction has decided, which lets it
	// pass; only packets from and to those under policy get that far.
	Undecided map[policy.Direction]Hits
	// Sources is what came in with a foreign source by each guarded port: was
	// dropped, or only counted.
	Sources map[string]Hits
}

// ruleCount adds up what several flows count, each of which the switch may
// begin anew.
type ruleCount struct {
	total Hits
	last  map[openflow.FlowKey][2]uint64 // packets and bytes
}

func newRuleCount() *ruleCount { return &ruleCount{last: map[openflow.FlowKey][2]uint64{}} }

// observe takes a reading.
func (c *ruleCount) observe(f *openflow.FlowStats) {
	key := f.Key()
	last := c.last[key]
	if f.Packets < last[0] || f.Bytes < last[1] {
		last = [2]uint64{}
	}
	c.last[key] = [2]uint64{f.Packets, f.Bytes}
	c.total.Packets += f.Packets - last[0]
	c.total.Bytes += f.Bytes - last[1]
	if opens(f.Match) {
		c.total.Connections += f.Packets - last[0]
	}
}

// forget drops the readings of flows that are not on the switch any more.
func (c *ruleCount) forget(there map[openflow.FlowKey]bool) {
	for key := range c.last {
		if !there[key] {
			delete(c.last, key)
		}
	}
}

// opens reports whether a flow is for packets that open connections.
func opens(m openflow.Match) bool {
	for _, o := range m {
		if o.Field() != openflow.FieldReg0+markReg {
			continue
		}
		value, mask := o.Bytes()
		at, bit := 3-firstBit/8, byte(1)<<(firstBit%8)
		return value[at]&mask[at]&bit != 0
	}
	return false
}

// observePolicy takes the readings of flows of policies' rules. all says that
// there are no others on the switch. The caller holds mu.
func (b *Bridge) observePolicy(flows []openflow.FlowStats, all bool) {
	there := map[openflow.FlowKey]bool{}
	for i := range flows {
		f := &flows[i]
		c := b.countOf(f)
		if c == nil {
			continue
		}
		c.observe(f)
		there[f.Key()] = true
	}
	if !all {
		return
	}
	for _, r := range b.policy.rules {
		r.count.forget(there)
	}
	for _, c := range b.undecided {
		c.forget(there)
	}
}

// countOf returns what a flow counts for, nil for nothing of policies.
func (b *Bridge) countOf(f *openflow.FlowStats) *ruleCount {
	if r := b.policy.ruleOf(f.Cookie); r != nil && cookieObject(f.Cookie)&clauseBit == 0 {
		return r.count
	}
	if p := b.sources.sourceOf(f.Cookie); p != nil && isOurs(f.Cookie) && counting(f.Cookie) {
		return p.count
	}
	if !isOurs(f.Cookie) || cookieCategory(f.Cookie) != CategoryMiss {
		return nil
	}
	switch f.Table {
	case b.cfg.Layout.table(tableIngress - 1):
		return b.undecided[policy.Egress]
	case b.cfg.Layout.table(tableCommit - 1):
		return b.undecided[policy.Ingress]
	}
	return nil
}

// countLeaving reads the counters of flows that a change takes away.
func (b *Bridge) countLeaving(ctx context.Context, conn *openflow.Conn, p *plan) error {
	cookies := map[uint64]bool{}
	for i := range p.gone {
		if c := p.gone[i].Cookie; counting(c) {
			cookies[c] = true
		}
	}
	if len(cookies) == 0 {
		return nil
	}
	flows, err := b.flowsByCookie(ctx, conn, cookies)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observePolicy(flows, false)
	return nil
}

// PolicyHits reads what the policies in force have met.
func (b *Bridge) PolicyHits(ctx context.Context) (PolicyHits, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lockPolicy(ctx); err != nil {
		return PolicyHits{}, err
	}
	defer b.unlockPolicy()
	conn, _ := b.current()
	if conn == nil {
		return PolicyHits{}, ErrNotConnected
	}
	var filters []openflow.FlowFilter
	for t := range tableCount { // without clauses, which are many
		if t >= tableEgress && t < tableCommit || t >= tableStation {
			filters = append(filters, openflow.FlowFilter{
				Table: b.cfg.Layout.table(t), Cookie: cookieOwner, CookieMask: cookieOwnerMask | uint64(clauseBit),
			})
		}
	}
	flows, err := conn.Flows(ctx, filters...)
	if err != nil {
		return PolicyHits{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observePolicy(flows, true)
	out := PolicyHits{Rules: make(map[policy.RuleID]Hits, len(b.policy.rules)), Undecided: map[policy.Direction]Hits{}, Sources: b.sources.hits()}
	for id, r := range b.policy.rules {
		out.Rules[id] = r.count.total
	}
	for d, c := range b.undecided {
		out.Undecided[d] = c.total
	}
	return out, nil
}

// PolicyRule returns the rule in force that a flow.Record of this bridge names
// in Rule.
func (b *Bridge) PolicyRule(number uint32) (policy.RuleID, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.policy.objects[number]
	if r == nil {
		return policy.RuleID{}, false
	}
	return r.ID, true
}
