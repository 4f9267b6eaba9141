package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/datapath"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// ErrNotConnected says that the switch cannot be reached at the moment, or
// that it is refused because of a conflict. What was asked for is kept, and
// carried out as soon as the switch is connected.
var ErrNotConnected = errors.New("switch not connected; kept for when it is")

// Config configures a Bridge.
type Config struct {
	// Name is the bridge's name, as intents give it in Switch.
	Name string
	// Target is its OpenFlow target: unix:PATH of its management socket, or
	// tcp:HOST[:PORT] or ssl:HOST[:PORT] of a passive one. An active
	// controller connection would flush everybody's flows.
	Target string
	// Dial, if set, connects instead of Dialer, which dials Target: where the
	// switch dials us, it waits for the switch.
	Dial func(context.Context) (*openflow.Conn, error)
	// Layout places our tables; the zero value is DefaultBase and ZoneOf.
	Layout Layout
	// Instance is who we are: only one at a time holds a bridge.
	Instance Instance
	// TakeOver takes the bridge from another Platelet that holds it, once.
	TakeOver bool
	// Lease tells when another Platelet that holds the bridge is gone. It may
	// be nil; then only an orderly end gives a bridge free, or TakeOver.
	Lease Lease
	// Dialer holds connection settings.
	Dialer openflow.Dialer
	// Datapath, if set, is the local ovs-vswitchd of the bridge: Status then
	// says what its datapath carries, and ZoneLimit can be held.
	Datapath *datapath.Local
	// ZoneLimit is the most connections that Layout.Zone may hold, so that a
	// flood towards a host under policy leaves room for others; 0 is no limit.
	// Where it is reached, connections that are known go on, and new ones are
	// not entered: the userspace datapath still checks their packets, one by
	// one; the kernel's drops those that would be entered.
	ZoneLimit uint32
	// Check is how often the switch is compared with what we want, beside
	// its own reports of changes. Default 1 s.
	Check time.Duration
	// Expired, if set, is called once for each owner that lost rules
	// because nobody renewed them. It must not call the Bridge.
	Expired func(owner string)
	// Changed, if set, is called whenever the connection's state changes. It
	// must not call the Bridge.
	Changed func(Status)
	// Copied, if set, is given copies of the packets by which hosts find each
	// other and are configured, by Run and in order. It should return soon and
	// must not call the Bridge. How many there are is limited on the switch;
	// the tap must be on.
	Copied func(Copy)
	// Log may be nil.
	Log logrus.FieldLogger
}

// Bridge enforces rule intents and policies on one bridge. Apply, Remove and the others
// may be called at any time from any goroutine; Run keeps the switch in
// accord with what they asked for.
type Bridge struct {
	cfg  Config
	log  logrus.FieldLogger
	now  func() time.Time
	kick chan struct{} // asks for a heal
	// Who talks to the switch holds op, so that one conversation (read, compare,
	// change, read back) about rules and the frame is over before the next
	// begins. Who deals with policies holds work, for as long as that takes, and
	// op only for the moments in which the switch is busy with them: containment
	// never waits for more than one of those. Work is taken first. mu guards
	// everything below it and is never held while waiting for the switch.
	op      chan struct{}
	work    chan struct{}
	drifted atomic.Bool // the whole switch is to be compared
	// stageAbove is how many changes of policies go into one transaction.
	stageAbove int

	mu         sync.Mutex
	conn       *openflow.Conn // nil while not connected
	ports      *ports
	meters     meterRange
	meterIDs   map[uint32]bool // on the switch, as last seen
	rules      *ruleSet
	policy     *policySet                      // who holds work may read it without mu
	sources    *sourceSet                      // the ports that are guarded
	bank       bank                            // where its flows stand, on a switch that has them
	bankUnsure bool                            // the hook on the switch says which
	spare      spare                           // the other one
	lingers    time.Time                       // until when the way of tracked packets stays that nobody takes any more
	undecided  map[policy.Direction]*ruleCount // what no rule of a policy decides
	tap        TapConfig
	overrides  map[tapKey]TapOverride
	// copyMeters limit the copies of each class; an ID of 0 means none.
	copyMeters [copyClasses]openflow.Meter
	attached   bool // false after RemoveAll
	leaving    bool // after Leave: everything has an end,
	staying    bool // save policies
	left       bool // and is there, and the bridge is not ours any more
	waiting    []string
	lossOf     loss
	messages   uint64                      // of the switch's own that came on this connection
	settled    uint64                      // up to which of them a heal has seen what they tell
	surveyed   bool                        // the foreign pipeline bears us
	claim      *claim                      // by which the bridge is ours, nil while it is not
	epoch      uint32                      // of our latest claim
	takeOver   bool                        // take the next claim whoever has it
	ousted     bool                        // another took our claim: it is not ours to take back
	refused    bool                        // another had the bridge when we came
	absent     time.Time                   // since when nobody has, as far as we saw
	lost       error                       // why the bridge is no longer ours
	inherited  map[openflow.FlowKey]uint64 // cookies of another's rules that end by themselves
	flowCount  int                         // flows that belong on the switch
	status     Status
}

