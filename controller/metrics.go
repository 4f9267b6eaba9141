package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/platelet-sdn/platelet/controller/metrics"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/flowcollector"
)

// serveMetrics shows the controller to Prometheus until ctx ends, where the
// configuration says so.
func (c *Controller) serveMetrics(ctx context.Context) error {
	if c.cfg.Metrics.Listen == "" {
		return nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.cfg.Metrics.Listen)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.metrics.Handler())
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	c.log.WithField("address", l.Addr()).Info("serving metrics")
	if err := srv.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// readings tells how things are now.
func (c *Controller) readings(put metrics.Put) {
	n := func(r metrics.Reading, v uint64, labels ...string) { put(r, float64(v), labels...) }
	s := c.collector.Stats()
	c.telemetryReadings(n, s)
	c.engineMu.Lock()
	d := c.engine.Stats()
	c.engineMu.Unlock()
	n(metrics.DetectorRecords, d.Records)
	n(metrics.Losses, d.Thinned, metrics.PlaceThinned)
	n(metrics.Losses, d.Shed, metrics.PlaceDetector)
	n(metrics.Losses, c.malformedCopies.Load(), metrics.PlaceCopies)
	n(metrics.Losses, c.manager.Overruns(), metrics.PlaceFindings)
	n(metrics.Losses, c.runs.Lost(), metrics.PlaceRuns)
	n(metrics.Losses, c.hub.Lost(), metrics.PlaceEvents)
	put(metrics.ActiveFindings, float64(d.Active))
	c.decisionReadings(put)
	t := c.tracker.Stats()
	put(metrics.Hosts, float64(t.Bound), strconv.FormatBool(true))
	put(metrics.Hosts, float64(t.Hosts-t.Bound), strconv.FormatBool(false))
	for _, b := range c.fleet.status() {
		put(metrics.SwitchConnected, one(b.State == pipeline.StateConnected), b.Name)
		n(metrics.SwitchConnects, b.Connects, b.Name)
		put(metrics.Rules, float64(b.Rules), b.Name)
		put(metrics.WaitingRules, float64(b.Waiting), b.Name)
		n(metrics.Heals, b.Healed, b.Name)
		n(metrics.Disturbances, b.Disturbed, b.Name)
	}
	if a := c.audit.status(); a != nil {
		put(metrics.AuditEntries, float64(a.Entries))
		put(metrics.AuditProven, float64(a.Proven))
		put(metrics.AuditQueued, float64(a.Queued))
		n(metrics.Losses, a.Lost, metrics.PlaceAudit)
	}
	x := c.watch.Traffic().Stats()
	put(metrics.Conversations, float64(x.Conversations))
	put(metrics.ConversationBytes, float64(x.Bytes))
	n(metrics.ConversationsDisplaced, x.Displaced)
}

func (c *Controller) telemetryReadings(n func(metrics.Reading, uint64, ...string), s flowcollector.Stats) {
	for protocol, p := range map[flowcollector.Protocol]flowcollector.ProtocolStats{flowcollector.ProtocolSFlow: s.SFlow, flowcollector.ProtocolIPFIX: s.IPFIX} {
		n(metrics.Datagrams, p.Datagrams, string(protocol))
		n(metrics.Records, p.Records, string(protocol))
	}
	a, b := &s.SFlow, &s.IPFIX
	n(metrics.Losses, a.KernelDrops+b.KernelDrops, metrics.PlaceKernel)
	n(metrics.Losses, a.SequenceLost+b.SequenceLost, metrics.PlaceTransport)
	n(metrics.Losses, a.Refused+b.Refused, metrics.PlaceSender)
	n(metrics.Losses, a.Malformed+b.Malformed, metrics.PlaceMalformed)
	n(metrics.Losses, a.UnknownTemplate+b.UnknownTemplate, metrics.PlaceTemplate)
	n(metrics.Losses, a.Headerless+b.Headerless+a.Unparsed+b.Unparsed, metrics.PlaceHeader)
}

func (c *Controller) decisionReadings(put metrics.Put) {
	type class struct{ state, kind, action string }
	open, off := map[class]int{}, 0
	for _, d := range c.manager.Decisions() {
		if !d.State.Holds() && d.State != response.StateAwaitingApproval {
			continue
		}
		open[class{string(d.State), string(d.Kind), string(d.Action)}]++
		if d.Action.Isolates() && d.State.Holds() && d.State != response.StateProbation {
			off++
		}
	}
	for k, n := range open {
		put(metrics.OpenDecisions, float64(n), k.state, k.kind, k.action)
	}
	put(metrics.QuarantinedHosts, float64(off))
	put(metrics.Brake, one(c.manager.Braked()))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
