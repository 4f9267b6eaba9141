package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// rulesCommand lists what is installed, and compares it with what is wanted.
func rulesCommand() *cobra.Command {
	var c clientFlags
	var bridge string
	cmd := &cobra.Command{
		Use: "rules", Short: "Show the rules that are installed, in ovs-ofctl's syntax",
		Long: `Show the rules that are installed, in ovs-ofctl's syntax.

With -o flows, print them as ovs-ofctl takes them, each with the object that it
comes from. What this prints of one bridge installs exactly those flows again:

  platelet rules -o flows --bridge br0 | ovs-ofctl -O OpenFlow14 add-flows br0 -

The meters and groups that they name have to be there before; they are listed
as comments, as add-meter and add-group take them.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, format, text := "rules", c.output, rulesText
			if format == "flows" {
				what, format, text = "rules/installed", "text", flowsText
			}
			var raw json.RawMessage
			if err := c.client().Get(cmd.Context(), what, &raw); err != nil {
				return err
			}
			raw, err := ofBridge(raw, bridge)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), format, raw, text)
		},
	}
	c.add(cmd, true)
	cmd.Flags().Lookup("output").Usage = "text, json, yaml or flows"
	cmd.Flags().StringVar(&bridge, "bridge", "", "this bridge alone")
	cmd.AddCommand(rulesDiffCommand())
	return cmd
}

func rulesText(out io.Writer, raw []byte) error {
	return table(out, raw, "switch", "table", "category", "intent", "packets", "flow")
}

// ofBridge leaves the rows of one bridge; none is an error.
func ofBridge(raw json.RawMessage, bridge string) (json.RawMessage, error) {
	if bridge == "" {
		return raw, nil
	}
	var rows, of []json.RawMessage
	if err := json.Unmarshal(raw, &rows); err != nil {
		return nil, err
	}
	for _, r := range rows {
		var row struct{ Switch string }
		if err := json.Unmarshal(r, &row); err != nil {
			return nil, err
		}
		if row.Switch == bridge {
			of = append(of, r)
		}
	}
	if of == nil {
		return nil, fmt.Errorf("bridge %s is not in the controller's care", bridge)
	}
	return json.Marshal(of)
}

// object is what a rule, meter or difference comes from.
type object struct{ Owner, Intent, Why string }

// comment says it on one line; what stands in the rest of a line is no flow.
func (o object) comment(before string) string {
	s := "  # " + before
	if o.Intent != "" {
		s += " " + o.Intent
	}
	if o.Owner != "" {
		s += " of " + o.Owner
	}
	if o.Why != "" {
		s += ": " + o.Why
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}

// flowsText prints what ovs-ofctl add-flows reads.
func flowsText(out io.Writer, raw []byte) error {
	type part struct {
		Text string
		object
	}
	var switches []struct {
		Switch         string
		Meters, Groups []part
		Rules          []struct {
			Table, Category, Flow string
			Expires               time.Time
			object
		}
	}
	if err := json.Unmarshal(raw, &switches); err != nil {
		return err
	}
	var s strings.Builder
	for _, sw := range switches {
		fmt.Fprintf(&s, "# %s: %d flows\n", sw.Switch, len(sw.Rules))
		for _, m := range sw.Meters {
			fmt.Fprintf(&s, "# add-meter %s%s\n", m.Text, m.comment("used by"))
		}
		for _, g := range sw.Groups {
			fmt.Fprintf(&s, "# add-group %s%s\n", g.Text, g.comment("used by"))
		}
		table := ""
		for i, r := range sw.Rules {
			if i == 0 || r.Table != table {
				table = r.Table
				fmt.Fprintf(&s, "# %s: %s\n", sw.Switch, table)
			}
			s.WriteString(r.Flow + r.comment(r.Category))
			if !r.Expires.IsZero() {
				s.WriteString(", until " + r.Expires.UTC().Format(time.RFC3339))
			}
			s.WriteByte('\n')
		}
	}
	_, err := io.WriteString(out, s.String())
	return err
}

// rulesDiffCommand compares, and says by its exit code what it found, as
// diff does.
func rulesDiffCommand() *cobra.Command {
	var c clientFlags
	var bridge string
	cmd := &cobra.Command{
		Use: "diff", Short: "Compare what is installed with what is wanted, and change nothing",
		Long: `Compare what is installed on the switches with what is wanted there, and change
nothing. Lines with a minus are wanted and not there, lines with a plus are
there and not wanted. A foreign flow in our tables is shown, and never touched;
other drift is healed within a second, so what is shown may be gone already.

The exit code is 0 without drift, 1 with, and 2 when a switch could not be
compared.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var raw json.RawMessage
			if err := c.client().Get(cmd.Context(), "rules/drift", &raw); err != nil {
				return &exitError{code: 2, err: err}
			}
			raw, err := ofBridge(raw, bridge)
			if err != nil {
				return &exitError{code: 2, err: err}
			}
			if err := print(cmd.OutOrStdout(), c.output, raw, driftText); err != nil {
				return &exitError{code: 2, err: err}
			}
			return driftError(raw)
		},
	}
	c.add(cmd, true)
	cmd.Flags().StringVar(&bridge, "bridge", "", "this bridge alone")
	return cmd
}

// switchDrift is the answer for one switch.
type switchDrift struct {
	Switch, Error string
	Drift         []struct {
		Kind, What, Table, Want, Have string
		object
	}
}

func driftText(out io.Writer, raw []byte) error {
	var switches []switchDrift
	if err := json.Unmarshal(raw, &switches); err != nil {
		return err
	}
	var s strings.Builder
	for _, sw := range switches {
		if sw.Error != "" {
			fmt.Fprintf(&s, "# %s: %s\n", sw.Switch, sw.Error)
		}
		if len(sw.Drift) > 0 {
			fmt.Fprintf(&s, "--- %s, wanted\n+++ %s, installed\n", sw.Switch, sw.Switch)
		}
		for _, d := range sw.Drift {
			comment := d.comment(strings.TrimSpace(d.Kind + " " + d.What + " " + d.Table))
			if d.Want != "" {
				s.WriteString("-" + d.Want + comment + "\n")
			}
			if d.Have != "" {
				s.WriteString("+" + d.Have + comment + "\n")
			}
		}
	}
	_, err := io.WriteString(out, s.String())
	return err
}

// driftError is the exit code and what it means; nil without drift.
func driftError(raw []byte) error {
	var switches []switchDrift
	if err := json.Unmarshal(raw, &switches); err != nil {
		return &exitError{code: 2, err: err}
	}
	differences, differ := 0, 0
	for _, sw := range switches {
		if sw.Error != "" {
			return &exitError{code: 2, err: errors.New("not every switch could be compared")}
		}
		if differences += len(sw.Drift); len(sw.Drift) > 0 {
			differ++
		}
	}
	if differences == 0 {
		return nil
	}
	return &exitError{code: 1, err: fmt.Errorf("drift on %d of %d switches, %d in all", differ, len(switches), differences)}
}
