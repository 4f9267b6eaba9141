package openflow

import (
	"bufio"
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestConversationWithRealSwitch(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofa")
	if _, err := sw.Ctl(ctx, "add-port", "plofa", "plofa-internal-x", "--", "set", "Interface", "plofa-internal-x", "type=patch", "options:peer=none"); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if f := c.Features(); f.Tables == 0 || f.DatapathID == 0 {
		t.Errorf("features %+v", f)
	}
	ports, err := c.Ports(ctx)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]uint32{}
	for _, p := range ports {
		names[p.Name] = p.Number
	}
	if names["plofa"] != PortLocal || names["plofa-internal-x"[:PortNameLen]] == 0 {
		t.Errorf("ports %v", names)
	}
	if f, err := c.MeterFeatures(ctx); err != nil || f.Max == 0 {
		t.Errorf("meter features %+v, %v", f, err)
	}
	if err := errors.Join(c.Echo(ctx), c.SetConfig(ctx, 0), c.SetAsync(ctx, Async{PortStatus: true})); err != nil {
		t.Error(err)
	}
	if r, g, err := c.SetRole(ctx, RoleMaster, 9); err != nil || r != RoleMaster || g != 9 {
		t.Errorf("role %d, generation %d, %v", r, g, err)
	}
	if _, _, err := c.SetRole(ctx, RoleMaster, 8); !errors.Is(err, &Error{Type: ErrorTypeRoleFailed, Code: 0}) {
		t.Errorf("stale generation: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if _, err := c.Flows(ctx, FlowFilter{Table: TableAll}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	if _, err := sw.Ctl(ctx, "del-port", "plofa-internal-x"); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-c.Async():
		if s, err := DecodePortStatus(m); err != nil || s.Reason != PortDeleted {
			t.Errorf("%+v, %v", s, err)
		}
	case <-ctx.Done():
		t.Error("no port status")
	}
}

// Errors that Open vSwitch finds when a member is added do not fail its
// commit: without waiting for them, half the bundle would be in force.
func TestErrorAtAddDiscardsTheBundle(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofb")
	c, err := Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mine := Meter{ID: 11, Flags: MeterPktps | MeterBurst, Rate: 5, Burst: 5}
	foreign := Meter{ID: 12, Flags: MeterKbps, Rate: 5}
	if err := c.Commit(ctx, Tx{AddMeters: []Meter{foreign}}); err != nil {
		t.Fatal(err)
	}
	good := FlowMod{Flow: Flow{Table: 9, Match: Match{InPort(1)}}}
	backwards := FlowMod{Flow: Flow{Table: 9, Priority: 7, Instructions: Instructions{Goto: 3, HasGoto: true}}}
	err = c.Commit(ctx, Tx{AddMeters: []Meter{mine, foreign}, Flows: []FlowMod{good, backwards, good}})
	var refused *TxError
	if !errors.As(err, &refused) || len(refused.Members) != 2 {
		t.Fatalf("got %v", err)
	}
	if m := refused.Members[0]; m.Member != "meter" || m.Index != 1 || !strings.Contains(m.Error(), "METER_EXISTS") {
		t.Errorf("first member: %v", m)
	}
	if m := refused.Members[1]; m.Member != "flow" || m.Index != 1 || !strings.Contains(m.Error(), "goto_table:3") {
		t.Errorf("second member: %v", m)
	}
	flows, err := c.Flows(ctx, FlowFilter{Table: 9})
	if err != nil || len(flows) != 0 {
		t.Errorf("half applied: %v, %v", flows, err)
	}
	meters, err := c.Meters(ctx)
	if err != nil || len(meters) != 1 || meters[0].ID != foreign.ID {
		t.Errorf("meters %+v, %v: want the foreign one alone", meters, err)
	}
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{{Flow: Flow{Match: Match{TCPDst(80)}}}}}); !errors.As(err, new(*PrereqError)) {
		t.Errorf("got %v", err)
	}
	if err := c.Commit(ctx, Tx{}); err != nil {
		t.Errorf("empty transaction: %v", err)
	}
	if err := sw.KillSwitch(); err != nil {
		t.Fatal(err)
	}
	<-c.Done()
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{good}}); err == nil {
		t.Error("committed to a dead switch")
	}
}

// peer is the other end of a connection that behaves as a test says.
type peer struct {
	net.Conn
	r *bufio.Reader
}

