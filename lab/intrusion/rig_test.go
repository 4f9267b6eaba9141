package intrusion_test

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/agent"
	"github.com/platelet-sdn/platelet/lab/intrusion"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// rig is a stage in a lab, and what was recorded on it.
type rig struct {
	lab *runner.Lab
	intrusion.Stage

	mu   sync.Mutex
	said []agent.Action
}

// newRig sets h5 up to attack h1.
func newRig(t *testing.T, lab *runner.Lab, rate float64, limit uint64) *rig {
	t.Helper()
	r := &rig{lab: lab}
	attacker, err := agent.In(lab, "h5")
	if err != nil {
		t.Fatal(err)
	}
	r.Stage = intrusion.Stage{
		Attackers: []*agent.Station{attacker}, Victim: "h1", Peers: []string{"h2", "h3", "h4"},
		Hosts: []string{"h1", "h2", "h3", "h4", "h5", "h6"},
		Open:  func(node string) (*agent.Station, error) { return agent.In(lab, node) },
		Record: func(a agent.Action) {
			if a.Time.IsZero() {
				a.Time = time.Now()
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.said = append(r.said, a)
		},
		Rand: rand.New(rand.NewPCG(7, 7)), Rate: rate, Limit: limit,
	}
	return r
}

// actions lists what was recorded so far of one kind, in order of time.
func (r *rig) actions(kind string) []agent.Action {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.DeleteFunc(slices.Clone(r.said), func(a agent.Action) bool { return a.Action != kind })
	slices.SortFunc(out, func(a, b agent.Action) int { return a.Time.Compare(b.Time) })
	return out
}

// count counts actions whose note ends as given.
func count(actions []agent.Action, note string) int {
	n := 0
	for _, a := range actions {
		if strings.HasSuffix(a.Note, note) {
			n++
		}
	}
	return n
}

// checkRate compares the mean rate with the one that was asked for.
func checkRate(t *testing.T, actions []agent.Action, want float64) {
	t.Helper()
	if len(actions) < 2 {
		t.Fatalf("only %d actions", len(actions))
	}
	got := float64(len(actions)-1) / actions[len(actions)-1].Time.Sub(actions[0].Time).Seconds()
	if got < 0.95*want || got > 1.05*want {
		t.Errorf("rate is %.2f/s, not %.2f", got, want)
	}
}

// TestIntrusions plays in several labs on one switch: first alone where rates
// are measured, then side by side.
func TestIntrusions(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	t.Run("on the wire", func(t *testing.T) { onTheWire(ctx, t, env.Up(ctx, t)) })
	t.Run("labs", func(t *testing.T) { // ends when all in it have
		for name, test := range map[string]func(context.Context, *testing.T, labtest.Env, *runner.Lab){
			"spread": spread, "vain": goesOnInVain, "openssh": againstOpenSSH,
		} {
			own := env
			own.Options.Name += name[:1]
			lab := own.Up(ctx, t)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(ctx, t, own, lab)
			})
		}
	})
}

// listeners lists the ports that somebody listens at in a node, TCP and UDP.
func listeners(ctx context.Context, t *testing.T, lab *runner.Lab, node string) string {
	t.Helper()
	cmd, err := lab.Command(ctx, node, "ss", "-Hltun")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
