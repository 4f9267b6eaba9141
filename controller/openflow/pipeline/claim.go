package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
)

// ErrHeld says that another Platelet holds the bridge. Nothing is written
// there; what was asked for is kept.
var ErrHeld = errors.New("another Platelet holds this bridge")

// Instance names a Platelet among those that could reach a bridge.
type Instance struct {
	// ID stays the same over restarts and is nobody else's: letters, digits,
	// dots, dashes and underscores, at most 64. All instances without an ID
	// are the same one.
	ID string
	// Who says for people what and where it is, such as a host's name.
	Who string
}

// instanceID is what an ID may look like: the claim's text is divided by spaces.
var instanceID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// maxWho bounds how much of Who goes into the claim, in bytes.
const maxWho = 120

func (i Instance) validate() error {
	if i.ID != "" && !instanceID.MatchString(i.ID) {
		return fmt.Errorf("instance ID %q: want letters, digits, dots, dashes and underscores, at most 64", i.ID)
	}
	return nil
}

// object is the instance in the hook's cookie, 0 for one without an ID.
func (i Instance) object() uint32 {
	if i.ID == "" {
		return 0
	}
	return max(1, ObjectID(i.ID))
}

// The claim: flows of the last table, below the one that every packet there
// meets, so that none ever gets to them. One says in a note who holds the
// bridge, and matches on the number of its claim, its epoch, in the metadata.
// The others, the fence, match on all smaller numbers.
//
// Each of our transactions begins by adding the first one over itself, with the
// request to refuse it where it overlaps with a flow of the same priority. Once
// another Platelet has put its fence around a larger number, the switch itself
// refuses the transaction, whole.
//
// Roles could not do this. A bridge has one master: to become it takes the
// writing away from another controller whose pipeline runs beside ours; and a
// newcomer learns from the generation that somebody once led, not that he is
// there. Flows belong to nobody's connection, and a bundle compares and sets
// them in one step, over every kind of connection. Groups would do as well, but
// that a group exists is an error when it is added, to ovs-save too, which then
// restores nothing of anybody's.

// claim is who holds a bridge.
type claim struct {
	instance string
	epoch    uint32 // grows with each claim
	who      string
	table    uint8 // where it stands
}

func (c claim) String() string {
	return fmt.Sprintf("%s (instance %s, claim %d)", c.who, c.instance, c.epoch)
}

// maxEpoch leaves room above whatever a switch shows: who claims a bridge goes
// beyond the claim that is there.
const maxEpoch = 1<<32 - 1<<16

const claimText = "platelet %s %d %s"

// number is the epoch as it stands in the metadata: an even number, so that no
// flow of a fence is equal to another's claim instead of overlapping with it.
func (c claim) number() uint64 { return uint64(c.epoch) << 1 }

// flow is the flow that says who holds the bridge.
func (c claim) flow() openflow.Flow {
	note := openflow.Note{Data: fmt.Sprintf(claimText, c.instance, c.epoch, c.who)}
	for (len(note.Data)+10)%8 != 0 { // the switch would
		note.Data += "\x00"
	}
	return openflow.Flow{
		Table: c.table, Priority: claimPriority, Cookie: cookie(CategoryClaim, Instance{ID: c.instance}.object()),
		Match:        openflow.Match{openflow.Metadata(c.number(), ^uint64(0))},
		Instructions: openflow.Instructions{Actions: []openflow.Action{note}},
	}
}

// fence matches on every smaller number: for each bit that is set in ours, on
// those that agree above it and have it unset.
func (c claim) fence(table uint8) []openflow.Flow {
	var out []openflow.Flow
	for bit := 1; bit <= 32; bit++ {
		if c.number()>>bit&1 == 0 {
			continue
		}
		out = append(out, openflow.Flow{
			Table: table, Priority: claimPriority, Cookie: cookie(CategoryClaim, 0),
			Match: openflow.Match{openflow.Metadata(c.number()>>(bit+1)<<(bit+1), ^uint64(0)<<bit)},
		})
	}
	return out
}

// flows are all flows of the claim.
func (c claim) flows() []openflow.Flow { return append(c.fence(c.table), c.flow()) }

// assert begins a transaction: it fails when the claim is fenced off. The
// second leaves the flow as it was, without the request to look for overlaps.
func (c claim) assert() []openflow.FlowMod {
	checked, plain := c.flow(), c.flow()
	checked.Flags |= openflow.FlagCheckOverlap
	return []openflow.FlowMod{{Command: openflow.Add, Flow: checked}, {Command: openflow.Add, Flow: plain}}
}

