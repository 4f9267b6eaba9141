package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func labCommand() *cobra.Command {
	var o runner.Options
	cmd := &cobra.Command{Use: "lab", Short: "Run containerlab topologies on this machine, attack them, and measure"}
	cmd.PersistentFlags().StringVar(&o.Name, "name", "", "run the topology under another name")
	cmd.PersistentFlags().StringVar(&o.DB, "db", runner.SystemDB, "OVSDB endpoint of the switch that the bridges are made in")
	cmd.PersistentFlags().StringVar(&o.StateDir, "state-dir", runner.DefaultStateDir, "where running labs are recorded")
	cmd.AddCommand(labUp(&o), labDown(&o), labLs(&o), labExec(&o), labCheck(), labDemo(&o), labMeasure(&o), labReport(), labBenchPeer(&o), labImport(&o), labDraw())
	cmd.AddCommand(labAttack(&o), labAgent(&o))
	return cmd
}

func labUp(o *runner.Options) *cobra.Command {
	cmd := &cobra.Command{Use: "up TOPOLOGY", Short: "Bring a topology up", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		t, err := clab.Load(args[0])
		if err != nil {
			return err
		}
		l, err := runner.Up(cmd.Context(), t, *o)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "lab %s is up: %d nodes\n", l.Name(), len(l.Nodes()))
		return nil
	}}
	addReconfigure(cmd, o)
	return cmd
}

// addReconfigure lets a command that brings a lab up clear one of the same
// name away, which a crash may have left.
func addReconfigure(cmd *cobra.Command, o *runner.Options) {
	cmd.Flags().BoolVar(&o.Reconfigure, "reconfigure", false, "take a lab of the same name down first")
}

func labDown(o *runner.Options) *cobra.Command {
	var all bool
	cmd := &cobra.Command{Use: "down TOPOLOGY|LAB", Short: "Take a lab down, whatever a crash left of it", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if all != (len(args) == 0) {
			return usage("lab down: name a topology or lab, or say --all")
		}
		if all {
			return runner.DownAll(cmd.Context(), *o)
		}
		name, err := labName(args[0], o)
		if err != nil {
			return err
		}
		return runner.Down(cmd.Context(), name, *o)
	}}
	cmd.Flags().BoolVar(&all, "all", false, "take every lab down, also those that only left traces")
	return cmd
}

// labName takes a topology file or the name of a lab.
func labName(arg string, o *runner.Options) (string, error) {
	if o.Name != "" {
		return o.Name, nil
	}
	labs, err := runner.List(*o)
	if err != nil {
		return "", err
	}
	if _, running := labs[arg]; running {
		return arg, nil
	}
	t, err := clab.Load(arg)
	if err != nil {
		return "", fmt.Errorf("lab %s does not run, and is no topology either: %w", arg, err)
	}
	return t.Name, nil
}

func labLs(o *runner.Options) *cobra.Command {
	var format string
	cmd := &cobra.Command{Use: "inspect [LAB]", Aliases: []string{"ls"}, Short: "List running labs and their nodes, in the shape of containerlab inspect", Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		labs, err := runner.List(*o)
		if err != nil {
			return err
		}
		if only := append(args, o.Name)[0]; only != "" {
			if _, ok := labs[only]; !ok {
				return fmt.Errorf("lab %s is not up", only)
			}
			labs = map[string][]runner.Container{only: labs[only]}
		}
		return printLabs(cmd.OutOrStdout(), format, labs)
	}}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json or yaml")
	return cmd
}

func printLabs(out io.Writer, format string, labs map[string][]runner.Container) error {
	switch format {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(labs)
	case "yaml":
		return yaml.NewEncoder(out).Encode(labs)
	case "text":
		w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "LAB\tNAME\tKIND\tSTATE\tIPV4\tIPV6")
		names := make([]string, 0, len(labs))
		for n := range labs {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, n := range names {
			for _, c := range labs[n] {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", c.LabName, c.Name, c.Kind, c.State, c.IPv4Address, c.IPv6Address)
			}
		}
		return w.Flush()
	}
	return usage("output %q is not text, json or yaml", format)
}

// oneLab finds the lab that is meant when none is named.
func oneLab(name string, o *runner.Options) (string, error) {
	if name != "" {
		return name, nil
	}
	if o.Name != "" {
		return o.Name, nil
	}
	labs, err := runner.List(*o)
	if err != nil {
		return "", err
	}
	if len(labs) != 1 {
		return "", usage("lab exec: %d labs run; say which with --lab", len(labs))
	}
	for n := range labs {
		name = n
	}
	return name, nil
}
