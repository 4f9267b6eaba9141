package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func feedbackCommand() *cobra.Command {
	var c clientFlags
	var why string
	cmd := &cobra.Command{
		Use: "feedback ID true|false", Short: "Say whether a finding was right",
		Long: `Say whether a finding was right. The verdict is kept with who gave it, when and
why, and with the windows of the host behind the finding; the next platelet train
learns from it, and false counts against the rung that answered it. What one operator
says weighs little, and no more than twenty verdicts a day count fully in training.`,
		Args: cobra.ExactArgs(2), RunE: func(cmd *cobra.Command, args []string) error {
			if args[1] != "true" && args[1] != "false" {
				return usage("feedback: %q is not true or false", args[1])
			}
			n, err := c.client().Feedback(cmd.Context(), args[0], args[1] == "true", why)
			if err != nil {
				return err
			}
			if n == 0 {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "kept; no window of a host behind it is complete, so it teaches the classifier nothing yet: repeat it in a minute")
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "kept, with %d windows behind it\n", n)
			return err
		}}
	cmd.Flags().StringVar(&why, "why", "", "reason")
	c.add(cmd, false)
	return cmd
}
