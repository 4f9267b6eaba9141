package advise

import (
	"context"
	"fmt"

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
			suspects = append(suspects, recommend.Suspect{Host: f.Host, Since: f.FirstSeen, Why: string(f.Kind)})
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

// suspicious reports whether a finding is reason enough not to learn from its
// host: one that might contain it, or a grave one.
func suspicious(f *detector.Finding) bool {
	grave := f.Severity == detector.SeverityHigh || f.Severity == detector.SeverityCritical
	return f.State == detector.StateFiring && f.Host.IsValid() && !f.Spoofed && (f.MayContain() || grave)
}
