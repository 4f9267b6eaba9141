package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/controller/response/playbook"
	"github.com/platelet-sdn/platelet/controller/response/playbook/cacao"
	"github.com/platelet-sdn/platelet/detector"
)

func playbookCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "playbook", Short: "Show playbooks, and try them without doing anything"}
	cmd.AddCommand(playbookTestCommand(), playbookListCommand(), playbookShowCommand(), playbookRunsCommand(), playbookReloadCommand(), playbookImportCommand(), playbookExportCommand())
	return cmd
}

// configured reads a configuration, or takes the default one.
func configured(file string) (config.File, error) {
	if file == "" {
		return config.Default(), nil
	}
	return config.Load(file)
}

func playbookTestCommand() *cobra.Command {
	var c clientFlags
	var file, finding string
	var at instant
	var tags map[string]string
	cmd := &cobra.Command{
		Use: "test [FILE...]", Short: "Say what would be done about a finding, and why; do nothing",
		Long: `Say which playbook a finding triggers and why the ones before it do not, what
comes of it on a switch and which guards apply, and which steps would run with
which arguments. Secrets are left out. The files are tried before the playbooks
of the configuration.

The finding is a file with a line of JSON as replay and watch print it, "-" for
standard input, or the ID of a finding of the running controller.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := configured(file)
			if err != nil {
				return err
			}
			cfg.Playbooks = append(args[:len(args):len(args)], cfg.Playbooks...)
			set, err := cfg.LoadPlaybooks()
			if err != nil {
				return err
			}
			f, err := c.finding(cmd, finding)
			if err != nil {
				return fmt.Errorf("playbook test: %w", err)
			}
			trace := set.Try(cfg.ResponseConfig(), f, response.Circumstances{Now: at.or(time.Unix(0, f.Time)), Tags: tags})
			raw, err := json.Marshal(trace)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), c.output, raw, func(out io.Writer, _ []byte) error { return trace.WriteText(out) })
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	cmd.Flags().StringVar(&finding, "finding", "", "file with the finding, - for standard input, or the ID of one of the running controller")
	cmd.Flags().StringToStringVar(&tags, "tag", nil, "label of the attacker's port, KEY=VALUE")
	atFlag(cmd, &at, "time at which it happens, RFC 3339 (that of the finding)")
	_ = cmd.MarkFlagRequired("finding") // it has one
	c.add(cmd, true)
	return cmd
}

// finding reads the finding that a flag names.
func (c *clientFlags) finding(cmd *cobra.Command, name string) (f detector.Finding, err error) {
	if strings.HasPrefix(name, "f-") {
		var all []detector.Finding
		if err := c.client().Get(cmd.Context(), "findings", &all); err != nil {
			return f, err
		}
		for _, f := range all {
			if f.ID == name {
				return f, nil
			}
		}
		return f, fmt.Errorf("the controller has no finding %s", name)
	}
	raw, err := readFile(name)
	if err != nil {
		return f, err
	}
	for line := range bytes.Lines(raw) { // of what replay printed, the first finding
		if json.Unmarshal(line, &f) == nil && f.Kind != "" {
			return f, nil
		}
	}
	if err := json.Unmarshal(raw, &f); err != nil || f.Kind == "" {
		return f, usage("%s holds no finding: needs a line of JSON as replay and watch -o json print it", name)
	}
	return f, nil
}

func playbookListCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "list", Short: "List the playbooks in force, in the order in which they are tried", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		cfg, err := configured(file)
		if err != nil {
			return err
		}
		set, err := cfg.LoadPlaybooks()
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tACTION\tSTEPS\tMODE\tPEOPLE\tABOUT")
		for _, p := range set.Playbooks() {
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\n", p.Name, p.Rung(), len(p.Rest()), response.Stricter(cfg.Mode, p.Mode), p.People, p.About)
		}
		return w.Flush()
	}}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}

func playbookShowCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "show [NAME...]", Short: "Print playbooks in force as a file of playbooks", RunE: func(cmd *cobra.Command, args []string) error {
		cfg, err := configured(file)
		if err != nil {
			return err
		}
		set, err := cfg.LoadPlaybooks()
		if err != nil {
			return err
		}
		list := set.Playbooks()
		if len(args) > 0 {
			list = nil
		}
		for _, name := range args {
			p, ok := set.Find(name)
			if !ok {
				return usage("playbook show: there is no playbook %q", name)
			}
			list = append(list, *p)
		}
		raw, err := playbook.Write(list)
		if err != nil {
			return err
		}
		_, err = cmd.OutOrStdout().Write(raw)
		return err
	}}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}

func playbookImportCommand() *cobra.Command {
	return &cobra.Command{
		Use: "import FILE", Short: "Make a playbook of one of OASIS CACAO 2.0", Args: cobra.ExactArgs(1),
		Long: `Make a playbook of one of OASIS CACAO 2.0 (JSON): manual, http-api and openc2-http
commands, in sequence or in parallel. Everything else is refused by its name, and so
is a playbook that is revoked or not valid today. The result has no trigger and no
rung of the ladder, which CACAO does not know.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := readFile(args[0])
			if err != nil {
				return fmt.Errorf("playbook import: %w", err)
			}
			text, err := cacao.Import(raw, time.Now())
			if err != nil {
				return usage("playbook import: %v", err)
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

func playbookExportCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{Use: "export NAME", Short: "Print a playbook as one of OASIS CACAO 2.0, as far as that can say it", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		cfg, err := configured(file)
		if err != nil {
			return err
		}
		set, err := cfg.LoadPlaybooks()
		if err != nil {
			return err
		}
		p, ok := set.Find(args[0])
		if !ok {
			return usage("playbook export: there is no playbook %q", args[0])
		}
		raw, err := cacao.Export(p, time.Now())
		if err != nil {
			return usage("playbook export: %v", err)
		}
		_, err = cmd.OutOrStdout().Write(raw)
		return err
	}}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file")
	return cmd
}

func playbookRunsCommand() *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{Use: "runs", Short: "List what playbooks did and are doing", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var raw json.RawMessage
		if err := c.client().Get(cmd.Context(), "runs", &raw); err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), c.output, raw, func(out io.Writer, raw []byte) error {
			return table(out, raw, "id", "created", "playbook", "finding", "decision", "state", "asks", "why")
		})
	}}
	c.add(cmd, true)
	return cmd
}

func playbookReloadCommand() *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{Use: "reload", Short: "Have the controller read its files of playbooks again", Args: cobra.NoArgs,
		Long: `Have the controller read its files of playbooks again, which it does by itself when
they change unless playbook_watch is false. Files with faults change nothing. What
has begun goes on by the playbooks that it began with.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.client().ReloadPlaybooks(cmd.Context())
			if err != nil {
				return err
			}
			raw, err := json.Marshal(s)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), c.output, raw, func(out io.Writer, _ []byte) error {
				_, err := fmt.Fprintf(out, "version %s: %d playbooks, of %d files and the program itself\n", s.Version, s.Playbooks, len(s.Files))
				return err
			})
		}}
	c.add(cmd, true)
	return cmd
}
