package openflow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrUncertain says that a transaction's outcome is unknown: the commit was
// sent and the answer did not come. Read the switch to find out.
var ErrUncertain = errors.New("outcome of the transaction is unknown")

// undoTimeout bounds the cleaning up after a transaction whose own context
// may have ended.
const undoTimeout = 2 * time.Second

// Tx is a change of a switch that takes effect wholly or not at all.
type Tx struct {
	// AddMeters are added first: bundles take no meters, flows need them.
	AddMeters []Meter
	// Flows are one atomic, ordered bundle.
	Flows []FlowMod
	// DeleteMeters go last, when no flow names them any more; a meter that
	// is gone already is no error.
	DeleteMeters []uint32
}

// MemberError says which member of a transaction the switch refused, and why.
type MemberError struct {
	// Member is "meter" or "flow", and Index its place in Tx.AddMeters or
	// Tx.Flows.
	Member string
	Index  int
	// Text is the member in ovs-ofctl's syntax.
	Text string
	Err  error
}

func (e *MemberError) Error() string {
	return fmt.Sprintf("%s %d (%s): %v", e.Member, e.Index, e.Text, e.Err)
}

func (e *MemberError) Unwrap() error { return e.Err }

// TxError says why a transaction was not carried out. Nothing of it is left
// on the switch, unless Committed is set: then only old meters were not
// deleted.
type TxError struct {
	Members   []*MemberError
	Cause     error // of the bundle itself; may be nil when Members say it
	Committed bool
}

func (e *TxError) Error() string {
	var parts []string
	for i, m := range e.Members {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("and %d more", len(e.Members)-i))
			break
		}
		parts = append(parts, m.Error())
	}
	if e.Cause != nil {
		parts = append(parts, e.Cause.Error())
	}
	return "transaction refused: " + strings.Join(parts, "; ")
}

// Unwrap lets errors.Is and errors.As see the members and the cause.
func (e *TxError) Unwrap() []error {
	out := make([]error, 0, len(e.Members)+1)
	for _, m := range e.Members {
		out = append(out, m)
	}
	if e.Cause != nil {
		out = append(out, e.Cause)
	}
	return out
}

// Validate checks every member locally, before anything is sent.
func (t *Tx) Validate() error {
	for i := range t.AddMeters {
		if err := t.AddMeters[i].Validate(); err != nil {
			return &TxError{Members: []*MemberError{t.member(i, err)}}
		}
	}
	for i := range t.Flows {
		if err := t.Flows[i].Validate(); err != nil {
			return &TxError{Members: []*MemberError{t.member(len(t.AddMeters)+i, err)}}
		}
	}
	return nil
}

// member describes the i-th of the meters and flows, counted together.
func (t *Tx) member(i int, err error) *MemberError {
	if i < len(t.AddMeters) {
		return &MemberError{Member: "meter", Index: i, Text: t.AddMeters[i].String(), Err: err}
	}
	i -= len(t.AddMeters)
	return &MemberError{Member: "flow", Index: i, Text: t.Flows[i].String(), Err: err}
}

// Commit carries out a transaction: meters, then the flows as one atomic
// bundle, then a barrier, then the deletion of old meters. When the switch
// refuses any member the rest is discarded and new meters are deleted again:
// Open vSwitch would commit a bundle without the members it rejected. It
// takes two round trips, three when meters are deleted. One transaction runs
// at a time.
//
// The error is a *TxError when the switch (or Validate) refused, and wraps
// ErrUncertain when the connection or the context ended at the commit.
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
		return ctx.Err()
	case <-c.done:
		return c.Err()
	}
	r := &txRun{c: c, tx: &tx, bundle: c.xids(1)}
	r.span = c.beginSpan(len(tx.AddMeters) + len(tx.Flows) + 1)
	defer c.endSpan(r.span)
	if err := r.prepare(ctx); err != nil {
		return r.undo(err, true)
	}
	if err := r.commit(ctx); err != nil {
		if errors.Is(err, ErrUncertain) {
			return err
		}
		return r.undo(err, false)
	}
	return r.deleteMeters(ctx)
}

// txRun is one transaction under way.
type txRun struct {
	c      *Conn
	tx     *Tx
	bundle uint32
	span   *span // transaction IDs of meters, then flows
}

