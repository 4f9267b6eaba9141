package pipeline

import "time"

// LeaseState says who has a bridge's lease.
type LeaseState int

// States of a lease.
const (
	LeaseUnknown LeaseState = iota // nobody can tell at the moment
	LeaseHeld                      // we
	LeaseOthers                    // somebody else, who is alive
)

// Lease is a lock, kept outside of the switch, that ends with the life of who
// holds it: it tells a Platelet that waits for a bridge that the holder is
// gone, which the switch cannot. The switch alone decides who may write; a
// lease that errs costs no rule. Its methods return at once.
type Lease interface {
	// State says who has the lease, and since when if it is us.
	State() (LeaseState, time.Time)
	// Steal takes it from whoever has it.
	Steal()
	// Changed receives after a change of state.
	Changed() <-chan struct{}
}

// lease returns the lease's state, and for how long it has been ours.
func (b *Bridge) lease() (LeaseState, time.Duration) {
	if b.cfg.Lease == nil {
		return LeaseUnknown, 0
	}
	state, since := b.cfg.Lease.State()
	return state, b.now().Sub(since)
}

// leaseChanged receives when the lease has changed hands; never without one.
func (b *Bridge) leaseChanged() <-chan struct{} {
	if b.cfg.Lease == nil {
		return nil
	}
	return b.cfg.Lease.Changed()
}