// holder returns the newest claim among flows, nil when there is none.
func holder(flows []openflow.FlowStats) *claim {
	var newest *claim
	for i := range flows {
		f := &flows[i].Flow
		if cookieCategory(f.Cookie) != CategoryClaim || len(f.Actions) != 1 {
			continue
		}
		note, ok := f.Actions[0].(openflow.Note)
		if !ok {
			continue
		}
		if c, ok := parseClaim(note.Data); ok && (newest == nil || c.epoch > newest.epoch) {
			c.table = f.Table
			newest = &c
		}
	}
	return newest
}

// parseClaim reads the note of a claim.
func parseClaim(text string) (c claim, ok bool) {
	parts := strings.SplitN(strings.TrimRight(text, "\x00"), " ", 4)
	if len(parts) != 4 || parts[0] != "platelet" || !instanceID.MatchString(parts[1]) {
		return c, false
	}
	epoch, err := strconv.ParseUint(parts[2], 10, 32)
	if err != nil || epoch > maxEpoch {
		return c, false
	}
	return claim{instance: parts[1], epoch: uint32(epoch), who: printable(parts[3])}, true
}

// printable makes text from a switch or a configuration fit for a log and a
// claim.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxWho)]
}

// grace is how long a bridge whose holder has just vanished from it, but of
// which we do not know that it is gone, is left to it: a switch restarts
// within that time, and the holder comes back.
const grace = 3 * time.Second

// fenceApart is how long, in seconds, a former holder that was given other
// tables is fenced off in those, where nobody cleans up.
const fenceApart = 3600

// leaseHold is how long the lease must have been ours before it overrules a
// claim on the switch. The holder takes it back within that time, when it lost
// it with a connection to the database and not with its life.
const leaseHold = 500 * time.Millisecond

// mayClaim decides whether this instance may take the bridge: where nobody
// holds it, where we held it ourselves before a restart, where the lease shows
// that the holder is gone, and where we were told to. Wait is how long a bridge
// without a claim is left to who held it last.
func (b *Bridge) mayClaim(c *claim, wait time.Duration) error {
	lease, held := b.lease()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c != nil && c.instance == b.cfg.Instance.name() && !b.ousted:
		return nil
	case b.takeOver:
		return nil
	case lease == LeaseHeld && (c == nil || held >= leaseHold):
		return nil
	case c != nil:
		b.absent = time.Time{}
		return fmt.Errorf("%w: %s", ErrHeld, *c)
	case lease == LeaseOthers:
		return fmt.Errorf("%w: nobody on the switch, but another has the lease", ErrHeld)
	case wait == 0:
		return nil
	}
	if b.absent.IsZero() {
		b.absent = b.now()
	}
	if b.now().Sub(b.absent) < wait {
		return fmt.Errorf("%w: its claim is gone from the switch, but it may be back within %v", ErrHeld, wait)
	}
	return nil
}

