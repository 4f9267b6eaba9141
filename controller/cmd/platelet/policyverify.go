package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/oracle"
	"github.com/platelet-sdn/platelet/segmentation/prove"
)

func policyVerifyCommand() *cobra.Command {
	var f policyFlags
	var invariants []string
	cmd := &cobra.Command{
		Use: "verify FILE...", Short: "Prove invariants over every connection there can be, or show a packet that breaks them", Args: cobra.MinimumNArgs(1),
		Long: `Prove the invariants that stand in the files and in those of --invariants, over
all addresses, also those that nobody has, and all services:

  invariants:
  - {name: plc-isolated, deny: {from: [not corp], to: [plc]}}
  - {name: web-reaches-db, allow: {from: [web], to: [db], services: [pg]}}

deny is true when no such connection comes about, allow when every one does.
"not" takes addresses out of the others, or out of everybody; what is left out is
everything. For what is false there is a packet, with the rules that decide.
What is always allowed (ARP, neighbour discovery, DHCP) is not judged.

Exit code 0 when all are true, 1 when one is not, 2 for bad input.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			set, inv, now, err := f.read(append(args, invariants...))
			if err != nil {
				return err
			}
			if len(set.Invariants) == 0 {
				return usage("policy verify: the files hold no invariants")
			}
			results, err := prove.Verify(set, inv, now)
			if err != nil {
				return err
			}
			broken, err := printProofs(cmd.OutOrStdout(), f.output, results)
			if err == nil && broken > 0 {
				err = fmt.Errorf("%d of %d invariants are false", broken, len(results)) // exit code 1
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().StringArrayVar(&invariants, "invariants", nil, "another file with invariants, may be repeated")
	return cmd
}

// verified is a result in JSON.
type verified struct {
	Name           string          `json:"name"`
	Holds          bool            `json:"holds"`
	Vacuous        bool            `json:"vacuous,omitempty"` // there is no such connection
	Counterexample *counterexample `json:"counterexample,omitempty"`
}

type counterexample struct {
	asked
	FromWorkload string `json:"from_workload,omitempty"`
	ToWorkload   string `json:"to_workload,omitempty"`
	oracle.Outcome
}

func printProofs(out io.Writer, format string, results []prove.Result) (broken int, err error) {
	list := []verified{}
	for _, r := range results {
		v := verified{Name: r.Invariant.Name, Holds: r.Holds, Vacuous: r.Vacuous}
		if c := r.Counterexample; c != nil {
			broken++
			v.Counterexample = &counterexample{askedOf(c.Connection), c.From, c.To, c.Verdict.Outcome}
		}
		list = append(list, v)
	}
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return broken, enc.Encode(list)
	}
	for _, r := range results {
		if c := r.Counterexample; c != nil {
			_, err = fmt.Fprintf(out, "false  %s: %s to %s, %s: %s\n       %s\n", r.Invariant.Name,
				who(c.Src, c.From), who(c.Dst, c.To), serviceText(c.Connection), c.Verdict.Action, c.Verdict.Why)
		} else {
			_, err = fmt.Fprintf(out, "true   %s%s\n", r.Invariant.Name, map[bool]string{true: " (says nothing: it is about nobody; is there an inventory?)"}[r.Vacuous])
		}
		if err != nil {
			return broken, err
		}
	}
	return broken, nil
}

// who names the workload that has an address.
func who(a netip.Addr, workload string) string {
	if workload == "" {
		return a.String()
	}
	return fmt.Sprintf("%s (%s)", workload, a)
}
