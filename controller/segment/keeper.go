// Package segment keeps segmentation policies enforced: it reads them, knows
// whom their groups hold at the moment, compiles them and has every switch
// hold what concerns it. Whatever changes (a file, a label, an address, a
// finding, the hour), it is the one place that notices and acts.
package segment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/lint"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

// Switches enforce programs.
type Switches interface {
	// Names lists the switches in our care.
	Names() []string
	// SetPolicy makes a program the one that a switch enforces; it is kept for
	// one that is not connected.
	SetPolicy(ctx context.Context, sw string, p *compile.Program) error
}

// Config says what a keeper works with.
type Config struct {
	// Read reads the policies, and what people told of workloads.
	Read func() (*Policies, error)
	// Files lists the files that Read reads: when one of them changes, it is
	// called again. May be nil.
	Files func() []string
	// World is what groups are resolved against at the moment, but for the
	// hosts, which the keeper remembers.
	World func() World
	// Protected prefixes are never restricted, whatever policies say.
	Protected []netip.Prefix
	Switches  Switches
	// Resolved is told of the policies and of whom their groups hold, at most
	// about once a second while that changes; may be nil.
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

// Policies is what files say.
type Policies struct {
	Set   *policy.Set
	Known []policy.Workload
	Feeds map[string][]netip.Prefix
	Files []string
}

// Change tells of a change of what is enforced.
type Change struct {
	Why   string // "rules" or "groups"
	Rules int    // of the program
	// Endpoints whose class changed.
	Endpoints int
	Took      time.Duration // until every connected switch had it
}

// The keeper looks at least this often at what has no event: addresses that
// were learned, schedules, expiry.
const lookEvery = 25 * time.Millisecond

// Files are looked at so often, and read when they have changed and then
// stayed as they are for a while.
const (
	filesEvery = 50 * time.Millisecond
	filesQuiet = 200 * time.Millisecond
)

// feedsEvery is how often feeds are read anew: what they hold may expire.
const feedsEvery = time.Minute

// saveEvery is how soon after another save what was learned is written down. What
// comes later than that is written at once: a controller that is killed before does
// not know it when it comes back, and what the switch enforces is undone.
const saveEvery = time.Second

// resolveEvery is how often Resolved is told, if there is something to tell.
const resolveEvery = time.Second

// lastSave bounds the save at the end.
const lastSave = 2 * time.Second

// setTimeout bounds what a switch may take to accept a program.
const setTimeout = 10 * time.Second

// Keeper keeps policies enforced.
type Keeper struct {
	cfg  Config
	wake chan struct{}

	mu      sync.Mutex
	read    *Policies
	readErr error
	inv     policy.Inventory
	program *compile.Program
	at      time.Time // when the program was last changed
	failed  map[string]string

	reading sync.Mutex      // held while files are read; guards what is below
	warned  map[string]bool // what was said of the files in force

	work     sync.Mutex // held while something is compiled; before mu; guards what is below
	store    Store      // nil if nothing is kept
	memory   *memory
	compiler *compile.Compiler
	world    World // that of inv
	of       *Policies
	builds   uint64 // of inv

	// of Run alone
	told  uint64 // the build that Resolved was told of
	has   map[string]given
	retry map[string]time.Time
	fault string
}

// given is what a switch was given, and what that was made of.
type given struct {
	part    *compile.Program
	program *compile.Program
	build   uint64
}

// New returns a keeper that has read the policies. A fault in them is an
// error, of type strictyaml.Errors where a file is at fault.
func New(cfg Config) (*Keeper, error) {
	k := &Keeper{cfg: cfg, memory: &memory{Hosts: map[netip.Addr]remembered{}}, wake: make(chan struct{}, 1), compiler: compile.New(), failed: map[string]string{},
		has: map[string]given{}, retry: map[string]time.Time{}}
	return k, k.Reload()
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

// save writes down who has which address, and reports whether that had changed.
// Nothing waits for the disk.
func (k *Keeper) save(ctx context.Context) bool {
	k.work.Lock()
	if k.store == nil || !k.memory.changed {
		k.work.Unlock()
		return false
	}
	raw, err := k.memory.encode()
	k.memory.changed = false
	k.work.Unlock()
	if err == nil {
		err = k.store.Save(ctx, raw)
	}
	if err != nil {
		k.work.Lock()
		k.memory.changed = true
		k.work.Unlock()
		k.cfg.Log.WithError(err).Warn("who has which address could not be written down")
	}
	return true
}

// Part is what a switch is to enforce now, before it is reached for the first
// time: a switch that still enforces what an earlier run gave it must not be
// without it for a moment.
func (k *Keeper) Part(sw string) (*compile.Program, error) {
	next, err := k.now(time.Now())
	if err != nil || len(next.program.Rules) == 0 {
		return nil, err
	}
	return local(next.program, place(&next.inv), sw), nil
}

// Reload reads the policies again. Where they are at fault, those that were
// read before stay in force.
func (k *Keeper) Reload() error {
	k.reading.Lock()
	defer k.reading.Unlock()
	read, err := k.cfg.Read()
	if err == nil {
		read.Set = k.guarded(read.Set)
		k.warn(read.Set)
	}
	k.mu.Lock()
	k.readErr = err
	if err == nil {
		k.read = read
	}
	k.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read policies: %w", err)
	}
	k.Look()
	return nil
}

// warn tells, once, of what is valid in policies and can hardly be meant.
func (k *Keeper) warn(set *policy.Set) {
	told := map[string]bool{}
	for _, f := range lint.Check(set, lint.Options{Now: time.Now()}) {
		line := fmt.Sprintf("%s:%d:%d: %s", f.File, f.Line, f.Column, f.Message)
		if told[line] = true; f.Severity == lint.SeverityWarning && !k.warned[line] {
			k.cfg.Log.WithField("policy", f.Policy).Warn(line)
		}
	}
	k.warned = told
}

// guarded is the set with what the controller protects.
func (k *Keeper) guarded(set *policy.Set) *policy.Set {
	out := *set
	out.Protected = slices.Clone(set.Protected)
	for _, p := range k.cfg.Protected {
		out.Protected = append(out.Protected, policy.Peer{Prefix: p.Masked()})
	}
	return &out
}

// Look has the keeper look at once whether anything has changed.
func (k *Keeper) Look() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// Run keeps policies enforced until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	defer func() { // what was learned last as well
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSave)
		defer cancel()
		k.save(ctx)
	}()
	files := watched{seen: k.stamp()}
	var looked, saved, resolved time.Time
	read := time.Now()
	for {
		now := time.Now()
		if now.Sub(saved) >= saveEvery && k.save(ctx) {
			saved = now
		}
		if now.Sub(resolved) >= resolveEvery {
			resolved = now
			k.resolved(now)
		}
		if now.Sub(looked) >= filesEvery {
			looked = now
			if files.settled(k.stamp(), now) || k.feeding() && now.Sub(read) >= feedsEvery {
				read = now
				k.reread()
			}
		}
		k.step(ctx, time.Now())
		select {
		case <-ctx.Done():
			return nil
		case <-k.wake:
		case <-tick.C:
		}
	}
}

