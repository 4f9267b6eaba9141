// Package segment keeps segmentation policies enforced: it reads them, knows
// whom their groups hold at the moment, compiles them and has every switch
// hold what concerns it. Whatever changes (a file, a label, an address, a
// finding, the hour), it is the one place that notices and acts.
package segment

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// Switches enforce programs.
type Switches interface {
	// Names lists the switches in our care.
	Names() []string
	// SetPolicy makes a program the one that a switch enforces; it is kept for
	// one that is not connected.
	SetPolicy(ctx context.Context, sw string, p *compile.Program) error
	// SetSources makes these the ports at which a switch guards sources; they
	// are kept for one that is not connected.
	SetSources(ctx context.Context, sw string, ports []sourceguard.Port) error
}

// Config says what a keeper works with.
type Config struct {
	Source Source
	// World is what groups are resolved against at the moment, but for the
	// hosts, which the keeper remembers.
	World func() World
	// Protected prefixes are never restricted, whatever policies say.
	Protected []netip.Prefix
	// Switches is nil where nothing may be changed: policies are judged then, as if
	// all of them were staged.
	Switches Switches
	// Resolved is told of the policies and of whom their groups hold, at most
	// about once a second while that changes, and with each minute; may be nil, and
	// take its time.
	Resolved func(*policy.Set, policy.Inventory, time.Time)
	// Compiled is told of each new program, before switches get it; may be nil.
	Compiled func(*compile.Program)
	// Changed is told of every change of what is enforced; may be nil.
	Changed func(Change)
	Log     logrus.FieldLogger
}

// Store keeps one value.
type Store interface {
	// Load returns what was saved last, nil if nothing was.
	Load(ctx context.Context) ([]byte, error)
	Save(ctx context.Context, value []byte) error
}

// Change tells of a change of what is enforced.
type Change struct {
	Why   string // "rules", "groups" or "sources"
	Rules int    // of the program
	Ports int    // at which sources are guarded
	// Endpoints whose class changed, and guarded ports that did.
	Endpoints int
	// Took is until every switch had it that was not slow.
	Took time.Duration
}

// The keeper looks at least this often at what has no event: addresses that
// were learned, schedules, expiry.
const lookEvery = 25 * time.Millisecond

// setTimeout bounds what a switch may take to accept a program.
const setTimeout = 30 * time.Second

// Keeper keeps policies enforced.
type Keeper struct {
	cfg     Config
	wake    chan struct{}
	learned chan struct{} // something that is not written down
	arrived chan delivery
	parts   []*part // what is read

	mu      sync.Mutex
	read    *Policies // replaced, never changed
	inv     policy.Inventory
	program *compile.Program
	plan    *sourceguard.Plan
	at      time.Time // when the program or the plan was last changed
	failed  map[string]string

	work     sync.Mutex // held while something is compiled; before mu; guards what is below
	store    Store      // nil if nothing is kept
	memory   *memory
	compiler *compile.Compiler
	guards   guards
	world    World // that of inv
	of       *Policies
	builds   uint64 // of inv

	warned map[string]bool // of the goroutine that reads policies: what was said of them

	// of the goroutine that tells whom groups hold
	told   uint64 // the build that Resolved was told of
	minute int64  // and when

	// of Run alone
	has      map[string]given
	retry    map[string]time.Time
	busy     map[string]bool // switches that are being given something
	couriers sync.WaitGroup
	trouble  string
}

// New returns a keeper that has read the policies. A fault in them is an
// error, of type strictyaml.Errors where a file is at fault.
func New(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, memory: &memory{Hosts: map[netip.Addr]remembered{}}, wake: make(chan struct{}, 1), learned: make(chan struct{}, 1), arrived: make(chan delivery), compiler: compile.New(), plan: &sourceguard.Plan{}, guards: guards{plan: &sourceguard.Plan{}}, failed: map[string]string{},
		has: map[string]given{}, retry: map[string]time.Time{}, busy: map[string]bool{}, read: &Policies{Feeds: map[string][]netip.Prefix{}}}
	k.parts = k.newParts()
	for _, p := range k.parts {
		if err := k.take(p); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Load remembers what an earlier run knew of addresses. Call it before
// anything is enforced. A memory that cannot be read is begun anew.
func (k *Keeper) Load(ctx context.Context, store Store) error {
	raw, err := store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load the addresses of workloads: %w", err)
	}
	m, err := decodeMemory(raw)
	if err != nil {
		k.cfg.Log.WithError(err).Warn("who has which address is learned anew")
		m, _ = decodeMemory(nil)
	}
	k.work.Lock()
	defer k.work.Unlock()
	k.store, k.memory = store, m
	return nil
}

// Part is what a switch is to enforce now, before it is reached for the first
// time: a switch that still enforces what an earlier run gave it must not be
// without it for a moment.
func (k *Keeper) Part(sw string) (*compile.Program, []sourceguard.Port, error) {
	next, err := k.now(time.Now())
	if err != nil {
		return nil, nil, err
	}
	sources := at(next.plan, sw)
	if len(next.program.Rules) == 0 {
		return nil, sources, nil
	}
	return local(next.program, place(&next.inv), sw), sources, nil
}

