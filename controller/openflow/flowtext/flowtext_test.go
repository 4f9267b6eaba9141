package flowtext_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow"
	"github.com/platelet-sdn/platelet/controller/openflow/flowtext"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

// What the switch reports comes out as text from which ovs-ofctl makes the
// same flows again: by the types of go-openvswitch, or past them.
func TestTextInstallsTheSameFlows(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "pl")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sw, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Stop()
	if err := sw.AddBridge(ctx, "plft0", "netdev"); err != nil {
		t.Fatal(err)
	}
	ofctl := func(args ...string) string {
		t.Helper()
		out, err := sw.Ofctl(ctx, append([]string{"-O", "OpenFlow14"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	mgmt := sw.Mgmt("plft0")
	ofctl("add-meter", mgmt, "meter=3,pktps,burst,bands=type=drop,rate=9,burst_size=9")
	ofctl("add-group", mgmt, "group_id=3,type=all,bucket=actions=output:3")
	ofctl("add-flows", mgmt, filepath.Join("testdata", "flows"))
	dump := func() string {
		lines := strings.Split(ofctl("dump-flows", "--no-stats", mgmt), "\n")
		slices.Sort(lines)
		return strings.Join(lines, "\n")
	}
	before := dump()

	c, err := openflow.Dial(ctx, "unix:"+mgmt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	flows, err := c.Flows(ctx, openflow.FlowFilter{Table: openflow.TableAll})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	typed := 0
	for i := range flows {
		lines = append(lines, flowtext.Text(&flows[i].Flow))
		if _, ok := flowtext.OVS(&flows[i].Flow); ok {
			typed++
		}
	}
	slices.Sort(lines)
	t.Logf("%d of %d flows by go-openvswitch's types", typed, len(flows))
	if len(flows) != strings.Count(before, "\n")+1 || typed < len(flows)/2 || typed == len(flows) {
		t.Errorf("%d flows of %d lines, %d typed", len(flows), strings.Count(before, "\n")+1, typed)
	}
	file := filepath.Join(dir, "flows")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ofctl("del-flows", mgmt)
	ofctl("add-flows", mgmt, file)
	if after := dump(); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
}
