package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/lab/wire"
)

// longestAttack bounds what can be asked for.
const longestAttack = time.Hour

// attackFlags say how an attack is run.
type attackFlags struct {
	rate    float64
	packets uint64
	limit   time.Duration
	seed    uint64
	truth   string
	format  string
}

func (f *attackFlags) register(cmd *cobra.Command) {
	cmd.Flags().Float64Var(&f.rate, "rate", 0, "packets or attempts per second; the attack's own when 0")
	cmd.Flags().Uint64Var(&f.packets, "packets", 0, "at most so many packets; ten million when 0")
	cmd.Flags().DurationVar(&f.limit, "for", 10*time.Second, "at most so long")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "what agents choose at random is the same for the same seed")
	cmd.Flags().StringVar(&f.truth, "truth", "", "write a line of JSON per action to this file; - is standard output")
	cmd.Flags().StringVarP(&f.format, "output", "o", "text", "text or json")
}

// check refuses what makes no sense before anything is started.
func (f *attackFlags) check() error {
	switch {
	case f.format != "text" && f.format != "json":
		return usage("output %q is not text or json", f.format)
	case f.rate < 0 || f.rate > wire.MaxRate || math.IsNaN(f.rate):
		return usage("rate %v: want 0 to %d packets/s", f.rate, wire.MaxRate)
	case f.limit <= 0 || f.limit > longestAttack:
		return usage("for %v: want more than nothing and at most %v", f.limit, longestAttack)
	}
	return nil
}

// find finds the attacks of a list of names.
func (f *attackFlags) find(names string) ([]attack.Attack, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	var all []attack.Attack
	for _, name := range strings.Split(names, ",") {
		a, err := attack.Find(strings.TrimSpace(name))
		if err != nil {
			return nil, usage("%v", err)
		}
		if a.Tool() != "" && (f.rate != 0 || f.packets != 0) {
			return nil, usage("%s is run by %s, which keeps its own rate and count", a.Name, a.Tool())
		}
		all = append(all, a)
	}
	return all, nil
}

// summary is what came of an attack.
type summary struct {
	Attack  string  `json:"attack"`
	From    string  `json:"from"`
	Packets uint64  `json:"packets"`
	Bytes   uint64  `json:"bytes,omitempty"` // of raw frames, on the wire
	Seconds float64 `json:"seconds"`         // from the first packet to the last
	Rate    float64 `json:"rate_pps"`        // in between
	// Counted says who counted: the agents themselves, or the attackers'
	// interfaces, with whatever else left there.
	Counted string `json:"counted_by"`
}

func newSummary(a attack.Attack, from string, s agent.Spent) summary {
	return summary{Attack: a.Name, From: from, Packets: s.Packets, Bytes: s.Bytes, Seconds: s.Last.Sub(s.First).Seconds(), Rate: s.Rate(), Counted: "agents"}
}

