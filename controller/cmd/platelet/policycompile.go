package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/controller/openflow/flowtext"
	"github.com/platelet-sdn/platelet/controller/openflow/pipeline"
	"github.com/platelet-sdn/platelet/segmentation/compile"
)

func policyCompileCommand() *cobra.Command {
	var inventory, output string
	var at instant
	var base uint8
	cmd := &cobra.Command{
		Use: "compile FILE...", Short: "Show what a switch would hold to enforce policies", Args: cobra.MinimumNArgs(1),
		Long: `Show what a switch would hold to enforce policies: classes of addresses and of
services that all rules treat alike, and the rules about classes. With -o flows,
print the flows as ovs-ofctl takes them, for a bridge that Platelet does not hold:

  platelet policy compile web.yaml --inventory lab.clab.yml -o flows | ovs-ofctl -O OpenFlow14 add-flows br0 -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, err := readPolicies(args)
			if err != nil {
				return err
			}
			inv, err := readInventory(inventory)
			if err != nil {
				return err
			}
			program, err := compile.New().Compile(set, inv, at.or(time.Now()))
			if err != nil {
				return err
			}
			if output == "flows" {
				return printTables(cmd.OutOrStdout(), pipeline.Layout{Base: base, Zone: pipeline.DefaultZone}, program)
			}
			raw, err := json.Marshal(compiled(program))
			if err != nil {
				return err
			}
			return print(cmd.OutOrStdout(), output, raw, func(out io.Writer, _ []byte) error { return printProgram(out, compiled(program)) })
		},
	}
	inventoryFlag(cmd, &inventory)
	atFlag(cmd, &at, "time, RFC 3339, for schedules and expiry (now)")
	cmd.Flags().Uint8Var(&base, "base-table", pipeline.DefaultBase, "first of the tables, for -o flows")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text, json, yaml or flows")
	return cmd
}

// compiledProgram is a program for people and programs.
type compiledProgram struct {
	Endpoints []compiledClass `json:"endpoints"`
	Services  []compiledClass `json:"services"`
	Rules     []compiledRule  `json:"rules"`
	Tracked   []netip.Prefix  `json:"tracked"`
}

type compiledClass struct {
	Class   compile.Class `json:"class"`
	Members []string      `json:"members"`
}

type compiledRule struct {
	Tier      string          `json:"tier"`
	Rank      uint16          `json:"rank"`
	Rule      string          `json:"rule"`
	Action    string          `json:"action"`
	Opener    []compile.Class `json:"opener"` // null is everybody
	Responder []compile.Class `json:"responder"`
	Service   []compile.Class `json:"service"`
}

func compiled(p *compile.Program) compiledProgram {
	out := compiledProgram{Endpoints: classes(p.Endpoints, netip.Prefix.String), Services: classes(p.Services, matchedService),
		Rules: []compiledRule{}, Tracked: slices.SortedFunc(maps.Keys(p.Tracked), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })}
	for _, id := range p.Order() {
		r := p.Rules[id]
		out.Rules = append(out.Rules, compiledRule{r.Tier.String(), r.Rank, id.String(), r.Action.String(), r.Opener, r.Responder, r.Service})
	}
	return out
}

func classes[K comparable](members map[K]compile.Class, text func(K) string) []compiledClass {
	by := map[compile.Class][]string{}
	for k, c := range members {
		by[c] = append(by[c], text(k))
	}
	out := []compiledClass{}
	for _, c := range slices.Sorted(maps.Keys(by)) {
		slices.Sort(by[c])
		out = append(out, compiledClass{c, by[c]})
	}
	return out
}

func matchedService(m compile.ServiceMatch) string {
	switch {
	case m.PortMask != 0 && m.PortMask != 0xffff:
		return fmt.Sprintf("%s/%d-%d", m.Proto, m.Port, m.Port|^m.PortMask)
	case m.PortMask != 0:
		return fmt.Sprintf("%s/%d", m.Proto, m.Port)
	case m.HasCode:
		return fmt.Sprintf("%s type %d code %d", m.Proto, m.Type, m.Code)
	case m.HasType:
		return fmt.Sprintf("%s type %d", m.Proto, m.Type)
	}
	return m.Proto.String()
}

func printProgram(out io.Writer, p compiledProgram) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for i, list := range [][]compiledClass{p.Endpoints, p.Services} {
		fmt.Fprintf(w, "CLASS\t%s\n", []string{"ADDRESSES", "SERVICES"}[i])
		for _, c := range list {
			fmt.Fprintf(w, "%d\t%s\n", c.Class, some(c.Members))
		}
		fmt.Fprintln(w, "\t")
	}
	fmt.Fprintln(w, "RULE\tTIER\tOPENERS\tRESPONDERS\tSERVICES\tACTION")
	for _, r := range p.Rules {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Rule, r.Tier, anyOf(r.Opener), anyOf(r.Responder), anyOf(r.Service), r.Action)
	}
	return w.Flush()
}

func anyOf(list []compile.Class) string {
	if list == nil {
		return "any"
	}
	return strings.Trim(fmt.Sprint(list), "[]")
}

// printTables prints what ovs-ofctl add-flows reads.
func printTables(out io.Writer, l pipeline.Layout, program *compile.Program) error {
	if err := l.Validate(); err != nil {
		return usage("policy compile: %v", err)
	}
	meters, flows, err := pipeline.PolicyTables(l, program)
	if err != nil {
		return err
	}
	for _, m := range meters {
		if _, err := fmt.Fprintf(out, "# add-meter %s\n", m); err != nil {
			return err
		}
	}
	table := ""
	for i := range flows {
		f := &flows[i]
		if name := l.TableName(f.Table); name != table {
			table = name
			fmt.Fprintf(out, "# %s\n", table)
		}
		line := flowtext.Text(&f.Flow)
		if f.Rule.Policy != "" {
			line += "  # " + f.Rule.String()
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
