package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/controller/api"
	"github.com/platelet-sdn/platelet/controller/config"
	"github.com/platelet-sdn/platelet/controller/response"
	"github.com/platelet-sdn/platelet/detector/explain"
)

// addClientCommands adds the commands that ask a running controller.
func addClientCommands(parent *cobra.Command) {
	listing := func(name, short string, text func(io.Writer, []byte) error) {
		var c clientFlags
		cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if err := c.client().Get(cmd.Context(), name, &raw); err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), c.output, raw, text)
		}}
		c.add(cmd, true)
		parent.AddCommand(cmd)
	}
	listing("status", "Show the controller, its switches and what it receives", indented)
	listing("findings", "List what the detectors say", findingsText)
	listing("decisions", "List what was decided and how it went", decisionsText)
	listing("hosts", "List the hosts that were seen and where", hostsText)
	listing("exemptions", "List who is left alone, by configuration and by operators", exemptionsText)
	listing("topology", "Show switches and ports", indented)
	for _, a := range []struct{ name, short string }{
		{"approve", "Say yes to a decision, a run or a question of a playbook"},
		{"reject", "Say no to a decision, a run or a question of a playbook"},
		{"release", "Take a containment off at once"},
	} {
		parent.AddCommand(actCommand(a.name, a.short))
	}
	parent.AddCommand(feedbackCommand(), rulesCommand(), explainCommand(), quarantineCommand(), segmentCommand(), extendCommand(), exemptCommand(), brakeCommand(), watchCommand())
}

type clientFlags struct{ socket, output string }

func (c *clientFlags) add(cmd *cobra.Command, output bool) {
	cmd.Flags().StringVar(&c.socket, "socket", config.Default().API.Socket, "API socket of the controller")
	if output {
		cmd.Flags().StringVarP(&c.output, "output", "o", "text", "text, json or yaml")
	}
}

func (c *clientFlags) client() *api.Client { return api.NewClient(c.socket) }

func actCommand(name, short string) *cobra.Command {
	var c clientFlags
	var why string
	cmd := &cobra.Command{Use: name + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return c.client().Act(cmd.Context(), name, args[0], why)
	}}
	cmd.Flags().StringVar(&why, "why", "", "reason, for the audit log")
	c.add(cmd, false)
	return cmd
}