// report runs an attack with the settings, and shows its summaries. Ground
// truth is complete when it returns, also after an error.
func (f *attackFlags) report(cmd *cobra.Command, run func(set attack.Settings, show func(summary) error) error) (err error) {
	out := cmd.OutOrStdout()
	set := attack.Settings{Seed: f.seed, Rate: f.rate, Packets: f.packets, For: f.limit, Once: true}
	switch f.truth {
	case "":
	case "-":
		set.Truth, out = agent.NewTruth(out), cmd.ErrOrStderr()
	default:
		file, openErr := os.Create(f.truth)
		if openErr != nil {
			return fmt.Errorf("ground truth: %w", openErr)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		set.Truth = agent.NewTruth(file)
	}
	defer func() { err = errors.Join(err, set.Truth.Flush()) }()
	return run(set, func(s summary) error { return f.show(out, s) })
}

func (f *attackFlags) show(out io.Writer, s summary) error {
	if f.format == "json" {
		return json.NewEncoder(out).Encode(s)
	}
	_, err := fmt.Fprintf(out, "%s from %s: %d packets in %.3f s, %.1f packets/s\n", s.Attack, s.From, s.Packets, s.Seconds, s.Rate)
	return err
}

func labAttack(o *runner.Options) *cobra.Command {
	var f attackFlags
	var list bool
	var from string
	cmd := &cobra.Command{
		Use: "attack LAB|TOPOLOGY ATTACK[,ATTACK...]", Short: "Attack a running lab once, or list the attacks", Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				if len(args) > 0 {
					return usage("lab attack: --list takes no arguments")
				}
				return f.list(cmd.OutOrStdout())
			}
			if len(args) != 2 {
				return usage("lab attack: name a running lab and an attack, or say --list")
			}
			all, err := f.find(args[1])
			if err != nil {
				return err
			}
			name, err := labName(args[0], o)
			if err != nil {
				return err
			}
			lab, err := runner.Open(name, *o)
			if err != nil {
				return err
			}
			roles, err := attack.Cast(lab, 0)
			if from != "" {
				roles, err = attack.CastFrom(lab, from)
			}
			if err != nil {
				return err
			}
			return f.report(cmd, func(set attack.Settings, show func(summary) error) error {
				for _, a := range all {
					s, err := attackOnce(cmd.Context(), lab, a, roles, set)
					if err != nil {
						return err
					}
					if err := show(s); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&list, "list", false, "list the attacks")
	cmd.Flags().StringVar(&from, "from", "", "the node to attack from; the first labelled role=attacker when empty")
	return cmd
}

// attackOnce runs an attack to its end and undoes what it prepared.
func attackOnce(ctx context.Context, lab *runner.Lab, a attack.Attack, roles attack.Roles, set attack.Settings) (s summary, err error) {
	undo, err := a.Prepare(ctx, lab, roles)
	if err != nil {
		return summary{}, fmt.Errorf("prepare %s: %w", a.Name, err)
	}
	defer func() { err = errors.Join(err, undo(context.WithoutCancel(ctx))) }()
	counter, err := attack.NewCounter(lab, roles)
	if err != nil {
		return summary{}, err
	}
	defer counter.Close()
	before, err := counter.Sent()
	if err != nil {
		return summary{}, err
	}
	start := time.Now()
	run, err := a.Start(ctx, lab, roles, set)
	if err != nil {
		return summary{}, err
	}
	<-run.Done()
	took := time.Since(start).Seconds()
	if err := run.Stop(); err != nil {
		return summary{}, err
	}
	if err := ctx.Err(); err != nil {
		return summary{}, fmt.Errorf("attack %s: %w after %.3f s", a.Name, err, took)
	}
	if spent := run.Spent(); spent.Packets > 0 {
		return newSummary(a, roles.Attacker, spent), nil
	}
	after, err := counter.Sent()
	if err != nil {
		return summary{}, err
	}
	return summary{Attack: a.Name, From: roles.Attacker, Packets: after - before, Seconds: took, Rate: float64(after-before) / took, Counted: "interface"}, nil
}

// entry is a line of the catalogue.
type entry struct {
	Name      string `json:"name"`
	Finding   string `json:"finding"`
	Action    string `json:"action"`
	Technique string `json:"technique"`
	Tool      string `json:"tool,omitempty"`
	About     string `json:"about"`
	Flood     bool   `json:"flood,omitempty"`
	Spoofed   bool   `json:"spoofed,omitempty"`
}

// list prints the catalogue.
func (f *attackFlags) list(out io.Writer) error {
	if err := f.check(); err != nil {
		return err
	}
	var all []entry
	for _, a := range attack.All() {
		all = append(all, entry{a.Name, a.Finding, a.Action, a.Technique, a.Tool(), a.About(), a.Flood, a.Spoofed})
	}
	if f.format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tFINDING\tACTION\tTECHNIQUE\tBY\tABOUT")
	for _, e := range all {
		by := e.Tool
		if by == "" {
			by = "agents"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", e.Name, e.Finding, e.Action, e.Technique, by, e.About)
	}
	return w.Flush()
}
