package controller

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/ovsdb"
	"github.com/platelet-sdn/platelet/controller/ovsdb/telemetry"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/controller/response/run"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
	"github.com/platelet-sdn/platelet/flowcollector"
	"github.com/platelet-sdn/platelet/topology"
)

// Status is what `platelet status` shows.
type Status struct {
	Mode      response.Mode                `json:"mode"`
	ReadOnly  bool                         `json:"read_only"`
	Brake     bool                         `json:"brake"`
	Started   time.Time                    `json:"started"`
	OVSDB     ovsdb.Status                 `json:"ovsdb"`
	Switches  []pipeline.Status            `json:"switches"`
	Telemetry map[string]telemetry.Applied `json:"telemetry"`
	Collector flowcollector.Stats          `json:"collector"`
	Detector  detector.Stats               `json:"detector"`
	Tracker   topology.TrackerStats        `json:"tracker"`
	Decisions map[response.State]int       `json:"decisions"`
	Playbooks api.PlaybookStatus           `json:"playbooks"`
	Learning  *learning.Status             `json:"learning,omitempty"`
	Choices   *learn.Status                `json:"choices,omitempty"`
	Audit     *audit.Status                `json:"audit,omitempty"`
	Lost      Lost                         `json:"lost"`
}

// Lost counts what did not fit into a bounded queue.
type Lost struct {
	Findings uint64 `json:"findings"` // changes of findings; they are looked at again
	Runs     uint64 `json:"runs"`     // of playbooks, also for want of a budget
	Events   uint64 `json:"events"`   // events that slow watchers missed
	Copies   uint64 `json:"copies"`   // packets that the switch copied and that could not be read
}

// Status implements api.Controller.
func (c *Controller) Status() any {
	s := Status{
		Mode: c.cfg.Mode, ReadOnly: c.opts.ReadOnly, Brake: c.manager.Braked(), Started: c.started.UTC(),
		OVSDB: c.db.Status(), Switches: c.fleet.status(), Telemetry: c.telemetry.Applied(), Collector: c.collector.Stats(),
		Tracker: c.tracker.Stats(), Decisions: map[response.State]int{},
		Lost: Lost{Findings: c.manager.Overruns(), Runs: c.runs.Lost(), Events: c.hub.Lost(), Copies: c.malformedCopies.Load()},
	}
	s.Audit, s.Playbooks = c.audit.status(), c.Playbooks()
	if c.learning != nil {
		l := c.learning.Status()
		s.Learning = &l
	}
	if c.choices != nil {
		x := c.choices.Status()
		s.Choices = &x
	}
	c.engineMu.Lock()
	s.Detector = c.engine.Stats()
	c.engineMu.Unlock()
	for _, d := range c.manager.Decisions() {
		s.Decisions[d.State]++
	}
	return s
}

// Findings implements api.Controller: what fires now, and what is over.
func (c *Controller) Findings() []detector.Finding {
	c.ended.Lock()
	out := slices.Clone(c.ended.list)
	c.ended.Unlock()
	c.engineMu.Lock()
	out = append(out, c.engine.Active()...)
	c.engineMu.Unlock()
	slices.SortStableFunc(out, func(a, b detector.Finding) int { return cmp.Compare(a.FirstSeen, b.FirstSeen) })
	return out
}

// Explain implements api.Controller.
func (c *Controller) Explain(id string) (explain.Explanation, error) {
	all := c.Findings()
	for _, f := range all {
		if f.ID == id {
			return explain.Of(f, all), nil
		}
	}
	return explain.Explanation{}, fmt.Errorf("finding %s: %w", id, response.ErrNotFound)
}

// Decisions implements api.Controller.
func (c *Controller) Decisions() []response.Decision { return c.manager.Decisions() }

// Decision implements api.Controller.
func (c *Controller) Decision(ctx context.Context, id string) (response.Decision, error) {
	return c.manager.Look(ctx, id)
}

type hostLine struct {
	Address  netip.Addr `json:"address"`
	MAC      string     `json:"mac"`
	Switch   string     `json:"switch"`
	Port     string     `json:"port"`
	Bound    bool       `json:"bound"`
	LastSeen time.Time  `json:"last_seen"`
}

