package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Reading is a metric that is read when it is asked for.
type Reading int

// The readings; definitions says what each is.
const (
	Datagrams Reading = iota
	Records
	DetectorRecords
	Losses
	ActiveFindings
	OpenDecisions
	QuarantinedHosts
	Brake
	Hosts
	SwitchConnected
	SwitchConnects
	Rules
	WaitingRules
	Heals
	Disturbances
	AuditEntries
	AuditProven
	AuditQueued
	Conversations
	ConversationBytes
	ConversationsDisplaced

	readings
)

// Places where something may be lost; the values of the label of Losses.
const (
	PlaceKernel    = "kernel"
	PlaceTransport = "transport"
	PlaceSender    = "sender"
	PlaceMalformed = "malformed"
	PlaceTemplate  = "template"
	PlaceHeader    = "header"
	PlaceThinned   = "detector-thinned"
	PlaceDetector  = "detector"
	PlaceCopies    = "copies"
	PlaceFindings  = "findings"
	PlaceRuns      = "runs"
	PlaceEvents    = "events"
	PlaceAudit     = "audit"
)

type definition struct {
	name, help string
	kind       prometheus.ValueType
	labels     []string
}

func definitions() [readings]definition {
	const counter, gauge = prometheus.CounterValue, prometheus.GaugeValue
	return [readings]definition{
		Datagrams:       {"platelet_datagrams_total", "Datagrams that the sockets delivered, whatever became of them, by protocol.", counter, []string{"protocol"}},
		Records:         {"platelet_records_total", "Flow records that were decoded, by protocol.", counter, []string{"protocol"}},
		DetectorRecords: {"platelet_detector_records_total", "Records that the detectors judged: those of packets that enter the network.", counter, nil},
		Losses: {"platelet_losses_total", "What was lost, by place: datagrams in the kernel (a full socket buffer), on the way (transport, by sequence numbers), of a sender that is not listened to, malformed; " +
			"data sets without template; samples without a readable packet header; samples that the detectors did not look at one by one (detector-thinned) and contacts and hosts that they had no room for (detector); " +
			"copies of packets; changes of findings that are looked at again; runs of playbooks; events that slow watchers missed; events that the audit log had no room for.", counter, []string{"place"}},
		ActiveFindings:         {"platelet_active_findings", "Findings that are not resolved.", gauge, nil},
		OpenDecisions:          {"platelet_open_decisions", "Decisions that wait for approval or whose rules are meant to stand, by state, kind of finding and action.", gauge, []string{"state", "kind", "action"}},
		QuarantinedHosts:       {"platelet_quarantined_hosts", "Hosts that are off the network, in quarantine or rerouted.", gauge, nil},
		Brake:                  {"platelet_brake_engaged", "1 while the global brake is on.", gauge, nil},
		Hosts:                  {"platelet_hosts", "Hosts that are known, by whether two-way evidence binds them to a port.", gauge, []string{"bound"}},
		SwitchConnected:        {"platelet_switch_connected", "1 while a bridge is connected and in care, by bridge.", gauge, []string{"bridge"}},
		SwitchConnects:         {"platelet_switch_connects_total", "Connections to a bridge, by bridge.", counter, []string{"bridge"}},
		Rules:                  {"platelet_rules", "Rules that are wanted on a bridge, by bridge.", gauge, []string{"bridge"}},
		WaitingRules:           {"platelet_waiting_rules", "Rules whose port is not on the bridge, by bridge.", gauge, []string{"bridge"}},
		Heals:                  {"platelet_drift_heals_total", "Flows and meters that were put in order after drift, by bridge.", counter, []string{"bridge"}},
		Disturbances:           {"platelet_disturbances_total", "Changes of others in our places on a bridge, by bridge.", counter, []string{"bridge"}},
		AuditEntries:           {"platelet_audit_head_entries", "Entries of the audit log, its head's number.", gauge, nil},
		AuditProven:            {"platelet_audit_proven_entries", "Entries of the audit log that the last signed checkpoint is over.", gauge, nil},
		AuditQueued:            {"platelet_audit_queued_events", "Events that wait to be written into the audit log.", gauge, nil},
		Conversations:          {"platelet_exposure_conversations", "Conversations of the last hour that are kept to tell what an action would hit.", gauge, nil},
		ConversationBytes:      {"platelet_exposure_memory_bytes", "Memory that they take.", gauge, nil},
		ConversationsDisplaced: {"platelet_exposure_displaced_total", "Conversations that had to give way to others.", counter, nil},
	}
}

// Put gives a reading, with the values of its labels in the order of its definition.
type Put func(r Reading, value float64, labels ...string)

// reader turns readings into metrics.
type reader struct {
	read  func(Put)
	defs  [readings]definition
	descs [readings]*prometheus.Desc
}

func newReader(read func(Put)) *reader {
	x := &reader{read: read, defs: definitions()}
	for i, d := range x.defs {
		x.descs[i] = prometheus.NewDesc(d.name, d.help, d.labels, nil)
	}
	return x
}

// Describe implements prometheus.Collector.
func (x *reader) Describe(out chan<- *prometheus.Desc) {
	for _, d := range x.descs {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (x *reader) Collect(out chan<- prometheus.Metric) {
	x.read(func(r Reading, value float64, labels ...string) {
		m, err := prometheus.NewConstMetric(x.descs[r], x.defs[r].kind, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(x.descs[r], err)
		}
		out <- m
	})
}
