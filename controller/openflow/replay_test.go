package openflow

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// converse makes every kind of call once, one after the other, so that the
// transaction IDs are the same each time. It goes on after a failure.
func converse(ctx context.Context, c *Conn) error {
	meter := Meter{ID: 7, Flags: MeterPktps | MeterBurst, Rate: 100, Burst: 10}
	limited := FlowMod{Flow: Flow{Table: 3, Priority: 9, Cookie: 1, Match: Match{InPort(1)}, Instructions: Instructions{Meter: 7}}}
	flows := append(manyFlows(8), limited, FlowMod{Flow: Flow{Table: 4, Flags: FlagSendFlowRemoved,
		Match: Match{EthType(0x0800), IPSrc(netip.MustParsePrefix("10.0.0.0/8"))}, Instructions: Instructions{Actions: []Action{Resubmit{Table: 5}}}}})
	group := GroupMod{Command: GroupAdd, Group: Group{ID: 5, Type: GroupAll, Buckets: []Bucket{{WatchPort: PortAny, WatchGroup: groupAny, Actions: []Action{Output{Port: 1}}}}}}
	made := Tx{AddMeters: []Meter{meter}, Groups: []GroupMod{group}, Flows: flows}
	refused := FlowMod{Flow: Flow{Table: 9, Priority: 7, Instructions: Instructions{Goto: 3, HasGoto: true}}}
	note := func(what string, err error) error {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	errs := []error{
		note("async", c.SetAsync(ctx, Async{FlowRemoved: true, PortStatus: true, RoleStatus: true})),
		note("monitor", c.Monitor(ctx, FlowFilter{Table: TableAll})),
		note("transaction", c.Commit(ctx, made)),
	}
	if err := c.Commit(ctx, Tx{Flows: []FlowMod{limited, refused}}); !errors.As(err, new(*TxError)) {
		errs = append(errs, fmt.Errorf("a transaction that is refused: %w", err))
	}
	r, err := c.ReadBack(ctx, made)
	if err == nil && len(r.Differences) > 0 {
		err = fmt.Errorf("differs: %v", r.Differences)
	}
	errs = append(errs, note("read back", err))
	_, err = c.Flows(ctx, FlowFilter{Table: TableAll}, FlowFilter{Table: 3})
	errs = append(errs, note("flows", err))
	_, err = c.Aggregate(ctx, FlowFilter{Table: TableAll})
	errs = append(errs, note("aggregate", err))
	_, err = c.Ports(ctx)
	errs = append(errs, note("ports", err))
	_, err = c.Meters(ctx)
	errs = append(errs, note("meters", err))
	_, err = c.MeterCounters(ctx, 7)
	errs = append(errs, note("meter counters", err))
	_, err = c.MeterFeatures(ctx)
	errs = append(errs, note("meter features", err))
	_, err = c.Groups(ctx)
	errs = append(errs, note("groups", err))
	_, err = c.GroupCounters(ctx, 5)
	errs = append(errs, note("group counters", err))
	zone := uint16(9)
	errs = append(errs, note("packet", c.PacketOut(ctx, PacketOut{Actions: []Action{Output{Port: 1}}, Data: make([]byte, 60)})),
		note("conntrack", c.FlushConntrack(ctx, CTFlush{Zone: &zone})))
	errs = append(errs, note("lead", c.Lead(ctx, 5)), note("echo", c.Echo(ctx)),
		note("deletion", c.Commit(ctx, Tx{Flows: []FlowMod{{Command: Delete, Flow: Flow{Table: TableAll}}}, DeleteGroups: []uint32{5}, DeleteMeters: []uint32{7}})),
		note("barrier", c.Barrier(ctx)))
	return errors.Join(errs...)
}

// decodeAsync decodes what lies in Async.
func decodeAsync(c *Conn) {
	for {
		select {
		case m := <-c.Async():
			_, _ = DecodeFlowRemoved(m)
			_, _ = DecodePortStatus(m)
			_, _ = DecodeRoleStatus(m)
			_, _ = DecodePacketIn(m)
			_, _, _ = DecodeFlowUpdates(m)
			_, _ = decodeError(m)
		default:
			return
		}
	}
}

// recorder keeps what is read from a connection.
type recorder struct {
	net.Conn
	mu  sync.Mutex
	got []byte
}

func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, b[:n]...)
	return n, err
}

