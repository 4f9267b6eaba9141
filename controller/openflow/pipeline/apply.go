package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
)

// ErrUnknownOwner says that an owner has no rules here.
var ErrUnknownOwner = errors.New("no rules of this owner")

// opTimeout bounds an operation whose context has no deadline.
const opTimeout = 5 * time.Second

// Receipt says what an operation did on the switch.
type Receipt struct {
	// Installed is the number of the owner's rules on the switch.
	Installed int
	// Waiting lists the intents whose port is not on the switch; they are
	// installed when it appears.
	Waiting []string
	// Barrier is the time from the call to the switch's barrier reply. The
	// datapath may take some 10 ms more until it enforces.
	Barrier time.Duration
	// ReadBack is true when the rules were read from the switch afterwards
	// and were right.
	ReadBack bool
	// Pending is true when the switch is not connected; see ErrNotConnected.
	Pending bool
}

// Adopt sets an owner's rules before Run, for a controller that restarts: what
// the switch still holds of them is kept, without a gap and with its
// counters; the rest is installed on connect, and rules that no owner adopts
// are removed.
func (b *Bridge) Adopt(owner string, intents []segmentation.Intent) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	next, err := b.rules.build(b.cfg.Name, owner, intents, b.now())
	if err != nil {
		return err
	}
	b.rules.replace(owner, next)
	return nil
}

// Apply replaces the owner's rules by those of the intents, on the switch in
// one transaction, and reads them back. An intent that was there before, by
// its ID, goes on counting; a TTL begins anew. When the switch refuses, the
// old rules stay and the error (a *openflow.TxError) names the member and the
// reason. When the switch is not connected the new rules are kept and
// installed on connect: the error wraps ErrNotConnected and the receipt is
// Pending. Where the outcome is unknown (openflow.ErrUncertain) the new rules
// are kept too and the bridge brings the switch in accord with them.
func (b *Bridge) Apply(ctx context.Context, owner string, intents []segmentation.Intent) (Receipt, error) {
	start := time.Now()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	done, err := b.turn(ctx)
	if err != nil {
		return Receipt{}, err
	}
	defer done()
	b.mu.Lock()
	next, err := b.rules.build(b.cfg.Name, owner, intents, b.now())
	b.mu.Unlock()
	if err != nil {
		return Receipt{}, err
	}
	return b.change(ctx, start, owner, next)
}

// Remove takes the owner's rules off the switch in one transaction and reads
// back that they are gone. Not connected, it is as with Apply.
func (b *Bridge) Remove(ctx context.Context, owner string) (Receipt, error) {
	return b.Apply(ctx, owner, nil)
}

// Renew lets the owner's rules that have a TTL live for ttl from now on, or
// for their intents' own TTL if ttl is 0. Their counters go on: Open vSwitch
// keeps them, and starts the hard timeout anew, when a flow is added over
// itself. A rule whose time had just ended comes back.
func (b *Bridge) Renew(ctx context.Context, owner string, ttl time.Duration) (Receipt, error) {
	start := time.Now()
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	done, err := b.turn(ctx)
	if err != nil {
		return Receipt{}, err
	}
	defer done()
	b.mu.Lock()
	var intents []segmentation.Intent
	for _, r := range b.rules.owners[owner] {
		if r.copies {
			continue // comes with its intent
		}
		in := r.intent
		if in.TTL > 0 && ttl > 0 {
			in.TTL = ttl
		}
		intents = append(intents, in)
	}
	next, err := b.rules.build(b.cfg.Name, owner, intents, b.now())
	b.mu.Unlock()
	if err != nil {
		return Receipt{}, err
	}
	if len(next) == 0 {
		return Receipt{}, fmt.Errorf("%w: %q", ErrUnknownOwner, owner)
	}
	return b.change(ctx, start, owner, next)
}