// Hosts implements api.Controller.
func (c *Controller) Hosts() any {
	snap := c.tracker.Snapshot()
	out := make([]hostLine, 0, len(snap.Hosts))
	for _, h := range snap.Hosts {
		out = append(out, hostLine{h.Addr, h.MAC.String(), h.Port.Switch, h.Port.Port, h.Bound, time.Unix(0, h.LastSeen).UTC()})
	}
	slices.SortFunc(out, func(a, b hostLine) int { return a.Address.Compare(b.Address) })
	return out
}

type portLine struct {
	Name    string            `json:"name"`
	Type    string            `json:"type"`
	OFPort  uint32            `json:"ofport"`
	IfIndex uint32            `json:"ifindex"`
	LinkUp  bool              `json:"link_up"`
	Labels  map[string]string `json:"labels,omitempty"`
	Hosts   []netip.Addr      `json:"hosts,omitempty"`
}

type switchLine struct {
	Name       string     `json:"name"`
	DatapathID string     `json:"datapath_id"`
	Datapath   string     `json:"datapath"`
	OVN        bool       `json:"ovn"`
	Ports      []portLine `json:"ports"`
}

// Topology implements api.Controller.
func (c *Controller) Topology() any {
	snap := c.tracker.Snapshot()
	out := make([]switchLine, 0, len(snap.Switches))
	for _, sw := range snap.Switches {
		line := switchLine{Name: sw.Name, DatapathID: sw.DatapathID, Datapath: sw.Datapath, OVN: sw.OVN}
		for _, p := range sw.Ports {
			pl := portLine{Name: p.ID.Port, Type: portType(p.Type), OFPort: p.OFPort, IfIndex: p.IfIndex, LinkUp: p.LinkUp, Labels: p.Labels}
			for _, h := range snap.HostsAt(p.ID) {
				pl.Hosts = append(pl.Hosts, h.Addr)
			}
			line.Ports = append(line.Ports, pl)
		}
		slices.SortFunc(line.Ports, func(a, b portLine) int { return cmp.Compare(a.OFPort, b.OFPort) })
		out = append(out, line)
	}
	slices.SortFunc(out, func(a, b switchLine) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func portType(t topology.PortType) string {
	switch t {
	case topology.PortLink:
		return "link"
	case topology.PortLocal:
		return "local"
	}
	return "edge"
}

// Rules implements api.Controller.
func (c *Controller) Rules(ctx context.Context) (any, error) { return c.fleet.rules(ctx) }

// Installed implements api.Controller.
func (c *Controller) Installed(ctx context.Context) (any, error) { return c.fleet.installed(ctx) }

// Drift implements api.Controller.
func (c *Controller) Drift(ctx context.Context) (any, error) { return c.fleet.drift(ctx) }

// Approve implements api.Controller.
func (c *Controller) Approve(ctx context.Context, id, who, why string) error {
	return c.audit.operator(audit.Event{Who: who, Why: why, Decision: id}, "approve", func() error {
		if run.Owns(id) {
			return c.runs.Approve(ctx, id, who, why)
		}
		return c.manager.Approve(ctx, id, who)
	})
}

// Reject implements api.Controller.
func (c *Controller) Reject(ctx context.Context, id, who, why string) error {
	return c.audit.operator(audit.Event{Who: who, Why: why, Decision: id}, "reject", func() error {
		if run.Owns(id) {
			return c.runs.Reject(ctx, id, who, why)
		}
		return c.manager.Reject(ctx, id, who)
	})
}

// Release implements api.Controller.
func (c *Controller) Release(ctx context.Context, id, who, why string) error {
	return c.audit.operator(audit.Event{Who: who, Why: why, Decision: id}, "release", func() error { return c.manager.Release(ctx, id, who) })
}

// SetBrake implements api.Controller.
func (c *Controller) SetBrake(ctx context.Context, on, release bool, who string) error {
	act := "brake-off"
	switch {
	case release:
		act = "brake-release"
	case on:
		act = "brake-on"
	}
	return c.audit.operator(audit.Event{Who: who}, act, func() error {
		var held []string
		for _, d := range c.manager.Decisions() {
			if release && d.Committed {
				held = append(held, d.ID)
			}
		}
		err := c.manager.SetBrake(ctx, on, release, who)
		if release {
			c.runs.Undo("released by the brake of "+who, held)
		}
		return err
	})
}
