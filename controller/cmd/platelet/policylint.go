package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/lint"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

func policyLintCommand() *cobra.Command {
	var inventory, output string
	var at instant
	cmd := &cobra.Command{
		Use: "lint FILE...", Short: "Find what can hardly be meant: rules that never decide, groups of nobody, protected assets cut off", Args: cobra.MinimumNArgs(1),
		Long: `Find what is valid in policies and can hardly be meant.

  error    protected    a rule restricts what is protected: refused, exit code 2
  warning  cut-off      workloads can no longer reach what is protected
  warning  shadowed     rules before it decide all that a rule matches
  warning  redundant    without the rule every connection would fare the same
  warning  unreachable  a rule matches nothing, or nothing is left to it
  warning  expired      a policy is past its end
  warning  empty-group  nobody belongs to a group
  note     overlap      rules of one tier contradict each other on something
  note     unused       no policy speaks of a group or a service

Without --inventory the workloads are left open: told is what holds for every
inventory.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opt := lint.Options{Now: at.or(time.Now())}
			set, err := readPolicies(args)
			if err != nil {
				return err
			}
			if inventory != "" {
				inv, err := readInventory(inventory)
				if err != nil {
					return err
				}
				opt.Inventory = &inv
			}
			found := lintPolicies(set, opt)
			raw, err := json.Marshal(found)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), output, raw, func(out io.Writer, _ []byte) error {
				for _, f := range found {
					if f.Severity != lint.SeverityError { // which go where errors go
						fmt.Fprintf(out, "%s: %s: %s\n", f.Position(), f.Severity, describeFinding(f))
					}
				}
				return nil
			}); err != nil {
				return err
			}
			return lint.Faults(found)
		},
	}
	cmd.Flags().StringVar(&inventory, "inventory", "", "workloads: a list in YAML or JSON, or a containerlab topology")
	atFlag(cmd, &at, "time at which the policies come into force, RFC 3339 (now)")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	return cmd
}

// lintPolicies judges a set, and leaves out that NetworkPolicies isolate pods
// more than once: that is their nature.
func lintPolicies(set *policy.Set, opt lint.Options) []lint.Finding {
	return slices.DeleteFunc(append([]lint.Finding{}, lint.Check(set, opt)...), func(f lint.Finding) bool {
		return kubernetes.Isolates(f.Policy) && (f.Kind == lint.KindShadowed || f.Kind == lint.KindRedundant)
	})
}

// describeFinding names what a finding is about, and its kind.
func describeFinding(f lint.Finding) string {
	about := ""
	switch {
	case f.Rule != "":
		about = "rule " + f.Policy + "/" + f.Rule + " "
	case f.Policy != "":
		about = "policy " + f.Policy + " "
	}
	return fmt.Sprintf("%s%s [%s]", about, f.Message, f.Kind)
}

// checkPolicies reads the files of policies among those that are checked
// together, as they know each other's groups, and judges them.
func checkPolicies(reports []checkReport) error {
	var files []policy.Source
	byName := map[string]*checkReport{}
	for i := range reports {
		if r := &reports[i]; r.Kind == "policies" {
			files = append(files, policy.Source{Name: r.File, Data: r.raw})
			byName[r.File] = r
			r.Good = true
		}
	}
	if len(files) == 0 {
		return nil
	}
	set, err := readSet(files)
	var many strictyaml.Errors
	if errors.As(err, &many) {
		for _, fault := range many {
			r := byName[fault.File]
			if r == nil {
				return err
			}
			if err := r.adopt(fault); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range lintPolicies(set, lint.Options{Now: time.Now()}) {
		r := byName[f.File]
		switch {
		case r == nil: // about no place
		case f.Severity == lint.SeverityError:
			if err := r.adopt(&strictyaml.Error{File: f.File, Line: f.Line, Column: f.Column, Msg: describeFinding(f)}); err != nil {
				return err
			}
		case f.Severity == lint.SeverityWarning:
			r.Notes = append(r.Notes, fmt.Sprintf("%d:%d: %s", f.Line, f.Column, describeFinding(f)))
		}
	}
	return nil
}

// readSet reads files of policies, and translates those of Kubernetes.
func readSet(files []policy.Source) (*policy.Set, error) {
	sources, _, err := kubernetes.Mixed(kubernetes.Options{}, files)
	if err != nil {
		return nil, err
	}
	return policy.Read(sources...)
}
