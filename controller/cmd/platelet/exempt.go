package main

import (
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/detector"
)

func extendCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	cmd := &cobra.Command{Use: "extend ID", Short: "Hold a containment for at least this much longer", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.client().Extend(cmd.Context(), args[0], d)
		}}
	cmd.Flags().DurationVar(&d, "for", time.Hour, "how long from now")
	c.add(cmd, false)
	return cmd
}

func exemptCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	var kinds []string
	var why string
	var end bool
	cmd := &cobra.Command{Use: "exempt HOST", Short: "Leave a host alone for a time, and let it go if it is held",
		Long: `Leave a host alone for a time: a scanner with a licence, a machine under repair.
Findings about it are told as ever, and nothing is done about them. What holds it is
taken off at once. An operator's own quarantine of it is still possible.`,
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			host, err := netip.ParseAddr(args[0])
			if err != nil {
				return usage("exempt: %v", err)
			}
			if end {
				return c.client().Unexempt(cmd.Context(), host)
			}
			list := make([]detector.Kind, len(kinds))
			for i, k := range kinds {
				list[i] = detector.Kind(k)
			}
			return c.client().Exempt(cmd.Context(), host, list, d, why)
		}}
	cmd.Flags().DurationVar(&d, "for", time.Hour, "how long, at most 720h")
	cmd.Flags().StringSliceVar(&kinds, "kind", nil, "kinds of findings that it is exempt from; all without")
	cmd.Flags().StringVar(&why, "why", "", "reason")
	cmd.Flags().BoolVar(&end, "end", false, "end it")
	c.add(cmd, false)
	return cmd
}
