package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/advise"
)

func policySimulateCommand() *cobra.Command {
	var records []string
	var inventory, output string
	cmd := &cobra.Command{
		Use: "simulate FILE... --records INPUT", Short: "Say whom policies would have denied what, in recorded traffic", Args: cobra.MinimumNArgs(1),
		Long: `Hold policies against recorded connections, on recorded time, and report what the
enforced ones deny and what the staged ones would deny or allow besides: hosts,
connections, conversations and bytes, per rule with the busiest examples, whether
anybody serves what is denied, and the rules that were never hit.

Records are everything that replay reads: captures of export datagrams or of
plain traffic, Zeek, Argus and goflow2 logs; "-" is standard input. --records may
be given several times.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "text" && output != "json" {
				return usage("policy simulate: output %q is not text or json", output)
			}
			set, err := readPolicies(args)
			if err != nil {
				return err
			}
			inv, err := readInventory(inventory)
			if err != nil {
				return err
			}
			report, faults, err := advise.Simulate(cmd.Context(), set, inv, advise.Records{Inputs: records, Stdin: cmd.InOrStdin()})
			for _, f := range faults {
				fmt.Fprintln(cmd.ErrOrStderr(), f)
			}
			if err != nil {
				return err
			}
			if output == "json" {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(report)
			}
			return report.WriteText(cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringArrayVarP(&records, "records", "r", nil, "recorded telemetry")
	inventoryFlag(cmd, &inventory)
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	_ = cmd.MarkFlagRequired("records") // it has one
	return cmd
}