func explainCommand() *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{
		Use: "explain ID", Short: "Say why a finding fired, or what a decision would hit", Args: cobra.ExactArgs(1),
		Long: `Of a decision, say what it is, what the guards said of it, and which hosts,
connections and bytes of the last hour its rules would have hit, besides the attack.
Of an attack that is let go on not every connection is sampled: "about 600 connections
(240 seen)" is an estimate, and only those that were seen are listed by service.
Of a finding, say in words and numbers what happened, what would have been normal (for
this host, where it is known for long enough), what carried the score, what would
have kept the finding from firing, what is not known, and show the latest records
behind it. There is no capture of packets: telemetry carries headers of samples,
which are read and not kept.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var raw json.RawMessage
			if strings.HasPrefix(args[0], "d-") {
				if err := c.client().Get(cmd.Context(), "decisions/"+url.PathEscape(args[0]), &raw); err != nil {
					return err
				}
				return print(cmd.OutOrStdout(), c.output, raw, decisionText)
			}
			if err := c.client().Get(cmd.Context(), "findings/"+url.PathEscape(args[0])+"/explanation", &raw); err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), c.output, raw, func(out io.Writer, raw []byte) error {
				var x explain.Explanation
				if err := json.Unmarshal(raw, &x); err != nil {
					return err
				}
				return x.WriteText(out)
			})
		},
	}
	c.add(cmd, true)
	return cmd
}

func quarantineCommand() *cobra.Command {
	var c clientFlags
	var d time.Duration
	var dry bool
	cmd := &cobra.Command{Use: "quarantine HOST", Short: "Contain a host, within the guards", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		host, err := netip.ParseAddr(args[0])
		if err != nil {
			return usage("quarantine: %v", err)
		}
		return c.contain(cmd, response.Order{Host: host, For: d}, dry)
	}}
	cmd.Flags().DurationVar(&d, "for", 10*time.Minute, "how long")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what it would have hit in the last hour, and do nothing")
	c.add(cmd, true)
	return cmd
}

func brakeCommand() *cobra.Command {
	var c clientFlags
	var release bool
	cmd := &cobra.Command{Use: "brake on|off", Short: "Stop or allow new containments; what stands stays unless --release", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if args[0] != "on" && args[0] != "off" {
			return usage("brake: %q is not on or off", args[0])
		}
		return c.client().Brake(cmd.Context(), args[0] == "on", release)
	}}
	cmd.Flags().BoolVar(&release, "release", false, "also take every containment off at once")
	c.add(cmd, false)
	return cmd
}

func watchCommand() *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{Use: "watch", Short: "Print findings, decisions and what is learned as they change", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		out := cmd.OutOrStdout()
		err := c.client().Events(cmd.Context(), nil, func(line []byte) error {
			if c.output == "json" {
				_, err := fmt.Fprintf(out, "%s\n", line)
				return err
			}
			return eventText(out, line)
		})
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}}
	c.add(cmd, true)
	return cmd
}

// print writes an answer in the format that was asked for.
func print(out io.Writer, format string, raw json.RawMessage, text func(io.Writer, []byte) error) error {
	switch format {
	case "json":
		return indented(out, raw)
	case "yaml":
		var v any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // to a float64 large counters are not exact
		if err := dec.Decode(&v); err != nil {
			return err
		}
		b, err := yaml.Marshal(plainNumbers(v))
		if err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	case "text":
		return text(out, raw)
	}
	return usage("output %q is not text, json or yaml", format)
}

// plainNumbers is a value of JSON with its numbers as such: a json.Number is a
// string to YAML.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			v[k] = plainNumbers(x)
		}
	case []any:
		for i, x := range v {
			v[i] = plainNumbers(x)
		}
	case json.Number:
		kind := "!!int"
		if strings.ContainsAny(v.String(), ".eE") {
			kind = "!!float"
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: kind, Value: v.String()}
	}
	return v
}

func indented(out io.Writer, raw []byte) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err := out.Write(b.Bytes())
	return err
}

// table prints the named fields of a JSON list.
func table(out io.Writer, raw []byte, fields ...string) error {
	var rows []map[string]any
	if err := json.Unmarshal(raw, &rows); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, strings.ToUpper(strings.Join(fields, "\t")))
	for _, r := range rows {
		for i, f := range fields {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			if v := r[f]; v != nil && v != "" {
				fmt.Fprint(w, v)
			} else {
				fmt.Fprint(w, "-")
			}
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

func findingsText(out io.Writer, raw []byte) error {
	return table(out, raw, "id", "time", "kind", "host", "state", "severity", "score", "records")
}

func exemptionsText(out io.Writer, raw []byte) error {
	return table(out, raw, "hosts", "kinds", "services", "from", "until", "who", "why")
}

func hostsText(out io.Writer, raw []byte) error {
	return table(out, raw, "address", "mac", "switch", "port", "bound", "last_seen")
}

// eventText prints one event as one line.
func eventText(out io.Writer, line []byte) error {
	var e struct {
		Type, ID, Kind, Host, State, Action, Target, Why, Playbook, Finding, Decision string

		Time time.Time
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return err
	}
	at := e.Time.Local().Format("15:04:05.000")
	var err error
	switch e.Type {
	case "finding":
		_, err = fmt.Fprintf(out, "%s %-9s %s %s %s\n", at, e.State, e.ID, e.Kind, e.Host)
	case "learning":
		_, err = fmt.Fprintf(out, "%s %-9s %s: %s\n", at, e.State, cmp.Or(e.Host, "all hosts"), e.Why)
	case "run":
		_, err = fmt.Fprintf(out, "%s %-9s %s %s for %s\n", at, e.State, e.ID, e.Playbook, cmp.Or(e.Decision, e.Finding))
	default:
		_, err = fmt.Fprintf(out, "%s %-9s %s %s %s: %s\n", at, e.State, e.ID, e.Action, e.Target, e.Why)
	}
	return err
}

// readFile is os.ReadFile with standard input as "-".
func readFile(path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(path)
}
