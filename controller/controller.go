// Package controller wires the loop of Platelet: telemetry from the switches
// into detectors, findings into decisions, decisions into rules, and what came
// of it back to people.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/bus"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/controller/metrics"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/telemetry"
	"github.com/platelet-sdn/platelet/controller/probe"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
	"github.com/platelet-sdn/platelet/flowcollector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/staged"
	"github.com/platelet-sdn/platelet/topology"
)

// Options are what the command line decides.
type Options struct {
	// ReadOnly changes nothing on the switch: no telemetry, no tap, no
	// rules. What is exported already is listened to.
	ReadOnly bool
	// TakeOver takes the bridges from another Platelet that holds them, once.
	TakeOver bool
	// Reload says when the files of playbooks are to be read again; nil is never.
	Reload <-chan os.Signal
	Log    logrus.FieldLogger
}

// Controller is the daemon.
type Controller struct {
	cfg     config.File
	opts    Options
	log     logrus.FieldLogger
	started time.Time

	db        *ovsdb.Client
	locks     *ovsdb.Locks
	telemetry *telemetry.Manager
	tracker   *topology.Tracker
	entrance  entrance
	stations  stations
	risks     risks
	keeper    *segment.Keeper
	judge     atomic.Pointer[compile.Evaluator] // of what is enforced; used with engineMu held
	staged    atomic.Pointer[staged.Evaluator]  // nil without policies
	probes    *probe.Set
	watch     *response.Watch
	manager   *response.Manager
	playbooks *playbook.Live
	reloads   reloads
	handover  *handover // nil where nobody else uses our state
	runs      *run.Executor
	fleet     *fleet
	hub       *api.Hub
	learning  *learning.Site // nil when the classifier is off
	choices   *learn.Learner // nil without a state directory
	audit     *auditor
	metrics   *metrics.Metrics
	collector *flowcollector.Collector

	engineMu   sync.Mutex // the engine belongs to one thread at a time
	engine     *detector.Engine
	experience *experience

	ended struct { // findings that are over, for listings
		sync.Mutex
		list []detector.Finding
	}
	unknownTemplates atomic.Uint64
	malformedCopies  atomic.Uint64
}

// keptFindings is how many resolved findings stay listed.
const keptFindings = 1000

// New checks the configuration and builds the parts; nothing runs and nothing
// is opened before Run.
func New(cfg config.File, opts Options) (*Controller, error) {
	if opts.ReadOnly {
		cfg.Mode = response.ModeObserve
	}
	c := &Controller{cfg: cfg, opts: opts, log: opts.Log, tracker: topology.NewTracker(0), watch: response.NewWatch(), hub: api.NewHub()}
	if err := c.loadPlaybooks(); err != nil {
		return nil, err
	}
	var err error
	db := database(cfg.OVS, opts.Log)
	if c.db, err = ovsdb.New(db); err != nil {
		return nil, err
	}
	if c.locks, err = ovsdb.NewLocks(db); err != nil {
		return nil, err
	}
	c.telemetry = telemetry.NewManager(c.db, opts.Log)
	c.audit = newAuditor(&cfg, opts.Log)
	c.metrics = metrics.New(c.readings)
	dc := cfg.DetectorConfig()
	c.stations = newStations(append([]netip.Addr{cfg.Response.Honeypot}, cfg.Response.Scrubbers...)...)
	dc.Emit = c.finding
	dc.Edge = c.edge
	dc.Link.Trunk = c.trunk
	dc.Anomaly.Announce = (&notices{log: opts.Log, publish: c.publish}).tell
	if len(cfg.Segmentation.Policies) > 0 {
		dc.Policy.Verdict, dc.Policy.Guarded = c.verdict, c.guardedPort
	}
	if cfg.Detection.Learned && cfg.State.Dir != "" {
		c.learning = learning.NewSite(cfg.State.Dir, c.replaceModels, opts.Log)
		c.learning.OnChange(c.audit.model)
		dc.Model.Scored = c.learning.Window
	}
	if c.choices = newChoices(&cfg, opts.Log); c.choices != nil {
		c.choices.OnChange(c.audit.policy)
	}
	if c.engine, err = detector.New(dc); err != nil {
		return nil, fmt.Errorf("detectors: %w", err)
	}
	c.fleet = newFleet(c, cfg)
	c.risks.firing = map[string]risk{}
	if c.keeper, err = c.newKeeper(); err != nil {
		return nil, err
	}
	return c, nil
}

