package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/metrics"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb/telemetry"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/topology"
)

// fleet is the bridges under our care. It is the response's enforcer: every
// request goes to the bridge that it names.
type fleet struct {
	c     *Controller
	cfg   config.File
	reach *reach
	// instance is who we are; set before any bridge is added.
	instance pipeline.Instance

	mu        sync.Mutex
	bridges   map[string]*pipeline.Bridge
	zones     map[uint16]bool                             // conntrack zones of the bridges
	declined  map[string]string                           // why bridges are not in care
	adopted   map[string]map[string][]segmentation.Intent // by bridge and owner, before the bridge is known
	guarded   map[netip.Addr]topology.PortID              // where protected hosts are guarded
	unguarded map[netip.Addr]string                       // why protected hosts are not
	taps      map[string]telemetry.Applied                // the latest for each bridge
	tapping   sync.WaitGroup
	ctx       context.Context // of the connections; nil before run
	cancel    context.CancelFunc
	running   sync.WaitGroup
}

func newFleet(c *Controller, cfg config.File) *fleet {
	how := newReach(cfg.OVS, func() map[string]topology.Switch { return c.tracker.Snapshot().Switches }, c.log)
	return &fleet{c: c, cfg: cfg, reach: how, bridges: map[string]*pipeline.Bridge{}, zones: map[uint16]bool{}, declined: map[string]string{}, adopted: map[string]map[string][]segmentation.Intent{}, guarded: map[netip.Addr]topology.PortID{}, unguarded: map[netip.Addr]string{}, taps: map[string]telemetry.Applied{}}
}

// run keeps every bridge connected, beyond the end of ctx, until stop: what
// is ours is taken off when nobody acts any more.
func (f *fleet) run(ctx context.Context) error {
	if err := f.reach.listen(ctx); err != nil {
		return err
	}
	bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.mu.Lock()
	f.ctx, f.cancel = bctx, cancel
	for _, b := range f.bridges {
		f.start(b)
	}
	f.mu.Unlock()
	if f.cfg.Mode == response.ModeObserve { // nothing is contained, so nobody needs a guard
		<-ctx.Done()
		return nil
	}
	return f.guardProtected(ctx)
}

// start runs a bridge; its only end is that of the context.
func (f *fleet) start(b *pipeline.Bridge) {
	ctx := f.ctx
	f.running.Go(func() { _ = b.Run(ctx) })
}

// stop ends the connections.
func (f *fleet) stop() {
	f.mu.Lock()
	cancel := f.cancel
	f.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	f.running.Wait()
	f.reach.close()
}

// settle takes the bridges that the database shows, starts to care for new
// ones and returns the telemetry that is wanted. A bridge that goes away is
// kept: it is the same to us when it is created again.
func (f *fleet) settle(switches map[string]topology.Switch) map[string]telemetry.Settings {
	want := map[string]telemetry.Settings{}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(switches)) { // in order, so that each finds its zone again
		sw := switches[name]
		if !f.cfg.Cares(name) || sw.OVN {
			continue
		}
		if f.bridges[name] == nil && !f.admit(name) {
			continue
		}
		t := &f.cfg.Telemetry
		want[name] = telemetry.Settings{
			SFlowTarget: reachable(t.SFlow), IPFIXTarget: reachable(t.IPFIX), Sampling: t.Sampling, Polling: t.Polling, Header: 128, Agent: "lo",
			CollectorSetID: t.CollectorSet, Domain: sw.TapDomain, TakeForeign: t.TakeForeign,
		}
	}
	return want
}

// admit takes a bridge into care, and says once why one cannot be.
func (f *fleet) admit(name string) bool {
	err := f.add(name)
	if err != nil && f.declined[name] != err.Error() {
		f.declined[name] = err.Error()
		f.c.log.WithError(err).WithField("bridge", name).Error("bridge cannot be cared for")
	}
	return err == nil
}

// reachable is where a switch on this machine sends to when we listen on all
// addresses.
func reachable(a netip.AddrPort) string {
	if a.Addr().IsUnspecified() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port()).String()
	}
	return a.String()
}