// record returns what a real switch says in a conversation.
func record(t *testing.T, bridge string) []byte {
	t.Helper()
	ctx, sw, _ := realSwitch(t, bridge)
	if _, err := sw.Ctl(ctx, "add-port", bridge, bridge+"p", "--", "set", "interface", bridge+"p", "type=patch", "options:peer=none"); err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("unix", sw.Mgmt(bridge))
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{Conn: nc}
	c, err := patient().handshake(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	err = converse(ctx, c)
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	return r.got[:toLastReply(r.got)]
}

// toLastReply finds the end of the last reply: what a switch says by itself behind it
// may come or not, and no call waits for it.
func toLastReply(recorded []byte) (last int) {
	for end := 0; end+headerLen <= len(recorded); {
		m, n, err := parseHeader(recorded[end:])
		if err != nil || end+n > len(recorded) {
			break
		}
		m.Body = recorded[end+headerLen : end+n]
		if end += n; !asynchronous(m) {
			last = end
		}
	}
	return last
}

// patient sends no probes of its own, which would take transaction IDs.
func patient() Dialer { return Dialer{Keepalive: time.Hour}.withDefaults() }

// replay is a switch that says what was recorded. It keeps pace: after each
// request it says everything up to the end of the reply to it. It hangs up
// when nothing is left.
func replay(nc net.Conn, recorded []byte, write func(io.Writer, []byte) error) {
	defer nc.Close()
	asked := make(chan uint32, 1024)
	go func() {
		defer close(asked)
		r := bufio.NewReader(nc)
		for {
			m, err := readMessage(r, 0)
			if err != nil {
				return
			}
			switch m.Type {
			case TypeHello, TypeFeaturesRequest, TypeMultipartRequest, TypeBarrierRequest, TypeRoleRequest, TypeBundleControl, TypeEchoRequest:
				asked <- m.XID
			}
		}
	}()
	first := true
	for xid := range asked {
		n := upTo(recorded, xid)
		if first { // hello answers nothing
			n, first = upTo(recorded, 0), false
		}
		if write(nc, recorded[:n]) != nil {
			return
		}
		if recorded = recorded[n:]; len(recorded) == 0 {
			return
		}
	}
}

// upTo finds the end of the message that ends the reply to a request, of the
// first message for 0; everything where there is none.
func upTo(recorded []byte, xid uint32) int {
	for end := 0; end+headerLen <= len(recorded); {
		m, n, err := parseHeader(recorded[end:])
		if err != nil || end+n > len(recorded) {
			break
		}
		body := recorded[end+headerLen : end+n]
		end += n
		more := m.Type == TypeMultipartReply && len(body) > 3 && body[3]&multipartMore != 0
		if xid == 0 || m.XID == xid && !more {
			return end
		}
	}
	return len(recorded)
}

func whole(w io.Writer, b []byte) error { _, err := w.Write(b); return err }

func byteByByte(w io.Writer, b []byte) error {
	for i := range b {
		if _, err := w.Write(b[i : i+1]); err != nil {
			return err
		}
	}
	return nil
}

// retell has a conversation with a replayed switch, for so long.
func retell(recorded []byte, write func(io.Writer, []byte) error, limit time.Duration) error {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); replay(theirs, recorded, write) }()
	defer func() { <-done }()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := patient().handshake(ctx, ours)
	if err != nil {
		return err
	}
	defer c.Close()
	// Then it is over: the undoing of a transaction has a time of its own.
	defer context.AfterFunc(ctx, func() { c.fail(ctx.Err()) })()
	err = converse(ctx, c)
	decodeAsync(c)
	return err
}

// settles fails a test that leaves goroutines behind.
func settles(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for limit := time.Now().Add(30 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				stacks := make([]byte, 1<<20)
				t.Fatalf("%d goroutines, before %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
}

// A real conversation goes well at once and byte by byte, and wherever it is
// cut, every call ends with an error and nothing stays behind.
func TestConversationCutAnywhere(t *testing.T) {
	recorded := record(t, "plofrec")
	settles(t)
	if err := errors.Join(retell(recorded, whole, time.Minute), retell(recorded, byteByByte, time.Minute)); err != nil {
		t.Fatal(err)
	}
	for n := range recorded {
		err := retell(recorded[:n], whole, time.Minute)
		if err == nil {
			t.Fatalf("cut after %d of %d bytes: no call failed", n, len(recorded))
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("cut after %d of %d bytes: a call waited for its deadline: %v", n, len(recorded), err)
		}
	}
	if os.Getenv("UPDATE") == "" {
		return
	}
	seed := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", recorded)
	dir := filepath.Join("testdata", "fuzz", "FuzzConversation")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "real"), []byte(seed), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// FuzzConversation lets a switch say anything, from the first byte on, while
// calls of every kind run. Nothing may crash, or outlast the deadline. The seed
// "real" is what Open vSwitch says; renew it where converse changes:
//
//	UPDATE=1 go test ./controller/openflow -run TestConversationCutAnywhere
func FuzzConversation(f *testing.F) {
	f.Add(appendHello(nil, 1))
	f.Add(binary.BigEndian.AppendUint64(nil, 0x0500000800000001))
	f.Fuzz(func(t *testing.T, said []byte) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			// An answer that does not answer is waited for to the end.
			_ = retell(said, whole, 50*time.Millisecond)
		}()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			t.Fatal("a call does not return")
		}
	})
}
