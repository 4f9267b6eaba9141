package lab_test

import (
	"context"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/clab"
	"github.com/platelet-sdn/platelet/lab/labtest"
)

// TestPages: the page of every lab has a title, its picture and five lines,
// and what they say to type before containerlab makes just the bridges that
// containerlab expects.
func TestPages(t *testing.T) {
	quoted := regexp.MustCompile("`([^`]*)`")
	for name, file := range topologies(t) {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(name + ".md")
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(string(text)) {
				if line = strings.TrimSpace(line); line != "" {
					lines = append(lines, line)
				}
			}
			if len(lines) > 7 || !strings.HasPrefix(lines[0], "# "+name+": ") || lines[1] != "!["+name+"]("+name+".svg)" {
				t.Errorf("%s.md is not a title, a picture and five lines:\n%s", name, text)
			}
			var commands []string
			for _, m := range quoted.FindAllStringSubmatch(string(text), -1) {
				commands = append(commands, m[1])
			}
			for _, want := range []string{"platelet lab up lab/" + file, "platelet lab down lab/" + file, "make image", "containerlab deploy -t lab/" + file} {
				if !slices.Contains(commands, want) {
					t.Errorf("%s.md does not say %q", name, want)
				}
			}
			checkBridges(t, file, commands)
		})
	}
}

// checkBridges types what makes bridges at a shell that sees an Open vSwitch
// of its own.
func checkBridges(t *testing.T, file string, commands []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, file)
	for _, c := range commands {
		if !strings.Contains(c, "add-br") {
			continue
		}
		cmd := exec.CommandContext(ctx, "sh", "-ec", c)
		cmd.Env = append(os.Environ(), "OVS_RUNDIR="+env.OVS.Dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", c, err, out)
		}
	}
	var want []string
	between := 0
	for _, n := range env.Topology.Nodes {
		if n.Kind == clab.KindOVSBridge {
			want = append(want, n.Name)
		}
	}
	for _, l := range env.Topology.Links {
		if slices.Contains(want, l.A.Node) && slices.Contains(want, l.B.Node) {
			between++
		}
	}
	list := func(args ...string) []string {
		out, err := env.OVS.Ctl(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		names := strings.Fields(out)
		slices.Sort(names)
		return names
	}
	slices.Sort(want)
	if got := list("list-br"); !slices.Equal(got, want) {
		t.Errorf("the page makes the bridges %q, the topology has %q", got, want)
	}
	// As many links between bridges as bridges make a loop.
	if between < len(want) {
		want = nil
	}
	if got := list("--bare", "--columns=name", "find", "bridge", "rstp_enable=true"); !slices.Equal(got, want) {
		t.Errorf("spanning tree is on at %q, and needed at %q", got, want)
	}
}
