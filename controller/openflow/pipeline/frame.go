package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// SetTap replaces the connection tap. Not connected, it is as with Apply.
func (b *Bridge) SetTap(ctx context.Context, t TapConfig) error {
	if err := t.Validate(); err != nil {
		return err
	}
	return b.reframe(ctx, func() { b.tap, b.attached = t, true })
}

// LowerTap samples part of a signal with another probability until
// RestoreTap. Not connected, it is as with Apply.
func (b *Bridge) LowerTap(ctx context.Context, o TapOverride) error {
	return b.reframe(ctx, func() { b.overrides[o.key()] = o })
}

// RestoreTap ends an override; Probability is ignored.
func (b *Bridge) RestoreTap(ctx context.Context, o TapOverride) error {
	return b.reframe(ctx, func() { delete(b.overrides, o.key()) })
}

func (o TapOverride) key() tapKey {
	k := tapKey{signal: o.Signal, inPort: o.InPort}
	if o.Dst.IsValid() {
		k.dst = o.Dst.Masked().String()
	}
	return k
}

func (b *Bridge) overrideList() []TapOverride {
	out := make([]TapOverride, 0, len(b.overrides))
	for _, o := range b.overrides {
		out = append(out, o)
	}
	return out
}

// reframe changes the frame around the rules and heals; if the switch refuses
// the change it is taken back.
func (b *Bridge) reframe(ctx context.Context, edit func()) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	b.mu.Lock()
	tap, attached, overrides := b.tap, b.attached, b.overrides
	b.overrides = make(map[tapKey]TapOverride, len(overrides)+1)
	for k, o := range overrides {
		b.overrides[k] = o
	}
	edit()
	conn := b.conn
	b.mu.Unlock()
	if conn == nil {
		return ErrNotConnected
	}
	_, err := b.heal(ctx, conn)
	var refused *openflow.TxError
	if errors.As(err, &refused) && !refused.Committed {
		b.mu.Lock()
		b.tap, b.attached, b.overrides = tap, attached, overrides
		b.mu.Unlock()
	}
	return keptWhileHeld(err)
}

// RemoveAll takes everything of ours off the switch, rules, policies, tap and
// hook, and nothing else, and reads back that it is gone. All owners' rules and
// the policies are forgotten. The next Apply, SetPolicy or SetTap brings the frame and the tap back. Not
// connected, it is as with Apply.
func (b *Bridge) RemoveAll(ctx context.Context) error {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	b.mu.Lock()
	b.rules, b.policy, b.sources, b.spare, b.lingers, b.attached, b.inherited = newRuleSet(), newPolicySet(), newSourceSet(), spare{}, time.Time{}, false, nil
	b.overrides = map[tapKey]TapOverride{}
	conn := b.conn
	b.mu.Unlock()
	if conn == nil {
		return ErrNotConnected
	}
	_, err := b.heal(ctx, conn)
	if errors.Is(err, ErrConflict) {
		return nil // what is foreign is not ours to remove
	}
	return keptWhileHeld(err)
}
