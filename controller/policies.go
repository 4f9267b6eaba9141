package controller

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/platelet-sdn/platelet/controller/advise"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/recommend"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
	"github.com/platelet-sdn/platelet/segmentation/staged"
)

// risks are the severities of what fires, by address.
type risks struct {
	mu      sync.Mutex
	firing  map[string]risk // by finding
	version uint64
}

type risk struct {
	host netip.Addr
	risk policy.Risk
}

// finding takes a finding's change of state, and reports whether it changed
// anybody's risk. A forged source is nobody's. What policies deny is no risk: whoever
// is kept out for another one, and goes on trying, would be kept out for good.
func (r *risks) finding(f *detector.Finding) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	was, had := r.firing[f.ID]
	now := risk{f.Host, severityRisk(f.Severity)}
	if f.State != detector.StateFiring || f.Spoofed || f.Kind == detector.KindPolicyViolation || !f.Host.IsValid() || now.risk == 0 {
		delete(r.firing, f.ID)
		if had {
			r.version++
		}
		return had
	}
	r.firing[f.ID] = now
	if was == now {
		return false
	}
	r.version++
	return true
}

func severityRisk(s detector.Severity) policy.Risk {
	return map[detector.Severity]policy.Risk{detector.SeverityLow: policy.RiskLow, detector.SeverityMedium: policy.RiskMedium,
		detector.SeverityHigh: policy.RiskHigh, detector.SeverityCritical: policy.RiskCritical}[s]
}

// worst is the worst of each address.
func (r *risks) worst() (map[netip.Addr]policy.Risk, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make(map[netip.Addr]policy.Risk, len(r.firing))
	for _, x := range r.firing {
		out[x.host] = max(out[x.host], x.risk)
	}
	return out, r.version
}

// newKeeper makes what keeps policies enforced. A fault in a file of policies
// is an error.
func (c *Controller) newKeeper() (*segment.Keeper, error) {
	var protected []netip.Prefix
	for _, p := range c.cfg.Protected {
		protected = append(protected, p.Prefix)
	}
	cfg := segment.Config{
		Source: &c.cfg, World: c.world, Protected: protected,
		Compiled: func(p *compile.Program) { c.judge.Store(compile.NewEvaluator(p)) },
		Changed:  c.segmented, Resolved: c.stage, Log: c.log,
	}
	if !c.opts.ReadOnly { // else it has none to change
		cfg.Switches = enforcing{c.fleet}
	}
	return segment.New(cfg)
}

// world is what groups are resolved against.
func (c *Controller) world() segment.World {
	worst, version := c.risks.worst()
	return segment.World{Snapshot: c.tracker.Snapshot(), Risk: worst, RiskVersion: version}
}

// verdict says what policies make of a conversation, for the detectors: it is
// called with the engine's lock held. Of ICMP it is not asked precisely enough.
func (c *Controller) verdict(client, server netip.Addr, proto uint8, port uint16) (allowed, known bool, rule string) {
	judge := c.judge.Load()
	if judge == nil || policy.Proto(proto).IsICMP() {
		return false, false, ""
	}
	egress, ingress := judge.Verdict(compile.Connection{Src: client, Dst: server, Proto: policy.Proto(proto), DstPort: port})
	for _, side := range []compile.Side{egress, ingress} {
		if !side.Consents() {
			return false, true, side.Rule.String()
		}
		if side.Decided() {
			known, rule = true, side.Rule.String()
		}
	}
	return known, known, rule
}

// stage holds what is seen from now on against these policies, and those that
// are staged. Without any, nothing is looked at.
func (c *Controller) stage(set *policy.Set, inv policy.Inventory, now time.Time) {
	e := c.staged.Load()
	if e == nil && len(set.Policies) == 0 && !c.cfg.Segmentation.Observe {
		return
	}
	if e != nil {
		if err := e.Update(set, inv, now); err != nil {
			c.log.WithError(err).Warn("staged policies could not be compiled")
		}
		return
	}
	e, err := staged.New(staged.Config{Set: set, Inventory: inv, Live: true}, now)
	if err != nil {
		c.log.WithError(err).Warn("staged policies could not be compiled")
		return
	}
	c.staged.Store(e)
}

// Staged implements api.Controller.
func (c *Controller) Staged() any {
	if e := c.staged.Load(); e != nil {
		return e.Report()
	}
	return &staged.Report{}
}

// errUnseen says that nothing was summed up to learn from.
var errUnseen = errors.New("nothing is summed up yet to learn from; without policies, set segmentation.observe")

// Recommend implements api.Controller.
func (c *Controller) Recommend(o recommend.Options) ([]byte, error) {
	e := c.staged.Load()
	if e == nil {
		return nil, errUnseen
	}
	list, stats := e.Connections()
	r, err := advise.FromConnections(list, stats, policy.Inventory{Workloads: c.keeper.Workloads()}, c.Findings(), o)
	if err != nil {
		return nil, err
	}
	return r.YAML()
}

