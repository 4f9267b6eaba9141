package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"

	"github.com/platelet-sdn/platelet/segmentation/policy"
)

func policyPrintCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "print FILE...", Short: "Print what the files say together, in the order in which it decides, with what is implied", Args: cobra.MinimumNArgs(1),
		Long: `Print what the files say together, in the order in which it decides, and what
nobody has to write: the rules that stand before all others (ARP, neighbour
discovery, DHCP) and what becomes of connections that no rule matches.

As yaml it is one file in normal form, which says the same as the files did.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readPolicies(args)
			if err != nil {
				return err
			}
			if output == "yaml" {
				raw, err := set.Marshal()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			raw, err := printedJSON(set)
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), output, raw, func(out io.Writer, _ []byte) error { return printSet(out, set) })
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json or yaml")
	return cmd
}

// printedJSON is the normal form, with what is implied beside it.
func printedJSON(set *policy.Set) (json.RawMessage, error) {
	raw, err := set.Marshal()
	if err != nil {
		return nil, err
	}
	var file map[string]any
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("print: %w", err)
	}
	file["implied"], file["defaults"] = policy.ImpliedRules(), set.Defaults()
	return json.Marshal(file)
}

func printSet(out io.Writer, set *policy.Set) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "TIER\tPRIORITY\tMODE\tPOLICY\tDIRECTION\tRULE\tACTION\tOF\tPEERS\tSERVICES")
	for _, r := range policy.ImpliedRules() {
		fmt.Fprintf(w, "implied\t\tenforce\t\tboth\t%s\tallow\tany\tany\t%s\n", r.Name, r.What)
	}
	for i := range set.Policies {
		p := &set.Policies[i]
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for j := range p.Rules(d) {
				r := &p.Rules(d)[j]
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Tier, p.Priority, p.Mode, p.Name, d, r.Name, actionText(r),
					texts(p.AppliesTo), texts(r.Peers(d)), serviceTexts(r.Services))
			}
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	w = tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "\nGROUP\tINGRESS\tEGRESS")
	for _, d := range set.Defaults() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.Group, byDefault(d.Ingress), byDefault(d.Egress))
	}
	return w.Flush()
}

// byDefault tells of a group what becomes of what no rule names.
func byDefault(rule string) string {
	if rule == "" {
		return "default allow"
	}
	return "default deny, by " + rule
}

func actionText(r *policy.Rule) string {
	text := r.Action.String()
	if r.Rate != nil {
		if r.Rate.PacketsPerSecond > 0 {
			text += fmt.Sprintf(" %d pktps", r.Rate.PacketsPerSecond)
		} else {
			text += fmt.Sprintf(" %d kbps", r.Rate.KilobitsPerSecond)
		}
	}
	if r.Log {
		text += ", log"
	}
	if r.Mirror != "" {
		text += ", mirror to " + r.Mirror
	}
	return text
}

func texts(peers []policy.Peer) string {
	var out []string
	for _, p := range peers {
		out = append(out, p.String())
	}
	return strings.Join(out, ",")
}

func serviceTexts(list []policy.ServiceRef) string {
	if len(list) == 0 {
		return "any"
	}
	var out []string
	for _, s := range list {
		if s.Inline == nil {
			out = append(out, s.Name)
		} else {
			out = append(out, s.Inline.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}
