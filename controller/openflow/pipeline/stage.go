package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

const (
	// stageAbove is how many changed flows of policies go to the switch in one
	// transaction, which keeps it busy for some 10 µs each.
	stageAbove = 1024
	// stageSize is how many do of those that no packet meets yet: containment
	// that comes meanwhile waits for 2 to 4 ms.
	stageSize = 256
	// policyTimeout bounds a change of policies.
	policyTimeout = 30 * time.Second
)

// needed is for how long packets may still meet the bank out of force.
func (b *Bridge) needed() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spare.flows == 0 {
		return 0
	}
	return b.spare.until.Sub(b.now())
}

// stage brings a program to the bank out of force, reads it back there, and has
// the hook lead to it. The caller holds the lock for policies. After an error
// the old policies are in force, or openflow.ErrUncertain says that this is not
// known; what was prepared is in nobody's way, and the next heal takes it away.
func (b *Bridge) stage(ctx context.Context, conn *openflow.Conn, next *policySet, p *plan) error {
	err := b.prepare(ctx, conn, next, p)
	if err == nil {
		err = b.swap(ctx, conn, p)
	}
	if err != nil {
		b.heedDrift()
	}
	return err
}

// prepare fills the bank out of force and reads it back.
func (b *Bridge) prepare(ctx context.Context, conn *openflow.Conn, next *policySet, p *plan) error {
	if err := b.clear(ctx, conn); err != nil {
		return err
	}
	b.mu.Lock()
	place := b.policyPlace()
	place.bank = b.bank.other()
	b.spare.dirty = true
	b.mu.Unlock()
	if err := b.send(ctx, conn, openflow.Tx{AddMeters: p.tx.AddMeters, Flows: adds(p.frame)}); err != nil {
		return err
	}
	p.tx.AddMeters = nil // they are there now
	tables := map[uint8]map[openflow.FlowKey]*openflow.Flow{}
	var flows []openflow.Flow
	place.all(next, func(f openflow.Flow, _ *policyRule) { flows = append(flows, f) })
	for i := range flows {
		f := &flows[i]
		if tables[f.Table] == nil {
			tables[f.Table] = map[openflow.FlowKey]*openflow.Flow{}
		}
		tables[f.Table][f.Key()] = f
	}
	for rest := flows; len(rest) > 0; {
		n := min(stageSize, len(rest))
		if err := b.send(ctx, conn, openflow.Tx{Flows: adds(rest[:n])}); err != nil {
			return err
		}
		b.mu.Lock()
		b.flowCount, b.spare.flows = b.flowCount+n, b.spare.flows+n
		b.mu.Unlock()
		rest = rest[n:]
	}
	for table, want := range tables {
		if err := b.readBank(ctx, conn, place.bank, table, want); err != nil {
			return err
		}
	}
	return nil
}

func adds(flows []openflow.Flow) []openflow.FlowMod {
	mods := make([]openflow.FlowMod, len(flows))
	for i, f := range flows {
		mods[i] = openflow.FlowMod{Command: openflow.Add, Flow: f}
	}
	return mods
}

// send carries out a small transaction that makes no difference to any packet,
// when it is its turn.
func (b *Bridge) send(ctx context.Context, conn *openflow.Conn, tx openflow.Tx) error {
	if size(&tx) == 0 {
		return nil
	}
	if err := b.lockRules(ctx); err != nil {
		return err
	}
	defer b.unlockRules()
	return b.commitTx(ctx, conn, tx)
}

// readBank compares the flows of a bank in a table with those that should be
// there.
func (b *Bridge) readBank(ctx context.Context, conn *openflow.Conn, k bank, table uint8, want map[openflow.FlowKey]*openflow.Flow) error {
	there := 0
	for _, part := range divided(k.filter(table), len(want)) {
		flows, err := b.read(ctx, conn, part)
		if err != nil {
			return err
		}
		for i := range flows {
			f := &flows[i].Flow
			w := want[f.Key()]
			if w == nil || !same(f, w) {
				return fmt.Errorf("%w: %s", errDrift, f)
			}
			there++
		}
	}
	if there != len(want) {
		return fmt.Errorf("%w: %d flows of %d in table %d (%s)", errDrift, there, len(want), table, b.cfg.Layout.TableName(table))
	}
	return nil
}

