package attack_test

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/attack"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

func TestAttacksStartStopAndCleanUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	roles, err := attack.Cast(lab, 0)
	if err != nil {
		t.Fatal(err)
	}
	counter, err := attack.NewCounter(lab, roles)
	if err != nil {
		t.Fatal(err)
	}
	defer counter.Close()
	before := addressesAndNeighbours(t, ctx, lab)
	for _, a := range attack.All() {
		t.Run(a.Name, func(t *testing.T) {
			undo, err := a.Prepare(ctx, lab, roles)
			if err != nil {
				t.Fatal(err)
			}
			start, err := counter.Sent()
			if err != nil {
				t.Fatal(err)
			}
			set := attack.Settings{}
			if a.Tool() == "" && !a.Flood {
				set.Rate = 200 // the slow ones would take minutes
			}
			run, err := a.Start(ctx, lab, roles, set)
			if err != nil {
				t.Fatal(err)
			}
			for sent := start; sent < start+10; {
				if sent, err = counter.Sent(); err != nil || ctx.Err() != nil {
					t.Fatalf("sent nothing: %v, %v", err, ctx.Err())
				}
			}
			if err := run.Stop(); err != nil {
				t.Fatal(err)
			}
			if pids, err := namespace.Processes("clab-" + lab.Name() + "-" + roles.Attacker); err != nil || len(pids) > 0 {
				t.Errorf("tools still run: %v, %v", pids, err)
			}
			if err := undo(ctx); err != nil {
				t.Fatal(err)
			}
			if after := addressesAndNeighbours(t, ctx, lab); after != before {
				t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// addressesAndNeighbours shows what preparations change.
func addressesAndNeighbours(t *testing.T, ctx context.Context, lab *runner.Lab) string {
	t.Helper()
	var all strings.Builder
	for _, node := range []string{"h1", "h2", "h3", "h4", "h5"} {
		for _, args := range [][]string{{"-4", "-o", "addr"}, {"-4", "neigh", "show", "nud", "permanent"}} {
			cmd, err := lab.Command(ctx, node, "ip", args...)
			if err != nil {
				t.Fatal(err)
			}
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			all.Write(out)
		}
	}
	return all.String()
}

func TestCastByLabels(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	for index, want := range []string{"h5", "h6", "h5"} {
		r, err := attack.Cast(lab, index)
		if err != nil {
			t.Fatal(err)
		}
		if r.Attacker != want || r.Victim != "h1" || r.VictimAddr.String() != "10.77.0.11" || r.Subnet.String() != "10.77.0.0/24" ||
			strings.Join(r.Bystanders, " ") != "h3 h4 h2" {
			t.Errorf("cast %d: %+v", index, r)
		}
	}
}

// TestFiltersAreValid lets tcpdump compile every capture filter.
func TestFiltersAreValid(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1")}
	roles := attack.Roles{AttackerMAC: "aa:c1:ab:00:00:01", Near: attack.Host{Node: "h", Addr: netip.MustParseAddr("10.0.0.9")},
		Attackers: []attack.Party{{MAC: "aa:c1:ab:00:00:01", Addrs: own}, {MAC: "aa:c1:ab:00:00:02"}}}
	seen := map[string]bool{}
	for _, a := range attack.All() {
		if a.About() == "" || a.Finding == "" || a.Action == "" || a.Technique == "" || seen[a.Name] {
			t.Errorf("%s is incomplete, or there twice", a.Name)
		}
		seen[a.Name] = true
		if out, err := exec.Command("tcpdump", "-y", "EN10MB", "-i", "lo", "-d", a.Filter(roles)).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", a.Filter(roles), out)
		}
	}
}
