package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ovn-kubernetes/libovsdb/client"
	"github.com/ovn-kubernetes/libovsdb/model"
	"github.com/ovn-kubernetes/libovsdb/ovsdb"
)

const commitTimeout = 5 * time.Second

// ErrChanged says that a commit was refused because what it was based on had
// changed meanwhile: read again and decide anew.
var ErrChanged = errors.New("the database changed meanwhile")

// ErrNotApplied says that a change is committed, but ovs-vswitchd did not
// confirm it in time; it will apply the change when it is back.
var ErrNotApplied = errors.New("ovs-vswitchd has not applied the configuration")

// Commit runs the operations as one transaction. It fails as a whole, with
// ErrChanged when a wait operation among them did not hold.
func (c *Client) Commit(ctx context.Context, ops ...ovsdb.Operation) ([]ovsdb.OperationResult, error) {
	db, err := c.DB()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	results, err := db.Transact(ctx, ops...)
	if errors.Is(err, client.ErrNotConnected) {
		return nil, ErrNotConnected
	}
	if err != nil {
		return nil, fmt.Errorf("transact: %w", err)
	}
	failed, err := ovsdb.CheckOperationResults(results, ops)
	if err == nil {
		return results, nil
	}
	for _, f := range failed {
		var late *ovsdb.TimedOut
		if errors.As(f, &late) {
			return nil, ErrChanged
		}
		err = errors.Join(err, f)
	}
	return nil, fmt.Errorf("transact: %w", err)
}

// CommitApplied commits and waits until ovs-vswitchd has put the change into
// force. It fails with ErrNotApplied when ctx ends after the commit.
func (c *Client) CommitApplied(ctx context.Context, ops ...ovsdb.Operation) error {
	db, err := c.DB()
	if err != nil {
		return err
	}
	t, err := c.Tables()
	if err != nil {
		return err
	}
	if t.Root == nil {
		return errors.New("the database has no Open_vSwitch row")
	}
	bump, err := db.Where(t.Root).Mutate(t.Root, model.Mutation{Field: &t.Root.NextCfg, Mutator: ovsdb.MutateOperationAdd, Value: 1})
	if err != nil {
		return fmt.Errorf("build next_cfg: %w", err)
	}
	ops = append(ops[:len(ops):len(ops)], bump...)
	if _, err := c.Commit(ctx, ops...); err != nil {
		return err
	}
	return c.WaitApplied(ctx)
}

// WaitApplied waits until ovs-vswitchd has put into force everything that its
// clients, this one included, asked it to confirm so far.
func (c *Client) WaitApplied(ctx context.Context) error {
	changed, stop := c.Watch()
	defer stop()
	want := -1
	for {
		if t, err := c.Tables(); err == nil && t.Root != nil {
			if want < 0 {
				want = t.Root.NextCfg
			}
			if t.Root.CurCfg >= want {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrNotApplied, ctx.Err())
		case <-changed:
		}
	}
}
