package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/durable"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/report"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func attackNames() []string {
	var names []string
	for _, a := range attack.All() {
		names = append(names, a.Name)
	}
	return names
}

// chosen spells a choice of attacks out: all is every one, agents those that
// our own agents play, tools those that attackers' tools run.
func chosen(names []string) []string {
	var out []string
	for _, name := range names {
		switch name {
		case "all", "agents", "tools":
			for _, a := range attack.All() {
				if name == "all" || (name == "tools") == (a.Tool() != "") {
					out = append(out, a.Name)
				}
			}
		default:
			out = append(out, name)
		}
	}
	return out
}

// blindPatience is how long an attack that the controller has no detector for
// may go on: long enough for another one to notice it.
const blindPatience = 4 * time.Second

// measuring is the command line of a measurement.
type measuring struct {
	attacks, others []string
	benign, format  string
	truth, save     string
	markdown        string
	matrix, resume  bool
	runs, blindRuns int
	releases        int
	seed            uint64
	patience, hold  time.Duration
	warmUp          time.Duration
}

func labMeasure(o *runner.Options) *cobra.Command {
	var m measuring
	cmd := &cobra.Command{
		Use: "measure TOPOLOGY...", Short: "Attack a lab again and again, and measure the controller from packet captures",
		Long: `Brings each topology up, starts honest traffic and a controller on it, runs the
attacks, and measures from captures on the hosts' interfaces: whether and when
each was detected, by the right name, and contained; what was delivered; which
honest flows were harmed before, during and after; who was contained without
cause; and how long after the attack's end the controller let go.

--matrix runs the whole catalogue of attacks and keeps the samples, but of each
attack only the timeline of its median run.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return m.run(cmd, args, *o) },
	}
	addReconfigure(cmd, o)
	f := cmd.Flags()
	f.StringSliceVar(&m.attacks, "attack", []string{"port-scan"}, "attacks by name, or all, agents (those that our own agents play) or tools: "+strings.Join(attackNames(), ", "))
	f.StringSliceVar(&m.others, "others", nil, "attacks for the topologies after the first; the same ones when empty")
	f.StringVar(&m.benign, "benign", "", "profile of honest traffic (default: what the lab's labels suggest)")
	f.IntVar(&m.runs, "runs", 20, "how often to run each attack")
	f.IntVar(&m.blindRuns, "blind-runs", 1, "how often to run an attack that the controller has no detector for")
	f.IntVar(&m.releases, "release", 3, "in how many runs of each attack to wait until the controller lets go")
	f.Uint64Var(&m.seed, "seed", 1, "what agents choose at random follows from it")
	f.DurationVar(&m.patience, "patience", 8*time.Second, "how long an attack may go on uncontained; at most 4s where there is no detector, more for slow ones")
	f.DurationVar(&m.hold, "hold", time.Second, "how long containment must hold under continued attack")
	f.DurationVar(&m.warmUp, "warm-up", warmUp, "how long honest traffic runs before the first attack")
	f.StringVar(&m.truth, "truth", "", "directory for the ground truth: a line per action of each agent")
	f.BoolVar(&m.matrix, "matrix", false, "every attack (unless --attack names some) on every topology")
	f.StringVar(&m.save, "save", "", "keep the report in PREFIX.json and PREFIX.html, brought up to date after each attack")
	f.BoolVar(&m.resume, "resume", false, "do not measure again what PREFIX.json holds already")
	f.StringVar(&m.markdown, "markdown", "", "write the scoreboard into this file, between its markers")
	f.StringVarP(&m.format, "output", "o", "text", "text, json, html or markdown")
	return cmd
}

// run measures and reports, also what there is when it was interrupted.
func (m measuring) run(cmd *cobra.Command, args []string, o runner.Options) error {
	render, err := report.Format(m.format)
	if err != nil {
		return usage("lab measure: %v", err)
	}
	labs, err := m.configure(cmd, args, o)
	if err != nil {
		return err
	}
	before, err := m.earlier()
	if err != nil {
		return err
	}
	before.Machine, before.Command, before.Seed = measure.ThisMachine(cmd.Context()), m.command(args, cmd.Flags().Changed("attack")), m.seed
	r, err := measure.Matrix(cmd.Context(), before, labs, m.keep)
	if len(r.Labs) == 0 {
		return err
	}
	if m.matrix {
		r = r.Slim()
	}
	if m.markdown != "" {
		err = errors.Join(err, report.UpdateMarkdown(m.markdown, r))
	}
	return errors.Join(err, render(cmd.OutOrStdout(), r), incomplete(r))
}

// incomplete is an error when an attack could not be run as often as it should
// be. That one was not detected or not contained is a result, and none.
func incomplete(r measure.Report) error {
	var names []string
	for _, l := range r.Labs {
		for _, a := range l.Attacks {
			if a.Error != "" {
				names = append(names, l.Name+" "+a.Name)
			}
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("not measured to the end: %s", strings.Join(names, ", "))
}

// configure turns the command line into what is to be measured on each lab.
func (m measuring) configure(cmd *cobra.Command, args []string, o runner.Options) ([]measure.Config, error) {
	switch {
	case m.runs < 1 || m.runs > 1000:
		return nil, usage("lab measure: %d runs, want 1 to 1000", m.runs)
	case m.blindRuns < 0 || m.releases < 0:
		return nil, usage("lab measure: a negative number of runs")
	case m.patience <= 0 || m.hold <= 0 || m.warmUp <= 0:
		return nil, usage("lab measure: --patience, --hold and --warm-up must be positive")
	case o.Name != "" && len(args) > 1:
		return nil, usage("lab measure: %d topologies cannot all be called %s", len(args), o.Name)
	case m.resume && m.save == "":
		return nil, usage("lab measure: --resume needs --save")
	}
	if m.matrix && !cmd.Flags().Changed("attack") {
		m.attacks = []string{"all"}
	}
	if m.truth != "" {
		if err := os.MkdirAll(m.truth, 0o755); err != nil {
			return nil, fmt.Errorf("ground truth: %w", err)
		}
	}
	var kinds []string
	for k := range config.Default().Response.Actions {
		kinds = append(kinds, string(k))
	}
	var labs []measure.Config
	for i, file := range args {
		t, err := clab.Load(file)
		if err != nil {
			return nil, err
		}
		c := measure.Config{
			Topology: t, Options: o, Attacks: chosen(m.attacks), Benign: m.benign, Runs: m.runs, Releases: m.releases, Controller: labControllerFor(m.benign),
			Kinds: kinds, BlindRuns: cmp.Or(m.blindRuns, m.runs), Patience: m.patience, BlindPatience: min(m.patience, blindPatience), Hold: m.hold,
			WarmUp: m.warmUp, Seed: m.seed, Truth: m.truth, Log: cmd.ErrOrStderr(),
		}
		if i > 0 && len(m.others) > 0 {
			c.Attacks = chosen(m.others)
		}
		labs = append(labs, c)
	}
	return labs, nil
}

// earlier is the report that this measurement continues.
func (m measuring) earlier() (measure.Report, error) {
	if !m.resume {
		return measure.Report{}, nil
	}
	r, err := readReport(m.save + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		return measure.Report{}, nil
	}
	if err == nil && r.Seed != m.seed {
		err = fmt.Errorf("%s.json was measured with seed %d, not %d", m.save, r.Seed, m.seed)
	}
	r.Interrupted = false
	return r, err
}

// command is what was measured, without where reports went.
func (m measuring) command(args []string, named bool) []string {
	words := []string{"platelet", "lab", "measure"}
	for _, a := range args {
		words = append(words, filepath.Base(a))
	}
	add := func(name, value string) { words = append(words, "--"+name, value) }
	if m.matrix {
		words = append(words, "--matrix")
	}
	if named || !m.matrix {
		add("attack", strings.Join(m.attacks, ","))
	}
	if len(m.others) > 0 {
		add("others", strings.Join(m.others, ","))
	}
	if m.benign != "" {
		add("benign", m.benign)
	}
	add("runs", fmt.Sprint(m.runs))
	add("blind-runs", fmt.Sprint(m.blindRuns))
	add("release", fmt.Sprint(m.releases))
	add("patience", m.patience.String())
	add("seed", fmt.Sprint(m.seed))
	return words
}

// keep brings the files of a report that is kept up to date.
func (m measuring) keep(r measure.Report) error {
	if m.save == "" {
		return nil
	}
	if m.matrix {
		r = r.Slim()
	}
	err := errors.Join(
		durable.Write(m.save+".json", 0o644, func(w io.Writer) error { return report.JSON(w, r) }),
		durable.Write(m.save+".html", 0o644, func(w io.Writer) error { return report.HTML(w, r) }),
	)
	if err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	return nil
}

func readReport(path string) (measure.Report, error) {
	var r measure.Report
	raw, err := os.ReadFile(path)
	if err != nil {
		return r, fmt.Errorf("read the report: %w", err)
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("%s: not a report: %w", path, err)
	}
	if r.Schema != measure.Schema {
		return r, fmt.Errorf("%s: not a report of measurements in the form %s", path, measure.Schema)
	}
	return r, nil
}

// labReport shows a report that was kept.
func labReport() *cobra.Command {
	var format, markdown string
	cmd := &cobra.Command{Use: "report FILE.json", Short: "Show a report of measurements that was kept", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		render, err := report.Format(format)
		if err != nil {
			return usage("lab report: %v", err)
		}
		r, err := readReport(args[0])
		if err != nil {
			return err
		}
		if markdown != "" {
			return report.UpdateMarkdown(markdown, r)
		}
		return render(cmd.OutOrStdout(), r)
	}}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json, html or markdown")
	cmd.Flags().StringVar(&markdown, "markdown", "", "write the scoreboard into this file, between its markers, instead")
	return cmd
}