// mayHold asks, before anything else is, whether another holds the bridge: who
// waits for one must not burden it.
func (b *Bridge) mayHold(ctx context.Context, conn *openflow.Conn) error {
	flows, err := b.claimFlows(ctx, conn)
	if err != nil {
		return err
	}
	if found := holder(flows); found != nil {
		err = b.mayClaim(found, 0)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = b.refused || err != nil
	return err
}

// claimFlows reads the flows of claims, also those of a Platelet that was
// given other tables.
func (b *Bridge) claimFlows(ctx context.Context, conn *openflow.Conn) ([]openflow.FlowStats, error) {
	return conn.Flows(ctx, openflow.FlowFilter{
		Table: openflow.TableAll, Cookie: cookieOwner | uint64(CategoryClaim)<<32, CookieMask: cookieOwnerMask | 0xff<<32,
	})
}

func (i Instance) name() string {
	if i.ID == "" {
		return "unnamed"
	}
	return i.ID
}

// takeClaim takes the bridge if it may. The caller holds the operation lock.
func (b *Bridge) takeClaim(ctx context.Context, conn *openflow.Conn, p *picture) error {
	there, err := b.claimFlows(ctx, conn)
	if err != nil {
		return err
	}
	found := holder(there)
	strange, left := p.strangeHook(b.cfg.Instance.object())
	b.mu.Lock()
	wait := time.Duration(0)
	if b.refused || strange && !left {
		wait = grace
	}
	b.mu.Unlock()
	if err := b.mayClaim(found, wait); err != nil {
		b.mu.Lock()
		b.refused = true
		b.mu.Unlock()
		return err
	}
	next := claim{instance: b.cfg.Instance.name(), who: printable(b.cfg.Instance.Who), table: b.cfg.Layout.table(tableReturn)}
	if next.epoch = b.nextEpoch(); found != nil {
		next.epoch = max(next.epoch, found.epoch+1)
	}
	if err := conn.Commit(ctx, next.replace(found, there)); err != nil {
		var refused *openflow.TxError
		if errors.As(err, &refused) {
			return fmt.Errorf("%w: it was faster: %w", ErrHeld, err)
		}
		return fmt.Errorf("claim the bridge: %w", err)
	}
	b.claimed(next, found, p, strange)
	return nil
}

// nextEpoch is a number above all that we have had, for ovs-save may put an
// earlier claim back beside the present one. A first one goes by the clock: it
// is above what an earlier process had, and unlike that of who comes at the
// same time.
func (b *Bridge) nextEpoch() uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.epoch != 0 {
		return b.epoch + 1
	}
	return (uint32(b.now().Unix())>>4+1)<<4 | 1<<rand.N(4)
}

// replace is the transaction that puts a claim in the place of the one found,
// if nobody else has since. There are the flows of all claims.
func (c claim) replace(found *claim, there []openflow.FlowStats) openflow.Tx {
	var tx openflow.Tx
	add := func(flows []openflow.Flow) {
		for _, f := range flows {
			tx.Flows = append(tx.Flows, openflow.FlowMod{Command: openflow.Add, Flow: f})
		}
	}
	if found != nil {
		tx.Flows = found.assert()
	}
	for i := range there {
		if holder(there[i:i+1]) != nil || there[i].Table == c.table {
			tx.Flows = append(tx.Flows, remove(&there[i].Flow))
		}
	}
	add(c.fence(c.table))
	if found != nil && found.table != c.table {
		apart := c.fence(found.table)
		for i := range apart {
			apart[i].HardTimeout = fenceApart
		}
		add(apart)
	}
	tx.Flows = append(tx.Flows, c.assert()...)
	return tx
}

// claimed records that the bridge is ours. What another instance left there
// stays for its TTL: a containment must not end because its controller did.
func (b *Bridge) claimed(c claim, found *claim, p *picture, strange bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found != nil && found.instance != c.instance {
		b.log.WithField("from", found.String()).Warn("bridge taken over")
		strange = true
	}
	if strange {
		b.inherit(p)
	}
	b.epoch = c.epoch
	b.claim, b.ousted, b.takeOver, b.refused, b.absent = &c, false, false, false, time.Time{}
	b.status.Claim = c.epoch
}

// strangeHook reports whether the hook is another instance's, and whether it
// has left: then the hook has an end.
func (p *picture) strangeHook(object uint32) (strange, left bool) {
	for i := range p.own {
		if f := &p.own[i]; cookieCategory(f.Cookie) == CategoryHook {
			o := cookieObject(f.Cookie)
			return o != 0 && o != object, f.HardTimeout != 0
		}
	}
	return false, false
}

// inherit remembers the rules of another instance that end by themselves.
func (b *Bridge) inherit(p *picture) {
	b.inherited = map[openflow.FlowKey]uint64{}
	for i := range p.own {
		if f := &p.own[i].Flow; f.HardTimeout != 0 && ruleCategory(cookieCategory(f.Cookie)) && b.cfg.Layout.owns(f.Table) {
			b.inherited[f.Key()] = f.Cookie
		}
	}
}

// setAside takes inherited rules out of the picture, and returns how many there
// still are; and policies out of force that packets may still meet.
func (b *Bridge) setAside(p *picture) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.spare.lingers(b.now()) {
		p.own = slices.DeleteFunc(p.own, func(f openflow.FlowStats) bool { at, in := bankOf(&f.Flow); return in && at != b.bank })
	}
	if len(b.inherited) == 0 {
		return 0
	}
	own := p.own[:0]
	still := map[openflow.FlowKey]uint64{}
	for _, f := range p.own {
		key := f.Key()
		if cookie, ok := b.inherited[key]; ok && cookie == f.Cookie && b.rules.objects[cookieObject(cookie)] == nil {
			still[key] = cookie
			continue
		}
		own = append(own, f)
	}
	p.own, b.inherited = own, still
	return len(still)
}