// Look has the keeper look at once whether anything has changed.
func (k *Keeper) Look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run keeps policies enforced until ctx ends. What may have to wait for a disk,
// or takes long, happens beside it: no label and no address waits for that. It
// does not wait for a disk at the end either, but to save what was learned.
func (k *Keeper) Run(ctx context.Context) error {
	for i, p := range k.parts {
		go func() {
			if i == 0 {
				k.warn()
			}
			k.follow(ctx, p)
		}()
	}
	go k.telling(ctx)
	stop, saved := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(saved)
		k.saving(ctx, stop)
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		k.step(ctx, time.Now())
		select {
		case <-ctx.Done():
		case d := <-k.arrived:
			k.settled(d)
		case <-k.wake:
		case <-tick.C:
		}
	}
	k.couriers.Wait() // nobody changes a switch behind us
	close(stop)       // what was learned last is known now
	select {
	case <-saved:
	case <-time.After(2*saveTimeout + time.Second): // one that goes on, and the last; else the disk is gone
	}
	return nil
}

// step compiles what there is now and gives it to the switches that have
// something else.
func (k *Keeper) step(ctx context.Context, now time.Time) {
	was, guarded := k.Program(), k.Sources()
	next, err := k.now(now)
	if err != nil { // Read would have found it: it is ours
		if k.trouble != err.Error() {
			k.trouble = err.Error()
			k.cfg.Log.WithError(err).Error("policies could not be compiled; what was enforced stays")
		}
		return
	}
	k.trouble = ""
	if len(next.program.Rules) == 0 && len(next.plan.Ports) == 0 && len(k.has) == 0 && len(k.busy) == 0 { // nothing is wanted, and never was
		return
	}
	if k.cfg.Switches != nil {
		k.distribute(ctx, next, now)
	}
	if ctx.Err() != nil {
		return
	}
	if next.program != was && was != nil {
		k.tell(was, next, time.Since(now))
	}
	if n := otherwise(next.plan, guarded) + otherwise(guarded, next.plan); n > 0 && k.cfg.Changed != nil {
		k.cfg.Changed(Change{Why: "sources", Rules: len(next.program.Rules), Ports: len(next.plan.Ports), Endpoints: n, Took: time.Since(now)})
	}
}

// current is what is to be enforced, and where workloads are.
type current struct {
	program *compile.Program
	inv     policy.Inventory
	build   uint64
	plan    *sourceguard.Plan
}

// now compiles what there is.
func (k *Keeper) now(now time.Time) (current, error) {
	k.work.Lock()
	defer k.work.Unlock()
	k.mu.Lock()
	read := k.read
	k.mu.Unlock()
	k.look(read, now)
	program, err := k.compiler.Compile(read.inForce, k.inv, now)
	if err != nil {
		return current{}, err
	}
	k.guards.look(read, k.inv, k.world.Snapshot, k.builds, now)
	k.mu.Lock()
	news := program != k.program
	if news || k.plan != k.guards.plan {
		k.program, k.plan, k.at = program, k.guards.plan, now
	}
	k.mu.Unlock()
	if news && k.cfg.Compiled != nil {
		k.cfg.Compiled(program)
	}
	return current{program, k.inv, k.builds, k.guards.plan}, nil
}

// look makes the inventory anew where anything has changed that it is made of.
func (k *Keeper) look(read *Policies, now time.Time) {
	world := k.cfg.World()
	if k.of == read && k.world.Snapshot == world.Snapshot && k.world.RiskVersion == world.RiskVersion {
		return
	}
	k.world, k.of = world, read
	if k.memory.learn(world.Snapshot, now); k.memory.changed {
		k.knows()
	}
	world.Hosts = k.memory.at(world.Snapshot)
	world.Known, world.Feeds = read.Known, read.Feeds
	inv := world.Inventory()
	k.mu.Lock()
	k.inv = inv
	k.mu.Unlock()
	k.builds++
}

// tell reports a change.
func (k *Keeper) tell(was *compile.Program, now current, took time.Duration) {
	if k.cfg.Changed == nil {
		return
	}
	program := now.program
	c := Change{Why: "groups", Rules: len(program.Rules), Ports: len(now.plan.Ports), Took: took}
	if !maps.EqualFunc(was.Rules, program.Rules, func(x, y compile.Rule) bool { return x.Same(&y) }) {
		c.Why = "rules"
	}
	for p, id := range program.Endpoints {
		if was.Endpoints[p] != id {
			c.Endpoints++
		}
	}
	for p := range was.Endpoints {
		if _, ok := program.Endpoints[p]; !ok {
			c.Endpoints++
		}
	}
	if c.Endpoints > 0 || c.Why == "rules" {
		k.cfg.Changed(c)
	}
}

// place says at which switch an address attaches.
func place(inv *policy.Inventory) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for i := range inv.Workloads {
		w := &inv.Workloads[i]
		for _, a := range w.Addrs {
			if was, there := out[a]; there && was != w.Switch {
				out[a] = "" // several: nobody knows which
				continue
			}
			out[a] = w.Switch
		}
	}
	return out
}

// local is a program's part for a switch: workloads that attach to another one
// are tracked there, not here. Their classes stay, for the other end of a
// connection is judged as well.
func local(p *compile.Program, at map[netip.Addr]string, sw string) *compile.Program {
	out := *p
	out.Tracked = make(map[netip.Prefix]bool, len(p.Tracked))
	for x := range p.Tracked {
		if x.IsSingleIP() {
			if home := at[x.Addr()]; home != "" && home != sw {
				continue
			}
		}
		out.Tracked[x] = true
	}
	if len(out.Tracked) == 0 { // rules for nobody here
		return &compile.Program{}
	}
	return &out
}

// same reports whether two programs are made of the same parts. It need not
// find every equality: a switch that is given what it has changes nothing.
func same(a, b *compile.Program) bool {
	return maps.Equal(a.Tracked, b.Tracked) && maps.Equal(a.Endpoints, b.Endpoints) && maps.Equal(a.Services, b.Services) &&
		maps.EqualFunc(a.Rules, b.Rules, func(x, y compile.Rule) bool { return x.Same(&y) })
}