func (f *fleet) add(name string) error {
	mgmt, zone := f.c.db.Mgmt(name), pipeline.ZoneOf(name, f.cfg.OVS.BaseZone, f.zones)
	cfg := pipeline.Config{
		Name: name, Layout: pipeline.Layout{Base: f.cfg.OVS.BaseTable, Zone: zone}, ZoneLimit: f.cfg.OVS.ZoneLimit,
		Log: f.c.log, Expired: f.c.manager.Expired,
		Instance: f.instance, TakeOver: f.c.opts.TakeOver, Lease: leaseOf(f.c.locks, name),
		Changed: func(s pipeline.Status) {
			f.c.audit.bridge(s)
			f.c.telemetry.Look()
		}, Copied: f.c.copied(name),
	}
	if err := f.reach.configure(&cfg, mgmt); err != nil {
		return err
	}
	b, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	f.zones[zone] = true
	for owner, intents := range f.adopted[name] {
		if err := b.Adopt(owner, intents); err != nil {
			return fmt.Errorf("adopt the rules of %s: %w", owner, err)
		}
	}
	delete(f.adopted, name)
	f.adoptPolicy(b, name)
	f.bridges[name] = b
	if f.ctx != nil {
		f.start(b)
	}
	f.c.log.WithField("bridge", name).Info("bridge taken into care")
	return nil
}

func (f *fleet) bridge(name string) (*pipeline.Bridge, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b := f.bridges[name]; b != nil {
		return b, nil
	}
	return nil, fmt.Errorf("bridge %s is not in our care", name)
}

func (f *fleet) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]string, 0, len(f.bridges))
	for n := range f.bridges {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// setTap programs a bridge's tap for the collector set that is in force. It
// does not wait: the telemetry of other bridges must not hang on this one.
func (f *fleet) setTap(ctx context.Context, name string, a telemetry.Applied) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.bridges[name]
	if b == nil {
		return // not ours any more
	}
	f.taps[name] = a
	f.tapping.Go(func() { f.programTap(ctx, name, b) })
}

// programTap takes the latest settings, so that two of them cannot overtake
// each other.
func (f *fleet) programTap(ctx context.Context, name string, b *pipeline.Bridge) {
	f.mu.Lock()
	a := f.taps[name]
	f.mu.Unlock()
	tap := pipeline.TapConfig{CollectorSet: a.CollectorSetID, Probability: f.cfg.TapProbabilities()}
	tap.Domain = f.c.tracker.Snapshot().Switches[name].TapDomain
	err := b.SetTap(ctx, tap)
	if err != nil && ctx.Err() == nil && !errors.Is(err, pipeline.ErrNotConnected) {
		f.c.log.WithError(err).WithField("bridge", name).Error("connection tap could not be programmed")
	}
}

// pending translates the pipeline's error for the response.
func pending(err error) error {
	if errors.Is(err, pipeline.ErrNotConnected) {
		return fmt.Errorf("%w (%w)", response.ErrPending, err)
	}
	return err
}

// Apply implements response.Enforcer.
func (f *fleet) Apply(ctx context.Context, sw, owner string, intents []segmentation.Intent) (response.Receipt, error) {
	b, err := f.bridge(sw)
	if err != nil {
		return response.Receipt{}, err
	}
	begun := time.Now()
	r, err := b.Apply(ctx, owner, intents)
	f.c.metrics.Enforced(metrics.OperationApply, time.Since(begun), err)
	f.c.audit.installed(sw, owner, b.Placed(owner), r, err)
	return response.Receipt{At: time.Now(), ReadBack: r.ReadBack}, pending(err)
}

// Renew implements response.Enforcer.
func (f *fleet) Renew(ctx context.Context, sw, owner string, ttl time.Duration) error {
	b, err := f.bridge(sw)
	if err != nil {
		return err
	}
	begun := time.Now()
	_, err = b.Renew(ctx, owner, ttl)
	f.c.metrics.Enforced(metrics.OperationRenew, time.Since(begun), err)
	return pending(err)
}

// Remove implements response.Enforcer.
func (f *fleet) Remove(ctx context.Context, sw, owner string) error {
	b, err := f.bridge(sw)
	if err != nil {
		return err
	}
	begun := time.Now()
	_, err = b.Remove(ctx, owner)
	f.c.metrics.Enforced(metrics.OperationRemove, time.Since(begun), err)
	f.c.audit.removed(sw, owner, err)
	return pending(err)
}