// segmented tells of a change of what is enforced.
func (c *Controller) segmented(x segment.Change) {
	c.log.WithFields(logrus.Fields{"why": x.Why, "rules": x.Rules, "endpoints": x.Endpoints, "guarded": x.Ports, "took": x.Took.Round(time.Microsecond)}).Info("policies changed")
	c.audit.segmented(x)
}

// enforcing gives programs to the fleet.
type enforcing struct{ *fleet }

// Names implements segment.Switches.
func (f enforcing) Names() []string { return f.names() }

// SetPolicy implements segment.Switches. A switch that is not connected keeps
// what it is given until it is.
func (f enforcing) SetPolicy(ctx context.Context, sw string, p *compile.Program) error {
	b, err := f.bridge(sw)
	if err != nil {
		return err
	}
	_, err = b.SetPolicy(ctx, p)
	if errors.Is(err, pipeline.ErrNotConnected) {
		return nil
	}
	return err
}

// SetSources implements segment.Switches, as SetPolicy does.
func (f enforcing) SetSources(ctx context.Context, sw string, ports []sourceguard.Port) error {
	b, err := f.bridge(sw)
	if err != nil {
		return err
	}
	if _, err = b.SetSources(ctx, ports); errors.Is(err, pipeline.ErrNotConnected) {
		return nil
	}
	return err
}

// adoptPolicy gives a bridge what it is to enforce before it is connected. A
// policy that cannot be enforced keeps nobody from being contained.
func (f *fleet) adoptPolicy(b *pipeline.Bridge, name string) {
	p, sources, err := f.c.keeper.Part(name)
	if err == nil && p != nil {
		_, err = b.SetPolicy(context.Background(), p)
	}
	if err == nil || errors.Is(err, pipeline.ErrNotConnected) {
		_, err = b.SetSources(context.Background(), sources)
	}
	if err != nil && !errors.Is(err, pipeline.ErrNotConnected) {
		f.c.log.WithError(err).WithField("bridge", name).Error("policies could not be enforced")
	}
}

// Policies implements api.Controller.
func (c *Controller) Policies() any {
	var program *compile.Program
	if e := c.staged.Load(); e != nil {
		program = e.Program()
	}
	return c.keeper.Listing(c.manager.Decisions(), program, time.Now())
}

// Workloads implements api.Controller.
func (c *Controller) Workloads() any {
	list := c.keeper.Workloads()
	return append([]policy.Workload{}, list...)
}

// ReloadPolicies implements api.Controller.
func (c *Controller) ReloadPolicies(ctx context.Context, who string) error {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	err := c.keeper.Reload(ctx)
	c.log.WithFields(logrus.Fields{"who": who}).WithError(err).Info("policies read again")
	return err
}

// hitLine is what a rule of a policy met; one without a policy is what no rule of
// a direction decided.
type hitLine struct {
	// Source is "switch", which counts what it enforces, or "records": what
	// telemetry tells of it, an estimate, where nothing is enforced.
	Source    string           `json:"source"`
	Switch    string           `json:"switch,omitempty"`
	Policy    string           `json:"policy,omitempty"`
	Direction policy.Direction `json:"direction"`
	Rule      string           `json:"rule,omitempty"`
	Action    policy.Action    `json:"action"`
	pipeline.Hits
}

// PolicyHits implements api.Controller. Rules stand in the order in which they
// decide.
func (c *Controller) PolicyHits(ctx context.Context) (any, error) {
	if c.opts.ReadOnly {
		return c.recordedHits(), nil
	}
	return c.countedHits(ctx)
}

// recordedHits are those that records tell of.
func (c *Controller) recordedHits() []hitLine {
	out := []hitLine{}
	e := c.staged.Load()
	if e == nil {
		return out
	}
	for _, h := range e.Hits() {
		out = append(out, hitLine{Source: "records", Policy: h.Rule.Policy, Direction: h.Rule.Direction, Rule: h.Rule.Rule, Action: h.Action,
			Hits: pipeline.Hits{Connections: round(h.Connections), Packets: round(h.Packets), Bytes: round(h.Bytes)}})
	}
	return out
}

func round(x float64) uint64 { return uint64(math.Round(x)) }

// countedHits are those that the switches count.
func (c *Controller) countedHits(ctx context.Context) ([]hitLine, error) {
	out := []hitLine{}
	program := c.keeper.Program()
	if program == nil {
		return out, nil
	}
	names := c.fleet.names()
	found, err := c.policyHits(ctx, names)
	if err != nil {
		return nil, err
	}
	order := program.Order()
	for i, name := range names {
		out = append(out, c.sourceHits(name, found[i].Sources)...)
		for _, id := range order {
			if h, ok := found[i].Rules[id]; ok {
				out = append(out, hitLine{"switch", name, id.Policy, id.Direction, id.Rule, program.Rules[id].Action, h})
			}
		}
		for _, d := range []policy.Direction{policy.Egress, policy.Ingress} {
			if h, ok := found[i].Undecided[d]; ok {
				out = append(out, hitLine{Source: "switch", Switch: name, Direction: d, Action: policy.ActionAllow, Hits: h})
			}
		}
	}
	return out, nil
}
