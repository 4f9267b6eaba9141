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
		Use: "diff OLD NEW", Short: "List the connections that fare otherwise under another version of the policies", Args: cobra.ExactArgs(2),
		Long: `List the connections that have another verdict, or another rate, under NEW than
under OLD, with the rules that decide: over all addresses, also those that nobody
has, and all services. OLD and NEW are files, or directories of them. Nothing is
printed when none has: both are equivalent, however they are written.

Behind the verdicts stand effects: what comes with connections that fare as they
did, or with another verdict.

  log          whether a rule that is met reports the connection
  mirror       where its packets are copied to
  established  whether connections that exist go on, where new ones are refused
  staged       what would become of it if staged policies were enforced

Schedules and ends are looked at as well: what differs at other times than now
begins with the first time at which it does.

Each line is a region: everyone in "from", to everyone in "to". Pairs counts the
addresses of the inventory in it. Where many rules say the same, some are named.
With --staged, NEW's staged policies count as enforced: "diff FILE FILE --staged"
tells what enforcing them will do.

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
			changes, until := prove.DiffOverTime(old, next, inv, now)
			if !until.IsZero() {
				fmt.Fprintf(cmd.ErrOrStderr(), "schedules and ends come in more than %d combinations: compared until %s\n", prove.MaxInstants, until.UTC().Format(time.RFC3339))
			}
			if err := printDiff(cmd.OutOrStdout(), f.output, changes, now); err != nil {
				return err
			}
			if exit && len(changes) > 0 {
				return errors.New("the policies differ") // exit code 1
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
	Verdict policy.Action `json:"verdict,omitempty"`
	Effect  string        `json:"effect,omitempty"` // of what is no verdict
	Rates   []policy.Rate `json:"rates,omitempty"`
	Rules   []string      `json:"rules"`          // "policy/direction/rule"
	More    bool          `json:"more,omitempty"` // rules, that are not named
}

func newChangedFate(f prove.Fate) changedFate {
	out := changedFate{Effect: f.Value, Rates: f.Rates, Rules: []string{}, More: f.More}
	if f.Value == "" {
		out.Verdict = f.Action
	}
	for _, id := range f.Rules {
		out.Rules = append(out.Rules, id.String())
	}
	return out
}

// is says what becomes of it, with the rates.
func (f *changedFate) is() string {
	text := f.Effect
	if text == "" {
		text = f.Verdict.String()
	}
	for _, r := range f.Rates {
		text += " " + rateText(r)
	}
	return text
}

func rateText(r policy.Rate) string {
	text := fmt.Sprintf("%d packets/s", r.PacketsPerSecond)
	if r.KilobitsPerSecond > 0 {
		text = fmt.Sprintf("%d kbit/s", r.KilobitsPerSecond)
	}
	if r.Burst > 0 {
		text += fmt.Sprintf(" (burst %d)", r.Burst)
	}
	return text
}

func printDiff(out io.Writer, format string, changes []prove.Change, now time.Time) error {
	pairs := 0
	verdicts, effects := []changed{}, []changed{}
	for _, c := range changes {
		x := changed{c, newChangedFate(c.Before), newChangedFate(c.After)}
		if c.Kind == prove.KindVerdict {
			pairs += c.Pairs
			verdicts = append(verdicts, x)
		} else {
			effects = append(effects, x)
		}
	}
	if format == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			At      time.Time `json:"at"`
			Regions int       `json:"regions"`
			Pairs   int       `json:"pairs"`
			Changes []changed `json:"changes"`
			Effects []changed `json:"effects"`
		}{now, len(verdicts), pairs, verdicts, effects})
	}
	for _, c := range slices.Concat(verdicts, effects) {
		kind := ""
		if !c.At.Equal(now) {
			kind = "from " + c.At.UTC().Format(time.RFC3339) + ": "
		}
		if c.Kind != prove.KindVerdict {
			kind += string(c.Kind) + ": "
		}
		if _, err := fmt.Fprintf(out, "%s%s -> %s: %s -> %s, %s (%s, %d pairs)\n  before: %s\n  after:  %s\n", kind, c.Before.is(), c.After.is(),
			some(c.From), some(c.To), some(c.Services), strings.Join(c.Families, " and "), c.Pairs, by(&c, c.Before), by(&c, c.After)); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		return nil
	}
	if len(effects) > 0 {
		_, err := fmt.Fprintf(out, "verdicts: %d regions, %d pairs of known addresses; effects: %d regions\n", len(verdicts), pairs, len(effects))
		return err
	}
	_, err := fmt.Fprintf(out, "%d regions, %d pairs of known addresses\n", len(verdicts), pairs)
	return err
}

func by(c *changed, f changedFate) string {
	switch {
	case f.More:
		return some(f.Rules) + ", and others"
	case len(f.Rules) > 0:
		return strings.Join(f.Rules, " and ")
	case c.Kind == prove.KindVerdict:
		return "no rule matches"
	}
	return "no rule says so"
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