// resolved tells whom groups hold, if that has changed since it did.
func (k *Keeper) resolved(now time.Time) {
	k.work.Lock()
	build, of, inv := k.builds, k.of, k.inv
	k.work.Unlock()
	if k.cfg.Resolved == nil || of == nil || build == k.told {
		return
	}
	k.told = build
	k.cfg.Resolved(of.Set, inv, now)
}

// feeding reports whether there are feeds.
func (k *Keeper) feeding() bool { return len(k.Policies().Feeds) > 0 }

// watched are files whose changes are waited for.
type watched struct {
	seen, now string
	since     time.Time // when they became as they are now
}

// settled reports whether files have changed, and stayed so for a while:
// whoever writes one is done. Half a file of policies can be a valid one.
func (w *watched) settled(stamp string, now time.Time) bool {
	if stamp != w.now {
		w.now, w.since = stamp, now
	}
	if stamp == w.seen || now.Sub(w.since) < filesQuiet {
		return false
	}
	w.seen = stamp
	return true
}

// stamp is another one when a file has changed, come or gone.
func (k *Keeper) stamp() string {
	if k.cfg.Files == nil {
		return ""
	}
	var out []byte
	for _, name := range k.cfg.Files() {
		info, err := os.Stat(name)
		if err != nil {
			continue
		}
		out = fmt.Appendf(out, "%s %d %d\n", name, info.Size(), info.ModTime().UnixNano())
	}
	return string(out)
}

