package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE...",
		Short: "Check configurations and topologies; errors as file:line:column, exit code 2",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all strictyaml.Errors
			for _, name := range args {
				raw, err := readFile(name)
				if err != nil {
					return fmt.Errorf("check: %w", err)
				}
				kind, err := checkFile(name, raw)
				var bad strictyaml.Errors
				switch {
				case errors.As(err, &bad):
					all = append(all, bad...)
				case err != nil:
					return err
				default:
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, good\n", name, kind)
				}
			}
			if len(all) > 0 {
				return all
			}
			return nil
		},
	}
}

// checkFile tells a topology from a configuration by what stands at its top.
func checkFile(name string, raw []byte) (kind string, err error) {
	var top map[string]yaml.Node
	if yaml.NewDecoder(bytes.NewReader(raw)).Decode(&top) == nil {
		if _, ok := top["topology"]; ok {
			t, err := clab.Load(name)
			if err != nil {
				return "topology", err
			}
			return "topology", runner.Check(t)
		}
	}
	_, err = config.Parse(name, raw)
	return "configuration", err
}
