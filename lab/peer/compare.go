package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// Config says what to compare.
type Config struct {
	Topology *clab.Topology
	Options  runner.Options
	// Attack is the attack's name; hping3-udp-flood when empty.
	Attack string
	// Runs is how often each is attacked; 5 when 0.
	Runs int
	// Controller starts platelet.
	Controller func(ctx context.Context, lab *runner.Lab) (measure.Controller, error)
	// Log gets a line per run; nil is silent.
	Log io.Writer
}

// Report is both results, of one lab, one attack and one session.
type Report struct {
	Platelet   measure.Attack `json:"platelet"`
	FastNetMon measure.Attack `json:"fastnetmon"`
}

// Compare measures platelet, then FastNetMon. They take turns on the lab:
// side by side each would profit from what the other drops.
func Compare(ctx context.Context, c Config) (report Report, err error) {
	if c.Attack == "" {
		c.Attack = "hping3-udp-flood"
	}
	if c.Runs == 0 {
		c.Runs = 5
	}
	a, err := attack.Find(c.Attack)
	if err != nil {
		return Report{}, err
	}
	lab, err := runner.Up(ctx, c.Topology, c.Options)
	if err != nil {
		return Report{}, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, lab.Down(ctx))
	}()
	one := measure.Config{Lab: lab, Attacks: []string{a.Name}, Runs: c.Runs, Log: c.Log, Controller: c.Controller}
	if report.Platelet, err = single(ctx, one); err != nil {
		return Report{}, fmt.Errorf("platelet: %w", err)
	}
	one.AnyMeans = true // it knows no other than to cut the victim off
	one.Controller = func(ctx context.Context, lab *runner.Lab) (measure.Controller, error) {
		return Start(ctx, lab, a.Finding)
	}
	if report.FastNetMon, err = single(ctx, one); err != nil {
		return Report{}, fmt.Errorf("fastnetmon: %w", err)
	}
	return report, nil
}

// single measures one attack; that it could not be run to the end is an error
// here, where two are compared.
func single(ctx context.Context, c measure.Config) (measure.Attack, error) {
	lab, err := measure.Measure(ctx, c)
	if err != nil {
		return measure.Attack{}, err
	}
	out := lab.Attacks[0]
	if out.Error != "" {
		return out, errors.New(out.Error)
	}
	return out, nil
}

// Print writes the report as a table, the ratio last.
func (r Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tcontained\tttc p50 ms\tp95 ms\tmax ms\tdelivered\tsent\tbenign lost\tcut off who did nothing")
	for _, row := range []struct {
		name string
		measure.Summary
	}{{"platelet", r.Platelet.Summary}, {"fastnetmon", r.FastNetMon.Summary}} {
		fmt.Fprintf(w, "%s\t%d of %d\t%.1f\t%.1f\t%.1f\t%d\t%d\t%d\t%d\n", row.name, row.Contained.K, row.Contained.N,
			row.TTC.P50, row.TTC.P95, row.TTC.Max, row.Delivered, row.Sent, row.Benign.Total().Lost, row.False)
	}
	if ours, theirs := r.Platelet.Summary.TTC.P50, r.FastNetMon.Summary.TTC.P50; ours > 0 && theirs > 0 {
		fmt.Fprintf(w, "ratio\t\t%.1f\n", theirs/ours)
	}
	return w.Flush()
}