// commitTx carries out a transaction while the bridge is ours. The caller
// holds the operation lock.
func (b *Bridge) commitTx(ctx context.Context, conn *openflow.Conn, tx openflow.Tx) error {
	b.mu.Lock()
	c := b.claim
	b.mu.Unlock()
	if c == nil {
		return conn.Commit(ctx, tx)
	}
	guard := c.assert()
	tx.Flows = append(guard, tx.Flows...)
	err := conn.Commit(ctx, tx)
	var refused *openflow.TxError
	if !errors.As(err, &refused) {
		return err
	}
	for _, m := range refused.Members {
		if m.Member != "flow" {
			continue
		}
		if m.Index -= len(guard); m.Index < 0 {
			return b.fenced(ctx, conn, err)
		}
	}
	return err
}

// fenced finds out who has fenced us off.
func (b *Bridge) fenced(ctx context.Context, conn *openflow.Conn, refusal error) error {
	flows, err := b.claimFlows(ctx, conn)
	if err != nil {
		return err
	}
	if found := holder(flows); found != nil {
		return b.oust(*found)
	}
	return fmt.Errorf("%w: %w", ErrHeld, refusal)
}

// oust records that another instance has taken the bridge; the session ends
// with it.
func (b *Bridge) oust(by claim) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claim, b.conn, b.ousted, b.refused, b.status.Claim = nil, nil, true, true, 0
	b.lost = fmt.Errorf("%w: taken over by %s", ErrHeld, by)
	b.heedDrift()
	return b.lost
}

// lostBridge returns why the bridge is no longer ours, nil while it is.
func (b *Bridge) lostBridge() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// hold makes sure that the bridge is ours before anything is written to it.
// Idle means that there is nothing to write: we have left, or want nothing
// there and find nothing of ours.
func (b *Bridge) hold(ctx context.Context, conn *openflow.Conn, p *picture, apart bool) (idle bool, err error) {
	b.mu.Lock()
	held, wanted, gone := b.claim != nil, b.attached && !b.leaving, b.leaving && b.left
	b.mu.Unlock()
	if gone || !held && !wanted && len(p.own) == 0 {
		return true, nil
	}
	if found := holder(p.own); held {
		return false, b.compare(found)
	}
	if err := b.takeClaim(ctx, conn, p); err != nil {
		return false, err
	}
	// Until now somebody else may have written.
	*p, err = look(ctx, conn, b.cfg.Layout, apart)
	return false, err
}

// compare looks at whether a claim that is on the switch is newer than ours. An
// older one was put back by somebody who saved it, and goes.
func (b *Bridge) compare(found *claim) error {
	b.mu.Lock()
	ours := b.claim
	b.mu.Unlock()
	if found == nil || found.epoch < ours.epoch || found.epoch == ours.epoch && found.instance == ours.instance {
		return nil
	}
	return b.oust(*found)
}

// let gives the bridge free when we want nothing there any more, or are about
// to leave what is there to itself.
func (b *Bridge) let(ctx context.Context, conn *openflow.Conn) error {
	b.mu.Lock()
	done := !b.attached || b.leaving
	b.mu.Unlock()
	if !done {
		return nil
	}
	if err := b.release(ctx, conn); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = b.leaving
	return nil
}

// checkLease has the lease follow the claim: who holds the bridge needs it, so
// that the next one learns of our end.
func (b *Bridge) checkLease() {
	b.mu.Lock()
	held := b.claim != nil
	b.mu.Unlock()
	if state, _ := b.lease(); held && state == LeaseOthers {
		b.cfg.Lease.Steal()
	}
}

// release gives the bridge free, for whoever comes next.
func (b *Bridge) release(ctx context.Context, conn *openflow.Conn) error {
	b.mu.Lock()
	c := b.claim
	b.mu.Unlock()
	if c == nil {
		return nil
	}
	tx := openflow.Tx{}
	for _, f := range c.flows() {
		tx.Flows = append(tx.Flows, remove(&f))
	}
	if err := b.commitTx(ctx, conn, tx); err != nil {
		return fmt.Errorf("give the bridge free: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claim, b.status.Claim = nil, 0
	return nil
}
