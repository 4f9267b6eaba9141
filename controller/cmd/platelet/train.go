package main

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"runtime/debug"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/evaluate"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// trainFlags are those of platelet train.
type trainFlags struct {
	config, output, state, labels, base, why string
	from, without, sampling                  []string
	seed                                     uint64
	prior, budget, ceiling                   float64
	force                                    bool
}

func trainCommand() *cobra.Command {
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train the classifier on labelled recordings, the site's history and its verdicts",
		Long: `Train the supervised classifier (findings of kind learned-threat). Without --from
it learns from what the controller has kept in its state directory: verdicts that
operators gave with platelet feedback, and windows in which nobody was suspected.
With --from it learns from labelled recordings, as platelet evaluate reads them;
--state adds the site's own.

Training continues from the active model (--base none starts from nothing) and is
refused when it would turn over what that knows. The result becomes the candidate:
a running controller scores it beside the active model, without effect, until
platelet model promote finds it no worse. With -o it is written to a file instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file")
	cmd.Flags().StringVarP(&f.output, "output", "o", "", "write the model to this file, not to the state directory")
	cmd.Flags().StringSliceVar(&f.from, "from", nil, "labelled recordings, files or directories")
	cmd.Flags().StringSliceVar(&f.sampling, "sampling", []string{"1:1", "tap+1:10"}, "show each recording as it would be seen so: 1:N, tap+1:N")
	cmd.Flags().StringVar(&f.labels, "labels", "", "labels of hosts, for recordings whose flows have none")
	cmd.Flags().StringVar(&f.state, "state", "", "state directory of the controller (default that of the configuration; not read when -o and --from are given)")
	cmd.Flags().StringVar(&f.base, "base", "active", "model to continue from: active, none, starter, a version (v3) or a file")
	cmd.Flags().StringSliceVar(&f.without, "without", nil, "features not to learn from")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "the same seed and the same data give the same model")
	cmd.Flags().Float64Var(&f.prior, "prior", model.DefaultPrior, "share of threats among windows that is assumed in the field")
	cmd.Flags().Float64Var(&f.budget, "budget", model.DefaultBudget, "false windows per host-hour that the threshold lets through on held-out data")
	cmd.Flags().Float64Var(&f.ceiling, "ceiling", 0, "highest probability that the model may claim; 0 is no ceiling")
	cmd.Flags().StringVar(&f.why, "why", "", "reason, for the registry")
	cmd.Flags().BoolVar(&f.force, "force", false, "train even where it turns over what was known")
	return cmd
}

func (f *trainFlags) run(cmd *cobra.Command) error {
	cfg := config.Default()
	if f.config != "" {
		var err error
		if cfg, err = config.Load(f.config); err != nil {
			return err
		}
	}
	if f.state == "" && (f.output == "" || len(f.from) == 0) {
		f.state = cfg.State.Dir
	}
	base, err := baseModel(f.base, f.state)
	if err != nil {
		return err
	}
	corpus, err := f.corpus(cmd, cfg.DetectorConfig())
	if err != nil {
		return err
	}
	m, err := model.Train(corpus.Examples, model.Options{
		Schema: detector.ModelSchema(), Sets: corpus.Sets, Base: base, Seed: f.seed, Prior: f.prior, Budget: f.budget, Ceiling: f.ceiling,
		Who: operator(), Tool: toolVersion(), Created: time.Now(), Without: f.without, Rising: detector.RisingFeatures(), Force: f.force,
	})
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	if err := modelText(cmd.OutOrStdout(), m); err != nil {
		return err
	}
	if f.output != "" {
		return learning.SaveFile(f.output, m)
	}
	version, err := learning.OpenRegistry(f.state).Add(m, operator(), f.why)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "v%d is the candidate: scored beside the active model, without effect, until platelet model promote v%d\n", version, version)
	return err
}

func (f *trainFlags) corpus(cmd *cobra.Command, dc detector.Config) (learning.Corpus, error) {
	var extra []evaluate.HostLabel
	if f.labels != "" {
		var err error
		if extra, err = evaluate.LoadLabels(f.labels); err != nil {
			return learning.Corpus{}, err
		}
	}
	var sets []evaluate.Set
	if len(f.from) > 0 {
		var err error
		if sets, err = evaluate.Find(f.from, extra); err != nil {
			return learning.Corpus{}, err
		}
	}
	var samplings []evaluate.Sampling
	for _, text := range f.sampling {
		s, err := evaluate.ParseSampling(text)
		if err != nil {
			return learning.Corpus{}, usage("train: %v", err)
		}
		samplings = append(samplings, s)
	}
	dc.Seed = max(f.seed, 1)
	c, err := learning.Collect(cmd.Context(), dc, sets, samplings, f.state)
	if err == nil && c.Skipped > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d stored windows are unreadable or of other features, and left out\n", c.Skipped)
	}
	return c, err
}

// baseModel finds the model to continue from; nil for none. A model of other
// features than this program's cannot be continued, so "active" starts afresh
// then.
func baseModel(name, state string) (*model.Model, error) {
	switch name {
	case "none":
		return nil, nil
	case "active":
		if state == "" {
			return nil, nil
		}
		r := learning.OpenRegistry(state)
		s, err := r.State()
		if err != nil {
			return nil, err
		}
		m, err := r.Load(s.Active)
		if err != nil {
			return nil, err
		}
		if m.Schema.Fits(detector.ModelSchema()) != nil {
			return nil, nil
		}
		return m, nil
	}
	return namedModel(name, state)
}

// namedModel finds a model by version, as "starter", or in a file.
func namedModel(name, state string) (*model.Model, error) {
	if name == "starter" {
		return model.Starter()
	}
	if v, ok := versionOf(name); ok {
		return learning.OpenRegistry(state).Load(v)
	}
	return learning.LoadFile(name)
}

// versionOf reads v3 or 3.
func versionOf(s string) (int, bool) {
	v, err := strconv.Atoi(strings.TrimPrefix(s, "v"))
	return v, err == nil && v >= 0
}

// operator is who runs this process, behind sudo as well.
func operator() string {
	if s := os.Getenv("SUDO_USER"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}

func toolVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return "platelet " + info.Main.Version
	}
	return "platelet"
}

// modelText says what a model learned from and how well it does, beside the best
// rule of one line.
func modelText(out io.Writer, m *model.Model) error {
	p := &m.Provenance
	fmt.Fprintf(out, "model %.12s by %s (%s), %s, seed %d\n", m.Hash(), p.Who, p.Tool, p.Created.UTC().Format(time.RFC3339), p.Seed)
	if p.Base != "" {
		fmt.Fprintf(out, "continues %.12s\n", p.Base)
	}
	c := &m.Calibration
	fmt.Fprintf(out, "%d features (%.12s); reports windows from probability %.3f; calibrated on what was held out: %s; prior %g\n\n",
		len(m.Schema.Names), m.Schema.Hash, m.Threshold, c.Held, c.Prior)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "LEARNED FROM\tWINDOWS\tBENIGN\tMALICIOUS\tVERDICTS\tHOSTS\tFROM\tTO\tSHA-256")
	for _, s := range p.Sets {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%.12s\n", s.Name, s.Windows, s.Benign, s.Malicious, s.Verdicts, s.Hosts,
			s.From.Format(time.DateTime), s.To.Format(time.DateTime), s.SHA256)
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, "HELD OUT\tAUC\tATTACKERS FOUND\tFALSE/HOST-HOUR\tBEST RULE ELSEWHERE\tAUC\tFOUND\tFALSE/HOST-HOUR")
	for _, x := range m.Metrics {
		side := ">="
		if x.Rule.Below {
			side = "<"
		}
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s %s %.3g\t%s\t%d\t%s\n", x.Set, auc(x.AUC, x), x.Found, x.Attackers, rate(x.False, x),
			x.Rule.Feature, side, x.Rule.Cut, auc(x.Rule.AUC, x), x.Rule.Found, rate(x.Rule.False, x))
	}
	return w.Flush()
}

func auc(v float64, x model.Metric) string {
	if x.Malicious == 0 || x.Benign == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func rate(v float64, x model.Metric) string {
	if x.Benign == 0 {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
