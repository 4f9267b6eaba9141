package openflow

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"time"
)

// What the switch said before a reply is in Async when the call returns, in
// the order in which it was said.
func TestEventsKeepTheirOrder(t *testing.T) {
	settles(t)
	c, err := Dial(t.Context(), badSwitch(t, func(p *peer) {
		for i := byte(0); ; i += 3 {
			m, ok := p.next(TypeBarrierRequest)
			if !ok {
				return
			}
			for j, e := range []Type{TypeFlowRemoved, TypePortStatus, TypeRoleStatus} {
				p.send(e, 0, []byte{i + byte(j)})
			}
			p.send(TypeBarrierReply, m.XID, nil)
			p.send(TypeBarrierReply, m.XID, nil) // twice is once too often
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := byte(0); i < 60; i++ {
		if i%3 == 0 {
			if err := c.Barrier(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case m := <-c.Async():
			if m.Body[0] != i {
				t.Fatalf("event %d comes as number %d", m.Body[0], i)
			}
		default:
			t.Fatalf("event %d is not there when the barrier returns", i)
		}
	}
	if n := c.Stale(); n < 19 {
		t.Errorf("%d stale replies, want the second of each", n)
	}
}

// Open vSwitch reports a change to monitors before it answers the barrier
// behind it, whoever made the change. (The flow-removed may come later.)
func TestMonitorIsAheadOfTheBarrier(t *testing.T) {
	ctx, _, target := realSwitch(t, "plofor")
	var conns [2]*Conn
	for i := range conns {
		c, err := Dial(ctx, target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns[i] = c
	}
	c, other := conns[0], conns[1]
	if err := errors.Join(c.SetAsync(ctx, Async{FlowRemoved: true}), c.Monitor(ctx, FlowFilter{Table: TableAll})); err != nil {
		t.Fatal(err)
	}
	removed, rounds := 0, 20
	collect := func() (events []FlowEvent) {
		for len(c.Async()) > 0 {
			m := <-c.Async()
			if m.Type == TypeFlowRemoved {
				removed++
			}
			updates, _, err := DecodeFlowUpdates(m)
			if err != nil {
				t.Fatal(err)
			}
			for _, u := range updates {
				events = append(events, u.Event)
			}
		}
		return events
	}
	for i := range rounds {
		w := conns[i%2]
		f := Flow{Table: 7, Flags: FlagSendFlowRemoved, Match: Match{InPort(1)}}
		if err := errors.Join(w.Commit(ctx, Tx{Flows: []FlowMod{{Flow: f}}}),
			w.Commit(ctx, Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: 7}}}}), c.Barrier(ctx)); err != nil {
			t.Fatal(err)
		}
		got, want := collect(), []FlowEvent{FlowAdded, FlowRemovedEvent}
		if w != other {
			want = []FlowEvent{FlowOwnChange, FlowOwnChange}
		}
		if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
			t.Fatalf("round %d: events %v, want %v", i, got, want)
		}
	}
	for removed < rounds {
		if err := c.Barrier(ctx); err != nil {
			t.Fatalf("%d of %d flows reported as removed: %v", removed, rounds, err)
		}
		collect()
	}
}

// Two replies whose parts alternate go each to its own caller; one that comes
// after its caller left goes to nobody.
func TestRepliesFindTheirCaller(t *testing.T) {
	settles(t)
	part := func(table byte, more byte) []byte {
		f := Flow{Table: table}
		return append([]byte{0, byte(multipartFlow), 0, more, 0, 0, 0, 0}, asStats(&f)...)
	}
	c, err := Dial(t.Context(), badSwitch(t, func(p *peer) {
		first, _ := p.next(TypeMultipartRequest)
		second, ok := p.next(TypeMultipartRequest)
		if !ok {
			return
		}
		// A request carries the table behind the multipart header.
		calls := []Message{first, second}
		for i := range 10 {
			for _, m := range calls {
				more := byte(multipartMore)
				if i == 9 {
					more = 0
				}
				p.send(TypeMultipartReply, m.XID, part(m.Body[multipartHeaderLen], more))
			}
		}
		late, ok := p.next(TypeMultipartRequest)
		if !ok {
			return
		}
		m, ok := p.next(TypeBarrierRequest)
		if !ok {
			return
		}
		p.send(TypeMultipartReply, late.XID, part(9, 0))
		p.send(TypeBarrierReply, m.XID, nil)
		p.ignore()
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var both sync.WaitGroup
	for table := range uint8(2) {
		both.Go(func() {
			flows, err := c.Flows(t.Context(), FlowFilter{Table: table})
			if err != nil || len(flows) != 10 {
				t.Errorf("%d flows, %v", len(flows), err)
			}
			for _, f := range flows {
				if f.Table != table {
					t.Errorf("a flow of table %d among those of %d", f.Table, table)
				}
			}
		})
	}
	both.Wait()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Flows(short, FlowFilter{Table: 9}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.Stale() != 1 || len(c.Async()) != 0 {
		t.Errorf("%d stale, %d asynchronous messages: want the late reply as stale", c.Stale(), len(c.Async()))
	}
}

// Transaction IDs wrap around, skip 0 and those that still wait for a reply.
func TestTransactionIDsWrap(t *testing.T) {
	ctx, _, target := realSwitch(t, "plofxid")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for back := range uint32(12) {
		c.xid.Store(math.MaxUint32 - back)
		if err := c.Commit(ctx, Tx{AddMeters: []Meter{{ID: 1, Flags: MeterPktps, Rate: 1}}, Flows: manyFlows(5), DeleteMeters: []uint32{1}}); err != nil {
			t.Fatalf("%d before the end: %v", back, err)
		}
	}
	old, err := c.begin(TypeBarrierReply)
	if err != nil {
		t.Fatal(err)
	}
	c.xid.Store(old.xid - 1)
	next, err := c.begin(TypeBarrierReply)
	if err != nil || next.xid == old.xid {
		t.Fatalf("transaction ID %d is given twice (%v)", old.xid, err)
	}
	if !c.forget(old) || !c.forget(next) {
		t.Error("a call is not remembered")
	}
}

// A switch that works through a long reply is alive, even where the answer to
// the probe has to wait behind it.
func TestLongReplyIsNoSilence(t *testing.T) {
	settles(t)
	const keepalive = time.Second
	c, err := Dialer{Keepalive: keepalive}.Dial(t.Context(), badSwitch(t, func(p *peer) {
		m, ok := p.next(TypeMultipartRequest)
		if !ok {
			return
		}
		part := []byte{0, byte(multipartFlow), 0, multipartMore, 0, 0, 0, 0}
		for end := time.Now().Add(3 * keepalive); time.Now().Before(end); time.Sleep(keepalive / 10) {
			p.send(TypeMultipartReply, m.XID, part)
		}
		part[3] = 0
		p.send(TypeMultipartReply, m.XID, part)
		p.ignore()
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Flows(t.Context(), FlowFilter{}); err != nil {
		t.Fatal(err)
	}
}

// Large replies of the real switch, echoes and changes on one connection do
// not get into each other's way.
func TestEchoBesideLargeReplies(t *testing.T) {
	ctx, _, target := realSwitch(t, "plofbig")
	settles(t)
	c, err := Dialer{Keepalive: 10 * time.Second}.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const flows = 10_000
	if err := c.Commit(ctx, Tx{Flows: manyFlows(flows)}); err != nil {
		t.Fatal(err)
	}
	reading, stop := context.WithCancel(ctx)
	var beside sync.WaitGroup
	beside.Go(func() {
		for reading.Err() == nil {
			if err := errors.Join(c.Echo(ctx), c.Barrier(ctx), c.Commit(ctx, Tx{Flows: []FlowMod{{Flow: Flow{Table: 8}}}})); err != nil {
				t.Error(err)
				return
			}
		}
	})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for range 3 {
				got, err := c.Flows(ctx, FlowFilter{Table: 7})
				if err != nil || len(got) != flows {
					t.Errorf("%d flows, %v", len(got), err)
				}
			}
		})
	}
	readers.Wait()
	stop()
	beside.Wait()
	if c.Stale() != 0 {
		t.Errorf("%d replies found no caller", c.Stale())
	}
}

// A switch that hangs is given up after the keepalive time, and with it every
// call, those without a deadline too; when it goes on it can be dialled again.
func TestHungSwitch(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofhang")
	settles(t)
	c, err := Dialer{Keepalive: 300 * time.Millisecond, Timeout: time.Hour}.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := sw.PauseSwitch(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sw.ResumeSwitch() }() // Stop waits for it
	calls := []func(context.Context) error{
		c.Barrier,
		func(ctx context.Context) error { _, err := c.Flows(ctx, FlowFilter{Table: TableAll}); return err },
		func(ctx context.Context) error { return c.Commit(ctx, Tx{Flows: manyFlows(100_000)}) },
		func(ctx context.Context) error { return c.Lead(ctx, 1) },
	}
	ended := make(chan error)
	for _, call := range calls {
		go func() { ended <- call(context.Background()) }()
	}
	for range calls {
		select {
		case err := <-ended:
			if !errors.Is(err, ErrDead) {
				t.Errorf("got %v", err)
			}
		case <-ctx.Done():
			t.Fatal("a call waits for a switch that hangs")
		}
	}
	if err := sw.ResumeSwitch(); err != nil {
		t.Fatal(err)
	}
	next, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if flows, err := next.Flows(ctx, FlowFilter{Table: 7}); err != nil || len(flows) != 0 {
		t.Errorf("%d flows of a bundle that was never committed, %v", len(flows), err)
	}
}

// A switch that lives and answers nothing: every call ends, though its context
// has no end, and the connection stays for those that are answered.
func TestCallsEndWithoutAnAnswer(t *testing.T) {
	settles(t)
	c, err := Dialer{Timeout: time.Second}.Dial(t.Context(), badSwitch(t, func(p *peer) {
		for {
			m, ok := p.next(TypeEchoRequest)
			if !ok || !p.send(TypeEchoReply, m.XID, nil) {
				return
			}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	var calls sync.WaitGroup
	for what, call := range map[string]func() error{
		"barrier":   func() error { return c.Barrier(ctx) },
		"flows":     func() error { _, err := c.Flows(ctx, FlowFilter{}); return err },
		"ports":     func() error { _, err := c.Ports(ctx); return err },
		"aggregate": func() error { _, err := c.Aggregate(ctx, FlowFilter{}); return err },
		"meters":    func() error { _, err := c.Meters(ctx); return err },
		"groups":    func() error { _, err := c.Groups(ctx); return err },
		"role":      func() error { return c.Lead(ctx, 1) },
		"async":     func() error { return c.SetAsync(ctx, Async{}) },
		"monitor":   func() error { return c.Monitor(ctx, FlowFilter{}) },
		"packet":    func() error { return c.PacketOut(ctx, PacketOut{Data: make([]byte, 60)}) },
		"conntrack": func() error { return c.FlushConntrack(ctx, CTFlush{}) },
		"read back": func() error { _, err := c.ReadBack(ctx, Tx{Flows: manyFlows(1)}); return err },
	} {
		calls.Go(func() {
			if err := call(); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	calls.Wait()
	if err := c.Echo(ctx); err != nil {
		t.Errorf("the connection is lost: %v", err)
	}
	if err := c.Commit(ctx, Tx{Flows: manyFlows(1)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("transaction: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.pending) != 0 || len(c.spans) != 0 || c.held != 0 {
		t.Errorf("remembered: %d calls, %d spans, %d bytes", len(c.pending), len(c.spans), c.held)
	}
}
