package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// RuleCounter is what a rule has counted since it was first applied, over
// renewals and restarts of the switch.
type RuleCounter struct {
	Intent string `json:"intent"`
	Owner  string `json:"owner"`
	// Packets and Bytes matched the rule. A rate limit's packets come from its
	// meter and are exact at once; others move every 500 ms.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// Dropped is how many of the packets were dropped.
	Dropped uint64 `json:"dropped"`
	// Copied is how many of them a mirror copied.
	Copied   uint64        `json:"copied,omitempty"`
	Duration time.Duration `json:"duration"`
	// Installed is false while the rule waits for its port or the switch.
	Installed bool `json:"installed"`
}

// Counters reads what the owner's rules have counted.
func (b *Bridge) Counters(ctx context.Context, owner string) ([]RuleCounter, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lockRules(ctx); err != nil {
		return nil, err
	}
	defer b.unlockRules()
	conn, cookies, meters, err := b.countersOf(owner)
	if err != nil {
		return nil, err
	}
	flows, err := b.flowsByCookie(ctx, conn, cookies)
	if err != nil {
		return nil, err
	}
	var metered []openflow.MeterCounters
	if len(meters) > 0 {
		if metered, err = conn.MeterCounters(ctx, meters...); err != nil {
			return nil, err
		}
	}
	return b.count(owner, flows, metered), nil
}

// countersOf returns what to ask the switch for.
func (b *Bridge) countersOf(owner string) (conn *openflow.Conn, cookies map[uint64]bool, meters []uint32, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rules, ok := b.rules.owners[owner]
	if !ok {
		return nil, nil, nil, fmt.Errorf("%w: %q", ErrUnknownOwner, owner)
	}
	if b.conn == nil {
		return nil, nil, nil, ErrNotConnected
	}
	cookies = map[uint64]bool{}
	for _, r := range rules {
		if r.placed == nil {
			continue
		}
		cookies[r.placed.Cookie] = true
		if r.meter.ID != 0 {
			meters = append(meters, r.meter.ID)
		}
	}
	return b.conn, cookies, meters, nil
}

// count takes the readings and returns the owner's counters.
func (b *Bridge) count(owner string, flows []openflow.FlowStats, metered []openflow.MeterCounters) []RuleCounter {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range flows {
		f := &flows[i]
		r := b.rules.objects[cookieObject(f.Cookie)]
		if r != nil && r.owner == owner && ruleCategory(cookieCategory(f.Cookie)) {
			r.flow.observe(f.Packets, f.Bytes)
		}
	}
	byMeter := map[uint32]openflow.MeterCounters{}
	for _, m := range metered {
		byMeter[m.ID] = m
	}
	var out []RuleCounter
	for _, r := range b.rules.owners[owner] {
		if m, ok := byMeter[r.meter.ID]; ok {
			r.metered.observe(m.Packets, m.DroppedPackets)
		}
	}
	for _, r := range b.rules.owners[owner] {
		if !r.copies {
			out = append(out, r.counter(b.now()))
		}
	}
	return out
}

func (r *rule) counter(now time.Time) RuleCounter {
	c := RuleCounter{Intent: r.intent.ID, Owner: r.owner, Duration: now.Sub(r.since), Installed: r.placed != nil}
	c.Packets, c.Bytes = r.flow.total()
	switch r.intent.Action {
	case segmentation.ActionDeny:
		c.Dropped = c.Packets
	case segmentation.ActionRateLimit:
		c.Packets, c.Dropped = r.metered.total()
	case segmentation.ActionMirror:
		offered, dropped := r.other.metered.total()
		c.Copied = offered - min(dropped, offered)
		c.Packets = max(c.Packets, offered) // meters count at once
	}
	return c
}

// PassCounters reads how many packets and bytes we have let pass since the
// hook was installed.
func (b *Bridge) PassCounters(ctx context.Context) (packets, bytes uint64, err error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	conn, _ := b.current()
	if conn == nil {
		return 0, 0, ErrNotConnected
	}
	sum, err := conn.Aggregate(ctx, openflow.FlowFilter{
		Table: b.cfg.Layout.table(tableReturn), Cookie: cookie(CategoryReturn, 0), CookieMask: ^uint64(0),
	})
	return sum.Packets, sum.Bytes, err
}
