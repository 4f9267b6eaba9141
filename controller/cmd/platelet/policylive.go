package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/segment"
	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/staged"
)

// livePolicyCommands ask a running controller.
func livePolicyCommands() []*cobra.Command {
	return []*cobra.Command{
		listingCommand("ls", "policies", "List the policies of a running controller, those of its containments among them", policiesText),
		listingCommand("hits", "policies/hits", "Show what each rule met on each switch, and what no rule decided", hitsText),
		listingCommand("staged", "policies/staged", "Say whom staged policies would deny what, of all that was seen since they were read", stagedText),
		listingCommand("sources", "policies/sources", "List the ports that source guards apply to, what came in there forged, and who is not restricted and why", sourcesText),
		listingCommand("workloads", "workloads", "List the workloads that groups are resolved against; -o yaml is an inventory", workloadsText),
		reloadCommand(),
	}
}

// listingCommand shows something of a running controller.
func listingCommand(use, what, short string, text func(io.Writer, []byte) error) *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		var raw json.RawMessage
		if err := c.client().Get(cmd.Context(), what, &raw); err != nil {
			return err
		}
		return print(cmd.OutOrStdout(), c.output, raw, text)
	}}
	c.add(cmd, true)
	return cmd
}

func reloadCommand() *cobra.Command {
	var c clientFlags
	cmd := &cobra.Command{Use: "reload", Short: "Have a running controller read its policies, inventory and feeds again at once", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.client().ReloadPolicies(cmd.Context()) }}
	c.add(cmd, false)
	return cmd
}

func policiesText(out io.Writer, raw []byte) error {
	var l segment.Listing
	if err := json.Unmarshal(raw, &l); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TIER\tPRIORITY\tNAME\tMODE\tSTATE\tRULES\tAPPLIES TO\tEXPIRES")
	for i := range l.Policies {
		p := &l.Policies[i]
		expires := "-"
		if p.ExpiresAt != nil {
			expires = p.ExpiresAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%d of %d\t%s\t%s\n", p.Tier, p.Priority, p.Name, p.Mode, p.State, p.Effective, p.Rules, strings.Join(p.AppliesTo, " "), expires)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "always allowed: %s\n", strings.Join(l.Implied, "; "))
	if l.ReadOnly {
		fmt.Fprintln(out, "read-only: nothing is enforced, everything is judged as if it were staged: see platelet policy staged")
	}
	if l.Error != "" {
		fmt.Fprintf(out, "the files are not in force: %s\n", l.Error)
	}
	for _, what := range slices.Sorted(maps.Keys(l.Waiting)) {
		fmt.Fprintf(out, "%s: being read since %s; what was read before is in force\n", what, l.Waiting[what].Format(time.RFC3339))
	}
	for _, sw := range slices.Sorted(maps.Keys(l.Failed)) {
		fmt.Fprintf(out, "not enforced on %s: %s\n", sw, l.Failed[sw])
	}
	return nil
}

func hitsText(out io.Writer, raw []byte) error {
	var rows []struct{ Source string }
	if err := json.Unmarshal(raw, &rows); err != nil {
		return err
	}
	if len(rows) == 0 || rows[0].Source != "records" {
		return table(out, raw, "switch", "direction", "policy", "rule", "action", "connections", "packets", "bytes")
	}
	if err := table(out, raw, "direction", "policy", "rule", "action", "connections", "packets", "bytes"); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "read-only: estimated from telemetry since the controller was started, as if everything were enforced; no switch counts")
	return err
}

func sourcesText(out io.Writer, raw []byte) error {
	return table(out, raw, "guard", "mode", "switch", "port", "workload", "macs", "addrs", "packets", "why")
}

func stagedText(out io.Writer, raw []byte) error {
	var r staged.Report
	if err := json.Unmarshal(raw, &r); err != nil {
		return err
	}
	return r.WriteText(out)
}

func workloadsText(out io.Writer, raw []byte) error {
	var list []policy.Workload
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tADDRESSES\tRISK\tLABELS")
	for i := range list {
		x := &list[i]
		var addrs, labels []string
		for _, a := range x.Addrs {
			addrs = append(addrs, a.String())
		}
		for k, v := range x.Labels {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		risk := "-"
		if x.Risk != 0 {
			risk = x.Risk.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Name, strings.Join(addrs, " "), risk, strings.Join(labels, " "))
	}
	return w.Flush()
}
