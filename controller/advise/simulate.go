// Package advise holds policies against recorded telemetry, and makes policies
// of it.
package advise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/staged"
)

// batchLen is how many records are handed on at once.
const batchLen = 256

// Records names recorded telemetry, as replay reads it.
type Records struct {
	Inputs []string
	Stdin  io.Reader // for the input "-"
}

// each hands the records on in the order of their time.
func (in Records) each(ctx context.Context, observe func([]flow.Record) error) (faults []*replay.Fault, err error) {
	r, err := replay.Open(in.Inputs, replay.Options{Stdin: in.Stdin})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	batch := make([]flow.Record, 0, batchLen)
	for {
		batch = batch[:len(batch)+1]
		err := r.Read(&batch[len(batch)-1])
		if err != nil {
			batch = batch[:len(batch)-1]
		}
		if len(batch) == batchLen || err != nil && len(batch) > 0 {
			if ctx.Err() != nil {
				return r.Stats().Faults, ctx.Err()
			}
			if err := observe(batch); err != nil {
				return r.Stats().Faults, err
			}
			batch = batch[:0]
		}
		switch {
		case errors.Is(err, io.EOF):
			return r.Stats().Faults, nil
		case err != nil:
			return r.Stats().Faults, err
		}
	}
}

// Simulate reports what policies would have done to recorded connections, on
// recorded time. Faults describe the first few lines and packets that could
// not be read.
func Simulate(ctx context.Context, set *policy.Set, inv policy.Inventory, in Records) (*staged.Report, []*replay.Fault, error) {
	var e *staged.Evaluator
	faults, err := in.each(ctx, func(batch []flow.Record) (err error) {
		if e == nil {
			if e, err = staged.New(staged.Config{Set: set, Inventory: inv}, time.Unix(0, batch[0].Time)); err != nil {
				return err
			}
		}
		e.Observe(batch)
		return nil
	})
	if err != nil {
		return nil, faults, fmt.Errorf("simulate: %w", err)
	}
	if e == nil { // no records
		if e, err = staged.New(staged.Config{Set: set, Inventory: inv}, time.Unix(0, 0)); err != nil {
			return nil, faults, fmt.Errorf("simulate: %w", err)
		}
	}
	return e.Report(), faults, nil
}
