package openflow

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) {
	if target := os.Getenv(childEnv); target != "" {
		os.Exit(runChild(target))
	}
	os.Exit(ovs.Isolate(m.Run))
}

// realSwitch starts a private Open vSwitch with one bridge and returns the
// OpenFlow target of its management socket.
func realSwitch(t testing.TB, bridge string) (context.Context, *ovs.Instance, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "pl") // t.TempDir is too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	sw, err := ovs.Start(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sw.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := sw.AddBridge(ctx, bridge, "netdev"); err != nil {
		t.Fatal(err)
	}
	return ctx, sw, "unix:" + sw.Mgmt(bridge)
}
