package measure_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// A matrix goes on after a lab that cannot be measured, keeps what there is
// after each attack, and does not measure again what an earlier one holds.
func TestMatrix(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	scripted := func(kind string) func(context.Context, *runner.Lab) (measure.Controller, error) {
		return func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
			return env.NewScripted(lab, kind), nil
		}
	}
	broken := env.Options
	broken.Name = env.Options.Name + "x"
	labs := []measure.Config{
		{Topology: env.Topology, Options: broken, Attacks: []string{"port-scan"}, Controller: func(context.Context, *runner.Lab) (measure.Controller, error) {
			return nil, errors.New("no licence")
		}},
		{Lab: lab, Attacks: []string{"port-scan", "host-sweep"}, Runs: 1, WarmUp: 1, Before: 1, After: 1, Hold: 300 * time.Millisecond, Controller: scripted("host-sweep")},
	}
	earlier := measure.Report{Seed: 7, Labs: []measure.Lab{{Name: lab.Name(), Attacks: []measure.Attack{
		{Name: "port-scan", About: "from before", Runs: make([]measure.Outcome, 3)}, {Name: "host-sweep", Error: "the controller died"},
	}}}}
	var kept []measure.Report
	r, err := measure.Matrix(ctx, earlier, labs, func(r measure.Report) error {
		kept = append(kept, r)
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "lab "+broken.Name+": start the controller: no licence") {
		t.Errorf("got %v", err)
	}
	if len(r.Labs) != 2 || r.Schema != measure.Schema || r.Seed != 7 || r.Interrupted {
		t.Fatalf("got %+v", r)
	}
	good, bad := r.Labs[0], r.Labs[1]
	if bad.Name != broken.Name || !strings.Contains(bad.Error, "no licence") || len(bad.Attacks) != 0 {
		t.Errorf("the lab that cannot be measured: %+v", bad)
	}
	if len(good.Attacks) != 2 || good.Attacks[0].About != "from before" || len(good.Attacks[1].Runs) != 1 || good.Attacks[1].Error != "" {
		t.Errorf("the other one: %+v", good)
	}
	if len(kept) == 0 || len(kept[len(kept)-1].Labs[0].Attacks) != 2 {
		t.Errorf("kept %d times", len(kept))
	}
	if _, err := measure.Matrix(ctx, r, []measure.Config{{Lab: lab, Attacks: []string{"port-scam"}}}, func(measure.Report) error {
		t.Error("kept a report of nothing")
		return nil
	}); err == nil || !strings.Contains(err.Error(), "port-scam") {
		t.Errorf("got %v", err)
	}
}
