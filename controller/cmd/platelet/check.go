package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/runner"
	"github.com/platelet-sdn/platelet/segmentation/kubernetes"
	"github.com/platelet-sdn/platelet/segmentation/strictyaml"
)

// checkReport is what is known of one file.
type checkReport struct {
	File string `json:"file"`
	Kind string `json:"kind"` // configuration, playbooks, policies or topology
	Good bool   `json:"good"` // for a topology: the embedded runner can bring it up
	// Lab, Nodes and Links describe a topology that could be read.
	Lab    string       `json:"lab,omitempty"`
	Nodes  int          `json:"nodes,omitempty"`
	Links  int          `json:"links,omitempty"`
	Faults []checkFault `json:"faults"`
	// Notes tell what of a good topology has no effect.
	Notes []string `json:"notes"`

	faults strictyaml.Errors
	raw    []byte
}

type checkFault struct {
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
}

func checkCommand() *cobra.Command {
	return checkFiles("check FILE...", "Check configurations, playbooks, policies and topologies; errors as file:line:column, exit code 2")
}

func labCheck() *cobra.Command {
	return checkFiles("check TOPOLOGY...", "Say per topology whether it can be brought up, and why not; exit code 2")
}

func checkFiles(use, short string) *cobra.Command {
	var format string
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if format != "text" && format != "json" {
			return usage("output %q is not text or json", format)
		}
		var reports []checkReport
		var all strictyaml.Errors
		for _, name := range args {
			r, err := checkFile(name)
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			reports = append(reports, r)
		}
		if err := checkPolicies(reports); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		for i := range reports {
			all = append(all, reports[i].faults...)
		}
		if err := printChecks(cmd.OutOrStdout(), format, reports); err != nil {
			return err
		}
		if len(all) > 0 {
			return all
		}
		return nil
	}}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "text or json")
	return cmd
}

func printChecks(out io.Writer, format string, reports []checkReport) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(reports)
	}
	for _, r := range reports { // faults go where errors go
		if r.Good {
			fmt.Fprintf(out, "%s: %s, good\n", r.File, r.Kind)
		}
		for _, note := range r.Notes {
			fmt.Fprintf(out, "%s: note: %s\n", r.File, note)
		}
	}
	return nil
}

// checkFile tells a topology from a configuration by what stands at its top.
// The error is about reading the file; its faults are in the report.
func checkFile(name string) (checkReport, error) {
	r := checkReport{File: name, Kind: "configuration", Faults: []checkFault{}, Notes: []string{}}
	raw, err := readFile(name)
	if err != nil {
		return r, err
	}
	var top map[string]yaml.Node
	if yaml.NewDecoder(bytes.NewReader(raw)).Decode(&top) == nil {
		if _, ok := top["topology"]; ok {
			r.Kind = "topology"
		}
		switch version := top["apiVersion"].Value; {
		case strings.HasPrefix(version, "playbook/"):
			r.Kind = "playbooks"
		case strings.HasPrefix(version, "segmentation/"), kubernetes.Is(raw):
			r.Kind, r.raw = "policies", raw
		}
	}
	switch r.Kind {
	case "topology":
		err = r.topology(raw)
	case "playbooks":
		err = r.playbooks(raw)
	case "policies": // checked together, when all files are known
	default:
		err = r.configuration(raw)
	}
	return r, r.adopt(err)
}

// adopt takes the faults of the file out of an error; another is returned.
func (r *checkReport) adopt(err error) error {
	var many strictyaml.Errors
	var one *strictyaml.Error
	switch {
	case err == nil:
	case errors.As(err, &many):
	case errors.As(err, &one):
		many = strictyaml.Errors{one}
	default:
		return err
	}
	for _, f := range many {
		r.faults = append(r.faults, f)
		r.Faults = append(r.Faults, checkFault{f.Line, f.Column, f.Msg})
	}
	r.Good = len(r.faults) == 0
	return nil
}

// configuration also looks into the files of playbooks, of policies and of feeds
// that it names.
func (r *checkReport) configuration(raw []byte) error {
	f, err := config.Parse(r.File, raw)
	if err != nil {
		return err
	}
	all := f.Beside(r.File)
	if _, err = all.LoadPlaybooks(); err != nil {
		return err
	}
	if _, err = all.LoadPolicies(); err != nil {
		return err
	}
	for _, name := range all.FeedNames() {
		if _, err := all.LoadFeed(name, time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// playbooks are held against each other here, against the commands that they
// may run where the configuration is checked.
func (r *checkReport) playbooks(raw []byte) error {
	books, err := playbook.Parse(r.File, raw)
	if err != nil {
		return err
	}
	commands := playbook.Commands(books)
	if len(commands) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("runs %s: checking the configuration tells whether it may", strings.Join(commands, ", ")))
	}
	return playbook.Check(books, commands)
}

func (r *checkReport) topology(raw []byte) error {
	t, err := clab.Parse(r.File, raw, os.LookupEnv)
	if err != nil {
		return err
	}
	r.Lab, r.Nodes, r.Links = t.Name, len(t.Nodes), len(t.Links)
	if err := runner.Verify(t); err != nil {
		return err
	}
	r.Notes = append(r.Notes, runner.Notes(t)...)
	return nil
}
