package openflow

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Commit carries out a transaction: meters, then groups and flows as one
// atomic bundle, then a barrier, then the deletion of old meters. When the
// switch refuses any member the rest is discarded, new meters are deleted and
// changed ones restored: Open vSwitch would commit a bundle without the members
// it rejected. It takes two round trips, one more each to change meters and to
// delete groups, and two more to delete meters. One transaction runs at a time.
//
// The error is a *TxError when the switch (or Validate) refused. It wraps
// ErrUncertain when the connection ended at the commit, or when the context
// did and no answer came for two more seconds. After any other error nothing
// is committed; but a connection that ends between the meters and the commit
// leaves new meters on the switch, without a flow that names them, and changed
// ones changed.
func (c *Conn) Commit(ctx context.Context, tx Tx) error {
	if err := tx.Validate(); err != nil {
		return err
	}
	ctx, cancel := withDeadline(ctx, c.timeout)
	defer cancel()
	select {
	case c.tx <- struct{}{}:
		defer func() { <-c.tx }()
	case <-ctx.Done():
		return fmt.Errorf("wait for another transaction: %w", ctx.Err())
	case <-c.done:
		return c.Err()
	}
	r := &txRun{c: c, tx: &tx, bundle: c.xids(1)}
	if err := r.remember(ctx); err != nil {
		return err
	}
	r.span = c.beginSpan(tx.members() + 1)
	defer c.endSpan(r.span)
	for _, step := range []func(context.Context) error{r.prepare, r.guardGroups, context.Context.Err} {
		if err := step(ctx); err != nil {
			return r.undo(err)
		}
	}
	// From here on only the switch knows what is in force, and it tells soon:
	// a context that ends now must not keep us from hearing it.
	ctx, stop := outlive(ctx, min(undoTimeout, c.timeout))
	defer stop()
	if err := r.commit(ctx); err != nil {
		if errors.Is(err, ErrUncertain) {
			return err
		}
		return r.undo(err)
	}
	return r.deleteMeters(ctx)
}

// outlive returns a context that ends some time after its parent.
func outlive(parent context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() { time.AfterFunc(by, cancel) })
	return ctx, func() { stop(); cancel() }
}

// txRun is one transaction under way.
type txRun struct {
	c      *Conn
	tx     *Tx
	bundle uint32
	span   *span   // transaction IDs of the members, in order
	built  int     // members that were handed to the connection
	sent   int     // members that are on their way to the switch
	old    []Meter // what ModifyMeters were before
}

// remember reads the meters that are to be changed.
func (r *txRun) remember(ctx context.Context) error {
	if len(r.tx.ModifyMeters) == 0 {
		return nil
	}
	list, err := r.c.Meters(ctx)
	if err != nil {
		return fmt.Errorf("read the meters to be changed: %w", err)
	}
	have := make(map[uint32]Meter, len(list))
	for _, m := range list {
		have[m.ID] = m
	}
	for i, m := range r.tx.ModifyMeters {
		old, ok := have[m.ID]
		switch {
		case !ok:
			err = ErrNoMeter
		case old.Validate() != nil || old.Bands != 1:
			err = fmt.Errorf("cannot be restored from what it is: %s", old)
		}
		if err != nil {
			return &TxError{Members: []*MemberError{r.tx.member(len(r.tx.AddMeters)+i, err)}}
		}
		r.old = append(r.old, old)
	}
	return nil
}

// begin registers calls, all or none.
func (r *txRun) begin(types ...Type) ([]*call, error) {
	calls := make([]*call, 0, len(types))
	for _, t := range types {
		k, err := r.c.begin(t)
		if err != nil {
			return nil, r.abandon(calls, err)
		}
		calls = append(calls, k)
	}
	return calls, nil
}

// abandon forgets calls whose requests were not sent.
func (r *txRun) abandon(calls []*call, err error) error {
	for _, k := range calls {
		err = r.c.abandon(k, err)
	}
	return err
}

