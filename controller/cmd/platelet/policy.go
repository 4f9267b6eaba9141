package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Look into segmentation policies, and try them without doing anything"}
	cmd.AddCommand(policyPrintCommand(), policySchemaCommand(), policyTraceCommand(), policyCompileCommand())
	cmd.AddCommand(policyImportCommand(), policyLintCommand())
	cmd.AddCommand(policyVerifyCommand(), policyDiffCommand())
	cmd.AddCommand(policySimulateCommand(), policyRecommendCommand())
	cmd.AddCommand(livePolicyCommands()...)
	return cmd
}

// readPolicies reads files of policies that belong together, and those of
// Kubernetes among them; "-" is standard input. Faults of the files are
// strictyaml.Errors: exit code 2.
func readPolicies(names []string) (*policy.Set, error) {
	var files []policy.Source
	for _, name := range names {
		raw, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		files = append(files, policy.Source{Name: name, Data: raw})
	}
	return readSet(files)
}

func policySchemaCommand() *cobra.Command {
	return &cobra.Command{Use: "schema", Short: "Print the JSON Schema of policy files, for editors", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		_, err := cmd.OutOrStdout().Write(policy.Schema())
		return err
	}}
}
