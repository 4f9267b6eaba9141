package measure_test

import (
	"context"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMeasureEveryAttack(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	for _, a := range attack.All() {
		t.Run(a.Name, func(t *testing.T) {
			result, err := measure.Measure(ctx, measure.Config{
				Lab: lab, Attack: a.Name, Runs: 1, WarmUp: 300 * time.Millisecond, Log: t.Output(), Hold: 500 * time.Millisecond,
				Controller: func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
					return env.NewScripted(lab, a.Finding), nil
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%+v", result)
			if result.Contained != 1 || result.TTC.Max <= 0 || result.TTD.Max <= 0 || result.FalseContainments != 0 {
				t.Errorf("not contained, or not seen to be")
			}
			if result.Delivered < 1 || result.Sent <= result.Delivered {
				t.Errorf("delivered %d of %d", result.Delivered, result.Sent)
			}
		})
	}
}

// idle is a controller that does nothing.
type idle struct{}

func (idle) Events(ctx context.Context) (<-chan measure.Event, error) {
	events := make(chan measure.Event)
	context.AfterFunc(ctx, func() { close(events) })
	return events, nil
}
func (idle) Reset(context.Context) error { return nil }
func (idle) Close() error                { return nil }

func TestUncontainedAttackIsReportedAsSuch(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	result, err := measure.Measure(ctx, measure.Config{
		Topology: env.Topology, Options: env.Options, Attack: "port-scan", Runs: 1, WarmUp: 1, Patience: 2 * time.Second,
		Controller: func(context.Context, *runner.Lab) (measure.Controller, error) { return idle{}, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Contained != 0 || result.Delivered < 500 || result.TTC != (measure.Quantiles{}) {
		t.Errorf("got %+v", result)
	}
	if listed, err := runner.List(env.Options); err != nil || len(listed) != 0 {
		t.Errorf("lab left up: %v, %v", listed, err)
	}
}

func TestUnknownAttack(t *testing.T) {
	const want = `unknown attack "port-scam" (did you mean "port-scan"?): there are port-scan, port-scan-silent, host-sweep, arp-sweep, syn-flood, syn-flood-direct, udp-flood, icmp-flood`
	if _, err := measure.Measure(context.Background(), measure.Config{Attack: "port-scam"}); err == nil || err.Error() != want {
		t.Errorf("got %v", err)
	}
}
