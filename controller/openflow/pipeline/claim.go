package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
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

// The claim: two groups on the switch. The first has a fixed ID, so that adding
// it fails where one is; a note in it says who holds the bridge. The second, the
// token, has an ID that changes with every claim. Each of our transactions
// begins with a change of the token that changes nothing: once another Platelet
// has replaced it, the switch itself refuses the transaction, whole.
//
// Roles could not do this. A bridge has one master: to become it takes the
// writing away from another controller whose pipeline runs beside ours; and a
// newcomer learns from the generation that somebody once led, not that he is
// there. Groups belong to nobody's connection, and a bundle compares and sets
// them in one step, over every kind of connection.
const (
	claimGroup  uint32 = 0x504c0000
	claimTokens uint32 = 0xffff // IDs that follow claimGroup
)

// claim is who holds a bridge.
type claim struct {
	instance string
	epoch    uint32 // grows with each claim
	who      string
}

// token is the ID of the group that stands for the claim in transactions.
func (c claim) token() uint32 { return claimGroup + 1 + c.epoch%claimTokens }

func (c claim) String() string {
	return fmt.Sprintf("%s (instance %s, claim %d)", c.who, c.instance, c.epoch)
}

const claimText = "platelet %s %d %s"

// lockGroup is the group that says who holds the bridge.
func (c claim) lockGroup() openflow.Group {
	note := openflow.Note{Data: fmt.Sprintf(claimText, c.instance, c.epoch, c.who)}
	return openflow.Group{ID: claimGroup, Type: openflow.GroupAll, Buckets: []openflow.Bucket{{Actions: []openflow.Action{note}}}}
}

func (c claim) tokenGroup() openflow.Group {
	return openflow.Group{ID: c.token(), Type: openflow.GroupAll}
}

// claims is what a switch holds of claims.
type claims struct {
	lock   bool // the group of the fixed ID is there
	holder claim
	tokens []uint32
}

// readClaims finds the claim among a switch's groups. A lock that says nothing
// that we understand counts as held by somebody unknown.
func readClaims(groups []openflow.Group) claims {
	var c claims
	for _, g := range groups {
		switch {
		case g.ID == claimGroup:
			c.lock, c.holder = true, claim{instance: "?", who: "unknown"}
			if len(g.Buckets) == 1 && len(g.Buckets[0].Actions) == 1 {
				if note, ok := g.Buckets[0].Actions[0].(openflow.Note); ok {
					c.holder.parse(note.Data)
				}
			}
		case g.ID > claimGroup && g.ID <= claimGroup+claimTokens:
			c.tokens = append(c.tokens, g.ID)
		}
	}
	return c
}