// plan is a change of one owner's rules, ready to be sent.
type plan struct {
	tx      openflow.Tx
	place   map[*rule]*openflow.Flow // what each new rule is on the switch
	come    []openflow.Flow          // beside them, of policies and of the frame
	gone    []openflow.Flow
	waiting []string
	void    []openflow.CTFlush // connections that mean nothing any more
	frame   []openflow.Flow    // among them, of the way that tracked packets take
	staged  bool               // policies go to the bank out of force
	swapped bool               // and are in force there
}

// installed counts the rules that will be in force.
func (p *plan) installed() int {
	n := 0
	for r := range p.place {
		if !r.copies {
			n++
		}
	}
	return n
}

// change carries out the replacement of an owner's rules. The caller holds
// the operation lock.
func (b *Bridge) change(ctx context.Context, start time.Time, owner string, next []*rule) (Receipt, error) {
	conn, ready := b.current()
	if !ready {
		return b.keep(ctx, start, owner, next, conn)
	}
	p, err := b.commit(ctx, conn, owner, next)
	receipt := Receipt{Barrier: time.Since(start), Installed: p.installed(), Waiting: p.waiting}
	if receipt, err = b.conclude(conn, &p, receipt, err, func() { b.accept(owner, next, &p) }); err != nil {
		return receipt, err
	}
	if err := b.readBack(ctx, conn, &p); err != nil {
		b.heedDrift()
		return receipt, err
	}
	receipt.ReadBack = true
	b.flush(ctx, conn, p.void)
	return receipt, nil
}

// conclude takes a change over that was sent, by accept, where it is in force or
// may be. Behind an error there is no more to do, and the receipt says what is
// known.
func (b *Bridge) conclude(conn *openflow.Conn, p *plan, r Receipt, err error, accept func()) (Receipt, error) {
	if err != nil && p.place == nil {
		return Receipt{}, err
	}
	if err != nil {
		if keep, err := b.commitFailed(conn, err); !keep {
			return Receipt{}, err
		} else if err != nil {
			accept()
			b.heedDrift()
			return Receipt{Pending: true}, err
		}
	}
	accept()
	return r, nil
}

