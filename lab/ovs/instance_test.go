package ovs_test

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestInstanceLivesAndRestarts(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	i, err := ovs.Start(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer i.Stop()
	if err := i.AddBridge(ctx, "plovst0", "netdev"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(i.Mgmt("plovst0")); err != nil {
		t.Fatalf("bridge has no management socket: %v", err)
	}
	if err := i.PauseSwitch(); err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if _, err := i.Appctl(short, "version"); err == nil {
		t.Fatal("a paused switch answers")
	}
	if err := i.ResumeSwitch(); err != nil {
		t.Fatal(err)
	}
	if _, err := i.Appctl(ctx, "version"); err != nil {
		t.Fatalf("a resumed switch does not answer: %v", err)
	}
	if err := i.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	if err := i.StartSwitch(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := i.Ofctl(ctx, "dump-flows", i.Mgmt("plovst0")); err != nil || out == "" {
		t.Fatalf("bridge did not come back: %q, %v", out, err)
	}
	if err := i.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/sys/class/net/plovst0"); !os.IsNotExist(err) {
		t.Fatalf("LOCAL interface left behind: %v", err)
	}
}

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

func TestIsolation(t *testing.T) {
	links, err := net.Interfaces()
	if err != nil || len(links) != 1 || links[0].Flags&net.FlagUp == 0 {
		t.Errorf("want loopback alone, and up; got %v, %v", links, err)
	}
	if entries, err := os.ReadDir("/sys/class/net"); err != nil || len(entries) != 1 {
		t.Errorf("/sys shows another network: %v, %v", entries, err)
	}
	if entries, err := os.ReadDir("/run/netns"); err != nil || len(entries) != 0 {
		t.Errorf("namespaces of others: %v, %v", entries, err)
	}
}
