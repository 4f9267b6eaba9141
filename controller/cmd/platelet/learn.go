package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response/learn"
	"github.com/platelet-sdn/platelet/controller/response/learn/simulate"
)

// learnFlags are those that the subcommands of platelet learn share.
type learnFlags struct{ config, state, output, why string }

func (f *learnFlags) add(cmd *cobra.Command, output, why bool) {
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&f.state, "state", "", "state directory of the controller (default that of the configuration)")
	if output {
		cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text, json or yaml")
	}
	if why {
		cmd.Flags().StringVar(&f.why, "why", "", "reason, kept with who did it")
	}
}

// settings are those of the configuration, with the directory of --state.
func (f *learnFlags) settings() (state string, l config.Learning, err error) {
	cfg := config.Default()
	if f.config != "" {
		if cfg, err = config.Load(f.config); err != nil {
			return "", l, err
		}
	}
	if state = f.state; state == "" {
		state = cfg.State.Dir
	}
	if state == "" {
		return "", l, usage("learn: the configuration has no state.dir; name one with --state")
	}
	return state, cfg.Response.Learning, nil
}

// report judges the log of the state directory.
func (f *learnFlags) report() (string, *learn.Report, error) {
	state, l, err := f.settings()
	if err != nil {
		return "", nil, err
	}
	log, err := learn.ReadLog(state)
	if err != nil {
		return "", nil, err
	}
	return state, log.Report(learn.Judge{Alpha: l.Alpha, MinSamples: l.MinSamples, Seed: 1}), nil
}

func learnCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "learn",
		Short: "Judge, promote and demote the learned choice of rungs",
		Long: `Judge, promote and demote the learned choice of rungs (response.learning). Every
choice is kept in the state directory with its context, what was open, the exact
probability of each rung, and what came of it; a running controller follows a
promotion or a demotion within seconds.`,
	}
	cmd.AddCommand(learnReportCommand(), learnLogCommand(), learnPromoteCommand(), learnDemoteCommand(), learnSimulateCommand())
	return cmd
}

func learnReportCommand() *cobra.Command {
	var f learnFlags
	cmd := &cobra.Command{
		Use: "report", Short: "Estimate what the learned policy would earn beside the playbooks", Args: cobra.NoArgs,
		Long: `Estimate from the log what the policy that can be learned from it would earn, beside
the playbooks' own rungs: by inverse propensity scores (IPS), the same
self-normalised (SNIPS) and doubly robust (DR), each with bounds of 95 % from
resampling hosts and victims. Models are fitted on other hosts than those they are
judged by. It says "not enough overlap" where the log cannot tell: a rung that never
had a chance has no estimate.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, r, err := f.report()
			if err != nil {
				return err
			}
			raw, err := json.Marshal(r)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return r.WriteText(out) })
		}}
	f.add(cmd, true, false)
	return cmd
}

// choiceLine is a row of platelet learn log.
type choiceLine struct {
	learn.Played
	Outcome *learn.Outcome `json:"outcome,omitempty"`
}

func learnLogCommand() *cobra.Command {
	var f learnFlags
	last := 20
	cmd := &cobra.Command{Use: "log", Short: "List what was chosen, and what came of it", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		state, _, err := f.settings()
		if err != nil {
			return err
		}
		log, err := learn.ReadLog(state)
		if err != nil {
			return err
		}
		for _, err := range log.Faults {
			fmt.Fprintln(cmd.ErrOrStderr(), err)
		}
		lines := []choiceLine{}
		for _, c := range log.Choices[max(0, len(log.Choices)-max(0, last)):] {
			line := choiceLine{Played: c}
			if o, ok := log.Outcomes[c.Decision]; ok {
				line.Outcome = &o
			}
			lines = append(lines, line)
		}
		raw, err := json.Marshal(lines)
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return choicesText(out, lines) })
	}}
	f.add(cmd, true, false)
	cmd.Flags().IntVar(&last, "last", last, "how many, the latest")
	return cmd
}

func choicesText(out io.Writer, lines []choiceLine) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tDECISION\tKIND\tTARGET\tMODE\tRULE\tWANTED\tPLAYED\tP\tREWARD")
	for i := range lines {
		c := &lines[i]
		reward := "-"
		switch o := c.Outcome; {
		case o != nil && o.Censored != "":
			reward = o.Censored
		case o != nil:
			reward = fmt.Sprintf("%.3f", o.Reward)
		}
		p := 0.0
		if j := slices.IndexFunc(c.Arms, func(a learn.Arm) bool { return a.Action == c.Action }); j >= 0 {
			p = c.Arms[j].Propensity
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.4g\t%s\n", c.Time.Format(time.DateTime), c.Decision, c.Kind, c.Target, c.Mode, c.Rule, c.Wanted, c.Action, p, reward)
	}
	return w.Flush()
}

func learnPromoteCommand() *cobra.Command {
	var f learnFlags
	cmd := &cobra.Command{
		Use: "promote", Short: "Let the learned policy act, where the log shows that it is better", Args: cobra.NoArgs,
		Long: `Let the learned policy act, in response.learning.mode: live. It is refused unless the
lower bound of its advantage over the playbooks is above zero, from enough decisions
about enough hosts; nothing overrides that. A policy that later earns less than
(1 - alpha) of what is expected of the playbooks is demoted by the controller itself.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, r, err := f.report()
			if err != nil {
				return err
			}
			if err := learn.Promote(state, r, operator(), f.why); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "promoted: %s\n", r.Verdict())
			return err
		}}
	f.add(cmd, false, true)
	return cmd
}