// commitFailed judges a failed transaction. keep says that the new rules are
// to be kept: either they are in force all the same (no error), or what became
// of them has to be seen.
func (b *Bridge) commitFailed(conn *openflow.Conn, err error) (keep bool, _ error) {
	var refused *openflow.TxError
	switch {
	case errors.As(err, &refused) && refused.Committed:
		b.log.WithError(err).Warn("old meters stay until the next check")
		return true, nil
	case errors.Is(err, ErrHeld):
		return true, keptWhileHeld(err)
	case errors.As(err, &refused):
		return false, err
	case conn.Err() != nil:
		return true, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return errors.Is(err, openflow.ErrUncertain), err
}

// current returns the connection; ready is false when it is not connected or
// when our frame is not there.
func (b *Bridge) current() (conn *openflow.Conn, ready bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conn, b.conn != nil && b.attached
}

// keep sets the rules aside for a switch that is not connected. On one that
// is, but where RemoveAll took our frame away, it brings everything back.
func (b *Bridge) keep(ctx context.Context, start time.Time, owner string, next []*rule, conn *openflow.Conn) (Receipt, error) {
	b.mu.Lock()
	b.rules.replace(owner, next)
	b.mu.Unlock()
	receipt, installed, err := b.kept(ctx, start, len(next) > 0, conn)
	if err != nil || !installed {
		return receipt, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range next {
		if r.copies {
			continue
		}
		if r.placed == nil {
			receipt.Waiting = append(receipt.Waiting, r.intent.ID)
			continue
		}
		receipt.Installed++
	}
	return receipt, nil
}

// kept deals with what was set aside; wanted says that there is something to
// bring to the switch, and installed that it is there.
func (b *Bridge) kept(ctx context.Context, start time.Time, wanted bool, conn *openflow.Conn) (r Receipt, installed bool, _ error) {
	b.mu.Lock()
	b.attached = b.attached || wanted
	attached, last := b.attached, b.status.LastError
	b.mu.Unlock()
	if conn == nil {
		if last != "" {
			return Receipt{Pending: true}, false, fmt.Errorf("%w: %s", ErrNotConnected, last)
		}
		return Receipt{Pending: true}, false, ErrNotConnected
	}
	if !attached {
		return Receipt{ReadBack: true}, false, nil // nothing of ours is there
	}
	if _, err := b.heal(ctx, conn); err != nil {
		b.heedDrift()
		return Receipt{Pending: errors.Is(err, ErrHeld)}, false, keptWhileHeld(err)
	}
	return Receipt{Barrier: time.Since(start), ReadBack: true}, true, nil
}

// commit plans and sends a change. Asking the switch which meters it has costs
// a round trip, and one of a busy switch is long: what the last heal saw
// serves as well, until the switch says that an ID is taken after all. The
// plan is empty when nothing was sent.
func (b *Bridge) commit(ctx context.Context, conn *openflow.Conn, owner string, next []*rule) (plan, error) {
	for attempt := 0; ; attempt++ {
		if err := b.giveMeters(next); err != nil {
			return plan{}, err
		}
		p, err := b.plan(owner, next)
		if err != nil {
			return plan{}, err
		}
		err = b.commitTx(ctx, conn, p.tx)
		if attempt > 0 || !meterTaken(err) {
			return p, err
		}
		list, err := conn.Meters(ctx)
		if err != nil {
			return plan{}, err
		}
		b.mu.Lock()
		b.sawMeters(list)
		for _, m := range p.tx.AddMeters {
			for _, r := range next {
				if r.meter.ID == m.ID {
					r.meter = openflow.Meter{} // choose again
				}
			}
		}
		b.mu.Unlock()
	}
}

// meterTaken reports whether a transaction was refused because a meter's ID
// is somebody else's.
func meterTaken(err error) bool {
	var m *openflow.MemberError
	var e *openflow.Error
	return errors.As(err, &m) && errors.As(m, &e) && e.Type == openflow.ErrorTypeMeterFailed && e.CodeName() == "METER_EXISTS"
}

// sawMeters remembers which meter IDs the switch has.
func (b *Bridge) sawMeters(list []openflow.Meter) {
	b.meterIDs = make(map[uint32]bool, len(list))
	for _, m := range list {
		b.meterIDs[m.ID] = true
	}
}

// giveMeters allocates meters for the rules that need a new one. Few changes
// do, and there may be many rules: only those pay for looking at them all.
func (b *Bridge) giveMeters(next []*rule) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken map[uint32]bool
	for _, r := range next {
		if !r.limited() || r.meter.ID != 0 {
			continue
		}
		if taken == nil {
			taken = b.takenMeters()
		}
		var err error
		if r.meter, err = b.meters.allocate(r.intent.Limit, taken); err != nil {
			return fmt.Errorf("intent %q: %w", r.intent.ID, err)
		}
		taken[r.meter.ID] = true
		r.metered.restart()
	}
	return nil
}

// takenMeters returns the IDs that are on the switch, or meant to be.
func (b *Bridge) takenMeters() map[uint32]bool {
	taken := make(map[uint32]bool, len(b.meterIDs))
	maps.Copy(taken, b.meterIDs)
	for _, m := range b.copyMeters {
		taken[m.ID] = true
	}
	for _, r := range b.rules.objects {
		if r.meter.ID != 0 {
			taken[r.meter.ID] = true
		}
	}
	for _, r := range b.policy.rules {
		taken[r.meter.ID] = true
	}
	return taken
}

// plan compares an owner's old and new rules.
func (b *Bridge) plan(owner string, next []*rule) (plan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := plan{place: map[*rule]*openflow.Flow{}}
	oldMeters, keys := map[uint32]bool{}, map[openflow.FlowKey]uint64{}
	for _, r := range b.rules.owners[owner] {
		if r.meter.ID != 0 {
			oldMeters[r.meter.ID] = true
		}
	}
	var adds []openflow.FlowMod
	for _, r := range next {
		f, ok, err := r.compile(b.now(), b.placement(), b.ports.number)
		if err != nil {
			return p, err
		}
		if m := r.meter; m.ID != 0 {
			if !oldMeters[m.ID] {
				p.tx.AddMeters = append(p.tx.AddMeters, m)
			}
			delete(oldMeters, m.ID)
		}
		if !ok {
			p.waiting = append(p.waiting, r.intent.ID)
			continue
		}
		p.place[r] = &f
		keys[f.Key()] = f.Cookie
		if r.placed == nil || f.HardTimeout != 0 || r.placed.Key() != f.Key() || !same(r.placed, &f) {
			adds = append(adds, openflow.FlowMod{Command: openflow.Add, Flow: f})
		}
	}
	for _, r := range b.rules.owners[owner] {
		if r.placed == nil {
			continue
		}
		if c, again := keys[r.placed.Key()]; !again || c != r.placed.Cookie {
			p.gone = append(p.gone, *r.placed)
			p.tx.Flows = append(p.tx.Flows, remove(r.placed))
		}
	}
	p.void = b.void(next)
	p.tx.Flows = append(p.tx.Flows, adds...)
	for id := range oldMeters {
		p.tx.DeleteMeters = append(p.tx.DeleteMeters, id)
	}
	return p, nil
}

// accept makes the planned rules the owner's.
func (b *Bridge) accept(owner string, next []*rule, p *plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.rules.owners[owner] {
		if r.placed != nil {
			b.flowCount--
		}
	}
	for _, r := range next {
		r.put(p.place[r])
		if r.placed != nil {
			b.flowCount++
		}
	}
	b.rules.replace(owner, next)
}

// readBack reads the planned flows and compares.
func (b *Bridge) readBack(ctx context.Context, conn *openflow.Conn, p *plan) error {
	var tx openflow.Tx
	for i := range p.gone {
		tx.Flows = append(tx.Flows, remove(&p.gone[i]))
	}
	for _, f := range p.place {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Command: openflow.Add, Flow: *f})
	}
	for i := range p.come {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Command: openflow.Add, Flow: p.come[i]})
	}
	r, err := conn.ReadBack(ctx, tx)
	if err != nil {
		return err
	}
	if len(r.Differences) > 0 {
		return fmt.Errorf("%w: %d differences, first %s", errDrift, len(r.Differences), r.Differences[0])
	}
	return nil
}