// New returns a bridge that does nothing until Run.
func New(cfg Config) (*Bridge, error) {
	if cfg.Layout.Base == 0 {
		cfg.Layout.Base = DefaultBase
	}
	if cfg.Layout.Zone == 0 {
		cfg.Layout.Zone = ZoneOf(cfg.Name, DefaultZone, nil)
	}
	if err := cfg.Layout.Validate(); err != nil {
		return nil, err
	}
	if err := cfg.Instance.validate(); err != nil {
		return nil, err
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context) (*openflow.Conn, error) { return cfg.Dialer.Dial(ctx, cfg.Target) }
	}
	if cfg.Check <= 0 {
		cfg.Check = time.Second
	}
	if cfg.Log == nil {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		cfg.Log = quiet
	}
	return &Bridge{
		cfg: cfg, log: cfg.Log.WithField("bridge", cfg.Name), now: time.Now,
		kick: make(chan struct{}, 1), op: make(chan struct{}, 1), work: make(chan struct{}, 1), meterIDs: map[uint32]bool{}, bankUnsure: true, stageAbove: stageAbove,
		ports: newPorts(nil), rules: newRuleSet(), policy: newPolicySet(), sources: newSourceSet(), overrides: map[tapKey]TapOverride{}, attached: true, takeOver: cfg.TakeOver,
		undecided: map[policy.Direction]*ruleCount{policy.Egress: newRuleCount(), policy.Ingress: newRuleCount()},
		status:    Status{Name: cfg.Name, Target: cfg.Target, State: StateConnecting, Since: time.Now(), Instance: cfg.Instance.ID},
	}, nil
}

// tapKey is what a tap override is about.
type tapKey struct {
	signal flow.Signal
	inPort string
	dst    string
}

// lock takes the operation locks for what concerns rules and policies.
func (b *Bridge) lock(ctx context.Context) error {
	if err := b.lockPolicy(ctx); err != nil {
		return err
	}
	if err := b.lockRules(ctx); err != nil {
		b.unlockPolicy()
		return err
	}
	return nil
}

func (b *Bridge) unlock() {
	b.unlockRules()
	b.unlockPolicy()
}

// lockRules takes the operation lock for rules about packets, in turn.
func (b *Bridge) lockRules(ctx context.Context) error { return take(ctx, b.op) }

func (b *Bridge) unlockRules() { <-b.op }

// lockPolicy takes the operation lock for policies.
func (b *Bridge) lockPolicy(ctx context.Context) error { return take(ctx, b.work) }

func (b *Bridge) unlockPolicy() { <-b.work }

// turn takes what a change of rules needs, and returns what gives it back:
// policies as well only where RemoveAll took everything away, which brings all
// of it back.
func (b *Bridge) turn(ctx context.Context) (func(), error) {
	if err := b.lockRules(ctx); err != nil {
		return nil, err
	}
	if conn, ready := b.current(); ready || conn == nil {
		return b.unlockRules, nil
	}
	b.unlockRules()
	return b.unlock, b.lock(ctx)
}

// take takes a lock; who waits first gets it first.
func take(ctx context.Context, lock chan<- struct{}) error {
	select {
	case lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another operation on the switch: %w", ctx.Err())
	}
}

// heedDrift asks Run for a heal soon.
func (b *Bridge) heedDrift() {
	b.drifted.Store(true)
	b.heedLoss()
}

// heedLoss asks Run to look soon at what others have changed.
func (b *Bridge) heedLoss() {
	select {
	case b.kick <- struct{}{}:
	default: // one is due already
	}
}

// Reconnection: eager right after a loss, because a switch that restarts is
// back within a second or two, then with back-off. A management socket costs
// nothing to try, so it is always tried within the recovery budget; over the
// network a try may take longer than the pause before it.
const (
	eagerRetry   = 20 * time.Millisecond
	eagerPeriod  = 10 * time.Second
	backoffFirst = 100 * time.Millisecond
	backoffLocal = 500 * time.Millisecond
	backoffMax   = 5 * time.Second
)

// retryDelay is how long to wait before the n-th attempt in a row.
func retryDelay(n int, sinceLoss time.Duration, local bool) time.Duration {
	if sinceLoss < eagerPeriod && local {
		return eagerRetry
	}
	limit := backoffMax
	if local || sinceLoss < eagerPeriod {
		limit = backoffLocal
	}
	d := limit
	if n < 16 {
		d = min(limit, backoffFirst<<n)
	}
	return d/2 + rand.N(d/2) // jitter: many bridges must not dial in step
}