// begin registers calls, all or none.
func (r *txRun) begin(types ...Type) ([]*call, error) {
	calls := make([]*call, len(types))
	for i, t := range types {
		k, err := r.c.begin(t)
		if err != nil {
			return nil, err
		}
		calls[i] = k
	}
	return calls, nil
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
	xid := r.span.first
	err = r.c.write(ctx, func(w *messageWriter) {
		for _, m := range r.tx.AddMeters {
			w.add(func(b []byte) []byte { return appendMeterMod(b, xid, MeterAdd, m) })
			xid++
		}
		// Flows name the meters: the switch must not reorder them.
		w.add(func(b []byte) []byte { return appendMessage(b, TypeBarrierRequest, barrier.xid, nil) })
		w.add(func(b []byte) []byte { return appendBundleControl(b, opened.xid, r.bundle, bundleOpen) })
		for i := range r.tx.Flows {
			w.try(func(b []byte) ([]byte, error) { return appendBundleAdd(b, xid, r.bundle, &r.tx.Flows[i]) })
			xid++
		}
		w.add(func(b []byte) []byte { return appendBundleControl(b, closed.xid, r.bundle, bundleClose) })
	})
	if err != nil {
		for _, k := range calls {
			err = r.c.abandon(k, err)
		}
		return err
	}
	if err := r.waitAll(ctx, calls); err != nil {
		return err
	}
	if len(r.c.peekSpan(r.span)) > 0 {
		return errMembers
	}
	return nil
}

// errMembers says inside this file that members were refused.
var errMembers = errors.New("members refused")

func (r *txRun) commit(ctx context.Context) error {
	calls, err := r.begin(TypeBundleControl, TypeBarrierReply)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	if err := r.c.write(ctx, func(w *messageWriter) {
		w.add(func(b []byte) []byte { return appendBundleControl(b, calls[0].xid, r.bundle, bundleCommit) })
		w.add(func(b []byte) []byte { return appendMessage(b, TypeBarrierRequest, calls[1].xid, nil) })
	}); err != nil {
		for _, k := range calls {
			err = r.c.abandon(k, err)
		}
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	err = r.waitAll(ctx, calls)
	var refused *Error
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	return err
}

// undo discards the bundle and deletes the meters that this transaction
// added, and says why. A meter whose addition was refused is somebody else's.
func (r *txRun) undo(cause error, discard bool) error {
	if err := r.c.Err(); err != nil {
		return fmt.Errorf("nothing was committed: %w", err)
	}
	refused := r.c.peekSpan(r.span)
	result := &TxError{Cause: cause}
	mine := make(map[int]bool, len(r.tx.AddMeters))
	for i := range r.tx.AddMeters {
		mine[i] = true
	}
	for _, e := range refused {
		i := int(e.XID - r.span.first)
		if i >= len(r.tx.AddMeters)+len(r.tx.Flows) {
			continue
		}
		mine[i] = false
		result.Members = append(result.Members, r.tx.member(i, e))
	}
	if errors.Is(cause, errMembers) {
		result.Cause = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), undoTimeout)
	defer cancel()
	if err := r.sendUndo(ctx, mine, discard); err != nil {
		// The switch discards the open bundle with the connection; meters
		// that stay behind are in nobody's way and are found on reconnect.
		r.c.fail(fmt.Errorf("undo a transaction: %w", err))
	}
	return result
}

func (r *txRun) sendUndo(ctx context.Context, mine map[int]bool, discard bool) error {
	var meters []uint32
	for i, m := range r.tx.AddMeters {
		if mine[i] {
			meters = append(meters, m.ID)
		}
	}
	n := len(meters)
	if discard {
		n++
	}
	// Errors in answer to these are expected: the bundle may never have
	// been opened, the meters never have been added.
	_, err := r.c.sendChecked(ctx, n, func(b []byte, i int, xid uint32) []byte {
		if i < len(meters) {
			return appendMeterMod(b, xid, MeterDelete, Meter{ID: meters[i]})
		}
		return appendBundleControl(b, xid, r.bundle, bundleDiscard)
	})
	return err
}

func (r *txRun) deleteMeters(ctx context.Context) error {
	if len(r.tx.DeleteMeters) == 0 {
		return nil
	}
	errs, err := r.c.sendChecked(ctx, len(r.tx.DeleteMeters), func(b []byte, i int, xid uint32) []byte {
		return appendMeterMod(b, xid, MeterDelete, Meter{ID: r.tx.DeleteMeters[i]})
	})
	for _, e := range errs {
		if e.Type == ErrorTypeMeterFailed && e.CodeName() == "UNKNOWN_METER" {
			continue
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		return &TxError{Cause: fmt.Errorf("delete old meters: %w", err), Committed: true}
	}
	return nil
}
