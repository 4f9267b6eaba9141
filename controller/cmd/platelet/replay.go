package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller"
)

func replayCommand() *cobra.Command {
	var file, format string
	cmd := &cobra.Command{
		Use:   "replay INPUT...",
		Short: "Run recorded telemetry through the detectors, on recorded time",
		Long: `Run recorded telemetry through the detectors, on recorded time, and print
findings and would-be decisions. Inputs are recognised by content: pcap or
pcapng of export datagrams (sFlow, IPFIX, NetFlow) or of plain traffic, Zeek
conn.log (TSV, JSON, labelled), Argus binetflow, goflow2 JSON lines; each plain
or gzip-compressed; "-" is standard input. Several are merged by time.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" && format != "explain" {
				return usage("replay: output %q is not text, json or explain", format)
			}
			cfg, err := configured(file)
			if err != nil {
				return err
			}
			_, faults, err := controller.Replay(cmd.Context(), cfg, args, cmd.InOrStdin(), format, cmd.OutOrStdout())
			for _, f := range faults {
				fmt.Fprintln(cmd.ErrOrStderr(), f)
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text, json, or explain: text with the reasons of each finding")
	return cmd
}