// read reads flows when it is its turn.
func (b *Bridge) read(ctx context.Context, conn *openflow.Conn, f openflow.FlowFilter) ([]openflow.FlowStats, error) {
	if err := b.lockRules(ctx); err != nil {
		return nil, err
	}
	defer b.unlockRules()
	return conn.Flows(ctx, f)
}

// filter selects the flows of a bank in a table.
func (k bank) filter(table uint8) openflow.FlowFilter {
	return openflow.FlowFilter{Table: table, Cookie: cookieOwner, CookieMask: cookieOwnerMask, Match: openflow.Match{k.match()}}
}

// hookFlow is the hook as it should be.
func (b *Bridge) hookFlow() []openflow.Flow {
	b.mu.Lock()
	defer b.mu.Unlock()
	return []openflow.Flow{b.hook(b.bank)}
}

// swap brings what is prepared into force.
func (b *Bridge) swap(ctx context.Context, conn *openflow.Conn, p *plan) error {
	if err := b.lockRules(ctx); err != nil {
		return err
	}
	defer b.unlockRules()
	b.mu.Lock()
	hook := b.hook(b.bank.other())
	b.mu.Unlock()
	if err := b.commitTx(ctx, conn, openflow.Tx{Flows: adds([]openflow.Flow{hook})}); err != nil {
		return err
	}
	p.swapped = true
	return nil
}

// acceptStaged makes the policies in the other bank those in force. Where that
// is not sure, the hook on the switch tells which bank is. The caller holds mu.
func (b *Bridge) acceptStaged(next *policySet, p *plan) {
	if b.bankUnsure = !p.swapped; p.swapped {
		b.spare = spare{flows: b.policy.flowCount(), until: b.now().Add(linger), meters: p.tx.DeleteMeters}
		b.flowCount += len(p.frame)
		b.bank = b.bank.other()
	}
	b.follow(next)
}

// clear takes the flows out of the bank that is out of force, and the meters
// that they alone named. What the rules among them have counted is kept.
func (b *Bridge) clear(ctx context.Context, conn *openflow.Conn) error {
	b.mu.Lock()
	old, k := b.spare, b.bank.other()
	b.mu.Unlock()
	if !old.dirty && old.flows == 0 {
		return nil
	}
	for _, t := range policyTables() {
		if err := b.clearTable(ctx, conn, k, b.cfg.Layout.table(t)); err != nil {
			return fmt.Errorf("take away policies that are out of force: %w", err)
		}
	}
	if err := b.send(ctx, conn, openflow.Tx{DeleteMeters: old.meters}); err != nil {
		b.log.WithError(err).Warn("old meters stay until the next check")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flowCount -= old.flows
	b.spare = spare{}
	return nil
}

func (b *Bridge) clearTable(ctx context.Context, conn *openflow.Conn, k bank, table uint8) error {
	all := k.filter(table)
	sum, err := conn.Aggregate(ctx, all)
	if err != nil || sum.Flows == 0 {
		return err
	}
	for _, part := range divided(all, int(sum.Flows)) {
		if table >= b.cfg.Layout.table(tableEgress) {
			if err := b.countPart(ctx, conn, part); err != nil {
				return err
			}
		}
		if err := b.send(ctx, conn, openflow.Tx{Flows: []openflow.FlowMod{{Command: openflow.Delete, CookieMask: part.CookieMask,
			Flow: openflow.Flow{Table: table, Cookie: part.Cookie, Match: part.Match}}}}); err != nil {
			return err
		}
	}
	return nil
}

// countPart takes the last readings of flows that go.
func (b *Bridge) countPart(ctx context.Context, conn *openflow.Conn, part openflow.FlowFilter) error {
	part.CookieMask |= uint64(clauseBit) // which count nothing
	flows, err := b.read(ctx, conn, part)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.observePolicy(flows, false)
	for i := range flows {
		if r := b.policy.ruleOf(flows[i].Cookie); r != nil {
			delete(r.count.last, flows[i].Key())
		}
	}
	return nil
}

// endLinger takes away what was in force before, once no packet can meet it any
// more. The caller holds the lock for policies.
func (b *Bridge) endLinger(ctx context.Context, conn *openflow.Conn) {
	b.mu.Lock()
	due := b.spare.flows > 0 && !b.spare.lingers(b.now())
	b.mu.Unlock()
	if !due {
		return
	}
	if err := b.clear(ctx, conn); err != nil {
		b.log.WithError(err).Warn("policies that are out of force stay until the next check")
	}
}
