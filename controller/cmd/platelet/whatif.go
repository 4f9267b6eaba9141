package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/response"
)

// decisionLine is what is printed of a decision.
type decisionLine struct {
	ID, Target, Why, Who string
	Time                 time.Time
	Kind                 string
	Action               response.Action
	State                response.State
	At                   response.Target
	People               int
	Approvals            []string
	Guards               []response.Verdict
	WhatIf               *response.WhatIf `json:"what_if"`
	Choice               *response.Choice
}

// contain does what is asked for, or says what it would hit.
func (c *clientFlags) contain(cmd *cobra.Command, o response.Order, dry bool) error {
	if dry {
		raw, err := c.client().Preview(cmd.Context(), o)
		if err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), c.output, raw, decisionText)
	}
	id, err := c.client().Contain(cmd.Context(), o)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(map[string]string{"id": id})
	if err != nil {
		return err
	}
	return print(cmd.OutOrStdout(), c.output, raw, func(out io.Writer, _ []byte) error {
		_, err := fmt.Fprintln(out, id)
		return err
	})
}

// decisionsText lists decisions, with what each has to do with others.
func decisionsText(out io.Writer, raw []byte) error {
	var list []decisionLine
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTIME\tACTION\tTARGET\tSTATE\tWHO\tHITS\tWHY")
	for _, d := range list {
		hits := "-"
		if d.WhatIf != nil {
			hits = d.WhatIf.Short()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", d.ID, d.Time.Format(time.RFC3339Nano), d.Action, cmp.Or(d.Target, "-"), d.State, cmp.Or(d.Who, "-"), hits, cmp.Or(d.Why, "-"))
	}
	return w.Flush()
}

// decisionText says what a decision is, and what it hits.
func decisionText(out io.Writer, raw []byte) error {
	var d decisionLine
	if err := json.Unmarshal(raw, &d); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: %s of %s", d.ID, d.State, d.Action, d.Target)
	if d.At.Port != "" {
		fmt.Fprintf(&b, " at %s of %s", d.At.Port, d.At.Switch)
	}
	fmt.Fprintf(&b, ", %s\n", d.Why)
	if d.State == response.StateAwaitingApproval {
		fmt.Fprintf(&b, "approved by %d of %d\n", len(d.Approvals), max(1, d.People))
	}
	if c := d.Choice; c != nil {
		fmt.Fprintf(&b, "%s\n", c)
	}
	for _, g := range d.Guards {
		says := "passes"
		if !g.Pass {
			says = "refuses"
		}
		fmt.Fprintf(&b, "  guard %s %s: %s\n", g.Guard, says, g.Why)
	}
	if d.WhatIf != nil {
		fmt.Fprintf(&b, "What it hits: %s.\n", d.WhatIf)
	}
	if _, err := io.WriteString(out, b.String()); err != nil || d.WhatIf == nil || len(d.WhatIf.Peers) == 0 {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "  HOST\tUSES\tSERVES\tCONNECTIONS\tSEEN\tPACKETS\tBYTES")
	for _, p := range d.WhatIf.Peers {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%.0f\t%.0f\t%.0f\t%.0f\n", p.Host, cmp.Or(strings.Join(p.Uses, " "), "-"), cmp.Or(strings.Join(p.Serves, " "), "-"),
			p.Traffic.Connections, p.Traffic.Seen, p.Traffic.Packets, p.Traffic.Bytes)
	}
	if n := d.WhatIf.More; n > 0 {
		fmt.Fprintf(w, "  and %d more\n", n)
	}
	return w.Flush()
}
