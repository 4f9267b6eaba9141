package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/platelet-sdn/platelet/segmentation/policy"
	"github.com/platelet-sdn/platelet/segmentation/prove"
)

func policyDiffCommand() *cobra.Command {
	var f policyFlags
	var exit bool
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "List the connections whose verdict another version of the policies changes", Args: cobra.ExactArgs(2),
		Long: `List the connections that have another verdict, or another rate, under NEW than
under OLD, with the rules that decide: over all addresses, also those that nobody
has, and all services. OLD and NEW are files, or directories of them. Nothing is
printed when none has: both are equivalent, however they are written.

Each line is a region: everyone in "from", to everyone in "to". Pairs counts the
addresses of the inventory in it. With --staged, NEW's staged policies count as
enforced: "diff FILE FILE --staged" tells what enforcing them will do.

The exit code is 0 for every answer, 2 for bad input; with --exit-code it is 1
when there is a difference.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			next, inv, now, err := f.read(policyFiles(args[1]))
			if err != nil {
				return err
			}
			old, err := readPolicies(policyFiles(args[0]))
			if err != nil {
				return err
			}
			changes := prove.Diff(old, next, inv, now)
			if err := printDiff(cmd.OutOrStdout(), f.output, changes, now); err != nil {
				return err
			}
			if exit && len(changes) > 0 {
				return errors.New("verdicts differ") // exit code 1
			}
			return nil
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&exit, "exit-code", false, "exit with 1 when there is a difference")
	return cmd
}

// policyFiles are the files of a directory, or the file.
func policyFiles(name string) []string {
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return []string{name}
	}
	var out []string
	for _, form := range []string{"*.yaml", "*.yml"} {
		some, _ := filepath.Glob(filepath.Join(name, form)) // the form is good
		out = append(out, some...)
	}
	if len(out) == 0 {
		return []string{name} // which cannot be read
	}
	slices.Sort(out)
	return out
}

// changed is a region in JSON.
type changed struct {
	prove.Change
	Before changedFate `json:"before"`
	After  changedFate `json:"after"`
}

type changedFate struct {
	Verdict policy.Action `json:"verdict"`
	Rules   []string      `json:"rules"` // "policy/direction/rule"
}

func newChangedFate(f prove.Fate) changedFate {
	out := changedFate{Verdict: f.Action, Rules: []string{}}
	for _, id := range f.Rules {
		out.Rules = append(out.Rules, id.String())
	}
	return out
}

func printDiff(out io.Writer, format string, changes []prove.Change, now time.Time) error {
	pairs := 0
	list := []changed{}
	for _, c := range changes {
		pairs += c.Pairs
		list = append(list, changed{c, newChangedFate(c.Before), newChangedFate(c.After)})
	}
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			At      time.Time `json:"at"`
			Regions int       `json:"regions"`
			Pairs   int       `json:"pairs"`
			Changes []changed `json:"changes"`
		}{now, len(list), pairs, list})
	}
	for _, c := range list {
		if _, err := fmt.Fprintf(out, "%s -> %s: %s -> %s, %s (%s, %d pairs)\n  before: %s\n  after:  %s\n", c.Before.Verdict, c.After.Verdict,
			some(c.From), some(c.To), some(c.Services), strings.Join(c.Families, " and "), c.Pairs, by(c.Before), by(c.After)); err != nil {
			return err
		}
	}
	if len(list) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(out, "%d regions, %d pairs of known addresses\n", len(list), pairs)
	return err
}

func by(f changedFate) string {
	if len(f.Rules) == 0 {
		return "no rule matches"
	}
	return strings.Join(f.Rules, " and ")
}

// some shows the first terms of a long list. Terms that are taken out belong
// together.
func some(terms []string) string {
	const most = 8
	if n := len(terms); n > most {
		terms = append(slices.Clone(terms[:most]), fmt.Sprintf("%d more", n-most))
	}
	if not, ok := strings.CutPrefix(terms[0], "not "); ok {
		rest := []string{not}
		for _, t := range terms[1:] {
			rest = append(rest, strings.TrimPrefix(t, "not "))
		}
		return "any but " + strings.Join(rest, ", ")
	}
	return strings.Join(terms, ", ")
}
