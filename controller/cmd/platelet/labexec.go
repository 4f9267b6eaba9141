package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"

	"github.com/google/shlex"
	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/lab/runner"
)

func labExec(o *runner.Options) *cobra.Command {
	var lab, format string
	var lines, labels []string
	cmd := &cobra.Command{
		Use:   "exec NODE -- COMMAND [ARG...] | exec [NODE...] --cmd COMMAND",
		Short: "Run commands in nodes",
		Long: `With a node and a command, runs that command there with our terminal; its exit
code is ours. With --cmd, as containerlab does: in every node that is named, or
that meets the labels, or in all, and shows what each did.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(lines) == 0 && len(args) < 2 {
				return usage("lab exec: needs NODE -- COMMAND, or --cmd COMMAND")
			}
			if format != "plain" && format != "json" {
				return usage("format %q is not plain or json", format)
			}
			name, err := oneLab(lab, o)
			if err != nil {
				return err
			}
			l, err := runner.Open(name, *o)
			if err != nil {
				return err
			}
			if len(lines) > 0 {
				return execMany(cmd, l, args, labels, lines, format)
			}
			return execOne(cmd, l, args)
		},
	}
	cmd.Flags().StringVar(&lab, "lab", "", "which lab, where several run")
	cmd.Flags().StringArrayVar(&lines, "cmd", nil, "command to run; several run one after the other")
	cmd.Flags().StringSliceVar(&labels, "label", nil, "only nodes with this label: KEY=VALUE, KEY!=VALUE or KEY")
	cmd.Flags().StringVarP(&format, "format", "f", "plain", "plain or json, of what --cmd shows")
	return cmd
}

// execOne runs a command with our own terminal.
func execOne(cmd *cobra.Command, l *runner.Lab, args []string) error {
	c, err := l.Command(cmd.Context(), args[0], args[1], args[2:]...)
	if err != nil {
		return err
	}
	c.Stdin, c.Stdout, c.Stderr = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{code: exit.ExitCode(), err: fmt.Errorf("lab exec: %w", err)}
	}
	return err
}

// execMany runs commands in many nodes and shows what they did.
func execMany(cmd *cobra.Command, l *runner.Lab, nodes, labels, lines []string, format string) error {
	var commands [][]string
	for _, line := range lines {
		words, err := shlex.Split(line)
		if err != nil || len(words) == 0 {
			return usage("lab exec: --cmd %q cannot be split into words", line)
		}
		commands = append(commands, words)
	}
	matching, err := l.Match(labels)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if !slices.Contains(l.Nodes(), n) {
			return usage("lab exec: lab %s has no node %q", l.Name(), n)
		}
	}
	if len(nodes) > 0 {
		matching = slices.DeleteFunc(matching, func(n string) bool { return !slices.Contains(nodes, n) })
	}
	if len(matching) == 0 {
		return usage("lab exec: no node matches")
	}
	results, err := l.Exec(cmd.Context(), matching, commands)
	return errors.Join(printResults(cmd.OutOrStdout(), results, format), err)
}

func printResults(out io.Writer, results map[string][]runner.ExecResult, format string) error {
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	for i, name := range slices.Sorted(maps.Keys(results)) {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprintf(out, "Node: %s\n", name)
		for _, r := range results[name] {
			fmt.Fprintf(out, "Cmd: %s\nReturnCode: %d\n", strings.Join(r.Cmd, " "), r.ReturnCode)
			for _, stream := range []struct{ name, text string }{{"Stdout", string(r.Stdout)}, {"Stderr", r.Stderr}} {
				if stream.text != "" {
					fmt.Fprintf(out, "%s: %q\n", stream.name, stream.text)
				}
			}
		}
	}
	return nil
}