func learnDemoteCommand() *cobra.Command {
	var f learnFlags
	cmd := &cobra.Command{Use: "demote", Short: "Go back to the playbooks' own rungs", Args: cobra.NoArgs, RunE: func(*cobra.Command, []string) error {
		state, _, err := f.settings()
		if err != nil {
			return err
		}
		return learn.Demote(state, operator(), f.why)
	}}
	f.add(cmd, false, true)
	return cmd
}

func learnSimulateCommand() *cobra.Command {
	f := learnFlags{state: "-"} // which is not looked at
	plot, rounds, watched, seeds, delay := "", 4000, 200, 5, 5
	cmd := &cobra.Command{
		Use: "simulate MEASUREMENTS", Short: "Play the policy on incidents made from the lab's attack matrix", Args: cobra.ExactArgs(1),
		Long: `Play the policy on incidents made from measurements (platelet lab measure -o json),
in worlds in which the playbooks are too hard, as they come, and best; and show its
regret beside that of the playbooks and of the best single rung, and how much of the
playbooks' reward it had at the worst moment. What is measured and what is assumed:
the documentation of controller/response/learn/simulate.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, l, err := f.settings()
			if err != nil {
				return err
			}
			results, err := simulated(cmd, args[0], simulate.Options{Rounds: rounds, Watched: watched, Seeds: numbers(seeds), Alpha: l.Alpha, Explore: l.Explore, Delay: delay})
			if err != nil {
				return err
			}
			if plot != "" {
				if err := writePlot(plot, results); err != nil {
					return err
				}
			}
			raw, err := json.Marshal(results)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return simulate.WriteText(out, results) })
		}}
	cmd.Flags().StringVarP(&f.config, "config", "c", "", "configuration file, for alpha and explore")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text, json or yaml")
	cmd.Flags().StringVar(&plot, "plot", "", "write a picture of the regret to this file (SVG)")
	cmd.Flags().IntVar(&rounds, "rounds", rounds, "incidents in a run")
	cmd.Flags().IntVar(&watched, "watched", watched, "how many of them, the first, are in mode shadow")
	cmd.Flags().IntVar(&seeds, "runs", seeds, "runs, with the seeds 1, 2, 3 ...")
	cmd.Flags().IntVar(&delay, "delay", delay, "after how many further incidents a reward is known")
	return cmd
}

func simulated(cmd *cobra.Command, path string, o simulate.Options) ([]*simulate.Result, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	attacks, err := simulate.Read(in)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []*simulate.Result
	for _, w := range simulate.Worlds(attacks) {
		o.World = w
		r, err := simulate.Simulate(cmd.Context(), o)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// numbers are the first n, from 1.
func numbers(n int) []uint64 {
	var out []uint64
	for i := range n {
		out = append(out, uint64(i+1))
	}
	return out
}

func writePlot(path string, results []*simulate.Result) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	return simulate.WriteSVG(f, results)
}
