package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/evaluate"
)

func evaluateCommand() *cobra.Command {
	var file, labels, format string
	var samplings []string
	var seed uint64
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
be empty; host is an address, a prefix, an Ethernet address or *.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" && format != "markdown" {
				return usage("evaluate: output %q is not text, json or markdown", format)
			}
			cfg := config.Default()
			if file != "" {
				var err error
				if cfg, err = config.Load(file); err != nil {
					return err
				}
			}
			o := evaluate.Options{Detector: cfg.DetectorConfig(), Response: cfg.ResponseConfig(), Seed: seed}
			for _, text := range samplings {
				s, err := evaluate.ParseSampling(text)
				if err != nil {
					return usage("evaluate: %v", err)
				}
				o.Samplings = append(o.Samplings, s)
			}
			var extra []evaluate.HostLabel
			if labels != "" {
				var err error
				if extra, err = evaluate.LoadLabels(labels); err != nil {
					return err
				}
			}
			sets, err := evaluate.Find(args, extra)
			if err != nil {
				return err
			}
			o.Progress = func(set, sampling string) { fmt.Fprintln(cmd.ErrOrStderr(), set, sampling) }
			report, err := evaluate.Evaluate(cmd.Context(), sets, o)
			if err != nil {
				return err
			}
			return report.Print(cmd.OutOrStdout(), format)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&labels, "labels", "", "labels of hosts, for sets whose flows have none")
	cmd.Flags().StringSliceVar(&samplings, "sampling", []string{"1:1", "1:10", "1:100", "tap+1:10"}, "how much to show of each set: 1:N as sFlow would, tap+1:N with the connection tap")
	cmd.Flags().Uint64Var(&seed, "seed", 1, "decides which packets are sampled")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json or markdown")
	return cmd
}