func (p *peer) send(t Type, xid uint32, body []byte) {
	_, _ = p.Write(appendMessage(nil, t, xid, body))
}

func newPeer(nc net.Conn) *peer { return &peer{nc, bufio.NewReader(nc)} }

// shakeHands does what a switch does first, and reports whether we took part.
func (p *peer) shakeHands(datapathID byte) bool {
	if _, err := readMessage(p.r, 0); err != nil {
		return false
	}
	_, _ = p.Write(appendHello(nil, 1))
	m, err := readMessage(p.r, 0)
	if err != nil {
		return false
	}
	p.send(TypeFeaturesReply, m.XID, append(make([]byte, 7), append([]byte{datapathID}, make([]byte, 16)...)...))
	return true
}

// badSwitch listens on a socket, agrees on OpenFlow 1.4, and then misbehaves.
func badSwitch(t *testing.T, behave func(*peer)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		if p := newPeer(nc); p.shakeHands(0) {
			behave(p)
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return "unix:" + path
}

func TestMisbehavingSwitch(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for name, c := range map[string]struct {
		behave func(*peer)
		is     error
	}{
		"garbage":      {func(p *peer) { _, _ = p.Write([]byte("GET / HTTP/1.1\r\n\r\n")); _, _ = readMessage(p.r, 0) }, ErrMalformed},
		"length 3":     {func(p *peer) { _, _ = p.Write([]byte{5, 2, 0, 3, 0, 0, 0, 0}); _, _ = readMessage(p.r, 0) }, ErrMalformed},
		"half message": {func(p *peer) { _, _ = p.Write([]byte{5, 2, 0, 99, 0, 0, 0, 0, 1}) }, nil},
		"silence": {func(p *peer) {
			for {
				if _, err := readMessage(p.r, 0); err != nil {
					return
				}
			}
		}, ErrDead},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := Dialer{Keepalive: 100 * time.Millisecond}.Dial(ctx, badSwitch(t, c.behave))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			select {
			case <-conn.Done():
			case <-ctx.Done():
				t.Fatal("the connection stays")
			}
			if c.is != nil && !errors.Is(conn.Err(), c.is) {
				t.Fatalf("got %v", conn.Err())
			}
			if err := conn.Barrier(ctx); err == nil {
				t.Fatal("a call on an ended connection succeeds")
			}
		})
	}
}

// A reply that never ends is bounded by the caller's deadline (and by its
// size), messages that nobody reads by the queue, and the connection goes on.
func TestEndlessReplyAndFullQueue(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	part := []byte{0, byte(multipartFlow), 0, multipartMore, 0, 0, 0, 0}
	target := badSwitch(t, func(p *peer) {
		m, err := readMessage(p.r, 0)
		if err != nil {
			return
		}
		for range 20 {
			p.send(TypeMultipartReply, m.XID, part)
		}
		for {
			m, err := readMessage(p.r, 0)
			if err != nil {
				return
			}
			if m.Type == TypeBarrierRequest {
				for range 10 {
					p.send(TypePortStatus, 0, make([]byte, 8+portLen))
				}
				p.send(TypeEchoRequest, 77, []byte("x"))
				p.send(TypeBarrierReply, m.XID, nil)
			}
		}
	})
	c, err := Dialer{AsyncQueue: 3}.Dial(ctx, target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	if _, err := c.Flows(short, FlowFilter{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := c.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
	if n := c.AsyncDropped(); n != 7 {
		t.Fatalf("%d messages dropped, want 7 of 10", n)
	}
	if len(c.pending) != 0 {
		t.Fatalf("%d calls remembered", len(c.pending))
	}
}

func TestOldSwitchIsRefused(t *testing.T) {
	ctx, sw, target := realSwitch(t, "plofc")
	if _, err := sw.Ctl(ctx, "set", "bridge", "plofc", "protocols=OpenFlow10,OpenFlow13"); err != nil {
		t.Fatal(err)
	}
	_, err := Dial(ctx, target)
	var old *VersionError
	if !errors.As(err, &old) || !strings.Contains(err.Error(), "OpenFlow14") {
		t.Fatalf("got %v", err)
	}
}

func TestPassiveTCP(t *testing.T) {
	ctx, sw, _ := realSwitch(t, "plofd")
	if _, err := sw.Ctl(ctx, "set-controller", "plofd", "ptcp:16653:127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(ctx, "tcp:127.0.0.1:16653")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Barrier(ctx); err != nil {
		t.Fatal(err)
	}
}