// Counters implements response.Enforcer.
func (f *fleet) Counters(ctx context.Context, sw, owner string) ([]response.Counter, error) {
	b, err := f.bridge(sw)
	if err != nil {
		return nil, err
	}
	rules, err := b.Counters(ctx, owner)
	if err != nil {
		return nil, pending(err)
	}
	out := make([]response.Counter, len(rules))
	for i, r := range rules {
		out[i] = response.Counter{Intent: r.Intent, Packets: r.Packets, Dropped: r.Dropped, Copied: r.Copied}
	}
	return out, nil
}

// Adopt implements response.Enforcer.
func (f *fleet) Adopt(sw, owner string, intents []segmentation.Intent) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.adopted[sw] == nil {
		f.adopted[sw] = map[string][]segmentation.Intent{}
	}
	f.adopted[sw][owner] = intents
}

// ruleLine is an installed rule and the bridge that it is on.
type ruleLine struct {
	Switch string `json:"switch"`
	pipeline.InstalledRule
}

func (f *fleet) rules(ctx context.Context) ([]ruleLine, error) {
	names := f.names()
	found := make([][]pipeline.InstalledRule, len(names))
	err := f.each(names, func(i int, b *pipeline.Bridge) (err error) {
		if found[i], err = b.Rules(ctx); err != nil {
			return fmt.Errorf("rules of %s: %w", names[i], err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := []ruleLine{}
	for i, rules := range found {
		for _, r := range rules {
			out = append(out, ruleLine{names[i], r})
		}
	}
	return out, nil
}

// each does something to several bridges side by side: one that hangs must not
// use up the others' time. It returns all errors.
func (f *fleet) each(names []string, do func(i int, b *pipeline.Bridge) error) error {
	errs := make([]error, len(names))
	var running sync.WaitGroup
	for i, name := range names {
		b, err := f.bridge(name)
		if err != nil {
			continue
		}
		running.Go(func() { errs[i] = do(i, b) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// switchRules is what is ours on one switch.
type switchRules struct {
	Switch string `json:"switch"`
	pipeline.Installed
}

func (f *fleet) installed(ctx context.Context) ([]switchRules, error) {
	names := f.names()
	out := make([]switchRules, len(names))
	err := f.each(names, func(i int, b *pipeline.Bridge) (err error) {
		out[i].Switch = names[i]
		if out[i].Installed, err = b.Installed(ctx); err != nil {
			return fmt.Errorf("rules of %s: %w", names[i], err)
		}
		return nil
	})
	return out, err
}

// switchDrift is in what one switch differs from what is wanted there.
type switchDrift struct {
	Switch string           `json:"switch"`
	Drift  []pipeline.Drift `json:"drift"`
	// Error says why the switch could not be compared.
	Error string `json:"error,omitempty"`
}

// drift compares every switch. One that cannot be read keeps no other one's
// answer back.
func (f *fleet) drift(ctx context.Context) ([]switchDrift, error) {
	names := f.names()
	out := make([]switchDrift, len(names))
	return out, f.each(names, func(i int, b *pipeline.Bridge) error {
		drift, err := b.Drift(ctx)
		out[i] = switchDrift{Switch: names[i], Drift: drift}
		if err != nil {
			out[i].Error = err.Error()
		}
		return nil
	})
}

func (f *fleet) status() []pipeline.Status {
	out := []pipeline.Status{}
	for _, name := range f.names() {
		if b, err := f.bridge(name); err == nil {
			out = append(out, b.Status())
		}
	}
	return out
}

// leave takes what is ours off every bridge. Where a containment stands, it
// stays with the way that leads to it, until its TTL ends it or the next run
// adopts it, and so do policies that are to be kept; the tap goes in any case.
func (f *fleet) leave(ctx context.Context) error {
	holds := map[string]bool{}
	for _, d := range f.c.manager.Decisions() {
		if d.State.Holds() {
			holds[d.Target.Switch] = true
		}
	}
	f.tapping.Wait() // a tap must not come back behind us
	names := f.names()
	return f.each(names, func(i int, b *pipeline.Bridge) (err error) {
		keep := f.cfg.Segmentation.AtExit == config.AtExitKeep && b.Segments()
		if keep || holds[names[i]] {
			err = b.Leave(ctx, keep)
		} else {
			err = b.RemoveAll(ctx)
		}
		if err != nil && !errors.Is(err, pipeline.ErrNotConnected) {
			return fmt.Errorf("leave bridge %s: %w", names[i], err)
		}
		return nil
	})
}