// readSingly is up to how many cookies are asked for one by one; the switch
// finds a flow by its whole cookie at once.
const readSingly = 32

// flowsByCookie reads flows of ours: by each cookie if there are few, all of
// them otherwise.
func (b *Bridge) flowsByCookie(ctx context.Context, conn *openflow.Conn, cookies map[uint64]bool) ([]openflow.FlowStats, error) {
	if len(cookies) == 0 {
		return nil, nil
	}
	if len(cookies) > readSingly {
		return conn.Flows(ctx, openflow.FlowFilter{Table: openflow.TableAll, Cookie: cookieOwner, CookieMask: cookieOwnerMask})
	}
	var filters []openflow.FlowFilter
	for c := range cookies {
		filters = append(filters, openflow.FlowFilter{Table: openflow.TableAll, Cookie: c, CookieMask: ^uint64(0)})
	}
	return conn.Flows(ctx, filters...)
}

// withTimeout gives a context a deadline if it has none.
func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return within(ctx, opTimeout)
}

// within gives a context a deadline if it has none.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// keptWhileHeld turns the refusal of a bridge that another Platelet holds into
// that of one that is not connected: what was asked for waits in both cases.
func keptWhileHeld(err error) error {
	if errors.Is(err, ErrHeld) {
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return err
}
