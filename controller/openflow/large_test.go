package openflow

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/platelet-sdn/platelet/controller/openflow/internal/cut"
)

// largeTx is more than the buffers of both sides hold.
const largeTx = 100_000

// maxLive is what a transaction may keep alive beside its own members, in
// bytes: output that waits (2 MiB), and a word on each refusal.
const maxLive = 48 << 20

// live runs f and returns by how many bytes the live heap grew at most.
func live(f func()) int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, peak := heap(), int64(0)
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for {
		select {
		case <-done:
			return peak
		case <-time.After(20 * time.Millisecond):
			peak = max(peak, heap()-before)
		}
	}
}

func largeMods(bad bool) []FlowMod {
	mods := make([]FlowMod, largeTx)
	for i := range mods {
		mods[i] = FlowMod{Flow: benchFlow(i)}
		if bad {
			mods[i].Actions = refusedFlow(0).Actions
		}
	}
	return mods
}

// A transaction that fills the buffers of both sides goes through, whether
// the switch takes all of it or complains of every single member.
func TestLargeTransaction(t *testing.T) {
	ctx, _, target := realSwitch(t, "ploflg")
	c, err := Dialer{Timeout: time.Minute}.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	count := func() uint32 {
		a, err := c.Aggregate(ctx, FlowFilter{Table: 201})
		if err != nil {
			t.Error(err)
		}
		return a.Flows
	}
	good := largeMods(false)
	grew := live(func() {
		if err := c.Commit(ctx, Tx{Flows: good}); err != nil {
			t.Error(err)
		}
	})
	if n := count(); n != largeTx || grew > maxLive {
		t.Errorf("%d flows, %d bytes alive", n, grew)
	}
	clear := Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: 201}}}}
	if err := c.Commit(ctx, clear); err != nil {
		t.Fatal(err)
	}
	bad := largeMods(true)
	var refused *TxError
	grew = live(func() {
		if err := c.Commit(ctx, Tx{Flows: bad}); !errors.As(err, &refused) {
			t.Errorf("got %v", err)
		}
	})
	if refused == nil || len(refused.Members)+refused.More != largeTx || len(refused.Members) != maxMembers {
		t.Fatalf("%v", refused)
	}
	if n := count(); n != 0 || grew > maxLive {
		t.Errorf("%d flows, %d bytes alive", n, grew)
	}
}

// A switch that stops reading in the middle holds nobody up, and what it has
// read is discarded.
func TestLargeTransactionMeetsAStall(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "ploflh")
	r := newFaultRig(ctx, t, sw, "ploflh0")
	before := r.state()
	short, end := context.WithCancel(ctx)
	defer end()
	r.proxy.Arm(cut.Fault{Kind: cut.Stall, Direction: cut.ToSwitch, Message: largeTx / 2})
	c, err := Dialer{Timeout: time.Minute}.Dial(ctx, r.proxy.Target())
	if err != nil {
		t.Fatal(err)
	}
	mods := largeMods(false)
	go func() { <-r.proxy.Hit(); end() }()
	grew := live(func() {
		if err := c.Commit(short, Tx{Flows: mods}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	c.Close()
	if err := r.proxy.Settled(ctx); err != nil {
		t.Fatal(err)
	}
	if got := r.state(); got != before || grew > maxLive {
		t.Errorf("%d bytes alive, and on the switch\n%+v", grew, got)
	}
}