// Run connects to the switch and keeps it in accord with what is wanted until
// the context ends. On every connect, on every change that somebody else
// makes, and on a timer it reads the switch, compares and heals. Rules stay
// on the switch when Run returns; RemoveAll takes them away.
func (b *Bridge) Run(ctx context.Context) error {
	defer b.setState(StateStopped, nil)
	var beside sync.WaitGroup
	beside.Go(func() { b.expireLoop(ctx) })
	beside.Go(func() { b.usageLoop(ctx) })
	defer beside.Wait()
	lost := b.now()
	for attempt := 0; ctx.Err() == nil; attempt++ {
		was := b.Status().Connects
		err := b.session(ctx)
		if ctx.Err() != nil {
			break
		}
		if b.Status().Connects != was {
			attempt, lost = 0, b.now()
		}
		b.failed(err)
		local := strings.HasPrefix(b.cfg.Target, "unix:")
		if notNow(err) {
			lost = time.Time{} // that does not end by asking faster
		}
		delay := retryDelay(attempt, b.now().Sub(lost), local)
		if state, held := b.lease(); state == LeaseHeld && held < leaseHold {
			delay = min(delay, leaseHold-held)
		}
		select {
		case <-ctx.Done():
		case <-b.leaseChanged():
		case <-time.After(delay):
		}
	}
	return ctx.Err()
}

// failed records why there is no connection; only the first time in a row it
// is worth a warning.
func (b *Bridge) failed(err error) {
	state := StateConnecting
	if notNow(err) {
		state = StateRefused
	}
	before := b.Status()
	b.setState(state, err)
	if err != nil && (before.State != state || before.LastError != err.Error()) {
		b.log.WithError(err).Warn("switch not connected")
	}
}

// notNow reports whether an error means that the bridge is not for us now.
func notNow(err error) bool { return errors.Is(err, ErrConflict) || errors.Is(err, ErrHeld) }

// session is one connection from dial to loss.
func (b *Bridge) session(ctx context.Context) error {
	conn, err := b.cfg.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := b.connect(ctx, conn); err != nil {
		return err
	}
	defer b.disconnect()
	return b.watch(ctx, conn)
}

// connect subscribes to changes, learns the switch, refuses it if others use
// our places, and heals it.
func (b *Bridge) connect(ctx context.Context, conn *openflow.Conn) error {
	if err := b.lock(ctx); err != nil {
		return err
	}
	defer b.unlock()
	if err := b.mayHold(ctx, conn); err != nil {
		return err
	}
	if err := conn.SetControllerID(ctx, copyID); err != nil {
		return err
	}
	if err := conn.SetAsync(ctx, openflow.Async{FlowRemoved: true, PortStatus: true, PacketIn: true}); err != nil {
		return fmt.Errorf("ask for asynchronous messages: %w", err)
	}
	if err := conn.Monitor(ctx, b.cfg.Layout.filters()...); err != nil {
		return fmt.Errorf("monitor flows: %w", err)
	}
	if err := b.learn(ctx, conn); err != nil {
		return err
	}
	apart, err := b.apart(ctx, conn)
	if err != nil {
		return err
	}
	p, err := look(ctx, conn, b.cfg.Layout, apart)
	if err != nil {
		return err
	}
	if err := p.conflict(b.cfg.Layout); err != nil {
		return err
	}
	if err := b.survey(ctx, conn); err != nil {
		return err
	}
	b.mu.Lock()
	b.claim, b.lost, b.lossOf = nil, nil, loss{}
	b.messages, b.settled = 0, 0
	b.bankUnsure = true
	b.mu.Unlock()
	if _, err = b.heal(ctx, conn); err != nil && !errors.Is(err, errShed) {
		b.disconnect()
		return fmt.Errorf("bring the switch up to date: %w", err)
	}
	if !b.Connected() {
		b.connected(conn, err)
	} else if err != nil {
		b.setState(StateConnected, err)
	}
	return nil
}

// learn reads which ports and room for meters the switch has.
func (b *Bridge) learn(ctx context.Context, conn *openflow.Conn) error {
	features, err := conn.MeterFeatures(ctx)
	if err != nil {
		return err
	}
	list, err := conn.Ports(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ports, b.meters = newPorts(list), newMeterRange(features)
	return nil
}

func (b *Bridge) disconnect() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conn = nil
}

// watch follows the switch until the connection ends.
func (b *Bridge) watch(ctx context.Context, conn *openflow.Conn) error {
	tick := time.NewTicker(b.cfg.Check)
	defer tick.Stop()
	var rest time.Time          // before it, no change of somebody else's causes a heal
	var putOff <-chan time.Time // one that came before
	for n := 1; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-conn.Done():
			return conn.Err()
		case m := <-conn.Async():
			b.onAsync(m)
		case <-b.kick:
			if wait := time.Until(rest); wait <= 0 {
				rest = b.healPaced(ctx, conn)
			} else if putOff == nil {
				putOff = time.After(wait)
			}
		case <-putOff:
			putOff, rest = nil, b.healPaced(ctx, conn)
		case <-b.leaseChanged():
			b.check(ctx, conn, false)
		case <-tick.C:
			full := n >= b.fullEvery()
			if n++; full {
				n = 1
			}
			b.check(ctx, conn, full)
		}
		if err := b.lostBridge(); err != nil {
			return err
		}
	}
}