// parse reads what lockGroup wrote, and leaves the claim as it is where
// somebody else wrote something.
func (c *claim) parse(text string) {
	var read claim
	text = strings.TrimRight(text, "\x00")
	head := strings.SplitN(text, " ", 4)
	if len(head) != 4 {
		return
	}
	if _, err := fmt.Sscanf(strings.Join(head[:3], " "), "platelet %s %d", &read.instance, &read.epoch); err != nil {
		return
	}
	if !instanceID.MatchString(read.instance) {
		return
	}
	read.who = printable(head[3])
	*c = read
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

// leaseHold is how long the lease must have been ours before it overrules a
// claim on the switch. The holder takes it back within that time, when it lost
// it with a connection to the database and not with its life.
const leaseHold = 500 * time.Millisecond

// mayClaim decides whether this instance may take the bridge: where nobody
// holds it, where we held it ourselves before a restart, where the lease shows
// that the holder is gone, and where we were told to.
func (b *Bridge) mayClaim(c *claims, wait time.Duration) error {
	lease, held := b.lease()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case c.lock && c.holder.instance == b.cfg.Instance.name() && !b.ousted:
		return nil
	case b.takeOver:
		return nil
	case lease == LeaseHeld && (!c.lock || held >= leaseHold):
		return nil
	case c.lock:
		b.absent = time.Time{}
		return fmt.Errorf("%w: %s", ErrHeld, c.holder)
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
	groups, err := conn.Groups(ctx)
	if err != nil {
		return err
	}
	if found := readClaims(groups); found.lock {
		err = b.mayClaim(&found, 0)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = b.refused || err != nil
	return err
}

func (i Instance) name() string {
	if i.ID == "" {
		return "unnamed"
	}
	return i.ID
}

// takeClaim takes the bridge if it may. The caller holds the operation lock.
func (b *Bridge) takeClaim(ctx context.Context, conn *openflow.Conn, p *picture) error {
	groups, err := conn.Groups(ctx)
	if err != nil {
		return err
	}
	found := readClaims(groups)
	strange, left := p.strangeHook(b.cfg.Instance.object())
	b.mu.Lock()
	wait := time.Duration(0)
	if b.refused || strange && !left {
		wait = grace
	}
	b.mu.Unlock()
	if err := b.mayClaim(&found, wait); err != nil {
		b.mu.Lock()
		b.refused = true
		b.mu.Unlock()
		return err
	}
	next := claim{instance: b.cfg.Instance.name(), epoch: found.holder.epoch + 1, who: printable(b.cfg.Instance.Who)}
	if !found.lock {
		next.epoch = rand.Uint32() // as if it had gone on: an old token must not come back
	}
	for containsID(found.tokens, next.token()) {
		next.epoch++
	}
	if err := conn.Commit(ctx, found.replaceBy(next)); err != nil {
		var refused *openflow.TxError
		if errors.As(err, &refused) {
			return fmt.Errorf("%w: it was faster: %w", ErrHeld, err)
		}
		return fmt.Errorf("claim the bridge: %w", err)
	}
	b.claimed(next, &found, p, strange)
	return nil
}

// replaceBy is the transaction that takes the bridge, if nobody else has taken
// it since we looked.
func (c *claims) replaceBy(next claim) openflow.Tx {
	var tx openflow.Tx
	if !c.lock {
		tx.Groups = append(tx.Groups, openflow.GroupMod{Command: openflow.GroupAdd, Group: next.lockGroup()})
	} else {
		if containsID(c.tokens, c.holder.token()) {
			tx.Groups = append(tx.Groups, openflow.GroupMod{Command: openflow.GroupModify, Group: c.holder.tokenGroup()})
		}
		tx.Groups = append(tx.Groups, openflow.GroupMod{Command: openflow.GroupModify, Group: next.lockGroup()})
	}
	tx.Groups = append(tx.Groups, openflow.GroupMod{Command: openflow.GroupAdd, Group: next.tokenGroup()})
	tx.DeleteGroups = c.tokens
	return tx
}

func containsID(ids []uint32, id uint32) bool {
	for _, i := range ids {
		if i == id {
			return true
		}
	}
	return false
}

// claimed records that the bridge is ours. What another instance left there
// stays for its TTL: a containment must not end because its controller did.
func (b *Bridge) claimed(c claim, found *claims, p *picture, strange bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found.lock && found.holder.instance != c.instance {
		b.log.WithField("from", found.holder.String()).Warn("bridge taken over")
		strange = true
	}
	if strange {
		b.inherit(p)
	}
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

// setAside takes inherited rules out of the picture, and returns how many
// there still are.
func (b *Bridge) setAside(p *picture) int {
	b.mu.Lock()
	defer b.mu.Unlock()
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
	for attempt := 0; ; attempt++ {
		b.mu.Lock()
		c := b.claim
		b.mu.Unlock()
		guarded := tx
		if c != nil {
			guarded.Groups = append([]openflow.GroupMod{{Command: openflow.GroupModify, Group: c.tokenGroup()}}, tx.Groups...)
		}
		err := conn.Commit(ctx, guarded)
		if c == nil || attempt > 0 || !tokenGone(err) {
			return err
		}
		if err := b.reclaim(ctx, conn); err != nil {
			return err
		}
	}
}

// tokenGone reports whether a transaction was refused because its token, the
// first group in it, is not there.
func tokenGone(err error) bool {
	var refused *openflow.TxError
	if !errors.As(err, &refused) || refused.Committed {
		return false
	}
	for _, m := range refused.Members {
		var e *openflow.Error
		if m.Member == "group" && m.Index == 0 && errors.As(m, &e) && e.CodeName() == "UNKNOWN_GROUP" {
			return true
		}
	}
	return false
}

// reclaim finds out why our token is gone. Either somebody deleted our groups,
// and we put them back, or the bridge is another's now.
func (b *Bridge) reclaim(ctx context.Context, conn *openflow.Conn) error {
	groups, err := conn.Groups(ctx)
	if err != nil {
		return err
	}
	found := readClaims(groups)
	b.mu.Lock()
	c := *b.claim
	b.mu.Unlock()
	if found.lock && (found.holder.instance != c.instance || found.holder.epoch != c.epoch) {
		return b.oust(found.holder)
	}
	next := c
	next.epoch++
	for containsID(found.tokens, next.token()) {
		next.epoch++
	}
	if err := conn.Commit(ctx, found.replaceBy(next)); err != nil {
		return fmt.Errorf("claim the bridge again: %w", err)
	}
	b.log.Warn("our claim was deleted from the switch; it is back")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claim, b.status.Claim = &next, next.epoch
	return nil
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
func (b *Bridge) hold(ctx context.Context, conn *openflow.Conn, p *picture) (idle bool, err error) {
	b.mu.Lock()
	held, wanted, gone := b.claim != nil, b.attached && !b.leaving, b.leaving && b.left
	b.mu.Unlock()
	if gone || !held && !wanted && len(p.own) == 0 {
		return true, nil
	}
	if held {
		return false, nil
	}
	if err := b.takeClaim(ctx, conn, p); err != nil {
		return false, err
	}
	// Until now somebody else may have written.
	*p, err = look(ctx, conn, b.cfg.Layout)
	return false, err
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

// checkClaim looks whether the bridge is still ours, and has the lease follow
// the claim.
func (b *Bridge) checkClaim(ctx context.Context, conn *openflow.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, healTimeout)
	defer cancel()
	if err := b.lock(ctx); err != nil {
		return nil // an operation hangs; it will find out itself
	}
	defer b.unlock()
	b.mu.Lock()
	c := b.claim
	b.mu.Unlock()
	if c == nil {
		return nil
	}
	counters, err := conn.GroupCounters(ctx, c.token())
	if err != nil {
		return nil // a lost connection shows in Done
	}
	if len(counters) == 0 {
		if err := b.reclaim(ctx, conn); err != nil {
			return err
		}
	}
	if state, _ := b.lease(); state == LeaseOthers {
		b.cfg.Lease.Steal()
	}
	return nil
}

// release gives the bridge free, for whoever comes next.
func (b *Bridge) release(ctx context.Context, conn *openflow.Conn) error {
	b.mu.Lock()
	c := b.claim
	b.mu.Unlock()
	if c == nil {
		return nil
	}
	err := conn.Commit(ctx, openflow.Tx{
		Groups:       []openflow.GroupMod{{Command: openflow.GroupModify, Group: c.tokenGroup()}},
		DeleteGroups: []uint32{claimGroup, c.token()},
	})
	if err != nil && !tokenGone(err) {
		return fmt.Errorf("give the bridge free: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.claim, b.status.Claim = nil, 0
	return nil
}
