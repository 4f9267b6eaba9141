package telemetry

import (
	"context"
	"slices"

	"github.com/platelet-sdn/platelet/controller/ovsdb"
)

// Exports is what a bridge exports already, whoever configured it.
type Exports struct {
	SFlow *SFlowExport `json:"sflow,omitempty"`
	// IPFIX is the export of the whole bridge.
	IPFIX   *IPFIXExport   `json:"ipfix,omitempty"`
	NetFlow *NetFlowExport `json:"netflow,omitempty"`
	// CollectorSets are those that sample actions may name, by ID.
	CollectorSets []CollectorSet `json:"collector_sets,omitempty"`
}

// SFlowExport is an sFlow configuration; zero numbers are the switch's
// defaults.
type SFlowExport struct {
	Targets  []string `json:"targets"`
	Sampling int      `json:"sampling,omitempty"`
	Polling  int      `json:"polling,omitempty"`
	Header   int      `json:"header,omitempty"`
	Ours     bool     `json:"ours"`
}

// IPFIXExport is an IPFIX configuration; zero numbers are the switch's
// defaults. Sampling matters to the collector: IPFIX does not carry it.
type IPFIXExport struct {
	Targets  []string `json:"targets"`
	Sampling int      `json:"sampling,omitempty"`
	Domain   uint32   `json:"domain,omitempty"`
	// Cached is true when flows are aggregated before they are exported.
	Cached bool `json:"cached"`
}

// NetFlowExport is a NetFlow version 5 configuration.
type NetFlowExport struct {
	Targets []string `json:"targets"`
}

// CollectorSet is a destination of sample actions.
type CollectorSet struct {
	ID      uint32   `json:"id"`
	Targets []string `json:"targets"`
	Ours    bool     `json:"ours"`
}

// Observe reports what a bridge exports. It changes nothing.
func (d *Driver) Observe(_ context.Context, bridge string) (Exports, error) {
	t, b, err := d.look(bridge)
	if err != nil {
		return Exports{}, err
	}
	var e Exports
	if row := sFlowOf(t, b); row != nil {
		e.SFlow = &SFlowExport{
			Targets: slices.Clone(row.Targets), Sampling: value(row.Sampling),
			Polling: value(row.Polling), Header: value(row.Header), Ours: ours(row.ExternalIDs),
		}
	}
	if b.IPFIX != nil && t.IPFIXes[*b.IPFIX] != nil {
		row := t.IPFIXes[*b.IPFIX]
		e.IPFIX = &IPFIXExport{
			Targets: slices.Clone(row.Targets), Sampling: value(row.Sampling), Domain: uint32(value(row.ObsDomainID)),
			Cached: value(row.CacheActiveTimeout) > 0 || value(row.CacheMaxFlows) > 0,
		}
	}
	if b.NetFlow != nil && t.NetFlows[*b.NetFlow] != nil {
		e.NetFlow = &NetFlowExport{Targets: slices.Clone(t.NetFlows[*b.NetFlow].Targets)}
	}
	e.CollectorSets = collectorSets(t, b)
	return e, nil
}

func collectorSets(t *ovsdb.Tables, b *ovsdb.Bridge) []CollectorSet {
	var sets []CollectorSet
	for _, set := range t.CollectorSets {
		if set.Bridge != b.UUID {
			continue
		}
		out := CollectorSet{ID: uint32(set.ID), Ours: ours(set.ExternalIDs)}
		if set.IPFIX != nil && t.IPFIXes[*set.IPFIX] != nil {
			out.Targets = slices.Clone(t.IPFIXes[*set.IPFIX].Targets)
		}
		sets = append(sets, out)
	}
	slices.SortFunc(sets, func(a, b CollectorSet) int { return int(int64(a.ID) - int64(b.ID)) })
	return sets
}

// value reads an optional column.
func value(column *int) int {
	if column == nil {
		return 0
	}
	return *column
}
