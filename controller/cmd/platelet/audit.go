package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/audit"
	"github.com/platelet-sdn/platelet/controller/config"
)

func auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Verify, show, list and export the log of what was done",
		Long: `Verify, show, list and export the log of what the controller and its operators
did. It is read where it lies, with or without a running controller, and never
changed.`,
	}
	cmd.AddCommand(auditVerifyCommand(), auditShowCommand(), auditListCommand(), auditExportCommand())
	return cmd
}

// auditFlags are those that the subcommands share.
type auditFlags struct{ dir, output string }

func (f *auditFlags) add(cmd *cobra.Command, formats string) {
	cmd.Flags().StringVar(&f.dir, "dir", "", "directory of the log (default "+defaultAuditDir()+")")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", formats)
}

func defaultAuditDir() string { c := config.Default(); return c.AuditDir() }

func (f *auditFlags) path() string {
	if f.dir == "" {
		return defaultAuditDir()
	}
	return f.dir
}

// maxOutside bounds what somebody else kept, in bytes.
const maxOutside = 1 << 30

func auditVerifyCommand() *cobra.Command {
	var f auditFlags
	var opt audit.Options
	var outside []string
	cmd := &cobra.Command{
		Use: "verify [DIR|FILE]", Short: "Find every change to the log",
		Long: `Find every change to the log: each line carries the hash of the line before it,
and signed checkpoints carry the Merkle root over all. What was edited, deleted,
inserted, moved or cut off is named by file and line.

Who can write the log's directory and has the key can make another log. Against
that, keep what is outside of his reach, and give it here: --checkpoint takes
checkpoints, as they lie in the file checkpoints, or lines of the controller's log
that quote them (journalctl -u platelet | platelet audit verify --checkpoint -);
--key takes the public key that platelet status showed.

The exit code is 0 when the log is whole, 1 when it is not, and 2 when it could
not be read.`,
		Args: cobra.MaximumNArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			path := f.path()
			if len(args) == 1 {
				path = args[0]
			}
			opt.Outside = map[string][]byte{}
			for _, name := range outside {
				raw, err := readOutside(name)
				if err != nil {
					return &exitError{code: 2, err: err}
				}
				opt.Outside[filepath.Base(name)] = raw
			}
			report, err := audit.Verify(path, opt)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			raw, err := json.Marshal(report)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return report.WriteText(out) }); err != nil {
				return err
			}
			return notWhole(report)
		},
	}
	f.add(cmd, "text, json or yaml")
	cmd.Flags().StringSliceVar(&outside, "checkpoint", nil, "file with checkpoints that somebody else kept, - for standard input")
	cmd.Flags().StringSliceVar(&opt.Keys, "key", nil, "public key to believe, instead of those beside the log")
	cmd.Flags().BoolVar(&opt.Archived, "archived", false, "the files before the first one here are kept elsewhere")
	return cmd
}

func readOutside(name string) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxOutside))
	if err != nil {
		return nil, fmt.Errorf("read checkpoints from %s: %w", name, err)
	}
	return raw, nil
}

func notWhole(r *audit.Report) error {
	if r.OK() {
		return nil
	}
	return fmt.Errorf("the audit log is not whole: %d faults", len(r.Faults)+r.More)
}

func auditShowCommand() *cobra.Command {
	var f auditFlags
	cmd := &cobra.Command{
		Use: "show ID", Short: "Tell the story of a decision or a finding, in order",
		Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			entries, err := audit.Story(f.path(), args[0])
			if err != nil {
				return err
			}
			raw, err := json.Marshal(entries)
			if err != nil {
				return err
			}
			if err := print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return audit.WriteStory(out, entries) }); err != nil {
				return err
			}
			report, err := audit.Verify(f.path(), audit.Options{Archived: true})
			if err == nil && !report.OK() {
				fmt.Fprintln(cmd.ErrOrStderr(), "this log was changed, so the story may be another: see platelet audit verify")
			}
			return err
		},
	}
	f.add(cmd, "text, json or yaml")
	return cmd
}

// auditFilter chooses entries.
type auditFilter struct {
	since  time.Duration
	events []string
	last   int
}

func (a *auditFilter) add(cmd *cobra.Command, last int) {
	cmd.Flags().DurationVar(&a.since, "since", 0, "entries of the last so long; 0 is all")
	cmd.Flags().StringSliceVar(&a.events, "event", nil, "events that begin so, such as decision. or operator.release")
	cmd.Flags().IntVar(&a.last, "last", last, "at most so many of the newest; 0 is all")
}

// each calls do with the entries that are wanted.
func (a *auditFilter) each(dir string, do func(audit.Entry) error) error {
	var from time.Time
	if a.since > 0 {
		from = time.Now().Add(-a.since)
	}
	var kept []audit.Entry
	err := audit.Read(dir, nil, func(e audit.Entry) error {
		if !e.Since(from) || len(a.events) > 0 && !slices.ContainsFunc(a.events, func(p string) bool { return strings.HasPrefix(e.What, p) }) {
			return nil
		}
		if a.last == 0 {
			return do(e)
		}
		if kept = append(kept, e); len(kept) >= 2*a.last { // moved now and then, not each time
			kept = append(kept[:0], kept[len(kept)-a.last:]...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range kept[max(0, len(kept)-a.last):] {
		if err := do(e); err != nil {
			return err
		}
	}
	return nil
}

func auditListCommand() *cobra.Command {
	var f auditFlags
	var filter auditFilter
	cmd := &cobra.Command{Use: "list", Short: "List entries, oldest first", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		entries := []audit.Entry{}
		if err := filter.each(f.path(), func(e audit.Entry) error { entries = append(entries, e); return nil }); err != nil {
			return err
		}
		raw, err := json.Marshal(entries)
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), f.output, raw, func(out io.Writer, _ []byte) error { return audit.WriteList(out, entries) })
	}}
	f.add(cmd, "text, json or yaml")
	filter.add(cmd, 50)
	return cmd
}

func auditExportCommand() *cobra.Command {
	var f auditFlags
	var filter auditFilter
	cmd := &cobra.Command{
		Use: "export", Short: "Write entries as one JSON object a line, for other systems",
		Long: `Write entries as one JSON object a line: with -o json as they are, with -o ocsf as
events of the Open Cybersecurity Schema Framework ` + audit.OCSFVersion + `: findings as Detection
Finding (2004), what was done to the network and undone as Network Remediation
Activity (7004). Other entries have no class there, and are left out.`,
		Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			if f.output != "ocsf" && f.output != "json" {
				return usage("output %q is not ocsf or json", f.output)
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			enc := json.NewEncoder(out)
			enc.SetEscapeHTML(false)
			err := filter.each(f.path(), func(e audit.Entry) error {
				if f.output == "json" {
					return enc.Encode(e)
				}
				if event, ok := audit.OCSF(&e); ok {
					return enc.Encode(event)
				}
				return nil
			})
			if err != nil {
				return err
			}
			return out.Flush()
		},
	}
	f.add(cmd, "ocsf or json")
	cmd.Flags().Lookup("output").DefValue, f.output = "ocsf", "ocsf"
	filter.add(cmd, 0)
	return cmd
}