// edge reports whether a port leads to hosts; one that is not known yet is
// taken for one that does, for containment looks again.
func (c *Controller) edge(ifIndex uint32) bool {
	p, ok := c.tracker.Snapshot().PortByIndex(ifIndex)
	return !ok || p.Type == topology.PortEdge
}

// Run is the controller's life. It returns when ctx ends, after what is ours
// on the switches has been put back, save containments, which the switch
// itself ends after their TTL.
func (c *Controller) Run(ctx context.Context) error {
	c.started = time.Now()
	state, err := bus.Open(ctx, bus.Config{Dir: c.cfg.State.Dir, URL: c.cfg.State.NATS})
	if err != nil {
		return err
	}
	defer state.Close()
	// The database client and the audit log outlive the rest: what we
	// configured is put back through the one, and that is told to the other.
	lastCtx, stopLast := context.WithCancel(context.WithoutCancel(ctx))
	var last errgroup.Group
	last.Go(func() error { return c.db.Run(lastCtx) })
	if !c.opts.ReadOnly {
		last.Go(func() error { return c.locks.Run(lastCtx) })
	}
	if c.audit.log != nil {
		last.Go(func() error { return c.audit.log.Run(lastCtx) })
	}
	err = c.runParts(ctx, state)
	c.audit.stopped(err)
	stopLast()
	return errors.Join(err, last.Wait())
}

func (c *Controller) runParts(ctx context.Context, state *bus.Bus) error {
	if err := c.open(ctx, state); err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	c.telemetry.Mine(c.fleet.mine)
	c.telemetry.OnApplied(func(bridge string, a telemetry.Applied) { c.fleet.setTap(gctx, bridge, a) })
	for _, run := range c.parts() {
		group.Go(func() error { return run(gctx) })
	}
	err := group.Wait()
	if !c.opts.ReadOnly {
		err = errors.Join(err, c.leave())
	}
	return err
}

// open makes what needs the state: decisions, templates and baselines of earlier
// runs.
func (c *Controller) open(ctx context.Context, shared *bus.Bus) (err error) {
	if c.fleet.instance, err = identify(ctx, shared, &c.cfg); err != nil {
		return err
	}
	state := shared // all of it is ours
	if c.cfg.State.NATS != "" {
		state = shared.As(c.fleet.instance.ID)
		if c.handover, err = newHandover(ctx, c, shared); err != nil {
			return err
		}
	}
	decisions, err := state.Bucket(ctx, "decisions")
	if err != nil {
		return err
	}
	templates, err := state.Bucket(ctx, "templates")
	if err != nil {
		return err
	}
	learned, err := state.Large(ctx, "learned")
	if err != nil {
		return err
	}
	c.experience = &experience{c.log, learned, c.engine, &c.engineMu}
	if err := c.experience.load(ctx); err != nil {
		return err
	}
	addresses, err := state.Large(ctx, "addresses")
	if err != nil {
		return err
	}
	if err := c.keeper.Load(ctx, addresses); err != nil {
		return err
	}
	rc := c.cfg.ResponseConfig()
	rc.Playbooks = c.playbooks
	if c.probes, err = probe.New(probesOf(c.playbooks.Current().Playbooks())); err != nil {
		return err
	}
	rc.Health = c.probes
	if err := c.newRuns(ctx, shared, rc); err != nil {
		return err
	}
	rc.Chooser = c.chooser()
	c.manager = response.New(rc, c.fleet, c.tracker, decisions, c.watch, c.log, c.decision)
	if !c.opts.ReadOnly {
		if err := c.manager.Load(ctx, time.Now()); err != nil {
			return err
		}
		if err := c.loadRuns(ctx); err != nil {
			return err
		}
	}
	c.loadChoices()
	c.audit.started(c)
	c.metrics.Adopted(c.manager.Decisions())
	c.collector, err = c.newCollector(ctx, templateStore{templates})
	if err != nil {
		return err
	}
	if err := c.collector.Listen(); err != nil {
		return fmt.Errorf("listen for telemetry: %w", err)
	}
	return nil
}

