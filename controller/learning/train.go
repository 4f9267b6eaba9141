package learning

import (
	"context"
	"errors"
	"fmt"

	"github.com/platelet-sdn/platelet/controller/evaluate"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
	"github.com/platelet-sdn/platelet/flowcollector/replay"
)

// Corpus is what a model is to be trained on.
type Corpus struct {
	Examples []model.Example
	Sets     []model.Set
	// Skipped counts stored windows that could not be used: malformed, or of
	// other features than this program's.
	Skipped int
}

// Collect reads labelled recordings, each once per sampling, and, where stateDir is not empty, the site's
// own history and verdicts.
func Collect(ctx context.Context, cfg detector.Config, sources []evaluate.Set, samplings []evaluate.Sampling, stateDir string) (Corpus, error) {
	var c Corpus
	for _, src := range sources {
		for _, sampling := range samplings {
			examples, set, err := Gather(ctx, cfg, src, sampling, len(c.Sets))
			var unknown *replay.UnknownFormatError
			if errors.As(err, &unknown) && src.Guessed {
				break
			}
			if err != nil {
				return Corpus{}, fmt.Errorf("learn from %s: %w", src.Name, err)
			}
			if len(examples) > 0 {
				c.Examples, c.Sets = append(c.Examples, examples...), append(c.Sets, set)
			}
		}
	}
	if stateDir == "" {
		return c, nil
	}
	return c, c.site(stateDir)
}

// site adds what the state directory holds.
func (c *Corpus) site(stateDir string) error {
	schema := detector.ModelSchema()
	verdicts, malformed, err := OpenVerdicts(stateDir).All()
	if err != nil {
		return fmt.Errorf("learn from verdicts: %w", err)
	}
	judged, skipped := examplesOf(verdicts, schema, len(c.Sets))
	c.Skipped += malformed + skipped
	if len(judged) > 0 {
		c.Examples, c.Sets = append(c.Examples, judged...), append(c.Sets, model.Set{Name: "verdicts of operators"})
	}
	past, skipped, err := OpenHistory(stateDir).Examples(schema, len(c.Sets), verdicts)
	if err != nil {
		return fmt.Errorf("learn from history: %w", err)
	}
	c.Skipped += skipped
	if len(past) > 0 {
		c.Examples, c.Sets = append(c.Examples, past...), append(c.Sets, model.Set{Name: "history of the site"})
	}
	return nil
}
