package datapath

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/lab/ovs"
)

func start(t *testing.T) (context.Context, *ovs.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "pd") // a short path, for the sockets in it
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
	if err := sw.AddBridge(ctx, "pd0", "netdev"); err != nil {
		t.Fatal(err)
	}
	return ctx, sw
}

func TestUsageOfARealSwitch(t *testing.T) {
	ctx, sw := start(t)
	l := Local{Dir: sw.Dir}
	u, err := l.Usage(ctx, "pd0", 7)
	if err != nil {
		t.Fatal(err)
	}
	if u.Datapath != "netdev@ovs-netdev" || u.MegaflowLimit == 0 || u.Connections == nil || u.ZoneConnections != nil {
		t.Errorf("without a limit: %+v", u)
	}
	if err := l.LimitZone(ctx, u.Datapath, 7, 1000); err != nil {
		t.Fatal(err)
	}
	if u, err = l.Usage(ctx, "pd0", 7); err != nil || u.ZoneLimit != 1000 || u.ZoneConnections == nil {
		t.Errorf("limited: %+v, %v", u, err)
	}
	if err := l.LimitZone(ctx, u.Datapath, 7, 0); err != nil {
		t.Fatal(err)
	}
	if u, err = l.Usage(ctx, "pd0", 7); err != nil || u.ZoneLimit != 0 {
		t.Errorf("unlimited: %+v, %v", u, err)
	}
	if _, err := l.Usage(ctx, "pd1", 7); !errors.Is(err, ErrNoBridge) {
		t.Errorf("a bridge that is not there: %v", err)
	}
	var refused *CallError
	if _, err := l.Call(ctx, "no/such-command"); !errors.As(err, &refused) || refused.Method != "no/such-command" {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestCallEnds(t *testing.T) {
	if _, err := (Local{Dir: t.TempDir()}).Call(context.Background(), "version"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	ctx, sw := start(t)
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := (Local{Dir: sw.Dir}).Call(ctx, "version"); !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose caller is gone: %v", err)
	}
}

const twoDatapaths = `netdev@ovs-netdev: hit:12 missed:2
  b0:
    b0 65534/1: (tap)
    p1 2/3: (system)
  br-int:
    br-int 65534/9: (tap)
system@ovs-system: hit:0 missed:0
  b1:
    b0: 65534/1: (internal)
`

func TestReadsWhatTheSwitchPrints(t *testing.T) {
	for bridge, want := range map[string]string{"b0": "netdev@ovs-netdev", "br-int": "netdev@ovs-netdev", "b1": "system@ovs-system", "p1": "", "": ""} {
		if got := datapathOf(twoDatapaths, bridge); got != want {
			t.Errorf("%q: %q, want %q", bridge, got, want)
		}
	}
	const upcall = "system@ovs-system:\n  flows         : (current 1) (avg 2) (max 3) (limit 4)\n" +
		"netdev@ovs-netdev:\n  flows         : (current 40) (avg 2) (max 3) (limit 10000)\n"
	if n, limit := megaflows(upcall, "netdev@ovs-netdev"); n != 40 || limit != 10000 {
		t.Errorf("%d of %d megaflows", n, limit)
	}
	if limit, n, ok := zoneLimit("default limit=0\nzone=7,limit=1000,count=12", 7); limit != 1000 || n != 12 || !ok {
		t.Errorf("%d of %d connections, %v", n, limit, ok)
	}
	if _, _, ok := zoneLimit("default limit=0", 7); ok {
		t.Error("a zone without a limit has one")
	}
	if _, err := decodeReply(strings.NewReader(`{"id":0,"result":"` + strings.Repeat("x", maxReply) + `"}`)); !errors.Is(err, errTooLong) {
		t.Errorf("a reply without end: %v", err)
	}
}

// Whatever the socket answers, reading it ends and does not crash.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"id":0,"result":"3.1.0","error":null}`))
	f.Add([]byte(`{"id":0,"result":null,"error":"unknown command"}`))
	f.Add([]byte(`{"id":0,"result":` + "\"" + `netdev@ovs-netdev: hit:1 missed:2\n  b0:\n"}`))
	f.Add([]byte(`{"error":{"code":1}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		text, err := decodeReply(strings.NewReader(string(b)))
		if err != nil {
			return
		}
		datapathOf(text, "b0")
		megaflows(text, "netdev@ovs-netdev")
		zoneLimit(text, 7)
	})
}
