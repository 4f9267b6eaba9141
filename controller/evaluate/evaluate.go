package evaluate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// Options say what to hold against the sets.
type Options struct {
	// Detector and Response are the settings to evaluate. Detector.Emit is
	// taken.
	Detector detector.Config
	Response response.Config
	// Samplings to show the sets with; none is 1:1, 1:10, 1:100 and
	// tap+1:10.
	Samplings []Sampling
	// Seed decides which packets are sampled, and keys the sketches.
	Seed uint64
	// Unseen, if not nil, makes the settings for a set from Detector and the
	// other sets: a model that is tested on what it has not seen. They say
	// nothing else of the set.
	Unseen func(ctx context.Context, cfg detector.Config, others []Set) (detector.Config, error)
	// Progress is told what is being done; may be nil.
	Progress func(set, sampling string)
}

// Report is what came of it.
type Report struct {
	Sets []SetReport `json:"sets"`
	// Total sums the sets, a run per sampling and detector.
	Total []Run `json:"total"`
	// Skipped are the files in directories that are no recordings, with the
	// reason.
	Skipped map[string]string `json:"skipped,omitempty"`
}

// SetReport is what came of one set.
type SetReport struct {
	Name      string  `json:"name"`
	Records   int64   `json:"records"`
	Hours     float64 `json:"hours"`
	Malformed int64   `json:"malformed"`
	// Labelled is false when nothing in the set has a label: then no finding
	// can be judged.
	Labelled bool  `json:"labelled"`
	Runs     []Run `json:"runs"`
}

// Run is one detector, "platelet" or the name of a rule, on one sampling.
type Run struct {
	Sampling string `json:"sampling"`
	Detector string `json:"detector"`
	About    string `json:"about,omitempty"`
	// Records is how many records it was shown.
	Records int64  `json:"records"`
	Result  Result `json:"result"`
}

// product is the Detector of a run that is no rule.
const product = "platelet"

func defaultSamplings() []Sampling {
	return []Sampling{{Rate: 1}, {Rate: 10}, {Rate: 100}, {Rate: 10, Tap: true}}
}

// Evaluate holds the detectors, and the trivial rules, against sets.
func Evaluate(ctx context.Context, sets []Set, o Options) (*Report, error) {
	if len(o.Samplings) == 0 {
		o.Samplings = defaultSamplings()
	}
	report := &Report{Skipped: map[string]string{}}
	for i, set := range sets {
		sr, err := o.set(ctx, set, slices.Concat(sets[:i], sets[i+1:]))
		var unknown *replay.UnknownFormatError
		if errors.As(err, &unknown) && set.Guessed {
			report.Skipped[set.Name] = unknown.Error()
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("evaluate %s: %w", set.Name, err)
		}
		report.Sets = append(report.Sets, *sr)
	}
	report.total()
	return report, nil
}

// set evaluates one set.
func (o *Options) set(ctx context.Context, set Set, others []Set) (*SetReport, error) {
	truth, malformed, err := survey(ctx, set)
	if err != nil {
		return nil, err
	}
	cfg := o.Detector
	if o.Unseen != nil {
		if cfg, err = o.Unseen(ctx, cfg, others); err != nil {
			return nil, fmt.Errorf("learn from the other sets: %w", err)
		}
	}
	sr := &SetReport{Name: set.Name, Records: truth.records, Hours: float64(truth.end-truth.begin) / float64(hour),
		Malformed: malformed, Labelled: truth.labelled}
	for i, s := range o.Samplings {
		if o.Progress != nil {
			o.Progress(set.Name, s.String())
		}
		runs, err := o.run(ctx, cfg, set, truth, s, i == 0)
		if err != nil {
			return nil, err
		}
		sr.Runs = append(sr.Runs, runs...)
	}
	return sr, nil
}

// survey reads a set once, for its labels and for what its hosts do.
func survey(ctx context.Context, set Set) (*truth, int64, error) {
	t := newTruth(set.Labels)
	in, err := replay.Open(set.Inputs, replay.Options{Label: t.flowLabel})
	if err != nil {
		return nil, 0, err
	}
	defer in.Close()
	if err := each(ctx, in, t.record); err != nil {
		return nil, 0, err
	}
	t.seal()
	return t, in.Stats().Malformed, nil
}

