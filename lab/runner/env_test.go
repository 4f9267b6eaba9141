package runner_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/namespace"
	"github.com/platelet-sdn/platelet/lab/ovs"
	"github.com/platelet-sdn/platelet/lab/runner"
)

// env is a private Open vSwitch and a private record of labs.
type env struct {
	ovs     *ovs.Instance
	options runner.Options
}

func setUp(t *testing.T, ctx context.Context, name string) env {
	t.Helper()
	dir, err := os.MkdirTemp("", "plrun")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	i, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Stop(); err != nil {
			t.Error(err)
		}
	})
	return env{i, runner.Options{Name: fmt.Sprintf("%s%d", name, os.Getpid()), DB: i.DB, StateDir: filepath.Join(dir, "labs")}}
}

func load(t *testing.T, file string) *clab.Topology {
	t.Helper()
	topo, err := clab.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return topo
}

func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// traces lists whatever of a lab is still there.
func (e env) traces(t *testing.T, ctx context.Context, lab string) []string {
	t.Helper()
	var out []string
	names, _ := filepath.Glob(namespace.Path("clab-" + lab + "-*"))
	out = append(out, names...)
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		alias, _ := os.ReadFile("/sys/class/net/" + i.Name + "/ifalias")
		if strings.TrimSpace(string(alias)) == "platelet-lab="+lab {
			out = append(out, "interface "+i.Name)
		}
	}
	for _, table := range []string{"bridge", "interface"} {
		rows, err := e.ovs.Ctl(ctx, "--columns=name", "--bare", "find", table, "external_ids:platelet-lab="+lab)
		if err != nil {
			t.Fatal(err)
		}
		if rows != "" {
			out = append(out, table+" "+rows)
		}
	}
	if _, err := os.Stat(filepath.Join(e.options.StateDir, lab+".json")); err == nil {
		out = append(out, "record")
	}
	return out
}

// takeDown takes a lab down, which leaves nothing behind.
func (e env) takeDown(t *testing.T, ctx context.Context, lab *runner.Lab) {
	t.Helper()
	if err := lab.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if left := e.traces(t, ctx, lab.Name()); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// upFour brings four labs of one topology up at once.
func (e env) upFour(t *testing.T, ctx context.Context, topo *clab.Topology) []*runner.Lab {
	t.Helper()
	labs, errs := make([]*runner.Lab, 4), make([]error, 4)
	var all sync.WaitGroup
	for i := range labs {
		all.Go(func() {
			o := e.options
			o.Name = fmt.Sprintf("%s-%d", o.Name, i)
			labs[i], errs[i] = runner.Up(ctx, topo, o)
		})
	}
	all.Wait()
	t.Cleanup(func() {
		for _, lab := range labs {
			if lab != nil {
				_ = lab.Down(context.Background()) // down already, where all went well
			}
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return labs
}
