package intrusion_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/intrusion"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// spread lets worms loose where one host's cable is pulled.
func spread(ctx context.Context, t *testing.T, _ labtest.Env, lab *runner.Lab) {
	t.Run("bounded", func(t *testing.T) { spreadIsBounded(ctx, t, lab) })
	cut, err := lab.Command(ctx, "h4", "ip", "link", "set", "eth1", "down")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cut.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, test := range map[string]struct {
		play func(context.Context, *intrusion.Stage) error
		want string
	}{
		"worm":  {intrusion.Worm, "h1 h2 h3 h6"},
		"mirai": {intrusion.Mirai, "h2 h3 h6"}, // h1 is who gets flooded
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, lab, 100, 1_000_000)
			if name == "mirai" {
				r.Limit = 3000
			}
			playing, stop := context.WithCancel(ctx)
			defer stop()
			done := make(chan error, 1)
			go func() { done <- test.play(playing, &r.Stage) }()
			want := strings.Fields(test.want)
			deadline := time.After(30 * time.Second)
			for finished := false; !finished && len(r.actions("infected")) < len(want); {
				select {
				case err := <-done:
					done <- err
					finished = true
				case <-deadline:
					t.Fatalf("infected: %v", r.actions("infected"))
				case <-time.After(10 * time.Millisecond):
				}
			}
			if name == "worm" {
				stop()
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			checkInfections(t, r, want)
			if flood := r.actions("flood"); (name == "mirai") != (len(flood) > 0) {
				t.Errorf("flood: %v", flood)
			}
			for _, node := range lab.Nodes() {
				if !lab.Isolated(node) {
					continue
				}
				if left := listeners(ctx, t, lab, node); left != "" {
					t.Errorf("%s still listens: %s", node, left)
				}
			}
		})
	}
}

// checkInfections looks for every host that can be taken and reached, once,
// each by one that was taken before it and had been looking for it.
func checkInfections(t *testing.T, r *rig, want []string) {
	t.Helper()
	taken := map[string]time.Time{"h5": {}}
	infected := r.actions("infected")
	for _, a := range infected {
		host, _, _ := strings.Cut(a.Note, ",")
		if since, ok := taken[a.Agent]; !ok || a.Time.Before(since) {
			t.Errorf("%s was infected by %s, which is not", host, a.Agent)
		}
		if _, again := taken[host]; again {
			t.Errorf("%s was infected twice", host)
		}
		taken[host] = a.Time
	}
	for _, host := range want {
		if _, ok := taken[host]; !ok {
			t.Errorf("%s was not infected", host)
		}
	}
	if len(taken) != len(want)+1 {
		t.Errorf("infected: %v", infected)
	}
	for _, p := range r.actions("probe") {
		if since, ok := taken[p.Agent]; !ok || p.Time.Before(since) {
			t.Errorf("%s looked for hosts before it was infected", p.Agent)
		}
	}
}

// spreadIsBounded and the same every time.
func spreadIsBounded(ctx context.Context, t *testing.T, lab *runner.Lab) {
	order := func() []agent.Action {
		r := newRig(t, lab, 140, 1000)
		r.Hosts = nil // nobody can be taken
		left := atomic.Int64{}
		left.Store(70)
		r.Charge = func() error {
			if left.Add(-1) < 0 {
				return agent.ErrSpent
			}
			return nil
		}
		if err := intrusion.Worm(ctx, &r.Stage); !errors.Is(err, agent.ErrSpent) {
			t.Fatal(err)
		}
		probes := r.actions("probe")
		if len(probes) != 70 {
			t.Errorf("%d probes, the limit is 70", len(probes))
		}
		return probes
	}
	first, second := order(), order()
	for i := range min(len(first), len(second)) {
		if first[i].To != second[i].To {
			t.Fatalf("probe %d goes to %v, and to %v the second time", i, first[i].To, second[i].To)
		}
	}
}
