package benign_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/benign"
	"github.com/platelet-sdn/platelet/lab/labtest"
	"github.com/platelet-sdn/platelet/lab/ovs"
)

func TestMain(m *testing.M) { os.Exit(ovs.Isolate(m.Run)) }

func TestLossIsCounted(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	env := labtest.New(ctx, t, "../first.clab.yml")
	lab := env.Up(ctx, t)
	traffic, err := benign.Start(ctx, lab, benign.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := traffic.Stop(); err != nil {
			t.Error(err)
		}
	}()
	whole, err := traffic.Loss(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if whole.ProbesSent < 20 || whole.RequestsSent < 2 || whole.RequestsFailed > 0 {
		t.Errorf("on a whole network: %+v", whole)
	}
	port, err := lab.HostSide("h3", "eth1")
	if err != nil {
		t.Fatal(err)
	}
	cut := "in_port=" + port
	if _, err := env.OVS.Ofctl(ctx, "add-flow", env.OVS.Mgmt(lab.Bridges()[0]), "priority=9,"+cut+" actions=drop"); err != nil {
		t.Fatal(err)
	}
	// Twice: what is sent while the first count waits is lost for certain.
	for range 2 {
		if _, err := traffic.Loss(ctx); err != nil {
			t.Fatal(err)
		}
	}
	after, err := traffic.Loss(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if lost := after.Sub(whole); lost.ProbesLost < 20 || lost.RequestsFailed < 2 || lost.ProbesLost > lost.ProbesSent*3/4 {
		t.Errorf("with one of two clients cut off: %+v", lost)
	}
}