// reread reads files that have changed.
func (k *Keeper) reread() {
	if err := k.Reload(); err != nil {
		k.cfg.Log.WithError(err).Error("policies that changed cannot be used; those before stay in force")
		return
	}
	k.cfg.Log.Debug("policies read again")
}

// step compiles what there is now and gives it to the switches that have
// something else.
func (k *Keeper) step(ctx context.Context, now time.Time) {
	was := k.Program()
	next, err := k.now(now)
	if err != nil { // Read would have found it: it is ours
		if k.fault != err.Error() {
			k.fault = err.Error()
			k.cfg.Log.WithError(err).Error("policies could not be compiled; what was enforced stays")
		}
		return
	}
	k.fault = ""
	if len(next.program.Rules) == 0 && len(k.has) == 0 { // nothing is wanted, and never was
		return
	}
	k.distribute(ctx, next, now)
	if next.program != was && was != nil && ctx.Err() == nil {
		k.tell(was, next.program, time.Since(now))
	}
}

// current is what is to be enforced, and where workloads are.
type current struct {
	program *compile.Program
	inv     policy.Inventory
	build   uint64
}

// now compiles what there is.
func (k *Keeper) now(now time.Time) (current, error) {
	k.work.Lock()
	defer k.work.Unlock()
	k.mu.Lock()
	read := k.read
	k.mu.Unlock()
	k.look(read, now)
	program, err := k.compiler.Compile(read.Set, k.inv, now)
	if err != nil {
		return current{}, err
	}
	k.mu.Lock()
	news := program != k.program
	if news {
		k.program, k.at = program, now
	}
	k.mu.Unlock()
	if news && k.cfg.Compiled != nil {
		k.cfg.Compiled(program)
	}
	return current{program, k.inv, k.builds}, nil
}

// look makes the inventory anew where anything has changed that it is made of.
func (k *Keeper) look(read *Policies, now time.Time) {
	world := k.cfg.World()
	if k.of == read && k.world.Snapshot == world.Snapshot && k.world.RiskVersion == world.RiskVersion {
		return
	}
	k.world, k.of = world, read
	k.memory.learn(world.Snapshot, now)
	world.Hosts = k.memory.at(world.Snapshot)
	world.Known, world.Feeds = read.Known, read.Feeds
	inv := world.Inventory()
	k.mu.Lock()
	k.inv = inv
	k.mu.Unlock()
	k.builds++
}

// distribute gives each switch its part, side by side.
func (k *Keeper) distribute(ctx context.Context, cur current, now time.Time) {
	names := k.cfg.Switches.Names()
	maps.DeleteFunc(k.has, func(name string, _ given) bool { return !slices.Contains(names, name) })
	var at map[netip.Addr]string
	var giving sync.WaitGroup
	errs := make([]error, len(names))
	next := make([]given, len(names))
	for i, name := range names {
		had := k.has[name]
		if k.retry[name].After(now) || had.program == cur.program && had.build == cur.build {
			continue
		}
		if at == nil {
			at = place(&cur.inv)
		}
		next[i] = given{local(cur.program, at, name), cur.program, cur.build}
		if had.part != nil && same(had.part, next[i].part) {
			k.has[name], next[i] = next[i], given{}
			continue
		}
		giving.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, setTimeout)
			defer cancel()
			errs[i] = k.cfg.Switches.SetPolicy(ctx, name, next[i].part)
		})
	}
	giving.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, name := range names {
		switch {
		case next[i].part == nil:
		case errs[i] == nil:
			k.has[name] = next[i]
			delete(k.failed, name)
			delete(k.retry, name)
		case !errors.Is(errs[i], context.Canceled):
			if k.failed[name] != errs[i].Error() {
				k.cfg.Log.WithError(errs[i]).WithField("bridge", name).Error("policies could not be enforced")
			}
			k.failed[name] = errs[i].Error()
			k.retry[name] = now.Add(time.Second)
		}
	}
}

// tell reports a change.
func (k *Keeper) tell(was, program *compile.Program, took time.Duration) {
	if k.cfg.Changed == nil {
		return
	}
	c := Change{Why: "groups", Rules: len(program.Rules), Took: took}
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
