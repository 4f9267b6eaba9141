package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/topology"
)

// sourceLine is a port that a source guard applies to.
type sourceLine struct {
	Guard    string       `json:"guard"`
	Mode     string       `json:"mode"` // enforce, staged, or open
	Switch   string       `json:"switch,omitempty"`
	Port     string       `json:"port,omitempty"`
	Workload string       `json:"workload"`
	MACs     []flow.MAC   `json:"macs,omitempty"`
	Addrs    []netip.Addr `json:"addrs,omitempty"`
	// Packets and Bytes with a foreign source since the guard came: dropped, or
	// only counted where it is staged.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// Why says why an open one is not restricted.
	Why string `json:"why,omitempty"`
}

// Sources implements api.Controller. A switch that cannot be asked has met
// nothing as far as is known.
func (c *Controller) Sources(ctx context.Context) (any, error) {
	plan, names := c.keeper.Sources(), c.fleet.names()
	met := map[[2]string]pipeline.Hits{}
	hits, err := c.policyHits(ctx, names)
	if err != nil {
		return nil, err
	}
	for i, sw := range names {
		for port, h := range hits[i].Sources {
			met[[2]string{sw, port}] = h
		}
	}
	out := []sourceLine{}
	for _, p := range plan.Ports {
		h := met[[2]string{p.Switch, p.Port}]
		out = append(out, sourceLine{Guard: p.Guard, Mode: sourceMode(p.Enforce), Switch: p.Switch, Port: p.Port, Workload: p.Workload,
			MACs: p.MACs, Addrs: p.Addrs, Packets: h.Packets, Bytes: h.Bytes})
	}
	for _, p := range plan.Open {
		out = append(out, sourceLine{Guard: p.Guard, Mode: "open", Switch: p.Switch, Port: p.Port, Workload: p.Workload, Why: p.Why})
	}
	return out, nil
}

func sourceMode(enforce bool) string {
	if enforce {
		return policy.ModeEnforce.String()
	}
	return policy.ModeStaged.String()
}

// policyHits asks switches what policies and guards have met.
func (c *Controller) policyHits(ctx context.Context, names []string) ([]pipeline.PolicyHits, error) {
	found := make([]pipeline.PolicyHits, len(names))
	err := c.fleet.each(names, func(i int, b *pipeline.Bridge) (err error) {
		if found[i], err = b.PolicyHits(ctx); err != nil && !errors.Is(err, pipeline.ErrNotConnected) {
			return fmt.Errorf("hits on %s: %w", names[i], err)
		}
		return nil
	})
	return found, err
}

// sourceHits are the lines of the guarded ports of a switch among the hits.
func (c *Controller) sourceHits(sw string, met map[string]pipeline.Hits) (out []hitLine) {
	for _, p := range c.keeper.Sources().Ports {
		if p.Switch != sw {
			continue
		}
		line := hitLine{Source: "switch", Switch: sw, Policy: p.Guard, Direction: policy.Egress, Rule: "source at " + p.Port, Action: policy.ActionDeny, Hits: met[p.Port]}
		if !p.Enforce {
			line.Action = policy.ActionAllow
		}
		out = append(out, line)
	}
	return out
}

// guardedPort tells whose port it is that something forged came in by, for the
// detectors: the address by which its workload is known, not the one that was
// forged.
func (c *Controller) guardedPort(inPort uint32) (owner netip.Addr, about string, ok bool) {
	at, ok := c.tracker.Snapshot().PortByIndex(inPort)
	if !ok || at.Type != topology.PortEdge {
		return owner, "", false
	}
	p := c.keeper.Sources().At(at.ID.Switch, at.ID.Port)
	if p == nil {
		return owner, "", false
	}
	return p.Addrs[0], fmt.Sprintf("%s at %s/%s (%s, %s)", p.Guard, p.Switch, p.Port, p.Workload, sourceMode(p.Enforce)), true
}
