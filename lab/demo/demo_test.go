package demo_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/demo"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/measure"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestDemo(t *testing.T) {
	for _, tt := range []struct {
		name  string
		kinds []string // what the controller sees, by attacker
		want  []string
		fails []string
	}{
		{
			"everything holds", []string{"port-scan", "syn-flood"},
			[]string{"first packet", "detected      port-scan", "contained", "verified", "last packet", "released", "h5 reaches h1 again", "everything held", "syn-flood  "}, nil,
		},
		{
			"one attacker is missed", []string{"port-scan"},
			[]string{"NOT contained", "not everything held"},
			[]string{"syn-flood: not detected", "syn-flood: not contained", "syn-flood: containment not verified", "syn-flood: h6 not released"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			env := labtest.New(ctx, t, "../first.clab.yml")
			var out bytes.Buffer
			err := demo.Demo(ctx, demo.Config{
				Topology: env.Topology, Options: env.Options, Out: &out, WarmUp: 300 * time.Millisecond, Release: 20 * time.Second,
				Controller: func(_ context.Context, lab *runner.Lab) (measure.Controller, error) {
					return env.NewScripted(lab, tt.kinds...), nil
				},
			})
			t.Log("\n" + out.String())
			if (err != nil) != (len(tt.fails) > 0) {
				t.Errorf("got %v", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("timeline lacks %q", want)
				}
			}
			for _, want := range tt.fails {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("verdict lacks %q: %v", want, err)
				}
			}
			if listed, err := runner.List(env.Options); err != nil || len(listed) != 0 {
				t.Errorf("lab left up: %v, %v", listed, err)
			}
		})
	}
}
