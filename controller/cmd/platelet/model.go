package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/learning"
	"github.com/platelet-sdn/platelet/detector"
	"github.com/platelet-sdn/platelet/detector/model"
)

// modelFlags are those that the subcommands of platelet model share.
type modelFlags struct{ state, output, why string }

func (f *modelFlags) add(cmd *cobra.Command, output, why bool) {
	cmd.Flags().StringVar(&f.state, "state", config.Default().State.Dir, "state directory of the controller")
	if output {
		cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text, json or yaml")
	}
	if why {
		cmd.Flags().StringVar(&f.why, "why", "", "reason, for the registry")
	}
}

func (f *modelFlags) registry() *learning.Registry { return learning.OpenRegistry(f.state) }

func modelCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "List, show, promote and roll back models of the classifier",
		Long: `List, show, promote and roll back models of the classifier. They are kept in the
state directory; a running controller follows within seconds. Version v0 is the
starter model that the program brings along.`,
	}
	cmd.AddCommand(modelListCommand(), modelShowCommand(), modelPromoteCommand(), modelRollbackCommand())
	return cmd
}

// modelLine is a row of platelet model list.
type modelLine struct {
	Version string `json:"version"`
	State   string `json:"state"`
	Hash    string `json:"hash"`
	Created string `json:"created"`
	Who     string `json:"who"`
	Windows int    `json:"windows"`
	Note    string `json:"note,omitempty"`
}

func modelListCommand() *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{Use: "list", Short: "List the models, and how the candidate does", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		lines, err := f.lines()
		if err != nil {
			return err
		}
		raw, err := json.Marshal(lines)
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, raw []byte) error {
			return table(out, raw, "version", "state", "hash", "created", "who", "windows", "note")
		})
	}}
	f.add(cmd, true, false)
	return cmd
}

func (f *modelFlags) lines() ([]modelLine, error) {
	r := f.registry()
	s, err := r.State()
	if err != nil {
		return nil, err
	}
	versions, err := r.Versions()
	if err != nil {
		return nil, err
	}
	shadow, err := r.Shadow()
	if err != nil {
		return nil, err
	}
	var lines []modelLine
	for _, v := range versions {
		lines = append(lines, lineOf(r, s, shadow, v))
	}
	return lines, nil
}

func lineOf(r *learning.Registry, s learning.State, shadow model.Shadow, v int) modelLine {
	line := modelLine{Version: fmt.Sprintf("v%d", v)}
	m, err := r.Load(v)
	if err != nil {
		line.Note = err.Error()
		return line
	}
	line.Hash, line.Created, line.Who = m.Hash()[:12], m.Provenance.Created.Format("2006-01-02 15:04"), m.Provenance.Who
	for _, x := range m.Provenance.Sets {
		line.Windows += x.Windows
	}
	if err := m.Schema.Fits(detector.ModelSchema()); err != nil {
		line.Note = err.Error()
	}
	switch {
	case v == s.Active:
		line.State = "active"
	case v == s.Previous:
		line.State = "previous"
	case v == s.Candidate && v != 0:
		line.State = "candidate"
		if shadow.Candidate == m.Hash() {
			_, line.Note = shadow.Promotable()
		}
	}
	return line
}

func modelShowCommand() *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{Use: "show VERSION|FILE", Short: "Show what a model learned from and how well it does", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		m, err := namedModel(args[0], f.state)
		if err != nil {
			return err
		}
		if f.output == "text" {
			if err := modelText(cmd.OutOrStdout(), m); err != nil {
				return err
			}
			return m.Schema.Fits(detector.ModelSchema())
		}
		raw, err := json.Marshal(struct {
			Hash string `json:"hash"`
			*model.Model
		}{m.Hash(), m})
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), f.output, raw, nil)
	}}
	f.add(cmd, true, false)
	return cmd
}

func modelPromoteCommand() *cobra.Command {
	var f modelFlags
	var force bool
	cmd := &cobra.Command{
		Use: "promote VERSION", Short: "Let the candidate take the place of the active model",
		Long: fmt.Sprintf(`Let the candidate take the place of the active model. It must have been scored
beside it by a running controller, on %d windows and %d findings with an operator's
verdict, and be no worse. --force overrides that, with a reason.`, model.ShadowWindows, model.ShadowLabels),
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			v, ok := versionOf(args[0])
			if !ok {
				return usage("model promote: %q is no version", args[0])
			}
			if force && f.why == "" {
				return usage("model promote: --force needs --why")
			}
			m, err := f.registry().Load(v)
			if err != nil {
				return err
			}
			if err := m.Schema.Fits(detector.ModelSchema()); err != nil {
				return fmt.Errorf("v%d: %w", v, err)
			}
			return f.registry().Promote(v, operator(), f.why, force)
		}}
	cmd.Flags().BoolVar(&force, "force", false, "without having proven itself; needs --why")
	f.add(cmd, false, true)
	return cmd
}

func modelRollbackCommand() *cobra.Command {
	var f modelFlags
	cmd := &cobra.Command{Use: "rollback", Short: "Go back to the model that was active before", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		v, err := f.registry().Rollback(operator(), f.why)
		if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "v%d is active\n", v)
		}
		return err
	}}
	f.add(cmd, false, true)
	return cmd
}
