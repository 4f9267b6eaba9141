package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/durable"
	"github.com/platelet-sdn/platelet/lab/ovsimport"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func labImport(o *runner.Options) *cobra.Command {
	var file string
	var i ovsimport.Options
	cmd := &cobra.Command{
		Use: "import [BRIDGE...]", Short: "Write a topology that reproduces this machine's Open vSwitch, its flows and the hosts behind it",
		Long: "Reads the bridges, or those named, of the Open vSwitch at --db, and changes nothing. Bridges and ports get names of the\n" +
			"lab's own, so that the lab comes up beside the live switch; --rename=false keeps theirs, for a lab on another machine.",
		RunE: func(cmd *cobra.Command, args []string) error {
			i.DB, i.Bridges = o.DB, args
			if i.Lab == "" {
				i.Lab = importName(file, o.Name)
			}
			if file != "" {
				path, err := filepath.Abs(file)
				if err != nil {
					return fmt.Errorf("lab import: %w", err)
				}
				file, i.Dir = path, filepath.Dir(path)
			}
			r, err := ovsimport.Import(cmd.Context(), i)
			if err != nil {
				return fmt.Errorf("lab import: %w", err)
			}
			for _, n := range r.Notes {
				fmt.Fprintln(cmd.ErrOrStderr(), "not carried over:", n)
			}
			if file == "" {
				_, err = cmd.OutOrStdout().Write(r.Topology)
				return err
			}
			return writeImport(file, r)
		},
	}
	cmd.Flags().StringVarP(&file, "output", "o", "", "write the topology to this file, and long pipelines beside it (standard output)")
	cmd.Flags().StringVar(&i.Lab, "lab", "", "name of the lab (that of the file, or \"imported\")")
	cmd.Flags().BoolVar(&i.Rename, "rename", true, "give bridges and ports names of the lab's own")
	return cmd
}

// importName names a lab after its file, where it has one.
func importName(file, name string) string {
	if name != "" || file == "" {
		return name
	}
	base := filepath.Base(file)
	for _, suffix := range []string{".clab.yml", ".clab.yaml", ".yml", ".yaml"} {
		if short, ok := strings.CutSuffix(base, suffix); ok {
			return short
		}
	}
	return base
}

// writeImport writes the topology last, so that it never names files that
// are not there, and each file whole or not at all.
func writeImport(file string, r *ovsimport.Result) error {
	for _, name := range slices.Sorted(maps.Keys(r.Flows)) {
		if err := durable.Write(filepath.Join(filepath.Dir(file), name), 0o644, durable.Bytes(r.Flows[name])); err != nil {
			return err
		}
	}
	return durable.Write(file, 0o644, durable.Bytes(r.Topology))
}
