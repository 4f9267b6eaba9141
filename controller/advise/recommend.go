package advise

import (
	"context"
	"fmt"
	"time"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/flowcollector/flow"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
	"github.com/platelet-sdn/platelet/segmentation/connection"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/recommend"
)

// replaySeed keys the detectors' sketches, so that a recording gives the same
// policy every time.
const replaySeed = 1

// Recommend learns a policy from recorded connections. The detectors of the
// configuration look at the recording first: what hosts opened since a finding
// stands against them is not learned.
func Recommend(ctx context.Context, cfg config.File, inv policy.Inventory, in Records, o recommend.Options) (*recommend.Recommendation, []*replay.Fault, error) {
	var suspects []recommend.Suspect
	dc := cfg.DetectorConfig()
	dc.Seed = replaySeed
	dc.Emit = func(f detector.Finding) {
		if suspicious(&f) {
			suspects = append(suspects, suspect(&f))
		}
	}
	engine, err := detector.New(dc)
	if err != nil {
		return nil, nil, fmt.Errorf("recommend: detectors: %w", err)
	}
	play, table := detector.NewPlayback(engine), connection.New(connection.Config{})
	faults, err := in.each(ctx, func(batch []flow.Record) error {
		for i := range batch {
			play.Observe(&batch[i])
			table.Observe(&batch[i])
		}
		return nil
	})
	if err != nil {
		return nil, faults, fmt.Errorf("recommend: %w", err)
	}
	play.Finish()
	r, err := recommend.Recommend(recommend.Input{Connections: table.All(), Stats: table.Stats(), Inventory: inv, Suspects: suspects}, o)
	return r, faults, err
}

// FromConnections learns a policy from what a controller has seen; findings are
// all that it had meanwhile.
func FromConnections(list []connection.Entry, stats connection.Stats, inv policy.Inventory, findings []detector.Finding, o recommend.Options) (*recommend.Recommendation, error) {
	var suspects []recommend.Suspect
	for i := range findings {
		f := findings[i]
		f.State = detector.StateFiring // it did
		if suspicious(&f) {
			suspects = append(suspects, suspect(&f))
		}
	}
	return recommend.Recommend(recommend.Input{Connections: list, Stats: stats, Inventory: inv, Suspects: suspects}, o)
}

func suspect(f *detector.Finding) recommend.Suspect {
	return recommend.Suspect{Host: f.Host, Since: f.FirstSeen - int64(prelude), Why: string(f.Kind)}
}

// prelude is how long before a finding's evidence begins its host may have
// been at it.
const prelude = 10 * time.Second

// suspicious reports whether a finding is reason enough not to learn from its
// host. That is more than it takes to act: a rule that is missing is seen when
// the policy is tried, one that should not be there is not.
func suspicious(f *detector.Finding) bool {
	return f.State == detector.StateFiring && f.Host.IsValid() && !f.Spoofed && f.Severity != detector.SeverityLow
}
