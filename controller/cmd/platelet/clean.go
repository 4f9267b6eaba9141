package main

import (
	"fmt"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller"
)

func cleanCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "clean",
		Short: "Take everything of Platelet's off the switches, where no controller runs",
		Long: `Take everything of Platelet's off the bridges that the configuration names, rules,
policies, tap and hook, and put their telemetry back as it was before: what a
killed controller left behind, or one that keeps policies when it ends. Foreign
flows stay as they are. A bridge that a running controller holds is left alone:
exit code 1. With another ovs.base_table than the default the file must say so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := configured(file)
			if err != nil {
				return err
			}
			log := logrus.New()
			log.SetOutput(cmd.ErrOrStderr())
			log.SetLevel(logrus.ErrorLevel)
			clean, err := controller.Clean(cmd.Context(), cfg, log)
			for _, name := range clean {
				fmt.Fprintf(cmd.OutOrStdout(), "bridge %s is clean\n", name)
			}
			if err == nil && len(clean) == 0 {
				fmt.Fprintln(cmd.OutOrStdout(), "no bridge to clean")
			}
			return err
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}