// each gives every record to f.
func each(ctx context.Context, in Records, f func(*flow.Record)) error {
	var r flow.Record
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		switch err := in.Read(&r); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		f(&r)
	}
}

// run shows a set to the detectors and the rules, in one pass.
func (o *Options) run(ctx context.Context, cfg detector.Config, set Set, t *truth, s Sampling, watch bool) ([]Run, error) {
	told := tale{options: o, byID: map[string]int{}}
	cfg.Emit, cfg.Seed = told.finding, o.Seed
	engine, err := detector.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("detectors: %w", err)
	}
	var rules []*ruleRun
	for _, r := range t.rules() {
		rules = append(rules, &ruleRun{rule: r, silent: map[netip.Addr]int64{}})
	}
	in, err := replay.Open(set.Inputs, replay.Options{})
	if err != nil {
		return nil, err
	}
	defer in.Close()
	play, shown := detector.NewPlayback(engine), int64(0)
	err = each(ctx, s.Of(in, o.Seed), func(r *flow.Record) {
		shown++
		if watch {
			t.watch(r)
		}
		play.Observe(r)
		for _, u := range rules {
			u.observe(r)
		}
	})
	if err != nil {
		return nil, err
	}
	play.Finish()
	runs := []Run{{Sampling: s.String(), Detector: product, Records: shown, Result: t.score(told.alarms)}}
	for _, u := range rules {
		runs = append(runs, Run{Sampling: s.String(), Detector: u.name, About: u.about, Records: shown, Result: t.score(u.alarms).brief()})
	}
	return runs, nil
}

// brief leaves out the lists, which for a rule interest nobody.
func (r Result) brief() Result {
	r.Missed, r.Wrong = nil, nil
	return r
}

// tale is what a detector told: each finding once.
type tale struct {
	options *Options
	alarms  []alarm
	byID    map[string]int
}

// finding takes a finding when it fires, and when it fires again because another
// one corroborates it: what would be done may be known only then.
func (t *tale) finding(f detector.Finding) {
	if f.State != detector.StateFiring {
		return
	}
	a := t.options.alarm(f)
	i, again := t.byID[f.ID]
	if !again {
		t.byID[f.ID] = len(t.alarms)
		t.alarms = append(t.alarms, a)
		return
	}
	if was := &t.alarms[i]; a.contains && !was.contains {
		was.contains, was.target = true, a.target
	}
}

// alarm makes an alarm of a finding, with what the response would do.
func (o *Options) alarm(f detector.Finding) alarm {
	a := alarm{time: f.Time, mac: f.HostMAC, kind: f.Kind, severity: f.Severity, victims: f.Victims, why: describe(f)}
	if !f.Spoofed {
		a.host = Host{Addr: f.Host}
		if !f.Host.IsValid() {
			a.host.MAC = f.HostMAC
		}
	}
	if d, ok := response.Propose(o.Response, f, response.Circumstances{Now: time.Unix(0, f.Time)}); ok {
		_, protected := o.Response.Protected.Covers(d.Target.Host)
		a.contains, a.target = !protected, d.Target
	}
	return a
}

// total sums the sets' runs.
func (r *Report) total() {
	for i := range r.Sets {
		for j := range r.Sets[i].Runs {
			run := &r.Sets[i].Runs[j]
			sum := r.find(run)
			sum.Records += run.Records
			sum.Result.add(&run.Result)
		}
	}
	for i := range r.Total {
		r.Total[i].Result.finish()
	}
}

func (r *Report) find(like *Run) *Run {
	for i := range r.Total {
		if t := &r.Total[i]; t.Sampling == like.Sampling && t.Detector == like.Detector {
			return t
		}
	}
	r.Total = append(r.Total, Run{Sampling: like.Sampling, Detector: like.Detector, About: like.About})
	return &r.Total[len(r.Total)-1]
}