// parts are what runs side by side until one fails or the context ends.
func (c *Controller) parts() []func(context.Context) error {
	parts := []func(context.Context) error{
		c.collector.Run,
		c.tracker.Run,
		c.manager.Run,
		c.runs.Run,
		api.NewServer(c.cfg.API.Socket, c, c.hub).Run,
		c.followTopology,
		c.offerAgain,
		c.followStations,
		c.probes.Run,
		c.watchPlaybooks,
		c.takeCommands,
		c.serveMetrics,
		c.experience.run,
		c.keeper.Run,
	}
	if c.learning != nil {
		parts = append(parts, c.learning.Run)
	}
	if c.choices != nil {
		parts = append(parts, c.choices.Run)
	}
	if c.opts.ReadOnly {
		parts = append(parts, c.tellTemplates)
	} else {
		if c.handover != nil {
			parts = append(parts, c.handover.run)
		}
		parts = append(parts, c.telemetry.Run, c.fleet.run, c.steer, c.refreshTemplates)
	}
	return parts
}

func (c *Controller) newCollector(ctx context.Context, store templateStore) (*flowcollector.Collector, error) {
	fc := flowcollector.Config{
		SFlow: []netip.AddrPort{c.cfg.Telemetry.SFlow}, IPFIX: []netip.AddrPort{c.cfg.Telemetry.IPFIX},
		Handle: c.observe, Tick: c.advance, Templates: store, SkipEgress: true, Log: c.log, Peers: c.peers(),
	}
	if c.opts.ReadOnly {
		c.listenToExports(ctx, &fc)
	}
	collector, err := flowcollector.New(fc)
	if err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return collector, nil
}

// peers are the senders that are listened to: by default this machine alone.
func (c *Controller) peers() []netip.Prefix {
	if p := c.cfg.ExporterPrefixes(); len(p) > 0 {
		return p
	}
	own := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, a := range c.ownAddresses() {
		own = append(own, netip.PrefixFrom(a, a.BitLen()))
	}
	return own
}

// observe is the hot path: called by the receive threads with each batch.
func (c *Controller) observe(batch []flow.Record) { c.stations.each(batch, c.observed) }

func (c *Controller) observed(batch []flow.Record) {
	c.entrance.each(batch, func(entering []flow.Record) {
		c.watch.Observe(entering) // first: what a finding rests on is then known to who asks what its containment would hit
		c.engineMu.Lock()
		c.engine.Observe(entering)
		c.engineMu.Unlock()
		if e := c.staged.Load(); e != nil {
			e.Observe(entering)
		}
	})
	// Where a packet comes out tells as much about hosts as where it enters.
	c.tracker.Observe(batch)
}

// replaceModels gives the detectors the models that the registry names.
func (c *Controller) replaceModels(active, candidate *model.Model) error {
	c.engineMu.Lock()
	defer c.engineMu.Unlock()
	return c.engine.Replace(active, candidate)
}

func (c *Controller) advance(now int64) {
	c.engineMu.Lock()
	c.engine.Advance(now)
	c.engineMu.Unlock()
}

// finding takes a finding's change of state from the engine.
func (c *Controller) finding(f detector.Finding) {
	c.audit.finding(&f)
	c.metrics.Finding(&f)
	if c.risks.finding(&f) {
		c.keeper.Look()
	}
	c.manager.Handle(f)
	c.runs.Finding(f)
	if c.learning != nil {
		c.learning.Finding(f)
	}
	if f.State == detector.StateResolved {
		c.ended.Lock()
		c.ended.list = append(c.ended.list, f)
		if over := len(c.ended.list) - keptFindings; over > 0 {
			c.ended.list = append(c.ended.list[:0], c.ended.list[over:]...)
		}
		c.ended.Unlock()
	}
	if f.State == detector.StateFiring {
		c.log.WithFields(logrus.Fields{"finding": f.ID, "kind": f.Kind, "host": f.Host.String(), "score": f.Score}).Warn("finding")
	}
	c.publish(f)
}

// offerAgain tells the response once more what fires: a change that did not
// fit into its inbox must not be lost for good.
func (c *Controller) offerAgain(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		c.engineMu.Lock()
		active := c.engine.Active()
		c.engineMu.Unlock()
		for _, f := range active {
			if f.State == detector.StateFiring {
				c.manager.Handle(f)
				c.runs.Finding(f)
			}
		}
	}
}