// waitAll waits for all calls and returns the first error. It returns at once
// when the context ends.
func (r *txRun) waitAll(ctx context.Context, calls []*call) error {
	var first error
	for _, k := range calls {
		if _, err := r.c.wait(ctx, k); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// prepare sends everything up to the bundle's close in one go and waits for
// the close reply. By then the errors of all members are in: the switch
// answers one connection in order.
func (r *txRun) prepare(ctx context.Context) error {
	calls, err := r.begin(TypeBarrierReply, TypeBundleControl, TypeBundleControl)
	if err != nil {
		return err
	}
	barrier, opened, closed := calls[0], calls[1], calls[2]
	var out *messageWriter
	err = r.c.write(ctx, func(w *messageWriter) {
		out = w
		for i := range r.tx.meters() {
			command := MeterAdd
			if i >= len(r.tx.AddMeters) {
				command = MeterModify
			}
			r.send(ctx, w, func(b []byte, xid uint32) ([]byte, error) {
				return appendMeterMod(b, xid, command, *r.tx.meter(i)), nil
			})
		}
		// Flows name the meters: the switch must not reorder them.
		w.add(func(b []byte) []byte { return appendMessage(b, TypeBarrierRequest, barrier.xid, nil) })
		w.add(func(b []byte) []byte { return appendBundleControl(b, opened.xid, r.bundle, bundleOpen) })
		for i := range r.tx.Groups {
			r.sendMember(ctx, w, r.tx.Groups[i].append)
		}
		for i := range r.tx.Flows {
			r.sendMember(ctx, w, r.tx.Flows[i].append)
		}
		for i := range r.tx.DeleteGroups {
			r.sendMember(ctx, w, r.tx.group(len(r.tx.Groups)+i).append)
		}
		w.add(func(b []byte) []byte { return appendBundleControl(b, closed.xid, r.bundle, bundleClose) })
	})
	if out != nil && out.write == nil {
		r.sent = r.built
	}
	if err != nil {
		return r.abandon(calls, err)
	}
	if err := r.waitAll(ctx, calls); err != nil {
		return err
	}
	if len(r.c.peekSpan(r.span)) > 0 {
		return errMembers
	}
	return nil
}

// send sends one member. Between members a context that has ended stops the
// transaction, and leaves a connection that can be used to undo it.
func (r *txRun) send(ctx context.Context, w *messageWriter, build func(b []byte, xid uint32) ([]byte, error)) {
	if w.encode == nil {
		w.encode = ctx.Err()
	}
	w.try(func(b []byte) ([]byte, error) { return build(b, r.span.first+uint32(r.built)) })
	if w.encode != nil || w.write != nil {
		return
	}
	if r.built++; len(w.buf) == 0 { // passed on with all before it
		r.sent = r.built
	}
}

// sendMember sends one member of the bundle.
func (r *txRun) sendMember(ctx context.Context, w *messageWriter, member func(b []byte, xid uint32) ([]byte, error)) {
	r.send(ctx, w, func(b []byte, xid uint32) ([]byte, error) { return appendBundleAdd(b, xid, r.bundle, member) })
}

// errMembers says inside this file that members were refused.
var errMembers = errors.New("members refused")

func (r *txRun) commit(ctx context.Context) error {
	calls, err := r.begin(TypeBundleControl, TypeBarrierReply)
	if err != nil {
		return err // the connection ended, and the bundle with it
	}
	if err := r.c.write(ctx, func(w *messageWriter) {
		w.add(func(b []byte) []byte { return appendBundleControl(b, calls[0].xid, r.bundle, bundleCommit) })
		w.add(func(b []byte) []byte { return appendMessage(b, TypeBarrierRequest, calls[1].xid, nil) })
	}); err != nil {
		return r.abandon(calls, err) // it was not sent
	}
	err = r.waitAll(ctx, calls)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

// undo discards the bundle, deletes the meters that this transaction added,
// restores the ones it changed, and says why. A meter whose addition was
// refused is somebody else's.
func (r *txRun) undo(cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), min(undoTimeout, r.c.timeout))
	defer cancel()
	// An error in answer to this is expected: the bundle may never have been
	// opened, or have gone with a failed commit. With the barrier's reply the
	// errors of all members are in, and only then it is known which meters are
	// ours.
	_, err := r.c.sendChecked(ctx, 1, func(b []byte, _ int, xid uint32) []byte {
		return appendBundleControl(b, xid, r.bundle, bundleDiscard)
	})
	result := &TxError{Cause: cause}
	var member *MemberError
	if errors.As(cause, &member) {
		result.Members, result.Cause = append(result.Members, member), nil
	}
	if errors.Is(cause, errMembers) {
		result.Cause = nil
	}
	mine := make([]bool, r.tx.meters())
	for i := range min(r.sent, len(mine)) {
		mine[i] = true
	}
	errs := r.c.peekSpan(r.span)
	for _, e := range errs {
		i := int(e.XID - r.span.first)
		if i < len(mine) {
			mine[i] = false
		}
		switch {
		case i >= r.tx.members():
		case len(result.Members) == maxMembers:
			result.More++
		default:
			result.Members = append(result.Members, r.tx.member(i, e))
		}
	}
	if err == nil {
		err = r.undoMeters(ctx, mine)
	}
	if err != nil {
		// The switch discards the open bundle with the connection; meters
		// that stay behind are in nobody's way and are found on reconnect.
		r.c.fail(fmt.Errorf("undo a transaction: %w", err))
		return fmt.Errorf("nothing was committed: %w", errors.Join(result.Cause, err))
	}
	return result
}

// undoMeters deletes or restores the meters that are marked.
func (r *txRun) undoMeters(ctx context.Context, mine []bool) error {
	var which []int
	for i, m := range mine {
		if m {
			which = append(which, i)
		}
	}
	if len(which) == 0 {
		return nil
	}
	errs, err := r.c.sendChecked(ctx, len(which), func(b []byte, i int, xid uint32) []byte {
		if i = which[i]; i < len(r.tx.AddMeters) {
			return appendMeterMod(b, xid, MeterDelete, Meter{ID: r.tx.AddMeters[i].ID})
		}
		return appendMeterMod(b, xid, MeterModify, r.old[i-len(r.tx.AddMeters)])
	})
	if err != nil {
		return err
	}
	if err := joined(errs); err != nil {
		return fmt.Errorf("take back meters: %w", err)
	}
	return nil
}
