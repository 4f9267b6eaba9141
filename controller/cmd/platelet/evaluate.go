package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/evaluate"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// evaluateFlags are those of platelet evaluate.
type evaluateFlags struct {
	config, labels, format, model string
	samplings                     []string
	seed                          uint64
	cross                         bool
}

func evaluateCommand() *cobra.Command {
	var f evaluateFlags
	cmd := &cobra.Command{
		Use:   "evaluate DATASET...",
		Short: "Hold the detectors against labelled recordings, beside rules of one line",
		Long: `Hold the detectors against labelled recordings and say, host by host, which
attackers were found, how late, and who was found or would have been contained
without cause; always beside trivial rules of one line.

A dataset is a file that platelet replay reads, or a directory with a set per
file. Labels are those of the flows (Zeek, Argus, flow CSV), and of hosts in a
labels.csv beside the recordings, or named with --labels:

  set,host,from,to,kind,malicious

set (a set's name or directory), from, to (RFC 3339 or Unix seconds) and kind may
be empty; host is an address, a prefix, an Ethernet address or *.

With --cross the classifier that judges a set is trained on all the others. A model
that has seen the set, as the starter model has seen public ones, says nothing
about networks it has not seen.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&f.labels, "labels", "", "labels of hosts, for sets whose flows have none")
	cmd.Flags().StringVar(&f.model, "model", "starter", "the classifier's model: starter, none or a file")
	cmd.Flags().BoolVar(&f.cross, "cross", false, "train the classifier on the other sets, for each set")
	cmd.Flags().StringSliceVar(&f.samplings, "sampling", []string{"1:1", "1:10", "1:100", "tap+1:10"}, "how much to show of each set: 1:N as sFlow would, tap+1:N with the connection tap")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "decides which packets are sampled")
	cmd.Flags().StringVarP(&f.format, "output", "o", "text", "text, json or markdown")
	return cmd
}

func (f *evaluateFlags) run(cmd *cobra.Command, args []string) error {
	if f.format != "text" && f.format != "json" && f.format != "markdown" {
		return usage("evaluate: output %q is not text, json or markdown", f.format)
	}
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	var extra []evaluate.HostLabel
	if f.labels != "" {
		if extra, err = evaluate.LoadLabels(f.labels); err != nil {
			return err
		}
	}
	sets, err := evaluate.Find(args, extra)
	if err != nil {
		return err
	}
	report, err := evaluate.Evaluate(cmd.Context(), sets, o)
	if err != nil {
		return err
	}
	return report.Print(cmd.OutOrStdout(), f.format)
}

func (f *evaluateFlags) options(cmd *cobra.Command) (evaluate.Options, error) {
	cfg, err := configured(f.config)
	if err != nil {
		return evaluate.Options{}, err
	}
	books, err := cfg.LoadPlaybooks()
	if err != nil {
		return evaluate.Options{}, err
	}
	o := evaluate.Options{Detector: cfg.DetectorConfig(), Response: cfg.ResponseConfig(), Seed: f.seed}
	o.Response.Playbooks = books
	switch f.model {
	case "starter":
	case "none":
		o.Detector.Model.Active = nil
	default:
		m, err := learning.LoadFile(f.model)
		if err != nil {
			return o, err
		}
		o.Detector.Model.Active = m
	}
	if f.cross {
		o.Unseen = (&pupil{seed: max(f.seed, 1), gathered: map[string]learning.Corpus{}}).learn
	}
	for _, text := range f.samplings {
		s, err := evaluate.ParseSampling(text)
		if err != nil {
			return o, usage("evaluate: %v", err)
		}
		o.Samplings = append(o.Samplings, s)
	}
	o.Progress = func(set, sampling string) { fmt.Fprintln(cmd.ErrOrStderr(), set, sampling) }
	return o, nil
}

// pupil trains classifiers on some of the sets, and reads each of them once.
type pupil struct {
	seed     uint64
	gathered map[string]learning.Corpus
}

// learn trains a model from nothing on sets.
func (p *pupil) learn(ctx context.Context, cfg detector.Config, sets []evaluate.Set) (detector.Config, error) {
	o := model.Options{Schema: detector.ModelSchema(), Seed: p.seed, Prior: model.DefaultPrior, Budget: model.DefaultBudget,
		Who: operator(), Tool: toolVersion(), Created: time.Now(), Rising: detector.RisingFeatures()}
	var examples []model.Example
	for _, s := range sets {
		l, err := p.read(ctx, cfg, s)
		if err != nil {
			return cfg, err
		}
		for _, x := range l.Examples {
			x.Set += len(o.Sets)
			examples = append(examples, x)
		}
		o.Sets = append(o.Sets, l.Sets...)
	}
	m, err := model.Train(examples, o)
	if err != nil {
		return cfg, err
	}
	cfg.Model.Active = m
	return cfg, nil
}

func (p *pupil) read(ctx context.Context, cfg detector.Config, s evaluate.Set) (learning.Corpus, error) {
	if c, had := p.gathered[s.Name]; had {
		return c, nil
	}
	cfg.Seed = p.seed
	c, err := learning.Collect(ctx, cfg, []evaluate.Set{s}, []evaluate.Sampling{{Rate: 1}, {Rate: 10, Tap: true}}, "")
	if err == nil {
		p.gathered[s.Name] = c
	}
	return c, err
}