func (c *Controller) decision(d response.Decision) {
	c.audit.decision(&d)
	c.metrics.Decision(&d)
	if c.choices != nil {
		c.choices.Decision(d)
	}
	c.runs.Decision(d)
	c.publish(d)
}

func (c *Controller) publish(event any) {
	if err := c.hub.Publish(event); err != nil {
		c.log.WithError(err).Error("event could not be written")
	}
}

// followTopology hands the switches of the database to everyone who needs
// them.
func (c *Controller) followTopology(ctx context.Context) error {
	var links map[topology.PortID]linkState
	c.db.OnTopology(func(switches map[string]topology.Switch) {
		c.tracker.SetSwitches(switches)
		c.keeper.Look()
		links = c.links(links, switches)
		if !c.opts.ReadOnly { // else only some bridges may export
			c.entrance.set(switches, func(sw topology.Switch) bool { return c.cfg.Cares(sw.Name) && !sw.OVN })
		}
		if !c.opts.ReadOnly && ctx.Err() == nil {
			c.telemetry.Want(c.fleet.settle(switches))
		}
	})
	<-ctx.Done()
	return nil
}

// linkState is what the detectors were told of a port's link.
type linkState struct {
	up      bool
	ifIndex uint32
}

// links tells the detectors which links of ports went up or down since an
// earlier call, whose result is was. A port that is gone is down.
func (c *Controller) links(was map[topology.PortID]linkState, switches map[string]topology.Switch) map[topology.PortID]linkState {
	now := make(map[topology.PortID]linkState, len(was))
	for _, sw := range switches {
		for _, p := range sw.Ports {
			now[p.ID] = linkState{p.LinkUp, p.IfIndex}
			if x, known := was[p.ID]; known && x.up != p.LinkUp {
				c.link(p.IfIndex, p.LinkUp)
			}
		}
	}
	for id, x := range was {
		if _, there := now[id]; !there && x.up {
			c.link(x.ifIndex, false)
		}
	}
	return now
}

func (c *Controller) link(ifIndex uint32, up bool) {
	if ifIndex == 0 {
		return
	}
	c.engineMu.Lock()
	c.engine.Link(flow.Exporter{}, ifIndex, up, time.Now().UnixNano())
	c.engineMu.Unlock()
}

// refreshTemplates asks the switches for their IPFIX templates when records
// arrive that none of the kept ones fits: they would repeat them only every
// ten minutes.
func (c *Controller) refreshTemplates(ctx context.Context) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n := c.collector.Stats().IPFIX.UnknownTemplate
		if n == c.unknownTemplates.Load() || time.Since(last) < 10*time.Second {
			continue
		}
		c.unknownTemplates.Store(n)
		last = time.Now()
		for _, name := range c.fleet.names() {
			if !c.fleet.mine(name) {
				continue
			}
			rctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			err := c.telemetry.Driver().Refresh(rctx, name)
			cancel()
			if err != nil && !errors.Is(err, telemetry.ErrNotOurs) && !errors.Is(err, telemetry.ErrNoBridge) {
				c.log.WithError(err).WithField("bridge", name).Warn("templates could not be asked for")
				continue
			}
			c.log.WithField("bridge", name).Info("asked for IPFIX templates again")
		}
	}
}

// leave puts back what was configured before us. It has its own deadline: the
// context that ended Run must not cut it short.
func (c *Controller) leave() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.fleet.leave(ctx)
	c.fleet.stop()
	if terr := c.telemetry.RestoreAll(ctx); terr != nil && !errors.Is(terr, ovsdb.ErrNotConnected) {
		err = errors.Join(err, fmt.Errorf("restore telemetry: %w", terr))
	}
	return err
}

// templateStore keeps IPFIX templates in the state.
type templateStore struct{ b *bus.Bucket }

func (s templateStore) Load(ctx context.Context) (map[string][]byte, error) { return s.b.All(ctx) }

func (s templateStore) Save(ctx context.Context, key string, val []byte) error {
	if len(val) == 0 {
		return s.b.Delete(ctx, key)
	}
	return s.b.Put(ctx, key, val)
}
