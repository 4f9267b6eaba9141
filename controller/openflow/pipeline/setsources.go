package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// SetSources replaces the ports at which sources are guarded, on the switch in
// one transaction, and reads back what it changed. A port that both have keeps
// its flows but for the addresses that differ, so that no packet of an honest
// one is lost, and goes on counting. A port that is not on the switch waits for
// it. None takes the guard off.
//
// Errors, and a switch that is not connected, are as with SetPolicy; what is set
// here stays on the switch when the controller dies, and RemoveAll takes it
// away. The receipt counts ports.
func (b *Bridge) SetSources(ctx context.Context, ports []sourceguard.Port) (Receipt, error) {
	start := time.Now()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lock(ctx); err != nil {
		return Receipt{}, err
	}
	defer b.unlock()
	b.mu.Lock()
	next, err := b.sources.next(b.cfg.Name, ports)
	b.mu.Unlock()
	if err != nil {
		return Receipt{}, fmt.Errorf("guard sources: %w", err)
	}
	conn, ready := b.current()
	if !ready {
		return b.keepSources(ctx, start, next, conn)
	}
	p := b.planSources(next)
	if size(&p.tx) > 0 {
		if err := b.countLeaving(ctx, conn, &p); err != nil {
			return Receipt{}, err
		}
		err = b.commitTx(ctx, conn, p.tx)
	}
	receipt := Receipt{Barrier: time.Since(start), Installed: len(next.ports) - len(p.waiting), Waiting: p.waiting}
	if receipt, err = b.conclude(conn, &p, receipt, err, func() { b.acceptSources(next, &p) }); err != nil {
		return receipt, err
	}
	err = b.readBack(ctx, conn, &p)
	if receipt.ReadBack = err == nil; err != nil {
		b.heedDrift()
	}
	return receipt, err
}

// keepSources sets guarded ports aside as keep does rules.
func (b *Bridge) keepSources(ctx context.Context, start time.Time, next *sourceSet, conn *openflow.Conn) (Receipt, error) {
	b.mu.Lock()
	b.sources = next
	b.mu.Unlock()
	receipt, installed, err := b.kept(ctx, start, len(next.ports) > 0, conn)
	if err != nil || !installed {
		return receipt, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	receipt.Waiting = b.sourceFlows(func(openflow.Flow, *sourcePort) {})
	receipt.Installed = len(next.ports) - len(receipt.Waiting)
	return receipt, nil
}

// planSources compares the guarded ports with the next ones. The way to their
// tables comes with the first of them and goes with the last: one transaction
// is seen by packets whole or not at all.
func (b *Bridge) planSources(next *sourceSet) plan {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := plan{place: map[*rule]*openflow.Flow{}}
	d := difference{plan: &p, gone: map[openflow.FlowKey]openflow.Flow{}}
	was, place := b.sources, b.sourcePlace()
	if (len(was.ports) > 0) != (len(next.ports) > 0) {
		for _, f := range b.frame() {
			d.leave([]openflow.Flow{f})
		}
		b.sources = next
		for _, f := range b.frame() {
			d.come([]openflow.Flow{f})
		}
		b.sources = was
	}
	for name, old := range was.ports {
		if next.ports[name] != old {
			d.leave(place.flows(old))
		}
	}
	for name, x := range next.ports {
		if flows := place.flows(x); len(flows) == 0 {
			p.waiting = append(p.waiting, "source guard at "+name)
		} else if was.ports[name] != x {
			d.come(flows)
		}
	}
	slices.Sort(p.waiting)
	d.settle()
	return p
}

// acceptSources makes the planned ports those that are guarded.
func (b *Bridge) acceptSources(next *sourceSet, p *plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := func(add int) {
		b.sourceFlows(func(openflow.Flow, *sourcePort) { b.flowCount += add })
		if len(b.sources.ports) > 0 {
			b.flowCount += add * len(b.cfg.Layout.sourceFrame())
		}
	}
	for i := range p.gone {
		if x := b.sources.sourceOf(p.gone[i].Cookie); x != nil {
			delete(x.count.last, p.gone[i].Key())
		}
	}
	count(-1)
	b.sources = next
	count(1)
}
