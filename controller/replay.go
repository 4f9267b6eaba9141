package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/explain"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// ReplaySummary is the last line of a replay.
type ReplaySummary struct {
	Type        string  `json:"type"` // "summary"
	Records     int64   `json:"records"`
	Span        float64 `json:"span_s"`
	Hosts       int     `json:"hosts"`
	Findings    int     `json:"findings"`
	Decisions   int     `json:"decisions"`
	Malformed   int64   `json:"malformed"`
	Late        int64   `json:"late,omitempty"`
	Untemplated int64   `json:"untemplated,omitempty"`
}

// maxReplayHosts bounds the count of distinct addresses.
const maxReplayHosts = 1 << 22

// replaySeed keys the sketches, so that a recording gives the same findings
// every time.
const replaySeed = 1

// Replay runs recorded telemetry through the detectors, on recorded time, and
// writes findings, would-be decisions and a summary. Format is "json" for one
// JSON object a line, "text", or "explain" for text with the reasons of each
// finding.
// What could not be read is counted and, at most the first few, returned as
// faults for a person.
func Replay(ctx context.Context, cfg config.File, inputs []string, stdin io.Reader, format string, out io.Writer) (sum ReplaySummary, faults []*replay.Fault, err error) {
	r, err := replay.Open(inputs, replay.Options{Stdin: stdin})
	if err != nil {
		return sum, nil, err
	}
	defer r.Close()
	rc := cfg.ResponseConfig()
	set, err := cfg.LoadPlaybooks()
	if err != nil {
		return sum, nil, err
	}
	rc.Playbooks = set
	run := &replayRun{cfg: rc, out: out, text: format != "json", reasons: format == "explain", hosts: map[netip.Addr]struct{}{},
		told: map[string]struct{}{}, decided: map[string]struct{}{}}
	dc := cfg.DetectorConfig()
	dc.Emit = run.finding
	dc.Seed = replaySeed
	engine, err := detector.New(dc)
	if err != nil {
		return sum, nil, fmt.Errorf("detectors: %w", err)
	}
	if err := run.feed(ctx, r, engine); err != nil {
		return sum, nil, err
	}
	s := r.Stats()
	sum = ReplaySummary{Type: "summary", Records: s.Records, Span: float64(s.Last-s.First) / 1e9, Hosts: len(run.hosts),
		Findings: run.findings, Decisions: run.decisions, Malformed: s.Malformed, Late: s.Late, Untemplated: s.Untemplated}
	if run.text {
		_, err = fmt.Fprintf(out, "%d records over %.0f s of %d hosts: %d findings, %d decisions, %d malformed\n",
			sum.Records, sum.Span, sum.Hosts, sum.Findings, sum.Decisions, sum.Malformed)
		return sum, s.Faults, err
	}
	return sum, s.Faults, errors.Join(run.err, json.NewEncoder(out).Encode(sum))
}

type replayRun struct {
	cfg                 response.Config
	out                 io.Writer
	text, reasons       bool
	hosts               map[netip.Addr]struct{}
	told, decided       map[string]struct{} // by finding
	findings, decisions int
	err                 error
}

// feed gives every record to the engine, with the time in between.
func (r *replayRun) feed(ctx context.Context, in *replay.Reader, engine *detector.Engine) error {
	play := detector.NewPlayback(engine)
	var rec flow.Record
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch err := in.Read(&rec); {
		case errors.Is(err, io.EOF):
			play.Finish()
			return r.err
		case err != nil:
			return err
		}
		r.count(rec.Src)
		r.count(rec.Dst)
		play.Observe(&rec)
		if r.err != nil {
			return r.err
		}
	}
}

func (r *replayRun) count(a netip.Addr) {
	if a.IsValid() && len(r.hosts) < maxReplayHosts {
		r.hosts[a] = struct{}{}
	}
}

// finding prints a finding when it fires, and what would be done, which may be
// known only later, when another finding corroborates it.
func (r *replayRun) finding(f detector.Finding) {
	if f.State != detector.StateFiring || r.err != nil {
		return
	}
	if _, again := r.told[f.ID]; !again {
		r.told[f.ID] = struct{}{}
		r.tell(f)
	}
	if _, again := r.decided[f.ID]; !again {
		r.propose(f)
	}
}

func (r *replayRun) tell(f detector.Finding) {
	r.findings++
	r.print(f, fmt.Sprintf("%s finding  %s %s by %s, score %.2f, %d records", time.Unix(0, f.Time).UTC().Format(time.RFC3339Nano), f.ID, f.Kind, explain.Actor(f), f.Score, f.Records))
	if r.reasons && r.err == nil {
		r.err = explain.Of(f, []detector.Finding{f}).WriteText(r.out)
	}
}

func (r *replayRun) propose(f detector.Finding) {
	d, ok := response.Propose(r.cfg, f, response.Circumstances{Now: time.Unix(0, f.Time)})
	if !ok {
		return
	}
	r.decided[f.ID] = struct{}{}
	if p, protected := r.cfg.Protected.Covers(d.Target.Host); protected && d.Target.Host.IsValid() {
		d.State = response.StateRefused
		d.Why += fmt.Sprintf("; refused: %s is protected by %s", d.Target.Host, p)
	}
	r.decisions++
	r.print(d, fmt.Sprintf("%s decision %s %s %s for %s: %s", d.Time().UTC().Format(time.RFC3339Nano), d.ID, d.Action, d.Target, d.TTL, d.Why))
}

func (r *replayRun) print(v any, line string) {
	if r.text {
		_, r.err = fmt.Fprintln(r.out, line)
		return
	}
	r.err = json.NewEncoder(r.out).Encode(v)
}
