package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Look into segmentation policies, and try them without doing anything"}
	cmd.AddCommand(policyPrintCommand(), policySchemaCommand(), policyTraceCommand())
	cmd.AddCommand(policyImportCommand())
	cmd.AddCommand(policyVerifyCommand(), policyDiffCommand())
	cmd.AddCommand(policySimulateCommand(), policyRecommendCommand())
	return cmd
}

// readPolicies reads files of policies that belong together, and those of
// Kubernetes among them; "-" is standard input. Faults of the files are
// strictyaml.Errors: exit code 2.
func readPolicies(names []string) (*policy.Set, error) {
	files, err := policySources(names)
	if err != nil {
		return nil, err
	}
	return policy.Read(files...)
}

// policySources reads files, and translates those of Kubernetes together.
func policySources(names []string) ([]policy.Source, error) {
	var files, foreign []policy.Source
	for _, name := range names {
		raw, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		if src := (policy.Source{Name: name, Data: raw}); kubernetes.Is(raw) {
			foreign = append(foreign, src)
		} else {
			files = append(files, src)
		}
	}
	if len(foreign) > 0 {
		src, _, err := kubernetes.Translate(kubernetes.Options{}, foreign...)
		if err != nil {
			return nil, err
		}
		files = append(files, src)
	}
	return files, nil
}

func policyPrintCommand() *cobra.Command {
	return &cobra.Command{
		Use: "print FILE...", Short: "Print what the files say together, in the order in which it decides", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readPolicies(args)
			if err != nil {
				return err
			}
			raw, err := set.Marshal()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(raw)
			return err
		},
	}
}

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of policy files, for editors", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		_, err := cmd.OutOrStdout().Write(policy.Schema())
		return err
	}}
}
