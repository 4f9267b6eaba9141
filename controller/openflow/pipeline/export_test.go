package pipeline

import (
	"math"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/segmentation"
	"github.com/platelet-sdn/platelet/segmentation/compile"
	"github.com/platelet-sdn/platelet/segmentation/sourceguard"
)

// TableRemembered is where packets teach flows.
const TableRemembered = tableRemembered

// FlowsFor returns what a bridge called "br" with these intents, policies, tap
// and ports would have on its switch, and which intent or rule each flow comes
// from, by cookie.
func FlowsFor(intents []segmentation.Intent, program *compile.Program, tap TapConfig, numbers map[string]uint32) (openflow.Tx, map[uint64]string, error) {
	var tx openflow.Tx
	b, err := New(Config{Name: "br"})
	if err != nil {
		return tx, nil, err
	}
	b.tap = tap
	for name, n := range numbers {
		b.ports.add(openflow.Port{Name: name, Number: n})
	}
	now := time.Now()
	rules, err := b.rules.build("br", "test", intents, now)
	if err != nil {
		return tx, nil, err
	}
	b.rules.replace("test", rules)
	if b.policy, err = b.policy.next(program); err != nil {
		return tx, nil, err
	}
	meter := func(m openflow.Meter) openflow.Meter {
		m.ID = uint32(len(tx.AddMeters)) + 1
		tx.AddMeters = append(tx.AddMeters, m)
		return m
	}
	for _, r := range rules {
		if r.limited() {
			r.meter = meter(meterOf(r.intent.Limit))
		}
	}
	for _, r := range b.policy.all() {
		if r.limited() {
			r.meter = meter(meterOf(limitOf(&r.Rule)))
		}
	}
	if b.policy.rejects() {
		b.copyMeters[copyRefusals-1] = meter(meterOf(copyLimit(copyRefusals)))
	}
	want, _, err := b.desiredFlows(now, false)
	sources := map[uint64]string{}
	for _, d := range want {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Flow: d.flow})
		if _, intent, _ := d.source(); intent != "" && cookieObject(d.flow.Cookie)&clauseBit == 0 || d.rule != nil {
			sources[d.flow.Cookie] = intent
		}
	}
	return tx, sources, err
}

// Planner changes policies step by step, as SetPolicy does.
type Planner struct{ b *Bridge }

// NewPlanner returns a planner of a bridge called "br" without policies.
func NewPlanner(tap TapConfig) (*Planner, error) {
	b, err := New(Config{Name: "br"})
	if err != nil {
		return nil, err
	}
	b.tap, b.meters = tap, newMeterRange(openflow.MeterFeatures{Max: 1 << 18})
	return &Planner{b}, nil
}

// Frame is what is there beside policies.
func (p *Planner) Frame() (tx openflow.Tx) {
	for _, f := range p.b.frame() {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Flow: f})
	}
	return tx
}

// Step returns the change to the next program, which must not be nil, and how
// many of our flows there should be behind it.
func (p *Planner) Step(program *compile.Program) (openflow.Tx, int, error) {
	next, err := p.b.policy.next(program)
	if err != nil {
		return openflow.Tx{}, 0, err
	}
	plan := p.b.planPolicy(next, p.b.copyMeters[copyRefusals-1].ID == 0)
	p.b.acceptPolicy(next, &plan)
	return plan.tx, p.b.flowCount, nil
}

// Want is what should be on the switch now.
func (p *Planner) Want() (out []openflow.Flow, err error) {
	want, _, err := p.b.desiredFlows(time.Now(), false)
	for _, d := range want {
		out = append(out, d.flow)
	}
	return out, err
}

// InOneTransaction has a bridge change policies of whatever size as it does
// small ones.
func InOneTransaction(b *Bridge) { b.stageAbove = math.MaxInt }

// SourceFlowsFor returns what a bridge called "br" with these guarded ports and
// tap would have on its switch.
func SourceFlowsFor(guarded []sourceguard.Port, tap TapConfig, numbers map[string]uint32) (tx openflow.Tx, err error) {
	b, err := New(Config{Name: "br"})
	if err != nil {
		return tx, err
	}
	b.tap = tap
	for name, n := range numbers {
		b.ports.add(openflow.Port{Name: name, Number: n})
	}
	if b.sources, err = b.sources.next("br", guarded); err != nil {
		return tx, err
	}
	want, _, err := b.desiredFlows(time.Now(), false)
	for _, d := range want {
		tx.Flows = append(tx.Flows, openflow.FlowMod{Flow: d.flow})
	}
	return tx, err
}
